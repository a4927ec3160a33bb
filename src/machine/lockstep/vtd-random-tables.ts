import type { Prng } from '../../bits/prng.ts'
import { INTERRUPT_START } from '../../memory/interrupt-range.ts'
import { BUSES, FUNCTIONS, LEVELS, PAGES, RANDOM_DOMAINS, RANDOM_PASIDS, SLOTS } from './vtd-random-layout.ts'
import { VTD_AREAS } from './vtd-state.ts'
import type { VtdStep } from './vtd-step.ts'
import type { VtdUnitOptions } from './vtd-unit-options.ts'

const PAGE = 0x1000
const P = 1n
const FPD = 2n

/** Neither memory nor registers are there. */
const NO_MEMORY = 0x8000_0000n
const GIB = 1n << 30n
/** Address bits of entries that lead to tables. */
const TABLE_MASK = 0x7f_ffff_f000n
const ALL_ONES = (1n << 64n) - 1n

/** Writes tables of every shape, broken ones too, but none of which QEMU dies or reads what it never wrote. */
export class VtdTableWriter {
  readonly #prng: Prng
  readonly #unit: VtdUnitOptions
  readonly #steps: VtdStep[]
  /** With FPD set QEMU goes on with entries that it has found bad: those must not lead it outside its own tables. */
  readonly hasFpd: boolean
  #root = 0
  /** Leaves that were written lately, by address. */
  readonly #leaves: number[] = []
  /** What was written, by address. */
  readonly #shadow = new Map<number, bigint>()

  constructor(prng: Prng, unit: VtdUnitOptions, steps: VtdStep[]) {
    this.#prng = prng
    this.#unit = unit
    this.#steps = steps
    this.hasFpd = prng.oneIn(2)
  }

  /** What RTADDR gets for the root table that is used. */
  get rootAddress(): bigint {
    return BigInt(this.#pageAt(this.#root)) | (this.#unit.mode === 'legacy' ? 0n : 1n << 10n)
  }

  /** All tables, most of them good. */
  writeAll(): void {
    for (const root of PAGES.roots) for (const bus of BUSES) this.#rootEntry(root, bus, true)
    for (const page of PAGES.contexts) {
      const isBus1 = page === PAGES.contexts[3]
      for (const fn of isBus1 ? [0] : FUNCTIONS) this.#context(page, fn, true)
    }
    if (this.#unit.mode !== 'legacy') {
      for (const page of PAGES.directories) {
        for (const slot of [0, 1]) this.#directoryEntry(page, slot, true)
      }
      for (const page of PAGES.pasids)
        for (const pasid of RANDOM_PASIDS) this.#pasidEntry(page, pasid & 63, true)
    }
    for (const level of [4, 3, 2, 1]) {
      for (const page of LEVELS[level] ?? []) {
        for (const slot of SLOTS[level] ?? []) this.#pageEntry(level, page, slot)
      }
    }
  }

  /** One change somewhere. */
  edit(): void {
    const at = this.#prng.below(100)
    const isScalable = this.#unit.mode !== 'legacy'
    if (at < 60) this.#pageEntry(1, this.#prng.pick(PAGES.level1), this.#prng.pick(SLOTS[1]))
    else if (at < 78) this.#upper()
    else if (at < 88 || !isScalable)
      this.#context(this.#prng.pick(PAGES.contexts), this.#prng.pick([0, ...FUNCTIONS]), this.#prng.oneIn(2))
    else if (at < 96)
      this.#pasidEntry(
        this.#prng.pick(PAGES.pasids),
        this.#prng.pick(RANDOM_PASIDS) & 63,
        this.#prng.oneIn(2),
      )
    else if (at < 98)
      this.#directoryEntry(this.#prng.pick(PAGES.directories), this.#prng.below(2), this.#prng.oneIn(2))
    else this.#rootEntry(this.#root, this.#prng.pick(BUSES), this.#prng.oneIn(2))
  }

  /** A leaf that was written before gets another value. */
  editRecent(): void {
    const gpa = this.#leaves.length === 0 ? undefined : this.#prng.pick(this.#leaves)
    if (gpa === undefined) this.edit()
    else this.#word(gpa, this.#leaf(1))
  }

  /** One of the entries that a request goes through gets another value; it has a PASID, or that of its device. */
  editUsed(source: number, iova: bigint, pasid?: number): void {
    const ways = this.#wayOf(source, iova, pasid)
    // The page tables at its end are changed most.
    const isAny = this.#prng.oneIn(3) && ways.length > 0
    const at = isAny ? this.#prng.below(ways.length) : ways.length - 1
    ways[at]?.()
  }

  /** The domain and the PASID that requests of a device have, as far as the tables say. */
  ownerOf(source: number, ofPasid?: number): { readonly domain: number; readonly pasid: number } {
    const { domain, pasid } = this.#owner(source, ofPasid)
    return { domain, pasid }
  }

