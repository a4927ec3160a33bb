import { hiOf, loOf, wordOf } from '../../../bits/u64.ts'
import { type Field, maskOf, type Word } from '../../../bits/word.ts'
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

/** A descriptor in lanes: word n is `lanes[2 * n]`, and its upper half behind it. */
type DescriptorLanes = Int32Array
type Read = (lanes: DescriptorLanes, rules: DescriptorRules) => Descriptor | DescriptorFault

const PAGE_SHIFT = 12n
/** log2 of the pages of the whole space. */
const WHOLE_SPACE = 52
const WORDS_MAX = 4

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

const invalidate = (
  what: VtdInvalidation['what'],
  scope: VtdInvalidation['scope'],
  rest: Partial<VtdInvalidation>,
  drains = false,
): Descriptor => ({ kind: 'invalidate', what: { ...NO_INVALIDATION, ...rest, what, scope }, drains })

/** Takes fields of the words of a descriptor out of its lanes: those that lie in one lane. */
function fieldsOf<F extends string>(
  word: Word<F>,
  place: number,
): Readonly<Record<F, (lanes: DescriptorLanes) => number>> {
  const out = {} as Record<F, (lanes: DescriptorLanes) => number>
  for (const [name, { hi, lo }] of Object.entries<Field>(word.fields)) {
    const lane = place * 2 + (lo >>> 5)
    const shift = lo & 31
    const mask = 2 ** Math.min(hi - lo + 1, 32) - 1
    out[name as F] = (lanes) => ((lanes[lane] as number) >>> shift) & mask
  }
  return Object.freeze(out)
}

/** A word of a descriptor. */
const wordAt = (lanes: DescriptorLanes, place: number): bigint =>
  wordOf(lanes[place * 2 + 1] as number, lanes[place * 2] as number)
/** The address of the page in the upper bits of a word. */
const pageAt = (lanes: DescriptorLanes, place: number): bigint => wordAt(lanes, place) & ~0xfffn

/** Masks of the bits of each lane that must be 0: those that the words declare, and all of the words after them. */
function reservedOf(declared: readonly Word[], more: readonly bigint[] = []): Int32Array {
  const masks = new Int32Array(WORDS_MAX * 2).fill(-1)
  const words = [...declared.map((word) => maskOf(word, 'rsvd')), ...more]
  words.forEach((mask, place) => {
    masks[place * 2] = loOf(mask)
    masks[place * 2 + 1] = hiOf(mask)
  })
  return masks
}

function hasReserved(lanes: DescriptorLanes, masks: Int32Array): boolean {
  for (let i = 0; i < lanes.length; i++) if (((lanes[i] as number) & (masks[i] as number)) !== 0) return true
  return false
}

const CC = fieldsOf(CC_INV_DSC_QW0, 0)
const CC_RSVD = reservedOf([CC_INV_DSC_QW0])
const IOTLB = fieldsOf(IOTLB_INV_DSC_QW0, 0)
const IOTLB_1 = fieldsOf(IOTLB_INV_DSC_QW1, 1)
const IOTLB_RSVD = reservedOf([IOTLB_INV_DSC_QW0, IOTLB_INV_DSC_QW1])
const DEVICE = fieldsOf(DEV_TLB_INV_DSC_QW0, 0)
const DEVICE_1 = fieldsOf(DEV_TLB_INV_DSC_QW1, 1)
const DEVICE_RSVD = reservedOf([DEV_TLB_INV_DSC_QW0, DEV_TLB_INV_DSC_QW1])
const IEC = fieldsOf(IEC_INV_DSC_QW0, 0)
const IEC_RSVD = reservedOf([IEC_INV_DSC_QW0])
const WAIT = fieldsOf(INV_WAIT_DSC_QW0, 0)
const WAIT_RSVD = reservedOf([INV_WAIT_DSC_QW0, INV_WAIT_DSC_QW1])
const P_IOTLB = fieldsOf(P_IOTLB_INV_DSC_QW0, 0)
const P_IOTLB_1 = fieldsOf(EXT_IOTLB_INV_DSC_QW1, 1)
const P_IOTLB_RSVD = reservedOf([P_IOTLB_INV_DSC_QW0, P_IOTLB_INV_DSC_QW1])
const EXT_IOTLB_RSVD = reservedOf([P_IOTLB_INV_DSC_QW0, EXT_IOTLB_INV_DSC_QW1])
const PC = fieldsOf(PC_INV_DSC_QW0, 0)
const PC_RSVD = reservedOf([PC_INV_DSC_QW0])
const P_DEVICE = fieldsOf(P_DEV_TLB_INV_DSC_QW0, 0)
const P_DEVICE_1 = fieldsOf(P_DEV_TLB_INV_DSC_QW1, 1)
const P_DEVICE_RSVD = reservedOf([P_DEV_TLB_INV_DSC_QW0, P_DEV_TLB_INV_DSC_QW1])
const RESPONSE = fieldsOf(PAGE_GRP_RESP_DSC_QW0, 0)
const RESPONSE_1 = fieldsOf(PAGE_GRP_RESP_DSC_QW1, 1)
const RESPONSE_WORDS = [PAGE_GRP_RESP_DSC_QW0, PAGE_GRP_RESP_DSC_QW1] as const
const RESPONSE_RSVD = reservedOf(RESPONSE_WORDS)
/** Words 2 and 3 are private data. */
const PRIVATE_RSVD = reservedOf(RESPONSE_WORDS, [0n, 0n])
const OLD_RESPONSE = fieldsOf(PGRP_RESP_DSC_QW0, 0)
const OLD_RESPONSE_1 = fieldsOf(PGRP_RESP_DSC_QW1, 1)
const OLD_RESPONSE_RSVD = reservedOf([PGRP_RESP_DSC_QW0, PGRP_RESP_DSC_QW1])
const STREAM = fieldsOf(PSTRM_RESP_DSC_QW0, 0)
const STREAM_1 = fieldsOf(PSTRM_RESP_DSC_QW1, 1)

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

