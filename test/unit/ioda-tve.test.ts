import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { decode } from '../../src/bits/word.ts'
import { bypassTve, TVE, TveFields, tableTve, WINDOW_1_BASE } from '../../src/hw/ioda-tve.ts'

const PAGES = [12, 16, 21, 30]
const MIB_16 = 1n << 24n

const fieldsOf = (tve: bigint) => {
  const fields = new TveFields()
  fields.read(hiOf(tve), loOf(tve))
  return fields
}

describe('the TVE of a table', () => {
  it('has the address, the levels and both sizes', () => {
    const tve = tableTve({ levels: 2, tablePage: 0x1_2340, levelBytes: 65_536, pageShift: 16 }, PAGES)
    expect(tve).toBe(0x1_2340_2505n)
    expect(decode(TVE, tve as bigint)).toEqual({
      TABLE_ADDR: 0x1_2340n,
      NUM_LEVELS: 1n,
      TCE_TABLE_SIZE: 5n,
      NON_TRANSLATE: 0n,
      IO_PSIZE: 5n,
    })
  })

  it.each([
    ['no level', { levels: 0 }],
    ['six levels', { levels: 6 }],
    ['less than 4 KiB in a level', { levelBytes: 2048 }],
    ['no power of two', { levelBytes: 12_288 }],
    ['a page size that the PHB does not have', { pageShift: 24 }],
  ])('is refused: %s', (_why, wrong) => {
    expect(tableTve({ levels: 1, tablePage: 1, levelBytes: 4096, pageShift: 12, ...wrong }, PAGES)).toBe(
      undefined,
    )
  })

  it('is read back as it was made', () => {
    const level = fc.integer({ min: 12, max: 24 })
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.nat(2 ** 31 - 1),
        level,
        fc.constantFrom(...PAGES),
        (levels, tablePage, bytesShift, pageShift) => {
          const tve = tableTve({ levels, tablePage, levelBytes: 2 ** bytesShift, pageShift }, PAGES)
          const levelShift = bytesShift - 3
          expect(fieldsOf(tve as bigint)).toMatchObject({
            isValid: true,
            levels,
            tablePage,
            levelShift,
            pageShift,
          })
        },
      ),
    )
  })
})

describe('the TVE of a window without a table', () => {
  it('has its ends in units of 16 MiB, and is read back as it was made', () => {
    const unit = fc.bigInt({ min: 0n, max: (1n << 26n) - 2n })
    fc.assert(
      fc.property(unit, unit, (a, b) => {
        const [start, end] = a < b ? [a, b] : [b, a + 1n]
        const tve = bypassTve(WINDOW_1_BASE + start * MIB_16, (end - start) * MIB_16, 1)
        expect(fieldsOf(tve as bigint)).toMatchObject({
          isValid: true,
          pageShift: 0,
          bypassStart: Number(start),
          bypassEnd: Number(end),
        })
        expect(decode(TVE, tve as bigint).NON_TRANSLATE).toBe(1n)
      }),
    )
  })

  it('is 0 for no bytes, and nothing goes through 0', () => {
    expect(bypassTve(WINDOW_1_BASE, 0n, 1)).toBe(0n)
    expect(fieldsOf(0n).isValid).toBe(false)
  })

  it.each([
    ['an address of the other window', 0n, MIB_16, 1],
    ['window 0 at 1 << 59', WINDOW_1_BASE, MIB_16, 0],
    ['a start between multiples of 16 MiB', WINDOW_1_BASE + 4096n, MIB_16, 1],
    ['a length that is none', WINDOW_1_BASE, MIB_16 - 4096n, 1],
    ['more than 50 bits', WINDOW_1_BASE, 1n << 50n, 1],
  ])('is refused: %s', (_why, start, bytes, window) => {
    expect(bypassTve(start, bytes, window)).toBe(undefined)
  })
})
