import { encode } from '../../bits/word.ts'
import {
  CC_INV_DSC_QW0,
  DESCRIPTOR_TYPE,
  DEV_TLB_INV_DSC_QW0,
  DEV_TLB_INV_DSC_QW1,
  INV_WAIT_DSC_QW0,
  INV_WAIT_DSC_QW1,
  IOTLB_INV_DSC_QW0,
  IOTLB_INV_DSC_QW1,
  P_DEV_TLB_INV_DSC_QW0,
  P_DEV_TLB_INV_DSC_QW1,
  P_IOTLB_INV_DSC_QW0,
  P_IOTLB_INV_DSC_QW1,
  PC_INV_DSC_QW0,
} from '../../hw/vtd/descriptor-format.ts'

/** An invalidation descriptor: its words from the lowest on. Words that are left out are 0. */
export type Descriptor = readonly [lo: bigint, hi: bigint, ...rest: bigint[]]

/** Granularity of context-cache and IOTLB invalidations, in descriptors and registers. */
export const GRANULARITY = { GLOBAL: 1, DOMAIN: 2, FINE: 3 } as const
export type Granularity = (typeof GRANULARITY)[keyof typeof GRANULARITY]
/** Granularity of PASID cache invalidations, and of those of the translations of a PASID. */
const PASID_CACHE_G = { domain: 0n, pasid: 1n, all: 3n } as const
const PASID_IOTLB_G = { PASID: 2n, PAGES: 3n } as const

/** What a wait writes (QI_DONE). */
const DONE = 2n
const PAGE_SHIFT = 12n
/** Order of a device-TLB invalidation that names everything: 64 bits of address. */
export const ALL_ORDER = 52
/** Queue depths from here on are sent as 0, which stands for 32. */
const DEPTHS = 32

const flag = (on: boolean): bigint => (on ? 1n : 0n)

/** A flush of context entries: all, those of a domain, or that of one device. */
export const contextDescriptor = (domain: number, source: number, g: Granularity): Descriptor => [
  encode(CC_INV_DSC_QW0, {
    TYPE: BigInt(DESCRIPTOR_TYPE.CONTEXT),
    G: BigInt(g),
    DID: BigInt(domain),
    SID: BigInt(source),
  }),
  0n,
]

/** What a flush of the IOTLB names. */
export interface IotlbFlush {
  readonly domain: number
  readonly g: Granularity
  /** With granularity FINE: 2^order pages around an address; `hint` says that only entries that map pages have changed. */
  readonly address?: bigint
  readonly order?: number
  readonly hint?: boolean
}

/** Which drains a unit has: a flush asks for those. */
export interface Drains {
  readonly reads: boolean
  readonly writes: boolean
}

export function iotlbDescriptor(what: IotlbFlush, { reads, writes }: Drains): Descriptor {
  const { domain, g, address = 0n, order = 0, hint = false } = what
  return [
    encode(IOTLB_INV_DSC_QW0, {
      TYPE: BigInt(DESCRIPTOR_TYPE.IOTLB),
      G: BigInt(g),
      DID: BigInt(domain),
      DW: flag(writes),
      DR: flag(reads),
    }),
    encode(IOTLB_INV_DSC_QW1, { ADDR: address >> PAGE_SHIFT, IH: flag(hint), AM: BigInt(order) }),
  ]
}

/** Which device an invalidation request goes to. */
export interface Target {
  readonly source: number
  /** Its physical function where the unit throttles by that (ECAP.DIT), else 0. */
  readonly physical: number
  /** Invalidation requests that it takes at once. */
  readonly depth: number
}

const throttle = ({ physical, depth }: Target) => ({
  MIP: depth >= DEPTHS ? 0n : BigInt(depth),
  PFSID_LO: BigInt(physical & 0xf),
  PFSID_HI: BigInt(physical >> 4),
})

/**
 * A flush of a device-TLB: 2^order pages around `address`.
 *
 * @example deviceTlbDescriptor({ source: 0x310, physical: 0, depth: 4 }, 0x40200000n, 9) // [0x31000040003n, 0x402ff001n]
 */
