import { get } from '../../../bits/word.ts'
import { PAGE_REQ_DSC_QW0 } from '../../../hw/vtd/descriptor-format.ts'
import { type Task, type Work, type WorkArg, work } from '../../steps.ts'
import { isStopMarker, nextPlace, type RequestWords, wantsResponse, whyBad } from '../page-request-words.ts'
import { REQUEST_VECTOR } from '../unit-control.ts'
import type { IopfQueue } from './iopf-queue.ts'
import type { IopfSteps } from './iopf-steps.ts'
import type { SvaBook } from './sva-book.ts'
import { causeOf, type SvaParts } from './sva-parts.ts'

/** There is one thread of the interrupt: it does not run twice at a time. */
const THREAD = 'page request thread'

/** No bind was looked up. */
const NO_SOURCE = -1

/** What the thread has done: requests, responses of its own, groups that are whole; and whose bind it found last. */
type Counts = readonly [requests: number, responses: number, groups: number, source: number]

const countsOf = (args: readonly WorkArg[]): Counts => [
  Number(args[0]),
  Number(args[1]),
  Number(args[2]),
  Number(args[3]),
]

export interface ThreadParts {
  readonly parts: SvaParts
  readonly book: SvaBook
  readonly queue: IopfQueue
  readonly faults: IopfSteps
  /** The device with a source-id. */
  readonly deviceOf: (source: number) => string | undefined
}

/**
 * The thread of the page request interrupt, in steps. (Linux v6.1 drivers/iommu/intel/svm.c, prq_event_thread,
 * intel_svm_prq_report; iommu.c, iommu_report_device_fault; io-pgfault.c, iommu_queue_iopf)
 */
export class ThreadSteps {
  readonly #parts: SvaParts
  readonly #all: ThreadParts
  /** K5-bound-only */
  readonly #looksUp: boolean

  constructor(all: ThreadParts) {
    const { tasks, driver, interrupts, profile } = all.parts
    this.#parts = all.parts
    this.#all = all
    this.#looksUp = profile.has('K5-bound-only')
    tasks.define('sva.prq.woken', {
      doc: 'waits for the interrupt of the page request event',
      isReady: () => this.isWoken,
      isIdle: true,
      run: () => interrupts.take(REQUEST_VECTOR) as undefined,
    })
    tasks.define('sva.prq.clear', {
      doc: 'clears PPR, so that the next page request interrupts',
      run: () => driver.requests.clearPending() as undefined,
    })
    tasks.define('sva.prq.read', {
      doc: 'reads tail and head of the page request queue',
      run: () => this.#read(),
    })
    tasks.define('sva.prq.take', {
      doc: 'takes one page request out of the queue',
      run: (_task, [offset, tail, ...counts]) => this.#take(Number(offset), Number(tail), countsOf(counts)),
    })
    tasks.define('sva.prq.head', {
      doc: 'writes the head of the page request queue: up to the tail that was read',
      run: (_task, [tail, ...counts]) => this.#writeHead(Number(tail), countsOf(counts)),
    })
    tasks.define('sva.prq.end', {
      doc: 'clears an overflow where the queue is empty, and wakes whoever waits for the thread',
      run: (task, counts) => this.#end(task, countsOf(counts)),
    })
  }

  /** Whether the interrupt has come. */
  get isWoken(): boolean {
    return this.#parts.interrupts.isPending(REQUEST_VECTOR)
  }

  /** The works of the thread, from the interrupt on. */
  works(): readonly Work[] {
    return [
      work('sva.prq.woken'),
      work('lock', THREAD),
      work('sva.prq.clear'),
      work('sva.prq.read'),
      work('unlock', THREAD),
    ]
  }

  #read(): readonly Work[] {
    const { head, tail } = this.#parts.driver.requests.ends()
    this.#record(1, head, tail)
    return [this.#next(head, tail, [0, 0, 0, NO_SOURCE])]
  }

  #next(offset: number, tail: number, counts: Counts): Work {
    return offset === tail
      ? work('sva.prq.head', tail, ...counts)
      : work('sva.prq.take', offset, tail, ...counts)
  }

  #take(offset: number, tail: number, [requests, responses, groups, found]: Counts): readonly Work[] {
    const { queue, faults, deviceOf } = this.#all
    const { requests: thread } = this.#parts.driver
    const words = thread.requestAt(offset)
    const why = whyBad(words)
    let response = false
    let isWhole = false
    let last = found
    if (why !== undefined || !isStopMarker(words)) {
      const source = Number(get(PAGE_REQ_DSC_QW0, words[0], 'RID'))
      const device = deviceOf(source)
      const isBad = why !== undefined || (this.#looksUp && !this.#isBound(words, device, source === found))
      last = isBad ? NO_SOURCE : source
      if (!isBad && device !== undefined && queue.has(device)) {
        const fault = { device, words, offset }
        isWhole = queue.report(fault, wantsResponse(words))
        faults.record(fault, 'queued', 'none')
      } else {
        response = thread.refuse(words, why)
        faults.record({ device: device ?? '', words, offset }, 'invalid', response ? 'group' : 'none')
      }
    }
    const done = [requests + 1, responses + (response ? 1 : 0), groups + (isWhole ? 1 : 0)] as const
    return [this.#next(nextPlace(offset), tail, [...done, last])]
  }

  /**
   * Whether a device is bound by the PASID of its request. The bind of the request before is not looked up again, though
   * its PASID may be another one. (Linux v5.15 drivers/iommu/intel/svm.c, prq_event_thread)
   */
  #isBound(words: RequestWords, device: string | undefined, isFound: boolean): boolean {
    const { book } = this.#all
    const pasid = Number(get(PAGE_REQ_DSC_QW0, words[0], 'PASID'))
    const space = book.spaceOf(pasid)
    if (space === undefined || space.mm === '') return false
    return isFound || (device !== undefined && book.bondOf(pasid, device) !== undefined)
  }

  #writeHead(tail: number, counts: Counts): readonly Work[] {
    this.#parts.driver.requests.writeHead(tail)
    this.#record(0, tail, tail)
    return [work('sva.prq.end', ...counts)]
  }

  #end(task: Task, [requests, responses, groups]: Counts): undefined {
    const hadOverflow = this.#parts.driver.requests.clearOverflow(() => this.#all.queue.discardPartial())
    this.#all.queue.setComplete(true)
    const rule = requests === 0 ? 'none' : 'done'
    task.finish(hadOverflow ? 'overflow' : rule, {
      requests: BigInt(requests),
      responses: BigInt(responses),
      groups: BigInt(groups),
    })
    return undefined
  }

  #record(state: number, head: number, tail: number): void {
    const { stage, driver } = this.#parts
    stage.log.emit('svm.thread', causeOf(stage), { unit: driver.core.options.port.name, state, head, tail })
  }
}
