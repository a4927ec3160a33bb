import { describe, expect, it } from 'vitest'
import { ADDRESS_TYPE, PERM, TABLE_MODE } from '../../src/hw/vtd/ports.ts'
import { type CachedWorldOptions, cachedWorld } from '../support/vtd-cached.ts'
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
  withFirstLevel,
  withIdentity,
} from '../support/vtd-tables.ts'

const PAGE = 0x4020_1000n
const [, , SECOND, LEAF] = FL_PATH
const WRITE = { need: PERM.WRITE } as const
const MAPPED = 'abcd:12:7'
const D = 0x40n

const world = (options: CachedWorldOptions = {}) =>
  cachedWorld(withFirstLevel(scalableWorld(FIRST_ENTRY)), { mode: TABLE_MODE.SCALABLE, ...options })
const nested = () =>
  cachedWorld(withIdentity(withFirstLevel(scalableWorld(NESTED_ENTRY))), { mode: TABLE_MODE.SCALABLE })

describe('the IOTLB, first level', () => {
  it.each([
    ['everything', { what: 'iotlb', scope: 'all' }, true],
    ['its domain', { what: 'iotlb', scope: 'domain', domain: 1 }, true],
    ['another domain', { what: 'iotlb', scope: 'domain', domain: 2 }, false],
    [
      'any page of its domain (CF14)',
      { what: 'iotlb', scope: 'fine', domain: 1, address: 0x9999_0000n },
      true,
    ],
    [
      'its page of its PASID',
      { what: 'pasid-iotlb', scope: 'fine', domain: 1, pasid: RID_PASID, address: PAGE },
      true,
    ],
    [
      'another page of its PASID',
      { what: 'pasid-iotlb', scope: 'fine', domain: 1, pasid: RID_PASID, address: 0n },
      false,
    ],
    [
      'its page of another PASID',
      { what: 'pasid-iotlb', scope: 'fine', domain: 1, pasid: PASID, address: PAGE },
      false,
    ],
    [
      'its page of its PASID in another domain',
      { what: 'pasid-iotlb', scope: 'fine', domain: 2, pasid: RID_PASID, address: PAGE },
      false,
    ],
    ['its PASID', { what: 'pasid-iotlb', scope: 'pasid', domain: 1, pasid: RID_PASID }, true],
    ['another PASID', { what: 'pasid-iotlb', scope: 'pasid', domain: 1, pasid: PASID }, false],
    ['all PASIDs of its domain', { what: 'pasid-iotlb', scope: 'domain', domain: 1 }, true],
    [
      '2^40 pages (D38)',
      { what: 'pasid-iotlb', scope: 'fine', domain: 1, pasid: RID_PASID, address: 0n, order: 40 },
      true,
    ],
    ['PASID entries', { what: 'pasid-cache', scope: 'all' }, false],
    ['context entries', { what: 'context', scope: 'all' }, false],
  ] as const)('forgets with %s: %o', (_what, said, goes) => {
    const w = world({ keepsTables: false })
    expect(w.short(PAGE)).toBe(MAPPED)
    w.word(LEAF, 0n)
    w.forget(said)
    expect(w.short(PAGE)).toBe(goes ? 'FL_P' : MAPPED)
  })

  it('keeps apart what PASIDs see', () => {
    const w = world({ keepsTables: false })
    w.short(PAGE)
    w.word(LEAF, 0x999_9007n)
    expect(w.short(PAGE, { pasid: PASID })).toBe('9999:12:7')
    expect(w.short(PAGE)).toBe(MAPPED)
  })

  it('keeps apart what privileged requests and others may', () => {
    const w = world({ keepsTables: false })
    w.word(LEAF, 0xabc_d003n)
    const privileged = { pasid: PASID, isPrivileged: true }
    expect(w.short(PAGE, privileged)).toMatch(/^abcd:12:/)
    expect(w.short(PAGE, { pasid: PASID })).toBe('FL_USER')
    w.word(LEAF, 0n)
    expect(w.short(PAGE, privileged)).toMatch(/^abcd:12:/)
    expect(w.short(PAGE, { pasid: PASID })).toBe('FL_P')
  })

  it('goes to the tables for the first write, so that the dirty bit is set', () => {
    const w = world()
    w.short(PAGE)
    expect(w.read(LEAF) & D).toBe(0n)
    w.short(PAGE, WRITE)
    expect(w.read(LEAF) & D).toBe(D)
    w.word(LEAF, 0n)
    expect(w.short(PAGE, WRITE)).toBe(MAPPED)
  })

  it('has no dirty bit to set for a translation request that does not want to write', () => {
    const w = world()
    const asked = { addressType: ADDRESS_TYPE.TRANSLATION_REQUEST, isNoWrite: true } as const
    expect(w.short(PAGE, asked)).toBe('abcd:12:5')
    expect(w.read(LEAF) & D).toBe(0n)
    expect(w.short(PAGE, { ...asked, isNoWrite: false, need: PERM.READ | PERM.WRITE })).toBe(MAPPED)
    expect(w.read(LEAF) & D).toBe(D)
  })

  it('never remembers what is not present, in caching mode neither', () => {
    const w = world({ isCaching: true })
    w.word(LEAF, 0n)
    expect(w.short(PAGE)).toBe('FL_P')
    w.word(LEAF, 0xabc_d007n)
    expect(w.short(PAGE)).toBe(MAPPED)
  })

  it('asks the engine what the entry of the PASID does not allow', () => {
    const w = world()
    w.word(AT.PASIDS + (PASID % 64) * 64 + 16, BigInt(AT.FL))
    w.short(PAGE, { pasid: PASID })
    expect(w.short(PAGE, { pasid: PASID, isPrivileged: true })).toBe('PASID_SRE')
    expect(w.short(PAGE, { pasid: PASID, need: PERM.EXECUTE })).toBe('PASID_ERE')
    expect(w.short(PAGE, { pasid: 0xf_ffff })).toBe('SM_PASID_BEYOND')
  })

  it('remembers tables by PASID', () => {
    const w = world()
    w.short(PAGE)
    w.word(SECOND, 0n)
    w.word(LEAF + 8, 0x777_7007n)
    expect(w.short(PAGE + 0x1000n)).toBe('7777:12:7')
    expect(w.short(PAGE + 0x2000n, { pasid: PASID })).toBe('FL_P')
    w.forget({
      what: 'pasid-iotlb',
      scope: 'fine',
      domain: 1,
      pasid: RID_PASID,
      address: PAGE,
      isLeafOnly: true,
    })
    w.word(LEAF + 24, 0x777_7007n)
    expect(w.short(PAGE + 0x3000n)).toBe('7777:12:7')
    w.forget({ what: 'pasid-iotlb', scope: 'fine', domain: 1, pasid: RID_PASID, address: PAGE })
    expect(w.short(PAGE + 0x2000n)).toBe('FL_P')
  })
})

