/** Pages of the area of tables, by what is in them. */
export const PAGES = {
  roots: [0, 1],
  contexts: [2, 3, 4, 5],
  directories: [6, 7],
  pasids: [8, 9],
  /** Page tables by level; entries lead downwards only, so that no page table is ever a page of data. */
  level4: [10, 11, 12],
  level3: [13, 14, 15, 16],
  level2: [17, 18, 19, 20, 21, 22],
  level1: [23, 24, 25, 26, 27, 28, 29, 30, 31],
} as const
export const LEVELS = [[], PAGES.level1, PAGES.level2, PAGES.level3, PAGES.level4] as const

/** Entries that are used, by level. The second one of level 2 leads to where the data is, in pages of 1 GiB too. */
export const SLOTS = [
  [],
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  [1, 2],
  [0, 1, 2],
  [0, 1, 511],
] as const

/** PASIDs that tables have entries of. */
export const RANDOM_PASIDS = [0, 1, 2, 65] as const
export const RANDOM_DOMAINS = 6

/** Buses with a device, and what stands for the place of its root entry. */
export const BUSES = [0, 1] as const
export const FUNCTIONS = [0x20, 0x21, 0x24, 0x28] as const

/** Registers that scripts write, by offset. */
export const REG = {
  GCMD: 0x18,
  RTADDR: 0x20,
  CCMD: 0x28,
  FSTS: 0x34,
  FECTL: 0x38,
  FEDATA: 0x3c,
  IQT: 0x88,
  IQA: 0x90,
  ICS: 0x9c,
  IECTL: 0xa0,
  IEDATA: 0xa4,
  IVA: 0xf0,
  IOTLB: 0xf8,
  PQH: 0xc0,
  PQT: 0xc8,
  PQA: 0xd0,
  PRS: 0xdc,
  PECTL: 0xe0,
  PEDATA: 0xe4,
  PEADDR: 0xe8,
  PEUADDR: 0xec,
  FAULT_TOP: 0x22c,
} as const
export const GCMD = { TE: 1n << 31n, SRTP: 1n << 30n, QIE: 1n << 26n, SIRTP: 1n << 24n } as const
