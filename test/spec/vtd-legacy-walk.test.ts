import { describe, expect, it } from 'vitest'
import { FAULT, type FaultName } from '../../src/hw/vtd/fault-reasons.ts'
import { ADDRESS_TYPE, PERM, TABLE_MODE } from '../../src/hw/vtd/ports.ts'
import {
  AT,
  legacyWorld,
  SOURCE,
  type TableWorld,
  tableWorld,
  withSecondLevel,
} from '../support/vtd-tables.ts'

const IOVA = 0x4020_1234n
const { READ, WRITE } = PERM
const write = { need: WRITE }

const world = (change: (w: TableWorld) => void = () => undefined, options = {}): TableWorld => {
  const made = legacyWorld(options)
  change(made)
  return made
}

const CONTEXT = 0x1_1180
const LEAF = 0x1_4008

type LegacyFault = Extract<
  FaultName,
  | 'ROOT_ENTRY_P'
  | 'CONTEXT_ENTRY_P'
  | 'CONTEXT_ENTRY_INVALID'
  | 'BEYOND_WIDTH'
  | 'WRITE'
  | 'READ'
  | 'NEXT_TABLE_ACCESS'
  | 'ROOT_ENTRY_ACCESS'
  | 'CONTEXT_ENTRY_ACCESS'
  | 'ROOT_ENTRY_RSVD'
  | 'CONTEXT_ENTRY_RSVD'
  | 'PAGING_ENTRY_RSVD'
  | 'TRANSLATION_REQUEST'
  | 'INTERRUPT_RANGE'
  | 'TABLE_MODE'
  | 'LEGACY_WITH_PASID'
>

