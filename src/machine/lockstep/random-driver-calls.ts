import type { Prng } from '../../bits/prng.ts'
import type { BelievedContainer, BelievedWindow, Draft, Stretch } from './random-draft.ts'
import { DEFAULT_WINDOW } from './random-guest.ts'

const PAGE = 0x1_0000n
const SMALL_PAGE = 0x1000n
/** Memory of a script: with a pattern, with another one, untouched, and small. */
export const AREAS = [
  { from: 0x1_0000_0000n, bytes: 0x40_0000n, fill: 0x41n },
  { from: 0x1_1000_0000n, bytes: 0x10_0000n, fill: 0x62n },
  { from: 0x2_0000_0000n, bytes: 0x100_0000n, fill: undefined },
  { from: 0x3_0000_0000n, bytes: 0x4_0000n, fill: 0x13n },
] as const
/** Areas that devices use: scripts with a device always have them. */
export const DEVICE_AREAS = 2
export const DMA_BYTES = 16
/** Nothing lies there. */
const NOWHERE = 0x6_0000_0000n
const SECOND_START = 1n << 59n
/** log2 of the pages that windows have. */
const PAGE_SHIFTS = [12, 16, 21, 30]
const LEVELS_MAX = 5
/** Entries of a page of 64 KiB: no table has fewer. */
const ENTRIES_MIN = 8192n

/** Numbers that are wrong in a way of their own. */
const WILD = [0n, 1n, 0xfffn, 0xffff_ffff_ffff_0000n, 1n << 63n, 0x7fff_ffff_ffff_0000n] as const

const flagged = (flags: number): { readonly flags?: number } => (flags > 0 ? { flags } : {})

/** Writes calls that a container's driver answers, and what a device does with the result. */
export class DriverCalls {
  readonly #draft: Draft
  readonly #prng: Prng

  constructor(draft: Draft) {
    this.#draft = draft
    this.#prng = draft.prng
  }

