import { swap32, wordOf } from '../../../bits/u64.ts'
import { fieldMask } from '../../../bits/word.ts'
import { NO_PASID } from '../../../hw/vtd/ports.ts'
import { FSTS_OLD, PRS_OLD } from '../../../hw/vtd/register-format.ts'
import { PAGE_REQUEST } from '../../../trace/event-codes.ts'
import { VM, type Vma } from '../../process-port.ts'
import { type Task, type Work, work } from '../../steps.ts'
import { REQUEST_VECTOR } from '../unit-control.ts'
import type { InterruptPort } from '../unit-port.ts'
import { type SvmCore, unitOf, useAfterFree } from './core.ts'
import {
  type ReadRequest,
  type RequestResult,
  readRequest,
  responseKind,
  responseTo,
} from './request-words.ts'

/** PRQ_ORDER: one page of requests. */
export const OLD_QUEUE_ORDER = 0
const REQUEST_BYTES = 16
const RING_MASK = 0xff0
const PPR = fieldMask(PRS_OLD, 'PPR')
/** Revisions 2.x have it in FSTS. */
const OVERFLOW = fieldMask(FSTS_OLD, 'PRO')
/** Addresses of 48 bits are canonical where the upper 17 bits are the same. */
const SIGN_SHIFT = 47n
const FUNCTION = 'prq_event_thread'

const isCanonical = (address: bigint): boolean => {
  const top = address >> SIGN_SHIFT
  return top === 0n || top === (1n << (64n - SIGN_SHIFT)) - 1n
}

const hex8 = (word: bigint): string => word.toString(16).padStart(8, '0')

/** A request of the queue, and how far it is: arguments of the steps that handle it. */
interface Place {
  readonly head: number
  readonly tail: number
  /** What is bound by its PASID: its serial number, 0 while it is not known. */
  readonly serial: number
  readonly result: RequestResult
}

const RESULTS: readonly RequestResult[] = ['success', 'invalid', 'failure']

const step = (name: string, { head, tail, serial, result }: Place): Work =>
  work(name, head, tail, serial, result)

const placeOf = ([head, tail, serial, result]: Work['args']): Place => ({
  head: Number(head),
  tail: Number(tail),
  serial: Number(serial),
  result: RESULTS.find((r) => r === result) ?? 'failure',
})

function isAllowed({ flags }: Vma, { wantsRead, wantsWrite, wantsExecute }: ReadRequest): boolean {
  const wanted = (wantsRead ? VM.READ : 0) | (wantsWrite ? VM.WRITE : 0) | (wantsExecute ? VM.EXEC : 0)
  return (wanted & ~flags) === 0
}

/**
 * The thread of the page request interrupt of a unit of revisions 2.x, in the steps that others can come between. What
 * was asked for when it reads the tail is handled; what comes later interrupts again.
 * (Linux v4.9 drivers/iommu/intel-svm.c, prq_event_thread)
 */
export class SvmRequestThread {
  readonly #core: SvmCore
  readonly #interrupts: InterruptPort
  readonly #queue: () => number

