import { DMA_CODES } from '../bits/codes.ts'
import { assert } from '../bits/errors.ts'
import { Cells, type Journal, keyOf } from '../bits/state.ts'
import { hiOfNumber, pageOf } from '../bits/u64.ts'
import type { BusMemory } from '../memory/ports.ts'
import { TCE_PERM, TCE_READ, TCE_WRITE } from '../table/tce-entry.ts'
import { entryAt, OUTSIDE, type TceWindow } from '../table/tce-window.ts'
import { KIND } from '../trace/event.ts'
import type { Stage } from '../trace/stage.ts'
import type { DmaPort } from './dma-port.ts'
import { type DmaRequest, recordDone, recordRequest } from './dma-request.ts'
import type { IommuListener } from './iommu-listener.ts'
import type { SpaprTceTable } from './spapr-tce-table.ts'

/** Why the first byte of a request that did not get through stayed behind. */
export const DMA_FAULT = { NONE: 0, OUTSIDE: 1, REFUSED: 2, NO_MEMORY: 3, FROZEN: 4, BLOCKED: 5 } as const

const TRANSLATE = KIND['dma.translate']

const MEMORY_PAGE_SHIFT = 12
const MEMORY_PAGE_BYTES = 1 << MEMORY_PAGE_SHIFT
/** Pages that `BusMemory` can be asked for. */
const MEMORY_PAGES = 2 ** 40
const { MEMTX_OK, MEMTX_DECODE_ERROR } = DMA_CODES

/** What a device's requests meet: the tables of one bus in front of memory. */
export interface DmaSpaceParts {
  readonly unit: string
  readonly tables: readonly SpaprTceTable[]
  readonly memory: BusMemory
  readonly stage: Stage
  readonly journal: Journal
}

/**
 * The bus addresses behind a PHB or a VIO device, as its bus masters see them.
 *
 * Where the windows of two tables meet the later table wins, and the other shows beyond its end. What gets no
 * answer reads as zeros and swallows writes, four bytes at a time, and each such piece is translated anew: the
 * device learns of it only through the code. Nothing is cached. (QEMU 7.2 hw/ppc/spapr_iommu.c,
 * hw/ppc/spapr_pci.c, softmmu/physmem.c)
 */
export class DmaSpace implements DmaPort {
  readonly unit: string
  readonly tables: readonly SpaprTceTable[]
  /** An emulated bus cuts nobody off. */
  readonly isMmioStopped = false
  /** Results of `translate`: the window and entry met, the permissions there, the start of its page in memory. */
  window: TceWindow | null = null
  entry = OUTSIDE
  perm = 0
  gpaHi = 0
  gpaLo = 0
  /** Results of `request`: bytes that reached their goal, and what was wrong with the first that did not. */
  moved = 0
  fault: number = DMA_FAULT.NONE
  /** The table that wins where two windows meet, and the other one. */
  readonly #upper: SpaprTceTable
  readonly #lower: SpaprTceTable | undefined
  readonly #memory: BusMemory
  readonly #stage: Stage
  readonly #unitName: number
  readonly #bypass: Cells

  constructor({ unit, tables, memory, stage, journal }: DmaSpaceParts) {
    this.unit = unit
    this.tables = tables
    const [lower, upper] = tables
    assert(lower !== undefined && tables.length <= 2, 'a bus has one or two tables')
    this.#upper = upper ?? lower
    this.#lower = upper === undefined ? undefined : lower
    this.#memory = memory
    this.#stage = stage
    this.#unitName = stage.log.names.intern(unit)
    this.#bypass = new Cells(journal, keyOf('bypass', unit), 1)
  }

  /** Bus addresses are memory addresses, past all tables (VIO only). */
  get isBypassed(): boolean {
    return this.#bypass.get(0) !== 0
  }

  set isBypassed(on: boolean) {
    this.#bypass.set(0, on ? 1 : 0)
  }

  /** Registers a listener with every table. False where its flavour is refused. */
  listen(listener: IommuListener): boolean {
    return this.tables.every((table) => table.listen(listener))
  }

  unlisten(listener: IommuListener): void {
    for (const table of this.tables) table.unlisten(listener)
  }

