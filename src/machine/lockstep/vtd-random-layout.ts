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
