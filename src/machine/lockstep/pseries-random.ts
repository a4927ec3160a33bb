import { Prng } from '../../bits/prng.ts'
import { TCE_HCALL_R3 } from '../../kernel/tce-hcalls.ts'
import { DMA_BYTES_MAX, type PseriesScript, type PseriesStep } from './pseries-step.ts'

/** Memory that random scripts use. Nothing else is written, also by the device. */
export const PSERIES_AREAS = Object.freeze({
  /** Lists of TCEs. */
  lists: { gpa: 0x200_0000, bytes: 0x1_0000 },
  /** Where TCEs lead: the start of a page of 16 MiB. */
  data: { gpa: 0x400_0000, bytes: 0xc_0000 },
  /** Where pages of 2 and of 16 MiB end, and the start of the next page of 16 MiB. */
  ends: [
    { gpa: 0x41f_e000, bytes: 0x2000 },
    { gpa: 0x4ff_e000, bytes: 0xa_0000 },
    { gpa: 0x51f_e000, bytes: 0x2000 },
    { gpa: 0x5ff_e000, bytes: 0x2000 },
  ],
})

const { H_PUT_TCE, H_GET_TCE, H_STUFF_TCE, H_PUT_TCE_INDIRECT } = TCE_HCALL_R3
/** A hypercall that nobody answers. */
const H_NONE = 0x3f4n
const TOKEN = { query: 0x2026, create: 0x2027, remove: 0x2028, reset: 0x2029 } as const
const BUID = [0x0800_0000, 0x2000_0000] as const
const LIOBNS = [0x8000_0000n, 0x8000_0001n] as const
const NO_LIOBNS = [0x1234n, 0x7100_0000n, 0x8000_0002n, 0x8000_0100n, 0x100_8000_0000n] as const
const WINDOW_64 = 1n << 59n
const PAGE_SHIFTS = [12, 12, 16, 16, 21, 24] as const
const STRANGE_PAGE_SHIFTS = [0, 11, 13, 20, 25, 34, 63] as const
/** Entries of a window, log2: tables of up to 2 MiB. */
const ENTRIES_SHIFT_MAX = 18
/** Past the end of memory, and far from everything. */
const NO_RAM = [0x1000_0000n, 0x1001_0000n, 0xff00_0000_0000n] as const
const SECOND_PAGE = 0x500_0000n
const FIRST_ENTRIES = 24
/** 4 KiB pages at the start of the data that most TCEs lead to. */
const HOT_PAGES = 8
const HOT_PAGE_BYTES = 0x8000
const LARGE_ENTRIES = 4096
/** Lists lie a page apart. */
const LISTS = 8
const LIST_BYTES = 4096
const LIST_MAX = 512

interface Window {
  readonly liobn: bigint
  readonly start: bigint
  readonly pageShift: number
  readonly entries: number
}

const defaultWindow = (): Window => ({ liobn: LIOBNS[0], start: 0n, pageShift: 12, entries: 1 << 18 })

/** Writes one script: what its writer believes of the windows makes most calls reach something. */
class PseriesWriter {
  readonly #prng: Prng
  readonly #steps: PseriesStep[] = []
  readonly #windows: (Window | undefined)[] = [defaultWindow(), undefined]
  /** Bus addresses that were written to lately. */
  readonly #recent: { readonly liobn: bigint; readonly ioba: bigint }[] = []

  constructor(prng: Prng) {
    this.#prng = prng
  }

