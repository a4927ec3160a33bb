import { type ReasonCount, Reasons } from '../reasons.ts'
import type { Divergence } from '../result.ts'
import { KEPT_MAX } from '../tally.ts'

/** How translations stand to what the kernel mapped. */
export const STANDING = {
  MAPPED: 'the kernel maps the page there',
  UNMAPPED: 'the kernel has unmapped the page, and not flushed it yet',
  NOT_SEEN: 'the kernel was not seen mapping the page',
  AWAY: "the kernel's trace does not reach here: it begins later, has ended, or lost events",
} as const

/** What the trace of a guest's kernel gave beside QEMU's, or alone. Plain data. */
export interface FtraceResult {
  readonly maps: number
  readonly unmaps: number
  readonly pageRequests: number
  /** Maps and unmaps whose domain no line shows: the rules do not see them. */
  readonly unplaced: number
  readonly flushes: {
    readonly total: number
    /** Descriptors that QEMU's trace shows as well; without such a trace there is none. */
    readonly matched: number
    readonly unmatched: number
    /** Those behind lost events that look like others: nothing tells where they belong. */
    readonly adrift: number
  }
  /** Descriptors of QEMU's trace, since the first that both show, that the kernel's does not have. */
  readonly unshown: number
  /** How translations of QEMU's trace stand to the maps. */
  readonly standings: readonly ReasonCount[]
  readonly diverged: number
}

/** Counts what comes of the two traces of a boot. */
export class FtraceTally {
  unplaced = 0
  matched = 0
  unmatched = 0
  adrift = 0
  unshown = 0
  diverged = 0
  readonly standings = new Reasons()
  readonly divergences: Divergence[] = []

  diverge(divergence: Omit<Divergence, 'what'>): void {
    this.diverged++
    if (this.divergences.length < KEPT_MAX) this.divergences.push({ what: 'translation', ...divergence })
  }

  result(log: {
    readonly maps: number
    readonly unmaps: number
    readonly flushes: number
    readonly pageRequests: number
  }): FtraceResult {
    const { maps, unmaps, pageRequests } = log
    const { unplaced, matched, unmatched, adrift, unshown, diverged } = this
    const flushes = { total: log.flushes, matched, unmatched, adrift }
    const standings = this.standings.all()
    return { maps, unmaps, pageRequests, unplaced, flushes, unshown, standings, diverged }
  }
}
