import { describe, expect, it } from 'vitest'
import type { FaultName } from '../../src/hw/vtd/fault-reasons.ts'
import { ADDRESS_TYPE, PERM, TABLE_MODE } from '../../src/hw/vtd/ports.ts'
import {
  AT,
  PASID,
  RID_PASID,
  SECOND_ENTRY,
  SOURCE,
  scalableWorld,
  type TableWorld,
  type TableWorldOptions,
  tableWorld,
  withSecondLevel,
} from '../support/vtd-tables.ts'

const IOVA = 0x4020_1234n
const { READ, WRITE, EXECUTE } = PERM
const CONTEXT = AT.CONTEXT + SOURCE * 32
const ENTRY = AT.PASIDS + RID_PASID * 64
const LEAF = 0x1_4008
const DIR = BigInt(AT.DIR)
const PASIDS = BigInt(AT.PASIDS)
const SL = BigInt(AT.SL)
const with_ = { pasid: PASID }

const world = (
  change: (w: TableWorld) => void = () => undefined,
  options: TableWorldOptions = {},
): TableWorld => {
  const made = withSecondLevel(scalableWorld(SECOND_ENTRY, options))
  change(made)
  return made
}
const of = (change: (w: TableWorld) => void, request = {}, options: TableWorldOptions = {}) =>
  world(change, options).short(IOVA, request)

type ScalableFault = Extract<FaultName, `SM_${string}` | `PASID_${string}` | `SL_${string}` | 'HOST_WIDTH'>

