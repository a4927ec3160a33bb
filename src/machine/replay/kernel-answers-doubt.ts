import type { AgentCommandName } from '../../reader/kernel-answers-format.ts'

/** What a command of the agent can depend on or change, as far as its answers show. */
export const TOPICS = {
  files: 'the files of the agent',
  held: 'which groups KVM holds',
  windows: 'the windows of the containers',
  regions: 'the registered memory',
  entries: 'the entries of the tables',
  attached: 'which tables KVM writes',
  locked: 'locked_vm',
  limits: 'what the agent may lock',
  ranges: 'the address space of the agent',
  memory: 'the contents of memory',
  device: 'the state of the device',
  buffer: 'the buffer of the device',
  vhost: 'the devices of vhost',
} as const
export type Topic = keyof typeof TOPICS
const ALL = Object.keys(TOPICS) as Topic[]

/** Topics of the host: a process that ends does not settle them. */
const OF_HOST: readonly Topic[] = ['device', 'buffer']

/** What the answer of a command rests on, and what the command can change. */
export interface Bearing {
  readonly on: readonly Topic[]
  readonly changes: readonly Topic[]
  /** Where no more than `only` is in doubt, it leaves no more than `changes` in doubt. */
  readonly narrow?: { readonly only: readonly Topic[]; readonly changes: readonly Topic[] }
}

const RELEASES: readonly Topic[] = ['files', 'windows', 'regions', 'entries', 'locked']
const MAPPING: readonly Topic[] = ['windows', 'entries', 'regions', 'locked']

/** Queues run behind most calls of vhost: they read memory and write it. */
const ON_VHOST: Bearing = { on: ['files', 'vhost', 'ranges', 'memory'], changes: ['vhost', 'memory'] }
const ASKS_VHOST: Bearing = { on: ['files', 'vhost'], changes: [] }

/** The bearing of every command. What the model does not have says what it may have changed. */
export const BEARINGS: Readonly<Record<AgentCommandName, Bearing>> = {
  open: { on: ['files'], changes: ['files'] },
  use: { on: [], changes: ['files'] },
  close: { on: ['files'], changes: RELEASES },
  ext: { on: ['files'], changes: [] },
  version: { on: ['files'], changes: [] },
  group: { on: ['files', 'held'], changes: ['files'] },
  groupstatus: { on: ['files'], changes: [] },
  attach: { on: ['files', 'windows'], changes: ['files', 'windows', 'locked'] },
  detach: { on: ['files'], changes: RELEASES },
  groupclose: { on: ['files', 'held'], changes: RELEASES },
  iommu: { on: ['files', 'windows', 'limits'], changes: ['files', 'windows', 'locked'] },
  enable: { on: ['files', 'windows', 'limits'], changes: ['windows', 'locked'] },
  disable: { on: ['files', 'windows'], changes: ['windows', 'locked'] },
  info: { on: ['files'], changes: [] },
  register: { on: ['files', 'regions', 'ranges', 'limits'], changes: ['regions', 'locked'] },
  unregister: { on: ['files', 'regions'], changes: ['regions', 'locked'] },
  create: { on: ['files', 'windows', 'limits'], changes: ['windows', 'entries', 'locked'] },
  remove: { on: ['files', 'windows'], changes: MAPPING },
  map: {
    on: ['files', 'windows', 'regions', 'ranges', 'limits'],
    changes: MAPPING,
    // The default window is made before anybody looks at memory.
    narrow: { only: ['regions', 'ranges'], changes: ['entries', 'regions'] },
  },
  unmap: { on: ['files', 'windows', 'limits'], changes: MAPPING },
  // What a device holds matters to devices only.
  ioctl: { on: ALL.filter((topic) => topic !== 'buffer'), changes: ALL },
  rawioctl: { on: ALL.filter((topic) => topic !== 'buffer'), changes: ALL },
  eeh: { on: ['files', 'device'], changes: ['device'] },
  device: { on: ['files'], changes: ['files', 'device'] },
  devclose: { on: ['files'], changes: ['files', 'device'] },
  dma: { on: ['files', 'windows', 'entries', 'device'], changes: ['device', 'buffer', 'memory'] },
  anon: { on: ['ranges'], changes: ['ranges', 'memory'] },
  unmapmem: { on: ['ranges'], changes: ['ranges', 'memory'] },
  vmlck: { on: ['locked'], changes: [] },
  rlimit: { on: [], changes: ['limits'] },
  dropcap: { on: [], changes: ['limits'] },
  poke: { on: ['ranges'], changes: ['memory'] },
  peek: { on: ['ranges', 'memory'], changes: [] },
  gpoke64: { on: ['ranges'], changes: ['memory'] },
  sh: { on: [], changes: ['files', 'device'] },
  quit: { on: [], changes: [] },
  kvm: { on: ['files'], changes: ['files'] },
  kvmcap: { on: ['files'], changes: [] },
  vmcap: { on: ['files'], changes: [] },
  vm: { on: ['files'], changes: ['files'] },
  radix: { on: ['files'], changes: [] },
  hcall_enable: { on: ['files'], changes: [] },
  ram: { on: ['files', 'ranges'], changes: ['ranges', 'memory'] },
  slot: { on: ['files', 'ranges'], changes: ['ranges'] },
  vcpu: { on: ['files'], changes: ['files'] },
  vmclose: { on: ['files'], changes: ['files', 'held', 'attached', 'locked'] },
  vcpuclose: { on: ['files'], changes: ['files', 'held', 'attached', 'locked'] },
  tce64: { on: ['files', 'limits'], changes: ['files', 'locked'] },
  tce32: { on: ['files', 'limits'], changes: ['files', 'locked'] },
  tceclose: { on: ['files'], changes: ['files', 'attached', 'locked'] },
  tceunmap: { on: ['files'], changes: ['files', 'attached', 'locked'] },
  tcepoke: { on: ['files'], changes: ['entries'] },
  tcedump: { on: ['files', 'entries'], changes: [] },
  vfiodev: { on: ['files'], changes: ['files'] },
  vfioclose: { on: ['files'], changes: ['files', 'held', 'attached'] },
  vfioadd: { on: ['files', 'held'], changes: ['held'] },
  vfiodel: { on: ['files', 'held'], changes: ['held', 'attached'] },
  vfiotce: { on: ['files', 'held', 'windows'], changes: ['attached'] },
  hcall: { on: ['files', 'attached', 'regions', 'entries', 'memory'], changes: ['entries', 'regions'] },
  vhopen: { on: ['files'], changes: ['files', 'vhost'] },
  eventfd: { on: ['files'], changes: ['files', 'vhost'] },
  tap: { on: ['files'], changes: ['files', 'vhost'] },
  deliver: ON_VHOST,
  collect: ON_VHOST,
  fileclose: { on: ['files'], changes: ['files', 'vhost'] },
  evsignal: ON_VHOST,
  evcount: ON_VHOST,
  vhfeatures: ASKS_VHOST,
  vhsetfeatures: ON_VHOST,
  vhbackendfeatures: ASKS_VHOST,
  vhsetbackendfeatures: ON_VHOST,
  vhowner: ON_VHOST,
  vhreset: ON_VHOST,
  vhmem: ON_VHOST,
  vhnum: ON_VHOST,
  vhaddr: ON_VHOST,
  vhbase: ON_VHOST,
  vhgetbase: ASKS_VHOST,
  vhkick: ON_VHOST,
  vhcall: ON_VHOST,
  vherr: ON_VHOST,
  vhbackend: ON_VHOST,
  vhioctl: ON_VHOST,
  vhmsg: ON_VHOST,
  vhwrite: ON_VHOST,
  vhfill: ON_VHOST,
  vhread: ON_VHOST,
  vhpoll: ASKS_VHOST,
  bytes: { on: ['ranges'], changes: ['memory'] },
  forked: ON_VHOST,
}

