import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RegisterBank } from '../../src/bits/register-bank.ts'
import { Cells, Journal } from '../../src/bits/state.ts'
import {
  ceilLog2,
  floorLog2,
  hex,
  hiOf,
  hiOfNumber,
  hiOfPage,
  loOf,
  loOfNumber,
  loOfPage,
  numberOf,
  pageOf,
  parseU64,
  swap32,
  wordOf,
} from '../../src/bits/u64.ts'
import { type Access, bits, decode, encode, type Field, get, maskOf, put, word } from '../../src/bits/word.ts'

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
const ACCESS: readonly Access[] = ['rw', 'ro', 'wo', 'rw1c', 'rsvd']

/** A word cut into fields, with some bits in none. */
const anyWord = fc
  .record({
    width: fc.constantFrom(8, 16, 32, 64),
    cuts: fc.array(fc.tuple(fc.integer({ min: 1, max: 20 }), fc.constantFrom(...ACCESS, undefined)), {
      maxLength: 20,
    }),
  })
  .map(({ width, cuts }) => {
    const fields: Record<string, Field> = {}
    let lo = 0
    for (const [n, access] of cuts) {
      const hi = Math.min(lo + n, width) - 1
      if (hi >= lo && access !== undefined) fields[`F${lo}`] = bits(hi, lo, access, 'A field.')
      lo = hi + 1
    }
    return word('W', width as 8 | 16 | 32 | 64, 'a test', fields)
  })

/** A word as a text of bits, most significant first: the naive way. */
const textOf = (raw: bigint, width: number) => raw.toString(2).padStart(width, '0')
const cut = (text: string, { hi, lo }: Field) => text.slice(text.length - 1 - hi, text.length - lo)

describe('words and their fields, against texts of bits', () => {
  it('takes a field out, and puts one in without touching the others', () => {
    fc.assert(
      fc.property(anyWord, u64, u64, (w, a, b) => {
        const raw = BigInt.asUintN(w.widthBits, a)
        const text = textOf(raw, w.widthBits)
        for (const [name, field] of Object.entries(w.fields)) {
          expect(get(w, raw, name)).toBe(BigInt(`0b${cut(text, field)}`))
          const value = BigInt.asUintN(field.hi - field.lo + 1, b)
          const after = textOf(put(w, raw, name, value), w.widthBits)
          expect(cut(after, field)).toBe(textOf(value, field.hi - field.lo + 1))
          expect(after.slice(0, w.widthBits - 1 - field.hi)).toBe(text.slice(0, w.widthBits - 1 - field.hi))
          expect(after.slice(w.widthBits - field.lo)).toBe(text.slice(w.widthBits - field.lo))
        }
      }),
    )
  })

  it('decodes what it encodes, and encodes what it decodes but for bits in no field', () => {
    fc.assert(
      fc.property(anyWord, u64, (w, a) => {
        const raw = BigInt.asUintN(w.widthBits, a)
        const all = ACCESS.reduce((mask, access) => mask | maskOf(w, access), 0n)
        const fields = decode(w, raw)
        expect(encode(w, fields)).toBe(raw & all)
        expect(decode(w, encode(w, fields))).toEqual(fields)
      }),
    )
  })

  it('refuses a value that its field does not hold', () => {
    fc.assert(
      fc.property(anyWord, (w) => {
        for (const [name, { hi, lo }] of Object.entries(w.fields)) {
          const refused = expect.objectContaining({ code: 'ERR_WORD_RANGE' })
          expect(() => put(w, 0n, name, 1n << BigInt(hi - lo + 1))).toThrow(refused)
          expect(() => encode(w, { [name]: -1n })).toThrow(refused)
        }
      }),
    )
  })
})

