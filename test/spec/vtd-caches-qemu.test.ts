import { describe, expect, it } from 'vitest'
import { NO_PASID, PERM, TABLE_MODE } from '../../src/hw/vtd/ports.ts'
import { type CachedWorldOptions, cachedWorld } from '../support/vtd-cached.ts'
import {
  AT,
  FIRST_ENTRY,
  FL_PATH,
  legacyWorld,
  PASID,
  QEMU_FEATURES,
  RID_PASID,
  SECOND_ENTRY,
  SOURCE,
  scalableWorld,
  withFirstLevel,
  withSecondLevel,
} from '../support/vtd-tables.ts'

const PAGE = 0x4020_1000n
const LEAF = 0x1_4008
const CONTEXT = 0x1_1180
const OTHER = 0x20
const WRITE = { need: PERM.WRITE } as const
const MAPPED = 'abcd:12:3'
const LEGACY = ['D3', 'D4', 'D6', 'D7', 'D26', 'D27', 'D28', 'D60', 'D61'] as const

const legacy = (errata: readonly string[], options: CachedWorldOptions = {}) =>
  cachedWorld(legacyWorld(), { features: QEMU_FEATURES, errata, ...options })
/** As QEMU has scalable mode: an entry of a PASID is read for every request. */
const scalable = (errata: readonly string[]) =>
  cachedWorld(withSecondLevel(scalableWorld(SECOND_ENTRY)), { mode: TABLE_MODE.SCALABLE, errata })

/** Second-level leaves of other pages of the 2 MiB around PAGE. */
const mapped = (w: ReturnType<typeof legacy>, page: number) =>
  w.word(0x1_4000 + (page & 511) * 8, 0xabc_d003n)

describe("QEMU's IOTLB (D3)", () => {
  it('is looked up before the context entry', () => {
    const [right, qemu] = [legacy([]), legacy(['D3'])]
    for (const w of [right, qemu]) {
      w.short(PAGE)
      w.word(CONTEXT, 0n)
      w.forget({ what: 'context', scope: 'all' })
    }
    expect([right.short(PAGE), qemu.short(PAGE)]).toEqual(['CONTEXT_ENTRY_P', MAPPED])
  })

  it('keeps apart devices of a domain', () => {
    for (const [errata, expected] of [
      [[], MAPPED],
      [['D3', 'D61'], 'READ'],
    ] as const) {
      const w = legacy(errata)
      w.word(0x1_1000 + OTHER * 16, w.read(CONTEXT))
      w.word(0x1_1000 + OTHER * 16 + 8, w.read(CONTEXT + 8))
      w.short(PAGE)
      w.word(LEAF, 0n)
      expect(w.short(PAGE, { source: OTHER })).toBe(expected)
    }
  })

  it('goes by the domain that an entry had', () => {
    const w = legacy(['D3', 'D61'])
    w.short(PAGE)
    w.word(CONTEXT + 8, 0x601n)
    w.word(LEAF, 0n)
    w.forget({ what: 'context', scope: 'all' })
    w.forget({ what: 'iotlb', scope: 'domain', domain: 6 })
    expect(w.short(PAGE)).toBe(MAPPED)
    w.forget({ what: 'iotlb', scope: 'domain', domain: 5 })
    expect(w.short(PAGE)).toBe('READ')
  })

  it('holds 1024 entries, and none when one more comes', () => {
    const w = legacy(['D3', 'D61'])
    for (let table = 0; table < 3; table++)
      w.word(0x1_3008 + table * 8, BigInt(0x10_0000 + table * 0x1000) | 3n)
    for (let page = 0; page < 3 * 512; page++) w.word(0x10_0000 + page * 8, 0xabc_d003n)
    const { iotlb } = w.translator.caches
    for (let page = 0; page < 1024; page++) w.short(0x4020_0000n + BigInt(page << 12))
    expect(iotlb.count).toBe(1024)
    w.short(0x4020_0000n)
    expect(iotlb.count).toBe(1024)
    w.short(0x4020_0000n + (1024n << 12n))
    expect(iotlb.count).toBe(1)
  })

  it('in scalable mode comes after the context entry, unless the request has a PASID', () => {
    const w = scalable(['D3', 'D27', 'D61'])
    w.short(PAGE)
    w.short(PAGE, { pasid: PASID })
    w.word(AT.CONTEXT + SOURCE * 32, 0n)
    w.forget({ what: 'context', scope: 'all' })
    expect([w.short(PAGE), w.short(PAGE, { pasid: PASID })]).toEqual(['SM_CONTEXT_ENTRY_P', 'abcd:12:7'])
  })

  it('comes first of all from 11.1 on (D35); requests without a PASID have PASID 0 there', () => {
    const w = cachedWorld(withSecondLevel(scalableWorld(SECOND_ENTRY)), {
      mode: TABLE_MODE.SCALABLE,
      errata: ['D3', 'D27', 'D35', 'D55', 'D61'],
      features: { hasRidPasid: false },
    })
    for (let word = 0; word < 64; word += 8)
      w.word(AT.PASIDS + word, w.read(AT.PASIDS + RID_PASID * 64 + word))
    expect(w.short(PAGE)).toBe('abcd:12:7')
    w.word(AT.CONTEXT + SOURCE * 32, 0n)
    w.word(AT.PASIDS, 0n)
    w.forget({ what: 'context', scope: 'all' })
    expect(w.short(PAGE)).toBe('abcd:12:7')
    w.forget({ what: 'iotlb', scope: 'fine', domain: 5, address: PAGE })
    expect(w.short(PAGE)).toBe('SM_CONTEXT_ENTRY_P')
  })
})

