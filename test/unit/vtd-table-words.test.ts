import { describe, expect, it } from 'vitest'
import { decode, encode } from '../../src/bits/word.ts'
import {
  FAULT,
  FAULT_REASONS,
  faultNameOf,
  isQualified,
  kernelTextOf,
} from '../../src/hw/vtd/fault-reasons.ts'
import {
  CONTEXT_ENTRY_HI,
  CONTEXT_ENTRY_LO,
  EXT_CONTEXT_ENTRY_0,
  EXT_CONTEXT_ENTRY_2,
  EXT_PASID_ENTRY,
  PASID_ENTRY_0,
  PASID_ENTRY_1,
  PASID_ENTRY_2,
  SM_CONTEXT_ENTRY_0,
  VTD_TABLE_WORDS,
} from '../../src/hw/vtd/tables/format.ts'
import { decodeName } from '../../src/machine/decode.ts'
import { CALLS, WORDS } from '../../src/machine/registry.ts'

describe('words of VT-d tables', () => {
  it('the vectors of drivers come out of their fields', () => {
    expect(encode(CONTEXT_ENTRY_LO, { SLPTPTR: 0x12n, P: 1n })).toBe(0x1_2001n)
    expect(encode(CONTEXT_ENTRY_HI, { DID: 5n, AW: 1n })).toBe(0x501n)
    // V26.
    const context = { PASIDDIRPTR: 0x20n, PDTS: 7n, PRE: 1n, PASIDE: 1n, DTE: 1n, P: 1n }
    expect(encode(SM_CONTEXT_ENTRY_0, context)).toBe(0x2_0e1dn)
    expect(encode(PASID_ENTRY_0, { SLPTPTR: 0x30n, PGTT: 2n, AW: 1n, P: 1n })).toBe(0x3_0085n)
    expect(encode(PASID_ENTRY_0, { PGTT: 1n, AW: 1n, P: 1n })).toBe(0x45n)
    expect(encode(PASID_ENTRY_1, { DID: 1n, PWSNP: 1n })).toBe(0x80_0001n)
    expect(encode(PASID_ENTRY_2, { FLPTPTR: 0x40n, NXE: 1n })).toBe(0x4_0020n)
    expect(encode(PASID_ENTRY_2, { FLPTPTR: 0x40n, NXE: 1n, FLPM: 1n })).toBe(0x4_0024n)
    // V25, V27, and T, PASIDE, DINVE and PRE as Linux 4.9 writes them.
    expect(encode(EXT_CONTEXT_ENTRY_2, { PASIDPTR: 0x20n, PTS: 12n })).toBe(0x2_000cn)
    expect(encode(EXT_PASID_ENTRY, { FLPTPTR: 0x1a2bn, SRE: 1n, P: 1n })).toBe(0x1a2_b801n)
    expect(encode(EXT_CONTEXT_ENTRY_0, { T: 5n, PASIDE: 1n, PRE: 1n, DINVE: 1n, P: 1n })).toBe(0xb15n)
  })

  it.each(VTD_TABLE_WORDS.map((w) => [w.name, w] as const))('%s has a field for every bit', (_name, word) => {
    const all = Object.entries(decode(word, (1n << 64n) - 1n))
    expect(encode(word, Object.fromEntries(all))).toBe((1n << 64n) - 1n)
  })

  it('are all decoded by name', () => {
    for (const { name } of VTD_TABLE_WORDS) {
      expect(decodeName({ words: WORDS, calls: CALLS }, name.toLowerCase(), ['0x1'])).toMatchObject({
        word: name,
      })
    }
  })
})

describe('fault reasons of VT-d', () => {
  it('have a number each, and what Linux prints for it', () => {
    const codes = Object.values(FAULT_REASONS).map(({ code }) => code)
    expect(new Set(codes).size).toBe(codes.length)
    const printed: [number, string][] = [
      [0x00, 'Software'],
      [0x01, 'Present bit in root entry is clear'],
      [0x06, 'PTE Read access is not set'],
      [0x0d, 'PCE for translation request specifies blocking'],
      [0x0e, 'Unknown'],
      [0x25, 'Blocked a compatibility format interrupt request'],
      [0x2f, 'Unknown'],
      [0x59, 'SM: Present bit in PASID Table Entry is clear'],
      [0x90, 'SM: A/D bit update needed in first-level entry when set up in no snoop'],
    ]
    for (const [code, text] of printed) expect(kernelTextOf(code)).toBe(text)
  })

  it('FPD reaches no root entry, and no entry that cannot be read', () => {
    const never = Object.entries(FAULT_REASONS).filter(([, r]) => !r.isQualified)
    expect(never.map(([, { code }]) => code)).toEqual([
      0x01, 0x08, 0x09, 0x0a, 0x20, 0x21, 0x23, 0x25, 0x30, 0x31, 0x32, 0x38, 0x39, 0x3a, 0x40, 0x50, 0x58,
    ])
    expect([isQualified(0), isQualified(0xff), faultNameOf(FAULT.FL_P)]).toEqual([false, false, 'FL_P'])
  })

  it('are decoded both ways', () => {
    const of = (...values: string[]) => decodeName({ words: WORDS, calls: CALLS }, 'vtd_fault', values)
    const right = { kind: 'fault', name: 'PASID_ENTRY_P', code: 0x59, condition: 'SPT.2' }
    for (const values of [['0x59'], ['89'], ['pasid_entry_p'], ['SPT.2'], [right.name]]) {
      expect(of(...values)).toMatchObject(right)
    }
    expect(of(...'SM: Present bit in PASID Table Entry is clear'.split(' '))).toMatchObject(right)
    expect(() => of('0x2f')).toThrow('no fault reason of VT-d is 0x2f')
    expect(() => of('PASID_ENTRY_Q')).toThrow('PASID_ENTRY_P')
    expect(() => of()).toThrow('vtd_fault needs')
  })
})
