import type { Profile } from '../../bits/errata.ts'
import { Held } from '../../bits/held.ts'
import type { Process, ProcessTable } from '../../memory/process.ts'
import type { EehPort } from '../eeh-port.ts'
import { FileTable } from '../files.ts'
import type { MmIommu } from '../mm-port.ts'
import { VfioContainer } from './container.ts'
import { VfioGroup, type VfioGroupOptions } from './group.ts'
import { spaprErrata } from './spapr-errata.ts'
import type { SpaprParts } from './spapr-mapping.ts'

export interface VfioOptions {
  readonly processes: ProcessTable
  readonly memory: MmIommu
  readonly profile: Profile
  readonly groups: readonly VfioGroupOptions[]
  /** Error handling of PCI; null where no group has a PE that the kernel looks after. */
  readonly eeh: EehPort | null
  /** Asked before each allocation of VFIO's own: false makes that allocation fail. */
  readonly onAllocate?: () => boolean
}

/**
 * VFIO of a POWER host: its groups, the containers that processes open, and the files by which they hold each other.
 * `vfioHandlers` has the calls.
 *
 * Host structures are those of ppc64le. Rules are those since Linux 6.1; groups are there although kernels from 6.0
 * to 6.3 refuse PowerNV devices (they have no answer from a real host). What calls allocate is that of Linux 6.12:
 * a release that comes without one of these allocations cannot fail there.
 */
export class Vfio {
  readonly files: FileTable
  readonly processes: ProcessTable
  readonly memory: MmIommu
  readonly eeh: EehPort | null
  /** Before Linux 6.2 a file that is no container is refused with EINVAL. */
  readonly refusesWithEinval: boolean
  /** Whether there is memory for what a call is about to allocate. */
  readonly allocates: () => boolean
  readonly #groups: ReadonlyMap<number, VfioGroup>
  readonly #parts: SpaprParts
  readonly #containers: Held<number>

  constructor(options: VfioOptions) {
    const { processes, memory, profile } = options
    const { host } = processes
    const errata = spaprErrata(profile)
    this.processes = processes
    this.memory = memory
    this.eeh = options.eeh
    this.refusesWithEinval = profile.has('set-container-einval')
    this.allocates = options.onAllocate ?? (() => true)
    this.files = new FileTable(host.journal)
    this.#containers = new Held(host.journal, 'containers', 0, (n) => n)
    const hasEeh = options.eeh?.isEnabled ?? false
    this.#parts = { host, memory, errata, allocates: this.allocates, hasEeh }
    this.#groups = new Map(
      options.groups.map((group) => [
        group.table.group,
        new VfioGroup(group, host.journal, {
          driverTakesHardware: errata.usesKernelTables,
          eeh: options.eeh,
        }),
      ]),
    )
    processes.watch({
      forked: (parent: Process, child: Process) => this.files.inherit(parent.name, child.name),
      exited: (process: Process) => this.files.closeAll(process.name),
    })
  }

  group(number: number): VfioGroup | undefined {
    return this.#groups.get(number)
  }

  /** A container without groups, as opening /dev/vfio/vfio makes one. */
  createContainer(): VfioContainer {
    this.#containers.set(this.#containers.value + 1)
    return new VfioContainer(this.#parts, this.#containers.value)
  }
}
