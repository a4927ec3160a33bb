import { get, maskOf, type Word } from '../../../bits/word.ts'
import {
  CC_INV_DSC_QW0,
  DESCRIPTOR_TYPE,
  DEV_TLB_INV_DSC_QW0,
  DEV_TLB_INV_DSC_QW1,
  EXT_IOTLB_INV_DSC_QW1,
  IEC_INV_DSC_QW0,
  INV_WAIT_DSC_QW0,
  INV_WAIT_DSC_QW1,
  IOTLB_INV_DSC_QW0,
  IOTLB_INV_DSC_QW1,
  P_DEV_TLB_INV_DSC_QW0,
  P_DEV_TLB_INV_DSC_QW1,
  P_IOTLB_INV_DSC_QW0,
  P_IOTLB_INV_DSC_QW1,
  PAGE_GRP_RESP_DSC_QW0,
  PAGE_GRP_RESP_DSC_QW1,
  PC_INV_DSC_QW0,
  PGRP_RESP_DSC_QW0,
  PGRP_RESP_DSC_QW1,
  PSTRM_RESP_DSC_QW0,
  PSTRM_RESP_DSC_QW1,
} from '../descriptor-format.ts'
import { NO_PASID, type PageResponse, type VtdInvalidation } from '../ports.ts'

/** What descriptors a unit takes. */
export interface DescriptorRules {
  /** Words of a descriptor: 2 or 4. */
  readonly width: 2 | 4
  /** Descriptors of revisions 2.x with PASIDs in 128 bits (ECAP.ECS), or those of today, in 256. */
  readonly layout: 'extended' | 'scalable' | 'legacy'
  readonly hasDeviceTlb: boolean
  readonly hasInterruptRemapping: boolean
  readonly hasPageRequests: boolean
  /** ECAP.PDS and DIT: bits that are reserved without. */
  readonly hasPageDrain: boolean
  readonly hasThrottling: boolean
  /** CAP.PSI and MAMV. */
  readonly hasPageSelective: boolean
  readonly maxOrder: number
}

/** Why a descriptor is refused, by IQERCD.IQEI, in the order of the checks. */
export const DESCRIPTOR_FAULTS = Object.freeze({
  type: { error: 3, doc: 'The type is not known, or not one of this unit or of this width.' },
  reserved: { error: 4, doc: 'A reserved bit is set, in any word.' },
  granularity: { error: 4, doc: 'The granularity is reserved.' },
  'address-mask': { error: 4, doc: 'The address mask is above CAP.MAMV.' },
} as const)
export type DescriptorFault = keyof typeof DESCRIPTOR_FAULTS

/** What a descriptor asks for. */
export type Descriptor =
  | { readonly kind: 'invalidate'; readonly what: VtdInvalidation; readonly drains: boolean }
  | {
      readonly kind: 'wait'
      readonly isFence: boolean
      readonly writesStatus: boolean
      readonly interrupts: boolean
      readonly drainsPages: boolean
      readonly address: bigint
      readonly data: number
    }
  | { readonly kind: 'respond'; readonly response: PageResponse; readonly isStream: boolean }

type Words = Readonly<ArrayLike<bigint>>
type Read = (words: Words, rules: DescriptorRules) => Descriptor | DescriptorFault

const PAGE_SHIFT = 12n
/** log2 of the pages of the whole space. */
const WHOLE_SPACE = 52
const ALL = 0xffff_ffff_ffff_ffffn
/** What follows where a descriptor has no further words. */
const NOTHING = [ALL, ALL, ALL] as const

const NO_INVALIDATION: Omit<VtdInvalidation, 'what' | 'scope'> = {
  domain: 0,
  source: 0,
  functionMask: 0,
  pasid: NO_PASID,
  address: 0n,
  order: 0,
  isLeafOnly: false,
  isGlobalToo: false,
}

const field = <F extends string>(word: Word<F>, raw: bigint | undefined, name: F): number =>
  Number(get(word, raw ?? 0n, name))
const at = (words: Words, place: number): bigint => words[place] ?? 0n
const invalidate = (
  what: VtdInvalidation['what'],
  scope: VtdInvalidation['scope'],
  rest: Partial<VtdInvalidation>,
  drains = false,
): Descriptor => ({ kind: 'invalidate', what: { ...NO_INVALIDATION, ...rest, what, scope }, drains })

const reservedMasks = new Map<Word, bigint>()
function reservedOf(word: Word): bigint {
  const known = reservedMasks.get(word)
  if (known !== undefined) return known
  const mask = maskOf(word, 'rsvd')
  reservedMasks.set(word, mask)
  return mask
}