export function deviceTlbDescriptor(target: Target, address: bigint, order: number): Descriptor {
  const lo = encode(DEV_TLB_INV_DSC_QW0, {
    TYPE: BigInt(DESCRIPTOR_TYPE.DEVICE_TLB),
    SID: BigInt(target.source),
    ...throttle(target),
  })
  const page = address >> PAGE_SHIFT
  if (order === 0) return [lo, encode(DEV_TLB_INV_DSC_QW1, { ADDR: page })]
  return [lo, encode(DEV_TLB_INV_DSC_QW1, { ADDR: page | (2n ** BigInt(order - 1) - 1n), S: 1n })]
}

/** A flush of the translations of a PASID: all of them, or 2^order pages from `address` on. */
export function pasidIotlbDescriptor(
  domain: number,
  pasid: number,
  pages?: { readonly address: bigint; readonly order: number; readonly hint: boolean },
): Descriptor {
  const tag = { TYPE: BigInt(DESCRIPTOR_TYPE.PASID_IOTLB), DID: BigInt(domain), PASID: BigInt(pasid) }
  if (pages === undefined) return [encode(P_IOTLB_INV_DSC_QW0, { ...tag, G: PASID_IOTLB_G.PASID }), 0n]
  const { address, order, hint } = pages
  return [
    encode(P_IOTLB_INV_DSC_QW0, { ...tag, G: PASID_IOTLB_G.PAGES }),
    encode(P_IOTLB_INV_DSC_QW1, { ADDR: address >> PAGE_SHIFT, IH: flag(hint), AM: BigInt(order) }),
  ]
}

/** A flush of PASID table entries: everything, those of a domain, or one PASID of it. */
export const pasidCacheDescriptor = (
  domain: number,
  pasid: number,
  scope: keyof typeof PASID_CACHE_G,
): Descriptor => [
  encode(PC_INV_DSC_QW0, {
    TYPE: BigInt(DESCRIPTOR_TYPE.PASID_CACHE),
    G: PASID_CACHE_G[scope],
    DID: BigInt(domain),
    PASID: BigInt(pasid),
  }),
  0n,
]

/** A flush of a PASID in a device-TLB: 2^order pages from `address` on, which is aligned to them. */
export function pasidDeviceTlbDescriptor(
  target: Target,
  pasid: number,
  address: bigint,
  order: number,
): Descriptor {
  const lo = encode(P_DEV_TLB_INV_DSC_QW0, {
    TYPE: BigInt(DESCRIPTOR_TYPE.PASID_DEVICE_TLB),
    SID: BigInt(target.source),
    PASID: BigInt(pasid),
    ...throttle(target),
  })
  const page = address >> PAGE_SHIFT
  if (order === 0) return [lo, encode(P_DEV_TLB_INV_DSC_QW1, { ADDR: page })]
  return [lo, encode(P_DEV_TLB_INV_DSC_QW1, { ADDR: page | (2n ** BigInt(order - 1) - 1n), S: 1n })]
}

/** A wait that writes its status; with `drains` it waits for page requests as well (PD). */
export const waitDescriptor = (statusAddress: bigint, drains: boolean): Descriptor => [
  encode(INV_WAIT_DSC_QW0, {
    TYPE: BigInt(DESCRIPTOR_TYPE.WAIT),
    SW: 1n,
    PD: flag(drains),
    STATUS_DATA: DONE,
  }),
  encode(INV_WAIT_DSC_QW1, { STATUS_ADDRESS: statusAddress >> 2n }),
]

/** A wait that is a fence only: what is behind it starts when what is before it is done (FN). */
export const fenceDescriptor = (): Descriptor => [
  encode(INV_WAIT_DSC_QW0, { TYPE: BigInt(DESCRIPTOR_TYPE.WAIT), FN: 1n, STATUS_DATA: DONE }),
  0n,
]

/**
 * The address mask whose aligned block holds pages [first, first + pages): what a page-selective flush needs.
 * (Linux v6.1 drivers/iommu/intel/iommu.c, iommu_flush_iotlb_psi)
 *
 * @example pageMask(0x103, 2) // 3: pages 0x100 to 0x107
 */
export function pageMask(first: number, pages: number): number {
  const last = first + pages - 1
  let mask = 0
  while (2 ** mask < pages || Math.floor(first / 2 ** mask) !== Math.floor(last / 2 ** mask)) mask++
  return mask
}
