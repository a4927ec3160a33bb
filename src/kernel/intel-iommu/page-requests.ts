import { Cells, keyOf } from '../../bits/state.ts'
import { swap32, wordOf } from '../../bits/u64.ts'
import { encode, get } from '../../bits/word.ts'
import {
  DESCRIPTOR_TYPE,
  PAGE_GRP_RESP_DSC_QW0,
  PAGE_GRP_RESP_DSC_QW1,
  PAGE_REQ_DSC_QW0,
  PAGE_REQ_DSC_QW1,
} from '../../hw/vtd/descriptor-format.ts'
import { PAGE_RESPONSE } from '../../trace/event-codes.ts'
import type { DriverCore } from './driver-core.ts'
import { REQUEST_QUEUE_ORDER } from './unit-control.ts'

/** PRS: a request came, and requests were lost. */
const PPR = 1n
const PRO = 2n
const REQUEST_BYTES = 32
const RING_BYTES = 4096 << REQUEST_QUEUE_ORDER
const RING_MASK = BigInt((RING_BYTES - 1) & ~(REQUEST_BYTES - 1))
const WORD_BYTES = 8
/** RDR and WRR: a request that wants neither is a stop marker, which nobody answers. */
const WANTED = 3n
/** Addresses of 48 bits are canonical where the upper 17 bits are the same. */
const SIGN_SHIFT = 47n

type Words = readonly [qw0: bigint, qw1: bigint, qw2: bigint, qw3: bigint]

/** What the driver made of the queue. */
export interface HandledRequests {
  readonly requests: number
  readonly responses: number
  readonly hadOverflow: boolean
}

const isCanonical = (address: bigint): boolean => {
  const top = address >> SIGN_SHIFT
  return top === 0n || top === (1n << (64n - SIGN_SHIFT)) - 1n
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
    const { registers, flusher } = this.#core
    registers.write32('PRS', PPR)
    const tail = registers.read64('PQT') & RING_MASK
    let requests = 0
    let responses = 0
    for (let head = registers.read64('PQH') & RING_MASK; head !== tail; requests++) {
      const response = this.#answer(this.#requestAt(Number(head)), isMapped)
      if (response !== undefined) {
        flusher.submit([response])
        responses++
      }
      head = (head + BigInt(REQUEST_BYTES)) & RING_MASK
    }
    registers.write64('PQH', tail)
    return { requests, responses, hadOverflow: this.#clearOverflow() }
  }

  /** Whether a request of a PASID waits in the queue. */
  holds(pasid: number): boolean {
    const { registers } = this.#core
    const tail = registers.read64('PQT') & RING_MASK
    let head = registers.read64('PQH') & RING_MASK
    while (head !== tail) {
      const [qw0] = this.#requestAt(Number(head))
      if (get(PAGE_REQ_DSC_QW0, qw0, 'PASID') === BigInt(pasid)) return true
      head = (head + BigInt(REQUEST_BYTES)) & RING_MASK
    }
    return false
  }

  /** Requests that were lost: while none waits their bit is cleared, and devices ask again. */
  #clearOverflow(): boolean {
    const { registers } = this.#core
    if ((registers.read32('PRS') & PRO) === 0n) return false
    this.#say('PRQ overflow detected')
    if ((registers.read64('PQH') & RING_MASK) === (registers.read64('PQT') & RING_MASK)) {
      registers.write32('PRS', PRO)
      this.#say('PRQ overflow cleared')
    }
    return true
  }

  #answer(words: Words, isMapped: boolean): Words | undefined {
    const [qw0, qw1] = words
    const isLast = get(PAGE_REQ_DSC_QW1, qw1, 'LPIG') === 1n
    const isAnswered = isLast || get(PAGE_REQ_DSC_QW0, qw0, 'PDP') === 1n
    const why = this.#whyBad(words)
    if (why !== undefined) this.#say(why)
    const isMarker = isLast && (qw1 & WANTED) === 0n
    if (why === undefined && isMarker) return undefined
    if (why !== undefined || !this.#serves(Number(get(PAGE_REQ_DSC_QW0, qw0, 'RID')))) {
      this.#say(`Invalid page request: ${hex8(qw0)} ${hex8(qw1)}`, '')
      return isAnswered ? responseTo(words, PAGE_RESPONSE.INVALID, isLast) : undefined
    }
    if (!isAnswered) return undefined
    // A request with private data is taken for the last one of its group.
    return responseTo(words, isMapped ? PAGE_RESPONSE.SUCCESS : PAGE_RESPONSE.INVALID, true)
  }

  /** Why a request is none that a process can have, in the order of the checks. */
  #whyBad([qw0, qw1]: Words): string | undefined {
    const is = (name: 'PP' | 'EXR' | 'PMR') => get(PAGE_REQ_DSC_QW0, qw0, name) === 1n
    const wants = (name: 'RDR' | 'WRR') => get(PAGE_REQ_DSC_QW1, qw1, name) === 1n
    if (!is('PP')) return 'Page request without PASID'
    if (!isCanonical(get(PAGE_REQ_DSC_QW1, qw1, 'ADDR') << 12n)) return 'Address is not canonical'
    if (is('PMR') && (wants('RDR') || wants('WRR'))) return 'Page request in Privilege Mode'
    if (is('EXR') && wants('RDR')) return 'Execution request not supported'
    return undefined
  }

  #requestAt(offset: number): Words {
    const { memory } = this.#core.options.port
    const words = [0, 1, 2, 3].map((i) => {
      const at = offset + i * WORD_BYTES
      memory.loadU64be(this.place + (at >> 12), at & 0xfff)
      return wordOf(swap32(memory.wordLo), swap32(memory.wordHi))
    })
    return words as unknown as Words
  }

  #say(text: string, prefix = 'IOMMU: '): void {
    this.#core.flusher.queue.printed.push(`${prefix}${this.#core.options.port.name}: ${text}`)
  }
}

const hex8 = (word: bigint): string => word.toString(16).padStart(8, '0')

/** The page group response to a request: private data goes back with it. @param isLast LPIG */
function responseTo([qw0, qw1, qw2, qw3]: Words, code: number, isLast: boolean): Words {
  const of = (name: 'PP' | 'PDP' | 'RID' | 'PASID') => get(PAGE_REQ_DSC_QW0, qw0, name)
  const hasData = of('PDP') === 1n
  return [
    encode(PAGE_GRP_RESP_DSC_QW0, {
      TYPE: BigInt(DESCRIPTOR_TYPE.GROUP_RESPONSE),
      PP: of('PP'),
      PDP: of('PDP'),
      RC: BigInt(code),
      RID: of('RID'),
      PASID: of('PASID'),
    }),
    encode(PAGE_GRP_RESP_DSC_QW1, {
      LPIG: isLast ? 1n : 0n,
      PRGI: get(PAGE_REQ_DSC_QW1, qw1, 'PRGI'),
    }),
    hasData ? qw2 : 0n,
    hasData ? qw3 : 0n,
  ]
}
