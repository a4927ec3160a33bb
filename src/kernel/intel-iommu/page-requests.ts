import { Cells, keyOf } from '../../bits/state.ts'
import { fieldMask, get } from '../../bits/word.ts'
import { PAGE_REQ_DSC_QW0 } from '../../hw/vtd/descriptor-format.ts'
import { PRS } from '../../hw/vtd/register-format.ts'
import { PAGE_RESPONSE } from '../../trace/event-codes.ts'
import type { DriverCore } from './driver-core.ts'
import {
  badRequestText,
  isLastOfGroup,
  isStopMarker,
  nextPlace,
  type RequestWords,
  RING_MASK,
  readRequest,
  responseTo,
  wantsResponse,
  whyBad,
} from './page-request-words.ts'

/** PRS: a request came, and requests were lost. */
const PPR = fieldMask(PRS, 'PPR')
const PRO = fieldMask(PRS, 'PRO')

/** What the driver made of the queue. */
export interface HandledRequests {
  readonly requests: number
  readonly responses: number
  readonly hadOverflow: boolean
}

/**
 * The page request queue as Linux empties it. Requests that no process can have are refused, and a group gets one
 * response, with its last request. (Linux v6.1 drivers/iommu/intel/svm.c, prq_event_thread, handle_bad_prq_event)
 */
export class PageRequestThread {
  readonly #core: DriverCore
  /** Whether a device with a source-id is there and has page requests on. */
  readonly #serves: (source: number) => boolean
  readonly #place: Cells

  constructor(core: DriverCore, serves: (source: number) => boolean) {
    this.#core = core
    this.#serves = serves
    this.#place = new Cells(core.journal, keyOf('page request queue', core.options.port.name), 1)
  }

  /** First page of the queue; 0 where there is none. */
  get place(): number {
    return this.#place.get(0)
  }

  set place(page: number) {
    this.#place.set(0, page)
  }

  /**
   * Empties the queue. PPR is cleared first, so that a request that comes meanwhile interrupts again.
   *
   * @param isMapped whether the pages are there in the end: what the process has to say
   */
  run(isMapped: boolean): HandledRequests {
    this.clearPending()
    const { head, tail } = this.ends()
    let requests = 0
    let responses = 0
    for (let offset = head; offset !== tail; offset = nextPlace(offset), requests++) {
      if (this.#answer(this.requestAt(offset), isMapped)) responses++
    }
    this.writeHead(tail)
    return { requests, responses, hadOverflow: this.clearOverflow() }
  }

  /** PPR is cleared: the next request interrupts. */
  clearPending(): void {
    this.#core.registers.write32('PRS', PPR)
  }

  /** Where the queue begins and ends now. */
  ends(): { readonly head: number; readonly tail: number } {
    const tail = this.#placeIn('PQT')
    return { head: this.#placeIn('PQH'), tail }
  }

  requestAt(offset: number): RequestWords {
    return readRequest(this.#core.options.port.memory, this.place, offset)
  }

  writeHead(offset: number): void {
    this.#core.registers.write64('PQH', BigInt(offset))
  }

  /** Whether a request of a PASID waits in the queue. */
  holds(pasid: number): boolean {
    const { head, tail } = this.ends()
    for (let offset = head; offset !== tail; offset = nextPlace(offset)) {
      const [qw0] = this.requestAt(offset)
      const hasPasid = get(PAGE_REQ_DSC_QW0, qw0, 'PP') === 1n
      if (hasPasid && get(PAGE_REQ_DSC_QW0, qw0, 'PASID') === BigInt(pasid)) return true
    }
    return false
  }

  /** Whether requests were lost, and nobody has cleared that yet (PRS.PRO). */
  get hasOverflow(): boolean {
    return (this.#core.registers.read32('PRS') & PRO) !== 0n
  }

  /**
   * Requests that were lost: while none waits their bit is cleared, and devices ask again.
   *
   * @param discard what is forgotten with them: requests of groups whose last one may be lost
   */
  clearOverflow(discard: () => void = () => undefined): boolean {
    if (!this.hasOverflow) return false
    this.#say('PRQ overflow detected')
    const head = this.#placeIn('PQH')
    if (head === this.#placeIn('PQT')) {
      discard()
      this.#core.registers.write32('PRS', PRO)
      this.#say('PRQ overflow cleared')
    }
    return true
  }

  /** A request that no process can have is told, and refused where it wants a response. True where it does. */
  refuse(words: RequestWords, why: string | undefined): boolean {
    if (why !== undefined) this.#say(why)
    this.#core.flusher.queue.printed.push(badRequestText(this.#core.options.port.name, words))
    if (!wantsResponse(words)) return false
    this.#core.flusher.submit([responseTo(words, PAGE_RESPONSE.INVALID, isLastOfGroup(words))])
    return true
  }

  /** True where a response was sent. */
  #answer(words: RequestWords, isMapped: boolean): boolean {
    const why = whyBad(words)
    if (why === undefined && isStopMarker(words)) return false
    const source = Number(get(PAGE_REQ_DSC_QW0, words[0], 'RID'))
    if (why !== undefined || !this.#serves(source)) return this.refuse(words, why)
    if (!wantsResponse(words)) return false
    // A request with private data is taken for the last one of its group.
    const code = isMapped ? PAGE_RESPONSE.SUCCESS : PAGE_RESPONSE.INVALID
    this.#core.flusher.submit([responseTo(words, code, true)])
    return true
  }

  #placeIn(name: 'PQH' | 'PQT'): number {
    return Number(this.#core.registers.read64(name) & RING_MASK)
  }

  #say(text: string): void {
    this.#core.flusher.queue.printed.push(`IOMMU: ${this.#core.options.port.name}: ${text}`)
  }
}
