import { describe, expect, it } from 'vitest'
import { ADDRESS_TYPE, PERM, TABLE_MODE } from '../../src/hw/vtd/ports.ts'
import { type CachedWorldOptions, cachedWorld } from '../support/vtd-cached.ts'
import {
  AT,
  legacyWorld,
  PASID,
  QEMU_FEATURES,
  RID_PASID,
  SECOND_ENTRY,
  SOURCE,
  scalableWorld,
  withSecondLevel,
} from '../support/vtd-tables.ts'

const PAGE = 0x4020_1000n
const LEAF = 0x1_4008
const CONTEXT = 0x1_1180
const OTHER = 0x20
const WRITE = { need: PERM.WRITE } as const
const MAPPED = 'abcd:12:3'
/** A device that does the same as SOURCE: its context entry is a copy. */
const withOther = (world: ReturnType<typeof legacyWorld>) => {
  world.word(0x1_1000 + OTHER * 16, world.read(CONTEXT))
  world.word(0x1_1000 + OTHER * 16 + 8, world.read(CONTEXT + 8))
  return world
}

const legacy = (options: CachedWorldOptions = {}) =>
  cachedWorld(withOther(legacyWorld()), { features: QEMU_FEATURES, ...options })

const scalable = (options: CachedWorldOptions = {}, entry = SECOND_ENTRY) =>
  cachedWorld(withSecondLevel(scalableWorld(entry)), { mode: TABLE_MODE.SCALABLE, ...options })

describe('the IOTLB, second level', () => {
  it('answers until it is told to forget, whatever the tables say', () => {
    const w = legacy()
    expect(w.short(PAGE)).toBe(MAPPED)
    w.word(LEAF, 0n)
    expect(w.short(PAGE + 0x234n)).toBe(MAPPED)
    w.forget({ what: 'iotlb', scope: 'fine', domain: 5, address: PAGE })
    expect(w.short(PAGE)).toBe('READ')
  })

  it('is tagged by domain: what one device has read answers another', () => {
    const w = legacy()
    w.short(PAGE)
    w.word(LEAF, 0n)
    expect(w.short(PAGE, { source: OTHER })).toBe(MAPPED)
  })

  it.each([
    ['everything', { what: 'iotlb', scope: 'all' }, true],
    ['its domain', { what: 'iotlb', scope: 'domain', domain: 5 }, true],
    ['another domain', { what: 'iotlb', scope: 'domain', domain: 6 }, false],
    ['its page', { what: 'iotlb', scope: 'fine', domain: 5, address: PAGE }, true],
    ['its page in another domain', { what: 'iotlb', scope: 'fine', domain: 6, address: PAGE }, false],
    ['the next page', { what: 'iotlb', scope: 'fine', domain: 5, address: PAGE + 0x1000n }, false],
    [
      'two pages from the next on, aligned down',
      { what: 'iotlb', scope: 'fine', domain: 5, address: PAGE + 0x1000n, order: 2 },
      true,
    ],
    [
      'the page with the hint',
      { what: 'iotlb', scope: 'fine', domain: 5, address: PAGE, isLeafOnly: true },
      true,
    ],
    ['pages of a PASID', { what: 'pasid-iotlb', scope: 'fine', domain: 5, pasid: 0, address: PAGE }, false],
    ['a PASID', { what: 'pasid-iotlb', scope: 'pasid', domain: 5, pasid: 0 }, false],
    ['context entries', { what: 'context', scope: 'all' }, false],
    ['PASID entries', { what: 'pasid-cache', scope: 'all' }, false],
    ['the TLB of the device', { what: 'device-tlb', scope: 'fine', source: SOURCE, address: PAGE }, false],
  ] as const)('forgets with %s: %o', (_what, said, goes) => {
    const w = legacy({ keepsTables: false })
    w.short(PAGE)
    w.word(LEAF, 0n)
    w.forget(said)
    expect(w.short(PAGE)).toBe(goes ? 'READ' : MAPPED)
  })

  it('looks again where more is asked than it allows, and keeps what it finds', () => {
    const w = legacy()
    w.word(LEAF, 0xabc_d001n)
    w.short(PAGE)
    expect(w.short(PAGE, WRITE)).toBe('WRITE')
    w.word(LEAF, 0xabc_d003n)
    expect(w.short(PAGE, WRITE)).toBe(MAPPED)
    w.word(LEAF, 0n)
    expect(w.short(PAGE, WRITE)).toBe(MAPPED)
  })

  it('answers with large pages what they cover', () => {
    const w = legacy()
    w.word(0x1_3008, 0x8000_0083n)
    expect(w.short(PAGE + 0x234n)).toBe('80001:21:3')
    w.word(0x1_3008, 0n)
    expect(w.short(0x403f_f000n)).toBe('801ff:21:3')
    w.forget({ what: 'iotlb', scope: 'fine', domain: 5, address: 0x4030_0000n })
    expect(w.short(PAGE)).toBe('READ')
  })

  it('evicts where it is asked to', () => {
    const w = legacy({ keepsTables: false })
    w.short(PAGE)
    w.word(LEAF, 0n)
    w.translator.caches.evict(1)
    expect([w.translator.caches.iotlb.count, w.short(PAGE)]).toEqual([0, 'READ'])
  })
})