  /** @param queue page of the queue; 0 where there is none */
  constructor(core: SvmCore, interrupts: InterruptPort, queue: () => number) {
    this.#core = core
    this.#interrupts = interrupts
    this.#queue = queue
    const { tasks, driver } = core
    const { registers } = driver.core
    tasks.define('prq wake', {
      doc: 'the page request interrupt wakes the thread',
      isReady: () => this.isWoken,
      isIdle: true,
      run: () => {
        interrupts.take(REQUEST_VECTOR)
        return undefined
      },
    })
    tasks.define('prq clear', {
      doc: 'clears the pending bit, so that the next request interrupts',
      run: () => {
        if (!core.quirks.pprNotCleared) registers.write32('PRS', PPR)
        return undefined
      },
    })
    tasks.define('prq read', {
      doc: 'reads tail and head of the page request queue',
      run: () => {
        const tail = Number(registers.read64('PQT')) & RING_MASK
        const head = Number(registers.read64('PQH')) & RING_MASK
        this.#recordThread(1, head, tail)
        return [head === tail ? work('prq end', tail, 0) : this.#next(head, tail)]
      },
    })
    tasks.define('prq request', {
      doc: 'takes a request, finds the PASID, and takes its address space',
      run: (_task, args) => this.#take(placeOf(args)),
    })
    tasks.define('prq fault', {
      doc: 'finds the range, compares the rights, has the page made',
      run: (_task, args) => this.#fault(placeOf(args)),
    })
    tasks.define('prq faulted', {
      doc: 'looks at what came of the fault, gives the address space back',
      run: (task, args) => this.#faulted(task, placeOf(args)),
    })
    tasks.define('prq callback', {
      doc: 'tells the driver of the device',
      run: (_task, args) => this.#callback(placeOf(args)),
    })
    tasks.define('prq respond', {
      doc: 'answers the request, goes on to the next',
      run: (_task, args) => this.#respond(placeOf(args)),
    })
    tasks.define('prq end', {
      doc: 'gives the places of the queue back that it has read',
      run: (task, [tail, handled]) => this.#end(task, Number(tail), handled === 1),
    })
  }

  /** Whether the interrupt of a request waits for the thread. */
  get isWoken(): boolean {
    return this.#interrupts.isPending(REQUEST_VECTOR)
  }

  /** One run of the thread, as soon as it is woken. */
  run(): readonly Work[] {
    return [work('prq wake'), work('prq clear'), work('prq read')]
  }

  #next(head: number, tail: number): Work {
    if (head === tail) return work('prq end', tail, 1)
    return step('prq request', { head, tail, serial: 0, result: 'failure' })
  }

  #take(place: Place): readonly Work[] {
    const { bindings, processes, say, quirks, driver } = this.#core
    const request = this.#requestAt(place.head)
    const [qw0, qw1] = request.words
    const unit = unitOf(this.#core)
    const answer = (result: RequestResult) => [step('prq respond', { ...place, result })]
    if (!request.hasPasid) {
      say(`${unit}: Page request without PASID: ${hex8(qw0)} ${hex8(qw1)}`)
      if (!quirks.diesWithoutPasid) return answer('failure')
      driver.core.life.die(`NULL pointer dereference in ${FUNCTION}: a request has no PASID`)
      return []
    }
    const svm = bindings.find(request.pasid)
    if (svm === undefined) {
      say(`${unit}: Page request for invalid PASID ${request.pasid}: ${hex8(qw0)} ${hex8(qw1)}`)
      if (!quirks.goesOnWithout) return answer('failure')
      driver.core.life.die(`NULL pointer dereference in ${FUNCTION}: it uses the PASID that it did not find`)
      return []
    }
    const found: Place = { ...place, serial: svm.serial, result: 'invalid' }
    const bad = [step('prq callback', found)]
    const mm = svm.mm === '' ? undefined : processes.mm(svm.mm)
    if (mm === undefined) return bad
    const isOdd = !isCanonical(request.address)
    if (isOdd && !quirks.leaksUsers) return bad
    // Before v4.5 the bind kept the address space for the thread.
    if (!quirks.holdsUsers && !mm.get()) return bad
    if (isOdd) return bad
    return [work('lock', `mmap_sem ${mm.name}`), step('prq fault', found)]
  }

  #fault(place: Place): readonly Work[] {
    const svm = this.#core.bindings.bySerial(place.serial)
    const mm = svm === undefined ? undefined : this.#core.processes.mm(svm.mm)
    if (mm === undefined) return this.#died()
    const request = this.#requestAt(place.head)
    const { address } = request
    const vma = mm.findVma(address, true)
    const isRight = vma !== undefined && (this.#core.quirks.noPermCheck || isAllowed(vma, request))
    if (!isRight) return [step('prq faulted', place)]
    return [
      ...mm.handleFault(address, request.wantsWrite),
      step('prq faulted', { ...place, result: 'success' }),
    ]
  }

