import { encode } from '../../bits/word.ts'
import {
  CC_INV_DSC,
  DEV_TLB_INV_DSC_HI,
  DEV_TLB_INV_DSC_LO,
  INV_WAIT_DSC_HI,
  INV_WAIT_DSC_LO,
  IOTLB_INV_DSC_HI,
  IOTLB_INV_DSC_LO,
} from '../../hw/vtd/words.ts'

/** An invalidation descriptor: lower and upper word. */
export type Descriptor = readonly [lo: bigint, hi: bigint]

/** Most pages of a page-selective flush, as log2 (CAP.MAMV of QEMU). */
const MAMV = 18
/** What a wait writes (QI_DONE). */
const DONE = 2n
/** Flushes drain writes and reads. */
const DRAIN = { DW: 1n, DR: 1n } as const

export const contextDescriptor = (domain: number, source: number): Descriptor => [
  encode(CC_INV_DSC, { TYPE: 1n, G: 3n, DID: BigInt(domain), SID: BigInt(source) }),
  0n,
]

export const globalDescriptor = (): Descriptor => [
  encode(IOTLB_INV_DSC_LO, { TYPE: 2n, G: 1n, ...DRAIN }),
  0n,
]

export const domainDescriptor = (domain: number): Descriptor => [
  encode(IOTLB_INV_DSC_LO, { TYPE: 2n, G: 2n, DID: BigInt(domain), ...DRAIN }),
  0n,
]

/**
 * A page-selective flush of pages [first, end): from the address of the first on, with the mask whose aligned block
 * holds them all. Undefined where that is above CAP.MAMV.
 *
 * @example pagesDescriptor(5, 0x103, 0x105) // mask 3: pages 0x100 to 0x107
 */
export function pagesDescriptor(domain: number, first: number, end: number): Descriptor | undefined {
  let mask = 0
  while (Math.floor(first / 2 ** mask) !== Math.floor((end - 1) / 2 ** mask)) mask++
  if (mask > MAMV) return undefined
  return [
    encode(IOTLB_INV_DSC_LO, { TYPE: 2n, G: 3n, DID: BigInt(domain), ...DRAIN }),
    encode(IOTLB_INV_DSC_HI, { ADDR: BigInt(first), AM: BigInt(mask) }),
  ]
}

/** A flush of the device-TLB: 2^order pages from `iova` on, which is aligned to them; order 52 is everything. */
export function deviceTlbDescriptor(source: number, iova: bigint, order: number): Descriptor {
  const lo = encode(DEV_TLB_INV_DSC_LO, { TYPE: 3n, SID: BigInt(source) })
  const page = iova >> 12n
  if (order === 0) return [lo, encode(DEV_TLB_INV_DSC_HI, { ADDR: page })]
  return [lo, encode(DEV_TLB_INV_DSC_HI, { ADDR: page | ((1n << BigInt(order - 1)) - 1n), S: 1n })]
}

export const waitDescriptor = (status: bigint): Descriptor => [
  encode(INV_WAIT_DSC_LO, { TYPE: 5n, SW: 1n, STATUS_DATA: DONE }),
  encode(INV_WAIT_DSC_HI, { STATUS_ADDRESS: status >> 2n }),
]