/** Worlds, in the order of the checks; each but the last one of a row breaks a later rule as well. */
const CASES: Record<LegacyFault, () => string[]> = {
  TABLE_MODE: () => {
    const w = world()
    const short: string[] = []
    for (const mode of [TABLE_MODE.SCALABLE, TABLE_MODE.EXTENDED, TABLE_MODE.ABORT]) {
      w.setRoot(mode, 0xffff_f000)
      short.push(w.short(IOVA))
    }
    return short
  },
  LEGACY_WITH_PASID: () => [world((w) => w.setRoot(0, 0xffff_f000)).short(IOVA, { pasid: 1 })],
  ROOT_ENTRY_ACCESS: () => [world((w) => w.setRoot(0, 0xffff_f000)).short(IOVA)],
  ROOT_ENTRY_P: () => [
    world((w) => w.word(AT.ROOT, 0x1_1002n)).short(IOVA),
    world((w) => w.word(AT.ROOT, 0n)).short(IOVA),
  ],
  ROOT_ENTRY_RSVD: () => [
    world((w) => w.word(AT.ROOT, 0xffff_f003n)).short(IOVA),
    world((w) => w.word(AT.ROOT + 8, 1n)).short(IOVA),
    world((w) => w.word(AT.ROOT, 0x80_0001_1001n)).short(IOVA),
  ],
  CONTEXT_ENTRY_ACCESS: () => [world((w) => w.word(AT.ROOT, 0xffff_f001n)).short(IOVA)],
  CONTEXT_ENTRY_P: () => [
    world((w) => w.word(CONTEXT, 0x1_2010n)).short(IOVA),
    world((w) => w.word(CONTEXT, 0n)).short(IOVA),
  ],
  CONTEXT_ENTRY_RSVD: () => [
    world((w) => w.word(CONTEXT, 0x1_201dn)).short(IOVA),
    world((w) => w.word(CONTEXT, 0x1_2011n)).short(IOVA),
    world((w) => w.word(CONTEXT + 8, 0x582n)).short(IOVA),
    world((w) => w.word(CONTEXT + 8, 0x0100_0501n)).short(IOVA),
    world((w) => w.word(CONTEXT, 0x80_0001_2001n)).short(IOVA),
  ],
  CONTEXT_ENTRY_INVALID: () => [
    // Neither the width of these tables, nor the translation types that the unit has not.
    world((w) => w.word(CONTEXT + 8, 0x502n)).short(IOVA, { addressType: ADDRESS_TYPE.TRANSLATED }),
    world((w) => w.word(CONTEXT, 0x1_200dn)).short(IOVA),
    world((w) => w.word(CONTEXT, 0x1_2005n)).short(IOVA),
    world((w) => w.word(CONTEXT, 0x1_2009n), { features: { hasPassThrough: false } }).short(IOVA),
    // Pass-through takes the greatest width only.
    world((w) => w.word(CONTEXT, 0x1_2009n), { features: { sagaw: 0b0110 } }).short(IOVA),
    // The first table cannot be read.
    world((w) => w.word(CONTEXT, 0xffff_f001n)).short(IOVA),
  ],
  TRANSLATION_REQUEST: () => [
    world((w) => w.word(CONTEXT, 0xffff_f001n)).short(1n << 40n, { addressType: 1 }),
    world().short(IOVA, { addressType: ADDRESS_TYPE.TRANSLATED }),
  ],
  BEYOND_WIDTH: () => [
    world((w) => w.word(CONTEXT, 0xffff_f001n)).short(1n << 39n),
    world().short(0x80_0000_0000n),
    // The width of the unit, above tables of four levels.
    world((w) => w.word(CONTEXT + 8, 0x502n), { features: { sagaw: 0b0110 } }).short(0x80_0000_0000n),
    world((w) => w.word(CONTEXT, 0x1_2009n)).short(0x80_0000_0000n),
  ],
  READ: () => [
    world((w) => w.word(LEAF, 0xabc_d806n)).short(IOVA),
    world((w) => w.word(LEAF, 0n)).short(IOVA),
    world((w) => w.word(0x1_2008, 0x1_3002n)).short(IOVA),
    world((w) => w.word(LEAF, 0xabc_d002n)).short(IOVA, { need: READ | WRITE }),
  ],
  WRITE: () => [
    world((w) => w.word(LEAF, 0xabc_d801n)).short(IOVA, write),
    world((w) => w.word(LEAF, 0n)).short(IOVA, write),
    world((w) => w.word(LEAF, 0xabc_d001n)).short(IOVA, { need: READ | WRITE }),
    world((w) => w.word(LEAF, 0n)).short(IOVA, { need: READ | WRITE }),
  ],
  PAGING_ENTRY_RSVD: () => [
    world((w) => w.word(LEAF, 0xfee0_0803n)).short(IOVA),
    world((w) => w.word(LEAF, 0x4000_0000_0abc_d003n)).short(IOVA),
    world((w) => w.word(LEAF, 0x80_0abc_d003n)).short(IOVA),
    world((w) => w.word(0x1_3008, 0xffff_f803n)).short(IOVA),
    world((w) => w.word(0x1_3008, 0x4000_0000_0001_4003n), { features: { hasDeviceTlb: true } }).short(IOVA),
    world((w) => w.word(0x1_3008, 0x8000_1083n)).short(IOVA),
    world((w) => w.word(0x1_3008, 0x8000_0083n), { features: { hasSecond2M: false } }).short(IOVA),
    world((w) => w.word(0x1_2008, 0x9000_0083n)).short(IOVA),
    world((w) => w.word(0x1_2008, 0x8000_0083n), { features: { hasSecond1G: false } }).short(IOVA),
  ],
  NEXT_TABLE_ACCESS: () => [
    world((w) => w.word(0x1_2008, 0xffff_f003n)).short(IOVA),
    world((w) => w.word(0x1_3008, 0xffff_f003n)).short(IOVA),
  ],
  INTERRUPT_RANGE: () => [
    world((w) => w.word(LEAF, 0xfee0_0003n)).short(IOVA),
    world((w) => w.word(0x1_3008, 0xfee0_0083n)).short(IOVA),
    world((w) => w.word(CONTEXT, 0x1_2005n), { features: { hasDeviceTlb: true } }).short(0xfee0_1000n, {
      addressType: ADDRESS_TYPE.TRANSLATED,
    }),
  ],
}