  /** The other root table is to be used from the next SRTP on. */
  otherRoot(): void {
    this.#root = this.#prng.pick(PAGES.roots)
  }

  /** A bus address that the tables may know. */
  iova(): bigint {
    const levels = this.#unit.addressBits === 39 ? 3 : 4
    let iova = BigInt(this.#prng.pick([0, 0, 0, 4, 0x10, 0x11, 0x800, 0xff0, 0xffc]))
    for (let level = 1; level <= levels; level++) {
      const slots = SLOTS[level] as readonly number[]
      // Most requests meet few pages, so that they find in a cache what others left there.
      const slot =
        level === 1
          ? this.#prng.below(this.#prng.oneIn(4) ? 16 : 6)
          : this.#prng.oneIn(5)
            ? this.#prng.pick(slots)
            : (slots[0] as number)
      iova |= BigInt(slot) << BigInt(3 + level * 9)
    }
    const isTop = iova >> 47n === 1n
    if (isTop && this.#unit.mode === 'first-level') iova |= 0xffffn << 48n
    if (!this.#prng.oneIn(40)) return iova
    return this.#prng.pick([
      1n << 38n,
      1n << 39n,
      1n << 47n,
      1n << 48n,
      1n << 52n,
      0xffff_8000_0020_0000n,
      iova | (1n << 63n),
    ])
  }

  // --- entries ---

  #pageAt(page: number): number {
    return VTD_AREAS.tables.gpa + page * PAGE
  }

