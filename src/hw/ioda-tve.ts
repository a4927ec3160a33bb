import { floorLog2 } from '../bits/u64.ts'
import { bit, bits, encode, put, word } from '../bits/word.ts'

/** A translation validation entry: what a PHB does with one window of a PE. All of it 0: nothing goes through. */
export const TVE = word(
  'TVE',
  64,
  'OPAL firmware skiboot include/phb4-regs.h (IODA3_TVT); QEMU 7.2 pnv_phb4.c',
  {
    TABLE_ADDR: bits(63, 16, 'rw', 'Host address of the first level, in units of 4 KiB.'),
    NUM_LEVELS: bits(15, 13, 'rw', 'Levels of the table, less one.'),
    TCE_TABLE_SIZE: bits(12, 8, 'rw', 'log2 of the bytes of one level, less 11. 0: the entry is not valid.'),
    NON_TRANSLATE: bit(7, 'rw', 'Without a table, addresses go through as they are, up to 50 bits.'),
    IO_PSIZE: bits(4, 0, 'rw', 'log2 of the IOMMU page, less 11. 0: without a table.'),
  },
)

/** What log2 of a level's bytes and of an IOMMU page is less in a TVE. */
export const TVE_SHIFT_BIAS = 11
/** Window 1 of a PE begins here: the PHB picks the TVE by this bit of a bus address. */
export const WINDOW_SELECT_SHIFT = 59
export const WINDOW_1_BASE = 1n << BigInt(WINDOW_SELECT_SHIFT)
/** A window without a table begins and ends at multiples of this many bits. */
export const BYPASS_UNIT_SHIFT = 24

const LEVEL_BYTES_MIN = 4096
const BYPASS_END_MAX = 0x3_ffff_ffff_ffffn
const BYPASS_UNIT_MASK = (1n << BigInt(BYPASS_UNIT_SHIFT)) - 1n

/** A table as firmware is told of it; the IOMMU page as its log2. */
export interface TableWindow {
  readonly levels: number
  /** 4 KiB host page of the first level. */
  readonly tablePage: number
  readonly levelBytes: number
  readonly pageShift: number
}

/**
 * The TVE for a table; undefined where the PHB cannot do it: one to five levels, a power of two of at least 4 KiB
 * in each, and an IOMMU page size that it has. (skiboot hw/phb4.c, map_pe_dma_window)
 */
export function tableTve(w: TableWindow, pageShifts: readonly number[]): bigint | undefined {
  const levelBytes = BigInt(w.levelBytes)
  if (w.levels < 1 || w.levels > 5 || w.levelBytes < LEVEL_BYTES_MIN) return undefined
  if ((levelBytes & (levelBytes - 1n)) !== 0n || !pageShifts.includes(w.pageShift)) return undefined
  return encode(TVE, {
    TABLE_ADDR: BigInt(w.tablePage),
    NUM_LEVELS: BigInt(w.levels - 1),
    TCE_TABLE_SIZE: BigInt(floorLog2(levelBytes) - TVE_SHIFT_BIAS),
    IO_PSIZE: BigInt(w.pageShift - TVE_SHIFT_BIAS),
  })
}

/**
 * The TVE for a window without a table, bus addresses [start, start + bytes) of window `start >> 59`; 0 for no
 * bytes, undefined where firmware refuses. Bits 24 to 49 of both ends share the fields of a table's address and
 * size. (skiboot hw/phb4.c, map_pe_dma_window_real)
 */
export function bypassTve(start: bigint, bytes: bigint, window: number): bigint | undefined {
  if (bytes === 0n) return 0n
  if (start >> BigInt(WINDOW_SELECT_SHIFT) !== BigInt(window)) return undefined
  const first = start & (WINDOW_1_BASE - 1n)
  const end = first + bytes
  if (((first | bytes) & BYPASS_UNIT_MASK) !== 0n || end > BYPASS_END_MAX) return undefined
  const upper = (first & 0xffff_ff00_0000n) << 16n
  const lower = ((end & 0xffff_ff00_0000n) >> 8n) | ((first >> 38n) & 0xc00n) | ((end >> 40n) & 0x300n)
  const isValid = 1n << 12n
  return put(TVE, upper | lower | isValid, 'NON_TRANSLATE', 1n)
}

/** A TVE in lanes, taken apart for walks. */
export class TveFields {
  /** 4 KiB host page of the first level. */
  tablePage = 0
  levels = 0
  /** log2 of the entries of one level. */
  levelShift = 0
  /** 0: without a table. */
  pageShift = 0
  isValid = false
  /** Of a window without a table, in units of 16 MiB. */
  bypassStart = 0
  bypassEnd = 0
  #hi = 0
  #lo = 0

  /** Nothing is to be done for the TVE that was read last: mostly it is the one of the DMA before. */
  read(hi: number, lo: number): void {
    if (hi === this.#hi && lo === this.#lo) return
    this.#hi = hi
    this.#lo = lo
    const tableSize = (lo >>> 8) & 31
    const pageSize = lo & 31
    this.isValid = tableSize !== 0
    this.levels = ((lo >>> 13) & 7) + 1
    this.levelShift = tableSize + TVE_SHIFT_BIAS - 3
    this.pageShift = pageSize === 0 ? 0 : pageSize + TVE_SHIFT_BIAS
    this.tablePage = (hi >>> 0) * 0x1_0000 + (lo >>> 16)
    this.bypassStart = (hi >>> 8) | (((lo >>> 10) & 3) << 24)
    this.bypassEnd = ((hi & 0xff) << 16) | (lo >>> 16) | (((lo >>> 8) & 3) << 24)
  }
}
