import { pageOf } from '../../../bits/u64.ts'
import { INTERRUPT_START } from '../../../memory/interrupt-range.ts'
import { ADDRESS_TYPE, NO_PASID, PERM, type Translation, type VtdRequest } from '../ports.ts'
import { EVERYTHING } from './refusals.ts'

const PAGE_SHIFT = 12
/** Bits 31:20 of interrupt addresses. */
const INTERRUPTS = Number(INTERRUPT_START >> 20n)

/** Whether an address is one of interrupts. */
export const isInterrupt = ({ hi, lo }: VtdRequest): boolean => hi === 0 && lo >>> 20 === INTERRUPTS

/** Of a fault nothing else counts. */
export function clearPage(into: Translation): void {
  into.page = 0
  into.perm = 0
  into.shift = PAGE_SHIFT
  into.isGlobal = false
  into.isDirect = false
}

/** A request that goes to memory as it is, or an interrupt. */
export function passThrough(request: VtdRequest, into: Translation): void {
  const { hi, lo, pasid, addressType, need } = request
  clearPage(into)
  into.fault = 0
  into.isSilent = false
  into.isInterrupt = isInterrupt(request) && pasid === NO_PASID && addressType !== ADDRESS_TYPE.TRANSLATED
  into.isDirect = !into.isInterrupt
  into.page = pageOf(hi, lo, PAGE_SHIFT)
  into.perm = (need & PERM.EXECUTE) !== 0 ? EVERYTHING : PERM.READ | PERM.WRITE
  into.domain = 0
  into.pasid = NO_PASID
}