it('a hit does not look at permissions (D4): the translation lacks what is needed, and there is no fault', () => {
  const w = legacy(['D3', 'D4'])
  w.word(LEAF, 0xabc_d001n)
  expect(w.short(PAGE, WRITE)).toBe('WRITE')
  w.short(PAGE)
  expect(w.short(PAGE, WRITE)).toBe('abcd:12:1')
  w.forget({ what: 'iotlb', scope: 'domain', domain: 5 })
  expect(w.short(PAGE, WRITE)).toBe('WRITE')
})

it('a write after a read sets no dirty bit where an entry is kept (D29)', () => {
  for (const [errata, dirty] of [
    [[], 0x40n],
    [['D29'], 0n],
  ] as const) {
    const w = cachedWorld(withFirstLevel(scalableWorld(FIRST_ENTRY)), { mode: TABLE_MODE.SCALABLE, errata })
    w.short(PAGE)
    w.short(PAGE, WRITE)
    expect(w.read(FL_PATH[3]) & 0x40n).toBe(dirty)
  }
})

describe('pages of a domain (D6, V33)', () => {
  const left = (errata: readonly string[], address: bigint, order: number): string[] => {
    const w = legacy(errata)
    const pages = [0x40201, 0x40301, 0x40202, 0x40280]
    for (const page of pages) {
      mapped(w, page)
      w.short(BigInt(page) << 12n)
    }
    for (let page = 0x40200; page < 0x40400; page++) w.word(0x1_4000 + (page & 511) * 8, 0n)
    w.forget({ what: 'iotlb', scope: 'fine', domain: 5, address, order })
    return pages.filter((page) => w.short(BigInt(page) << 12n) === MAPPED).map((page) => page.toString(16))
  }

  it.each([
    [[], 0x4020_1000n, 0, ['40301', '40202', '40280']],
    [['D6'], 0x4020_1000n, 0, ['40202', '40280']],
    [['D3', 'D6'], 0x4020_1000n, 0, ['40202', '40280']],
    [['D6'], 0x4020_0000n, 2, ['40280']],
    [[], 0x9020_1000n, 8, ['40201', '40301', '40202', '40280']],
    [['D6'], 0x9020_1000n, 8, []],
  ] as const)('%o: what is left of %o with mask %i', (errata, address, order, expected) => {
    expect(left([...errata, 'D61'], address, order)).toEqual(expected)
  })

  it('take a large page that holds the address', () => {
    const w = legacy(['D6', 'D61'])
    w.word(0x1_3008, 0x8000_0083n)
    w.short(PAGE)
    w.word(0x1_3008, 0n)
    w.forget({ what: 'iotlb', scope: 'fine', domain: 5, address: 0x403f_f000n })
    expect(w.short(PAGE)).toBe('READ')
  })
})

describe('context entries', () => {
  const after = (
    errata: readonly string[],
    said: Parameters<ReturnType<typeof legacy>['forget']>[0],
  ): string => {
    const w = legacy(errata)
    w.short(PAGE)
    w.forget({ what: 'iotlb', scope: 'all' })
    w.word(CONTEXT, 0n)
    w.forget(said)
    return w.short(PAGE)
  }

  it('go whatever domain is named beside the device (D26)', () => {
    const said = { what: 'context', scope: 'fine', domain: 9, source: SOURCE } as const
    expect([after([], said), after(['D26'], said)]).toEqual([MAPPED, 'CONTEXT_ENTRY_P'])
  })

  it('all go with any domain (D7)', () => {
    const said = { what: 'context', scope: 'domain', domain: 9 } as const
    expect([after([], said), after(['D7'], said)]).toEqual([MAPPED, 'CONTEXT_ENTRY_P'])
  })
})