describe('nested translation', () => {
  it('is kept as one, and goes with any page of its domain', () => {
    const w = nested()
    expect(w.short(PAGE)).toBe('bcde:12:7')
    w.word(AT.IDENTITY + 0x3000 + 0x1cd * 8, 0n)
    expect(w.short(PAGE)).toBe('bcde:12:7')
    w.forget({ what: 'iotlb', scope: 'fine', domain: 1, address: 0xabc_d000n })
    expect(w.short(PAGE)).toBe('SL_PERM')
  })

  it('goes with its PASID, while tables of the second level stay', () => {
    const w = nested()
    w.short(PAGE)
    const walks = w.records('vtd.walk').length
    w.forget({ what: 'pasid-iotlb', scope: 'pasid', domain: 1, pasid: RID_PASID })
    w.word(AT.IDENTITY, 0n)
    expect(w.short(PAGE)).toBe('bcde:12:7')
    expect(w.records('vtd.walk').length).toBeGreaterThan(walks)
    w.forget({ what: 'iotlb', scope: 'domain', domain: 1 })
    expect(w.short(PAGE)).toMatch(/^(FL|SL)_/)
    expect(SL_LEAVES).toBeGreaterThan(0)
  })

  it('has a record for each walk, the tables of the first level included', () => {
    const w = nested()
    w.short(PAGE)
    expect(w.records('vtd.walk').map((r) => [r.stage, r.iova])).toEqual([
      [2, BigInt(AT.FL)],
      [2, BigInt(AT.FL) + 0x1000n],
      [2, BigInt(AT.FL) + 0x2000n],
      [2, BigInt(AT.FL) + 0x3000n],
      [1, PAGE],
      [2, 0xabc_d000n],
    ])
    expect(w.records('vtd.pasid')).toEqual([
      expect.objectContaining({
        source: SOURCE,
        pasid: RID_PASID,
        domain: 1,
        directory: BigInt(AT.DIR),
        fault: 0,
      }),
    ])
  })
})
