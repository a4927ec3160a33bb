import { hex, wordOf } from '../bits/u64.ts'
import { EVENT_KINDS, type EventKind, KIND, slotMap } from '../trace/event.ts'
import { NONE, PAGE_REQUEST } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { sourceText } from './describe-vtd.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import { callInStepsOf, endsCallInSteps, isStillAtIt } from './open-calls.ts'
import type { RuleId } from './rules.ts'
import { type QueuedRequest, RequestQueue } from './svm-request-queue.ts'
import { VmaShadow } from './svm-vmas.ts'
import { NEVER } from './vtd-flushes.ts'

const ANSWER = 'page-request-answer'
const LOST = 'lost-interrupt'
const REGISTER = slotMap('vtd.register')
const ROOT = slotMap('vtd.root')
const EVENT = slotMap('vtd.event')
const ASKED = slotMap('vtd.page-request')
const RESPONSE = slotMap('vtd.response')
const TAKEN = slotMap('svm.request')
const CALLBACK = slotMap('svm.callback')
const THREAD = slotMap('svm.thread')
const PASID = slotMap('svm.pasid')
// Offsets of registers. (VT-d manual, Page Request Queue Registers)
const PQH = 0xc0
const PQT = 0xc8
const PQA = 0xd0
const EXTENDED = 2
const PASIDS = 2 ** 20
const { PRIVILEGED, EXECUTE, WRITE, READ, LAST } = PAGE_REQUEST
const ACCESS = PRIVILEGED | EXECUTE | WRITE | READ
/** Codes of responses that the manual knows: success, invalid request, failure. */
const CODES = [0, 1, 15]

/** What was decoded of a request, or what its callback was told. */
interface Decoded {
  readonly source: number
  readonly pasid: number
  readonly iova: bigint
  readonly flags: number
  readonly group: number
}

const isOfQueue = (offset: number): boolean => offset === PQH || offset === PQT || offset === PQA
/** What records matter to: the page request queue, and the process that a request is for. */
const OF_QUEUE = 1
const OF_PROCESS = 2
const QUEUE_ONLY: readonly boolean[] = EVENT_KINDS.map((kind) =>
  ['vtd.event', 'vtd.response', 'svm.callback'].includes(kind),
)

/**
 * Judges page requests: `page-request-answer` and `lost-interrupt`.
 *
 * Software has seen what it found between the head and the tail: a request is taken when the head is written behind it. A request that
 * comes behind the tail that software has read needs an interrupt of its own. What a thread, or a work, has not come to
 * before the run ends it may still do.
 */
export class SvmRequests extends ListedChecker {
  readonly rules: readonly RuleId[] = [ANSWER, LOST]
  readonly kinds: readonly EventKind[] = [
    'vtd.register',
    'vtd.root',
    'vtd.event',
    'vtd.page-request',
    'vtd.response',
    'svm.request',
    'svm.callback',
    'svm.thread',
    'svm.pasid',
    'mm.vma',
  ]
  readonly looksUp: readonly EventKind[] = ['task.step', 'call.return']
  readonly #queues = new Map<number, RequestQueue>()
  readonly #vmas = new VmaShadow()
  /** Address spaces of PASIDs, by unit and PASID. */
  readonly #mms = new Map<number, number>()
  #log: RecordLog | undefined