describe('tables that are remembered', () => {
  const moved = (w: ReturnType<typeof legacy>) => {
    w.word(0x1_3008, 0x1_5003n)
    w.word(0x1_5010, 0x1_2003n)
    w.word(LEAF + 8, 0x777_7003n)
  }
  const next = PAGE + 0x1000n

  it('lead walks to a table that is not linked any more', () => {
    const w = legacy()
    w.short(PAGE)
    moved(w)
    expect(w.short(next)).toBe('7777:12:3')
    expect(legacy({ keepsTables: false }).translator.caches.tables).toBeUndefined()
  })

  it('stay with the hint, and go without it', () => {
    const w = legacy()
    w.short(PAGE)
    moved(w)
    w.forget({ what: 'iotlb', scope: 'fine', domain: 5, address: PAGE, isLeafOnly: true })
    expect(w.short(next)).toBe('7777:12:3')
    w.forget({ what: 'iotlb', scope: 'fine', domain: 5, address: next })
    expect(w.short(next)).toBe('12:12:3')
  })
})

describe('the context cache', () => {
  const forgetDevice = { what: 'context', scope: 'fine', domain: 5, source: SOURCE } as const

  it.each([
    ['everything', { what: 'context', scope: 'all' }, true],
    ['its domain', { what: 'context', scope: 'domain', domain: 5 }, true],
    ['another domain', { what: 'context', scope: 'domain', domain: 4 }, false],
    ['the device', forgetDevice, true],
    ['the device in another domain', { ...forgetDevice, domain: 4 }, false],
    ['another device', { ...forgetDevice, source: SOURCE + 1 }, false],
    ['function 4 with FM 1', { ...forgetDevice, source: SOURCE + 4, functionMask: 1 }, true],
    ['function 2 with FM 1', { ...forgetDevice, source: SOURCE + 2, functionMask: 1 }, false],
    ['function 6 with FM 2', { ...forgetDevice, source: SOURCE + 6, functionMask: 2 }, true],
    ['function 5 with FM 3 (V17)', { ...forgetDevice, source: 0x1d, functionMask: 3 }, true],
    ['the IOTLB', { what: 'iotlb', scope: 'all' }, false],
  ] as const)('forgets with %s: %o', (_what, said, goes) => {
    const w = legacy()
    w.short(PAGE)
    w.forget({ what: 'iotlb', scope: 'all' })
    w.word(CONTEXT, 0n)
    w.forget(said)
    expect(w.short(PAGE)).toBe(goes ? 'CONTEXT_ENTRY_P' : MAPPED)
  })

  it('does not take the IOTLB with it', () => {
    const w = legacy()
    w.short(PAGE)
    w.word(LEAF, 0n)
    w.forget({ what: 'context', scope: 'all' })
    expect(w.short(PAGE)).toBe(MAPPED)
  })
})