/** Worlds, in the order of the checks; the first of a row breaks a later rule as well. */
const CASES: Record<Exclude<ScalableFault, 'SM_PRE' | 'SM_RID_PASID'>, () => string[]> = {
  SM_ROOT_ENTRY_ACCESS: () => [of((w) => w.setRoot(TABLE_MODE.SCALABLE, 0xffff_f000))],
  SM_ROOT_ENTRY_P: () => [of((w) => w.word(AT.ROOT, 0x1_1ffen)), of(() => undefined, { source: 0x98 })],
  SM_ROOT_ENTRY_RSVD: () => [
    of((w) => w.word(AT.ROOT, 0xffff_f801n)),
    of((w) => w.word(AT.ROOT, 0x1_0000_0001_1001n)),
  ],
  SM_CONTEXT_ENTRY_ACCESS: () => [of((w) => w.word(AT.ROOT, 0xffff_f001n))],
  SM_CONTEXT_ENTRY_P: () => [of((w) => w.word(CONTEXT, DIR | 0x20n)), of((w) => w.word(CONTEXT, 0n))],
  SM_CONTEXT_ENTRY_RSVD: () => [
    of((w) => w.word(CONTEXT, DIR | 0x21n), { addressType: 1 }),
    of((w) => w.word(CONTEXT, DIR | 0x101n)),
    of((w) => w.word(CONTEXT, DIR | (1n << 48n) | 1n)),
    of((w) => w.word(CONTEXT + 8, (1n << 21n) | 7n)),
    of((w) => w.word(CONTEXT + 8, (1n << 63n) | 7n)),
    of((w) => w.word(CONTEXT + 16, 1n)),
    of((w) => w.word(CONTEXT + 24, 1n)),
    // What the unit has not is reserved.
    of((w) => w.word(CONTEXT, DIR | 5n), with_, { features: { hasDeviceTlb: false } }),
    of((w) => w.word(CONTEXT, DIR | 9n), {}, { features: { hasPasid: false } }),
    of((w) => w.word(CONTEXT, DIR | 0x11n), {}, { features: { hasPageRequests: false } }),
    of((w) => w.word(CONTEXT + 8, 0x10_0007n), {}, { features: { hasRidPrivilege: false } }),
    of((w) => w.word(CONTEXT + 8, 0x2000n), {}, { features: { hasRidPasid: false } }),
  ],
  SM_CONTEXT_ENTRY_INVALID: () => [
    of(
      (w) => {
        w.word(CONTEXT, 0xffff_f001n)
        w.word(CONTEXT + 8, 0x2000n)
      },
      { addressType: 1 },
    ),
    of((w) => w.word(CONTEXT + 8, 0x2000n)),
  ],
  SM_DTE: () => [
    of((w) => w.word(CONTEXT, DIR | 1n), { ...with_, addressType: 1 }),
    of((w) => w.word(CONTEXT, DIR | 9n), { addressType: ADDRESS_TYPE.TRANSLATED }),
  ],
  SM_PASIDE: () => [
    of((w) => w.word(CONTEXT, DIR | 1n), { pasid: 0x8_0000 }),
    of((w) => w.word(CONTEXT, DIR | 1n), with_),
  ],
  SM_PASID_BEYOND: () => [
    of((w) => w.word(CONTEXT, 0xffff_f009n), { pasid: 0x2000 }),
    of(() => undefined, { pasid: 0x2000 }),
  ],
  PASID_DIR_ACCESS: () => [of((w) => w.word(CONTEXT, 0xffff_f001n))],
  PASID_DIR_P: () => [of((w) => w.word(AT.DIR, PASIDS | 4n)), of(() => undefined, { pasid: 0x80 })],
  PASID_DIR_RSVD: () => [
    of((w) => w.word(AT.DIR, 0xffff_f005n)),
    of((w) => w.word(AT.DIR, PASIDS | (1n << 48n) | 1n)),
  ],
  PASID_ENTRY_ACCESS: () => [of((w) => w.word(AT.DIR, 0xffff_f001n))],
  PASID_ENTRY_P: () => [
    of((w) => w.word(ENTRY, SL | 0xc00n)),
    of((w) => w.word(ENTRY, 0n)),
    of((w) => w.word(AT.PASIDS + 64, 0n), with_),
  ],
  PASID_ENTRY_RSVD: () => [
    of((w) => w.word(ENTRY, SL | 0xc05n)),
    of((w) => w.word(ENTRY, SL | (1n << 48n) | 0x85n)),
    of((w) => w.word(ENTRY + 8, 0x1_0005n)),
    of((w) => w.word(ENTRY + 16, 0x100n)),
    of((w) => w.word(ENTRY + 16, 1n << 48n)),
    ...[3, 4, 5, 6, 7].map((n) => of((w) => w.word(ENTRY + n * 8, 1n))),
    // What the unit has not is reserved, before what the entry asks for is looked at.
    of((w) => w.word(ENTRY, SL | 0x205n), {}, { features: { hasSecondAccessedDirty: false } }),
    of((w) => w.word(ENTRY + 8, 0x80_0005n), {}, { features: { hasWalkSnoop: false } }),
    of((w) => w.word(ENTRY + 8, 0x100_0005n), {}, { features: { hasSnoopControl: false } }),
    ...[25n, 31n, 32n, 63n].map((bit) =>
      of((w) => w.word(ENTRY + 8, 5n | (1n << bit)), {}, { features: { hasMemoryTypes: false } }),
    ),
    of((w) => w.word(ENTRY + 16, 1n), {}, { features: { hasSupervisor: false } }),
    of((w) => w.word(ENTRY + 16, 2n), {}, { features: { hasExecute: false } }),
    of((w) => w.word(ENTRY + 16, 0x80n), {}, { features: { hasExtendedAccessed: false } }),
  ],
  PASID_ENTRY_INVALID: () => [
    ...[0n, 5n, 6n, 7n].map((pgtt) => of((w) => w.word(ENTRY, SL | 5n | (pgtt << 6n)), { need: EXECUTE })),
    of((w) => w.word(ENTRY, SL | 0x81n)),
    of((w) => w.word(ENTRY, SL | 0x45n), {}, { features: { hasFirstLevel: false } }),
    of((w) => w.word(ENTRY, SL | 0x85n), {}, { features: { hasSecondLevel: false } }),
    of((w) => w.word(ENTRY, SL | 0xc5n), {}, { features: { hasNesting: false } }),
    of((w) => w.word(ENTRY, SL | 0x105n), {}, { features: { hasPassThrough: false } }),
    of((w) => w.word(ENTRY, SL | 0x85n), {}, { features: { sagaw: 0b0100 } }),
    ...[2n, 3n].map((flpm) =>
      of((w) => {
        w.word(ENTRY, SL | 0x45n)
        w.word(ENTRY + 16, flpm << 2n)
      }),
    ),
    of(
      (w) => {
        w.word(ENTRY, SL | 0xc5n)
        w.word(ENTRY + 16, 4n)
      },
      {},
      { features: { hasFirst5: false } },
    ),
  ],
  PASID_ERE: () => [
    of((w) => w.word(AT.PASIDS + 64 + 16, 0n), { ...with_, need: EXECUTE, isPrivileged: true }),
    of((w) => w.word(AT.PASIDS + 64 + 16, 1n), { ...with_, need: EXECUTE }),
  ],
  PASID_SRE: () => [
    of(
      (w) => {
        w.word(AT.PASIDS + 64 + 16, 2n)
        w.word(AT.SL, 0n)
      },
      { ...with_, isPrivileged: true },
    ),
    // RID_PRIV makes requests without a PASID privileged.
    of((w) => {
      w.word(ENTRY + 16, 0n)
      w.word(CONTEXT + 8, 0x10_0000n | BigInt(RID_PASID))
    }),
  ],
  HOST_WIDTH: () => [world((w) => w.word(ENTRY, 0x105n)).short(1n << 48n)],
  SL_BEYOND: () => [
    world((w) => w.word(ENTRY, 0xffff_f085n)).short(1n << 39n),
    world((w) => w.word(ENTRY, SL | 0x8dn), { features: { maxAddressBits: 48 } }).short(1n << 48n),
  ],
  SL_TOP_ACCESS: () => [of((w) => w.word(ENTRY, 0xffff_f085n))],
  SL_ACCESS: () => [of((w) => w.word(0x1_2008, 0xffff_f003n)), of((w) => w.word(0x1_3008, 0xffff_f003n))],
  SL_PERM: () => [
    of((w) => w.word(LEAF, 0xfee0_0000n | (1n << 62n))),
    of((w) => w.word(LEAF, 0n), { need: WRITE }),
    // Neither at all levels together.
    of((w) => {
      w.word(0x1_3008, 0x1_4001n)
      w.word(LEAF, 0xabc_d002n)
    }),
  ],
  SM_READ: () => [of((w) => w.word(LEAF, 0xfee0_0002n | (1n << 48n)))],
  SM_WRITE: () => [
    of((w) => w.word(LEAF, 0xfee0_0001n | (1n << 48n)), { need: WRITE }),
    of((w) => w.word(0x1_3008, 0x1_4001n), { need: READ | WRITE }),
  ],
  // With SLEE no level may lack X.
  SM_EXECUTE: () => [
    of(
      (w) => {
        w.word(AT.PASIDS + 64, SL | 0xa5n)
        w.word(0x1_3008, 0x1_4003n)
      },
      { ...with_, need: EXECUTE },
    ),
  ],
  SL_RSVD: () => [
    of((w) => w.word(LEAF, 0xfee0_0003n | (1n << 48n))),
    of((w) => w.word(0x1_3008, 0x8000_1083n)),
    of((w) => w.word(0x1_3008, 0x1_4007n | (1n << 62n))),
  ],
  SL_ACCESSED_DIRTY: () => [
    of((w) => {
      w.word(ENTRY, SL | 0x285n)
      w.word(ENTRY + 8, 5n)
      w.word(LEAF, 0xfee0_0003n)
    }),
  ],
  SM_INTERRUPT_RANGE: () => [
    of((w) => w.word(LEAF, 0xfee0_0003n)),
    // Pass-through, and translated requests, with a PASID.
    world((w) => w.word(AT.PASIDS + 64, 0x105n)).short(0xfee0_0000n, with_),
    world().short(0xfee0_0000n, { ...with_, addressType: ADDRESS_TYPE.TRANSLATED }),
  ],
}