  see(log: RecordLog, seq: number): void {
    this.#log = log
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['vtd.register']) this.#register(log, seq)
    else if (kind === KIND['mm.vma']) this.#vmas.note(log, seq)
    else if (kind === KIND['svm.pasid']) this.#pasid(log, seq)
    else if (kind === KIND['svm.callback']) this.#callback(log, seq)
    else this.#ofUnit(log, seq, kind)
  }

  heeds(log: RecordLog, seq: number): number {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['vtd.register']) return isOfQueue(log.slot(seq, REGISTER.offset)) ? OF_QUEUE : 0
    if (kind === KIND['mm.vma'] || kind === KIND['svm.pasid']) return OF_PROCESS
    if (kind === KIND['task.step']) return 0
    if (kind === KIND['call.return']) return endsThread(log, seq) ? OF_QUEUE : 0
    // Rights that changed since the others came are not judged.
    return QUEUE_ONLY[kind] === true ? OF_QUEUE : OF_QUEUE | OF_PROCESS
  }

  override finish(): void {
    const log = this.#log
    if (log === undefined) return
    for (const queue of this.#queues.values()) {
      this.#lost(log, queue)
      for (const request of queue.unanswered()) {
        const message = `${requestText(request)} is taken from the queue, and nobody answers`
        this.#found(log, ANSWER, { message, entry: request.seq, seqs: [request.seq, request.passed] })
      }
    }
  }

  #ofUnit(log: RecordLog, seq: number, kind: number): void {
    const queue = this.#queueOf(log.slot(seq, 0))
    if (kind === KIND['vtd.root']) queue.isOld = log.slot(seq, ROOT.mode) === EXTENDED
    else if (kind === KIND['vtd.event']) {
      if (log.names.word(log.slot(seq, EVENT.event)) === 'page-request') queue.lastEvent = seq
    } else if (kind === KIND['vtd.page-request']) this.#asked(log, seq, queue)
    else if (kind === KIND['vtd.response']) this.#answered(log, seq, queue)
    else if (kind === KIND['svm.request']) this.#decoded(log, seq, queue)
    else if (log.slot(seq, THREAD.state) === 0) this.#lost(log, queue)
    else queue.threadBegan = seq
  }

  #queueOf(unit: number): RequestQueue {
    let queue = this.#queues.get(unit)
    if (queue === undefined) {
      queue = new RequestQueue()
      this.#queues.set(unit, queue)
    }
    return queue
  }

  #register(log: RecordLog, seq: number): void {
    const offset = log.slot(seq, REGISTER.offset)
    if (!isOfQueue(offset)) return
    const queue = this.#queueOf(log.slot(seq, REGISTER.unit))
    const value = log.slot(seq, REGISTER.value) >>> 0
    const isWrite = log.slot(seq, REGISTER.write) === 1
    if (isWrite && offset === PQA) queue.clear()
    else if (isWrite && offset === PQH) queue.passed(seq, value)
    else if (!isWrite && offset === PQT) queue.tailRead(seq, value)
  }

  #pasid(log: RecordLog, seq: number): void {
    const pasid = log.slot(seq, PASID.pasid) >>> 0
    const unit = log.names.word(log.slot(seq, PASID.unit)) === '' ? 0 : log.slot(seq, PASID.unit) + 1
    const key = unit * PASIDS + pasid
    if (log.slot(seq, PASID.state) === 1) this.#mms.set(key, log.slot(seq, PASID.mm))
    else this.#mms.delete(key)
  }

  #asked(log: RecordLog, seq: number, queue: RequestQueue): void {
    const result = log.names.word(log.slot(seq, ASKED.result))
    if (result === 'queued') {
      queue.queued(requestAt(log, seq, ASKED))
      return
    }
    if (result !== 'dropped' || !queue.isEmptied) return
    // The head is written before the bit is cleared. (Linux v5.8 and v6.1, prq_event_thread)
    if (isStillAtIt(log, queue.lastPass, seq)) return
    const request = requestAt(log, seq, ASKED)
    const message = `${requestText(request)} is dropped, though software has emptied the queue: that requests were lost (PRO) was never cleared`
    const entry = -1
    this.#found(log, LOST, { message, entry, seqs: [queue.lastPass, seq] })
  }

  /** Requests that software will not look at by itself, and of which no interrupt tells. */
  #lost(log: RecordLog, queue: RequestQueue): void {
    for (const request of queue.unheard()) {
      const message = `${requestText(request)} stays in the queue: software had read the tail before it came, and no interrupt was sent for it`
      const seqs = [queue.lastEvent, queue.lastTailRead, request.seq]
      this.#found(log, LOST, { message, entry: request.seq, seqs })
    }
  }

  #decoded(log: RecordLog, seq: number, queue: RequestQueue): void {
    const { flags, iova, source, pasid, group } = requestAt(log, seq, TAKEN)
    const decoded = { source, pasid, iova, flags, group }
    const isIt = (r: Decoded) => isSame(r, decoded)
    // Of a request that a work answers there is a second record.
    const request =
      queue.take(isIt) ?? (queue.isWaiting(isIt) ? undefined : queue.take((r) => isNear(r, decoded)))
    if (request !== undefined && !isSame(request, decoded)) {
      const message = `${requestText(request)} is taken for ${requestText({ ...decoded, seq })}`
      this.#found(log, ANSWER, { message, entry: request.seq, seqs: [request.seq, seq] })
      return
    }
    const result = log.names.word(log.slot(seq, TAKEN.result))
    queue.handled(isIt, result === 'queued')
    if (result !== 'success' || pasid === NONE) return
    const mm = this.#mms.get((log.slot(seq, TAKEN.unit) + 1) * PASIDS + pasid) ?? this.#mms.get(pasid)
    if (mm === undefined || log.names.word(mm) === '') return
    const since = Math.max(queue.threadBegan, request?.seq ?? NEVER)
    // Rights that changed meanwhile may have been looked at before.
    if (this.#vmas.changedSince(mm, since)) {
      this.list.skipped++
      return
    }
    if (!this.#vmas.isKnown(mm)) return
    const missing = this.#vmas.missing(mm, iova, flags)
    if (missing === '') return
    const message = `${requestText({ ...decoded, seq })} succeeds, though ${log.names.word(mm)} ${missing}`
    this.#found(log, ANSWER, {
      message,
      entry: request?.seq ?? seq,
      seqs: [this.#vmas.recordOf(mm, iova), request?.seq ?? NEVER, seq],
    })
  }

  /** The driver of a device is told of what it asked for. */
  #callback(log: RecordLog, seq: number): void {
    const source = log.slot(seq, CALLBACK.wanted) >>> 0
    const pasid = log.slot(seq, CALLBACK.pasid) >>> 0
    const rwxp = log.slot(seq, CALLBACK.rwxp)
    const address = wordOf(log.slot(seq, CALLBACK.address + 1), log.slot(seq, CALLBACK.address))
    const isOf = (r: Decoded) => r.source === source && r.pasid === pasid
    const candidates = [...this.#queues.values()].flatMap((queue) => queue.atHand(isOf))
    const [first] = candidates
    if (first === undefined) return
    const isTold = (r: Decoded) => (r.flags & ACCESS) === rwxp && r.iova >> 12n === address
    if (candidates.some(isTold)) return
    const message = `${requestText(first)} is told to the driver as rwxp ${rwxp}, page ${hex(address)}: it is rwxp ${first.flags & ACCESS}, page ${hex(first.iova >> 12n)}`
    this.#found(log, ANSWER, { message, entry: first.seq, seqs: [first.seq, seq] })
  }

  #answered(log: RecordLog, seq: number, queue: RequestQueue): void {
    const source = log.slot(seq, RESPONSE.source) >>> 0
    const pasid = log.slot(seq, RESPONSE.pasid) >>> 0
    const group = log.slot(seq, RESPONSE.group)
    const code = log.slot(seq, RESPONSE.code)
    const { request, before } = queue.answer({ source, pasid, group }, seq)
    const what = `group ${group} of ${sourceText(source)}${pasidText(pasid)}`
    if (!CODES.includes(code)) {
      const message = `${what} is answered with code ${code}, which is reserved`
      this.#found(log, ANSWER, { message, entry: seq, seqs: [request?.seq ?? NEVER, seq] })
    }
    if (request !== undefined) return
    const message =
      before === NEVER
        ? `software answers ${what}, for which no request waits`
        : `software answers ${what} twice, though it was asked once`
    this.#found(log, ANSWER, { message, entry: seq, seqs: [before, seq] })
  }

  #found(
    log: RecordLog,
    rule: RuleId,
    { message, entry, seqs }: { message: string; entry: number; seqs: readonly number[] },
  ): void {
    if (this.list.again({ rule, window: -1, entry, by: NEVER, ended: NEVER })) return
    this.list.add({ rule, message, because: because(this.scene(log), ...seqs), inferred: false })
  }
}

