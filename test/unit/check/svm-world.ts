import { NONE, PAGE_REQUEST } from '../../../src/trace/event-codes.ts'
import { VtdWorld } from './vtd-world.ts'

const UNIT = 'vtd'
/** A device a at 03:02.0, and its neighbour b at 03:03.0. */
export const A = 0x310
export const B = 0x318
const SOURCES: Readonly<Record<string, number>> = { a: A, b: B }
export const READ_LAST = PAGE_REQUEST.READ | PAGE_REQUEST.LAST
const [PQH, PQT, PQA, PRS] = [0xc0, 0xc8, 0xd0, 0xdc]
const PASID = 5

interface RequestOptions {
  readonly source?: number
  readonly pasid?: number
  readonly iova?: bigint
  readonly flags?: number
  readonly group?: number
}

/** Records of a kernel that binds processes to devices of a VT-d unit, one method each. Process P has the PASID 5. */
export class SvmWorld extends VtdWorld {
  /** Bytes of a request in the queue. */
  #tail = 0

  queue() {
    return this.register(PQA, 0x30_0000n)
  }

  /** A request reaches the queue; with an interrupt where PPR was clear. */
  asks(options: RequestOptions & { interrupts?: boolean; result?: string } = {}) {
    const { source = A, pasid = PASID, iova = 0x1000n, flags = READ_LAST, group = 1 } = options
    const { interrupts = true, result = 'queued' } = options
    if (interrupts) this.interrupt()
    if (result === 'queued') this.#tail += 16
    const request = { unit: UNIT, source, pasid, iova, flags, group, result, line: 0 }
    return this.log.emit('vtd.page-request', null, request)
  }

  interrupt(sent = 1) {
    const event = { unit: UNIT, event: 'page-request', address: 0xfee0_0000n, data: 0, sent }
    return this.log.emit('vtd.event', null, event)
  }

  clearsPpr() {
    return this.register(PRS, 1n, { bytes: 4 })
  }

  readsTail() {
    const tail = this.#tail
    this.register(PQT, BigInt(tail), { write: 0 })
    return tail
  }

  writesHead(head = this.#tail, cause: number | null = null) {
    return this.register(PQH, BigInt(head), { cause })
  }

  thread(state: number) {
    return this.log.emit('svm.thread', null, { unit: UNIT, state, head: 0, tail: this.#tail })
  }

  /** Software takes all that is there. */
  takesAll(cause: number | null = null) {
    this.clearsPpr()
    return this.writesHead(this.readsTail(), cause)
  }

  step(task: string, cause: number | null = null) {
    return this.log.emit('task.step', cause, { task, step: 'step', line: 0 })
  }

  /** A call in steps begins: whatever has its steps for a cause is part of it until it returns. */
  enters(call: string) {
    return this.log.emit('call.enter', null, {
      call,
      line: 0,
      by: 'kernel:0',
      a0: 0n,
      a1: 0n,
      a2: 0n,
      a3: 0n,
    })
  }

  returns(call: string, entered: number) {
    return this.log.emit('call.return', entered, { call, layer: 'kernel', code: 0, rule: 'done', out: 0n })
  }

  decodes(options: RequestOptions & { result?: string; response?: string; cause?: number } = {}) {
    const { source = A, pasid = PASID, iova = 0x1000n, flags = READ_LAST, group = 1 } = options
    const { result = 'success', response = 'group', cause = null } = options
    const request = { unit: UNIT, source, pasid, iova, flags, group, result, response, offset: 0 }
    return this.log.emit('svm.request', cause, request)
  }

  answers(options: { source?: number; pasid?: number; group?: number; code?: number } = {}) {
    const { source = A, pasid = PASID, group = 1, code = 0 } = options
    return this.log.emit('vtd.response', null, { unit: UNIT, source, pasid, group, code, line: 0 })
  }

  calls(options: { device?: string; wanted?: number; address?: bigint; rwxp?: number; pasid?: number } = {}) {
    const { device = 'a', wanted = A, address = 1n, rwxp = 8, pasid = PASID } = options
    const source = SOURCES[device] ?? 0
    return this.log.emit('svm.callback', null, {
      device,
      source,
      pasid,
      address,
      rwxp,
      result: 'success',
      wanted,
    })
  }

  users(users: number, count: number, why = 'get', mm = 'P', cause: number | null = null) {
    return this.log.emit('mm.users', cause, { mm, users, count, why })
  }

  vma(first: number, count: number, flags: number, present = 1, mm = 'P') {
    return this.log.emit('mm.vma', null, { mm, first, count, flags, present })
  }

  mmTable(page: number, level: number, state: number, mm = 'P') {
    return this.log.emit('mm.table', null, { mm, page, level, state })
  }

  notify(call: string, mm = 'P', notifier = 'svm') {
    return this.log.emit('mm.notify', null, { mm, notifier, call, start: 0n, end: 0n })
  }

  tables(order: number, entries: number, page = 0x400) {
    return this.log.emit('svm.tables', null, { unit: UNIT, table: 'PASID', page, order, entries })
  }

  pasid(state: number, options: { pasid?: number; mm?: string; unit?: string } = {}) {
    const { pasid = PASID, mm = 'P', unit = UNIT } = options
    return this.log.emit('svm.pasid', null, { unit, pasid, mm, state })
  }

  entry(present: number, options: { pasid?: number; mm?: string; pgd?: number; device?: string } = {}) {
    const { pasid = PASID, mm = 'P', pgd = 0x200, device = '' } = options
    const supervisor = mm === '' ? 1 : 0
    return this.log.emit('svm.entry', null, { unit: UNIT, device, pasid, mm, pgd, present, supervisor })
  }

  binds(users: number, options: { device?: string; pasid?: number; mm?: string } = {}) {
    const { device = 'a', pasid = PASID, mm = 'P' } = options
    const source = SOURCES[device] ?? 0
    return this.log.emit('svm.bind', null, { unit: UNIT, device, source, mm, pasid, users })
  }

  /** Process P, bound to device a by PASID 5. */
  bound() {
    this.users(1, 1, 'fork')
    this.mmTable(0x200, 4, 1)
    this.pasid(1)
    this.notify('register')
    this.users(1, 2, 'register')
    this.entry(1)
    return this.binds(1)
  }

  object(what: 'intel_svm' | 'intel_svm_dev', state: number, options: { pasid?: number } = {}) {
    const { pasid = what === 'intel_svm' ? PASID : 0 } = options
    const device = what === 'intel_svm' ? '' : 'a'
    return this.log.emit('svm.object', null, { unit: UNIT, what, pasid, device, state })
  }

  /** The device uses its PASID. */
  dma(options: { source?: number; pasid?: number; iova?: bigint; fault?: number } = {}) {
    const { source = A, pasid = PASID, iova = 0x1000n, fault = 0 } = options
    return this.translate(0, iova, { source, pasid, fault, need: 1, perm: fault === 0 ? 1 : 0 })
  }

  freed(what = 'svm', by = 'prq_event_thread') {
    return this.log.emit('svm.use-after-free', null, { what, by, line: 0 })
  }
}

export { NONE, PASID }
