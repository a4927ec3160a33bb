import { describe, expect, it } from 'vitest'
import type { FaultName } from '../../src/hw/vtd/fault-reasons.ts'
import { ADDRESS_TYPE, PERM, TABLE_MODE } from '../../src/hw/vtd/ports.ts'
import {
  AT,
  FIRST_ENTRY,
  FL_PATH,
  NESTED_ENTRY,
  PASID,
  RID_PASID,
  SL_LEAVES,
  SOURCE,
  scalableWorld,
  type TableWorld,
  type TableWorldOptions,
  tableWorld,
  withFirstLevel,
  withIdentity,
} from '../support/vtd-tables.ts'

const IOVA = 0x4020_1234n
const { READ, WRITE, EXECUTE } = PERM
const [TOP, THIRD, SECOND, LEAF] = FL_PATH
const FL = BigInt(AT.FL)
const XD = 1n << 63n
const A = 0x20n
const D = 0x40n
const write = { need: WRITE }
const user = { pasid: PASID }
const supervisor = { pasid: PASID, isPrivileged: true }
const execute = { need: EXECUTE }
/** Third word of the entry of PASID. */
const THIRD_WORD = AT.PASIDS + (PASID % 64) * 64 + 16
const SRE = 1n
const ERE = 2n
const WPE = 0x10n
const SMEP = 0x40n
const EAFE = 0x80n

const world = (
  change: (w: TableWorld) => void = () => undefined,
  options: TableWorldOptions = {},
): TableWorld => {
  const made = withFirstLevel(scalableWorld(FIRST_ENTRY, options))
  change(made)
  return made
}
const of = (change: (w: TableWorld) => void, request = {}, options: TableWorldOptions = {}) =>
  world(change, options).short(IOVA, request)
const flags =
  (...bits: bigint[]) =>
  (w: TableWorld) =>
    w.word(
      THIRD_WORD,
      bits.reduce((a, b) => a | b, FL),
    )

const nested = (change: (w: TableWorld) => void = () => undefined) => {
  const made = withIdentity(withFirstLevel(scalableWorld(NESTED_ENTRY)))
  change(made)
  return made
}
const through = (change: (w: TableWorld) => void, request = {}) => nested(change).short(IOVA, request)
/** The second-level leaf of a page of the first 2 MiB. */
const leafOf = (address: number) => SL_LEAVES + (address >> 12) * 8

type FirstFault = Extract<FaultName, `FL_${string}` | 'NOT_CANONICAL' | 'SM_WRITE' | 'SM_EXECUTE'>

