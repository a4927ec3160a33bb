import { resolveProfile } from '../../bits/errata.ts'
import { QEMU_TRACE } from '../../check/coverage.ts'
import { Judge } from '../../check/judge.ts'
import type { BatchSink } from '../../reader/log-batch.ts'
import { QemuTraceReader } from '../../reader/qemu-trace-reader.ts'
import { LedgerCounter } from '../../report/ledger.ts'
import { RecordLog } from '../../trace/record-log.ts'
import { ERRATA } from '../registry.ts'
import { QemuReplay } from './qemu-replay.ts'
import type { ReplayResult } from './result.ts'

/** Logs that can be replayed: what a user calls them, and the id of their format. */
export const LOG_SOURCES = { qemu: 'qemu-trace' } as const
export type LogSource = (typeof LOG_SOURCES)[keyof typeof LOG_SOURCES]

/** Records that a replay keeps: what a finding shows must be among them. About 70 MB. */
const KEEP_RECORDS = 1024 * 1024

export interface ReplayOptions {
  readonly from: LogSource
  readonly profile: string
  /** How the result and the records call the log. */
  readonly source: string
  /** Without checkers and ledger: for benches. */
  readonly bare?: boolean
}

/** A replay that takes the bytes of a log as they come. */
export interface LogReplay {
  push(bytes: Uint8Array): void
  /** Lines replayed so far that are events. */
  readonly events: number
  readonly log: RecordLog
  end(): ReplayResult
}

class QemuLogReplay implements LogReplay {
  readonly log: RecordLog
  readonly #options: ReplayOptions
  readonly #judge: Judge | undefined
  readonly #counter: LedgerCounter
  readonly #replay: QemuReplay
  readonly #reader: QemuTraceReader
  #events = 0

  constructor(options: ReplayOptions) {
    this.#options = options
    this.log = new RecordLog({ keepRecords: KEEP_RECORDS })
    const judge = new Judge()
    this.#counter = new LedgerCounter(judge)
    if (options.bare !== true) {
      this.#judge = judge
      judge.attach(this.log)
      this.#counter.attach(this.log)
    }
    const profile = resolveProfile(ERRATA, options.profile)
    this.log.emit('run.begin', null, { source: options.source, profile: profile.name })
    this.#replay = new QemuReplay(this.log, profile)
    const sink: BatchSink = {
      take: (batch) => {
        this.#events += batch.count
        this.#replay.take(batch)
      },
    }
    this.#reader = new QemuTraceReader(sink, { markDamaged: true })
  }

  get events(): number {
    return this.#events
  }

  push(bytes: Uint8Array): void {
    this.#reader.push(bytes)
  }

  end(): ReplayResult {
    const summary = this.#reader.end()
    this.#replay.end()
    // A log that stops does not say that the drivers have ended: what is still mapped is no leak.
    this.log.emit('run.end', null, { settled: 0 })
    const judge = this.#judge
    judge?.finish()
    const { tally } = this.#replay
    return {
      source: this.#options.source,
      profile: this.#options.profile,
      log: summary,
      answers: tally.answers,
      translations: tally.translations,
      entries: tally.entries,
      assumptions: tally.assumptions,
      divergences: tally.divergences,
      findings: judge?.findings ?? [],
      findingsDropped: judge?.dropped ?? 0,
      verdicts: judge?.verdicts(QEMU_TRACE) ?? [],
      ledger: this.#counter.ledger(),
    }
  }
}

/**
 * Replays a log whose bytes are pushed piece by piece.
 *
 * @throws IommulatorError ERR_PROFILE for an unknown profile
 * @example
 * const replay = createReplay({ from: 'qemu-trace', profile: 'qemu-7.2', source: 'boot.trace' })
 * replay.push(bytes)
 * isClean(replay.end())
 */
export function createReplay(options: ReplayOptions): LogReplay {
  return new QemuLogReplay(options)
}
