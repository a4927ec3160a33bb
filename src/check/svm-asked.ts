import { slotMap } from '../trace/event.ts'
import { PAGE_REQUEST } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { NEVER } from './vtd-flushes.ts'

const ASKED = slotMap('vtd.page-request')
const TAKEN = slotMap('svm.request')
/** Requests that are remembered at most; those of one kind go together, the oldest first. */
const KEPT_MAX = 4096

/** When devices asked for pages: of each request that software has handled, the record with which it came. */
export class AskedRequests {
  /** By device, PASID, group and address: the records of requests that wait, in order. */
  readonly #asked = new Map<string, number[]>()

  /** A request has come to the unit. */
  asked(log: RecordLog, seq: number): void {
    if (log.names.word(log.slot(seq, ASKED.result)) !== 'queued') return
    const key = keyAt(log, seq, ASKED)
    const waiting = this.#asked.get(key)
    if (waiting !== undefined) waiting.push(seq)
    else {
      const [oldest] = this.#asked.size < KEPT_MAX ? [] : this.#asked.keys()
      if (oldest !== undefined) this.#asked.delete(oldest)
      this.#asked.set(key, [seq])
    }
  }

  /**
   * A request is handled, or waits for a work that handles it later.
   *
   * @returns the record with which it came; `NEVER` where that is not known
   */
  taken(log: RecordLog, seq: number): number {
    const key = keyAt(log, seq, TAKEN)
    const waiting = this.#asked.get(key)
    const asked = waiting?.[0]
    if (waiting === undefined || asked === undefined) return NEVER
    if (hasMore(log, seq)) return asked
    waiting.shift()
    if (waiting.length === 0) this.#asked.delete(key)
    return asked
  }
}

/** Of a group that waits for a work the last request has another record, with what came of it. */
const hasMore = (log: RecordLog, seq: number): boolean =>
  log.names.word(log.slot(seq, TAKEN.result)) === 'queued' &&
  (log.slot(seq, TAKEN.flags) & (PAGE_REQUEST.LAST | PAGE_REQUEST.PRIVATE_DATA)) !== 0

function keyAt(log: RecordLog, seq: number, at: typeof ASKED | typeof TAKEN): string {
  const slot = (n: number) => log.slot(seq, n) >>> 0
  return `${slot(at.source)} ${slot(at.pasid)} ${slot(at.group)} ${slot(at.iova)} ${slot(at.iova + 1)}`
}
