import { resolveProfile } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { Judge } from '../../check/judge.ts'
import { ERRATA } from '../../machine/registry.ts'
import type { Divergence } from '../../machine/replay/result.ts'
import { VhostJoin } from '../../machine/replay/vhost/vhost-join.ts'
import { vhostEntryOf } from '../../reader/vhost-log-line.ts'
import { VhostCounter } from '../../report/vhost-ledger.ts'
import { RecordLog } from '../../trace/record-log.ts'
import type { BackEndResult } from './back-end-report.ts'
import { MessageLog } from './message-log.ts'
import { Recorder } from './recorder.ts'
import { IOTLB_LIMIT } from './session.ts'

/** What records call the device, and its memory's owner. */
const DEVICE = 'vhost-user-blk'
const OWNER = 'guest'
/** Promises that the records of a back end, and of a trace beside it, can say something about. */
const JUDGED = ['stale-iotlb', 'iotlb-mismatch', 'stale-metadata']
/** Records that are kept, of 64 bytes: a back end may run for days. */
const KEEP_RECORDS = 1 << 20
/** Records that are made: a log ends at 2^31, and a disk of a guest must not end with it. */
const RECORDS_MAX = 2 ** 31 - 2 ** 26
/** Messages that wait for their lines of the trace, at most. */
const WAITING_MAX = 1_000_000

export interface LiveWatchOptions {
  /** Takes the lines of the message log. */
  readonly onLine?: ((line: string) => void) | undefined
  /** Microseconds since the back end started. */
  readonly nowUs: () => number
  /** The trace of the QEMU that is served is read as well: errata of that QEMU. */
  readonly profile?: string | undefined
  /** Maps that the IOTLB of the back end keeps. */
  readonly iotlbLimit?: number | undefined
}

/**
 * All that watches a running back end: its records, the checkers, the message log, and where the trace of QEMU is read
 * beside it, both as one story.
 *
 * @example
 * const watch = new LiveWatch({ nowUs, profile: 'qemu-7.2' })
 * watch.recorder // sees the sessions
 * watch.trace(bytes) // as QEMU writes its trace
 */
export class LiveWatch {
  readonly log = new RecordLog({ keepRecords: KEEP_RECORDS })
  readonly judge = new Judge({ rules: JUDGED })
  readonly recorder: Recorder
  readonly #counter = new VhostCounter()
  readonly #join: VhostJoin | undefined
  #waiting = 0
  #isEnded = false

  /** @throws IommulatorError ERR_PROFILE */
  constructor({ onLine, nowUs, profile, iotlbLimit = IOTLB_LIMIT }: LiveWatchOptions) {
    const { log } = this
    this.judge.attach(log)
    log.subscribe(this.#counter)
    if (profile !== undefined) {
      const errata = resolveProfile(ERRATA, profile)
      this.#join = new VhostJoin({ log, profile: errata, device: DEVICE, iotlbLimit, isLive: true })
    }
    log.emit('run.begin', null, { source: DEVICE, profile: profile ?? '' })
    const join = this.#join
    // Joined, the messages become records in the order of the trace; alone, as they come.
    const own = join === undefined ? log : silent()
    const messages =
      onLine === undefined && join === undefined
        ? undefined
        : new MessageLog((line) => {
            onLine?.(line)
            if (join !== undefined) this.#message(join, line)
          }, nowUs)
    this.recorder = new Recorder({ log: own, device: DEVICE, owner: OWNER, messages })
  }

  #message(join: VhostJoin, line: string): void {
    const read = vhostEntryOf(JSON.parse(line), 0)
    if (read.state !== 'entry') return
    join.message(read.entry)
    this.#waiting = join.wants === 'trace' ? this.#waiting + 1 : 0
    if (this.#waiting < WAITING_MAX) return
    const what = `the trace is ${WAITING_MAX} messages behind: QEMU needs -trace vhost_user_write and -trace vhost_iotlb_miss`
    throw new IommulatorError('ERR_LOG_FORMAT', what)
  }

  /** Ends the records while there is room for those of a while: true once. From then on nothing is judged. */
  endsRecords(most = RECORDS_MAX): boolean {
    if (!this.log.on || this.log.length < most) return false
    this.log.on = false
    return true
  }

  /** What QEMU wrote to its trace. */
  trace(bytes: Uint8Array): void {
    this.#join?.trace(bytes)
  }

  /** Nothing more comes. */
  end(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    const join = this.#join
    join?.endTrace()
    join?.endMessages()
    join?.finish()
    this.log.emit('run.end', null, { settled: 0 })
    this.judge.finish()
  }

  get divergences(): readonly Divergence[] {
    const join = this.#join
    return join === undefined ? [] : [...join.calls.tally.divergences, ...join.tally.divergences]
  }

  /** What there is to say. */
  result(): Pick<
    BackEndResult,
    'counts' | 'ledger' | 'findings' | 'findingsDropped' | 'verdicts' | 'joined'
  > {
    const join = this.#join
    const { findings, dropped: findingsDropped } = this.judge
    const joined =
      join === undefined ? undefined : { ...join.tally.result(join.maps), divergences: this.divergences }
    return {
      counts: this.recorder.counts,
      ledger: this.#counter.ledger(),
      findings,
      findingsDropped,
      verdicts: this.judge.verdicts(),
      joined,
    }
  }
}

/** A log for whoever must have one. */
function silent(): RecordLog {
  const log = new RecordLog({ keepRecords: 1 })
  log.on = false
  return log
}