/** Whether a bit is set that the words of a descriptor, and the masks after them, have as reserved. */
function hasReserved(words: Words, declared: readonly Word[], more: readonly bigint[] = NOTHING): boolean {
  for (let i = 0; i < words.length; i++) {
    const word = declared[i]
    const mask = word === undefined ? (more[i - declared.length] ?? 0n) : reservedOf(word)
    if ((at(words, i) & mask) !== 0n) return true
  }
  return false
}

/**
 * The pages that a device-TLB invalidation names: one, or with S as many as the lowest bits of the address that are 1
 * say. `order` 52 is the whole space.
 *
 * @example sizedRange(0x402ffn, true) // { address: 0x40200000n, order: 9 }
 */
export function sizedRange(page: bigint, isSized: boolean): { address: bigint; order: number } {
  if (!isSized) return { address: page << PAGE_SHIFT, order: 0 }
  let order = 1
  for (let rest = page; (rest & 1n) === 1n; rest >>= 1n) order++
  if (order >= WHOLE_SPACE) return { address: 0n, order: WHOLE_SPACE }
  return { address: (page >> BigInt(order)) << (BigInt(order) + PAGE_SHIFT), order }
}

const readContext: Read = (words) => {
  if (hasReserved(words, [CC_INV_DSC_QW0])) return 'reserved'
  const of = (name: keyof typeof CC_INV_DSC_QW0.fields) => field(CC_INV_DSC_QW0, words[0], name)
  const domain = of('DID')
  switch (of('G')) {
    case 1:
      return invalidate('context', 'all', {})
    case 2:
      return invalidate('context', 'domain', { domain })
    case 3:
      return invalidate('context', 'fine', { domain, source: of('SID'), functionMask: of('FM') })
    default:
      return 'granularity'
  }
}

const readIotlb: Read = (words, { hasPageSelective, maxOrder }) => {
  if (hasReserved(words, [IOTLB_INV_DSC_QW0, IOTLB_INV_DSC_QW1])) return 'reserved'
  const of = (name: keyof typeof IOTLB_INV_DSC_QW0.fields) => field(IOTLB_INV_DSC_QW0, words[0], name)
  const domain = of('DID')
  const drains = of('DR') === 1 || of('DW') === 1
  const granularity = of('G')
  if (granularity === 0) return 'granularity'
  if (granularity === 1) return invalidate('iotlb', 'all', {}, drains)
  // A unit that has no page-selective invalidations does more than it is asked for.
  if (granularity === 2 || !hasPageSelective) return invalidate('iotlb', 'domain', { domain }, drains)
  const order = field(IOTLB_INV_DSC_QW1, words[1], 'AM')
  if (order > maxOrder) return 'address-mask'
  const address = get(IOTLB_INV_DSC_QW1, at(words, 1), 'ADDR') << PAGE_SHIFT
  const isLeafOnly = field(IOTLB_INV_DSC_QW1, words[1], 'IH') === 1
  return invalidate('iotlb', 'fine', { domain, address, order, isLeafOnly }, drains)
}

/** Reserved without ECAP.DIT. */
const hasWrongPfsid = (word: Word<'PFSID_HI' | 'PFSID_LO' | string>, raw: bigint, rules: DescriptorRules) =>
  !rules.hasThrottling && (get(word, raw, 'PFSID_HI') !== 0n || get(word, raw, 'PFSID_LO') !== 0n)

const readDeviceTlb: Read = (words, rules) => {
  if (hasReserved(words, [DEV_TLB_INV_DSC_QW0, DEV_TLB_INV_DSC_QW1])) return 'reserved'
  if (hasWrongPfsid(DEV_TLB_INV_DSC_QW0, at(words, 0), rules)) return 'reserved'
  const source = field(DEV_TLB_INV_DSC_QW0, words[0], 'SID')
  const isSized = field(DEV_TLB_INV_DSC_QW1, words[1], 'S') === 1
  return invalidate('device-tlb', 'fine', {
    source,
    ...sizedRange(get(DEV_TLB_INV_DSC_QW1, at(words, 1), 'ADDR'), isSized),
  })
}

const readInterruptEntry: Read = (words) => {
  if (hasReserved(words, [IEC_INV_DSC_QW0])) return 'reserved'
  const of = (name: keyof typeof IEC_INV_DSC_QW0.fields) => field(IEC_INV_DSC_QW0, words[0], name)
  if (of('G') === 0) return invalidate('interrupt-entry', 'all', {})
  return invalidate('interrupt-entry', 'fine', { address: BigInt(of('IIDX')), order: of('IM') })
}