/** Why something is not known, and since which line. */
export interface Cause {
  readonly what: string
  readonly line: number
}

/** Lines between which something is not known. */
export interface DoubtfulLines {
  readonly from: number
  to: number
}

/**
 * What the model does not know, because something happened that it does not have.
 *
 * Doubt spreads: a command whose answer rests on something in doubt leaves all that it changes in doubt, even where
 * its answer is the expected one. It ends with the process, except for what belongs to the host.
 */
export class Doubts {
  /** Stretches of lines in which records of the model may differ from what happened. */
  readonly lines: DoubtfulLines[] = []
  readonly #since = new Map<Topic, Cause>()
  readonly #forEver = new Map<Topic, Cause>()
  #open: DoubtfulLines | undefined

  add(topics: readonly Topic[], cause: Cause): void {
    for (const topic of topics) if (!this.#since.has(topic)) this.#since.set(topic, cause)
    if (this.#open !== undefined || topics.every((t) => t === 'memory' || t === 'buffer' || t === 'limits'))
      return
    this.#open = { from: cause.line, to: Number.POSITIVE_INFINITY }
    this.lines.push(this.#open)
  }

  addAll(cause: Cause): void {
    this.add(ALL, cause)
  }

  /** Something that no process's end settles. */
  addForEver(topics: readonly Topic[], cause: Cause): void {
    for (const topic of topics) if (!this.#forEver.has(topic)) this.#forEver.set(topic, cause)
    this.add(topics, cause)
  }

  has(topic: Topic): boolean {
    return this.#since.has(topic)
  }

  /** The first of some topics that is in doubt, with its cause; undefined where all are known. */
  reason(topics: readonly Topic[]): { readonly text: string; readonly cause: Cause } | undefined {
    for (const topic of topics) {
      const cause = this.#since.get(topic)
      if (cause !== undefined) return { text: `${TOPICS[topic]}, not known since ${cause.what}`, cause }
    }
    return undefined
  }

  /** A command rests on something in doubt: what it changes is in doubt too. */
  spread({ on, changes, narrow }: Bearing, cause: Cause): void {
    const isNarrow = on.every((t) => !this.#since.has(t) || narrow?.only.includes(t))
    this.add(isNarrow ? (narrow?.changes ?? changes) : changes, cause)
  }

  /** The process has ended in a line. */
  processEnds(line: number): void {
    if (this.#open !== undefined) this.#open.to = line
    this.#open = undefined
    for (const topic of this.#since.keys()) if (!OF_HOST.includes(topic)) this.#since.delete(topic)
    for (const [topic, cause] of this.#forEver) this.add([topic], { ...cause, line })
  }

  /** Whether a line lies where records may differ from what happened. */
  covers(line: number): boolean {
    return this.lines.some(({ from, to }) => line >= from && line <= to)
  }
}