  write(count: number): readonly PseriesStep[] {
    for (let i = 0; i < LISTS; i++) if (!this.#prng.oneIn(3)) this.#list(i)
    for (let i = 0; i < HOT_PAGES; i++) this.#poke(i)
    if (!this.#prng.oneIn(4)) this.#create()
    while (this.#steps.length < count) this.#step()
    for (let i = 0; i < HOT_PAGES; i++) {
      this.#steps.push({ kind: 'peek', gpa: PSERIES_AREAS.data.gpa + i * HOT_PAGE_BYTES, bytes: 256 })
    }
    return this.#steps
  }

  #step(): void {
    const at = this.#prng.below(1000)
    if (at < 340) this.#put()
    else if (at < 640) this.#get()
    else if (at < 760) this.#stuff()
    else if (at < 900) this.#indirect()
    else if (at < 904) this.#hcall(H_NONE, this.#prng.u64())
    else if (at < 928) this.#query()
    else if (at < 946) this.#create()
    else if (at < 958) this.#remove()
    else if (at < 963) this.#reset()
    else if (at < 967) this.#list(this.#prng.below(LISTS))
    else if (at < 970) this.#poke(this.#prng.below(HOT_PAGES))
    else if (at < 976) this.#dma(this.#prng.oneIn(2) ? 'read' : 'write')
    else if (at < 982) this.#copy()
    else this.#get()
  }

  // --- memory ---

  #list(number: number): void {
    const gpa = PSERIES_AREAS.lists.gpa + number * LIST_BYTES
    const perm = BigInt(this.#prng.below(4))
    const by = this.#prng.pick([0n, 0x1000n, 0x1000n, 0x1_0000n])
    // Steps of 64 KiB from the first page would leave the data: few words, then.
    const count = by > 0x1000n ? 1 + this.#prng.below(8) : 1 + this.#prng.below(by === 0n ? LIST_MAX : 64)
    this.#steps.push({ kind: 'list', gpa, count, first: BigInt(PSERIES_AREAS.data.gpa) | perm, by })
    // A hole: words of one kind, then zeros or those of another.
    if (this.#prng.oneIn(2)) {
      const word = this.#prng.below(LIST_MAX - 8)
      const first = this.#prng.oneIn(3) ? 0n : this.#tce()
      this.#steps.push({ kind: 'list', gpa: gpa + word * 8, count: 1 + this.#prng.below(8), first, by: 0n })
    }
  }

  #poke(page: number): void {
    let data = ''
    const bytes = this.#prng.pick([8, 16, 64, 256])
    for (let i = 0; i < bytes; i++) data += this.#prng.below(256).toString(16).padStart(2, '0')
    const gpa = PSERIES_AREAS.data.gpa + page * HOT_PAGE_BYTES + this.#prng.pick([0, 0, 0, 8, 0xfc0])
    this.#steps.push({ kind: 'poke', gpa, data: data.slice(0, gpa % LIST_BYTES > 0xf00 ? 128 : undefined) })
  }

  // --- TCEs ---

  #tce(): bigint {
    const perm = BigInt(this.#prng.below(4))
    const { data } = PSERIES_AREAS
    const at = this.#prng.below(20)
    if (at < 13)
      return BigInt(data.gpa + this.#prng.below(HOT_PAGES) * HOT_PAGE_BYTES) | (perm === 0n ? 3n : perm)
    if (at < 14) return 0n
    if (at < 15) return this.#prng.pick(NO_RAM) | perm
    if (at < 16) return BigInt(data.gpa + this.#prng.below(0x80) * 0x1000) | 0xffcn | perm
    if (at < 18) return SECOND_PAGE | 3n
    // Any word, without permissions: the device never gets there.
    return this.#prng.u64() & ~3n
  }

  #window(): Window {
    const open = this.#windows.filter((w) => w !== undefined)
    return open.length === 0 ? defaultWindow() : this.#prng.pick(open)
  }

  #liobn(liobn: bigint): bigint {
    if (!this.#prng.oneIn(40)) return liobn
    return this.#prng.pick([...NO_LIOBNS, ...LIOBNS])
  }

  /** A page of a window: among its first, at its end, past it, or anywhere. */
  #ioba({ start, pageShift, entries }: Window): bigint {
    const page = 1n << BigInt(pageShift)
    const at = this.#prng.below(24)
    const entry =
      at < 16
        ? this.#prng.below(Math.min(FIRST_ENTRIES, entries))
        : at < 20
          ? Math.max(0, entries - 1 - this.#prng.below(4))
          : at < 22
            ? this.#prng.below(entries)
            : entries + this.#prng.below(3)
    const ioba = start + BigInt(entry) * page + (this.#prng.oneIn(8) ? this.#prng.u64() % page : 0n)
    if (this.#prng.oneIn(60))
      return this.#prng.pick([0n, WINDOW_64 - 0x1000n, ioba ^ (1n << 63n), this.#prng.u64()])
    return ioba
  }

  #hcall(...registers: readonly bigint[]): void {
    this.#steps.push({ kind: 'hcall', registers })
  }

  #remember(liobn: bigint, ioba: bigint): void {
    this.#recent.push({ liobn, ioba })
    if (this.#recent.length > 16) this.#recent.shift()
  }

  #put(): void {
    const window = this.#window()
    const [liobn, ioba] = [this.#liobn(window.liobn), this.#ioba(window)]
    this.#hcall(H_PUT_TCE, liobn, ioba, this.#tce())
    this.#remember(liobn, ioba)
  }

  #get(): void {
    if (this.#recent.length > 0 && !this.#prng.oneIn(3)) {
      const { liobn, ioba } = this.#prng.pick(this.#recent)
      this.#hcall(H_GET_TCE, liobn, ioba)
      return
    }
    const window = this.#window()
    this.#hcall(H_GET_TCE, this.#liobn(window.liobn), this.#ioba(window))
  }

  #npages(window: Window): bigint {
    const at = this.#prng.below(16)
    if (at < 10) return BigInt(1 + this.#prng.below(8))
    if (at < 11) return 0n
    if (at < 13) return this.#prng.pick([511n, 512n, 513n])
    // All of a large window takes as long as everything else in a script: seldom.
    if (at < 14 && (window.entries <= LARGE_ENTRIES || this.#prng.oneIn(20))) {
      return BigInt(window.entries) + BigInt(this.#prng.below(3)) - 1n
    }
    if (at < 15) return this.#prng.pick([1n << 32n, (1n << 32n) + 1n, this.#prng.u64()])
    return BigInt(this.#prng.below(128))
  }

  #stuff(): void {
    const window = this.#window()
    const [liobn, ioba] = [this.#liobn(window.liobn), this.#ioba(window)]
    this.#hcall(H_STUFF_TCE, liobn, ioba, this.#prng.oneIn(2) ? 0n : this.#tce(), this.#npages(window))
    this.#remember(liobn, ioba)
  }

  #indirect(): void {
    const window = this.#window()
    const [liobn, ioba] = [this.#liobn(window.liobn), this.#ioba(window)]
    let list = BigInt(PSERIES_AREAS.lists.gpa + this.#prng.below(LISTS) * LIST_BYTES)
    if (this.#prng.oneIn(16)) list += BigInt(8 * (1 + this.#prng.below(511)))
    if (this.#prng.oneIn(12)) list = this.#prng.pick(NO_RAM)
    this.#hcall(H_PUT_TCE_INDIRECT, liobn, ioba, list, this.#npages(window))
    this.#remember(liobn, ioba)
    this.#remember(liobn, ioba + (1n << BigInt(window.pageShift)) * BigInt(1 + this.#prng.below(8)))
  }

  // --- windows ---

  #device(): number[] {
    const cells = [this.#prng.oneIn(8) ? 0x2000 : 0, ...BUID]
    if (this.#prng.oneIn(16)) cells[2] = this.#prng.pick([0, 0x2000_0001, 0x2000_0009])
    return cells
  }

  #rtas(token: number, nret: number, args: readonly number[]): void {
    const isWrong = this.#prng.oneIn(20)
    if (!isWrong) this.#steps.push({ kind: 'rtas', token, nret, args })
    else if (this.#prng.oneIn(2)) this.#steps.push({ kind: 'rtas', token, nret, args: args.slice(1) })
    else this.#steps.push({ kind: 'rtas', token, nret: nret === 1 ? 2 : nret - 1, args })
  }

  #query(): void {
    this.#rtas(TOKEN.query, this.#prng.pick([5, 6, 6]), this.#device())
  }

  #create(): void {
    const isStrange = this.#prng.oneIn(10)
    const pageShift = this.#prng.pick(isStrange ? STRANGE_PAGE_SHIFTS : PAGE_SHIFTS)
    const below = isStrange && this.#prng.oneIn(2) ? 1 + this.#prng.below(4) : 0
    const windowShift =
      below > 0 ? Math.max(0, pageShift - below) : pageShift + this.#prng.below(ENTRIES_SHIFT_MAX + 1)
    this.#rtas(TOKEN.create, 4, [...this.#device(), pageShift, windowShift])
    const slot = this.#windows.indexOf(undefined)
    const liobn = LIOBNS[slot]
    if (liobn === undefined || isStrange) return
    const start = this.#windows.every((w) => w === undefined) ? 0n : WINDOW_64
    this.#windows[slot] = { liobn, start, pageShift, entries: 2 ** (windowShift - pageShift) }
  }

  #remove(): void {
    const liobn = this.#prng.oneIn(10) ? this.#prng.pick(NO_LIOBNS) & 0xffff_ffffn : this.#prng.pick(LIOBNS)
    this.#rtas(TOKEN.remove, 1, [Number(liobn)])
    const slot = (LIOBNS as readonly bigint[]).indexOf(liobn)
    if (slot < 0) return
    this.#windows[slot] = undefined
    if (slot === 1 && this.#windows[0] === undefined) this.#windows[0] = defaultWindow()
  }

  #reset(): void {
    this.#rtas(TOKEN.reset, 1, this.#device())
    this.#windows[0] = defaultWindow()
    this.#windows[1] = undefined
  }

  // --- the device ---

  /** A bus address near the start of a page, so that pages of every kind lead into the data. */
  #iova(): bigint {
    const { start, pageShift, entries } = this.#window()
    const page = 1n << BigInt(pageShift)
    if (this.#prng.oneIn(30))
      return this.#prng.pick([start + BigInt(entries) * page - 8n, 0x7000_0000n, WINDOW_64 - 8n])
    const entry = this.#prng.below(Math.min(FIRST_ENTRIES, entries))
    const offset = this.#prng.pick([
      0n,
      0n,
      0n,
      4n,
      0x10n,
      0x11n,
      0xff8n,
      0x8000n,
      0x1_0000n,
      page - 8n,
      page - 4n,
    ])
    return start + BigInt(entry) * page + (offset % page)
  }

  #dma(direction: 'read' | 'write'): void {
    const bytes = this.#prng.pick([1, 4, 8, 16, 17, 64, 256, DMA_BYTES_MAX])
    this.#steps.push({ kind: 'dma', direction, iova: this.#iova(), bytes })
  }

  /** What the device read is put where it can be seen. */
  #copy(): void {
    this.#dma('read')
    const window = this.#window()
    const { start, pageShift } = window
    const page = PSERIES_AREAS.data.gpa
    this.#hcall(H_PUT_TCE, window.liobn, start, BigInt(page) | 3n)
    this.#steps.push({ kind: 'dma', direction: 'write', iova: start, bytes: 64 })
    this.#steps.push({ kind: 'peek', gpa: page, bytes: 64 })
    if (pageShift === 12) this.#remember(window.liobn, start)
  }
}

/** Steps of a script. */
const STEPS = { least: 800, spread: 800 } as const

/** The script of a seed with a number from 0 on. */
export function randomPseriesScript(seed: number, number: number): PseriesScript {
  const prng = new Prng(Math.imul(seed, 0x9e37_79b1) + number)
  return {
    name: `random-${seed}-${number}`,
    steps: new PseriesWriter(prng).write(STEPS.least + prng.below(STEPS.spread)),
  }
}
