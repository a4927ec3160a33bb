import { describe, expect, it } from 'vitest'
import {
  type ContextEntry,
  NO_CACHES,
  type PasidEntry,
  PERM,
  STAGE,
  type StructureCaches,
} from '../../src/hw/vtd/ports.ts'
import {
  AT,
  FIRST_ENTRY,
  FL_PATH,
  legacyWorld,
  PASID,
  SECOND_ENTRY,
  SOURCE,
  scalableWorld,
  withFirstLevel,
  withSecondLevel,
} from '../support/vtd-tables.ts'

const IOVA = 0x4020_1234n
const write = { need: PERM.WRITE }

/** Caches that keep all they are told, and write down what. */
function recorder() {
  const told: string[] = []
  const contexts = new Map<number, ContextEntry>()
  const pasids = new Map<number, PasidEntry>()
  const tables = new Map<string, { level: number; page: number; perm: number }>()
  const keyOf = (stage: number, domain: number, pasid: number, first: number, page: number, level: number) =>
    `${stage}/${domain}/${pasid}/${first}/${Math.floor(page / 512 ** level)}/${level}`
  const caches: StructureCaches = {
    loadContext: (source, into) => Object.assign(into, contexts.get(source)) && contexts.has(source),
    keepContext: (source, entry) => {
      told.push(`context ${source.toString(16)} ${entry.fault}`)
      contexts.set(source, { ...entry })
    },
    loadPasid: (_source, _context, pasid, into) =>
      Object.assign(into, pasids.get(pasid)) && pasids.has(pasid),
    keepPasid: (source, context, pasid, entry) => {
      told.push(`pasid ${source.toString(16)} ${context.pasidTable.toString(16)} ${pasid} ${entry.fault}`)
      pasids.set(pasid, { ...entry })
    },
    loadTable(stage, domain, pasid, first, page, into) {
      for (let level = 1; level < 5; level++) {
        const found = tables.get(keyOf(stage, domain, pasid, first, page, level))
        if (found !== undefined) return Object.assign(into, found) !== undefined
      }
      return false
    },
    keepTable(stage, domain, pasid, first, page, place) {
      told.push(`table ${stage} ${domain} level ${place.level} ${place.page.toString(16)} ${place.perm}`)
      tables.set(keyOf(stage, domain, pasid, first, page, place.level), { ...place })
    },
  }
  return { told, caches }
}

/** The tables of the last walk, from level 5 down; 0 where none was read. */
const tablesOf = ({ engine: { trail } }: ReturnType<typeof legacyWorld>, walk = 0) =>
  [5, 4, 3, 2, 1].map((level) => trail.table(walk, level))