describe('a request in legacy mode is blocked', () => {
  it.each(Object.keys(CASES) as LegacyFault[])('%s', (name) => {
    const got = CASES[name]()
    expect(got).not.toEqual([])
    for (const short of got) expect(short).toBe(name)
  })
})

describe('a walk in legacy mode', () => {
  it('V3: three levels to a page of 4 KiB', () => {
    const w = world()
    expect(w.translate(IOVA)).toMatchObject({ fault: 0, page: 0xabcd, shift: 12, perm: 3, domain: 5 })
  })

  it('V4: a page of 2 MiB', () => {
    expect(world((w) => w.word(0x1_3008, 0x8000_0083n)).short(IOVA)).toBe('80001:21:3')
  })

  it.each<[string, lo: bigint, hi: bigint, fault: number]>([
    ['four levels in a unit of three', 0x1_2001n, 0x502n, FAULT.CONTEXT_ENTRY_INVALID],
    ['the reserved type', 0x1_200dn, 0x501n, FAULT.CONTEXT_ENTRY_INVALID],
    ['bit 4', 0x1_2011n, 0x501n, FAULT.CONTEXT_ENTRY_RSVD],
    ['bit 7 of the upper word', 0x1_2001n, 0x581n, FAULT.CONTEXT_ENTRY_RSVD],
  ])('V8: a context entry with %s', (_what, lo, hi, fault) => {
    const w = world((w) => {
      w.word(CONTEXT, lo)
      w.word(CONTEXT + 8, hi)
    })
    expect(w.translate(IOVA)).toMatchObject({ fault })
  })

  it('V9: the first address beyond 39 bits', () => {
    expect(world().translate(0x80_0000_0000n)).toMatchObject({ fault: FAULT.BEYOND_WIDTH })
  })

  it('a page of 1 GiB', () => {
    expect(world((w) => w.word(0x1_2008, 0x8000_0083n)).short(IOVA)).toBe('80201:30:3')
  })

  it('a large page of a level without large pages is no page', () => {
    const w = world(undefined, { features: { sagaw: 0b0110 }, base: undefined })
    expect(w.short(IOVA)).toBe('abcd:12:3')
  })

  it('four levels, and five', () => {
    const options = { features: { sagaw: 0b1110, maxAddressBits: 57, hostAddressBits: 48 } }
    const four = world((w) => {
      w.word(CONTEXT, 0x1_5001n)
      w.word(CONTEXT + 8, 0x502n)
      w.word(0x1_5008, 0x1_2003n)
    }, options)
    expect(four.short(0x80_4020_1234n)).toBe('abcd:12:3')
    expect(four.short(0x1_0080_4020_1234n)).toBe('BEYOND_WIDTH')
    four.word(0x1_5008, 0x1_2083n)
    expect(four.short(0x80_4020_1234n)).toBe('PAGING_ENTRY_RSVD')
    const five = world((w) => {
      w.word(CONTEXT, 0x1_6001n)
      w.word(CONTEXT + 8, 0x503n)
      w.word(0x1_6010, 0x1_5003n)
      w.word(0x1_5008, 0x1_2003n)
    }, options)
    expect(five.short(0x2_0080_4020_1234n)).toBe('abcd:12:3')
    expect(five.short(0x200_0000_0000_0000n)).toBe('BEYOND_WIDTH')
  })

  it('permissions of all levels count together', () => {
    const w = world((v) => v.word(0x1_3008, 0x1_4001n))
    expect(w.short(IOVA)).toBe('abcd:12:1')
    expect(w.short(IOVA, write)).toBe('WRITE')
  })

  it('V10: a large page that reaches into the interrupt range is answered page by page', () => {
    const w = world((v) => v.word(0x1_2008, 0xc000_0083n))
    expect(w.short(IOVA)).toBe('c0201:12:3')
    expect(w.short(0x7ee0_0000n)).toBe('INTERRUPT_RANGE')
    expect(w.short(0x7eef_ffffn)).toBe('INTERRUPT_RANGE')
    expect(w.short(0x7ef0_0000n)).toBe('fef00:12:3')
  })

  it('an interrupt request is none of the tables', () => {
    const w = world((v) => v.word(AT.ROOT, 0n))
    expect(w.translate(0xfeef_fffcn, write)).toMatchObject({ fault: 0, isInterrupt: true })
    expect(w.translate(0xfef0_0000n, write)).toMatchObject({ fault: FAULT.ROOT_ENTRY_P, isInterrupt: false })
  })

  it('pass-through leads to the same address, and to no page table', () => {
    const w = world((v) => v.word(CONTEXT, 0xffff_ffff_ffff_f009n))
    expect(w.translate(IOVA)).toMatchObject({ fault: 0, page: 0x4_0201, isDirect: true, perm: 3, domain: 5 })
  })

  it('a read of no bytes passes where only writes may, in a unit with ZLR', () => {
    const zero = { isZeroLength: true }
    const change = (w: TableWorld) => w.word(LEAF, 0xabc_d002n)
    expect(world(change).short(IOVA, zero)).toBe('READ')
    expect(world(change, { features: { hasZeroLengthReads: true } }).short(IOVA, zero)).toBe('abcd:12:2')
    const nothing = world((w) => w.word(LEAF, 0n), { features: { hasZeroLengthReads: true } })
    expect(nothing.short(IOVA, zero)).toBe('READ')
  })

  it('snoop and transient mapping are reserved where the unit has not got them', () => {
    const set = (bit: bigint) => (w: TableWorld) => w.word(LEAF, 0xabc_d003n | bit)
    expect(world(set(1n << 11n), { features: { hasSnoopControl: true } }).short(IOVA)).toBe('abcd:12:3')
    expect(world(set(1n << 62n), { features: { hasDeviceTlb: true } }).short(IOVA)).toBe('abcd:12:3')
    // Ignored bits: PS at level 1, 2 to 6, 10, 52 to 61 and 63.
    expect(world(set(0xbff0_0000_0000_0cfcn & ~0x800n)).short(IOVA)).toBe('abcd:12:3')
  })
})