  /** @param place `success` where the fault was handled: how, the task knows */
  #faulted(task: Task, place: Place): readonly Work[] {
    const svm = this.#core.bindings.bySerial(place.serial)
    if (svm === undefined) return this.#died()
    const isDone = place.result === 'success' && task.value === 'done'
    return [
      work('unlock', `mmap_sem ${svm.mm}`),
      ...(this.#core.quirks.holdsUsers ? [] : [work('mmput', svm.mm)]),
      step('prq callback', { ...place, result: isDone ? 'success' : 'invalid' }),
    ]
  }

  #callback(place: Place): readonly Work[] {
    const { bindings, quirks, say, driver } = this.#core
    const svm = bindings.bySerial(place.serial)
    if (svm === undefined) return this.#died()
    const request = this.#requestAt(place.head)
    const { source, pasid, page, rwxp } = request
    const bound = svm.devices.find(({ target }) => quirks.takesFirstDevice || target.source === source)
    if (bound === undefined) {
      say(`WARNING: ${FUNCTION}: no device of PASID ${pasid} is the one that asks`)
    } else if (bound.ops !== '') {
      const { log, cause } = driver.core.stage
      const { device, target } = bound
      const what = { device, source: target.source, pasid, address: page, rwxp, result: place.result }
      log.emit('svm.callback', cause, { ...what, wanted: source })
    }
    return [step('prq respond', place)]
  }

  #respond({ head, tail, result }: Place): readonly Work[] {
    const { stage, flusher } = this.#core.driver.core
    const request = this.#requestAt(head)
    const response = responseTo(request, result)
    stage.log.emit('svm.request', stage.cause, {
      unit: unitOf(this.#core),
      source: request.source,
      pasid: request.hasPasid ? request.pasid : NO_PASID,
      iova: request.address,
      flags: flagsOf(request),
      group: request.group,
      result,
      response: responseKind(request),
      offset: head,
    })
    if (response !== undefined) flusher.submit([response])
    return [this.#next((head + REQUEST_BYTES) & RING_MASK, tail)]
  }

  /** The head becomes the tail that was read: what came since is another run's. */
  #end(task: Task, tail: number, isHandled: boolean): undefined {
    task.finish(isHandled ? 'done' : 'none')
    const { registers } = this.#core.driver.core
    registers.write64('PQH', BigInt(tail))
    this.#recordThread(0, tail, tail)
    if (this.#core.quirks.leavesOverflow || (registers.read32('FSTS') & OVERFLOW) === 0n) return
    // Requests are lost until the bit is clear; devices ask again.
    this.#core.say(`IOMMU: ${unitOf(this.#core)}: PRQ overflow detected`)
    if ((Number(registers.read64('PQT')) & RING_MASK) !== tail) return
    registers.write32('FSTS', OVERFLOW)
    this.#core.say(`IOMMU: ${unitOf(this.#core)}: PRQ overflow cleared`)
  }

  /** Unbind has freed what the thread still uses. */
  #died(): readonly Work[] {
    useAfterFree(this.#core, FUNCTION)
    return []
  }

  #requestAt(offset: number): ReadRequest {
    const { memory } = this.#core.driver.core.options.port
    const word = (at: number): bigint => {
      memory.loadU64be(this.#queue(), at)
      return wordOf(swap32(memory.wordLo), swap32(memory.wordHi))
    }
    return readRequest([word(offset), word(offset + 8)], this.#core.quirks)
  }

  #recordThread(state: 0 | 1, head: number, tail: number): void {
    const { log, cause } = this.#core.driver.core.stage
    log.emit('svm.thread', cause, { unit: unitOf(this.#core), state, head, tail })
  }
}

function flagsOf(r: ReadRequest): number {
  return (
    (r.isPrivileged ? PAGE_REQUEST.PRIVILEGED : 0) |
    (r.wantsExecute ? PAGE_REQUEST.EXECUTE : 0) |
    (r.wantsWrite ? PAGE_REQUEST.WRITE : 0) |
    (r.wantsRead ? PAGE_REQUEST.READ : 0) |
    (r.isLast ? PAGE_REQUEST.LAST : 0)
  )
}