  /** Finds the entry for a bus address. False, and `window` null, where it lies in no window. */
  translate(hi: number, lo: number): boolean {
    // Two fields instead of a loop over `tables`: the loop costs as much as the translation.
    const upper = this.#upper.window
    if (upper !== null) {
      const entry = entryAt(upper, hi, lo)
      if (entry >= 0) return this.#meet(upper, entry)
    }
    const lower = this.#lower?.window ?? null
    if (lower !== null) {
      const entry = entryAt(lower, hi, lo)
      if (entry >= 0) return this.#meet(lower, entry)
    }
    this.window = null
    this.entry = OUTSIDE
    return false
  }

  #meet(window: TceWindow, entry: number): true {
    const { store, pageShift } = window
    store.load(entry)
    this.window = window
    this.entry = entry
    this.perm = store.lo & TCE_PERM
    if (pageShift < 32) {
      this.gpaHi = store.hi
      this.gpaLo = store.lo & -(1 << pageShift)
    } else {
      this.gpaHi = store.hi & -(1 << (pageShift - 32))
      this.gpaLo = 0
    }
    return true
  }

  /**
   * The translation alone, with its one record: for replay and for benches.
   *
   * @param need permissions that the access needs (1 read, 2 write); 0 where it is not known: any is enough
   * @returns whether they are there
   */
  translateOnly(hi: number, lo: number, need: number): boolean {
    if (!this.translate(hi, lo)) {
      this.#recordMiss(hi, lo, need & TCE_WRITE)
      return false
    }
    const allowed = need === 0 ? this.perm !== 0 : (this.perm & need) === need
    this.#recordTranslate(hi, lo, need, allowed)
    return allowed
  }

  /**
   * One DMA request, with its records. `moved` and `fault` then say how it went.
   *
   * @returns the code that the device sees (`DMA_CODES`)
   */
  request({ device, hi, lo, buffer, at, bytes, isWrite }: DmaRequest): number {
    const stage = this.#stage
    const before = stage.cause
    recordRequest(stage, device, hi, lo, bytes, isWrite)
    const code = this.access(hi, lo, buffer, at, bytes, isWrite)
    recordDone(stage, device, this.moved, code)
    stage.cause = before
    return code
  }

  /** The bytes of a request on their way, piece by piece; allocates nothing. Answers the code. */
  access(hi: number, lo: number, buffer: Uint8Array, at: number, bytes: number, isWrite: boolean): number {
    this.moved = 0
    this.fault = DMA_FAULT.NONE
    const isBypassed = this.isBypassed
    let isMissing = false
    let done = 0
    if (
      !isBypassed &&
      bytes > 0 &&
      bytes <= MEMORY_PAGE_BYTES - (lo & 0xfff) &&
      this.#isPlain(hi, lo, isWrite)
    ) {
      // Nearly every request: allowed, and inside one page of memory.
      if (this.#inPage(hi, lo, buffer, at, bytes, isWrite)) {
        this.moved = bytes
        return MEMTX_OK
      }
      this.fault = DMA_FAULT.NO_MEMORY
      done = pieceOf(lo, bytes)
      if (!isWrite) buffer.fill(0, at, at + done)
    }
    while (done < bytes) {
      const left = bytes - done
      const low = (lo >>> 0) + done
      const atLo = low | 0
      const atHi = (hi + hiOfNumber(low)) | 0
      let piece = 0
      if (isBypassed) piece = this.#direct(atHi, atLo, buffer, at + done, left, isWrite)
      else if (this.translate(atHi, atLo)) {
        piece = this.#throughEntry(atHi, atLo, buffer, at + done, left, isWrite)
        isMissing = false
      } else {
        if (!isMissing) this.#recordMiss(atHi, atLo, isWrite ? 1 : 0)
        isMissing = true
        if (this.fault === DMA_FAULT.NONE) this.fault = DMA_FAULT.OUTSIDE
      }
      this.moved += piece
      if (piece === 0) {
        // Windows start and end on memory pages: no translation can begin inside the rest of one.
        piece = isMissing ? Math.min(left, MEMORY_PAGE_BYTES - (atLo & 0xfff)) : pieceOf(atLo, left)
        if (!isWrite) buffer.fill(0, at + done, at + done + piece)
      }
      done += piece
    }
    return this.fault === DMA_FAULT.NONE ? MEMTX_OK : MEMTX_DECODE_ERROR
  }

  /** Whether the entry for a bus address allows the access and leads below 2^52, through a page below 4 GiB. */
  #isPlain(hi: number, lo: number, isWrite: boolean): boolean {
    if (!this.translate(hi, lo) || (this.perm & (isWrite ? TCE_WRITE : TCE_READ)) === 0) return false
    return (this.window as TceWindow).pageShift < 32 && this.gpaHi >>> 20 === 0
  }

  /** Moves bytes that lie in one page of memory, through the entry that `#isPlain` found. False where there is no memory. */
  #inPage(hi: number, lo: number, buffer: Uint8Array, at: number, bytes: number, isWrite: boolean): boolean {
    this.#recordTranslate(hi, lo, isWrite ? TCE_WRITE : TCE_READ, true)
    const within = ((1 << (this.window as TceWindow).pageShift) - 1) | 0
    const page = pageOf(this.gpaHi, this.gpaLo | (lo & within), MEMORY_PAGE_SHIFT)
    const offset = lo & (MEMORY_PAGE_BYTES - 1)
    return isWrite
      ? this.#memory.writePage(page, offset, buffer, at, bytes)
      : this.#memory.readPage(page, offset, buffer, at, bytes)
  }

  /** Moves what one translation reaches; 0 where it is refused or leads to no memory. */
  #throughEntry(
    hi: number,
    lo: number,
    buffer: Uint8Array,
    at: number,
    left: number,
    isWrite: boolean,
  ): number {
    const need = isWrite ? TCE_WRITE : TCE_READ
    const allowed = (this.perm & need) !== 0
    this.#recordTranslate(hi, lo, need, allowed)
    if (!allowed) {
      if (this.fault === DMA_FAULT.NONE) this.fault = DMA_FAULT.REFUSED
      return 0
    }
    const { pageShift } = this.window as TceWindow
    const maskLo = pageShift < 32 ? ((1 << pageShift) - 1) | 0 : -1
    const maskHi = pageShift < 32 ? 0 : (1 << (pageShift - 32)) - 1
    // Of a page of 4 GiB or more, only its last 4 GiB can end before a buffer does.
    const isLastStretch = (hi & maskHi) === maskHi
    const rest = isLastStretch ? (maskLo >>> 0) + 1 - ((lo & maskLo) >>> 0) : left
    const gpaHi = this.gpaHi | (hi & maskHi)
    const gpaLo = this.gpaLo | (lo & maskLo)
    return this.#direct(gpaHi, gpaLo, buffer, at, Math.min(left, rest), isWrite)
  }

  /** Moves bytes until the first page without memory. */
  #direct(hi: number, lo: number, buffer: Uint8Array, at: number, left: number, isWrite: boolean): number {
    let page = pageOf(hi, lo, MEMORY_PAGE_SHIFT)
    let offset = lo & (MEMORY_PAGE_BYTES - 1)
    let done = 0
    while (done < left && page < MEMORY_PAGES) {
      const piece = Math.min(left - done, MEMORY_PAGE_BYTES - offset)
      const there = isWrite
        ? this.#memory.writePage(page, offset, buffer, at + done, piece)
        : this.#memory.readPage(page, offset, buffer, at + done, piece)
      if (!there) break
      done += piece
      offset = 0
      page++
    }
    if (done === 0 && this.fault === DMA_FAULT.NONE) this.fault = DMA_FAULT.NO_MEMORY
    return done
  }

  #recordTranslate(hi: number, lo: number, need: number, allowed: boolean): void {
    const { log, cause, line } = this.#stage
    if (!log.on) return
    const { entry } = this
    const at = log.begin(TRANSLATE, cause)
    const { lanes } = log
    lanes[at] = (this.window as TceWindow).number
    lanes[at + 1] = entry | 0
    lanes[at + 2] = hiOfNumber(entry)
    lanes[at + 3] = lo | 0
    lanes[at + 4] = hi | 0
    lanes[at + 5] = this.gpaLo | 0
    lanes[at + 6] = this.gpaHi | 0
    lanes[at + 7] = this.perm | 0
    lanes[at + 8] = need | 0
    lanes[at + 9] = allowed ? 1 : 0
    lanes[at + 10] = line | 0
    log.commit(TRANSLATE)
  }

  #recordMiss(hi: number, lo: number, write: number): void {
    const { log, cause } = this.#stage
    log.append(KIND['dma.miss'], cause, this.#unitName, lo, hi, write === 0 ? 0 : 1)
  }
}

/** Bytes of the next access to nothing: at most four, aligned to their own number. */
function pieceOf(lo: number, left: number): number {
  let bytes = (lo & 1) !== 0 ? 1 : (lo & 2) !== 0 ? 2 : 4
  while (bytes > left) bytes >>= 1
  return bytes
}
