import { hex, numberOf, pageOf } from '../bits/u64.ts'
import { KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { busAddress, isFree, requestOf } from './describe.ts'
import { because } from './evidence.ts'
import type { FindingList } from './finding-list.ts'
import { FrameOwners } from './frame-owners.ts'
import { callerOf, type HardwareTable, processOf } from './hardware-tables.ts'
import { NO_RECORD } from './lives.ts'
import type { ReachWatcher } from './uses.ts'
import type { WindowShadow, WindowShadows } from './window-shadow.ts'
import { bytesText } from './words.ts'

const RULE = 'foreign-memory'
const SET = slotMap('hw.set')
const WINDOW = slotMap('hw.window')
const T = slotMap('dma.translate')
const REQUEST = slotMap('dma.request')
const DMA_REQUEST = KIND['dma.request']
const UNIT_SHIFT = 12
const UNIT_BYTES = 4096
const TCE_PERM = 3
/** No interned name. */
const NO_OWNER = -1
/** What is wrong: part of the key of a finding. */
const MAPPED_FOREIGN = 6
const REACHED_FOREIGN = 7
const REACHES_ALL = 8

/** A frame behind an entry of a hardware table. */
interface Place {
  readonly table: HardwareTable
  readonly entry: number
  readonly frame: number
}

/**
 * The part of `foreign-memory` that is about frames of the host: an entry of a hardware table that a process has
 * set maps memory of that process, and while a device uses the entry the memory has not changed hands.
 *
 * What the kernel sets outside of calls is its own business, as is its window without a table, as long as the other
 * window of the PE leads to no table that a process pays for. Frames of which no record speaks, such as the memory of
 * a device, are not judged.
 */
export class HostIsolation implements ReachWatcher {
  readonly #windows: WindowShadows
  readonly #list: FindingList
  readonly #frames = new FrameOwners()
  // The call that set an entry last, and the process that it was in; entries come many in a call.
  #cause = NO_RECORD
  #process = ''

  constructor(windows: WindowShadows, list: FindingList) {
    this.#windows = windows
    this.#list = list
  }

  /** Takes a `page.own` record of the space `hpa` in. */
  own(log: RecordLog, seq: number): void {
    this.#frames.own(log, seq)
  }

  /** An entry is set: all of its IOMMU page is memory of the process that asked for it. */
  set(log: RecordLog, seq: number): void {
    const lanes = log.lanesOf(seq)
    const row = log.rowOf(seq)
    const lo = lanes[row + SET.tce] as number
    if ((lo & TCE_PERM) === 0) return
    const table = this.#windows.hardware.find((lanes[row] as number) >>> 0)
    if (table === undefined || !this.#hasProcess(log, seq)) return
    const page = pageOf(lanes[row + SET.tce + 1] as number, lo, UNIT_SHIFT)
    // Entries of one record map neighbouring pages, or all the same one.
    const isRow = (lanes[row + SET.step] as number) >= 0
    const count = numberOf(lanes[row + SET.count + 1] as number, lanes[row + SET.count] as number)
    const frame = this.#foreignFrame(log, page, isRow ? count * table.units : table.units)
    if (frame < 0) return
    const first = numberOf(lanes[row + SET.entry + 1] as number, lanes[row + SET.entry] as number)
    const behind = Math.max(0, Math.floor((frame * 2 ** this.#frames.subShift - page) / table.units))
    this.#mappedForeign(log, seq, { table, entry: first + behind, frame })
  }

  /** A window of a PE begins a life: of a table that a process pays for and of all memory, a PE reaches one only. */
  programmed(log: RecordLog, seq: number): void {
    const beside = this.#windows.beside(log, seq)
    if (log.slot(seq, WINDOW.window) === 0 || beside === undefined) return
    const number = log.slot(seq, WINDOW.table) >>> 0
    const table = number === 0 ? beside.hardware?.table : this.#windows.hardware.find(number)
    if (table === undefined || table.isKernels || (number !== 0 && !beside.isBypass)) return
    const by = beside.openedBy
    const key = { rule: RULE, window: table.number, entry: 0, by, ended: seq, outcome: REACHES_ALL }
    if (this.#list.again(key)) return
    const index = log.slot(seq, WINDOW.index) ^ (number === 0 ? 0 : 1)
    const payer = processOf(log, table.maker) || 'a process'
    const message =
      `${beside.place} leads to a table of ${payer}, and its window ${index} has no table: ` +
      'it reaches all memory of the host'
    this.#add(log, message, by, table.madeBy, seq)
  }

  /** The first frame behind 4 KiB pages that is known to be of another than the process, or -1. */
  #foreignFrame(log: RecordLog, page: number, pages: number): number {
    const { subShift } = this.#frames
    const end = Math.ceil((page + pages) / 2 ** subShift)
    let owner = NO_OWNER
    for (let frame = Math.floor(page / 2 ** subShift); frame < end; frame++) {
      const next = this.#frames.ownerOf(frame)
      if (next === owner || this.#frames.recordOf(frame) === NO_RECORD) continue
      if (log.names.word(next) !== this.#process) return frame
      owner = next
    }
    return -1
  }

  /** Where a device got to memory: what it reached has not changed hands since the entry was set. */
  reached(log: RecordLog, seq: number, window: WindowShadow): void {
    const table = window.hardware?.table
    if (table === undefined) return
    const lanes = log.lanesOf(seq)
    const row = log.rowOf(seq)
    table.tce.load(lanes[row + T.entry + 1] as number, lanes[row + T.entry] as number)
    const { begun } = table.tce
    if (begun === NO_RECORD) return
    const lo = lanes[row + T.gpa] as number
    const page = pageOf(lanes[row + T.gpa + 1] as number, lo, UNIT_SHIFT)
    const { subShift } = this.#frames
    const last = page + this.#pagesBehind(log, seq, lo & (UNIT_BYTES - 1), table, page)
    const end = Math.floor(last / 2 ** subShift)
    for (let frame = Math.floor(page / 2 ** subShift); frame <= end; frame++) {
      if (this.#frames.recordOf(frame) <= begun) continue
      const entry = numberOf(lanes[row + T.entry + 1] as number, lanes[row + T.entry] as number)
      this.#reachedForeign(log, seq, window, { table, entry, frame })
      return
    }
  }

  /** How many 4 KiB pages behind the first one a request reaches inside of one IOMMU page. */
  #pagesBehind(log: RecordLog, seq: number, offset: number, table: HardwareTable, page: number): number {
    const cause = log.causeOf(seq)
    if (cause === NO_RECORD || !log.has(cause) || log.kindNumberOf(cause) !== DMA_REQUEST) return 0
    const pages = Math.floor((offset + (log.slot(cause, REQUEST.bytes) >>> 0) - 1) / UNIT_BYTES)
    return Math.max(0, Math.min(pages, table.units - 1 - (page % table.units)))
  }

  #hasProcess(log: RecordLog, seq: number): boolean {
    const cause = log.causeOf(seq)
    if (cause !== this.#cause) {
      this.#cause = cause
      this.#process = processOf(log, callerOf(log, seq))
    }
    return this.#process !== ''
  }

  #mappedForeign(log: RecordLog, seq: number, place: Place): void {
    const { table, entry, frame } = place
    const by = this.#frames.recordOf(frame)
    const key = { rule: RULE, window: table.number, entry, by, ended: seq, outcome: MAPPED_FOREIGN }
    if (this.#list.again(key)) return
    const message =
      `a ${bytesText(2 ** table.pageShift)} IOMMU page that ${this.#process} mapped exposes ` +
      `${this.#memoryText(log, frame)}, at ${busText(place)}`
    this.#add(log, message, by, seq)
  }

  #reachedForeign(log: RecordLog, seq: number, window: WindowShadow, place: Place): void {
    const { table, entry, frame } = place
    const [by, ended] = [table.tce.begun, this.#frames.recordOf(frame)]
    const key = { rule: RULE, window: window.number, entry, by, ended, outcome: REACHED_FOREIGN }
    if (this.#list.again(key)) return
    const device = requestOf(log, seq)?.device || 'a device'
    const does = (log.slot(seq, T.need) & 2) === 0 ? 'read' : 'wrote'
    const message =
      `${device} ${does} ${this.#memoryText(log, frame)} at ${busText(place)}: ` +
      'it changed hands after it was mapped'
    this.#add(log, message, by, ended, seq)
  }

  /** A frame in words, with who has it now. */
  #memoryText(log: RecordLog, frame: number): string {
    const owner = log.names.word(this.#frames.ownerOf(frame))
    const memory = `memory ${hex(frame * 2 ** (this.#frames.subShift + UNIT_SHIFT))}`
    return isFree(owner) ? `${memory}, which is free` : `${memory} of ${owner}`
  }

  #add(log: RecordLog, message: string, ...seqs: readonly number[]): void {
    const chain = because({ log, windows: this.#windows }, ...seqs)
    this.#list.add({ rule: RULE, message, because: chain, inferred: false })
  }
}

const busText = ({ table, entry }: Place): string => `bus address ${hex(busAddress(table, entry))}`