describe('a request in scalable mode is blocked', () => {
  it.each(Object.keys(CASES) as (keyof typeof CASES)[])('%s', (name) => {
    const got = CASES[name]()
    expect(got).not.toEqual([])
    for (const short of got) expect(short).toBe(name)
  })
})

describe('scalable mode through the second level', () => {
  it('translates by RID_PASID, and by the PASID of a request', () => {
    expect(world().translate(IOVA)).toMatchObject({ page: 0xabcd, perm: 7, domain: 5, pasid: RID_PASID })
    expect(world().translate(IOVA, with_)).toMatchObject({ page: 0xabcd, pasid: PASID })
  })

  it('without RPS requests without a PASID have PASID 0, unless QEMU has D37', () => {
    const features = { hasRidPasid: false }
    expect(of(() => undefined, {}, { features })).toBe('SM_CONTEXT_ENTRY_RSVD')
    expect(of((w) => w.word(CONTEXT + 8, 0n), {}, { features })).toBe('PASID_ENTRY_P')
    expect(of(() => undefined, {}, { features, errata: ['D55'] })).toBe('PASID_ENTRY_P')
    expect(of(() => undefined, {}, { features, errata: ['D37', 'D55'] })).toBe('abcd:12:7')
  })

  it('V26: a directory entry and a table entry are found by their bits of the PASID', () => {
    const w = tableWorld({ bytes: 1 << 21 })
    w.setRoot(TABLE_MODE.SCALABLE)
    w.word(AT.ROOT, BigInt(AT.CONTEXT) | 1n)
    w.word(CONTEXT, 0x2_0e1dn)
    w.word(0x2_0000 + 0x2468, 0x4_0001n)
    w.word(0x4_0000 + 0x140, 0x3_0085n)
    w.word(0x3_0000, 0x8000_0083n)
    expect(w.short(0n, { pasid: 0x1_2345 })).toBe('80000:30:3')
    expect(w.engine.pasid).toMatchObject({
      directoryAddress: 0x2_2468,
      address: 0x4_0140,
      root: 0x30,
      levels: 3,
    })
  })

  it('ignores X without SLEE, and executes where all levels have it', () => {
    const none = (w: TableWorld) => {
      w.word(0x1_2008, 0x1_3003n)
      w.word(0x1_3008, 0x1_4003n)
      w.word(LEAF, 0xabc_d003n)
    }
    expect(of(none, { ...with_, need: EXECUTE })).toBe('abcd:12:7')
    const slee = (w: TableWorld) => w.word(AT.PASIDS + 64, SL | 0xa5n)
    expect(of(slee, { ...with_, need: EXECUTE })).toBe('abcd:12:7')
  })

  it('sets A on the way, and D at the end of a write, with SLADE', () => {
    const slade = (w: TableWorld) => w.word(ENTRY, SL | 0x285n)
    const read = world(slade)
    expect(read.short(IOVA)).toBe('abcd:12:7')
    expect([0x1_2008, 0x1_3008, LEAF].map((at) => read.read(at) & 0x300n)).toEqual([0x100n, 0x100n, 0x100n])
    const write = world(slade)
    expect(write.short(IOVA, { need: WRITE })).toBe('abcd:12:7')
    expect([0x1_2008, 0x1_3008, LEAF].map((at) => write.read(at) & 0x300n)).toEqual([0x100n, 0x100n, 0x300n])
    const refused = world((w) => {
      slade(w)
      w.word(LEAF, 0xabc_d001n)
    })
    expect(refused.short(IOVA, { need: WRITE })).toBe('SM_WRITE')
    expect([0x1_2008, LEAF].map((at) => refused.read(at) & 0x300n)).toEqual([0x100n, 0n])
  })

  it('sets nothing without SLADE, and nothing that is set where walks do not snoop', () => {
    const w = world()
    expect(w.short(IOVA, { need: WRITE })).toBe('abcd:12:7')
    expect(w.read(LEAF)).toBe(0xabc_d007n)
    const set = world((v) => {
      v.word(ENTRY, SL | 0x285n)
      v.word(ENTRY + 8, 5n)
      v.word(0x1_2008, 0x1_3103n)
      v.word(0x1_3008, 0x1_4103n)
      v.word(LEAF, 0xabc_d103n)
    })
    expect(set.short(IOVA)).toBe('abcd:12:7')
    expect(set.short(IOVA, { need: WRITE })).toBe('SL_ACCESSED_DIRTY')
  })

  it('passes through by the entry of the PASID', () => {
    const w = world((v) => v.word(ENTRY, 0xffff_f105n))
    expect(w.translate(IOVA)).toMatchObject({ page: 0x4_0201, isDirect: true, perm: 3, domain: 5 })
  })

  it('a translation request without rights is answered', () => {
    const ats = { addressType: ADDRESS_TYPE.TRANSLATION_REQUEST, need: READ | WRITE }
    expect(world((w) => w.word(LEAF, 0n)).translate(IOVA, ats)).toMatchObject({ fault: 0, perm: 0 })
    expect(world((w) => w.word(LEAF, 0xabc_d001n)).short(IOVA, ats)).toBe('abcd:12:5')
    expect(world((w) => w.word(ENTRY, 0n)).short(IOVA, ats)).toBe('PASID_ENTRY_P')
  })
})