/** Worlds, in the order of the checks; the first of a row breaks a later rule as well. */
const CASES: Record<FirstFault, () => string[]> = {
  NOT_CANONICAL: () => [
    world((w) => w.word(AT.PASIDS + 64 * RID_PASID + 16, 0xffff_f000n)).short(1n << 47n),
    world().short(0xffff_0000_0000_0000n),
    world((w) => w.word(AT.PASIDS + 64 * RID_PASID + 16, FL | 4n)).short(1n << 56n),
  ],
  FL_TABLE_BEYOND: () => [
    nested((w) => w.word(AT.PASIDS + 64 * RID_PASID + 16, 1n << 39n)).short(IOVA),
    through((w) => w.word(TOP, (1n << 39n) | 7n)),
  ],
  FL_TOP_ACCESS: () => [
    of((w) => w.word(AT.PASIDS + 64 * RID_PASID + 16, 0xffff_f000n)),
    through((w) => w.word(leafOf(AT.FL), 0xffff_f003n)),
  ],
  FL_TOP_READ: () => [through((w) => w.word(leafOf(AT.FL), 0n))],
  FL_TABLE_READ: () => [
    through((w) => w.word(leafOf(AT.FL + 0x1000), 0n)),
    through((w) => w.word(leafOf(AT.FL + 0x3000), (BigInt(AT.FL) + 0x3000n) | 2n)),
  ],
  FL_ACCESS: () => [
    of((w) => w.word(TOP, 0xffff_f007n)),
    of((w) => w.word(SECOND, 0xffff_f007n)),
    through((w) => w.word(leafOf(AT.FL + 0x1000), 0xffff_f003n)),
  ],
  FL_P: () => [of((w) => w.word(LEAF, 0xfee0_0000n | (1n << 51n)), write), of((w) => w.word(TOP, 0n))],
  FL_USER: () => [
    of((w) => w.word(LEAF, 0xfee0_0001n | (1n << 51n)), write),
    of((w) => w.word(THIRD, FL + 0x2003n)),
  ],
  SM_WRITE: () => [
    of((w) => w.word(LEAF, 0xabc_d005n | XD | (1n << 51n)), { ...user, need: WRITE | EXECUTE }),
    of((w) => w.word(THIRD, FL + 0x2005n), write),
    of((w) => w.word(LEAF, 0xabc_d005n), { need: READ | WRITE }),
    of(
      (w) => {
        flags(SRE, WPE)(w)
        w.word(LEAF, 0xabc_d003n & ~2n)
      },
      { ...supervisor, ...write },
    ),
  ],
  SM_EXECUTE: () => [
    of((w) => w.word(LEAF, 0xabc_d007n | XD | (1n << 51n)), { ...user, ...execute }),
    of((w) => w.word(THIRD, (FL + 0x2007n) | XD), { ...user, ...execute }),
    of(flags(SRE, ERE, SMEP), { ...supervisor, ...execute }),
  ],
  FL_RSVD: () => [
    of((w) => w.word(LEAF, 0xfee0_0007n | (1n << 51n))),
    of((w) => w.word(LEAF, 0xabc_d007n | (1n << 48n))),
    of((w) => w.word(TOP, (FL + 0x1007n) | 0x80n)),
    of((w) => w.word(SECOND, 0x8000_2087n)),
    of((w) => w.word(THIRD, 0x9000_0087n)),
    of((w) => w.word(THIRD, 0x8000_0087n), {}, { features: { hasFirst1G: false } }),
    // XD without NXE.
    of((w) => {
      flags(ERE)(w)
      w.word(LEAF, 0xabc_d007n | XD)
    }, user),
  ],
  FL_ACCESSED_DIRTY: () => [
    of((w) => {
      w.word(AT.PASIDS + 64 * RID_PASID + 8, 1n)
      w.word(TOP, (FL + 0x1007n) | A)
      w.word(THIRD, (FL + 0x2007n) | A)
      w.word(SECOND, (FL + 0x3007n) | A)
      w.word(LEAF, 0xfee0_0007n)
    }),
    of((w) => w.word(AT.PASIDS + 64 * RID_PASID + 8, 1n)),
  ],
  FL_TABLE_WRITE: () => [through((w) => w.word(leafOf(AT.FL + 0x3000), BigInt(AT.FL) + 0x3001n))],
}

describe('a request is blocked by the first level', () => {
  it.each(Object.keys(CASES) as (keyof typeof CASES)[])('%s', (name) => {
    const got = CASES[name]()
    expect(got).not.toEqual([])
    for (const short of got) expect(short).toBe(name)
  })
})

