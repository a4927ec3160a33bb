import { hex } from '../bits/u64.ts'
import { NONE } from '../trace/event-codes.ts'
import { sourceText } from './describe-vtd.ts'
import { bytesText } from './words.ts'

const PAGE_BYTES = 4096
/** Most pages of one page-selective invalidation, as log2, where a unit has not said (CAP.MAMV). */
const ORDER_MAX = 18

/** What of a unit's capabilities decides which invalidations there are. */
export interface UnitAbilities {
  /** CAP.CM: what is not present is remembered too; undefined where nobody has read it. */
  readonly cachingMode: boolean | undefined
  /** CAP.PSI. */
  readonly hasPageSelective: boolean
  /** CAP.MAMV. */
  readonly orderMax: number
  /** DW and DR of IOTLB descriptors, where the unit has them. */
  readonly drains: bigint
}

export const UNKNOWN_ABILITIES: UnitAbilities = {
  cachingMode: undefined,
  hasPageSelective: true,
  orderMax: ORDER_MAX,
  drains: 0n,
}

const bit = (word: bigint, n: bigint): boolean => ((word >> n) & 1n) === 1n

/** What the capability register of a unit says. (VT-d manual, Capability Register) */
export const abilitiesOf = (cap: bigint): UnitAbilities => ({
  cachingMode: bit(cap, 7n),
  hasPageSelective: bit(cap, 39n),
  orderMax: Number((cap >> 48n) & 0x3fn),
  drains: (bit(cap, 54n) ? 1n << 6n : 0n) | (bit(cap, 55n) ? 1n << 7n : 0n),
})

/** Pages of bus addresses: an aligned power of two. */
export interface PageRange {
  readonly first: number
  readonly pages: number
}

/** An invalidation in words, with the words of its descriptor. */
const stated = (what: string, lo: bigint, hi = 0n): string => `${what} (${hex(lo)} ${hex(hi)})`

const rangeText = ({ first, pages }: PageRange): string =>
  `${hex(first * PAGE_BYTES)} + ${bytesText(pages * PAGE_BYTES)}`

const orderOf = ({ pages }: PageRange): number => Math.round(Math.log2(pages))
const addressOf = ({ first }: PageRange): bigint => BigInt(first) << 12n

/**
 * The smallest invalidations that cover a change, as texts with the words of their descriptors: type, granularity and tags as the
 * manual has them. Fields that only throttle (MIP, PFSID) are left 0.
 */
export const SMALLEST = {
  context: (domain: number, source: number): string =>
    stated(
      `the context-cache of ${sourceText(source)}, domain ${domain}`,
      1n | (3n << 4n) | (BigInt(domain) << 16n) | (BigInt(source) << 32n),
    ),
  allContexts: (): string => stated('the whole context-cache', 1n | (1n << 4n)),
  pasidEntry: (domain: number, pasid: number): string =>
    stated(
      `the PASID-cache of PASID ${hex(pasid)}, domain ${domain}`,
      7n | (1n << 4n) | (BigInt(domain) << 16n) | (BigInt(pasid) << 32n),
    ),
  pasidsOfDomain: (domain: number): string =>
    stated(`the PASID-cache of domain ${domain}`, 7n | (BigInt(domain) << 16n)),
  allPasids: (): string => stated('the whole PASID-cache', 7n | (3n << 4n)),
  all: ({ drains }: UnitAbilities): string => stated('the whole IOTLB', 2n | (1n << 4n) | drains),
  domain: ({ drains }: UnitAbilities, domain: number): string =>
    stated(`the IOTLB of domain ${domain}`, 2n | (2n << 4n) | drains | (BigInt(domain) << 16n)),
  /** By pages where the unit can, else the domain. */
  pages(unit: UnitAbilities, domain: number, range: PageRange, isLeafOnly: boolean): string {
    const order = orderOf(range)
    if (!unit.hasPageSelective || order > unit.orderMax) return SMALLEST.domain(unit, domain)
    return stated(
      `the IOTLB of domain ${domain} for ${rangeText(range)}`,
      2n | (3n << 4n) | unit.drains | (BigInt(domain) << 16n),
      addressOf(range) | (isLeafOnly ? 1n << 6n : 0n) | BigInt(order),
    )
  },
  pasid: (domain: number, pasid: number): string =>
    stated(
      `the IOTLB of PASID ${hex(pasid)}, domain ${domain}`,
      6n | (2n << 4n) | (BigInt(domain) << 16n) | (BigInt(pasid) << 32n),
    ),
  /** Page-selective in a PASID is there whatever CAP.PSI says. */
  pasidPages(
    unit: UnitAbilities,
    domain: number,
    pasid: number,
    range: PageRange,
    isLeafOnly: boolean,
  ): string {
    const order = orderOf(range)
    if (order > unit.orderMax) return SMALLEST.pasid(domain, pasid)
    return stated(
      `the IOTLB of PASID ${hex(pasid)}, domain ${domain} for ${rangeText(range)}`,
      6n | (3n << 4n) | (BigInt(domain) << 16n) | (BigInt(pasid) << 32n),
      addressOf(range) | (isLeafOnly ? 1n << 6n : 0n) | BigInt(order),
    )
  },
  /** The TLB of a device: pages, or all where `range` is left out. */
  device(source: number, pasid: number, range?: PageRange): string {
    const what = `the TLB of ${sourceText(source)}${pasid === NONE ? '' : ` for PASID ${hex(pasid)}`}`
    const of = range === undefined ? '' : `, ${rangeText(range)}`
    const lo =
      pasid === NONE ? 3n | (BigInt(source) << 32n) : 8n | (BigInt(source) << 16n) | (BigInt(pasid) << 32n)
    return stated(`${what}${of}`, lo, deviceAddress(range) | sizeBit(pasid, range))
  },
} as const

/** Ones below the highest bit that the size leaves: 8 KiB for none. (VT-d manual, Device-TLB Invalidate) */
function deviceAddress(range?: PageRange): bigint {
  if (range === undefined) return 0x7fff_ffff_ffff_f000n
  const half = (BigInt(range.pages) << 12n) >> 1n
  return addressOf(range) | (range.pages === 1 ? 0n : (half - 1n) & ~0xfffn)
}

const sizeBit = (pasid: number, range?: PageRange): bigint => {
  if (range?.pages === 1) return 0n
  return pasid === NONE ? 1n : 1n << 11n
}