  /** What stands at an address, as far as it was written. */
  #at(gpa: number): bigint {
    return this.#shadow.get(gpa) ?? 0n
  }

  /** The page that an entry leads to, if it is one of some. */
  #pageOf(gpa: number, pages: readonly number[]): number | undefined {
    const page = (Number(this.#at(gpa) & TABLE_MASK) - VTD_AREAS.tables.gpa) / PAGE
    return pages.includes(page) ? page : undefined
  }

  /** Ways to write anew each of the entries that a request goes through, from the context entry on. */
  #wayOf(source: number, iova: bigint, ofPasid?: number): (() => void)[] {
    const ways: (() => void)[] = []
    const isGood = this.#prng.oneIn(2)
    const used = this.#owner(source, ofPasid)
    if (used.context === undefined) return ways
    const { context } = used
    ways.push(() => this.#context(context, source & 0xff, isGood))
    if (used.directory !== undefined) {
      const { directory, pasid } = used
      ways.push(() => this.#directoryEntry(directory, pasid >> 6, isGood))
    }
    if (used.entry !== undefined) {
      const { entry, pasid } = used
      ways.push(() => this.#pasidEntry(entry, pasid & 63, isGood))
    }
    let from = used.root
    for (let level = Math.min(used.levels, 4); level >= 1; level--) {
      const page = this.#pageOf(from, LEVELS[level] ?? [])
      if (page === undefined) break
      const slot = Number((iova >> BigInt(3 + level * 9)) & 511n)
      ways.push(() => this.#pageEntry(level, page, slot))
      from = this.#pageAt(page) + slot * 8
    }
    return ways
  }

  /** Pages of the entries of a device, as far as they lead on; where the first page table is named, and its level. */
  #owner(source: number, ofPasid?: number) {
    const used = { context: undefined, directory: undefined, entry: undefined } as {
      context: number | undefined
      directory: number | undefined
      entry: number | undefined
    }
    const isLegacy = this.#unit.mode === 'legacy'
    used.context = this.#pageOf(this.#pageAt(this.#root) + (source >> 8) * 16, PAGES.contexts)
    const context = this.#pageAt(used.context ?? 0) + (source & 0xff) * (isLegacy ? 16 : 32)
    if (isLegacy) {
      const second = this.#at(context + 8)
      const levels = 2 + Number(second & 7n)
      return { ...used, pasid: 0, root: context, levels, domain: Number((second >> 8n) & 0xffffn) }
    }
    const pasid = ofPasid ?? Number(this.#at(context + 8) & 0xf_ffffn)
    used.directory = this.#pageOf(context, PAGES.directories)
    used.entry = this.#pageOf(this.#pageAt(used.directory ?? 0) + (pasid >> 6) * 8, PAGES.pasids)
    const entry = this.#pageAt(used.entry ?? 0) + (pasid & 63) * 64
    const isFirst = this.#unit.mode === 'first-level'
    const levels = isFirst ? 4 : 2 + Number((this.#at(entry) >> 2n) & 7n)
    const domain = Number(this.#at(entry + 8) & 0xffffn)
    return { ...used, pasid, root: isFirst ? entry + 16 : entry, levels, domain }
  }

  #word(gpa: number, ...words: readonly bigint[]): void {
    for (const [i, word] of words.entries()) this.#shadow.set(gpa + i * 8, word)
    this.#steps.push({ kind: 'word', gpa, words })
  }

  /** A pointer to a table, seldom to where no memory is. */
  #pointer(pages: readonly number[], mayMiss: boolean): bigint {
    return mayMiss && this.#prng.oneIn(40) ? NO_MEMORY : BigInt(this.#pageAt(this.#prng.pick(pages)))
  }

  /** Seldom one of some bits, which the caller has to know to be harmless. */
  #bit(oneIn: number, bits: readonly number[]): bigint {
    return this.#prng.oneIn(oneIn) ? 1n << BigInt(this.#prng.pick(bits)) : 0n
  }

  /** FPD where the script has it. */
  #fpd(oneIn: number): bigint {
    return this.hasFpd && this.#prng.oneIn(oneIn) ? FPD : 0n
  }

  #present(isGood: boolean): bigint {
    return isGood || this.#prng.oneIn(2) ? P : 0n
  }

  #rootEntry(root: number, bus: number, isGood: boolean): void {
    const pages = bus === 0 ? PAGES.contexts.slice(0, 3) : [PAGES.contexts[3]]
    const lower =
      this.#pointer(pages, !isGood) |
      this.#present(isGood) |
      (isGood ? 0n : this.#bit(4, [1, 4, 11, this.#unit.addressBits, 51, 63]))
    const upper = this.#unit.mode === 'legacy' ? 0n : this.#pointer(pages, false) | P
    this.#word(this.#pageAt(root) + bus * 16, lower, upper | (isGood ? 0n : this.#bit(3, [1, 2, 11, 40, 63])))
  }

  #context(page: number, fn: number, isGood: boolean): void {
    if (this.#unit.mode !== 'legacy') {
      const flags = BigInt(this.#prng.below(8)) << 2n
      const pasids = BigInt(this.#prng.below(8)) << 9n
      const first =
        this.#pointer(PAGES.directories, !isGood && !this.hasFpd) |
        pasids |
        flags |
        this.#present(isGood) |
        this.#fpd(isGood ? 6 : 2) |
        (isGood ? 0n : this.#bit(4, [5, 8, this.#unit.addressBits, 51, 63]))
      const pasid = BigInt(this.#prng.oneIn(2) ? 0 : this.#prng.pick(RANDOM_PASIDS))
      const second = pasid | this.#bit(16, [20]) | (isGood ? 0n : this.#bit(8, [21, 40, 63]))
      this.#word(this.#pageAt(page) + fn * 32, first, second, isGood ? 0n : this.#bit(12, [0, 63]), 0n)
      return
    }
    const levels = this.#unit.addressBits === 39 ? 3 : 3 + this.#prng.below(2)
    const type = BigInt(this.#prng.pick(isGood ? [0, 0, 0, 0, 0, 1, 2] : [0, 0, 1, 2, 3]))
    const first =
      this.#pointer(LEVELS[levels] ?? [], !isGood) |
      (type << 2n) |
      this.#present(isGood) |
      this.#fpd(isGood ? 6 : 2) |
      (isGood ? 0n : this.#bit(3, [4, 11, this.#unit.addressBits, 51, 63]))
    const width = BigInt(isGood ? levels - 2 : this.#prng.below(8))
    const domain = BigInt(this.#prng.below(RANDOM_DOMAINS)) << 8n
    this.#word(
      this.#pageAt(page) + fn * 16,
      first,
      width | domain | (isGood ? this.#bit(30, [3, 6]) : this.#bit(6, [3, 7, 24, 63])),
    )
  }

  #directoryEntry(page: number, slot: number, isGood: boolean): void {
    const isSafe = isGood || this.hasFpd
    const entry =
      this.#pointer(PAGES.pasids, !isSafe) |
      this.#present(isSafe) |
      this.#fpd(isGood ? 6 : 2) |
      this.#bit(12, [2, 11])
    this.#word(this.#pageAt(page) + slot * 8, entry)
  }

  #pasidEntry(page: number, slot: number, isGood: boolean): void {
    const isFirst = this.#unit.mode === 'first-level'
    const [usual, other] = isFirst ? [1, [1, 1, 4, 2, 3, 0, 5, 7]] : [2, [2, 2, 4, 1, 3, 0, 6]]
    const type = BigInt(isGood ? (this.#prng.oneIn(8) ? 4 : usual) : this.#prng.pick(other))
    const levels = isFirst ? 4 : this.#unit.addressBits === 39 ? 3 : 3 + this.#prng.below(2)
    const width = BigInt(
      isGood ? (isFirst && this.#prng.oneIn(4) ? 1 : levels - 2) : this.#prng.below(this.hasFpd ? 3 : 8),
    )
    const table = this.#pointer(LEVELS[levels] ?? [], !isGood)
    const flags =
      this.#present(isGood) |
      this.#fpd(isGood ? 6 : 2) |
      (type << 6n) |
      (width << 2n) |
      this.#bit(12, [5, 9, 10, 11])
    const first = flags | (isFirst ? this.#bit(8, [13]) : table)
    const asked =
      isFirst && !isGood && !this.hasFpd && this.#prng.oneIn(2) ? BigInt(1 + this.#prng.below(3)) << 2n : 0n
    // With another type it dies where it goes on all the same: with P clear, or a PASID that another entry lets through.
    const mode = type === 1n ? asked : 0n
    const third =
      (isFirst ? table | mode : 0n) |
      this.#bit(4, [0, 1, 4, 5, 6, 8, 11]) |
      (isFirst ? this.#bit(60, [50, 63]) : 0n)
    const domain = BigInt(this.#prng.below(RANDOM_DOMAINS))
    this.#word(this.#pageAt(page) + slot * 64, first, domain | this.#bit(12, [16, 23, 24, 31]), third, 0n)
  }

  // --- page tables ---

  #upper(): void {
    const level = 2 + this.#prng.below(3)
    this.#pageEntry(
      level,
      this.#prng.pick(LEVELS[level] as readonly number[]),
      this.#prng.pick(SLOTS[level] as readonly number[]),
    )
  }

  #pageEntry(level: number, page: number, slot: number): void {
    const gpa = this.#pageAt(page) + slot * 8
    const isLeaf = level === 1 || (level < 4 && this.#prng.oneIn(7))
    if (level === 1 && this.#prng.oneIn(3)) {
      this.#leaves.push(gpa)
      if (this.#leaves.length > 8) this.#leaves.shift()
    }
    // An entry of all ones looks to QEMU as if it could not be read.
    this.#word(gpa, this.#prng.oneIn(100) ? ALL_ONES : isLeaf ? this.#leaf(level) : this.#branch(level))
  }

  /** An entry that leads to a table, seldom to one too low. */
  #branch(level: number): bigint {
    const below = level > 2 && this.#prng.oneIn(24) ? level - 2 : level - 1
    const table = this.#pointer(LEVELS[below] ?? [], true)
    return table | this.#rights(true) | (this.#prng.oneIn(24) ? this.#strange(level) : 0n)
  }

  #leaf(level: number): bigint {
    const { data } = VTD_AREAS
    const isOdd = this.#prng.oneIn(20)
    const strange = this.#prng.oneIn(12) ? this.#strange(level) : 0n
    if (level === 1) {
      const usual = BigInt(data.gpa + this.#prng.below(data.bytes / PAGE) * PAGE)
      return (
        (isOdd ? this.#prng.pick([NO_MEMORY, INTERRUPT_START, INTERRUPT_START + 0xf_f000n]) : usual) |
        this.#rights(false) |
        strange
      )
    }
    if (level === 2) {
      const page = isOdd
        ? this.#prng.pick([
            NO_MEMORY,
            INTERRUPT_START,
            BigInt(data.gpa) | 0x1000n,
            BigInt(data.gpa) | 0x2000n,
          ])
        : BigInt(data.gpa)
      return page | 0x80n | this.#rights(false) | strange
    }
    return (
      (isOdd ? this.#prng.pick([GIB, 3n * GIB, 0x1000n, 0x20_0000n]) : 0n) |
      0x80n |
      this.#rights(false) |
      strange
    )
  }

  /** What an entry allows. */
  #rights(isBranch: boolean): bigint {
    const isFirst = this.#unit.mode === 'first-level'
    if (isBranch && !this.#prng.oneIn(12)) return isFirst ? 7n : 3n
    if (!isFirst) return this.#prng.pick([3n, 3n, 3n, 3n, 3n, 1n, 2n, 0n])
    const accessed = this.#prng.oneIn(4) ? BigInt(this.#prng.below(4)) << 5n : 0n
    return accessed | this.#prng.pick([7n, 7n, 7n, 7n, 7n, 5n, 3n, 6n, 1n, 0n])
  }

  /** A bit that is reserved, ignored, or means something seldom used. Bit 7 makes a page of a table above the lowest. */
  #strange(level: number): bigint {
    const { addressBits } = this.#unit
    const high = [addressBits, 50, 51, 52, 58, 61, 62, 63]
    const low = this.#unit.mode === 'first-level' ? [3, 4, 8, 9, 10, 11] : [2, 3, 5, 6, 8, 9, 10, 11, 11]
    // Tables lie where pages of 2 MiB and more must have no address bits: such a page is refused.
    return 1n << BigInt(this.#prng.pick([...high, ...low, ...(level === 2 ? [] : [7])]))
  }
}
