import { DAMAGED_LINE, LogBatch } from '../../../reader/log-batch.ts'
import { LANES_MAX } from '../../../reader/log-format.ts'
import { QEMU_TRACE } from '../../../reader/qemu-trace-format.ts'
import type { WordTable } from '../../../reader/word-table.ts'

const N = QEMU_TRACE.number
const FIRST_ROWS = 1024

/** Events of intel-iommu that say nothing of what listeners are told: most lines of a trace. */
const IDLE: ReadonlySet<number> = new Set([
  N.vtd_ir_enable,
  N.vtd_ir_irte_get,
  N.vtd_ir_remap,
  N.vtd_ir_remap_type,
  N.vtd_ir_remap_msi,
  N.vtd_ir_remap_msi_req,
  N.vtd_warn_ir_vector,
  N.vtd_warn_ir_trigger,
  N.vtd_warn_invalid_qi_tail,
  N.vtd_irq_generate,
  N.vtd_reg_read,
  N.vtd_reg_write,
  N.vtd_reg_ir_root,
  N.vtd_reg_write_gcmd,
  N.vtd_reg_write_fectl,
  N.vtd_reg_write_iectl,
  N.vtd_reg_ics_clear_ip,
  N.vtd_inv_qi_tail,
  N.vtd_inv_qi_fetch,
  N.vtd_inv_desc_iec,
  N.vtd_fsts_ppf,
  N.vtd_fsts_clear_ip,
  N.vtd_frr_new,
])

/** Whether a row takes part in the story of vhost devices and their IOMMU. */
export const takesPart = (event: number): boolean => event === DAMAGED_LINE || !IDLE.has(event)

/** Rows of a trace that wait for their turn, oldest first. Memory grows with the most that ever waited. */
export class TraceRows {
  /** Rows that were ever taken out: the number of the first one that waits. */
  first = 0
  /** Rows that ever came in. */
  end = 0
  #events = new Uint8Array(FIRST_ROWS)
  #lines = new Float64Array(FIRST_ROWS)
  #times = new Float64Array(FIRST_ROWS)
  #lanes = new Int32Array(FIRST_ROWS * LANES_MAX)
  /** The row that was taken out last, as a batch of one. */
  #one: LogBatch | undefined

  add(batch: LogBatch, row: number): void {
    if (this.end - this.first === this.#events.length) this.#grow()
    const at = this.end & (this.#events.length - 1)
    this.#events[at] = batch.events[row] as number
    this.#lines[at] = batch.lines[row] as number
    this.#times[at] = batch.timesUs[row] as number
    const from = row * LANES_MAX
    for (let i = 0; i < LANES_MAX; i++) this.#lanes[at * LANES_MAX + i] = batch.lanes[from + i] as number
    this.end++
  }

  /** Takes the oldest row out. The batch is used again for the next one. @param texts of the reader */
  take(texts: WordTable): LogBatch {
    this.#one ??= new LogBatch(QEMU_TRACE, texts)
    const one = this.#one
    const at = this.first & (this.#events.length - 1)
    one.count = 1
    one.events[0] = this.#events[at] as number
    one.lines[0] = this.#lines[at] as number
    one.timesUs[0] = this.#times[at] as number
    one.lanes.set(this.#lanes.subarray(at * LANES_MAX, (at + 1) * LANES_MAX))
    this.first++
    return one
  }

  #grow(): void {
    const before = this.#events.length
    const grown = { events: this.#events, lines: this.#lines, times: this.#times, lanes: this.#lanes }
    this.#events = new Uint8Array(before * 2)
    this.#lines = new Float64Array(before * 2)
    this.#times = new Float64Array(before * 2)
    this.#lanes = new Int32Array(before * 2 * LANES_MAX)
    for (let row = this.first; row < this.end; row++) {
      const from = row & (before - 1)
      const at = row & (before * 2 - 1)
      this.#events[at] = grown.events[from] as number
      this.#lines[at] = grown.lines[from] as number
      this.#times[at] = grown.times[from] as number
      this.#lanes.set(grown.lanes.subarray(from * LANES_MAX, (from + 1) * LANES_MAX), at * LANES_MAX)
    }
  }
}
