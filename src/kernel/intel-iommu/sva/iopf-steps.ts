import { get } from '../../../bits/word.ts'
import { PAGE_REQ_DSC_QW0, PAGE_REQ_DSC_QW1 } from '../../../hw/vtd/descriptor-format.ts'
import { NONE, PAGE_REQUEST, PAGE_RESPONSE } from '../../../trace/event-codes.ts'
import { VM } from '../../process-port.ts'
import { type Task, type Work, type WorkArg, work } from '../../steps.ts'
import { isLastOfGroup, type RequestWords, responseTo } from '../page-request-words.ts'
import { groupOf, type IopfQueue, type PageFault, pasidOf } from './iopf-queue.ts'
import type { SvaBook } from './sva-book.ts'
import { causeOf, type SvaParts } from './sva-parts.ts'

/** What a response says. (Linux v6.1 include/uapi/linux/iommu.h, iommu_page_response_code) */
export type ResponseCode = 'success' | 'invalid' | 'failure'

const PAGE_SHIFT = 12n
const CODES = {
  success: PAGE_RESPONSE.SUCCESS,
  invalid: PAGE_RESPONSE.INVALID,
  failure: PAGE_RESPONSE.FAILURE,
} as const
/** IOMMU_PAGE_RESP_FAILURE, which is no code of the unit. */
const RAW_FAILURE = 2

const addressOf = ([, qw1]: RequestWords): bigint => get(PAGE_REQ_DSC_QW1, qw1, 'ADDR') << PAGE_SHIFT

/** What a request wants, as records have it. */
function flagsOf(words: RequestWords): number {
  const is0 = (name: 'PMR' | 'EXR' | 'PDP') => get(PAGE_REQ_DSC_QW0, words[0], name) === 1n
  const is1 = (name: 'RDR' | 'WRR') => get(PAGE_REQ_DSC_QW1, words[1], name) === 1n
  return (
    (is0('PMR') ? PAGE_REQUEST.PRIVILEGED : 0) |
    (is0('EXR') ? PAGE_REQUEST.EXECUTE : 0) |
    (is1('WRR') ? PAGE_REQUEST.WRITE : 0) |
    (is1('RDR') ? PAGE_REQUEST.READ : 0) |
    (isLastOfGroup(words) ? PAGE_REQUEST.LAST : 0) |
    (is0('PDP') ? PAGE_REQUEST.PRIVATE_DATA : 0)
  )
}

/** Rights that a request needs of the addresses. */
function needsOf(flags: number): number {
  return (
    ((flags & PAGE_REQUEST.READ) === 0 ? 0 : VM.READ) |
    ((flags & PAGE_REQUEST.WRITE) === 0 ? 0 : VM.WRITE) |
    ((flags & PAGE_REQUEST.EXECUTE) === 0 ? 0 : VM.EXEC)
  )
}

/**
 * A worker handles a group of page requests, in steps. (Linux v6.1 drivers/iommu/io-pgfault.c, iopf_handle_group,
 * iopf_handle_single; iommu.c, iommu_page_response; intel/svm.c, intel_svm_page_response)
 */
export class IopfSteps {
  readonly #parts: SvaParts
  readonly #book: SvaBook
  readonly #queue: IopfQueue
  /** K6-foreign-pasid; and of 5.14 to 6.0 what the thread has let through (K5-bound-only) */
  readonly #takesForeign: boolean
  /** K6-zero-pasid */
  readonly #forgetsZero: boolean
  /** K6-response-code */
  readonly #sendsRaw: boolean
  /** K5-lost-response */
  readonly #answersBound: boolean

  constructor(parts: SvaParts, book: SvaBook, queue: IopfQueue) {
    const { tasks, profile, processes } = parts
    this.#parts = parts
    this.#book = book
    this.#queue = queue
    this.#takesForeign = profile.has('K6-foreign-pasid') || profile.has('K5-bound-only')
    this.#forgetsZero = profile.has('K6-zero-pasid')
    this.#sendsRaw = profile.has('K6-response-code')
    this.#answersBound = profile.has('K5-lost-response')
    tasks.define('iopf.begin', {
      doc: 'a worker takes a group of page requests',
      run: (task, [id]) => this.#begin(task, Number(id)),
    })
    tasks.define('iopf.get', {
      doc: 'takes the address space of a PASID, unless it is ending',
      run: (_task, args) => this.#get(args),
    })
    tasks.define('iopf.fault', {
      doc: 'has the page of a request brought in, where the process may do so itself',
      run: (_task, args) => this.#fault(args),
    })
    tasks.define('iopf.faulted', {
      doc: 'sees whether the page is there',
      run: (task, [id]) => {
        if (task.value === 'error') queue.fail(Number(id))
        return undefined
      },
    })
    tasks.define('iopf.put', {
      doc: 'gives the address space of a page request back',
      run: (_task, [mm]) => processes.mm(String(mm))?.put(),
    })
    tasks.define('iopf.complete', {
      doc: 'answers a group of page requests',
      run: (task, [id]) => this.#complete(task, Number(id)),
    })
  }

