import { callNumber } from '../../bits/call.ts'
import { floorLog2, hex, hiOf, loOf, wordOf } from '../../bits/u64.ts'
import type { SpaprPhb } from '../../hw/spapr-phb.ts'
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

const OK = 'status 0'

/** Replays the dynamic window calls that a log shows through the model's own RTAS, and compares. */
export class DdwCalls {
  readonly #rtas: RtasPort
  readonly #units: PseriesWindows
  readonly #windows: ReplayWindows
  readonly #tally: Tally

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
    this.#units.learnPageSizes(q.pageSizes)
    const phb = this.#units.phbOfBuid(q.buid)
    if (phb === undefined) {
      this.#tally.unjudgedAnswers++
      return
    }
    this.#openIfNew(phb, q.line)
    const out = this.#rtas.call(TOKEN.query, [q.cfg, hiOf(q.buid), loOf(q.buid)], 5)
    const [status = -1, windows = 0, largest = 0, mask = 0] = out
    const model = `status ${status}, ${windows} windows, mask ${hex(mask >>> 0)}, largest ${hex(largest >>> 0)}`
    const log = `${OK}, ${q.windows} windows, mask ${hex(q.pageSizes)}, largest ${hex(q.bytesMax)}`
    this.#compare(q.line, `ddw_query buid=${hex(q.buid)}`, log, model)
  }

  create(
    c: Shown & {
      buid: bigint
      cfg: number
      pageBytes: bigint
      windowBytes: bigint
      start: bigint
      liobn: number
    },
  ): void {
    const claimed = this.#windows.claim(c.liobn)
    this.#windows.settle()
    const phb = this.#units.phbOfBuid(c.buid)
    const call = `ddw_create buid=${hex(c.buid)} page size=${hex(c.pageBytes)} requested=${hex(c.windowBytes)}`
    const log = `${OK}, liobn ${hex(c.liobn)}, start ${hex(c.start)}`
    if (phb === undefined) {
      this.#tally.unjudgedAnswers++
      return
    }
    this.#openIfNew(phb, c.line)
    const pageShift = floorLog2(c.pageBytes)
    const windowShift = floorLog2(c.windowBytes)
    if (c.pageBytes !== 1n << BigInt(pageShift) || c.windowBytes !== 1n << BigInt(windowShift)) {
      this.#compare(c.line, call, log, 'no power of two can be asked for')
      return
    }
    // Which of two free tables QEMU takes depends on the order of a hash: the log's choice is adopted.
    const free = phb.tables.filter((t) => t.window === null)
    const chosen = free.find((t) => t.liobn === c.liobn)
    if (chosen !== undefined && phb.freeTable !== chosen && phb.openWindows === 0) {
      const busOffset = phb.defaultBusOffset
      chosen.open({ pageShift, busOffset, entries: 2 ** (windowShift - pageShift) })
      this.#compare(c.line, call, log, `${OK}, liobn ${hex(c.liobn)}, start ${hex(busOffset)}`)
    } else {
      const args = [c.cfg, hiOf(c.buid), loOf(c.buid), pageShift, windowShift]
      const [status = -1, liobn = 0, hi = 0, lo = 0] = this.#rtas.call(TOKEN.create, args, 4)
      const got = status === 0 ? `, liobn ${hex(liobn >>> 0)}, start ${hex(wordOf(hi, lo))}` : ''
      this.#compare(c.line, call, log, `status ${status}${got}`)
    }
    this.#windows.adopt(c.liobn, SEEN, claimed?.inKvm ?? false)
  }

  remove(r: Shown & { liobn: number }): void {
    const phb = this.#units.phb(phbIndexOf(r.liobn))
    if (phb !== undefined) this.#openIfNew(phb, r.line)
    const [status = -1] = this.#rtas.call(TOKEN.remove, [r.liobn | 0], 1)
    this.#compare(r.line, `ddw_remove liobn=${hex(r.liobn)}`, OK, `status ${status}`)
  }

  reset(r: Shown & { buid: bigint; cfg: number }): void {
    const phb = this.#units.phbOfBuid(r.buid)
    if (phb === undefined) {
      this.#tally.unjudgedAnswers++
      return
    }
    const claimed = this.#windows.claim(phb.tables[0]?.liobn ?? 0)
    this.#windows.settle()
    const [status = -1] = this.#rtas.call(TOKEN.reset, [r.cfg, hiOf(r.buid), loOf(r.buid)], 1)
    this.#compare(r.line, `ddw_reset buid=${hex(r.buid)}`, OK, `status ${status}`)
    this.#windows.adopt(phb.tables[0]?.liobn ?? 0, SEEN, claimed?.inKvm ?? false)
  }

  /** A PHB that the log names before its default window was seen to open had it before the log began. */
  #openIfNew(phb: SpaprPhb, line: number): void {
    const [first] = phb.tables
    if (first !== undefined && phb.openWindows === 0 && !this.#windows.hasSeen(first.liobn)) {
      this.#windows.assumeDefault(first.liobn, line)
    }
  }

  #compare(line: number, call: string, log: string, model: string): void {
    if (log === model) this.#tally.matched++
    else this.#tally.diverge({ line, what: 'answer', call, log, model, rule: 'answer-differs' })
  }
}
