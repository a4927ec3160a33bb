import { resolveProfile } from '../../bits/errata.ts'
import { QEMU_TRACE, QEMU_VTD_TRACE } from '../../check/coverage.ts'
import { Judge } from '../../check/judge.ts'
import type { BatchSink } from '../../reader/log-batch.ts'
import { QemuTraceReader } from '../../reader/qemu-trace-reader.ts'
import { LedgerCounter } from '../../report/ledger.ts'
import { RecordLog } from '../../trace/record-log.ts'
import { ERRATA } from '../registry.ts'
import { KernelAnswersReplay } from './kernel-answers-replay.ts'
import { DEFAULT_QEMU, KEEP_RECORDS, type LogReplay, type ReplayOptions } from './log-source.ts'
import { QemuReplay } from './qemu-replay.ts'
import type { Divergence, ReplayResult } from './result.ts'
import { FtraceReplay } from './vtd/ftrace-replay.ts'
import { LastTranslations, TablesCheck, type TablesResult } from './vtd/tables-check.ts'
import { VtdReplay } from './vtd/vtd-replay.ts'

class QemuLogReplay implements LogReplay {
  readonly log: RecordLog
  readonly #options: ReplayOptions
  readonly #judge: Judge | undefined
  readonly #counter: LedgerCounter
  readonly #replay: QemuReplay
  readonly #vtd: VtdReplay
  readonly #last: LastTranslations | undefined
  readonly #has: (erratum: string) => boolean
  readonly #reader: QemuTraceReader
  #events = 0

  constructor(options: ReplayOptions) {
    this.#options = { profile: DEFAULT_QEMU, ...options }
    this.log = new RecordLog({ keepRecords: KEEP_RECORDS })
    options.watch?.(this.log)
    if (options.tables !== undefined) {
      this.#last = new LastTranslations()
      this.log.subscribe(this.#last)
    }
    const judge = new Judge()
    this.#counter = new LedgerCounter(judge)
    if (options.bare !== true) {
      this.#judge = judge
      judge.attach(this.log)
      this.#counter.attach(this.log)
    }
    const profile = resolveProfile(ERRATA, this.#options.profile ?? DEFAULT_QEMU)
    this.#has = profile.has
    this.log.emit('run.begin', null, { source: options.source, profile: profile.name })
    this.#replay = new QemuReplay(this.log, profile, options.onAnswer)
    this.#vtd = new VtdReplay(this.log)
    const sink: BatchSink = {
      take: (batch) => {
        this.#events += batch.count
        this.#replay.take(batch)
        this.#vtd.take(batch)
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
    this.#vtd.end()
    // A log that stops does not say that the drivers have ended: what is still mapped is no leak.
    this.log.emit('run.end', null, { settled: 0 })
    const judge = this.#judge
    judge?.finish()
    const { tally } = this.#replay
    const vtd = this.#vtd.tally
    const isVtd = vtd.lines > 0
    return {
      source: this.#options.source,
      from: this.#options.from,
      profile: this.#options.profile ?? DEFAULT_QEMU,
      log: summary,
      answers: tally.answers,
      unjudged: tally.unjudged,
      translations: tally.translations,
      entries: tally.entries,
      assumptions: tally.assumptions,
      divergences: isVtd ? [...tally.divergences, ...vtd.divergences].sort(byLine) : tally.divergences,
      findings: judge?.findings ?? [],
      findingsDropped: judge?.dropped ?? 0,
      verdicts: judge?.verdicts(isVtd ? QEMU_VTD_TRACE : QEMU_TRACE) ?? [],
      ledger: this.#counter.ledger(),
      ...(isVtd && { vtd: vtd.result() }),
      ...this.#tables(),
    }
  }

  #tables(): { tables?: TablesResult } {
    const { tables } = this.#options
    if (tables === undefined || this.#last === undefined) return {}
    return { tables: new TablesCheck(tables, this.#has).check(this.#last, this.#vtd.held) }
  }
}

const byLine = (a: Divergence, b: Divergence): number => a.line - b.line

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
  if (options.from === 'linux-ftrace') return new FtraceReplay(options)
  return options.from === 'kernel-answers' ? new KernelAnswersReplay(options) : new QemuLogReplay(options)
}
