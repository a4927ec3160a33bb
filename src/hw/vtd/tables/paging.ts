/** Entries of a page table, as log2: each level takes so many bits of an address. */
const LEVEL_BITS = 9
const INDEX_MASK = (1 << LEVEL_BITS) - 1
export const PAGE_SHIFT = 12
export const ENTRY_BYTES = 8

/** Bits of an entry that both kinds have: the entry of level 2 or 3 maps a page. */
export const PS = 1 << 7
/** Address bits of the upper lane. */
const ADDRESS_HI = 0xf_ffff

/** Bits of the upper lane between the width of memory addresses and bit 51. */
export const reservedHi = (hostAddressBits: number): number => ADDRESS_HI & ~(2 ** (hostAddressBits - 32) - 1)

/** The 4 KiB page that an entry names. */
export const pageOfEntry = (hi: number, lo: number): number =>
  (hi & ADDRESS_HI) * 2 ** 20 + (lo >>> PAGE_SHIFT)

/** Byte offset of the entry for an address in a table of a level. */
export function entryOffset(level: number, hi: number, lo: number): number {
  switch (level) {
    case 1:
      return ((lo >>> 12) & INDEX_MASK) * ENTRY_BYTES
    case 2:
      return ((lo >>> 21) & INDEX_MASK) * ENTRY_BYTES
    case 3:
      return ((lo >>> 30) | ((hi & 0x7f) << 2)) * ENTRY_BYTES
    case 4:
      return ((hi >>> 7) & INDEX_MASK) * ENTRY_BYTES
    default:
      return ((hi >>> 16) & INDEX_MASK) * ENTRY_BYTES
  }
}

/** log2 of the bytes that an entry of a level maps or leads to. */
export const shiftOfLevel = (level: number): number => PAGE_SHIFT + LEVEL_BITS * (level - 1)

/** Pages of 4 KiB of a large page below an address: what the entry's own page has to be moved on by. */
export const pageWithin = (level: number, lo: number): number => {
  if (level === 1) return 0
  return level === 2 ? (lo >>> PAGE_SHIFT) & INDEX_MASK : (lo & 0x3fff_ffff) >>> PAGE_SHIFT
}

/** Address bits of the lower lane below a large page, but for the lowest ones of the entry itself. */
export const belowPage = (level: number, from: number): number =>
  level === 1 ? 0 : (1 << shiftOfLevel(level)) - (1 << from)

/** Whether an address has bits at `width` or above. */
export function isBeyond(hi: number, lo: number, width: number): boolean {
  if (width >= 64) return false
  return width >= 32 ? hi >>> (width - 32) !== 0 : hi !== 0 || lo >>> width !== 0
}

/** Whether bits `width`-1 to 63 of an address are the same. */
export function isCanonical(hi: number, lo: number, width: number): boolean {
  if (width < 33) return hi === (lo << (32 - width)) >> 31 && lo === (lo << (32 - width)) >> (32 - width)
  const above = hi >> (width - 33)
  return above === 0 || above === -1
}

/** The 4 KiB page of an address of up to 64 bits. */
export const pageOfAddress = (hi: number, lo: number): number => (hi >>> 0) * 2 ** 20 + (lo >>> PAGE_SHIFT)
