import { type Journal, keyOf } from '../../bits/state.ts'
import { numberOf } from '../../bits/u64.ts'
import type { BusMemory, WriteWatcher } from '../../memory/ports.ts'
import { type EventKind, KIND, slotMap } from '../../trace/event.ts'
import type { RecordLog, RecordSink } from '../../trace/record-log.ts'
import type { Stage } from '../../trace/stage.ts'

const CONTEXT = slotMap('vtd.context')
const PASID = slotMap('vtd.pasid')
const WALK = slotMap('vtd.walk')
const WORD = KIND['vtd.word']
const PAGE_BYTES = 4096
const PAGE_SHIFT = 12
const WORDS = 512
/** Lanes of a set of the words of a page. */
const LANES = WORDS / 32
const LEVELS = 5
const LEVEL_BITS = 9
/** P, or R and W; PS; what of the upper lane is an address. */
const PRESENT = 3
const PAGE_SIZE = 1 << 7
const ADDRESS_HI = 0xf_ffff
/** Stands for all words of a page. */
const ALL = -1
/** Pages up to here (512 GiB) have a bit of their own for a quick answer. */
const QUICK_PAGES = 2 ** 27

export interface TableWatchParts {
  readonly memory: BusMemory
  readonly stage: Stage
  readonly journal: Journal
}

/** Words of pages that one unit has read. */
interface WatchedUnit {
  /** Level of the tables that walks have read, by their pages; 0 for the others. */
  readonly levels: Map<number, number>
  /** Its name, and the number that records have for it. */
  readonly name: string
  readonly number: number
  readonly pages: Map<number, Int32Array>
}

/**
 * Watches the words that VT-d units have read as entries of tables, and records each change there (`vtd.word`): checkers
 * learn from it what caches may still hold. Of root, context and PASID tables the whole page is watched, so that entries
 * can be seen to be written in order; of page tables the words that walks have read, and tables that such words come to
 * lead to: what is written there may be what a unit in caching mode remembers as absent.
 *
 * It learns what units read from their records: it is a sink of the log, and the watcher of the memory. A word that a
 * unit changes itself (accessed and dirty bits) is recorded as well.
 *
 * @example
 * const watch = new TableWatch({ memory, stage, journal })
 * stage.log.subscribe(watch)
 * memory.watcher = watch
 */
export class TableWatch implements RecordSink, WriteWatcher {
  readonly kinds: readonly EventKind[] = ['vtd.context', 'vtd.pasid', 'vtd.walk']
  readonly #memory: BusMemory
  readonly #stage: Stage
  readonly #journal: Journal
  readonly #units: WatchedUnit[] = []
  /** One bit a page: it may be watched. */
  #bits = new Int32Array(1024)
  #hasFarPages = false
  readonly #before = new Uint8Array(PAGE_BYTES)
  readonly #after = new Uint8Array(PAGE_BYTES)
  readonly #old = new DataView(this.#before.buffer)
  readonly #new = new DataView(this.#after.buffer)

