import { Prng } from '../src/bits/prng.ts'
import { type FieldValues, formatLine, type LogEvent } from '../src/reader/log-format.ts'
import { QEMU_TRACE, type QemuEventName } from '../src/reader/qemu-trace-format.ts'

export interface GenerateLogOptions {
  /** The same seed gives the same bytes. */
  readonly seed: number
  /** The log is at least this long, and longer by less than 64 KiB. */
  readonly sizeBytes: number
  /** One line in this many is of an event that is not declared; 0 for none. */
  readonly unknownEvery?: number
}

const EVENTS = Object.fromEntries(QEMU_TRACE.events.map((e: LogEvent) => [e.name, e])) as {
  readonly [E in (typeof QEMU_TRACE.events)[number] as E['name']]: E
}

const LIOBN = 0x8000_0000n
const DIRECT_LIOBN = 0x8000_0001n
const DIRECT_START = 1n << 59n
const BUID = 0x800_0000_2000_0000n
const RAM_BYTES = 0x4000_0000
const TCE_LIST = 0x21e_0000n
/** Mappings take a run of 16 entries each, so that none touches another. */
const RUN_ENTRIES = 16
const RUNS = RAM_BYTES / 4096 / RUN_ENTRIES
const LIVE_AIM = 256
const PIECE_BYTES = 256 * 1024

const UNKNOWN = [
  'spapr_cas_pvr current=0x4e1202, explicit_match=1, new=0xf000005',
  'virtio_notify vdev 0x55ac8b391e60 vq 0x7f3a1c0040a0',
]

interface Mapping {
  readonly entry: number
  readonly gfn: number
  readonly count: number
  readonly perm: number
}

/** Numbers 0 to `count` - 1 in a mixed order; what is given back comes again after all others. */
class Ring {
  readonly #numbers: Int32Array
  #at = 0

  constructor(count: number, prng: Prng) {
    this.#numbers = Int32Array.from({ length: count }, (_, i) => i)
    for (let i = count - 1; i > 0; i--) {
      const j = prng.below(i + 1)
      const other = this.#numbers[j] as number
      this.#numbers[j] = this.#numbers[i] as number
      this.#numbers[i] = other
    }
  }

  take(): number {
    const number = this.#numbers[this.#at] as number
    this.#at = (this.#at + 1) % this.#numbers.length
    return number
  }
}

/**
 * A guest's DMA as QEMU would log it, of any length: two windows, pages mapped and unmapped one by one and in
 * lists, translations between. Every translation is one that the entries before it allow, and in the end
 * nothing is mapped but the RAM in the direct window, so a replay of it finds nothing.
 */
class Guest {
  readonly #prng: Prng
  readonly #runs: Ring
  readonly #frames: Ring
  readonly #live: Mapping[] = []

  constructor(prng: Prng) {
    this.#prng = prng
    this.#runs = new Ring(RUNS, prng)
    this.#frames = new Ring(RUNS, prng)
  }

  /** The tables come to life: the default window is cleared, the direct one mapped onto all RAM. */
  *boot(): Generator<string> {
    yield line('spapr_iommu_new_table', { liobn: LIOBN, table: 0x5629bba3ec20n, fd: -1 })
    for (let end = 512 * 4096; end <= RAM_BYTES; end += 512 * 4096) yield this.#stuff(end, 512)
    const windows = { buid: BUID, configAddress: 0 }
    const query = { ...windows, windows: 1, windowBytesMax: 0x8000_0000n, pageSizes: 3 }
    yield line('spapr_iommu_ddw_query', query)
    yield line('spapr_iommu_new_table', { liobn: DIRECT_LIOBN, table: 0x7f6ec88efe00n, fd: -1 })
    const window = { pageBytes: 0x1_0000n, windowBytes: BigInt(RAM_BYTES), start: DIRECT_START }
    yield line('spapr_iommu_ddw_create', { ...windows, ...window, liobn: Number(DIRECT_LIOBN) })
    for (let at = 0n; at < RAM_BYTES; at += 512n << 16n) {
      const lastTce = at + (511n << 16n) + 3n
      yield indirect(DIRECT_LIOBN, DIRECT_START + at, 512, lastTce)
    }
  }

