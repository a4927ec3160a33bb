import type { Profile } from '../../bits/errata.ts'
import { Held } from '../../bits/held.ts'
import type { ProcessTable } from '../../memory/process.ts'
import type { HwTable } from '../../table/hw-table.ts'
import type { FileTable, FileTarget, IoctlRefusal } from '../files.ts'
import type { MmIommu } from '../mm-port.ts'
import type { HcallExit } from '../ports.ts'
import type { VhostRemedy } from '../vhost-remedy.ts'
import { GuestTceTable } from './guest-tce-table.ts'
import { type BackingErrata, backingErrata, backs, type GuestWindow } from './guest-window.ts'
import { KvmVfioDevice } from './kvm-vfio-device.ts'
import { KvmVm } from './kvm-vm.ts'
import { VhostLinks } from './vhost-links.ts'

export const KVM_PATH = '/dev/kvm'

export interface KvmOptions {
  readonly processes: ProcessTable
  readonly files: FileTable
  readonly memory: MmIommu
  readonly profile: Profile
  /** Whether the host is a POWER9 or later: its guests start with a radix MMU, and can have another. */
  readonly hasV3Mmu: boolean
  /** Asked before each allocation of the kernel's own: false makes that allocation fail. */
  readonly onAllocate?: () => boolean
  /** The kernel stops at an assertion of its own. */
  readonly onBug?: (why: string) => void
  /** How it keeps vhost in step; `none` with erratum B8, else `kill-hook` unless said otherwise. */
  readonly vhostRemedy?: VhostRemedy | undefined
}

/** /dev/kvm: an open file of it has nothing behind it. */
class KvmFile implements FileTarget {
  readonly kind = 'kvm'
  released(): void {}
  /** (v6.1 arch/powerpc/kvm/powerpc.c, kvm_arch_dev_ioctl) */
  refusal(): IoctlRefusal {
    return 'invalid'
  }
}

/**
 * KVM of a POWER host, as far as DMA goes: VMs with memory, TCE tables of guests and the hardware tables behind them.
 * `kvmHandlers` has its calls. Rules are those since Linux 6.0, unless an erratum or a change says otherwise.
 */
export class Kvm {
  readonly processes: ProcessTable
  readonly files: FileTable
  readonly memory: MmIommu
  readonly profile: Profile
  readonly backing: BackingErrata
  readonly hasV3Mmu: boolean
  /** Whether it can put hardware tables behind those of a guest. */
  readonly hasTceVfio: boolean
  readonly onAllocate: () => boolean
  readonly onBug: (why: string) => void
  readonly vhosts: VhostLinks
  /** Who answers hypercalls of a process's guest in user space; null where nobody is there. Without a VM: where it runs a guest without KVM, has not begun, or has ended. */
  exitOf: (process: string | undefined, vm: KvmVm | undefined) => HcallExit | null = () => null
  readonly #leaksReference: boolean
  readonly #deviceLivesWithVm: boolean
  readonly #counts: Held<{ readonly vms: number; readonly tables: number }>

  constructor(options: KvmOptions) {
    const { processes, files, profile } = options
    this.processes = processes
    this.files = files
    this.memory = options.memory
    this.profile = profile
    this.backing = backingErrata(profile)
    this.hasV3Mmu = options.hasV3Mmu
    this.hasTceVfio = !profile.has('no-tce-vfio')
    this.onAllocate = options.onAllocate ?? (() => true)
    this.onBug = options.onBug ?? (() => undefined)
    const byErrata = profile.has('B8') ? 'none' : 'kill-hook'
    this.vhosts = new VhostLinks(processes.host.journal, options.vhostRemedy ?? byErrata)
    this.#leaksReference = profile.has('X7')
    this.#deviceLivesWithVm = profile.has('vfio-device-lives-with-vm')
    this.#counts = new Held(
      processes.host.journal,
      'kvm',
      { vms: 0, tables: 0 },
      (c) => c.vms * 65_536 + c.tables,
    )
    files.serve(KVM_PATH, () => new KvmFile())
  }

  createVm(mm: KvmVm['mm']): KvmVm {
    const { vms, tables } = this.#counts.value
    this.#counts.set({ vms: vms + 1, tables })
    return new KvmVm(this.processes.host, vms + 1, mm, this.hasV3Mmu)
  }

  createDevice(vm: KvmVm): KvmVfioDevice {
    const device = new KvmVfioDevice(this.processes.host, vm, this.#deviceLivesWithVm)
    vm.setDevice(device)
    return device
  }

  /** A table of a VM, which is charged already; it holds the VM. */
  createTable(vm: KvmVm, liobn: bigint, window: GuestWindow): GuestTceTable {
    const { vms, tables } = this.#counts.value
    this.#counts.set({ vms, tables: tables + 1 })
    const table = new GuestTceTable({
      host: this.processes.host,
      number: tables + 1,
      liobn,
      window,
      onAllocate: this.onAllocate,
      onRelease: (gone) => {
        vm.setTables(vm.tables.filter((t) => t !== gone))
        for (const { table: hw } of gone.attachments) hw.put('kvm')
        gone.setAttachments([])
        vm.mm.locked.sub(gone.charged)
        vm.drop()
      },
    })
    vm.setTables([table, ...vm.tables])
    vm.hold()
    return table
  }

  /** Puts the first of a group's tables that backs a guest's table behind it. */
  attach(
    guest: GuestTceTable,
    tables: readonly (HwTable | null)[],
  ): 'no-table-backs' | 'attached-before' | 'no-memory' | 'done' {
    const hw = tables.find((t) => t !== null && backs(t, guest.window, this.backing))
    if (hw === undefined || hw === null) return 'no-table-backs'
    hw.get('kvm')
    const before = guest.attachments.find(({ table }) => table === hw)
    if (before !== undefined) {
      const more = { table: hw, count: before.count + 1 }
      guest.setAttachments(guest.attachments.map((a) => (a === before ? more : a)))
      if (!this.#leaksReference) hw.put('kvm')
      return 'attached-before'
    }
    if (!this.onAllocate()) {
      hw.put('kvm')
      return 'no-memory'
    }
    guest.setAttachments([{ table: hw, count: 1 }, ...guest.attachments])
    return 'done'
  }
}