describe('a walk of the first level', () => {
  it('leads to pages of 4 KiB, 2 MiB and 1 GiB, whose bit 12 is PAT', () => {
    expect(world().translate(IOVA)).toMatchObject({ page: 0xabcd, shift: 12, domain: 1, pasid: RID_PASID })
    expect(of((w) => w.word(SECOND, 0x8000_1087n))).toBe('80001:21:7')
    expect(of((w) => w.word(THIRD, 0x8000_1087n))).toBe('80201:30:7')
  })

  it('V26: has five levels with FLPM 1', () => {
    const w = world((v) => {
      v.word(AT.PASIDS + 64 * RID_PASID + 16, (FL + 0x4000n) | 0x24n)
      v.word(AT.FL + 0x4000 + 2 * 8, FL | 7n)
    })
    expect(w.short(0x2_0000_4020_1234n)).toBe('abcd:12:3')
    expect(w.short(0x80_0000_0000_0000n)).toBe('FL_P')
  })

  it('takes canonical addresses of the upper half', () => {
    const w = world((v) => v.word(AT.FL + 0x1ff * 8, FL + 0x1007n))
    expect(w.short(0xffff_ff80_4020_1234n)).toBe('abcd:12:7')
  })

  it('ignores bits 3, 4, 6, 8 to 11 and 52 to 62', () => {
    expect(of((w) => w.word(LEAF, 0x7ff0_0000_0abc_df5fn & ~0x80n))).toBe('abcd:12:7')
    expect(of((w) => w.word(THIRD, (FL + 0x2007n) | (0x7ffn << 52n) | 0xf58n))).toBe('abcd:12:7')
  })

  it('a global page says so', () => {
    expect(world().translate(IOVA)).toMatchObject({ isGlobal: false })
    expect(world((w) => w.word(LEAF, 0xabc_d107n)).translate(IOVA)).toMatchObject({ isGlobal: true })
  })

  it('with privilege reaches pages of the supervisor, and may write where WPE does not forbid it', () => {
    const supervisorPage = (w: TableWorld) => w.word(LEAF, 0xabc_d003n)
    expect(of(supervisorPage, supervisor)).toBe('abcd:12:7')
    const readOnly = (w: TableWorld) => w.word(LEAF, 0xabc_d005n)
    expect(of(readOnly, { ...supervisor, ...write })).toBe('abcd:12:7')
    expect(of(readOnly, supervisor)).toBe('abcd:12:7')
    expect(of(readOnly, user)).toBe('abcd:12:5')
    const guarded = (w: TableWorld) => {
      flags(SRE, ERE, SMEP)(w)
      supervisorPage(w)
    }
    expect(of(guarded, { ...supervisor, ...execute })).toBe('abcd:12:7')
  })

  it('a translation request without rights is answered', () => {
    const ats = { addressType: ADDRESS_TYPE.TRANSLATION_REQUEST, need: READ | WRITE }
    const nothing = { fault: 0, perm: 0 }
    expect(world((w) => w.word(LEAF, 0n)).translate(IOVA, ats)).toMatchObject(nothing)
    expect(world((w) => w.word(LEAF, 0xabc_d003n)).translate(IOVA, ats)).toMatchObject(nothing)
    expect(world().translate(1n << 47n, ats)).toMatchObject(nothing)
    expect(of((w) => w.word(LEAF, 0xabc_d005n), ats)).toBe('abcd:12:5')
    expect(of((w) => w.word(LEAF, 0xabc_d007n | (1n << 51n)), ats)).toBe('FL_RSVD')
  })
})

describe('A and D of the first level', () => {
  const bits = (w: TableWorld) => FL_PATH.map((at) => w.read(at) & (A | D | 0x400n))

  it('A is set at every level, D at the end of a write', () => {
    const w = world()
    w.short(IOVA)
    expect(bits(w)).toEqual([A, A, A, A])
    w.short(IOVA, write)
    expect(bits(w)).toEqual([A, A, A, A | D])
  })

  it('A of the levels passed stays where a lower level refuses', () => {
    const w = world((v) => v.word(LEAF, 0xabc_d005n))
    expect(w.short(IOVA, write)).toBe('SM_WRITE')
    expect(bits(w)).toEqual([A, A, A, 0n])
  })

  it('they are set before the interrupt range is seen', () => {
    const w = world((v) => v.word(LEAF, 0xfee0_0007n))
    expect(w.short(IOVA, write)).toBe('SM_INTERRUPT_RANGE')
    expect(bits(w)).toEqual([A, A, A, A | D])
  })

  it('EA is set with EAFE', () => {
    const w = world(flags(EAFE))
    w.short(IOVA, user)
    expect(bits(w)).toEqual(Array(4).fill(A | 0x400n))
  })

  it('a translation request that may write sets D in advance, unless it does not want to', () => {
    const ats = { addressType: ADDRESS_TYPE.TRANSLATION_REQUEST, need: READ | WRITE }
    const w = world()
    w.short(IOVA, { ...ats, need: READ, isNoWrite: true })
    expect(bits(w)[3]).toBe(A)
    w.short(IOVA, ats)
    expect(bits(w)[3]).toBe(A | D)
    const readOnly = world((v) => v.word(LEAF, 0xabc_d005n))
    readOnly.short(IOVA, ats)
    expect(bits(readOnly)[3]).toBe(A)
  })
})