  /** Whatever comes next. */
  step(): string {
    const kind = this.#prng.below(100)
    if (kind < 2) return line('spapr_pci_msi_write', { address: 0n, data: 0x1301n, irq: 4865 })
    if (kind < 36) return this.#prng.below(2 * LIVE_AIM) >= this.#live.length ? this.#map() : this.#unmap()
    return this.#live.length === 0 || kind < 52 ? this.#direct() : this.#translate()
  }

  *end(): Generator<string> {
    while (this.#live.length > 0) yield this.#unmap()
  }

  #map(): string {
    const count = this.#prng.oneIn(6) ? 2 + this.#prng.below(RUN_ENTRIES - 1) : 1
    const entry = this.#runs.take() * RUN_ENTRIES
    const gfn = this.#frames.take() * RUN_ENTRIES
    const perm = 1 + this.#prng.below(3)
    this.#live.push({ entry, gfn, count, perm })
    const ioba = BigInt(entry * 4096)
    const tce = BigInt((gfn + count - 1) * 4096 + perm)
    if (count > 1) return indirect(LIOBN, ioba, count, tce)
    return line('spapr_iommu_pci_put', { liobn: LIOBN, ioba, tce, ret: 0n })
  }

  #unmap(): string {
    const at = this.#prng.below(this.#live.length)
    const { entry, count } = this.#live[at] as Mapping
    const last = this.#live.pop() as Mapping
    if (at < this.#live.length) this.#live[at] = last
    return this.#stuff((entry + count) * 4096, count)
  }

  #stuff(end: number, count: number): string {
    const values = { liobn: LIOBN, iobaEnd: BigInt(end), tce: 0n, npages: BigInt(count), ret: 0n }
    return line('spapr_iommu_pci_stuff', values)
  }

  #translate(): string {
    const { entry, gfn, count, perm } = this.#prng.pick(this.#live)
    const page = this.#prng.below(count)
    return line('spapr_iommu_xlate', {
      liobn: LIOBN,
      windowOffset: BigInt((entry + page) * 4096 + this.#prng.below(1024) * 4),
      translated: BigInt((gfn + page) * 4096),
      perm,
      mask: 0xfff,
    })
  }

  #direct(): string {
    const address = this.#prng.below(RAM_BYTES / 4) * 4
    const translated = BigInt(address - (address % 0x1_0000))
    const windowOffset = BigInt(address)
    return line('spapr_iommu_xlate', { liobn: DIRECT_LIOBN, windowOffset, translated, perm: 3, mask: 0xffff })
  }
}

function line<N extends QemuEventName>(name: N, values: FieldValues<(typeof EVENTS)[N]>): string {
  return `${formatLine(EVENTS[name], values)}\n`
}

function indirect(liobn: bigint, ioba: bigint, count: number, lastTce: bigint): string {
  const values = { liobn, ioba, tceList: TCE_LIST, lastIndex: BigInt(count - 1), lastTce, ret: 0n }
  return line('spapr_iommu_pci_indirect', values)
}

function* lines({ seed, sizeBytes, unknownEvery = 0 }: GenerateLogOptions): Generator<string> {
  const prng = new Prng(seed)
  const guest = new Guest(prng)
  let bytes = 0
  for (const booting of guest.boot()) {
    bytes += booting.length
    yield booting
  }
  while (bytes < sizeBytes) {
    const next = unknownEvery > 0 && prng.oneIn(unknownEvery) ? `${prng.pick(UNKNOWN)}\n` : guest.step()
    bytes += next.length
    yield next
  }
  yield* guest.end()
}

/**
 * The log in pieces of about 256 KiB.
 *
 * @example for (const piece of generateLog({ seed: 1, sizeBytes: 200e6 })) writeSync(file, piece)
 */
export function* generateLog(options: GenerateLogOptions): Generator<Uint8Array> {
  let text = ''
  for (const next of lines(options)) {
    text += next
    if (text.length < PIECE_BYTES) continue
    yield Buffer.from(text, 'latin1')
    text = ''
  }
  yield Buffer.from(text, 'latin1')
}