const readWait: Read = (words, { hasPageDrain }) => {
  if (hasReserved(words, [INV_WAIT_DSC_QW0, INV_WAIT_DSC_QW1])) return 'reserved'
  const has = (name: keyof typeof INV_WAIT_DSC_QW0.fields) => field(INV_WAIT_DSC_QW0, words[0], name) === 1
  if (has('PD') && !hasPageDrain) return 'reserved'
  return {
    kind: 'wait',
    isFence: has('FN'),
    writesStatus: has('SW'),
    interrupts: has('IF'),
    drainsPages: has('PD'),
    address: get(INV_WAIT_DSC_QW1, at(words, 1), 'STATUS_ADDRESS') << 2n,
    data: field(INV_WAIT_DSC_QW0, words[0], 'STATUS_DATA'),
  }
}

const readPasidIotlb: Read = (words, { layout }) => {
  const upper = layout === 'extended' ? EXT_IOTLB_INV_DSC_QW1 : P_IOTLB_INV_DSC_QW1
  if (hasReserved(words, [P_IOTLB_INV_DSC_QW0, upper])) return 'reserved'
  const of = (name: keyof typeof P_IOTLB_INV_DSC_QW0.fields) => field(P_IOTLB_INV_DSC_QW0, words[0], name)
  const domain = of('DID')
  const pasid = of('PASID')
  const granularity = of('G')
  if (granularity <= 1) {
    if (layout !== 'extended') return 'granularity'
    return invalidate('pasid-iotlb', 'domain', { domain, isGlobalToo: granularity === 0 })
  }
  // Today's entries have no global pages.
  if (granularity === 2) {
    return invalidate('pasid-iotlb', 'pasid', { domain, pasid, isGlobalToo: layout !== 'extended' })
  }
  return invalidate('pasid-iotlb', 'fine', {
    domain,
    pasid,
    address: get(P_IOTLB_INV_DSC_QW1, at(words, 1), 'ADDR') << PAGE_SHIFT,
    order: field(P_IOTLB_INV_DSC_QW1, words[1], 'AM'),
    isLeafOnly: field(P_IOTLB_INV_DSC_QW1, words[1], 'IH') === 1,
    isGlobalToo: layout !== 'extended' || field(EXT_IOTLB_INV_DSC_QW1, words[1], 'GL') === 1,
  })
}

const readPasidCache: Read = (words, { layout }) => {
  if (hasReserved(words, [PC_INV_DSC_QW0])) return 'reserved'
  const of = (name: keyof typeof PC_INV_DSC_QW0.fields) => field(PC_INV_DSC_QW0, words[0], name)
  const domain = of('DID')
  const granularity = of('G')
  if (granularity === 0) return invalidate('pasid-cache', 'domain', { domain })
  if (granularity === 1) return invalidate('pasid-cache', 'fine', { domain, pasid: of('PASID') })
  if (granularity === 3 && layout !== 'extended') return invalidate('pasid-cache', 'all', {})
  return 'granularity'
}

const readPasidDeviceTlb: Read = (words, rules) => {
  if (hasReserved(words, [P_DEV_TLB_INV_DSC_QW0, P_DEV_TLB_INV_DSC_QW1])) return 'reserved'
  if (hasWrongPfsid(P_DEV_TLB_INV_DSC_QW0, at(words, 0), rules)) return 'reserved'
  const isSized = field(P_DEV_TLB_INV_DSC_QW1, words[1], 'S') === 1
  const isGlobal = field(P_DEV_TLB_INV_DSC_QW1, words[1], 'G') === 1
  return invalidate('pasid-device-tlb', isGlobal ? 'all' : 'fine', {
    source: field(P_DEV_TLB_INV_DSC_QW0, words[0], 'SID'),
    pasid: isGlobal ? NO_PASID : field(P_DEV_TLB_INV_DSC_QW0, words[0], 'PASID'),
    isGlobalToo: isGlobal,
    ...sizedRange(get(P_DEV_TLB_INV_DSC_QW1, at(words, 1), 'ADDR'), isSized),
  })
}

const readGroupResponse: Read = (words, { layout }) => {
  if (layout === 'extended') return readOldGroupResponse(words)
  // Words 2 and 3 are private data, and nothing is where there is none.
  const hasPrivate = field(PAGE_GRP_RESP_DSC_QW0, words[0], 'PDP') === 1
  const declared = [PAGE_GRP_RESP_DSC_QW0, PAGE_GRP_RESP_DSC_QW1]
  if (hasReserved(words, declared, hasPrivate ? [] : NOTHING)) return 'reserved'
  const of = (name: keyof typeof PAGE_GRP_RESP_DSC_QW0.fields) => field(PAGE_GRP_RESP_DSC_QW0, words[0], name)
  const response = {
    source: of('RID'),
    pasid: of('PP') === 1 ? of('PASID') : NO_PASID,
    group: field(PAGE_GRP_RESP_DSC_QW1, words[1], 'PRGI'),
    code: of('RC'),
    privateData: hasPrivate ? at(words, 2) | (at(words, 3) << 64n) : 0n,
  }
  return { kind: 'respond', response, isStream: false }
}