describe('nested translation', () => {
  it('leads on through the second level, with the smaller page and what both allow', () => {
    expect(nested().short(IOVA)).toBe('bcde:12:7')
    const large = (w: TableWorld) => w.word(SECOND, 0x00a0_0087n)
    const second = (w: TableWorld) => w.word(AT.IDENTITY + 0x1000 + 5 * 8, 0xc00_0087n)
    expect(
      through((w) => {
        large(w)
        second(w)
      }),
    ).toBe('c001:21:7')
    expect(through((w) => w.word(AT.IDENTITY + 0x3000 + 0x1cd * 8, 0xbcd_e001n))).toBe('bcde:12:5')
  })

  it('blocks what the second level does not allow of the page', () => {
    const leaf = AT.IDENTITY + 0x3000 + 0x1cd * 8
    expect(through((w) => w.word(leaf, 0n))).toBe('SL_PERM')
    expect(through((w) => w.word(leaf, 0xbcd_e001n), write)).toBe('SM_WRITE')
    expect(through((w) => w.word(leaf, 0xbcd_e002n))).toBe('SM_READ')
    expect(through((w) => w.word(leaf, 0xbcd_e803n | (1n << 48n)))).toBe('SL_RSVD')
    expect(through((w) => w.word(LEAF, (1n << 39n) | 7n))).toBe('SL_BEYOND')
    expect(through((w) => w.word(leaf, 0xfee0_0007n))).toBe('SM_INTERRUPT_RANGE')
    expect(through((w) => w.word(AT.PASIDS + 64 * RID_PASID, 0xffff_f0c5n))).toBe('SL_TOP_ACCESS')
  })

  it('sets D of the second level for the tables that it sets A in, with SLADE', () => {
    const w = nested((v) => v.word(AT.PASIDS + 64 * RID_PASID, BigInt(AT.IDENTITY) | 0x2c5n))
    expect(w.short(IOVA)).toBe('bcde:12:7')
    expect(w.read(leafOf(AT.FL)) & 0x300n).toBe(0x300n)
    expect(w.read(AT.IDENTITY + 0x3000 + 0x1cd * 8) & 0x300n).toBe(0x100n)
    w.word(leafOf(AT.FL), FL | 7n)
    w.short(IOVA)
    expect(w.read(leafOf(AT.FL)) & 0x300n).toBe(0x100n)
  })

  it('a translation request is answered where the second level has nothing', () => {
    const ats = { addressType: ADDRESS_TYPE.TRANSLATION_REQUEST }
    const leaf = AT.IDENTITY + 0x3000 + 0x1cd * 8
    expect(nested((w) => w.word(leaf, 0n)).translate(IOVA, ats)).toMatchObject({ fault: 0, perm: 0 })
    expect(through((w) => w.word(leafOf(AT.FL), 0n), ats)).toBe('FL_TOP_READ')
  })

  it('leaves a trail of all walks', () => {
    const w = nested()
    w.engine.trail.on = true
    w.short(IOVA)
    const { trail } = w.engine
    const walks = Array.from({ length: trail.walks }, (_, i) => [
      trail.stage[i],
      trail.input[i],
      ...[1, 2, 3, 4].map((level) => trail.table(i, level)),
    ])
    const second = (page: number) => [2, page, 0x32, 0x31, 0x30, 0]
    expect(walks).toEqual([
      second(0x22),
      second(0x23),
      second(0x24),
      second(0x25),
      [1, 0x4_0201, 0x25, 0x24, 0x23, 0x22],
      [2, 0xabcd, 0x33, 0x31, 0x30, 0],
    ])
    expect([trail.hasContext, trail.hasPasid]).toEqual([true, true])
  })
})