describe('the PASID cache', () => {
  const rid = AT.PASIDS + RID_PASID * 64

  it.each([
    ['everything', { what: 'pasid-cache', scope: 'all' }, true],
    ['its domain', { what: 'pasid-cache', scope: 'domain', domain: 5 }, true],
    ['another domain', { what: 'pasid-cache', scope: 'domain', domain: 4 }, false],
    ['the PASID', { what: 'pasid-cache', scope: 'fine', domain: 5, pasid: RID_PASID }, true],
    [
      'the PASID in another domain',
      { what: 'pasid-cache', scope: 'fine', domain: 4, pasid: RID_PASID },
      false,
    ],
    ['another PASID', { what: 'pasid-cache', scope: 'fine', domain: 5, pasid: PASID }, false],
    ['the context entry of its device', { what: 'context', scope: 'fine', source: SOURCE }, true],
    ['that of another device', { what: 'context', scope: 'fine', source: OTHER }, false],
    ['all context entries', { what: 'context', scope: 'all' }, true],
  ] as const)('forgets with %s: %o', (_what, said, goes) => {
    const w = scalable()
    expect(w.short(PAGE)).toBe('abcd:12:7')
    w.forget({ what: 'iotlb', scope: 'all' })
    w.word(rid, 0n)
    w.forget(said)
    expect(w.short(PAGE)).toBe(goes ? 'PASID_ENTRY_P' : 'abcd:12:7')
  })
})

describe('caching mode', () => {
  it('remembers pages that are not there, and what is not allowed', () => {
    const w = legacy({ isCaching: true })
    w.word(LEAF, 0n)
    expect([w.short(PAGE), w.short(PAGE, WRITE)]).toEqual(['READ', 'WRITE'])
    w.word(LEAF, 0xabc_d001n)
    expect([w.short(PAGE), w.short(PAGE, WRITE)]).toEqual(['READ', 'WRITE'])
    w.forget({ what: 'iotlb', scope: 'fine', domain: 5, address: PAGE })
    expect([w.short(PAGE), w.short(PAGE, WRITE)]).toEqual(['abcd:12:1', 'WRITE'])
    w.word(LEAF, 0xabc_d003n)
    expect(w.short(PAGE, WRITE)).toBe('WRITE')
    w.forget({ what: 'iotlb', scope: 'domain', domain: 5 })
    expect(w.short(PAGE, WRITE)).toBe(MAPPED)
  })

  it('remembers an entry with reserved bits', () => {
    const w = legacy({ isCaching: true })
    w.word(LEAF, 0xabc_d803n)
    expect(w.short(PAGE)).toBe('PAGING_ENTRY_RSVD')
    w.word(LEAF, 0xabc_d003n)
    expect([w.short(PAGE), w.short(PAGE, WRITE)]).toEqual(['PAGING_ENTRY_RSVD', 'PAGING_ENTRY_RSVD'])
    w.forget({ what: 'iotlb', scope: 'all' })
    expect(w.short(PAGE)).toBe(MAPPED)
  })

  it('remembers context entries that are not present, as those of domain 0', () => {
    const w = legacy({ isCaching: true })
    const before = w.read(CONTEXT)
    w.word(CONTEXT, 2n)
    expect(w.short(PAGE)).toBe('CONTEXT_ENTRY_P silent')
    w.word(CONTEXT, before)
    w.forget({ what: 'context', scope: 'fine', domain: 5, source: SOURCE })
    expect(w.short(PAGE)).toBe('CONTEXT_ENTRY_P silent')
    w.forget({ what: 'context', scope: 'fine', domain: 0, source: SOURCE })
    expect(w.short(PAGE)).toBe(MAPPED)
  })

  it('remembers PASID entries that are not present; the PASID takes them, whatever its domain', () => {
    const w = scalable({ isCaching: true })
    const rid = AT.PASIDS + RID_PASID * 64
    const before = w.read(rid)
    w.word(rid, 0n)
    expect(w.short(PAGE)).toBe('PASID_ENTRY_P')
    w.word(rid, before)
    expect(w.short(PAGE)).toBe('PASID_ENTRY_P')
    w.forget({ what: 'pasid-cache', scope: 'fine', domain: 5, pasid: PASID })
    expect(w.short(PAGE)).toBe('PASID_ENTRY_P')
    w.forget({ what: 'pasid-cache', scope: 'fine', domain: 5, pasid: RID_PASID })
    expect(w.short(PAGE)).toBe('abcd:12:7')
  })

  it('is not in a unit without it', () => {
    const w = legacy()
    w.word(LEAF, 0n)
    w.short(PAGE)
    w.word(LEAF, 0xabc_d003n)
    expect(w.short(PAGE)).toBe(MAPPED)
  })
})