describe('requests of a device with a TLB, in legacy mode', () => {
  const options = { features: { hasDeviceTlb: true } }
  const ats = { addressType: ADDRESS_TYPE.TRANSLATION_REQUEST }
  const withAts = (change: (w: TableWorld) => void = () => undefined) =>
    world((w) => {
      w.word(CONTEXT, 0x1_2005n)
      change(w)
    }, options)

  it('a translation request learns what it may do', () => {
    expect(withAts().short(IOVA, { ...ats, need: READ | WRITE })).toBe('abcd:12:3')
    // NW takes the right to write away from the answer, behind the caches.
    expect(withAts().short(IOVA, { ...ats, isNoWrite: true })).toBe('abcd:12:3')
    expect(withAts((w) => w.word(LEAF, 0xabc_d001n)).short(IOVA, { ...ats, need: 3 })).toBe('abcd:12:1')
  })

  it('nothing there, or beyond the width, is an answer and no fault', () => {
    const nothing = { fault: 0, perm: 0 }
    expect(withAts((w) => w.word(LEAF, 0n)).translate(IOVA, ats)).toMatchObject(nothing)
    expect(withAts().translate(1n << 39n, ats)).toMatchObject(nothing)
    expect(withAts((w) => w.word(LEAF, 0xabc_d803n)).short(IOVA, ats)).toBe('PAGING_ENTRY_RSVD')
    expect(withAts((w) => w.word(LEAF, 0xfee0_0003n)).short(IOVA, ats)).toBe('INTERRUPT_RANGE')
  })

  it('a translated request is not looked at again', () => {
    const translated = { addressType: ADDRESS_TYPE.TRANSLATED, need: WRITE }
    expect(withAts((w) => w.word(LEAF, 0n)).short(IOVA, translated)).toBe('40201:12:3')
  })
})

