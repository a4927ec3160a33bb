import type { Profile } from '../../../bits/errata.ts'
import type { LogBatch } from '../../../reader/log-batch.ts'
import type { LogSummary } from '../../../reader/log-summary.ts'
import { QEMU_TRACE } from '../../../reader/qemu-trace-format.ts'
import { QemuTraceReader } from '../../../reader/qemu-trace-reader.ts'
import type { VhostEntry } from '../../../reader/vhost-log-format.ts'
import { VhostLogReader } from '../../../reader/vhost-log-reader.ts'
import { FRONT_END_REQUESTS } from '../../../reader/vhost-user-format.ts'
import type { RecordLog } from '../../../trace/record-log.ts'
import { QemuReplay } from '../qemu-replay.ts'
import type { OnAnswer } from '../tally.ts'
import { Answers } from './answers.ts'
import { JoinedOrder, type JoinedSink, type RequestEntry } from './joined-order.ts'
import { MessageSide } from './message-side.ts'
import { MessageTally } from './message-tally.ts'
import { SpaprLines } from './spapr-lines.ts'
import { VtdLines } from './vtd-lines.ts'

const N = QEMU_TRACE.number
const S = QEMU_TRACE.slot
const IS_VTD: readonly boolean[] = QEMU_TRACE.events.map(({ name }) => name.startsWith('vtd_'))
const IS_SPAPR: readonly boolean[] = QEMU_TRACE.events.map(({ name }) => name.startsWith('spapr_'))
const STEP_BEGIN = 1
const IOTLB_MSG = FRONT_END_REQUESTS.IOTLB_MSG.nr

export interface VhostJoinOptions {
  readonly log: RecordLog
  /** Errata of the QEMU that wrote the trace. */
  readonly profile: Profile
  /** How records call the device of the back end. */
  readonly device?: string
  /** Maps that the IOTLB of the back end keeps, which no message says; many where it is left out. */
  readonly iotlbLimit?: number | undefined
  /** Entries are handed over as they happen, and the trace is read while it grows. */
  readonly isLive?: boolean
  readonly onAnswer?: OnAnswer
}

/**
 * Joins the trace of a QEMU with the messages that a vhost-user back end saw of the same run, and makes one story of
 * records of it: guest memory, the IOTLB with its maps and uses, messages, domains and their flushes, TCE tables.
 * Checkers read that; what messages and trace say against each other is counted here.
 *
 * Both sides come in pieces, in any order; see `JoinedOrder` for what that means. A live back end hands over the objects
 * that it logs (`vhostEntryOf`), and the bytes of a trace file that grows.
 *
 * @example
 * const join = new VhostJoin({ log, profile, isLive: true })
 * join.message(entry) // as QEMU's messages come, and the device does something
 * join.trace(bytes)   // as the trace file grows
 * join.end()
 */
export class VhostJoin implements JoinedSink {
  readonly tally = new MessageTally()
  /** The replay of the trace's hypercalls and translations. */
  readonly calls: QemuReplay
  readonly #log: RecordLog
  readonly #order: JoinedOrder
  readonly #traceReader: QemuTraceReader
  readonly #messageReader: VhostLogReader
  readonly #vtd: VtdLines
  readonly #spapr: SpaprLines
  readonly #side: MessageSide
  readonly #answers: Answers
  #line = 0
  #events = 0