it('entries of PASIDs are read again for every request that misses the IOTLB (D27)', () => {
  for (const [errata, expected] of [
    [[], 'abcd:12:7'],
    [['D27'], 'PASID_ENTRY_P'],
  ] as const) {
    const w = scalable(errata)
    w.short(PAGE)
    w.forget({ what: 'iotlb', scope: 'all' })
    w.word(AT.PASIDS + RID_PASID * 64, 0n)
    expect(w.short(PAGE)).toBe(expected)
  }
})

it('caching mode remembers nothing that is not present (D60)', () => {
  const w = legacy(['D60'], { isCaching: true })
  w.word(LEAF, 0n)
  expect(w.short(PAGE)).toBe('READ')
  w.word(LEAF, 0xabc_d003n)
  expect(w.short(PAGE)).toBe(MAPPED)
})

describe('pass-through (D28, CQ5)', () => {
  const PASS = '40201:12:3'
  const SECOND_LEVEL = 0x1_2001n

  it('holds from the translation that met it on, until a context entry is invalidated', () => {
    const w = legacy(LEGACY)
    w.word(CONTEXT, 9n)
    expect(w.short(PAGE)).toBe(PASS)
    w.word(CONTEXT, SECOND_LEVEL)
    w.forget({ what: 'iotlb', scope: 'all' })
    expect(w.short(PAGE)).toBe(PASS)
    w.forget({ what: 'context', scope: 'fine', domain: 0, source: OTHER })
    expect(w.short(PAGE)).toBe(PASS)
    w.forget({ what: 'context', scope: 'fine', domain: 0, source: SOURCE + 7, functionMask: 3 })
    expect(w.short(PAGE)).toBe(MAPPED)
  })

  it('is decided from memory for every device that is known when translation is switched on, or a root is taken', () => {
    const w = legacy(LEGACY)
    w.translator.addSource(SOURCE)
    w.word(CONTEXT, 9n)
    w.translator.setRoot({ page: AT.ROOT / 4096, mode: 0, isEnabled: true })
    w.word(CONTEXT, SECOND_LEVEL)
    expect(w.short(PAGE)).toBe(PASS)
    w.translator.setRoot({ page: AT.ROOT / 4096, mode: 0, isEnabled: true })
    expect(w.short(PAGE)).toBe(MAPPED)
  })

  it('goes on through the IOTLB where a context entry turned to it unnoticed', () => {
    const w = legacy(LEGACY)
    w.short(PAGE)
    w.word(CONTEXT, 9n)
    expect(w.short(PAGE)).toBe(MAPPED)
    w.forget({ what: 'context', scope: 'all' })
    expect(w.short(PAGE)).toBe(PASS)
    expect(w.translator.caches.iotlb.count).toBe(1)
  })

  it('is no entry of the IOTLB, and interrupts stay interrupts', () => {
    const w = legacy(LEGACY)
    w.word(CONTEXT, 9n)
    w.short(PAGE)
    expect(w.translator.caches.iotlb.count).toBe(0)
    w.short(0xfee0_1000n, { pasid: NO_PASID })
    expect(w.translator.result.isInterrupt).toBe(true)
  })

  it('of a PASID entry holds as well (D48)', () => {
    const w = scalable(['D3', 'D27', 'D28', 'D61'])
    const rid = AT.PASIDS + RID_PASID * 64
    const before = w.read(rid)
    w.short(PAGE)
    w.word(rid, (before & ~0x1c0n) | 0x100n)
    expect(w.short(PAGE)).toMatch(/^40201:/)
    w.word(rid, before)
    expect(w.short(PAGE)).toMatch(/^40201:/)
    w.forget({ what: 'context', scope: 'all' })
    expect(w.short(PAGE)).toBe('abcd:12:7')
  })
})

it('where translation is off, requests go to memory as they are, and nothing is recorded', () => {
  const w = legacy([])
  w.translator.setRoot({ page: AT.ROOT / 4096, mode: 0, isEnabled: false })
  expect(w.short(PAGE)).toBe('40201:12:3')
  expect([w.translator.result.isDirect, w.kinds()]).toEqual([true, []])
  w.short(0xfee0_0000n)
  expect(w.translator.result.isInterrupt).toBe(true)
})
