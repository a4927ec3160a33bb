import { resolveProfile } from '../../../bits/errata.ts'
import { pageOf } from '../../../bits/u64.ts'
import { LINUX_TRACE, QEMU_AND_LINUX_TRACE } from '../../../check/coverage.ts'
import { Judge } from '../../../check/judge.ts'
import { FtraceReader } from '../../../reader/ftrace-reader.ts'
import type { LogBatch } from '../../../reader/log-batch.ts'
import type { LogSummary } from '../../../reader/log-summary.ts'
import { QEMU_TRACE } from '../../../reader/qemu-trace-format.ts'
import { QemuTraceReader } from '../../../reader/qemu-trace-reader.ts'
import { LedgerCounter } from '../../../report/ledger.ts'
import { RecordLog } from '../../../trace/record-log.ts'
import { ERRATA } from '../../registry.ts'
import {
  DEFAULT_LINUX,
  DEFAULT_QEMU,
  KEEP_RECORDS,
  type LogReplay,
  type ReplayOptions,
} from '../log-source.ts'
import type { ReplayResult } from '../result.ts'
import { Tally } from '../tally.ts'
import { FtraceOrder } from './ftrace-order.ts'
import { STANDING } from './ftrace-tally.ts'
import { GuestLog } from './guest-log.ts'
import { GuestSide } from './guest-side.ts'
import { VtdRecords } from './vtd-records.ts'
import { VtdReplay } from './vtd-replay.ts'

const N = QEMU_TRACE.number
const S = QEMU_TRACE.slot
const PAGE_SHIFT = 12

/** What both kinds of replay below have. */
abstract class KernelTrace {
  readonly log: RecordLog
  protected readonly options: Omit<ReplayOptions, 'from'>
  protected readonly profile: string
  protected readonly judge = new Judge()
  protected readonly counter = new LedgerCounter(this.judge)
  protected readonly guest = new GuestLog()
  /** Events of all logs, so far. */
  events = 0
  readonly #reader: FtraceReader

  constructor(options: Omit<ReplayOptions, 'from'>, profile: string) {
    this.options = options
    this.profile = options.profile ?? profile
    this.log = new RecordLog({ keepRecords: KEEP_RECORDS })
    options.watch?.(this.log)
    if (options.bare !== true) {
      this.judge.attach(this.log)
      this.counter.attach(this.log)
    }
    const { name } = resolveProfile(ERRATA, this.profile)
    this.log.emit('run.begin', null, { source: options.source, profile: name })
    const take = (batch: LogBatch) => {
      this.events += batch.count
      this.guest.take(batch)
    }
    this.#reader = new FtraceReader({ take }, { markDamaged: true })
  }

  protected pushGuest(bytes: Uint8Array): void {
    this.#reader.push(bytes)
  }

  protected readGuest(): LogSummary {
    const summary = this.#reader.end()
    this.guest.end()
    return summary
  }

  protected finish(): Pick<ReplayResult, 'findings' | 'findingsDropped' | 'ledger' | 'source' | 'profile'> {
    this.log.emit('run.end', null, { settled: 0 })
    this.judge.finish()
    const { findings, dropped: findingsDropped } = this.judge
    const { source } = this.options
    return { source, profile: this.profile, findings, findingsDropped, ledger: this.counter.ledger() }
  }
}

/** Of a log without hypercalls. */
function withoutCalls(): Pick<
  ReplayResult,
  'answers' | 'unjudged' | 'translations' | 'entries' | 'assumptions'
> {
  const { answers, unjudged, translations, entries, assumptions } = new Tally()
  return { answers, unjudged, translations, entries, assumptions }
}

/**
 * Replays what the kernel of a guest, or of a host, traced of its IOMMU: what it maps, unmaps and flushes must go together.
 *
 * @example
 * const replay = new FtraceReplay({ source: 'boot.ftrace' })
 * replay.push(bytes)
 * isClean(replay.end())
 */
