import { callNumber } from '../../bits/call.ts'
import { floorLog2, hex, hiOf, loOf, wordOf } from '../../bits/u64.ts'
import type { SpaprPhb } from '../../hw/spapr-phb.ts'
import type { WindowShape } from '../../hw/spapr-tce-table.ts'
import type { RtasPort } from '../../kernel/ports.ts'
import {
  CREATE_PE_DMA_WINDOW,
  QUERY_PE_DMA_WINDOW,
  REMOVE_PE_DMA_WINDOW,
  RESET_PE_DMA_WINDOW,
} from '../../kernel/qemu/calls.ts'
import { SEEN } from './knowledge.ts'
import { type PseriesWindows, phbIndexOf } from './pseries-windows.ts'
import type { ReplayWindows } from './replay-windows.ts'
import type { Tally } from './tally.ts'

const TOKEN = {
  query: callNumber(QUERY_PE_DMA_WINDOW),
  create: callNumber(CREATE_PE_DMA_WINDOW),
  remove: callNumber(REMOVE_PE_DMA_WINDOW),
  reset: callNumber(RESET_PE_DMA_WINDOW),
} as const

interface Shown {
  readonly line: number
}

interface ShownWindow extends Shown {
  readonly buid: bigint
  readonly cfg: number
  readonly pageBytes: bigint
  readonly windowBytes: bigint
  readonly start: bigint
  readonly liobn: number
}

const OK = 'status 0'

/** Replays the dynamic window calls that a log shows through the model's own RTAS, and compares. */
export class DdwCalls {
  readonly #rtas: RtasPort
  readonly #units: PseriesWindows
  readonly #windows: ReplayWindows
  readonly #tally: Tally
  /** The host bridge whose default window came back with the last call. */
  #restored: SpaprPhb | undefined

  constructor(parts: { rtas: RtasPort; units: PseriesWindows; windows: ReplayWindows; tally: Tally }) {
    this.#rtas = parts.rtas
    this.#units = parts.units
    this.#windows = parts.windows
    this.#tally = parts.tally
  }

  /** The page sizes are the machine's own choice: the first query teaches them, later ones must agree. */
  query(
    q: Shown & { buid: bigint; cfg: number; windows: number; bytesMax: bigint; pageSizes: number },
  ): void {
    const phb = this.#units.phbOfBuid(q.buid)
    if (phb === undefined) {
      this.#tally.unjudgedAnswers++
      return
    }
    this.#units.learnPageSizes(phb, q.pageSizes)
    this.#openIfNew(phb, q.line)
    const out = this.#rtas.call(TOKEN.query, [q.cfg, hiOf(q.buid), loOf(q.buid)], 5)
    const [status = -1, windows = 0, largest = 0, mask = 0] = out
    const model = `status ${status}, ${windows} windows, mask ${hex(mask >>> 0)}, largest ${hex(largest >>> 0)}`
    const log = `${OK}, ${q.windows} windows, mask ${hex(q.pageSizes)}, largest ${hex(q.bytesMax)}`
    this.#compare(phb, { line: q.line, call: `ddw_query buid=${hex(q.buid)}`, log, model })
  }

  /** The line shows the whole window: it is taken as it stands there, whatever the model would have made. */
  create(c: ShownWindow): void {
    const claimed = this.#windows.claim(c.liobn)
    this.#windows.settle()
    const phb = this.#units.phbOfBuid(c.buid)
    if (phb === undefined) {
      this.#tally.unjudgedAnswers++
      return
    }
    this.#openIfNew(phb, c.line)
    const call = `ddw_create buid=${hex(c.buid)} page size=${hex(c.pageBytes)} requested=${hex(c.windowBytes)}`
    const log = `${OK}, liobn ${hex(c.liobn)}, start ${hex(c.start)}`
    const pageShift = floorLog2(c.pageBytes)
    const windowShift = floorLog2(c.windowBytes)
    if (c.pageBytes !== 1n << BigInt(pageShift) || c.windowBytes !== 1n << BigInt(windowShift)) {
      const model = 'no power of two can be asked for'
      this.#tally.diverge({ line: c.line, what: 'answer', call, log, model, rule: 'answer-differs' })
      return
    }
    const shape = { pageShift, busOffset: c.start, entries: 2 ** (windowShift - pageShift) }
    const model = this.#create(phb, c, shape)
    this.#compare(phb, { line: c.line, call, log, model })
    if (model !== log) this.#units.open(c.liobn, shape, CREATE_PE_DMA_WINDOW.name)
    this.#windows.adopt(c.liobn, SEEN, claimed?.inKvm ?? false)
  }

