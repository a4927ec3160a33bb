import { H_CODES } from '../bits/codes.ts'
import { hex, numberOf, POWERS_OF_TWO, wordOf } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import { NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'
import { bytesText } from './words.ts'

const RULE = 'range-mismatch'
const ENTER = slotMap('call.enter')
const RETURN = slotMap('call.return')
const TABLE = slotMap('hw.table')
const SET = slotMap('hw.set')
const PUT = slotMap('region.put')
const NEW = slotMap('region.new')
const OWN = slotMap('page.own')
const PERM = 3

const MAP = 'VFIO_IOMMU_MAP_DMA'
const REGISTER = 'VFIO_IOMMU_SPAPR_REGISTER_MEMORY'
const UNREGISTER = 'VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY'
/** Calls of guests, which end with H_SUCCESS or not. */
const HCALL = /^H_/
const { H_SUCCESS, H_TOO_HARD } = H_CODES

/** What was done so far in the call that runs. */
interface Running {
  /** Record of the call. */
  call: number
  mappedBytes: number
  /** Entries that were written, and the record of the first. */
  written: number
  firstWrite: number
  /** An entry of a table that no record has shown. */
  isUnknown: boolean
  /** Record of the last region that came or went, or refused to; NO_RECORD for none. */
  region: number
  isRefused: boolean
}

/**
 * Judges `range-mismatch`: each call of VFIO that maps, registers or gives back memory against its effects, and each
 * hypercall that is refused. Whether a registration that was refused is told to its owner is for `orphaned-region`.
 */
export class RangeMismatch extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = [
    'page.own',
    'call.return',
    'hw.table',
    'hw.set',
    'region.new',
    'region.get',
    'region.put',
  ]
  readonly #pageShifts = new Map<number, number>()
  /** One for all calls, because most of them do nothing that is judged. */
  readonly #running: Running = {
    call: NO_RECORD,
    mappedBytes: 0,
    written: 0,
    firstWrite: NO_RECORD,
    isUnknown: false,
    region: NO_RECORD,
    isRefused: false,
  }
  /** log2 of the system page, 0 while no record has shown it. */
  #systemShift = 0

  see(log: RecordLog, seq: number): void {
    switch (log.kindNumberOf(seq)) {
      case KIND['page.own']:
        if (this.#systemShift === 0 && log.names.word(log.slot(seq, OWN.space)) === 'hpa')
          this.#systemShift = log.slot(seq, OWN.pageShift)
        return
      case KIND['hw.table']:
        this.#pageShifts.set(log.slot(seq, TABLE.table), log.slot(seq, TABLE.pageShift))
        return
      case KIND['hw.set']:
        this.#seeEntries(log, seq)
        return
      case KIND['call.return']:
        this.#seeAnswer(log, seq)
        return
      default:
        this.#seeRegion(log, seq)
    }
  }

  #seeEntries(log: RecordLog, seq: number): void {
    const running = this.#runningIn(log.causeOf(seq))
    const count = numberOf(log.slot(seq, SET.count + 1), log.slot(seq, SET.count))
    if (running.written === 0) running.firstWrite = seq
    running.written += count
    if ((log.slot(seq, SET.tce) & PERM) === 0) return
    const pageShift = this.#pageShifts.get(log.slot(seq, SET.table))
    if (pageShift === undefined) running.isUnknown = true
    else running.mappedBytes += count * (POWERS_OF_TWO[pageShift] as number)
  }

  #seeRegion(log: RecordLog, seq: number): void {
    const running = this.#runningIn(log.causeOf(seq))
    running.region = seq
    if (log.kindNumberOf(seq) === KIND['region.put'] && log.slot(seq, PUT.code) < 0) running.isRefused = true
  }

  /** What is known of a call; calls do not overlap. */
  #runningIn(call: number): Running {
    const running = this.#running
    if (running.call !== call) {
      running.call = call
      running.mappedBytes = 0
      running.written = 0
      running.firstWrite = NO_RECORD
      running.isUnknown = false
      running.region = NO_RECORD
      running.isRefused = false
    }
    return running
  }

  #seeAnswer(log: RecordLog, seq: number): void {
    const code = log.slot(seq, RETURN.code)
    const name = log.names.word(log.slot(seq, RETURN.call))
    const isRefused = code !== H_SUCCESS && code !== H_TOO_HARD
    if (isRefused && HCALL.test(name)) this.#judgeRefusal(log, seq, name)
    if (code < 0) return
    if (name !== MAP && name !== REGISTER && name !== UNREGISTER) return
    const entered = log.causeOf(seq)
    const running = this.#runningIn(entered)
    if (entered < log.firstKept || running.isUnknown) {
      this.list.skipped++
      return
    }
    const word = (slot: number) => wordOf(log.slot(entered, slot + 1), log.slot(entered, slot))
    if (name === MAP) this.#judgeMap(log, seq, word(ENTER.a3))
    else this.#judgeRegion(log, seq, { name, ua: word(ENTER.a1), bytes: word(ENTER.a2) })
  }

  /** What a guest is told that it did not get. (User space answers anew what is H_TOO_HARD.) */
  #judgeRefusal(log: RecordLog, seq: number, name: string): void {
    const { call, written, firstWrite } = this.#runningIn(log.causeOf(seq))
    if (written === 0) return
    const entries = written === 1 ? '1 entry' : `${written} entries`
    this.#report(log, `${name} was refused, and had changed ${entries} of a hardware table`, [
      call,
      firstWrite,
      seq,
    ])
  }

  #judgeMap(log: RecordLog, seq: number, bytes: bigint): void {
    const { call, mappedBytes } = this.#running
    if (BigInt(mappedBytes) === bytes) return
    const done = mappedBytes === 0 ? 'nothing' : bytesText(mappedBytes)
    this.#report(log, `${MAP} was asked to map ${bytesText(Number(bytes))} and mapped ${done}`, [call, seq])
  }

  #judgeRegion(
    log: RecordLog,
    seq: number,
    { name, ua, bytes }: { readonly name: string; readonly ua: bigint; readonly bytes: bigint },
  ): void {
    const { call, region, isRefused } = this.#running
    if (isRefused) return
    const verb = name === REGISTER ? 'registered' : 'gave back'
    const asked = `${name} was asked for ${bytesText(Number(bytes))} at ${hex(ua)}`
    if (region === NO_RECORD) {
      this.#report(log, `${asked} and ${verb} nothing`, [call, seq])
      return
    }
    if (this.#systemShift === 0) {
      this.list.skipped++
      return
    }
    const start = wordOf(log.slot(region, NEW.ua + 1), log.slot(region, NEW.ua))
    const pages = numberOf(log.slot(region, NEW.pages + 1), log.slot(region, NEW.pages))
    const doneBytes = pages * 2 ** this.#systemShift
    if (start === ua && BigInt(doneBytes) === bytes) return
    const done = `${bytesText(doneBytes)} at ${hex(start)}`
    this.#report(log, `${asked} and ${verb} ${done}`, [call, region, seq])
  }

  #report(log: RecordLog, message: string, seqs: readonly number[]): void {
    const [entered = NO_RECORD] = seqs
    if (this.list.again({ rule: RULE, window: 0, entry: 0, by: entered, ended: NO_RECORD })) return
    this.list.add({
      rule: RULE,
      message,
      because: because(this.scene(log), ...seqs),
      inferred: false,
    })
  }
}