  constructor({ log, profile, device = 'vhost', iotlbLimit, isLive = false, onAnswer }: VhostJoinOptions) {
    this.#log = log
    this.calls = new QemuReplay(log, profile, onAnswer)
    this.#vtd = new VtdLines({ log, tally: this.tally, device, profile })
    this.#spapr = new SpaprLines(this.tally, (liobn) => {
      const window = this.calls.window(liobn)
      return window === undefined ? undefined : 1n << BigInt(window.pageShift)
    })
    const { tally } = this
    this.#side = new MessageSide({ log, tally, device, iotlbLimit, vtd: this.#vtd, spapr: this.#spapr })
    this.#answers = new Answers(tally)
    this.#order = new JoinedOrder(this, { isLive })
    this.#traceReader = new QemuTraceReader(
      {
        take: (batch) => {
          this.#events += batch.count
          this.#order.take(batch)
        },
      },
      { markDamaged: true },
    )
    this.#messageReader = new VhostLogReader({ take: (entry) => this.#order.takeEntry(entry) })
  }

  /** Maps that the IOTLB of the back end holds. */
  get maps(): number {
    return this.#side.iotlb.count
  }

  /** The log of which more is needed to go on. */
  get wants(): 'trace' | 'messages' {
    return this.#order.wants
  }

  /** Lines of the trace and entries of the message log, so far. */
  get events(): number {
    return this.#events + this.#messageReader.events
  }

  /** Bytes of the trace. */
  trace(bytes: Uint8Array): void {
    this.#traceReader.push(bytes)
    this.#traceReader.flush()
    this.#order.run()
  }

  /** Bytes of the message log. */
  messages(bytes: Uint8Array): void {
    this.#messageReader.push(bytes)
    this.#order.run()
  }

  /** An entry of a running back end. */
  message(entry: VhostEntry): void {
    this.#order.takeEntry(entry)
    this.#order.run()
  }

  endTrace(): LogSummary {
    const summary = this.#traceReader.end()
    this.#order.endTrace()
    this.#order.run()
    return summary
  }

  endMessages(): LogSummary {
    const summary = this.#messageReader.end()
    this.#order.endMessages()
    this.#order.run()
    return summary
  }

  /** Both logs have ended: what is open is closed. */
  finish(): void {
    this.calls.end()
    this.#vtd.finish()
    this.#spapr.finish()
    this.#side.misses.finish()
  }

  // What JoinedOrder gives out.

  row(batch: LogBatch): void {
    const event = batch.events[0] as number
    this.#at(batch)
    if (IS_VTD[event] === true) {
      this.#vtd.row(batch)
      return
    }
    const unseen = IS_SPAPR[event] === true ? this.#spapr.unseenBy(batch) : undefined
    if (unseen !== undefined) this.#side.gone(unseen.iova, unseen.last)
    this.calls.take(batch)
    if (IS_SPAPR[event] === true) this.#spaprRow(batch, event)
    else if (event === N.vhost_iotlb_miss) this.#miss(batch)
    else if (event === N.vhost_user_read) {
      const s = S.vhost_user_read
      this.#answers.read(batch.lanes[s.request] as number, batch.lanes[s.flags] as number, this.#line)
    }
  }

  entry(entry: VhostEntry): void {
    this.#side.entry(entry)
  }

  pair(entry: RequestEntry, batch: LogBatch): void {
    this.#at(batch)
    this.#answers.sent(entry.request, entry.flags, this.#line)
    this.calls.take(batch)
    this.#side.request(entry, true)
  }

  loneEntry(entry: VhostEntry): void {
    if (entry.what === 'damaged') {
      this.tally.unmatched.add('lines of the message log that cannot be read', entry.line)
      return
    }
    if (entry.what === 'request' || entry.what === 'odd request') {
      this.tally.unmatched.add('messages that the trace does not show', entry.line)
      this.#side.request(entry, false)
    }
  }

  loneRow(batch: LogBatch): void {
    this.#at(batch)
    const s = S.vhost_user_write
    const [request, flags] = [batch.lanes[s.request] as number, batch.lanes[s.flags] as number]
    this.#answers.sent(request, flags, this.#line)
    this.calls.take(batch)
    this.tally.unmatched.add('messages that the message log does not have', this.#line)
    // In a miss it is an UPDATE: of what, the message log alone would say.
    if (request === IOTLB_MSG && !this.#vtd.inMiss) this.#side.unseenInvalidate()
  }

  #at(batch: LogBatch): void {
    this.#line = batch.lines[0] as number
    this.#log.line = this.#line
    this.#side.line = this.#line
  }

  #spaprRow(batch: LogBatch, event: number): void {
    this.#side.isPseries = true
    if (event !== N.spapr_iommu_xlate) {
      this.#spapr.row(batch)
      return
    }
    const s = S.spapr_iommu_xlate
    const mask = BigInt((batch.lanes[s.mask] as number) >>> 0)
    const window = this.calls.window(batch.u64(0, s.liobn))
    if (!this.#side.misses.isOpen || window === undefined) return
    if (((batch.lanes[s.perm] as number) & 3) === 0) return
    const iova = window.busOffset + (batch.u64(0, s.windowOffset) & ~mask)
    this.#side.misses.shown = { iova, bytes: mask + 1n, gpa: batch.u64(0, s.translated) }
  }

  #miss(batch: LogBatch): void {
    const step = batch.lanes[S.vhost_iotlb_miss.step] as number
    if (step === STEP_BEGIN) {
      this.#side.misses.open(this.#line)
      this.#vtd.inMiss = true
      this.#vtd.shown = undefined
      this.#vtd.faultAddress = undefined
      return
    }
    this.#vtd.inMiss = false
    this.#side.misses.close(this.#vtd.faultAddress)
  }
}
