import { resolveProfile } from '../../../bits/errata.ts'
import { QEMU_TRACE_AND_MESSAGES } from '../../../check/coverage.ts'
import { Judge } from '../../../check/judge.ts'
import type { LogSummary } from '../../../reader/log-summary.ts'
import { LedgerCounter } from '../../../report/ledger.ts'
import { RecordLog } from '../../../trace/record-log.ts'
import { ERRATA } from '../../registry.ts'
import { KEEP_RECORDS, type ReplayOptions } from '../log-source.ts'
import type { ReplayResult } from '../result.ts'
import { VhostJoin } from './vhost-join.ts'

/** Whose errata a run has where nobody says: what vhost is told has changed within the stable series. */
export const DEFAULT_STABLE_QEMU = 'qemu-7.2.22'

/**
 * Replays the two logs of a run: the trace of QEMU, and what a vhost-user back end saw. Bytes of either may come at any
 * time; who reads files reads on in the one that `wants` names, so that little must wait.
 *
 * @example
 * const replay = new JoinedReplay({ source: 'boot.trace' })
 * replay.trace(traceBytes)
 * replay.messages(messageBytes)
 * isClean(replay.end())
 */
export class JoinedReplay {
  readonly log: RecordLog
  readonly #options: Omit<ReplayOptions, 'from'>
  readonly #profile: string
  readonly #judge = new Judge()
  readonly #counter: LedgerCounter
  readonly #join: VhostJoin
  #trace: LogSummary | undefined
  #messages: LogSummary | undefined

  /** @throws IommulatorError ERR_PROFILE for an unknown profile */
  constructor(options: Omit<ReplayOptions, 'from'>) {
    this.#options = options
    this.#profile = options.profile ?? DEFAULT_STABLE_QEMU
    this.log = new RecordLog({ keepRecords: KEEP_RECORDS })
    options.watch?.(this.log)
    this.#counter = new LedgerCounter(this.#judge)
    if (options.bare !== true) {
      this.#judge.attach(this.log)
      this.#counter.attach(this.log)
    }
    const profile = resolveProfile(ERRATA, this.#profile)
    this.log.emit('run.begin', null, { source: options.source, profile: profile.name })
    const { onAnswer } = options
    this.#join = new VhostJoin({ log: this.log, profile, ...(onAnswer !== undefined && { onAnswer }) })
  }

  /** The log of which more is needed to go on. */
  get wants(): 'trace' | 'messages' {
    return this.#join.wants
  }

  get events(): number {
    return this.#join.events
  }

  trace(bytes: Uint8Array): void {
    this.#join.trace(bytes)
  }

  messages(bytes: Uint8Array): void {
    this.#join.messages(bytes)
  }

  /** The trace is over. */
  endTrace(): void {
    this.#trace ??= this.#join.endTrace()
  }

  /** The message log is over. */
  endMessages(): void {
    this.#messages ??= this.#join.endMessages()
  }

  /** Both logs are over. */
  end(): ReplayResult {
    this.endTrace()
    this.endMessages()
    this.#join.finish()
    this.log.emit('run.end', null, { settled: 0 })
    this.#judge.finish()
    const { calls, tally, maps } = this.#join
    return {
      source: this.#options.source,
      from: 'qemu-trace',
      profile: this.#profile,
      log: this.#trace as LogSummary,
      answers: calls.tally.answers,
      unjudged: calls.tally.unjudged,
      translations: calls.tally.translations,
      entries: calls.tally.entries,
      assumptions: calls.tally.assumptions,
      divergences: [...calls.tally.divergences, ...tally.divergences].sort((a, b) => a.line - b.line),
      findings: this.#judge.findings,
      findingsDropped: this.#judge.dropped,
      verdicts: this.#judge.verdicts(QEMU_TRACE_AND_MESSAGES),
      ledger: this.#counter.ledger(),
      vhost: { ...tally.result(maps), log: this.#messages as LogSummary },
    }
  }
}