describe('FPD in scalable mode', () => {
  it('counts in every entry met, present or not', () => {
    expect(of((w) => w.word(CONTEXT, 2n))).toBe('SM_CONTEXT_ENTRY_P silent')
    expect(of((w) => w.word(AT.DIR, 2n))).toBe('PASID_DIR_P silent')
    expect(of((w) => w.word(ENTRY, 2n))).toBe('PASID_ENTRY_P silent')
    for (const [at, value] of [
      [CONTEXT, DIR | 0x1fn],
      [AT.DIR, PASIDS | 3n],
      [ENTRY, SL | 0x87n],
    ] as const) {
      expect(world((w) => w.word(at, value)).short(0n)).toBe('SL_PERM silent')
    }
  })

  it('silences no entry that cannot be read', () => {
    expect(of((w) => w.word(CONTEXT, 0xffff_f003n))).toBe('PASID_DIR_ACCESS')
    expect(of((w) => w.word(AT.DIR, 0xffff_f003n))).toBe('PASID_ENTRY_ACCESS')
  })
})

describe('extended mode with a PASID', () => {
  const EXT = AT.CONTEXT + SOURCE * 32
  const extended = (change: (w: TableWorld) => void = () => undefined) => {
    const w = tableWorld()
    w.setRoot(TABLE_MODE.EXTENDED)
    w.word(AT.ROOT, BigInt(AT.CONTEXT) | 1n)
    w.word(EXT, 0x1_2811n)
    w.word(EXT + 8, 0x501n)
    w.word(EXT + 16, BigInt(AT.PASIDS))
    w.word(AT.PASIDS + 8, BigInt(AT.FL) | 1n)
    change(w)
    return w
  }
  const one = { pasid: 1 }

  it('is blocked by the context entry, by the size of the table, by the entry', () => {
    expect(extended((w) => w.word(EXT, 0x1_2011n)).short(0n, { pasid: 32 })).toBe('SM_PASIDE')
    expect(
      extended((w) => {
        w.word(EXT, 0x1_2809n)
        w.word(EXT + 8, 0x503n)
      }).short(0n, one),
    ).toBe('SM_PASIDE')
    expect(extended((w) => w.word(EXT + 16, 0xffff_f000n)).short(0n, { pasid: 32 })).toBe('SM_PASID_BEYOND')
    expect(extended((w) => w.word(EXT + 16, 0xffff_f000n)).short(0n, one)).toBe('PASID_ENTRY_ACCESS')
    expect(extended((w) => w.word(AT.PASIDS + 8, 0x7e6n)).short(0n, one)).toBe('PASID_ENTRY_P')
    expect(extended((w) => w.word(AT.PASIDS + 8, 3n)).short(0n, one)).toBe('PASID_ENTRY_RSVD')
  })

  it('V27: a supervisor entry allows requests with privilege, the one of a process does not', () => {
    const privileged = { ...one, isPrivileged: true }
    expect(extended((w) => w.word(AT.PASIDS + 8, 0x1a2_b001n)).short(0n, privileged)).toBe('PASID_SRE')
    expect(extended((w) => w.word(AT.PASIDS + 8, 0x1a2_b801n)).short(0n, privileged)).toBe('FL_TOP_ACCESS')
  })
})

