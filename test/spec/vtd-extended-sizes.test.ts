import { describe, expect, it } from 'vitest'
import { extendedTableSize } from '../../src/hw/vtd/tables/extended-sizes.ts'

describe('PASID tables of extended mode', () => {
  it.each([
    ['V24, V25: all that a unit can have is too much', 19, 0x2_0000, 8, 12],
    ['V24: as many as are allowed', 16, 0x2_0000, 8, 12],
    ['V24, V25: 512 KiB', 15, 0x1_0000, 7, 11],
    ['V24, V25: two pages', 9, 0x400, 1, 5],
    ['V24, V25: less than a page', 4, 0x20, 0, 0],
    ['fewer than PTS can say', 0, 2, 0, 0],
  ])('%s: PSS %d', (_what, pss, pasids, order, sizeCode) => {
    expect(extendedTableSize(pss)).toEqual({ pasids, order, sizeCode })
  })

  it('the size code never reaches its reserved bits', () => {
    for (let pss = 0; pss < 32; pss++) expect(extendedTableSize(pss).sizeCode).toBeLessThan(16)
  })
})
