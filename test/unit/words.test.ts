import { describe, expect, it } from 'vitest'
import { gpa, iova, liobn } from '../../src/bits/brand.ts'
import { RegisterBank } from '../../src/bits/register-bank.ts'
import { Cells, Journal } from '../../src/bits/state.ts'
import { parseU64 } from '../../src/bits/u64.ts'
import { bit, bits, word } from '../../src/bits/word.ts'

const wrong = expect.objectContaining({ code: 'ERR_DECLARATION' })

describe('a declaration of a word', () => {
  it.each([
    ['two fields that share a bit', { A: bits(7, 4, 'rw', ''), B: bit(4, 'ro', '') }],
    ['a field past the end', { A: bits(8, 8, 'rw', '') }],
    ['a field that ends before it starts', { A: bits(3, 4, 'rw', '') }],
    ['a field below the word', { A: bits(3, -1, 'rw', '') }],
  ])('does not load with %s', (_what, fields) => {
    expect(() => word<string>('W', 8, 'a test', { ...fields })).toThrow(wrong)
  })

  it('cannot be changed', () => {
    const w = word('W', 8, 'a test', { A: bit(0, 'rw', '') })
    expect(Object.isFrozen(w)).toBe(true)
  })
})

describe('RegisterBank', () => {
  const CMD = word('CMD', 32, 'a test', {
    GO: bit(0, 'rw', ''),
    DONE: bit(1, 'rw1c', ''),
    KEY: bits(15, 8, 'wo', ''),
  })
  const make = () =>
    new RegisterBank({ CMD: { offset: 0x98, word: CMD, reset: 2n } }, new Cells(new Journal(), 1))

  it('tells the unit of a write when it is done: now, before, and what the bus carried', () => {
    const bank = make()
    const seen: unknown[] = []
    bank.onWrite('CMD', (now, before, written) => seen.push([now, before, written, bank.peek('CMD')]))
    bank.write(0x98, 0xffff_ab03n)
    bank.poke('CMD', 7n)
    bank.reset()
    expect(seen).toEqual([[0xab01n, 2n, 0xffff_ab03n, 0xab01n]])
  })

  it('has nothing at other offsets', () => {
    const bank = make()
    bank.write(0x99, 0xffn)
    expect([bank.at(0x98), bank.at(0x99), bank.read(0x99), bank.peek('CMD')]).toEqual([
      'CMD',
      undefined,
      0n,
      2n,
    ])
  })

  it('does not load with two registers at one offset', () => {
    const map = { A: { offset: 0, word: CMD }, B: { offset: 0, word: CMD } }
    expect(() => new RegisterBank(map, new Cells(new Journal(), 1))).toThrow('two registers')
  })

  it('goes back with the machine', () => {
    const journal = new Journal()
    journal.on = true
    const bank = new RegisterBank({ CMD: { offset: 0, word: CMD } }, new Cells(journal, 1))
    const mark = journal.mark()
    bank.write(0, 0x1101n)
    journal.rollback(mark)
    expect(bank.peek('CMD')).toBe(0n)
  })
})

describe('numbers that people write', () => {
  it.each([
    '',
    ' ',
    '-1',
    '1.5',
    '0x',
    '0xg',
    '12x',
    '1e3',
    '0b2',
    '0o8',
    '__',
    '_1',
    '1_',
    '0_x10',
    '0x_10',
    '1__0',
    'NaN',
    '9'.repeat(99),
  ])('refuses "%s"', (text) => {
    expect(() => parseU64(text)).toThrow(expect.objectContaining({ code: 'ERR_NUMBER' }))
  })

  it('refuses what needs more bits than there are', () => {
    expect(parseU64('255', 8)).toBe(255n)
    expect(() => parseU64('256', 8)).toThrow('does not fit 8 bits')
    expect(() => parseU64('0x1_0000_0000_0000_0000')).toThrow('does not fit 64 bits')
    expect(parseU64('0x8000_0000')).toBe(0x8000_0000n)
  })

  it('refuses addresses of more than 64 bits and LIOBN of more than 32', () => {
    const refused = expect.objectContaining({ code: 'ERR_WORD_RANGE' })
    expect(() => iova(-1n)).toThrow(refused)
    expect(() => gpa(1n << 64n)).toThrow(refused)
    for (const value of [-1, 2 ** 32, 0.5, Number.NaN]) expect(() => liobn(value)).toThrow(refused)
    expect(liobn(0xffff_ffff)).toBe(0xffff_ffff)
  })
})