const readContext: Read = (lanes) => {
  if (hasReserved(lanes, CC_RSVD)) return 'reserved'
  const domain = CC.DID(lanes)
  switch (CC.G(lanes)) {
    case 1:
      return invalidate('context', 'all', {})
    case 2:
      return invalidate('context', 'domain', { domain })
    case 3:
      return invalidate('context', 'fine', { domain, source: CC.SID(lanes), functionMask: CC.FM(lanes) })
    default:
      return 'granularity'
  }
}

const readIotlb: Read = (lanes, { hasPageSelective, maxOrder }) => {
  if (hasReserved(lanes, IOTLB_RSVD)) return 'reserved'
  const domain = IOTLB.DID(lanes)
  const drains = IOTLB.DR(lanes) === 1 || IOTLB.DW(lanes) === 1
  const granularity = IOTLB.G(lanes)
  if (granularity === 0) return 'granularity'
  if (granularity === 1) return invalidate('iotlb', 'all', {}, drains)
  // A unit that has no page-selective invalidations does more than it is asked for.
  if (granularity === 2 || !hasPageSelective) return invalidate('iotlb', 'domain', { domain }, drains)
  const order = IOTLB_1.AM(lanes)
  if (order > maxOrder) return 'address-mask'
  const isLeafOnly = IOTLB_1.IH(lanes) === 1
  return invalidate('iotlb', 'fine', { domain, address: pageAt(lanes, 1), order, isLeafOnly }, drains)
}

/** PFSID is reserved without ECAP.DIT. */
const hasWrongPfsid = (lanes: DescriptorLanes, of: typeof DEVICE | typeof P_DEVICE, rules: DescriptorRules) =>
  !rules.hasThrottling && (of.PFSID_HI(lanes) !== 0 || of.PFSID_LO(lanes) !== 0)

const readDeviceTlb: Read = (lanes, rules) => {
  if (hasReserved(lanes, DEVICE_RSVD) || hasWrongPfsid(lanes, DEVICE, rules)) return 'reserved'
  return invalidate('device-tlb', 'fine', {
    source: DEVICE.SID(lanes),
    ...sizedRange(pageAt(lanes, 1) >> PAGE_SHIFT, DEVICE_1.S(lanes) === 1),
  })
}

const readInterruptEntry: Read = (lanes) => {
  if (hasReserved(lanes, IEC_RSVD)) return 'reserved'
  if (IEC.G(lanes) === 0) return invalidate('interrupt-entry', 'all', {})
  return invalidate('interrupt-entry', 'fine', { address: BigInt(IEC.IIDX(lanes)), order: IEC.IM(lanes) })
}

const readWait: Read = (lanes, { hasPageDrain }) => {
  if (hasReserved(lanes, WAIT_RSVD)) return 'reserved'
  const drainsPages = WAIT.PD(lanes) === 1
  if (drainsPages && !hasPageDrain) return 'reserved'
  return {
    kind: 'wait',
    isFence: WAIT.FN(lanes) === 1,
    writesStatus: WAIT.SW(lanes) === 1,
    interrupts: WAIT.IF(lanes) === 1,
    drainsPages,
    address: wordAt(lanes, 1),
    data: (lanes[1] as number) >>> 0,
  }
}

const readPasidIotlb: Read = (lanes, { layout }) => {
  const isOld = layout === 'extended'
  if (hasReserved(lanes, isOld ? EXT_IOTLB_RSVD : P_IOTLB_RSVD)) return 'reserved'
  const domain = P_IOTLB.DID(lanes)
  const pasid = P_IOTLB.PASID(lanes)
  const granularity = P_IOTLB.G(lanes)
  if (granularity <= 1) {
    if (!isOld) return 'granularity'
    return invalidate('pasid-iotlb', 'domain', { domain, isGlobalToo: granularity === 0 })
  }
  // Today's entries have no global pages.
  if (granularity === 2) return invalidate('pasid-iotlb', 'pasid', { domain, pasid, isGlobalToo: !isOld })
  return invalidate('pasid-iotlb', 'fine', {
    domain,
    pasid,
    address: pageAt(lanes, 1),
    order: P_IOTLB_1.AM(lanes),
    isLeafOnly: P_IOTLB_1.IH(lanes) === 1,
    isGlobalToo: !isOld || P_IOTLB_1.GL(lanes) === 1,
  })
}

