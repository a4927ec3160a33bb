import type { Profile } from '../../bits/errata.ts'
import type { Journal } from '../../bits/state.ts'
import type { Stage } from '../../trace/stage.ts'
import type { GuestRam, HcallPort, RtasPort, WindowNumbers } from '../ports.ts'
import type { TceArea } from './bare-backend.ts'
import type { NodeData } from './device-tree.ts'
import type { MultiTce } from './lpar-backend.ts'

/** A device below a PHB, as the guest finds it. */
export interface GuestDevice {
  readonly name: string
  /** PCI bus number, 0 unless said otherwise. */
  readonly bus?: number
  /** Device number << 3 | function. */
  readonly devfn: number
  /** Its node, where firmware gives it properties of its own. */
  readonly node?: NodeData
}

/** A PHB as the guest finds it in the device tree. */
export interface GuestPhb {
  readonly name: string
  readonly buid: bigint
  readonly node: NodeData
  /**
   * 32-bit MMIO as the CPU sees it, from the first to the last byte. The kernel leaves it out of dynamic windows
   * as if these were bus addresses (Linux v6.1 arch/powerpc/platforms/pseries/iommu.c, enable_ddw).
   */
  readonly mmio32?: { readonly start: bigint; readonly last: bigint }
  readonly devices: readonly GuestDevice[]
  /** Where its TCEs lie, on a machine without a hypervisor. */
  readonly bare?: TceArea & { readonly hasIsa?: boolean }
}

/** What a guest kernel is made with. */
export interface GuestKernelOptions {
  readonly hcall: HcallPort
  readonly rtas: RtasPort
  readonly ram: GuestRam
  readonly windows: WindowNumbers
  readonly stage: Stage
  readonly journal: Journal
  readonly profile: Profile
  /** PAGE_SHIFT. */
  readonly pageShift: 12 | 16
  readonly cpus: number
  /** The guest's own memory, in whole pages. */
  readonly memory: readonly { readonly gpa: bigint; readonly bytes: bigint }[]
  /** End of all memory that can ever be plugged in. */
  readonly maxRamBytes: bigint
  readonly hasPmemory?: boolean
  /** Strings of ibm,hypertas-functions. */
  readonly hypertas: readonly string[]
  /** Which of the two multi-TCE calls it uses, where the strings do not say it. */
  readonly multiTce?: MultiTce
  /** `disable_ddw`, `multitce=off`. */
  readonly bootOptions: readonly string[]
  readonly phbs: readonly GuestPhb[]
  /** It starts after another kernel has crashed, and takes over what that one left in the tables. */
  readonly isKdump?: boolean
  /** Memory at the start that the kernel itself takes; 32 MiB unless said otherwise. */
  readonly kernelBytes?: bigint
}