describe('extended mode with a PASID', () => {
  const EXT = AT.CONTEXT + SOURCE * 32
  const extended = (second: bigint, change: (w: TableWorld) => void = () => undefined) => {
    const w = withFirstLevel(tableWorld())
    w.setRoot(TABLE_MODE.EXTENDED)
    w.word(AT.ROOT, BigInt(AT.CONTEXT) | 1n)
    w.word(EXT, 0x3_0811n)
    w.word(EXT + 8, second)
    w.word(EXT + 16, BigInt(AT.PASIDS))
    w.word(AT.PASIDS + 8, BigInt(AT.FL) | 1n)
    change(w)
    return w
  }
  const one = { pasid: 1 }

  it('walks the first level, with the domain and the flags of the context entry', () => {
    expect(extended(0x301n).translate(IOVA, one)).toMatchObject({
      page: 0xabcd,
      domain: 3,
      pasid: 1,
      perm: 3,
    })
    expect(extended(0x0400_0301n).short(IOVA, { ...one, ...execute })).toBe('abcd:12:7')
    expect(extended(0x301n).short(IOVA, { ...one, ...execute })).toBe('PASID_ERE')
    const xd = (w: TableWorld) => w.word(LEAF, 0xabc_d007n | XD)
    expect(extended(0x301n, xd).short(IOVA, one)).toBe('FL_RSVD')
    expect(extended(0x311n, xd).short(IOVA, one)).toBe('abcd:12:3')
    expect(extended(0x301n, (w) => w.word(LEAF, 0xfee0_0007n)).short(IOVA, one)).toBe('SM_INTERRUPT_RANGE')
  })

  it('nests with NESTE', () => {
    const w = withIdentity(extended(0x301n, (v) => v.word(EXT, 0x3_0c11n)))
    expect(w.short(IOVA, one)).toBe('bcde:12:3')
  })
})