describe('FPD in legacy mode', () => {
  const silent = (change: (w: TableWorld) => void, address = IOVA) => {
    const w = world(change)
    return w.short(address)
  }

  it('V6: counts in an entry that is not present', () => {
    expect(silent((w) => w.word(CONTEXT, 2n))).toBe('CONTEXT_ENTRY_P silent')
  })

  it('silences what is wrong with the entry and behind it', () => {
    expect(silent((w) => w.word(CONTEXT, 0x1_2013n))).toBe('CONTEXT_ENTRY_RSVD silent')
    expect(silent((w) => w.word(CONTEXT, 0x1_200fn))).toBe('CONTEXT_ENTRY_INVALID silent')
    expect(silent((w) => w.word(CONTEXT, 0x1_2003n), 0n)).toBe('READ silent')
    expect(silent((w) => w.word(CONTEXT, 0x1_2003n), 1n << 39n)).toBe('BEYOND_WIDTH silent')
  })

  it('does not silence what is wrong with the root', () => {
    expect(silent((w) => w.word(AT.ROOT, 0x1_1003n))).toBe('ROOT_ENTRY_RSVD')
  })
})

describe('a root table that aborts', () => {
  it('is silent in a unit that has that mode', () => {
    const w = world(undefined, { features: { hasAbortMode: true } })
    w.setRoot(TABLE_MODE.ABORT)
    expect(w.short(IOVA)).toBe('TABLE_MODE silent')
  })
})

describe('QEMU in legacy mode', () => {
  it('D49: FPD does not silence reserved bits of the context entry', () => {
    const w = world((v) => v.word(CONTEXT, 0x1_2013n), { errata: ['D49'] })
    expect(w.short(IOVA)).toBe('CONTEXT_ENTRY_RSVD')
  })

  it('D16: a large page is blocked whole, and with the number of scalable mode in a unit that has it', () => {
    const change = (w: TableWorld) => w.word(0x1_2008, 0xc000_0083n)
    expect(world(change, { errata: ['D16'] }).short(IOVA)).toBe('INTERRUPT_RANGE')
    const scalable = world(change, { errata: ['D16'], features: { hasScalableMode: true } })
    expect(scalable.short(IOVA)).toBe('SM_INTERRUPT_RANGE')
  })

  it('D21: pass-through takes any width, has no bound, and its pointer counts', () => {
    const options = { errata: ['D21'], features: { sagaw: 0b0110 } }
    const w = world((v) => v.word(CONTEXT, 0x1_2009n), options)
    expect(w.short(IOVA)).toBe('40201:12:3')
    expect(w.short(1n << 39n)).toBe('8000000:12:3')
    const pointer = (v: TableWorld) => v.word(CONTEXT, 0xffff_ffff_ffff_f009n)
    expect(world(pointer, options).short(IOVA)).toBe('CONTEXT_ENTRY_RSVD')
  })

  it('D23: snoop is allowed in a scalable unit', () => {
    const d23 = { errata: ['D23'], features: { hasScalableMode: true } }
    expect(world((w) => w.word(LEAF, 0xabc_d803n), d23).short(IOVA)).toBe('abcd:12:3')
  })

  it('D54: transient mapping is reserved with a device-TLB, too', () => {
    const change = (w: TableWorld) => w.word(LEAF, 0x4000_0000_0abc_d003n)
    const features = { hasDeviceTlb: true }
    expect(world(change, { features, errata: ['D54'] }).short(IOVA)).toBe('PAGING_ENTRY_RSVD')
  })

  it('D53: an entry of all ones is none', () => {
    const change = (w: TableWorld) => w.word(LEAF, -1n)
    expect(world(change).short(IOVA)).toBe('PAGING_ENTRY_RSVD')
    expect(world(change, { errata: ['D53'] }).short(IOVA)).toBe('NEXT_TABLE_ACCESS')
    const top = world((w) => w.word(0x1_2008, -1n), { errata: ['D53'] })
    expect(top.short(IOVA)).toBe('CONTEXT_ENTRY_INVALID')
  })

  it('D41: of the mode only the lower bit counts', () => {
    const w = world(undefined, { errata: ['D41'] })
    const modes = [0, 1, 2, 3].map((mode) => {
      w.setRoot(mode)
      return w.short(IOVA)
    })
    expect(modes).toEqual(Array(4).fill('abcd:12:3'))
    const scalable = tableWorld({ errata: ['D41'] })
    scalable.setRoot(TABLE_MODE.ABORT)
    expect(scalable.short(IOVA)).toBe('SM_ROOT_ENTRY_P')
  })
})