/** Whether a record ends a call in steps that has written the head: nothing of it is to come. */
function endsThread(log: RecordLog, seq: number): boolean {
  if (!endsCallInSteps(log, seq)) return false
  const entered = log.causeOf(seq)
  for (let at = seq - 1; at > entered; at--) {
    const isHead = log.kindNumberOf(at) === KIND['vtd.register'] && log.slot(at, REGISTER.offset) === PQH
    if (isHead && log.slot(at, REGISTER.write) === 1 && callInStepsOf(log, at) === entered) return true
  }
  return false
}

function requestAt(log: RecordLog, seq: number, at: typeof ASKED | typeof TAKEN): QueuedRequest {
  return {
    seq,
    source: log.slot(seq, at.source) >>> 0,
    pasid: log.slot(seq, at.pasid) >>> 0,
    iova: wordOf(log.slot(seq, at.iova + 1), log.slot(seq, at.iova)),
    flags: log.slot(seq, at.flags),
    group: log.slot(seq, at.group),
    passed: NEVER,
    isHeld: false,
  }
}

const isSame = (a: Decoded, b: Decoded): boolean =>
  isNear(a, b) &&
  a.pasid === b.pasid &&
  a.iova === b.iova &&
  (a.flags & (ACCESS | LAST)) === (b.flags & (ACCESS | LAST))

/** The request that software probably meant. */
const isNear = (a: Decoded, b: Decoded): boolean => a.source === b.source && a.group === b.group

const pasidText = (pasid: number): string => (pasid === NONE ? '' : ` with PASID ${hex(pasid)}`)

const WORDS = [
  [READ, 'read'],
  [WRITE, 'write'],
  [EXECUTE, 'execute'],
  [PRIVILEGED, 'privileged'],
] as const

function requestText({ source, pasid, iova, flags, group }: Decoded & { readonly seq: number }): string {
  const wanted = WORDS.flatMap(([bit, word]) => ((flags & bit) === 0 ? [] : [word])).join(', ')
  return `the request of ${sourceText(source)} for ${hex(iova)}${pasidText(pasid)} (${wanted || 'nothing'}; group ${group})`
}