describe('records of a translation', () => {
  it('say what was read, what was kept, and which entry answered', () => {
    const w = legacy()
    w.short(PAGE)
    expect(w.kinds()).toEqual([
      'vtd.context',
      'vtd.walk',
      'vtd.fill',
      'vtd.fill',
      'vtd.fill',
      'vtd.translate',
    ])
    w.short(PAGE + 4n)
    expect(w.kinds()).toEqual(['vtd.translate'])
    expect(w.records('vtd.walk')).toEqual([
      expect.objectContaining({ stage: 2, iova: PAGE, t1: 0x14, t2: 0x13, t3: 0x12, t4: 0, fault: 0 }),
    ])
    expect(w.records('vtd.fill').map((f) => [f.cache, f.entry, f.iova, f.shift, f.target, f.perm])).toEqual([
      [3, 1, 0x4000_0000n, 21, 0x1_3000n, 7],
      [3, 2, 0x4020_0000n, 12, 0x1_4000n, 7],
      [1, 3, PAGE, 12, 0xabc_d000n, 3],
    ])
    expect(w.records('vtd.translate').map((t) => [t.iova, t.target, t.entry, t.fault])).toEqual([
      [PAGE, 0xabc_d000n, 3, 0],
      [PAGE + 4n, 0xabc_d004n, 3, 0],
    ])
    expect(w.records('vtd.context')).toEqual([
      expect.objectContaining({
        source: SOURCE,
        rootAddress: 0x1_0000n,
        address: 0x1_1180n,
        lo: 0x1_2001n,
        domain: 5,
      }),
    ])
  })

  it('of a fault say where it was met', () => {
    const w = legacy({ keepsTables: false })
    w.word(LEAF, 0n)
    w.short(PAGE, WRITE)
    expect(w.kinds()).toEqual(['vtd.context', 'vtd.walk', 'vtd.translate'])
    expect(w.records('vtd.translate')).toEqual([
      expect.objectContaining({ fault: 5, entry: 0, target: 0n, perm: 0, need: 2 }),
    ])
    expect(w.translator.isWalkFault).toBe(true)
  })
})

describe('pass-through', () => {
  it('is one entry for all addresses, which goes with any page of its domain', () => {
    const w = legacy()
    w.word(CONTEXT, 9n)
    expect(w.short(0x1234_5678n)).toBe('12345:12:3')
    expect(w.short(0x7f_ffff_f000n)).toBe('7ffffff:12:3')
    expect(w.records('vtd.fill')).toEqual([
      expect.objectContaining({ cache: 1, iova: 0n, shift: 64, target: 0n, domain: 5 }),
    ])
    expect(w.short(0x80_0000_0000n)).toBe('BEYOND_WIDTH')
    w.forget({ what: 'iotlb', scope: 'fine', domain: 5, address: 0n })
    expect(w.translator.caches.iotlb.count).toBe(0)
  })

  it('that is not flushed answers requests that are to be translated', () => {
    const w = legacy()
    w.word(CONTEXT, 9n)
    w.short(PAGE)
    w.word(CONTEXT, 0x1_2001n)
    w.forget({ what: 'context', scope: 'all' })
    expect(w.short(PAGE)).toBe('40201:12:3')
    w.forget({ what: 'iotlb', scope: 'domain', domain: 5 })
    expect(w.short(PAGE)).toBe(MAPPED)
  })
})

it('translation requests are answered by the IOTLB, too', () => {
  const w = scalable()
  w.short(PAGE)
  w.word(LEAF, 0n)
  const asked = { addressType: ADDRESS_TYPE.TRANSLATION_REQUEST } as const
  expect(w.short(PAGE, asked)).toBe('abcd:12:7')
  w.forget({ what: 'iotlb', scope: 'all' })
  expect(w.short(PAGE, asked)).toBe('0:12:0')
})