describe('extended mode without a PASID', () => {
  const EXT = AT.CONTEXT + SOURCE * 32
  const extended = (first: bigint, second = 0x501n, options = {}) => {
    const w = tableWorld(options)
    w.setRoot(TABLE_MODE.EXTENDED)
    w.word(AT.ROOT, BigInt(AT.CONTEXT) | 1n)
    w.word(EXT, first)
    w.word(EXT + 8, second)
    return withSecondLevel(w)
  }

  it('walks the second level, or passes through', () => {
    expect(extended(0x1_2001n).translate(IOVA)).toMatchObject({ page: 0xabcd, perm: 3, domain: 5 })
    expect(extended(0x1_2005n).short(IOVA)).toBe('abcd:12:3')
    for (const type of [2n, 4n, 5n]) {
      expect(extended(0x1_2001n | (type << 2n), type === 2n ? 0x503n : 0x501n).short(IOVA)).toBe('40201:12:3')
    }
  })

  it('numbers what is wrong as legacy mode does', () => {
    expect(extended(0x1_2000n).short(IOVA)).toBe('CONTEXT_ENTRY_P')
    expect(extended(0x1_200dn).short(IOVA)).toBe('CONTEXT_ENTRY_INVALID')
    expect(extended(0x1_2001n, 0x1000_0501n).short(IOVA)).toBe('CONTEXT_ENTRY_RSVD')
    const noPasid = { features: { hasPasid: false } }
    for (const type of [4n, 5n]) {
      expect(extended(0x1_2001n | (type << 2n), 0x501n, noPasid).short(IOVA)).toBe('CONTEXT_ENTRY_INVALID')
    }
  })

  it('V25: PSS 19 as it is in PTS sets a reserved bit', () => {
    const w = extended(0x1_2001n)
    w.word(EXT + 16, 0x2_0013n)
    expect(w.short(IOVA)).toBe('CONTEXT_ENTRY_RSVD')
    w.word(EXT + 16, 0x2_000cn)
    expect(w.short(IOVA)).toBe('abcd:12:3')
  })

  it('devices of the upper half have a table of their own', () => {
    const w = extended(0x1_2001n)
    const upper = { source: 0x80 | SOURCE }
    expect(w.short(IOVA, upper)).toBe('ROOT_ENTRY_P')
    w.word(AT.ROOT + 8, 0x1_9001n)
    w.word(0x1_9000 + SOURCE * 32, 0x1_2001n)
    w.word(0x1_9000 + SOURCE * 32 + 8, 0x601n)
    expect(w.translate(IOVA, upper)).toMatchObject({ page: 0xabcd, domain: 6 })
  })

  it('a reserved bit of the other half is not looked at', () => {
    const w = extended(0x1_2001n)
    w.word(AT.ROOT + 8, 0xffen)
    expect(w.short(IOVA)).toBe('abcd:12:3')
    w.word(AT.ROOT, BigInt(AT.CONTEXT) | 3n)
    expect(w.short(IOVA)).toBe('ROOT_ENTRY_RSVD')
  })
})
