import { type ReasonCount, Reasons } from '../reasons.ts'
import type { Divergence } from '../result.ts'
import { KEPT_MAX } from '../tally.ts'

/** What joining the message log of a back end with the trace of its run gave. Plain data. */
export interface VhostResult {
  /** Messages of QEMU and misses of the back end. */
  readonly messages: { readonly total: number; readonly matched: number; readonly unmatched: number }
  /** What the matched ones were. */
  readonly reasons: readonly ReasonCount[]
  /** Why the others have no partner. */
  readonly unmatched: readonly ReasonCount[]
  /** Flushes of the IOMMU, by what came of them. */
  readonly flushes: readonly ReasonCount[]
  /** Requests that the back end says it has done, and bytes of its buffers that it reached. */
  readonly requests: number
  readonly bytes: number
  /** Buffers of requests whose maps a flush took while the request was under way. */
  readonly overtaken: number
  /** Maps that the IOTLB holds at the end. */
  readonly maps: number
  /** Messages that contradict the trace. */
  readonly diverged: number
}

/** Counts messages as they are matched, or not. */
export class MessageTally {
  readonly matched = new Reasons()
  readonly unmatched = new Reasons()
  readonly flushes = new Reasons()
  requests = 0
  bytes = 0
  overtaken = 0
  diverged = 0
  readonly divergences: Divergence[] = []

  diverge(divergence: Omit<Divergence, 'what'>): void {
    this.diverged++
    if (this.divergences.length < KEPT_MAX) this.divergences.push({ what: 'message', ...divergence })
  }

  result(maps: number): VhostResult {
    const [matched, unmatched] = [this.matched.total, this.unmatched.total]
    return {
      messages: { total: matched + unmatched, matched, unmatched },
      reasons: this.matched.all(),
      unmatched: this.unmatched.all(),
      flushes: this.flushes.all(),
      requests: this.requests,
      bytes: this.bytes,
      overtaken: this.overtaken,
      maps,
      diverged: this.diverged,
    }
  }
}
