import type { Profile } from '../../bits/errata.ts'
import { Held } from '../../bits/held.ts'
import type { ProcessTable } from '../../memory/process.ts'
import { KIND } from '../../trace/event.ts'
import type { FileTable } from '../files.ts'
import { type VhostErrata, vhostErrata } from './errata.ts'
import { EventFd } from './event-fd.ts'
import { TapFile } from './tap-file.ts'
import { VhostNet } from './vhost-net.ts'

export const VHOST_NET_PATH = '/dev/vhost-net'
/** The character device of a macvtap interface: each open file of it is a queue of its own. */
export const TAP_PATH = '/dev/tap1'
/** Module parameter max_iotlb_entries, where nobody sets it. */
const IOTLB_ENTRIES = 2048

const SPINS = 'the worker of a vhost device looks for the end of a map that has none'

export interface VhostOptions {
  readonly processes: ProcessTable
  readonly files: FileTable
  readonly profile: Profile
  /** Module parameter max_iotlb_entries. */
  readonly iotlbEntries?: number
  /** Asked before each allocation of the kernel's own: false makes that allocation fail. */
  readonly onAllocate?: () => boolean
  /** The kernel stops: what is held for ever is not given back. */
  readonly onBug?: (why: string) => void
}

interface Counts {
  readonly devices: number
  readonly iotlbs: number
  readonly containers: number
  readonly eventfds: number
  readonly taps: number
}

const NO_COUNTS: Counts = { devices: 0, iotlbs: 0, containers: 0, eventfds: 0, taps: 0 }

/**
 * Linux's vhost: the devices that processes open, and the files around them. `vhostHandlers` has the calls. Rules are
 * those of Linux 6.1 unless an erratum or a change says otherwise; the hosts are little-endian.
 *
 * @example
 * const vhost = new Vhost({ processes, files: vfio.files, profile })
 * machine.register(vhostHandlers(vhost))
 * // a process opens /dev/vhost-net: vhost.devices[0]
 */
export class Vhost {
  readonly processes: ProcessTable
  readonly files: FileTable
  readonly iotlbEntries: number
  readonly errata: VhostErrata
  readonly onAllocate: () => boolean
  readonly #onBug: (why: string) => void
  readonly #devices: Held<readonly VhostNet[]>
  readonly #counts: Held<Counts>

  constructor(options: VhostOptions) {
    const { processes, files, profile } = options
    const { journal } = processes.host
    this.processes = processes
    this.files = files
    this.iotlbEntries = options.iotlbEntries ?? IOTLB_ENTRIES
    this.errata = vhostErrata(profile)
    this.onAllocate = options.onAllocate ?? (() => true)
    this.#onBug = options.onBug ?? (() => undefined)
    this.#devices = new Held<readonly VhostNet[]>(journal, 'vhost devices', [], (list) => list.length)
    this.#counts = new Held(journal, 'vhost', NO_COUNTS, (c) =>
      Object.values(c).reduce<number>((n, x: number) => n * 31 + x, 0),
    )
    files.serve(VHOST_NET_PATH, () => this.#open())
    files.serve(TAP_PATH, () => new TapFile(journal, this.#next('taps')))
  }

  /** Devices whose files are open, in the order in which they were opened. */
  get devices(): readonly VhostNet[] {
    return this.#devices.value
  }

  /** The number of the next IOTLB of the run, for a device that is not in the kernel. */
  readonly nextIotlb = (): number => this.#next('iotlbs')

  /** The number of the next container of maps, likewise. */
  readonly nextContainer = (): number => this.#next('containers')

  createEventFd(count: bigint): EventFd {
    return new EventFd(this.processes.host.journal, this.#next('eventfds'), count)
  }

  #open(): VhostNet {
    const { stage, journal } = this.processes.host
    const device = new VhostNet({
      stage,
      journal,
      name: `vhost-net${this.#next('devices') - 1}`,
      errata: this.errata,
      limit: this.iotlbEntries,
      nextIotlb: this.nextIotlb,
      nextContainer: this.nextContainer,
      onUnknown: (why) => {
        const { log, cause, line } = stage
        log.append(KIND.unmodelled, cause, log.names.intern(why), line)
      },
      onSpin: () => this.#onBug(SPINS),
      onRelease: (gone) => this.#devices.set(this.devices.filter((d) => d !== gone)),
    })
    this.#devices.set([...this.devices, device])
    return device
  }

  #next(what: keyof Counts): number {
    const counts = this.#counts.value
    this.#counts.set({ ...counts, [what]: counts[what] + 1 })
    return counts[what] + 1
  }
}