function readOldGroupResponse(words: Words): Descriptor | DescriptorFault {
  if (hasReserved(words, [PGRP_RESP_DSC_QW0, PGRP_RESP_DSC_QW1])) return 'reserved'
  const hasPasid = field(PGRP_RESP_DSC_QW0, words[0], 'PP') === 1
  const response = {
    source: field(PGRP_RESP_DSC_QW0, words[0], 'RID'),
    pasid: hasPasid ? field(PGRP_RESP_DSC_QW0, words[0], 'PASID') : NO_PASID,
    group: field(PGRP_RESP_DSC_QW1, words[1], 'PRGI'),
    code: field(PGRP_RESP_DSC_QW1, words[1], 'RC'),
    privateData: get(PGRP_RESP_DSC_QW1, at(words, 1), 'PRIVATE'),
  }
  return { kind: 'respond', response, isStream: false }
}

const readStreamResponse: Read = (words) => {
  const of = (name: keyof typeof PSTRM_RESP_DSC_QW0.fields) => field(PSTRM_RESP_DSC_QW0, words[0], name)
  const response = {
    source: (of('BUS') << 8) | field(PSTRM_RESP_DSC_QW1, words[1], 'DEVFN'),
    pasid: of('PASID'),
    group: of('PRGI'),
    code: field(PSTRM_RESP_DSC_QW1, words[1], 'RC'),
    privateData: get(PSTRM_RESP_DSC_QW0, at(words, 0), 'PRIVATE'),
  }
  return { kind: 'respond', response, isStream: true }
}

/** How each type is read. */
const READERS: Readonly<Record<number, Read>> = {
  [DESCRIPTOR_TYPE.CONTEXT]: readContext,
  [DESCRIPTOR_TYPE.IOTLB]: readIotlb,
  [DESCRIPTOR_TYPE.DEVICE_TLB]: readDeviceTlb,
  [DESCRIPTOR_TYPE.INTERRUPT_ENTRY]: readInterruptEntry,
  [DESCRIPTOR_TYPE.WAIT]: readWait,
  [DESCRIPTOR_TYPE.PASID_IOTLB]: readPasidIotlb,
  [DESCRIPTOR_TYPE.PASID_CACHE]: readPasidCache,
  [DESCRIPTOR_TYPE.PASID_DEVICE_TLB]: readPasidDeviceTlb,
  [DESCRIPTOR_TYPE.GROUP_RESPONSE]: readGroupResponse,
  [DESCRIPTOR_TYPE.STREAM_RESPONSE]: readStreamResponse,
}

/** Whether a unit takes descriptors of a type. */
function isTaken(type: number, rules: DescriptorRules): boolean {
  const hasPasids = rules.layout === 'extended' || (rules.layout === 'scalable' && rules.width === 4)
  switch (type) {
    case DESCRIPTOR_TYPE.DEVICE_TLB:
      return rules.hasDeviceTlb
    case DESCRIPTOR_TYPE.INTERRUPT_ENTRY:
      return rules.hasInterruptRemapping
    case DESCRIPTOR_TYPE.PASID_IOTLB:
    case DESCRIPTOR_TYPE.PASID_CACHE:
      return hasPasids
    case DESCRIPTOR_TYPE.PASID_DEVICE_TLB:
      return hasPasids && rules.hasDeviceTlb
    case DESCRIPTOR_TYPE.GROUP_RESPONSE:
      return hasPasids && rules.hasPageRequests
    case DESCRIPTOR_TYPE.STREAM_RESPONSE:
      return rules.layout === 'extended' && rules.hasPageRequests
    default:
      return true
  }
}

/**
 * The type of a descriptor. Bits 11 to 9 belong to it, but for a page stream response, which has its PASID there.
 *
 * @example typeOf(0x500e2n, rules) // 2
 */
export function typeOf(word: bigint, { layout }: DescriptorRules): number {
  const low = Number(word & 0xfn)
  if (layout === 'extended' && low === DESCRIPTOR_TYPE.STREAM_RESPONSE) return low
  return low | (Number((word >> 9n) & 7n) << 4)
}

/** Reads a descriptor of 2 or 4 words: what it asks for, or why it asks for nothing. */
export function readDescriptor(words: Words, rules: DescriptorRules): Descriptor | DescriptorFault {
  const type = typeOf(at(words, 0), rules)
  const read = READERS[type]
  if (read === undefined || !isTaken(type, rules)) return 'type'
  return read(words, rules)
}
