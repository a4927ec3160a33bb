import { describe, expect, it } from 'vitest'
import { chargedBytes, tableGeometry } from '../../src/table/ioda-geometry.ts'

const KIB = 1024n
const GIB = 1n << 30n
const TIB = 1n << 40n
const EINVAL = -22

const bytes = (pageShift: number, windowBytes: bigint, levels: number, host = 16) =>
  chargedBytes({ pageShift, windowBytes, levels }, host)
const form = (pageShift: number, windowBytes: bigint, levels: number, host = 16) =>
  tableGeometry({ pageShift, windowBytes, levels }, host)

describe('bytes charged for a table, 64 KiB host', () => {
  it.each([
    [12, 2n * GIB, 1, 8_388_608],
    [16, 128n * GIB, 1, 33_554_432],
    [16, 128n * GIB, 2, 33_685_504],
    [16, TIB, 2, 268_566_528],
    [16, 16n * GIB, 1, 4_194_304],
    [16, 16n * GIB, 2, 4_325_376],
    [16, 16n * GIB, 3, 68 * 65_536],
    [24, 128n * GIB, 1, 131_072],
    [12, GIB, 1, 4_194_304],
  ])('2^%i byte pages, window %i, %i levels', (pageShift, windowBytes, levels, expected) => {
    expect(bytes(pageShift, windowBytes, levels)).toBe(expected)
  })

  it('nothing for what cannot be: no levels, six levels, a window that is no power of two', () => {
    expect([bytes(16, GIB, 0), bytes(16, GIB, 6), bytes(16, 3n * GIB, 1), bytes(16, 0n, 1)]).toEqual([
      0, 0, 0, 0,
    ])
  })

  it('a window below an IOMMU page: two host pages for one level, four for two', () => {
    expect(bytes(16, 32n * KIB, 1)).toBe(2 * 65_536)
    expect(bytes(16, 8n * KIB, 1)).toBe(2 * 65_536)
    expect(bytes(16, 32n * KIB, 2)).toBe(4 * 65_536)
  })
})

describe('form of a table', () => {
  it('has the entries of its window, shared out over the levels', () => {
    expect(form(16, 16n * GIB, 1)).toEqual({ entries: 2 ** 18, levelShift: 18, levels: 1 })
    expect(form(16, 16n * GIB, 2)).toEqual({ entries: 2 ** 18, levelShift: 13, levels: 2 })
    expect(form(16, TIB, 2)).toEqual({ entries: 2 ** 24, levelShift: 13, levels: 2 })
    expect(form(12, TIB, 4, 12)).toEqual({ entries: 2 ** 28, levelShift: 9, levels: 4 })
    expect(form(12, 1n << 41n, 3, 12)).toEqual({ entries: 2 ** 29, levelShift: 10, levels: 3 })
  })

  it('has at least a host page of entries', () => {
    expect(form(24, GIB, 1)).toEqual({ entries: 8192, levelShift: 13, levels: 1 })
    expect(form(24, GIB, 1, 12)).toEqual({ entries: 512, levelShift: 9, levels: 1 })
  })

  it.each([
    ['no levels', 16, GIB, 0],
    ['six levels', 16, GIB, 6],
    ['no power of two', 16, 3n * GIB, 1],
    ['no window', 16, 0n, 1],
    ['three levels of 64 KiB translate 55 bits', 16, TIB, 3],
    ['a window of 2^55 bytes', 16, 1n << 55n, 1],
  ])('is refused: %s', (_why, pageShift, windowBytes, levels) => {
    expect(form(pageShift, windowBytes, levels)).toBe(EINVAL)
  })

  it('of a window one to three bits below an IOMMU page is a host page of entries; below that it is refused', () => {
    const page = { entries: 8192, levelShift: 13, levels: 1 }
    expect([1, 2, 3].map((less) => form(16, 1n << BigInt(16 - less), 1))).toEqual([page, page, page])
    expect(form(16, 1n << 12n, 1)).toBe(EINVAL)
    expect(form(16, 32n * KIB, 2)).toEqual({ ...page, levels: 2 })
    expect(form(16, 16n * KIB, 2)).toBe(EINVAL)
    expect(form(16, 32n * KIB, 3)).toBe(EINVAL)
  })
})