describe('QEMU 10 and the first level', () => {
  const Q10 = 'D16 D21 D23 D29 D30 D31 D32 D33 D34 D36 D37 D41 D49 D50 D51 D53 D55'.split(' ')
  const features = {
    hasNesting: false,
    hasSecondLevel: false,
    hasFirst5: false,
    hasFirst1G: false,
    hasRidPasid: false,
  }
  const options = { features, errata: Q10 }
  const CONTEXT = AT.CONTEXT + SOURCE * 32
  const ENTRY = AT.PASIDS + RID_PASID * 64
  const q10 = (change: (w: TableWorld) => void, request = {}) => of(change, request, options)

  it('D29: A and D are written only where none of them is set', () => {
    const after = (leaf: bigint, request = {}) => {
      const w = world((v) => v.word(LEAF, 0xabc_d007n | leaf), options)
      expect(w.short(IOVA, request)).not.toMatch(/[A-Z]/)
      return w.read(LEAF) & (A | D)
    }
    expect([after(0n), after(0n, write), after(A, write), after(D, write), after(D)]).toEqual([
      A,
      A | D,
      A,
      D,
      A | D,
    ])
  })

  it('D30: XD is ignored, with NXE and without', () => {
    expect(q10((w) => w.word(LEAF, 0xabc_d007n | XD))).toBe('abcd:12:7')
    expect(
      q10((w) => {
        w.word(LEAF, 0xabc_d007n | XD)
        w.word(ENTRY + 16, FL)
      }),
    ).toBe('abcd:12:3')
  })

  it('D31: 1 GiB pages translate without FL1GP', () => {
    expect(q10((w) => w.word(THIRD, 0x8000_0087n))).toBe('80201:30:7')
  })

  it('D32: the canonical width is that of the second level, at most 48', () => {
    const narrow = world((w) => w.word(ENTRY, 0x45n), options)
    expect(narrow.short(1n << 38n)).toBe('NOT_CANONICAL')
    expect(narrow.short(IOVA)).toBe('abcd:12:7')
    expect(world((w) => w.word(ENTRY, 0x4dn), options).short(1n << 38n)).toBe('FL_P')
  })

  it('D33: the type is looked at before P, and no reserved bit', () => {
    expect(q10((w) => w.word(ENTRY, 0n))).toBe('PASID_ENTRY_INVALID')
    expect(q10((w) => w.word(ENTRY, 0x40n))).toBe('PASID_ENTRY_P')
    expect(q10((w) => w.word(ENTRY, 0x100n))).toBe('PASID_ENTRY_P')
    expect(q10((w) => w.word(ENTRY + 16, FL | 4n))).toBe('PASID_ENTRY_INVALID')
    expect(q10((w) => w.word(ENTRY, 0x8dn))).toBe('PASID_ENTRY_INVALID')
    expect(q10((w) => w.word(ENTRY, 0xc0dn))).toBe('PASID_ENTRY_INVALID')
    expect(q10((w) => w.word(ENTRY, 0xc4dn))).toBe('abcd:12:7')
    expect(q10((w) => w.word(ENTRY, 0x10dn))).toBe('40201:12:3')
    expect(q10((w) => w.word(AT.DIR, BigInt(AT.PASIDS) | 0xffdn))).toBe('abcd:12:7')
    expect(q10((w) => w.word(ENTRY + 16, FL | (1n << 48n)))).toBe('FL_TOP_ACCESS')
  })

  it('D34: FPD of the context entry silences its own stage, that of the others only page tables', () => {
    const silent = (w: TableWorld) => w.word(CONTEXT, BigInt(AT.DIR) | 3n)
    const both = (change: (w: TableWorld) => void) => (w: TableWorld) => {
      silent(w)
      change(w)
    }
    expect(q10(both((w) => w.word(AT.DIR, 0n)))).toBe('PASID_DIR_P silent')
    expect(q10(both((w) => w.word(ENTRY, 0x40n)))).toBe('PASID_ENTRY_P silent')
    expect(q10(both((w) => w.word(ENTRY, 0n)))).toBe('PASID_ENTRY_INVALID silent')
    expect(q10(both((w) => w.word(AT.DIR, 0xffff_f001n)))).toBe('PASID_ENTRY_ACCESS')
    expect(q10((w) => w.word(ENTRY, 0x42n))).toBe('PASID_ENTRY_P')
    expect(q10((w) => w.word(AT.DIR, 2n))).toBe('PASID_DIR_P')
    for (const [at, value] of [
      [CONTEXT, BigInt(AT.DIR) | 3n],
      [AT.DIR, BigInt(AT.PASIDS) | 3n],
      [ENTRY, 0x4bn],
    ] as const) {
      expect(world((w) => w.word(at, value), options).short(0n)).toBe('FL_P silent')
    }
  })

  it('D51: A is set though walks do not snoop', () => {
    expect(q10((w) => w.word(ENTRY + 8, 1n))).toBe('abcd:12:7')
  })

  it('D52: a translation request sets D of an entry that may not be written', () => {
    const ats = { addressType: ADDRESS_TYPE.TRANSLATION_REQUEST, need: READ | WRITE }
    const w = world((v) => v.word(LEAF, 0xabc_d005n), { ...options, errata: [...Q10, 'D52'] })
    expect(w.short(IOVA, ats)).toBe('abcd:12:5')
    expect(w.read(LEAF) & (A | D)).toBe(A | D)
  })

  it('D16: a large page reaches as far as PAT says', () => {
    const w = world((v) => v.word(SECOND, 0xfec0_1087n), options)
    expect(w.short(IOVA)).toBe('SM_INTERRUPT_RANGE')
    expect(world((v) => v.word(SECOND, 0xfec0_0087n), options).short(IOVA)).toBe('fec01:21:7')
  })

  describe('with the context entry known', () => {
    const known = { ...options, keepsContexts: true }
    const later = (change: (w: TableWorld) => void, silent = false) => {
      const w = world((v) => silent && v.word(CONTEXT, BigInt(AT.DIR) | 3n), known)
      expect(w.short(IOVA)).toBe('abcd:12:7')
      change(w)
      return w
    }

    it('D34: P of the entry is not looked at again, all else is', () => {
      expect(later((w) => w.word(ENTRY, 0x48n)).short(IOVA)).toBe('abcd:12:7')
      expect(later((w) => w.word(AT.DIR, 0n)).short(IOVA)).toBe('PASID_DIR_P')
      expect(later((w) => w.word(ENTRY, 0x88n)).short(IOVA)).toBe('PASID_ENTRY_INVALID')
      expect(later((w) => w.word(ENTRY, 0n), true).short(0n)).toBe('FL_P silent')
    })

    it('D36: with FPD a bad entry is walked, or ends QEMU', () => {
      expect(later((w) => w.word(ENTRY, 0x88n), true).short(IOVA)).toBe('abcd:12:7')
      const ends = later((w) => w.word(ENTRY + 16, FL | 4n), true)
      ends.short(IOVA)
      expect(ends.engine.halt).toContain('VTD_FPTE_RSVD_LEN')
      const unknown = later((w) => w.word(AT.DIR, 0n), true)
      unknown.short(IOVA)
      expect(unknown.engine.unmodelled).not.toBe('')
      unknown.word(AT.DIR, BigInt(AT.PASIDS) | 1n)
      expect(unknown.short(IOVA)).toBe('abcd:12:7')
      expect(unknown.engine.unmodelled).toBe('')
    })
  })
})
