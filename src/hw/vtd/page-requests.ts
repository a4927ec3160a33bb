import { encode, fieldMask, get, maskOf } from '../../bits/word.ts'
import { PAGE_REQUEST } from '../../trace/event-codes.ts'
import {
  PAGE_REQ_DSC_128_QW0,
  PAGE_REQ_DSC_128_QW1,
  PAGE_REQ_DSC_QW0,
  PAGE_REQ_DSC_QW1,
} from './descriptor-format.ts'
import { EventLine } from './event-line.ts'
import { type BlockedRequest, FAULT_ACCESS, type FaultLog, FSTS_BIT } from './fault-log.ts'
import { FAULT, isQualified } from './fault-reasons.ts'
import { NO_PASID, type PageRequest, PGTT, TABLE_MODE, type VtdInvalidation } from './ports.ts'
import { hasOldPageRequests } from './register-file.ts'
import { PQA, PRS } from './register-format.ts'
import type { UnitCore } from './unit-core.ts'
import type { UnitTranslator } from './unit-translator.ts'

/** Bits of PRS. */
const PPR = Number(fieldMask(PRS, 'PPR'))
const PRO = Number(fieldMask(PRS, 'PRO'))
const QUEUE_PAGE_BYTES = 4096
const GROUP_MASK = 0x1ffn
const PAGE_SHIFT = 12n
const U64 = (1n << 64n) - 1n

/** What a unit does with a page request. */
export type PageRequestEnd = 'queued' | 'dropped' | 'refused'

/** What page requests need of their unit. */
export interface PageRequestParts {
  readonly core: UnitCore
  readonly translator: UnitTranslator
  readonly faults: FaultLog
  /** Which tables the root table leads to, and whether they are used. */
  readonly tableMode: () => number
  readonly isEnabled: () => boolean
  /** A page request is blocked: recorded, unless FPD keeps it from that. */
  readonly block: (blocked: BlockedRequest, isSilent: boolean) => void
}

const flag = (isSet: boolean): bigint => (isSet ? 1n : 0n)

/**
 * The words of a page request as software finds it in the queue: today's.
 *
 * @example pageRequestWords(request)[0] // 0x503100101n
 */
export function pageRequestWords(r: PageRequest): readonly [bigint, bigint, bigint, bigint] {
  const hasPasid = r.pasid !== NO_PASID
  const data = r.privateData ?? 0n
  return [
    encode(PAGE_REQ_DSC_QW0, {
      TYPE: 1n,
      PP: flag(hasPasid),
      PDP: flag(r.privateData !== undefined),
      RID: BigInt(r.source),
      PASID: hasPasid ? BigInt(r.pasid) : 0n,
      EXR: flag(r.isExecute),
      PMR: flag(r.isPrivileged),
    }),
    encode(PAGE_REQ_DSC_QW1, {
      RDR: flag(r.isRead),
      WRR: flag(r.isWrite),
      LPIG: flag(r.isLast),
      PRGI: BigInt(r.group) & GROUP_MASK,
      ADDR: r.address >> PAGE_SHIFT,
    }),
    data & U64,
    data >> 64n,
  ]
}

/** The words of a page request of revisions 2.x. */
export function oldPageRequestWords(r: PageRequest): readonly [bigint, bigint] {
  const hasPasid = r.pasid !== NO_PASID
  const source = BigInt(r.source)
  return [
    encode(PAGE_REQ_DSC_128_QW0, {
      PP: flag(hasPasid),
      LPIG: flag(r.isLast),
      PASID: hasPasid ? BigInt(r.pasid) : 0n,
      BUS: source >> 8n,
      PRIVATE: (r.privateData ?? 0n) & 0x7f_ffffn,
      PRGI: BigInt(r.group) & GROUP_MASK,
    }),
    encode(PAGE_REQ_DSC_128_QW1, {
      RD: flag(r.isRead),
      WR: flag(r.isWrite),
      EXE: flag(r.isExecute),
      PRIV: flag(r.isPrivileged),
      DEVFN: source & 0xffn,
      ADDR: r.address >> PAGE_SHIFT,
    }),
  ]
}

