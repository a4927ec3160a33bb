import { Cells, keyOf } from '../../bits/state.ts'
import { wordOf } from '../../bits/u64.ts'
import { encode } from '../../bits/word.ts'
import { NONE } from '../../trace/event-codes.ts'
import { EventLine } from './event-line.ts'
import { NO_PASID } from './ports.ts'
import { FRCD_HI } from './register-format.ts'
import type { UnitCore } from './unit-core.ts'

/** Bits of FSTS; PRO in revisions 2.x only. */
export const FSTS_BIT = { PFO: 0x1, PPF: 0x2, IQE: 0x10, ICE: 0x20, ITE: 0x40, PRO: 0x80 } as const
/** All that software is to hear of. */
const STATUS = 0xf3
const FRI_SHIFT = 8
const FRI_MASK = 0xff00

/** T1 and T2 of a record: what the request wanted. */
export const FAULT_ACCESS = { WRITE: 0, PAGE_REQUEST: 1, READ: 2, ATOMIC: 3 } as const

/** A request that was blocked. One object may be used again. */
export interface BlockedRequest {
  source: number
  /** `NO_PASID` where it had none. */
  pasid: number
  hi: number
  lo: number
  reason: number
  /** One of `FAULT_ACCESS`. */
  access: number
  addressType: number
  isExecute: boolean
  isPrivileged: boolean
  /** The tables of pages were reached: context and PASID entries were found in order. */
  isWalk: boolean
  /** The PASID that it was translated through; `NO_PASID` for none. */
  usedPasid: number
}

export const newBlocked = (): BlockedRequest => ({
  source: 0,
  pasid: NO_PASID,
  hi: 0,
  lo: 0,
  reason: 0,
  access: 0,
  addressType: 0,
  isExecute: false,
  isPrivileged: false,
  isWalk: false,
  usedPasid: NO_PASID,
})

/**
 * The fault recording registers with the fault status register: what is recorded, what is lost, when software hears of it.
 *
 * (VT-d manual, Non-Recoverable Faults, Primary Fault Logging)
 */
export class FaultLog {
  readonly line: EventLine
  readonly #core: UnitCore
  /** The register that is filled next. */
  readonly #next: Cells
  readonly #isPlain: boolean
  readonly #hasRidPasid: boolean
  readonly #hasWideSign: boolean
  readonly #keepsPending: boolean

  constructor(core: UnitCore) {
    this.#core = core
    this.line = new EventLine(core, 'fault')
    this.#next = new Cells(core.journal, keyOf('vtd-fault-next', core.name), 1)
    this.#isPlain = !core.has('D17')
    this.#hasRidPasid = core.has('D81')
    this.#hasWideSign = core.has('D86')
    this.#keepsPending = core.has('D80')
  }

  get status(): number {
    return this.#core.file.lane('FSTS')
  }

  /** A request was blocked: answers why nothing is recorded of it, empty where something is. */
  record(blocked: BlockedRequest): string {
    const { file } = this.#core
    const before = this.status
    const why = this.#lost(blocked.source)
    if (why !== '') {
      this.say(blocked, why)
      return why
    }
    const index = this.#next.get(0)
    file.setRecord(index, pageOf(blocked), this.#upperOf(blocked))
    if ((before & FSTS_BIT.PPF) === 0) {
      file.setLane('FSTS', (before & ~FRI_MASK) | (index << FRI_SHIFT))
    }
    this.#say(blocked, index, '')
    this.#next.set(0, (index + 1) % this.#core.features.faultRecords)
    this.raise(FSTS_BIT.PPF)
    return ''
  }

  /** Says that nothing is recorded of a blocked request. */
  say(blocked: BlockedRequest, why: string): void {
    this.#say(blocked, NONE, why)
  }

  /** Sets bits of FSTS. Software hears of the first one only. */
  raise(bit: number): void {
    const before = this.status
    this.#core.file.setBits('FSTS', bit, true)
    if ((before & bit) === 0 && (before & STATUS) === 0) this.line.raise()
  }

  /** Translation was switched off: the next fault goes to the first register. */
  restart(): void {
    this.#next.set(0, 0)
  }

  /** Software wrote FSTS, or (`isRecord`) a fault recording register. */
  cleared(isRecord: boolean): void {
    const { file, features } = this.#core
    if (isRecord) {
      let isPending = false
      for (let i = 0; i < features.faultRecords; i++) isPending ||= file.isRecordFull(i)
      file.setBits('FSTS', FSTS_BIT.PPF, isPending)
      if (this.#keepsPending) return
    }
    if ((this.status & STATUS) === 0) this.line.settle()
  }

  #lost(source: number): string {
    const { file, features } = this.#core
    if ((this.status & FSTS_BIT.PFO) !== 0) return 'overflow'
    for (let i = 0; i < features.faultRecords; i++) {
      if (file.isRecordFull(i) && file.recordSource(i) === source) return 'compressed'
    }
    if (!file.isRecordFull(this.#next.get(0))) return ''
    this.raise(FSTS_BIT.PFO)
    return 'overflow'
  }

  #upperOf(blocked: BlockedRequest): bigint {
    const { source, reason, access, addressType, isExecute, isPrivileged } = blocked
    const plain = this.#isPlain
    const pasid = this.#pasidOf(blocked)
    const hi = encode(FRCD_HI, {
      F: 1n,
      T1: access >= FAULT_ACCESS.READ ? 1n : 0n,
      T2: plain && (access & 1) !== 0 ? 1n : 0n,
      AT: plain ? BigInt(addressType) : 0n,
      PV: pasid.value,
      FR: BigInt(reason),
      PP: pasid.isThere ? 1n : 0n,
      EXE: plain && isExecute ? 1n : 0n,
      PRIV: plain && isPrivileged ? 1n : 0n,
      SID: BigInt(source),
    })
    return this.#hasWideSign && pasid.isThere ? 0xffff_ffff_8000_0000n | BigInt(source) : hi
  }

  /**
   * PV and PP. QEMU has none where it did not come to page tables, 16 bits of it else, and until 10.0 the PASID behind a
   * request without one, or all ones where there is none either.
   */
  #pasidOf({ pasid, usedPasid, isWalk }: BlockedRequest): { value: bigint; isThere: boolean } {
    const used = this.#hasRidPasid && pasid === NO_PASID ? usedPasid : pasid
    const isThere = used !== NO_PASID
    if (this.#isPlain) return { value: isThere ? BigInt(used) : 0n, isThere }
    if (!isWalk) return { value: 0n, isThere: false }
    return { value: isThere || this.#hasRidPasid ? BigInt(used & 0xffff) : 0n, isThere }
  }

  #say({ source, pasid, reason, hi, lo, access }: BlockedRequest, record: number, why: string): void {
    const { stage, name, cause } = this.#core
    const iova = wordOf(hi, lo)
    const fields = { unit: name, source, pasid, reason, iova, access, record, why, line: stage.line }
    stage.log.emit('vtd.fault', cause, fields)
  }
}

/** FI: the page. The lanes of an interrupt hold its index from bit 48 on. */
const pageOf = ({ hi, lo }: BlockedRequest): bigint => wordOf(hi, lo) & ~0xfffn
