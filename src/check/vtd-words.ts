import { numberOf } from '../bits/u64.ts'
import { slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'

const WORD = slotMap('vtd.word')
/** Changes of one word that are kept; of more the oldest go. */
const KEPT = 64
const LANES = 4
const PAGE_SHIFT = 12
const LEVEL_BITS = 9

/** What a word held, and holds. */
export interface WordChange {
  readonly oldHi: number
  readonly oldLo: number
  readonly hi: number
  readonly lo: number
}

/** What a word is an entry of. */
export const ROLE = { ROOT: 0, CONTEXT: 1, DIRECTORY: 2, PASID: 3, FIRST: 4, SECOND: 5 } as const
export type Role = (typeof ROLE)[keyof typeof ROLE]

interface Changes {
  readonly seqs: number[]
  /** Of each change: what went and what came, upper lane first. */
  readonly lanes: number[]
  /** Records before this one cannot be told about any more. */
  from: number
}

/**
 * What the words of tables held and hold, from the records of their changes. `changed` leaves what it found in the fields.
 */
export class WordHistory implements WordChange {
  /** What the word held then, and what it holds now. */
  oldHi = 0
  oldLo = 0
  hi = 0
  lo = 0
  /** The record of the first change since then. */
  by = 0
  readonly #words = new Map<number, Changes>()

  /** Whether no word has changed at all. */
  get isEmpty(): boolean {
    return this.#words.size === 0
  }

  /** Notes a `vtd.word`. */
  note(log: RecordLog, seq: number): void {
    const address = addressAt(log, seq, WORD.address)
    let known = this.#words.get(address)
    if (known === undefined) {
      known = { seqs: [], lanes: [], from: 0 }
      this.#words.set(address, known)
    }
    const { seqs, lanes } = known
    if (seqs.length >= KEPT) {
      known.from = seqs[KEPT / 2 - 1] as number
      seqs.splice(0, KEPT / 2)
      lanes.splice(0, (KEPT / 2) * LANES)
    }
    seqs.push(seq)
    lanes.push(
      log.slot(seq, WORD.before + 1),
      log.slot(seq, WORD.before),
      log.slot(seq, WORD.after + 1),
      log.slot(seq, WORD.after),
    )
  }

  /** Whether a word holds something else than it did at a record; false where that is too long ago to tell. */
  changed(address: number, since: number): boolean {
    const known = this.#words.get(address)
    if (known === undefined) return false
    const { seqs, lanes, from } = known
    const last = seqs.length - 1
    if ((seqs[last] as number) <= since || since < from) return false
    let first = last
    while (first > 0 && (seqs[first - 1] as number) > since) first--
    const [old, now] = [first * LANES, last * LANES]
    this.oldHi = lanes[old] as number
    this.oldLo = lanes[old + 1] as number
    this.hi = lanes[now + 2] as number
    this.lo = lanes[now + 3] as number
    this.by = seqs[first] as number
    return this.oldHi !== this.hi || this.oldLo !== this.lo
  }

  /** The record of the last change of a word; -1 for none. */
  lastBy(address: number): number {
    return this.#words.get(address)?.seqs.at(-1) ?? -1
  }

  /** Whether it is known what a word holds now: then `hi` and `lo` are that. */
  load(address: number): boolean {
    const known = this.#words.get(address)
    if (known === undefined) return false
    this.hi = known.lanes.at(-2) as number
    this.lo = known.lanes.at(-1) as number
    return true
  }
}

/** An address of memory in two slots of a record; below 2^52. */
export const addressAt = (log: RecordLog, seq: number, slot: number): number =>
  numberOf(log.slot(seq, slot + 1), log.slot(seq, slot))

const FPD = 2
const READ_WRITE = 3
const PAGE_SIZE = 1 << 7
const ADDRESS_HI = 0xf_ffff
const ADDRESS_LO = ~0xfff
/** PAT of a first-level leaf of 2 MiB or 1 GiB. */
const LARGE_PAT = 1 << 12
const [PRESENT, WRITABLE, USER] = [1, 2, 4]
/** XD, in the upper lane. */
const NO_EXECUTE = 1 << 31

/** Whether an entry is there: P, or R or W of a second-level entry. */
export const isPresent = (role: Role, lo: number): boolean =>
  (lo & (role === ROLE.SECOND ? READ_WRITE : PRESENT)) !== 0

/** Whether an entry of a page table maps a page, and leads to no other table. */
export const isLeaf = (level: number, lo: number): boolean => level === 1 || (lo & PAGE_SIZE) !== 0

/** Page of memory that an entry of a page table leads to; 4 KiB. */
export function pageOfEntry(role: Role, level: number, hi: number, lo: number): number {
  const isLarge = level > 1 && isLeaf(level, lo)
  const low = lo & ADDRESS_LO & ~(isLarge && role === ROLE.FIRST ? LARGE_PAT : 0)
  return numberOf(hi & ADDRESS_HI, low) / 4096
}

/**
 * Whether a translation that was made with what a word held is wrong with what it holds now: it leads elsewhere, or
 * allows more than the tables do. More rights in the tables than a cache knows do no harm. Accessed and dirty bits, memory types
 * and what hardware ignores make no difference, nor does FPD.
 */
export function isTakenBack(role: Role, level: number, word: WordChange): boolean {
  const { oldHi, oldLo, hi, lo } = word
  if (role !== ROLE.FIRST && role !== ROLE.SECOND) return differs(role, word)
  if (!isPresent(role, oldLo)) return false
  if (!isPresent(role, lo)) return true
  if (level > 1 && ((oldLo ^ lo) & PAGE_SIZE) !== 0) return true
  if (pageOfEntry(role, level, oldHi, oldLo) !== pageOfEntry(role, level, hi, lo)) return true
  if (role === ROLE.SECOND) return (oldLo & ~lo & READ_WRITE) !== 0
  return (oldLo & ~lo & (WRITABLE | USER)) !== 0 || (hi & ~oldHi & NO_EXECUTE) !== 0
}

/** Whether what hardware found wrong with a word, or refused for its sake, may be right with what it holds now. */
export function isGiven(role: Role, level: number, word: WordChange): boolean {
  const { oldHi, oldLo, hi, lo } = word
  if (role !== ROLE.FIRST && role !== ROLE.SECOND) return differs(role, word)
  if (!isPresent(role, lo)) return false
  if (!isPresent(role, oldLo)) return true
  if (pageOfEntry(role, level, oldHi, oldLo) !== pageOfEntry(role, level, hi, lo)) return true
  return (lo & ~oldLo & (READ_WRITE | USER)) !== 0
}

/** Whether an entry of a structure says something else. */
function differs(role: Role, { oldHi, oldLo, hi, lo }: WordChange): boolean {
  // An entry that was absent and still is says nothing, whatever its other bits are.
  if (role === ROLE.ROOT || role === ROLE.DIRECTORY) {
    if (((oldLo | lo) & PRESENT) === 0) return false
  }
  return oldHi !== hi || (oldLo & ~FPD) !== (lo & ~FPD)
}

/** Place of the entry that an address needs in a table of a level, in bytes. */
export function offsetOf(hi: number, lo: number, level: number): number {
  const shift = PAGE_SHIFT + LEVEL_BITS * (level - 1)
  const low = shift < 32 ? lo >>> shift : 0
  const high = shift < 32 ? hi << (32 - shift) : hi >>> (shift - 32)
  return ((low | high) & 511) * 8
}

/** 4 KiB pages that an entry of a level stands for. */
export const pagesOfLevel = (level: number): number => 2 ** (LEVEL_BITS * (level - 1))

/**
 * Whether tables lead on to a page from a word that was changed, as far as records show the words below: what was never
 * seen to be written there is taken for nothing.
 */
export function leadsToPage(
  words: WordHistory,
  { role, level }: { readonly role: Role; readonly level: number },
  page: number,
): boolean {
  const [hi, lo] = [Math.floor(page / 2 ** (32 - PAGE_SHIFT)) | 0, page << PAGE_SHIFT]
  for (let at = level; ; at--) {
    if (!isPresent(role, words.lo)) return false
    if (isLeaf(at, words.lo)) return true
    const table = pageOfEntry(role, at, words.hi, words.lo)
    if (!words.load(table * 4096 + offsetOf(hi, lo, at - 1))) return false
  }
}