describe('QEMU in scalable mode', () => {
  const Q72 = ['D16', 'D19', 'D37', 'D47', 'D49', 'D50', 'D55']
  const features = { hasFirstLevel: false, hasFirst5: false, hasNesting: false, sagaw: 0b0110 }
  const q72 = (change: (w: TableWorld) => void) => of(change, {}, { features, errata: Q72 })

  it('D16: reasons of roots, contexts and the second level have their legacy numbers', () => {
    expect(q72((w) => w.setRoot(TABLE_MODE.SCALABLE, 0xffff_f000))).toBe('ROOT_ENTRY_ACCESS')
    expect(q72((w) => w.word(AT.ROOT, 0n))).toBe('ROOT_ENTRY_P')
    expect(q72((w) => w.word(AT.ROOT, 0x1_1003n))).toBe('ROOT_ENTRY_RSVD')
    expect(q72((w) => w.word(AT.ROOT, 0xffff_f001n))).toBe('CONTEXT_ENTRY_ACCESS')
    expect(q72((w) => w.word(CONTEXT, 0n))).toBe('CONTEXT_ENTRY_P')
    expect(q72((w) => w.word(CONTEXT, DIR | 0x21n))).toBe('CONTEXT_ENTRY_RSVD')
    expect(q72((w) => w.word(ENTRY, 0xffff_f085n))).toBe('CONTEXT_ENTRY_INVALID')
    expect(q72((w) => w.word(0x1_2008, 0xffff_f003n))).toBe('NEXT_TABLE_ACCESS')
    expect(q72((w) => w.word(LEAF, 0n))).toBe('READ')
    expect(q72((w) => w.word(LEAF, 3n | (1n << 48n)))).toBe('PAGING_ENTRY_RSVD')
    expect(q72((w) => w.word(LEAF, 0xfee0_0003n))).toBe('SM_INTERRUPT_RANGE')
  })

  it('D47: what is wrong with directory or entry has one number', () => {
    const bad: ((w: TableWorld) => void)[] = [
      (w) => w.word(CONTEXT, 0xffff_f001n),
      (w) => w.word(AT.DIR, 0n),
      (w) => w.word(AT.DIR, 0xffff_f001n),
      (w) => w.word(ENTRY, 0n),
      (w) => w.word(ENTRY, 1n),
      (w) => w.word(ENTRY, 0x81n),
      (w) => w.word(ENTRY, 0x10dn),
    ]
    const options = { errata: Q72, features: { ...features, sagaw: 0b0010 } }
    for (const change of bad) expect(of(change, {}, options)).toBe('PASID_ENTRY_ACCESS')
  })

  it('D19: every type but pass-through is walked through the second level, whatever FLPM is', () => {
    for (const pgtt of [1n, 2n, 3n]) {
      expect(
        q72((w) => {
          w.word(ENTRY, SL | 5n | (pgtt << 6n))
          w.word(ENTRY + 16, 0xfffn)
        }),
      ).toBe('abcd:12:7')
    }
    expect(q72((w) => w.word(ENTRY, SL | 0x105n))).toBe('40201:12:3')
  })

  it('D19: FPD in an entry that is not present silences nothing, but in the context entry it does', () => {
    expect(q72((w) => w.word(ENTRY, 2n))).toBe('PASID_ENTRY_ACCESS')
    expect(q72((w) => w.word(AT.DIR, 2n))).toBe('PASID_ENTRY_ACCESS')
    expect(q72((w) => w.word(CONTEXT, 2n))).toBe('CONTEXT_ENTRY_P silent')
    expect(world((w) => w.word(ENTRY, SL | 0x87n), { features, errata: Q72 }).short(0n)).toBe('READ silent')
    expect(world((w) => w.word(AT.DIR, PASIDS | 3n), { features, errata: Q72 }).short(0n)).toBe('READ silent')
  })

  it('D50: both halves of the root entry are looked at', () => {
    expect(q72((w) => w.word(AT.ROOT + 8, 2n))).toBe('ROOT_ENTRY_RSVD')
    expect(of((w) => w.word(AT.ROOT + 8, 2n))).toBe('abcd:12:7')
  })

  it('D55: what the context entry enables is not looked at', () => {
    expect(q72((w) => w.word(CONTEXT, DIR | 1n))).toBe('abcd:12:7')
    expect(of((w) => w.word(CONTEXT, DIR | 1n), with_, { features, errata: Q72 })).toBe('abcd:12:7')
    expect(q72((w) => w.word(CONTEXT + 8, 0x2007n))).toBe('PASID_ENTRY_ACCESS')
  })
})