export class FtraceReplay extends KernelTrace implements LogReplay {
  constructor(options: Omit<ReplayOptions, 'from'>) {
    super(options, DEFAULT_LINUX)
  }

  push(bytes: Uint8Array): void {
    this.pushGuest(bytes)
  }

  end(): ReplayResult {
    const log = this.readGuest()
    const side = new GuestSide(this.log, this.guest, new VtdRecords(this.log))
    side.upTo(this.guest.events.length)
    return {
      ...withoutCalls(),
      ...this.finish(),
      from: 'linux-ftrace',
      log,
      divergences: [],
      verdicts: this.judge.verdicts(LINUX_TRACE),
      ftrace: { ...side.tally.result(this.guest), log },
    }
  }
}

/**
 * Replays the two traces of a boot: that of QEMU, and that of the guest's kernel, which is read first, and as a whole.
 *
 * @example
 * const replay = new JoinedFtraceReplay({ source: 'boot.trace' })
 * replay.kernel(ftraceBytes)
 * replay.endKernel()
 * replay.trace(traceBytes)
 * isClean(replay.end())
 */
export class JoinedFtraceReplay extends KernelTrace {
  readonly #vtd: VtdReplay
  readonly #reader: QemuTraceReader
  #kernel: LogSummary | undefined
  #side: GuestSide | undefined
  #order: FtraceOrder | undefined

  constructor(options: Omit<ReplayOptions, 'from'>) {
    super(options, DEFAULT_QEMU)
    this.#vtd = new VtdReplay(this.log)
    const take = (batch: LogBatch) => {
      this.events += batch.count
      this.#order?.take(batch)
    }
    this.#reader = new QemuTraceReader({ take }, { markDamaged: true })
  }

  kernel(bytes: Uint8Array): void {
    this.pushGuest(bytes)
  }

  /** The trace of the kernel is over: that of QEMU may come. */
  endKernel(): void {
    if (this.#kernel !== undefined) return
    this.#kernel = this.readGuest()
    const side = new GuestSide(this.log, this.guest)
    this.#side = side
    this.#order = new FtraceOrder(this.guest, {
      row: (batch, end) => this.#row(batch, end, side),
      guest: (end) => side.upTo(end),
      skip: (end) => side.skipTo(end),
      flush: (end) => {
        side.tally[end]++
      },
      unshown: () => {
        side.tally.unshown++
      },
    })
  }

  trace(bytes: Uint8Array): void {
    this.endKernel()
    this.#reader.push(bytes)
  }

  end(): ReplayResult {
    this.endKernel()
    const log = this.#reader.end()
    this.#order?.end()
    this.#vtd.end()
    const { tally } = this.#vtd
    const side = this.#side as GuestSide
    return {
      ...withoutCalls(),
      ...this.finish(),
      from: 'qemu-trace',
      log,
      divergences: [...tally.divergences, ...side.tally.divergences].sort((a, b) => a.line - b.line),
      verdicts: this.judge.verdicts(QEMU_AND_LINUX_TRACE),
      vtd: tally.result(),
      ftrace: { ...side.tally.result(this.guest), log: this.#kernel as LogSummary },
    }
  }

  #row(batch: LogBatch, end: number | undefined, side: GuestSide): void {
    if (batch.events[0] === N.vtd_dmar_translate) {
      const { lanes } = batch
      const s = S.vtd_dmar_translate
      const line = batch.lines[0] as number
      const page = pageOf(lanes[s.iova + 1] as number, lanes[s.iova] as number, PAGE_SHIFT)
      const target = pageOf(lanes[s.gpa + 1] as number, lanes[s.gpa] as number, PAGE_SHIFT)
      if (end === undefined) side.tally.standings.add(STANDING.AWAY, line)
      else side.translated({ page, target, line }, end)
    }
    this.#vtd.take(batch)
  }
}