/**
 * The page request queue of a unit. Software owns its head, the unit its tail; one place stays free.
 *
 * What is dropped is lost for software. The unit then answers the last request of a group with success, so that the
 * device asks again: `dropped` says so to the device. (VT-d manual, Page Request Queue)
 */
export class PageRequestQueue {
  readonly #parts: PageRequestParts
  readonly #core: UnitCore
  readonly #line: EventLine
  readonly #bytes = new Uint8Array(32)
  readonly #view = new DataView(this.#bytes.buffer)
  readonly #isOld: boolean
  readonly #isQemu: boolean
  readonly #losesExecute: boolean
  readonly #hasReadBit: boolean
  readonly #countsPasidFpd: boolean
  readonly #hasNoPasidZero: boolean

  constructor(parts: PageRequestParts) {
    const { core } = parts
    const { features, has } = core
    this.#parts = parts
    this.#core = core
    this.#line = new EventLine(core, 'page-request')
    this.#isOld = hasOldPageRequests(features)
    this.#isQemu = has('D44')
    this.#losesExecute = has('D43')
    this.#hasReadBit = has('D45')
    this.#countsPasidFpd = has('D116')
    this.#hasNoPasidZero = has('D117')
  }

  /** A device sends a page request message. */
  request(request: PageRequest): PageRequestEnd {
    const { stage, name, cause } = this.#core
    const before = stage.cause
    // What comes of it is known last, and caused by the same.
    const end = this.#take(request)
    stage.cause = before
    stage.log.emit('vtd.page-request', cause, {
      unit: name,
      source: request.source,
      pasid: request.pasid,
      iova: request.address,
      flags: flagsOf(request),
      group: request.group,
      result: end,
      line: stage.line,
    })
    return end
  }