describe('a register bank, against bits with rules', () => {
  const rule: Record<
    Access | 'none',
    { read: (v: string) => string; write: (v: string, w: string) => string }
  > = {
    rw: { read: (v) => v, write: (_v, w) => w },
    ro: { read: (v) => v, write: (v) => v },
    wo: { read: () => '0', write: (_v, w) => w },
    rw1c: { read: (v) => v, write: (v, w) => (w === '1' ? '0' : v) },
    rsvd: { read: () => '0', write: (v) => v },
    none: { read: (v) => v, write: (v) => v },
  }

  it('applies the access of each field, reset values and poke as the unit says', () => {
    fc.assert(
      fc.property(anyWord, u64, u64, fc.array(u64, { maxLength: 4 }), (w, reset, poked, writes) => {
        const map = {
          R: { offset: 8, word: w, reset: BigInt.asUintN(w.widthBits, reset) },
          S: { offset: 16, word: w },
        }
        const bank = new RegisterBank(map, new Cells(new Journal(), 1))
        const access: (Access | 'none')[] = Array.from({ length: w.widthBits }, (_, i) => {
          const at = w.widthBits - 1 - i
          return Object.values(w.fields).find(({ hi, lo }) => at >= lo && at <= hi)?.access ?? 'none'
        })
        expect(bank.peek('R')).toBe(map.R.reset)
        bank.poke('R', poked)
        let text = textOf(BigInt.asUintN(w.widthBits, poked), w.widthBits)
        for (const written of writes) {
          const mask = textOf(BigInt.asUintN(w.widthBits, written), w.widthBits)
          bank.write(8, BigInt.asUintN(w.widthBits, written))
          text = access.map((a, i) => rule[a].write(text[i]!, mask[i]!)).join('')
          expect(textOf(bank.peek('R'), w.widthBits)).toBe(text)
          expect(textOf(bank.read(8), w.widthBits)).toBe(
            access.map((a, i) => rule[a].read(text[i]!)).join(''),
          )
        }
        expect([bank.peek('S'), bank.read(12)]).toEqual([0n, 0n])
        bank.reset()
        expect(bank.peek('R')).toBe(map.R.reset)
      }),
    )
  })
})

describe('64-bit words in lanes, against bigint', () => {
  const exact = fc.maxSafeNat()

  it('splits and joins', () => {
    fc.assert(
      fc.property(u64, exact, (w, n) => {
        expect(wordOf(hiOf(w), loOf(w))).toBe(w)
        expect([hiOf(w) | 0, loOf(w) | 0]).toEqual([hiOf(w), loOf(w)])
        expect(numberOf(hiOfNumber(n), loOfNumber(n))).toBe(n)
        expect([hiOfNumber(n), loOfNumber(n)]).toEqual([hiOf(BigInt(n)), loOf(BigInt(n))])
      }),
    )
  })

  it('finds pages and their addresses', () => {
    fc.assert(
      fc.property(u64, fc.integer({ min: 12, max: 51 }), (address, shift) => {
        const page = pageOf(hiOf(address), loOf(address), shift)
        expect(BigInt(page)).toBe(address >> BigInt(shift))
        if (shift > 31) return
        const start = (address >> BigInt(shift)) << BigInt(shift)
        expect([hiOfPage(page, shift), loOfPage(page, shift)]).toEqual([hiOf(start), loOf(start)])
      }),
    )
  })

  it('turns the bytes of a lane', () => {
    const view = new DataView(new ArrayBuffer(4))
    fc.assert(
      fc.property(fc.integer(), (x) => {
        view.setInt32(0, x, true)
        expect(swap32(x)).toBe(view.getInt32(0))
        expect(swap32(swap32(x))).toBe(x)
      }),
    )
  })

  it('reads what it writes, in every base', () => {
    fc.assert(
      fc.property(u64, fc.boolean(), (w, upper) => {
        expect(hex(w)).toBe(`0x${w.toString(16)}`)
        const texts = [hex(w), w.toString(), `0b${w.toString(2)}`, `0o${w.toString(8)}`, ` ${hex(w)} `]
        for (const text of texts) expect(parseU64(upper ? text.toUpperCase() : text)).toBe(w)
        expect(parseU64(w.toString().replaceAll(/\B(?=(\d{3})+$)/g, '_'))).toBe(w)
      }),
    )
  })

  it('finds powers of two around a word', () => {
    fc.assert(
      fc.property(fc.oneof(u64, fc.nat(70).map(BigInt)), (w) => {
        const [up, down] = [ceilLog2(w), floorLog2(w)]
        expect(1n << BigInt(up) >= w && (up === 0 || 1n << BigInt(up - 1) < w)).toBe(true)
        if (w === 0n) expect(down).toBe(-1)
        else expect(1n << BigInt(down) <= w && 2n << BigInt(down) > w).toBe(true)
      }),
    )
  })
})
