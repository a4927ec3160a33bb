import { get, maskOf, type Word } from '../../bits/word.ts'
import {
  CC_INV_DSC,
  DEV_TLB_INV_DSC_HI,
  DEV_TLB_INV_DSC_LO,
  INV_WAIT_DSC_HI,
  INV_WAIT_DSC_LO,
  IOTLB_INV_DSC_HI,
  IOTLB_INV_DSC_LO,
} from './words.ts'

/** Bytes [iova, last] of bus addresses. */
export interface IovaRange {
  readonly iova: bigint
  readonly last: bigint
}

/** What a descriptor asks for. `address` of pages is as given: hardware aligns it down to their number. */
export type Invalidation =
  | { readonly what: 'context'; readonly scope: 'all' }
  | { readonly what: 'context'; readonly scope: 'domain'; readonly domain: number }
  | {
      readonly what: 'context'
      readonly scope: 'device'
      readonly domain: number
      readonly source: number
      readonly functionMask: number
    }
  | { readonly what: 'iotlb'; readonly scope: 'all' }
  | { readonly what: 'iotlb'; readonly scope: 'domain'; readonly domain: number }
  | {
      readonly what: 'iotlb'
      readonly scope: 'pages'
      readonly domain: number
      readonly address: bigint
      readonly addressMask: number
    }
  | { readonly what: 'device-tlb'; readonly source: number; readonly range: IovaRange }
  | { readonly what: 'wait'; readonly address: bigint; readonly data: number }

/** A descriptor that hardware refuses (IQE). */
interface Refused {
  readonly what: 'refused'
  readonly why: string
}

/** A descriptor that this unit does not know. */
export interface UnknownDescriptor {
  readonly what: 'unmodelled'
  readonly why: string
}
type Refusal = Refused | UnknownDescriptor

/** Most pages of one page-selective invalidation, as log2 (CAP.MAMV of QEMU and of most units). */
const MAMV = 18n
const PAGE_SHIFT = 12n
const TYPE = { CONTEXT: 1, IOTLB: 2, DEVICE_TLB: 3, WAIT: 5 } as const
/** Granularities of types 1 and 2. */
const SCOPES = ['', 'all', 'domain', 'fine'] as const

const refused = (why: string): Refusal => ({ what: 'refused', why })
const unmodelled = (why: string): Refusal => ({ what: 'unmodelled', why })

const hasReserved = (word: Word, raw: bigint): boolean => (raw & maskOf(word, 'rsvd')) !== 0n
const field = <F extends string>(word: Word<F>, raw: bigint, name: F): number => Number(get(word, raw, name))

/**
 * What a device-TLB invalidate descriptor names: one page, or with S as many as the lowest bits of the address that are
 * 1 say. All ones: the whole space.
 *
 * @example deviceTlbRange(0x402ff001n) // { iova: 0x40200000n, last: 0x403fffffn }
 */
export function deviceTlbRange(hi: bigint): IovaRange {
  const page = get(DEV_TLB_INV_DSC_HI, hi, 'ADDR')
  let shift = PAGE_SHIFT
  if ((hi & 1n) !== 0n) {
    shift++
    for (let rest = page; (rest & 1n) === 1n; rest >>= 1n) shift++
  }
  const rest = BigInt.asUintN(64, (1n << shift) - 1n)
  const iova = (page << PAGE_SHIFT) & ~rest
  return { iova, last: iova | rest }
}

/** Reads an invalidation descriptor of 128 bits: what it asks for, or why it asks for nothing. */
export function readDescriptor(lo: bigint, hi: bigint): Invalidation | Refusal {
  switch (Number(lo & 0xfn)) {
    case TYPE.CONTEXT:
      return readContext(lo, hi)
    case TYPE.IOTLB:
      return readIotlb(lo, hi)
    case TYPE.DEVICE_TLB:
      return readDeviceTlb(lo, hi)
    case TYPE.WAIT:
      return readWait(lo, hi)
    default:
      return unmodelled(`invalidation descriptors of type ${lo & 0xfn}`)
  }
}

function readContext(lo: bigint, hi: bigint): Invalidation | Refusal {
  if (hasReserved(CC_INV_DSC, lo) || hi !== 0n) return refused('reserved bits of a context-cache descriptor')
  const scope = SCOPES[field(CC_INV_DSC, lo, 'G')] ?? ''
  if (scope === '') return refused('granularity 0 of a context-cache descriptor')
  const domain = field(CC_INV_DSC, lo, 'DID')
  if (scope === 'all') return { what: 'context', scope }
  if (scope === 'domain') return { what: 'context', scope, domain }
  return {
    what: 'context',
    scope: 'device',
    domain,
    source: field(CC_INV_DSC, lo, 'SID'),
    functionMask: field(CC_INV_DSC, lo, 'FM'),
  }
}

function readIotlb(lo: bigint, hi: bigint): Invalidation | Refusal {
  if (hasReserved(IOTLB_INV_DSC_LO, lo) || hasReserved(IOTLB_INV_DSC_HI, hi)) {
    return refused('reserved bits of an IOTLB descriptor')
  }
  const scope = SCOPES[field(IOTLB_INV_DSC_LO, lo, 'G')] ?? ''
  if (scope === '') return refused('granularity 0 of an IOTLB descriptor')
  const domain = field(IOTLB_INV_DSC_LO, lo, 'DID')
  if (scope === 'all') return { what: 'iotlb', scope }
  if (scope === 'domain') return { what: 'iotlb', scope, domain }
  const addressMask = get(IOTLB_INV_DSC_HI, hi, 'AM')
  if (addressMask > MAMV) return refused('address mask above CAP.MAMV')
  const address = get(IOTLB_INV_DSC_HI, hi, 'ADDR') << PAGE_SHIFT
  return { what: 'iotlb', scope: 'pages', domain, address, addressMask: Number(addressMask) }
}

function readDeviceTlb(lo: bigint, hi: bigint): Invalidation | Refusal {
  if (hasReserved(DEV_TLB_INV_DSC_LO, lo) || hasReserved(DEV_TLB_INV_DSC_HI, hi)) {
    return refused('reserved bits of a device-TLB descriptor')
  }
  if (get(DEV_TLB_INV_DSC_LO, lo, 'PFSID_HI') !== 0n || get(DEV_TLB_INV_DSC_LO, lo, 'PFSID_LO') !== 0n) {
    return unmodelled('device-TLB descriptors with a PFSID')
  }
  return { what: 'device-tlb', source: field(DEV_TLB_INV_DSC_LO, lo, 'SID'), range: deviceTlbRange(hi) }
}

function readWait(lo: bigint, hi: bigint): Invalidation | Refusal {
  if (hasReserved(INV_WAIT_DSC_LO, lo) || hasReserved(INV_WAIT_DSC_HI, hi)) {
    return refused('reserved bits of a wait descriptor')
  }
  if (get(INV_WAIT_DSC_LO, lo, 'PD') !== 0n) return unmodelled('wait descriptors that drain page requests')
  if (get(INV_WAIT_DSC_LO, lo, 'IF') !== 0n) return unmodelled('wait descriptors that interrupt')
  if (get(INV_WAIT_DSC_LO, lo, 'SW') === 0n) return unmodelled('wait descriptors without a status write')
  return {
    what: 'wait',
    address: get(INV_WAIT_DSC_HI, hi, 'STATUS_ADDRESS') << 2n,
    data: field(INV_WAIT_DSC_LO, lo, 'STATUS_DATA'),
  }
}
