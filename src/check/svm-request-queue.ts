import { PAGE_REQUEST } from '../trace/event-codes.ts'
import { NEVER } from './vtd-flushes.ts'

const { LAST, PRIVATE_DATA, READ, WRITE } = PAGE_REQUEST
/** Requests that are remembered at most; the oldest go. A queue has 2048 places. */
const KEPT_MAX = 4096
/** Groups whose last response is remembered, at most. */
const GROUPS_MAX = 4096

/** A page request as it lies in the queue. */
export interface QueuedRequest {
  /** The record. */
  readonly seq: number
  readonly source: number
  readonly pasid: number
  readonly iova: bigint
  readonly flags: number
  readonly group: number
  /** The write of the head that left it behind. */
  passed: number
  /** The thread has handed it to a work, which has not come to it. */
  isHeld: boolean
}

/** What a response names. */
export interface GroupName {
  readonly source: number
  readonly pasid: number
  readonly group: number
}

const nameOf = ({ source, pasid, group }: GroupName): string => `${source} ${pasid} ${group}`

/** What records show of the page request queue of one unit: what lies there, what waits for a response, what software has read. */
export class RequestQueue {
  /** Descriptors are those of revisions 2.x, whose private data asks for no response. */
  isOld = false
  lastEvent = NEVER
  lastTailRead = NEVER
  /** The last write of the head. */
  lastPass = NEVER
  threadBegan = NEVER
  /** Not behind the head, in order. */
  #queue: QueuedRequest[] = []
  /** Not decoded by the page request thread. */
  #fresh: QueuedRequest[] = []
  /** Decoded last. */
  #taken: QueuedRequest | undefined
  /** Without a response that they ask for, or may have. */
  #waiting: QueuedRequest[] = []
  /** Requests that came without an interrupt behind a tail that was read. */
  #unheard: QueuedRequest[] = []
  readonly #tailReads = new Map<number, number>()
  readonly #answered = new Map<string, number>()

  /** Software gives the unit another queue. */
  clear(): void {
    this.#queue = []
    this.#fresh = []
    this.#waiting = []
    this.#unheard = []
    this.#taken = undefined
    this.#tailReads.clear()
    this.lastTailRead = NEVER
  }

  /** Whether software has taken all that it found, and found all. */
  get isEmptied(): boolean {
    return this.lastPass !== NEVER && this.#queue.length === 0
  }

  queued(request: QueuedRequest): void {
    this.#queue.push(request)
    this.#fresh.push(request)
    this.#waiting.push(request)
    if (this.lastTailRead !== NEVER && this.lastEvent < this.lastTailRead && this.lastEvent !== NEVER) {
      this.#unheard.push(request)
    }
    for (const list of [this.#queue, this.#fresh, this.#waiting]) if (list.length > KEPT_MAX) list.shift()
  }

  tailRead(seq: number, value: number): void {
    this.lastTailRead = seq
    this.#tailReads.set(value, seq)
  }

  /** Software moves the head to a tail that it has read: what came before that is taken. */
  passed(seq: number, head: number): void {
    const read = this.#tailReads.get(head)
    if (read === undefined) return
    this.lastPass = seq
    const isBehind = (r: QueuedRequest) => r.seq < read
    for (const request of this.#queue) if (isBehind(request)) request.passed = seq
    this.#queue = this.#queue.filter((r) => !isBehind(r))
    this.#unheard = this.#unheard.filter((r) => !isBehind(r))
  }

  /** Those that nobody will look for: told once. */
  unheard(): readonly QueuedRequest[] {
    const unheard = this.#unheard
    this.#unheard = []
    return unheard
  }

  /** The first one that was not decoded yet, and is as wanted. */
  take(isWanted: (request: QueuedRequest) => boolean): QueuedRequest | undefined {
    const at = this.#fresh.findIndex(isWanted)
    if (at < 0) return undefined
    const [request] = this.#fresh.splice(at, 1)
    this.#taken = request
    return request
  }

  /** What became of a request: the thread hands it to a work, or it is handled. */
  handled(isWanted: (request: QueuedRequest) => boolean, isHeld: boolean): void {
    const request = this.#waiting.find((r) => r.isHeld !== isHeld && isWanted(r))
    if (request !== undefined) request.isHeld = isHeld
  }

  /** Whether some request that has no response yet is as wanted. */
  isWaiting(isWanted: (request: QueuedRequest) => boolean): boolean {
    return this.#waiting.some(isWanted)
  }

  /** The request that the thread decodes next, and the one that it decoded last. */
  atHand(isWanted: (request: QueuedRequest) => boolean): readonly QueuedRequest[] {
    const next = this.#fresh.find(isWanted)
    const last = this.#taken
    return [...(next === undefined ? [] : [next]), ...(last !== undefined && isWanted(last) ? [last] : [])]
  }

  /** The request that a response is for; where there is none the record of the response before it, or `NEVER`. */
  answer(name: GroupName, seq: number): { request: QueuedRequest | undefined; before: number } {
    const isNamed = (r: QueuedRequest) =>
      r.source === name.source && r.pasid === name.pasid && r.group === name.group
    const waiting = this.#waiting
    const asking = waiting.findIndex((r) => isNamed(r) && this.#asks(r))
    const at = asking >= 0 ? asking : waiting.findIndex((r) => isNamed(r) && isMarker(r))
    const known = nameOf(name)
    const before = this.#answered.get(known) ?? NEVER
    if (this.#answered.size >= GROUPS_MAX) this.#answered.clear()
    this.#answered.set(known, seq)
    const [request] = at < 0 ? [] : waiting.splice(at, 1)
    return { request, before }
  }

  /** Requests behind the head that ask for a response, have none, and wait for no work that may still give it. */
  unanswered(): readonly QueuedRequest[] {
    return this.#waiting.filter((r) => r.passed !== NEVER && !r.isHeld && this.#asks(r) && !isMarker(r))
  }

  #asks({ flags }: QueuedRequest): boolean {
    return (flags & LAST) !== 0 || (!this.isOld && (flags & PRIVATE_DATA) !== 0)
  }
}

/** A stop marker asks for no response; old drivers give it one. */
const isMarker = ({ flags }: QueuedRequest): boolean => (flags & LAST) !== 0 && (flags & (READ | WRITE)) === 0