  /** Any of them. */
  any(): void {
    const { container } = this.#draft
    const isV1 = container?.type === 2
    const isFull = (container?.windows.length ?? 0) > 1
    const argsz = (): { readonly argsz?: number } =>
      this.#prng.oneIn(2) ? {} : { argsz: this.#prng.pick([0, 15, 16, 24, 31, 32, 40]) }
    this.#draft.choose([
      [isV1 ? 2 : 12, () => this.register()],
      [isV1 ? 1 : 5, () => this.#unregister()],
      [24, () => this.#map()],
      [12, () => this.#unmap()],
      [isV1 ? 1 : isFull ? 3 : 8, () => this.#create()],
      [isV1 ? 1 : isFull ? 5 : 3, () => this.#remove()],
      [2, () => this.#draft.add('info', argsz())],
      [isV1 ? 8 : 1, () => this.#draft.add('enable', {})],
      [1, () => this.#draft.add('disable', {})],
    ])
  }

  /** A stretch of the process's memory, mostly whole pages of it. */
  #stretch(): Stretch {
    const area = this.#prng.pick(AREAS)
    const pages = Number(area.bytes / PAGE)
    const first = this.#prng.oneIn(2) ? this.#prng.below(4) : this.#prng.below(pages)
    const count = this.#prng.oneIn(3) ? pages - first : 1 + this.#prng.below(4)
    let from = area.from + BigInt(first) * PAGE
    let bytes = BigInt(count) * PAGE
    if (this.#prng.oneIn(16)) from += this.#prng.pick([0x800n, SMALL_PAGE, 0x8000n])
    if (this.#prng.oneIn(16)) bytes += this.#prng.pick([0x800n, SMALL_PAGE, -SMALL_PAGE, -bytes])
    if (this.#prng.oneIn(40)) from = this.#prng.pick([...WILD, NOWHERE])
    if (this.#prng.oneIn(60)) bytes = this.#prng.pick(WILD)
    return { from, bytes }
  }

  register(given?: Stretch): void {
    const { container } = this.#draft
    const known = container?.regions ?? []
    const again = known.length > 0 && this.#prng.oneIn(6) ? this.#prng.pick(known) : undefined
    const stretch = given ?? again ?? this.#stretch()
    const flags = given === undefined && this.#prng.oneIn(25) ? 1 + this.#prng.below(4) : 0
    this.#draft.add('register', { vaddr: stretch.from, bytes: stretch.bytes, ...flagged(flags) })
    const isLegal = flags === 0 && stretch.bytes > 0n && (stretch.from | stretch.bytes) % PAGE === 0n
    if (isLegal && container?.type === 7) container.regions.push(stretch)
  }

  #unregister(): void {
    const regions = this.#draft.container?.regions ?? []
    const at = regions.length > 0 && !this.#prng.oneIn(5) ? this.#prng.below(regions.length) : -1
    let { from, bytes } = regions[at] ?? this.#stretch()
    // A part of a region, or one page too many.
    const miss = at < 0 ? 0 : this.#prng.below(6)
    if (miss === 1) from += PAGE
    else if (miss === 2) bytes += PAGE
    else if (at >= 0) regions.splice(at, 1)
    this.#draft.add('unregister', { vaddr: from, bytes, ...flagged(this.#prng.oneIn(25) ? 1 : 0) })
  }

  // --- windows ---

  #create(): void {
    const pageShift = this.#prng.pick([12, 16, 16, 16, 16, 16, 21, 21, 30, 13, 24, 0, 63])
    const log2 = this.#prng.oneIn(5)
      ? 12 + this.#prng.below(32)
      : Math.min(44, pageShift + 4 + this.#prng.below(pageShift === 12 ? 14 : 16))
    let bytes = 1n << BigInt(log2)
    if (this.#prng.oneIn(20)) bytes += this.#prng.pick([PAGE, -PAGE, bytes >> 1n])
    if (this.#prng.oneIn(60)) bytes = this.#prng.pick(WILD)
    const levels = this.#prng.pick([1, 1, 1, 2, 2, 3, 4, 5, 0, 6])
    const flags = this.#prng.oneIn(25) ? 1 : 0
    this.createWindow(pageShift, BigInt.asUintN(64, bytes), levels, flags)
  }

  createWindow(pageShift: number, bytes: bigint, levels: number, flags = 0): void {
    this.#draft.add('create', { pageShift, bytes, levels, ...flagged(flags) })
    const { container, guest } = this.#draft
    guest.noteWindow({ bytes, pageShift, levels }, [0n, SECOND_START])
    if (container?.type !== 7 || container.groups.size === 0) return
    this.#makeDefault(container)
    const isLegal = PAGE_SHIFTS.includes(pageShift) && levels > 0 && levels <= LEVELS_MAX && flags === 0
    if (!isLegal || container.windows.length > 1) return
    const start = container.windows.some((w) => w.start === 0n) ? SECOND_START : 0n
    container.windows.push({ start, bytes, pageShift, levels })
  }

  #makeDefault(container: BelievedContainer): void {
    if (container.windows.length === 0) container.windows.push(DEFAULT_WINDOW)
  }

  #remove(): void {
    const windows = this.#draft.container?.windows ?? []
    const known = windows.length > 0 && !this.#prng.oneIn(6) ? this.#prng.pick(windows) : undefined
    const start =
      known === undefined
        ? this.#prng.pick([0n, SECOND_START, 0x1_2345n, ...WILD])
        : known.start + (this.#prng.oneIn(6) ? PAGE : 0n)
    this.removeWindow(start)
  }

  removeWindow(start: bigint): void {
    this.#draft.add('remove', { start })
    const windows = this.#draft.container?.windows ?? []
    const at = windows.findIndex((w) => start >= w.start && start < w.start + w.bytes)
    if (at >= 0) windows.splice(at, 1)
  }

  // --- mappings ---

  #window(): BelievedWindow {
    const windows = this.#draft.container?.windows ?? []
    return windows.length > 0 && !this.#prng.oneIn(12) ? this.#prng.pick(windows) : DEFAULT_WINDOW
  }

  /** A bus address in a window: often the same few pages, sometimes its last ones, sometimes outside. */
  #iova({ start, bytes, pageShift, levels }: BelievedWindow, pages: bigint): bigint {
    const page = 1n << BigInt(pageShift)
    const entries = bytes / page
    const last = entries > pages ? entries - pages : 0n
    // Beyond the end only where the table has entries there: elsewhere the kernel writes over other memory.
    const hasMore = levels > 1 || entries + pages < ENTRIES_MIN
    if (hasMore && entries > 0n && this.#prng.oneIn(16)) return start + bytes - page
    if (this.#prng.oneIn(20)) {
      return start + this.#prng.pick([1n, 0x800n, SMALL_PAGE, 0x8000n]) + BigInt(this.#prng.below(2)) * page
    }
    if (this.#prng.oneIn(40)) return this.#prng.pick([start + bytes, 1n << 40n, 1n << 60n])
    const end = last < 0xffff_ffffn ? Number(last) + 1 : 0xffff_ffff
    const near = this.#prng.below(end < 12 ? end : 12)
    const index = this.#prng.oneIn(8) ? last : BigInt(this.#prng.oneIn(8) ? this.#prng.below(end) : near)
    return start + index * page
  }

  /**
   * As many bytes as a table has entries for. Kernels do not look at the end of a mapping (X6, X14), and go on in
   * memory that is not the table's: what that does to a host is no question for a peer.
   */
  #bounded(iova: bigint, bytes: bigint): bigint {
    const windows = [DEFAULT_WINDOW, ...(this.#draft.container?.windows ?? [])]
    const ends = windows
      .filter((w) => w.levels === 1 && iova >= w.start && iova < w.start + w.bytes)
      .map((w) => {
        const least = ENTRIES_MIN << BigInt(w.pageShift)
        return { end: w.start + (w.bytes > least ? w.bytes : least), page: 1n << BigInt(w.pageShift) }
      })
    const over = ends.find(({ end }) => iova + bytes > end)
    return over === undefined ? bytes : over.page
  }

  mapAt(iova: bigint, vaddr: bigint, asked: bigint, flags = 3): void {
    const bytes = this.#bounded(iova, asked)
    this.#draft.add('map', { iova, vaddr, bytes, ...(flags !== 3 && { flags }) })
    const { container } = this.#draft
    if (container === undefined) return
    if (container.type === 7) this.#makeDefault(container)
    container.mappings.push({ from: iova, bytes, vaddr })
  }

  #map(): void {
    const window = this.#window()
    const page = 1n << BigInt(window.pageShift)
    const regions = this.#draft.container?.regions ?? []
    const from = regions.length > 0 && !this.#prng.oneIn(8) ? this.#prng.pick(regions) : this.#stretch()
    const pages = BigInt(this.#prng.oneIn(4) ? 1 + this.#prng.below(12) : 1 + this.#prng.below(2))
    const offsets = Number(from.bytes / page > 64n ? 64n : from.bytes / page)
    const offset = BigInt(this.#prng.below(Math.max(1, offsets))) * page
    let vaddr = BigInt.asUintN(64, from.from + offset)
    let bytes = pages * page
    if (this.#prng.oneIn(20)) vaddr = BigInt.asUintN(64, vaddr + this.#prng.pick([0x800n, SMALL_PAGE]))
    if (this.#prng.oneIn(20)) bytes += this.#prng.pick([0x800n, SMALL_PAGE, -bytes])
    const flags = this.#prng.pick([3, 3, 3, 3, 3, 3, 1, 1, 2, 2, 0, 4, 7])
    this.mapAt(this.#iova(window, pages), vaddr, bytes, flags)
  }

  #unmap(): void {
    const mappings = this.#draft.container?.mappings ?? []
    const window = this.#window()
    const page = 1n << BigInt(window.pageShift)
    const pages = BigInt(1 + this.#prng.below(6))
    const at = mappings.length > 0 && !this.#prng.oneIn(4) ? this.#prng.below(mappings.length) : -1
    const known = mappings[at]
    let { from: iova, bytes } = known ?? { from: this.#iova(window, pages), bytes: pages * page }
    if (known !== undefined && this.#prng.oneIn(4)) bytes = page
    else if (at >= 0) mappings.splice(at, 1)
    if (this.#prng.oneIn(24)) bytes += this.#prng.pick([0x800n, SMALL_PAGE])
    if (this.#prng.oneIn(40)) iova += this.#prng.pick([0x800n, SMALL_PAGE])
    bytes = this.#bounded(iova, bytes)
    this.#draft.add('unmap', { iova, bytes, ...flagged(this.#prng.oneIn(25) ? 1 : 0) })
  }

  // --- what a device moves ---

  /** A bus address with the memory that a mapping shows there; or one that none does. */
  #target(): { readonly iova: bigint; readonly vaddr: bigint } {
    const mappings = this.#draft.container?.mappings ?? []
    const known = mappings.length > 0 && !this.#prng.oneIn(5) ? this.#prng.pick(mappings) : undefined
    const offset = this.#prng.pick([0n, 0x100n, 0x7f0n, 0xff0n])
    const vaddr = known?.vaddr ?? 0n
    // What is read back must be there.
    const isThere = AREAS.slice(0, DEVICE_AREAS).some(
      (a) => vaddr >= a.from && vaddr <= a.from + a.bytes - PAGE,
    )
    const iova = known?.from ?? this.#iova(this.#window(), 1n)
    return { iova: iova + offset, vaddr: (isThere ? vaddr : AREAS[0].from) + offset }
  }

  /** Memory gets a pattern, the device reads it, and writes it elsewhere: a mapping that outlived its end shows. */
  dma(): void {
    const { iova, vaddr } = this.#target()
    const fill = BigInt(1 + this.#prng.below(255))
    this.#draft.choose([
      [3, () => this.#draft.add('dma', { direction: 'r', iova, bytes: DMA_BYTES })],
      [
        4,
        () => {
          this.#draft.add('dma', { direction: 'w', iova, bytes: DMA_BYTES })
          this.#draft.add('peek', { vaddr, bytes: DMA_BYTES })
        },
      ],
      [2, () => this.#draft.add('poke', { vaddr, fill, bytes: DMA_BYTES })],
      [1, () => this.#draft.add('peek', { vaddr, bytes: DMA_BYTES })],
    ])
  }
}