  /** What the model answers; where that is another window than the log's, nothing stays of it. */
  #create(phb: SpaprPhb, c: ShownWindow, { pageShift, entries }: WindowShape): string {
    // Which of two free tables QEMU takes depends on the order of a hash: the log's choice is adopted.
    const chosen = phb.tables.find((t) => t.window === null && t.liobn === c.liobn)
    if (chosen !== undefined && phb.freeTable !== chosen && phb.openWindows === 0) {
      const busOffset = phb.defaultBusOffset
      chosen.open({ pageShift, busOffset, entries })
      return `${OK}, liobn ${hex(c.liobn)}, start ${hex(busOffset)}`
    }
    const args = [c.cfg, hiOf(c.buid), loOf(c.buid), pageShift, floorLog2(c.windowBytes)]
    const [status = -1, liobn = 0, hi = 0, lo = 0] = this.#rtas.call(TOKEN.create, args, 4)
    if (status !== 0) return `status ${status}`
    if (liobn >>> 0 !== c.liobn) this.#units.close(liobn >>> 0, CREATE_PE_DMA_WINDOW.name)
    return `${OK}, liobn ${hex(liobn >>> 0)}, start ${hex(wordOf(hi, lo))}`
  }

  remove(r: Shown & { liobn: number }): void {
    const phb = this.#units.phb(phbIndexOf(r.liobn))
    if (phb !== undefined) this.#openIfNew(phb, r.line)
    const first = phb?.tables[0]
    const before = first?.window
    const [status = -1] = this.#rtas.call(TOKEN.remove, [r.liobn | 0], 1)
    const call = `ddw_remove liobn=${hex(r.liobn)}`
    this.#compare(phb, { line: r.line, call, log: OK, model: `status ${status}` })
    const isRestored = before === null && first?.window !== null
    this.#restored = isRestored ? phb : undefined
  }

  /** By the guest, or because the last window went: then the line belongs to the removal before it. */
  reset(r: Shown & { buid: bigint; cfg: number }): void {
    const phb = this.#units.phbOfBuid(r.buid)
    const liobn = phb?.tables[0]?.liobn
    if (phb === undefined || liobn === undefined) {
      this.#tally.unjudgedAnswers++
      return
    }
    const claimed = this.#windows.claim(liobn)
    this.#windows.settle()
    if (this.#restored !== phb) {
      const [status = -1] = this.#rtas.call(TOKEN.reset, [r.cfg, hiOf(r.buid), loOf(r.buid)], 1)
      const call = `ddw_reset buid=${hex(r.buid)}`
      this.#compare(phb, { line: r.line, call, log: OK, model: `status ${status}` })
    }
    this.#restored = undefined
    this.#windows.adopt(liobn, SEEN, claimed?.inKvm ?? false)
    this.#windows.isKnown(liobn)
  }

  /** A PHB that the log names before its default window was seen to open had it before the log began. */
  #openIfNew(phb: SpaprPhb, line: number): void {
    const [first] = phb.tables
    if (first !== undefined && phb.openWindows === 0 && !this.#windows.hasSeen(first.liobn)) {
      this.#windows.assumeDefault(first.liobn, line)
    }
  }

  /** What a host bridge does that had windows before the log begins cannot be judged where it differs. */
  #compare(
    phb: SpaprPhb | undefined,
    { line, call, log, model }: { line: number; call: string; log: string; model: string },
  ): void {
    if (log === model) this.#tally.match(line)
    else if (this.#windows.isAssumed(phb?.tables[0]?.liobn ?? -1)) this.#tally.unjudgedAnswers++
    else this.#tally.diverge({ line, what: 'answer', call, log, model, rule: 'answer-differs' })
  }
}