const readPasidCache: Read = (lanes, { layout }) => {
  if (hasReserved(lanes, PC_RSVD)) return 'reserved'
  const domain = PC.DID(lanes)
  const granularity = PC.G(lanes)
  if (granularity === 0) return invalidate('pasid-cache', 'domain', { domain })
  if (granularity === 1) return invalidate('pasid-cache', 'fine', { domain, pasid: PC.PASID(lanes) })
  if (granularity === 3 && layout !== 'extended') return invalidate('pasid-cache', 'all', {})
  return 'granularity'
}

const readPasidDeviceTlb: Read = (lanes, rules) => {
  if (hasReserved(lanes, P_DEVICE_RSVD) || hasWrongPfsid(lanes, P_DEVICE, rules)) return 'reserved'
  const isGlobal = P_DEVICE_1.G(lanes) === 1
  return invalidate('pasid-device-tlb', isGlobal ? 'all' : 'fine', {
    source: P_DEVICE.SID(lanes),
    pasid: isGlobal ? NO_PASID : P_DEVICE.PASID(lanes),
    isGlobalToo: isGlobal,
    ...sizedRange(pageAt(lanes, 1) >> PAGE_SHIFT, P_DEVICE_1.S(lanes) === 1),
  })
}

const readGroupResponse: Read = (lanes, { layout }) => {
  if (layout === 'extended') return readOldGroupResponse(lanes)
  const hasPrivate = RESPONSE.PDP(lanes) === 1
  if (hasReserved(lanes, hasPrivate ? PRIVATE_RSVD : RESPONSE_RSVD)) return 'reserved'
  const response = {
    source: RESPONSE.RID(lanes),
    pasid: RESPONSE.PP(lanes) === 1 ? RESPONSE.PASID(lanes) : NO_PASID,
    group: RESPONSE_1.PRGI(lanes),
    code: RESPONSE.RC(lanes),
    privateData: hasPrivate ? wordAt(lanes, 2) | (wordAt(lanes, 3) << 64n) : 0n,
  }
  return { kind: 'respond', response, isStream: false }
}

function readOldGroupResponse(lanes: DescriptorLanes): Descriptor | DescriptorFault {
  if (hasReserved(lanes, OLD_RESPONSE_RSVD)) return 'reserved'
  const response = {
    source: OLD_RESPONSE.RID(lanes),
    pasid: OLD_RESPONSE.PP(lanes) === 1 ? OLD_RESPONSE.PASID(lanes) : NO_PASID,
    group: OLD_RESPONSE_1.PRGI(lanes),
    code: OLD_RESPONSE_1.RC(lanes),
    privateData: BigInt(OLD_RESPONSE_1.PRIVATE(lanes)),
  }
  return { kind: 'respond', response, isStream: false }
}

const readStreamResponse: Read = (lanes) => {
  const response = {
    source: (STREAM.BUS(lanes) << 8) | STREAM_1.DEVFN(lanes),
    pasid: STREAM.PASID(lanes),
    group: STREAM.PRGI(lanes),
    code: STREAM_1.RC(lanes),
    privateData: BigInt(STREAM.PRIVATE(lanes)),
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

/** The descriptor that is read, by its words' number. */
const LANES = { 2: new Int32Array(4), 4: new Int32Array(8) } as const

/**
 * Reads a descriptor of 2 or 4 words: what it asks for, or why it asks for nothing.
 *
 * @example readDescriptor([0x500e2n, 0n], rules) // { kind: 'invalidate', what: { what: 'iotlb', scope: 'domain', ... } }
 */
export function readDescriptor(
  words: Readonly<ArrayLike<bigint>>,
  rules: DescriptorRules,
): Descriptor | DescriptorFault {
  const lanes = LANES[words.length === 4 ? 4 : 2]
  for (let i = 0; i < lanes.length; i += 2) {
    const word = words[i >> 1] ?? 0n
    lanes[i] = loOf(word)
    lanes[i + 1] = hiOf(word)
  }
  const type = typeOf(lanes[0] as number, rules)
  const read = READERS[type]
  if (read === undefined || !isTaken(type, rules)) return 'type'
  return read(lanes, rules)
}

/** Bits 11 to 9 belong to the type, but for a page stream response, which has its PASID there. */
function typeOf(lane: number, { layout }: DescriptorRules): number {
  const low = lane & 0xf
  if (layout === 'extended' && low === DESCRIPTOR_TYPE.STREAM_RESPONSE) return low
  return low | (((lane >>> 9) & 7) << 4)
}