  constructor({ memory, stage, journal }: TableWatchParts) {
    this.#memory = memory
    this.#stage = stage
    this.#journal = journal
  }

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    const unit = this.#unitOf(log, log.slot(seq, 0))
    if (kind === KIND['vtd.walk']) this.#walked(unit, log, seq)
    else if (kind === KIND['vtd.context']) {
      this.#watch(unit, pageAt(log, seq, CONTEXT.rootAddress), ALL)
      this.#read(unit, log, seq, CONTEXT.address)
    } else {
      this.#read(unit, log, seq, PASID.directory)
      this.#read(unit, log, seq, PASID.address)
    }
  }

  watches(page: number): boolean {
    if (page >= QUICK_PAGES) return this.#hasFarPages && this.#units.some(({ pages }) => pages.has(page))
    const lane = page >>> 5
    return lane < this.#bits.length && ((this.#bits[lane] as number) & (1 << (page & 31))) !== 0
  }

  willWrite(page: number, offset: number, bytes: number): void {
    const from = offset & ~7
    this.#memory.readPage(page, from, this.#before, from, ((offset + bytes + 7) & ~7) - from)
  }

  wrote(page: number, offset: number, bytes: number): void {
    const from = offset & ~7
    const end = (offset + bytes + 7) & ~7
    this.#memory.readPage(page, from, this.#after, from, end - from)
    for (const unit of this.#units) {
      const words = unit.pages.get(page)
      if (words === undefined) continue
      // One write changes all at once: told as if in order, a word that becomes absent first, one that becomes present last.
      for (let at = from; at < end; at += 8)
        if (this.#isWatched(words, at) && this.#goes(at)) this.#changed(unit, page, at)
      for (let at = end - 8; at >= from; at -= 8)
        if (this.#isWatched(words, at) && !this.#goes(at)) this.#changed(unit, page, at)
    }
  }

  #isWatched(words: Int32Array, at: number): boolean {
    return ((words[at >>> 8] as number) & (1 << ((at >>> 3) & 31))) !== 0
  }

  #goes(at: number): boolean {
    return (this.#old.getInt32(at, true) & ~this.#new.getInt32(at, true) & 1) !== 0
  }

  #changed(unit: WatchedUnit, page: number, at: number): void {
    const [oldLo, oldHi] = [this.#old.getInt32(at, true), this.#old.getInt32(at + 4, true)]
    const [lo, hi] = [this.#new.getInt32(at, true), this.#new.getInt32(at + 4, true)]
    if (oldLo === lo && oldHi === hi) return
    this.#link(unit, page, hi, lo)
    const { log, cause, line } = this.#stage
    const address = page * PAGE_BYTES + at
    log.append(
      WORD,
      cause,
      unit.number,
      address | 0,
      Math.floor(address / 2 ** 32),
      oldLo,
      oldHi,
      lo,
      hi,
      line,
    )
  }

  /** An entry of a page table comes to lead to another table: it is watched as well. */
  #link(unit: WatchedUnit, page: number, hi: number, lo: number): void {
    const level = unit.levels.get(page) ?? 0
    if (level < 2 || (lo & PRESENT) === 0 || (lo & PAGE_SIZE) !== 0) return
    const table = Math.floor(numberOf(hi & ADDRESS_HI, lo) / PAGE_BYTES)
    this.#watch(unit, table, ALL)
    this.#setLevel(unit, table, level - 1)
  }

  #setLevel({ name, levels }: WatchedUnit, page: number, level: number): void {
    const before = levels.get(page) ?? 0
    if (before === level) return
    levels.set(page, level)
    this.#journal.change(keyOf('table-watch', name, page), before, level, () => levels.set(page, before))
  }

  #read(unit: WatchedUnit, log: RecordLog, seq: number, slot: number): void {
    const page = pageAt(log, seq, slot)
    // 0 where the tables above lead nowhere.
    if (page !== 0) this.#watch(unit, page, ALL)
  }

  #walked(unit: WatchedUnit, log: RecordLog, seq: number): void {
    const hi = log.slot(seq, WALK.iova + 1)
    const lo = log.slot(seq, WALK.iova)
    for (let level = 1; level <= LEVELS; level++) {
      const page = log.slot(seq, WALK.t1 + level - 1) >>> 0
      if (page === 0) continue
      this.#watch(unit, page, indexAt(hi, lo, level))
      this.#setLevel(unit, page, level)
    }
  }

  #unitOf(log: RecordLog, number: number): WatchedUnit {
    for (let i = 0; i < this.#units.length; i++) {
      const unit = this.#units[i] as WatchedUnit
      if (unit.number === number) return unit
    }
    const unit: WatchedUnit = { name: log.names.word(number), number, levels: new Map(), pages: new Map() }
    this.#units.push(unit)
    return unit
  }

  #watch(unit: WatchedUnit, page: number, word: number): void {
    let set = unit.pages.get(page)
    if (set === undefined) {
      // An empty set watches nothing: it may stay when a machine goes back.
      set = new Int32Array(LANES)
      unit.pages.set(page, set)
      this.#noteBit(page)
    }
    if (word !== ALL) this.#add(unit.name, page, set, word >>> 5, 1 << (word & 31))
    else for (let lane = 0; lane < LANES; lane++) this.#add(unit.name, page, set, lane, ALL)
  }

  #add(unit: string, page: number, set: Int32Array, lane: number, bits: number): void {
    const before = set[lane] as number
    if ((before & bits) === bits) return
    set[lane] = before | bits
    if (!this.#journal.on) return
    this.#journal.change(keyOf('table-watch', unit, page, lane), before, before | bits, () => {
      set[lane] = before
    })
  }

  #noteBit(page: number): void {
    if (page >= QUICK_PAGES) {
      this.#hasFarPages = true
      return
    }
    const lane = page >>> 5
    if (lane >= this.#bits.length) {
      const grown = new Int32Array(Math.max(lane + 1, this.#bits.length * 2))
      grown.set(this.#bits)
      this.#bits = grown
    }
    this.#bits[lane] = (this.#bits[lane] as number) | (1 << (page & 31))
  }
}

const pageAt = (log: RecordLog, seq: number, slot: number): number =>
  Math.floor(numberOf(log.slot(seq, slot + 1), log.slot(seq, slot)) / PAGE_BYTES)

/** Which word of a table of a level an address needs. */
function indexAt(hi: number, lo: number, level: number): number {
  const shift = PAGE_SHIFT + LEVEL_BITS * (level - 1)
  const low = shift < 32 ? lo >>> shift : 0
  const high = shift < 32 ? hi << (32 - shift) : hi >>> (shift - 32)
  return (low | high) & (WORDS - 1)
}