describe('what a unit remembers of its tables', () => {
  it('a walk tells of every table, and begins at the lowest that is known', () => {
    const { told, caches } = recorder()
    const w = legacyWorld({ caches })
    w.engine.trail.on = true
    expect(w.short(IOVA)).toBe('abcd:12:3')
    expect(told).toEqual(['context 18 0', 'table 2 5 level 2 13 7', 'table 2 5 level 1 14 7'])
    expect([w.engine.trail.hasContext, tablesOf(w)]).toEqual([true, [0, 0, 0x12, 0x13, 0x14]])
    // What is known of memory holds: context and upper tables are gone, the leaf is new.
    w.word(AT.ROOT, 0n)
    w.word(0x1_2008, 0n)
    w.word(0x1_4008, 0x1234_5003n)
    expect(w.short(IOVA)).toBe('12345:12:3')
    expect([w.engine.trail.hasContext, tablesOf(w)]).toEqual([false, [0, 0, 0, 0, 0x14]])
  })

  it('a known table whose levels above do not allow the request is looked for again', () => {
    const { caches } = recorder()
    const w = legacyWorld({ caches })
    w.engine.trail.on = true
    w.word(0x1_3008, 0x1_4001n)
    expect([w.short(IOVA), w.short(IOVA, write)]).toEqual(['abcd:12:1', 'WRITE'])
    w.word(0x1_3008, 0x1_4003n)
    expect(w.short(IOVA, write)).toBe('abcd:12:3')
    expect(tablesOf(w)).toEqual([0, 0, 0x12, 0x13, 0x14])
  })

  it('what is wrong with an entry is told, and holds as long as it is known', () => {
    const { told, caches } = recorder()
    const w = legacyWorld({ caches })
    w.word(0x1_1180, 0n)
    expect(w.short(IOVA)).toBe('CONTEXT_ENTRY_P')
    w.word(0x1_1180, 0x1_2001n)
    expect(w.short(IOVA)).toBe('CONTEXT_ENTRY_P')
    expect(told).toEqual(['context 18 2'])
  })

  it('QEMU knows a context entry when its PASID entry is good, and reads that each time', () => {
    const { told, caches } = recorder()
    const features = { hasFirstLevel: false, hasNesting: false }
    const w = withSecondLevel(scalableWorld(SECOND_ENTRY, { caches, features, errata: ['D19'] }))
    w.word(AT.PASIDS + 7 * 64, 0n)
    expect(w.short(IOVA)).toBe('PASID_ENTRY_INVALID')
    expect(told).toEqual(['pasid 18 20 7 91'])
    w.word(AT.PASIDS + 7 * 64, SECOND_ENTRY.first ?? 0n)
    expect([w.short(IOVA), w.short(IOVA)]).toEqual(['abcd:12:7', 'abcd:12:7'])
    expect(told.filter((t) => !t.startsWith('table')).slice(1)).toEqual([
      'context 18 0',
      'pasid 18 20 7 0',
      'pasid 18 20 7 0',
    ])
  })

  it('a PASID entry is known by the directory of its context entry', () => {
    const { told, caches } = recorder()
    const w = withSecondLevel(scalableWorld(SECOND_ENTRY, { caches }))
    expect(w.short(IOVA, { pasid: PASID })).toBe('abcd:12:7')
    expect(told.slice(0, 2)).toEqual(['context 18 0', `pasid 18 ${(AT.DIR >> 12).toString(16)} ${PASID} 0`])
    w.word(AT.DIR + 8, 0n)
    expect(w.short(IOVA, { pasid: PASID })).toBe('abcd:12:7')
    expect(w.engine.trail.hasPasid).toBe(false)
    expect(w.short(IOVA, { pasid: PASID + 1 })).toBe('PASID_DIR_P')
    expect(told.at(-1)).toBe(`pasid 18 20 ${PASID + 1} 81`)
  })

  it('a known table of the first level says whether the user may go there', () => {
    const { told, caches } = recorder()
    const w = withFirstLevel(scalableWorld(FIRST_ENTRY, { caches }))
    w.word(FL_PATH[1], BigInt(AT.FL) + 0x2003n)
    const supervisor = { pasid: PASID, isPrivileged: true }
    expect(w.short(IOVA, supervisor)).toBe('abcd:12:7')
    expect(told.filter((t) => t.startsWith(`table ${STAGE.FIRST}`))).toHaveLength(3)
    expect(w.short(IOVA, { pasid: PASID })).toBe('FL_USER')
  })

  it('the page that maps an address is no table', () => {
    const { told, caches } = recorder()
    const w = legacyWorld({ caches })
    w.word(0x1_2008, 0x8000_0083n)
    expect(w.short(IOVA)).toBe('80201:30:3')
    expect(told).toEqual([`context ${SOURCE.toString(16)} 0`])
  })

  it('a unit without caches reads all each time', () => {
    const w = legacyWorld({ caches: NO_CACHES })
    expect(w.short(IOVA)).toBe('abcd:12:3')
    w.word(0x1_2008, 0n)
    expect(w.short(IOVA)).toBe('READ')
  })
})