  /** The works of a worker that handles a group. */
  works(id: number): readonly Work[] {
    return [work('iopf.begin', id)]
  }

  /** Answers a group by its last request. False where no response is sent. */
  respond(fault: PageFault, code: ResponseCode): boolean {
    const pasid = pasidOf(fault)
    const isUnbound = this.#answersBound && this.#book.bondOf(pasid, fault.device) === undefined
    const isLost = isUnbound || (this.#forgetsZero && pasid === 0)
    if (!isLost) {
      const isRaw = this.#sendsRaw && code === 'failure'
      const { flusher } = this.#parts.driver.core
      // A request with private data is taken for the last one of its group.
      flusher.submit([responseTo(fault.words, isRaw ? RAW_FAILURE : CODES[code], true)])
    }
    this.record(fault, code, isLost ? 'none' : 'group')
    return !isLost
  }

  /** A response comes that no group of the device waits for. */
  warn(device: string): undefined {
    this.#parts.driver.core.flusher.queue.printed.push(`${device}: no pending PRQ, drop response`)
    return undefined
  }

  /** What came of a request, and whether a response follows. */
  record({ words, offset }: PageFault, result: string, response: string): void {
    const { stage, driver } = this.#parts
    const hasPasid = get(PAGE_REQ_DSC_QW0, words[0], 'PP') === 1n
    stage.log.emit('svm.request', causeOf(stage), {
      unit: driver.core.options.port.name,
      source: Number(get(PAGE_REQ_DSC_QW0, words[0], 'RID')),
      pasid: hasPasid ? Number(get(PAGE_REQ_DSC_QW0, words[0], 'PASID')) : NONE,
      iova: addressOf(words),
      flags: flagsOf(words),
      group: Number(get(PAGE_REQ_DSC_QW1, words[1], 'PRGI')),
      result,
      response,
      offset,
    })
  }

  #begin(task: Task, id: number): readonly Work[] {
    const group = this.#queue.group(id)
    if (group === undefined || group.isTaken) {
      task.finish('none')
      return []
    }
    this.#queue.take(id)
    const last = group.faults.at(-1)
    const isBound = last !== undefined && this.#book.bondOf(pasidOf(last), group.device) !== undefined
    if (!isBound && !this.#takesForeign) this.#queue.fail(id)
    return [...group.faults.map((_fault, i) => work('iopf.get', id, i)), work('iopf.complete', id)]
  }

  /** With the first request that fails the others are not looked at. */
  #get([id, place]: readonly WorkArg[]): readonly Work[] {
    const group = this.#queue.group(Number(id))
    const fault = group?.faults[Number(place)]
    if (group === undefined || fault === undefined || group.result !== 'success') return []
    const name = this.#book.mmOf(pasidOf(fault))
    const mm = name === undefined ? undefined : this.#parts.processes.mm(name)
    if (mm === undefined || !mm.get()) {
      this.#queue.fail(group.id)
      return []
    }
    const lock = `mmap_sem ${mm.name}`
    return [
      work('lock', lock),
      work('iopf.fault', group.id, Number(place), mm.name),
      work('unlock', lock),
      work('iopf.put', mm.name),
    ]
  }

  /** No stack grows by it. (Linux v6.1.37 and later: vma_lookup; before, find_extend_vma) */
  #fault([id, place, name]: readonly WorkArg[]): readonly Work[] {
    const fault = this.#queue.group(Number(id))?.faults[Number(place)]
    const mm = this.#parts.processes.mm(String(name))
    if (fault === undefined || mm === undefined) return []
    const address = addressOf(fault.words)
    const flags = flagsOf(fault.words)
    const vma = mm.findVma(address, false)
    if (vma === undefined || (needsOf(flags) & ~vma.flags) !== 0) {
      this.#queue.fail(Number(id))
      return []
    }
    const isWrite = (flags & PAGE_REQUEST.WRITE) !== 0
    return [...mm.handleFault(address, isWrite), work('iopf.faulted', Number(id))]
  }

  #complete(task: Task, id: number): undefined {
    const group = this.#queue.group(id)
    const last = group?.faults.at(-1)
    if (group === undefined || last === undefined) return undefined
    this.#queue.finish(id)
    const pending = this.#queue.isPending(group.device)
      ? this.#queue.takePending(group.device, groupOf(last), pasidOf(last))
      : this.warn(group.device)
    const response = pending !== undefined && this.respond(pending, group.result)
    const outputs = { faults: BigInt(group.faults.length), result: group.result, response }
    task.finish('done', outputs)
    return undefined
  }
}