  /** Software wrote PRS or (`isControl`) PECTL. */
  eventWritten(isControl: boolean): void {
    if (isControl) this.#line.controlled()
    else if ((this.#core.file.lane('PRS') & (PPR | PRO)) === 0) this.#line.settle()
  }

  #take(request: PageRequest): PageRequestEnd {
    const { file, features } = this.#core
    if (!features.hasPageRequests) return 'refused'
    if (!this.#isQemu && !this.#parts.isEnabled()) return 'refused'
    if (this.#isQemu && request.pasid === NO_PASID) return 'refused'
    if (this.#hasNoPasidZero && request.pasid === 0) return 'refused'
    if (request.isExecute && !request.isRead) return 'refused'
    if (!this.#isAllowed(request)) return 'refused'
    if (this.#isOverflown) return 'dropped'
    const status = file.lane('PRS')
    const bytes = this.#isOld ? 16 : 32
    const ringBytes = QUEUE_PAGE_BYTES << Number(get(PQA, file.get('PQA'), 'PQS'))
    const tail = file.lane('PQT')
    const next = (tail + bytes) % ringBytes
    if (next === file.lane('PQH')) {
      this.#overflow(status)
      return 'dropped'
    }
    if (!this.#forget(request)) return 'refused'
    const base = file.get('PQA') & maskOf(PQA, 'rw') & ~0xfffn
    this.#fill(request)
    if (!this.#core.write(base + BigInt(tail), this.#bytes, bytes)) {
      if (!this.#isQemu) this.#core.unmodelled('a page request queue that is not in memory')
      return 'refused'
    }
    file.setLane('PQT', next)
    if ((status & PPR) === 0) {
      file.setBits('PRS', PPR, true)
      this.#line.raise()
    }
    return 'queued'
  }

  get #isOverflown(): boolean {
    const { file } = this.#core
    return this.#isOld ? (file.lane('FSTS') & FSTS_BIT.PRO) !== 0 : (file.lane('PRS') & PRO) !== 0
  }

  #overflow(status: number): void {
    if (this.#isOld) {
      this.#parts.faults.raise(FSTS_BIT.PRO)
      return
    }
    this.#core.file.setBits('PRS', PRO, true)
    if ((status & PPR) === 0) this.#line.raise()
  }

  #fill(request: PageRequest): void {
    const words = this.#isOld
      ? oldPageRequestWords(request)
      : pageRequestWords(this.#losesExecute ? { ...request, isExecute: false } : request)
    words.forEach((word, i) => {
      this.#view.setBigUint64(i * 8, word, true)
    })
  }

  /** The structures of the device must allow page requests. */
  #isAllowed(request: PageRequest): boolean {
    const { translator } = this.#parts
    const { source, pasid } = request
    if (this.#parts.tableMode() === TABLE_MODE.LEGACY && !this.#isQemu) {
      return this.#blocked(request, FAULT.LEGACY_PAGE_REQUEST, false)
    }
    const fault = translator.findContext(source)
    const { context } = translator
    if (fault !== 0) return this.#blocked(request, fault, context.isSilent && !this.#isQemu)
    const isSilent = context.isSilent
    if (!this.#isQemu && pasid !== NO_PASID) {
      if (!context.hasPasid) return this.#blocked(request, FAULT.SM_PASIDE, isSilent)
      if (pasid >= context.pasids) return this.#blocked(request, FAULT.SM_PASID_BEYOND, isSilent)
    }
    if (context.hasPageRequests) return true
    return this.#blocked(
      request,
      FAULT.SM_PRE,
      isSilent || (this.#countsPasidFpd && translator.silences(pasid)),
    )
  }

  /** What is cached of the page is dropped: the device asks because of it. False where QEMU finds no entry for it. */
  #forget({ source, pasid, address }: PageRequest): boolean {
    const { translator } = this.#parts
    const used = pasid === NO_PASID ? translator.context.ridPasid : pasid
    const fault = translator.findPasid(source, used)
    const { type, domain } = translator.pasid
    if (fault !== 0 || (this.#isQemu && type !== PGTT.FIRST_LEVEL)) return !this.#isQemu
    const what: VtdInvalidation = {
      what: 'pasid-iotlb',
      scope: 'fine',
      domain,
      source: 0,
      functionMask: 0,
      pasid: used,
      address: address & ~0xfffn,
      order: 0,
      isLeafOnly: true,
      isGlobalToo: true,
    }
    translator.invalidate(what)
    return true
  }

  #blocked(request: PageRequest, reason: number, isSilent: boolean): false {
    const { source, pasid, address, isExecute, isPrivileged, isWrite } = request
    const blocked: BlockedRequest = {
      source,
      pasid,
      hi: Number(BigInt.asIntN(32, address >> 32n)),
      lo: Number(BigInt.asIntN(32, address)),
      reason,
      access: this.#accessOf(isWrite),
      addressType: 0,
      isExecute,
      isPrivileged,
      // Its record has the PASID, whatever was wrong.
      isWalk: true,
      usedPasid: pasid,
    }
    this.#parts.block(blocked, isSilent && isQualified(reason))
    return false
  }

  #accessOf(isWrite: boolean): number {
    if (!this.#hasReadBit) return FAULT_ACCESS.PAGE_REQUEST
    return isWrite ? FAULT_ACCESS.WRITE : FAULT_ACCESS.READ
  }
}

function flagsOf(r: PageRequest): number {
  return (
    (r.isPrivileged ? PAGE_REQUEST.PRIVILEGED : 0) |
    (r.isExecute ? PAGE_REQUEST.EXECUTE : 0) |
    (r.isWrite ? PAGE_REQUEST.WRITE : 0) |
    (r.isRead ? PAGE_REQUEST.READ : 0) |
    (r.isLast ? PAGE_REQUEST.LAST : 0) |
    (r.privateData === undefined ? 0 : PAGE_REQUEST.PRIVATE_DATA)
  )
}
