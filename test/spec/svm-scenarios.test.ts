import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { CATALOGUE, ERRATA } from '../../src/machine/registry.ts'
import { runScenario } from '../../src/machine/run-scenario.ts'
import { FLUSH_SCOPE } from '../../src/trace/event-codes.ts'
import { eventsOfLog } from '../support/events.ts'

const FOLDER = 'scenarios/svm'
const names = readdirSync(FOLDER)
  .filter((f) => /^s\d\d-/.test(f))
  .map((f) => f.replace('.yaml', ''))
const load = (name: string) => {
  const file = `${FOLDER}/${name}.yaml`
  return parseScenario(readFileSync(file, 'utf8'), file, CATALOGUE)
}
const logOf = (name: string) => runScenario(load(name)).machine.log
const rulesOf = (name: string) => [...new Set(runScenario(load(name)).findings.map((f) => f.rule))]

/** Flushes that the last call of a name has led to. */
const flushesOf = (name: string, scopes: readonly number[]) =>
  eventsOfLog(logOf(name), 'domain.flush').flatMap((e) =>
    e.kind === 'domain.flush' && scopes.includes(e.scope) ? [[e.iova, e.bytes]] : [],
  )
const PAGES = [FLUSH_SCOPE.PASID_PAGES, FLUSH_SCOPE.PASID]
const DEVICE = [FLUSH_SCOPE.PASID_DEVICE_TLB]
const distinct = (flushes: readonly (readonly bigint[])[]) => [...new Set(flushes.map((f) => f.join(' ')))]

describe('scenarios of shared virtual memory', () => {
  it('are S1 to S20 with their errata, and five more', () => {
    const numbers = new Set(names.map((n) => Number(n.slice(1, 3))))
    expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from({ length: 25 }, (_, i) => i + 1))
  })

  it('each has a right variant, and a wrong one but for what no version has wrong', () => {
    const without = names
      .filter((n) => n.endsWith('-right'))
      .filter((n) => !names.includes(n.replace('-right', '-wrong')))
    expect(without).toEqual(['s14-no-supervisor-right', 's17-deferred-right'])
  })

  it.each(names.filter((n) => n.endsWith('-right')))('%s: nothing is wrong', (name) => {
    expect(load(name).machine.profile).toBe('intended')
    // Whoever uses vmalloc with a PASID of the kernel is told, whatever the kernel does.
    expect(rulesOf(name)).toEqual(name === 's14-kernel-ranges-right' ? ['kernel-pasid-non-linear'] : [])
  })

  it('every erratum of shared virtual memory of 4.x is in a wrong one', () => {
    const errata = ERRATA.filter((e) => e.id.startsWith('svm-') || e.id === 'K4-unaligned-piotlb')
    expect(errata).toHaveLength(23)
    for (const { id, scenario } of errata) {
      expect(load(scenario.replace(`${FOLDER}/`, '').replace('.yaml', '')).machine.profile).toBe(
        `intended,${id}`,
      )
    }
  })
})

describe('what they leave', () => {
  it('S1: a table of 1 MiB for 2^17 entries, instead of one of 64 MiB that is not to be had', () => {
    const tables = (name: string) =>
      eventsOfLog(logOf(name), 'svm.tables').map((e) => e.kind === 'svm.tables' && [e.order, e.entries])
    expect(tables('s01-table-size-right')).toEqual([[8, 0x2_0000]])
    expect(tables('s01-table-size-wrong')).toEqual([[14, 0x10_0000]])
  })

  it('S4: users, the notifier, page tables, the file, the PASID, the structure, in this order', () => {
    const seen = eventsOfLog(logOf('s04-exit-with-mmap-right'), '').flatMap((e) => {
      if (e.kind === 'mm.users' && e.why === 'exit') return [`users ${e.users}`]
      if (e.kind === 'mm.notify' && e.call === 'release') return ['release']
      if (e.kind === 'svm.entry' && e.present === 0) return ['entry']
      if (e.kind === 'domain.flush' && e.scope === FLUSH_SCOPE.PASID_CACHE) return ['flush']
      if (e.kind === 'file.refs' && e.refs === 0) return ['file']
      if (e.kind === 'svm.pasid' && e.state === 0) return ['PASID']
      if (e.kind === 'mm.users' && e.count === 0) return ['structure']
      return []
    })
    const firsts = seen.filter((what, i) => seen.indexOf(what) === i)
    expect(firsts).toEqual(['users 0', 'release', 'entry', 'flush', 'file', 'PASID', 'structure'])
  })

  it('S8: the block that holds 2 GiB and a page, and what an int makes of it', () => {
    expect(distinct(flushesOf('s08-pages-int-right', DEVICE))).toContain(`${0n} ${1n << 33n}`)
    expect(distinct(flushesOf('s08-pages-int-wrong', DEVICE))).not.toContain(`${0n} ${1n << 33n}`)
  })

  it('S9: 256 KiB at 0x123440000, and 16 KiB at 0 (vector V12)', () => {
    expect(distinct(flushesOf('s09-device-tlb-right', DEVICE))).toContain(`${0x1_2344_0000n} ${0x4_0000n}`)
    expect(distinct(flushesOf('s09-device-tlb-wrong', DEVICE))).toContain(`${0n} ${0x4000n}`)
  })

  it('S10: a page, and all of the PASID', () => {
    expect(distinct(flushesOf('s10-page-selective-right', PAGES))).toEqual([`${0x100_0000n} ${0x1000n}`])
    expect(distinct(flushesOf('s10-page-selective-wrong', PAGES))).toEqual([`${0n} ${0n}`])
  })

  it('S18: two blocks of two pages, and one', () => {
    const blocks = ['8192 8192', '16384 8192']
    expect(distinct(flushesOf('s18-unaligned-right', PAGES))).toEqual(blocks)
    expect(distinct(flushesOf('s18-unaligned-wrong', PAGES))).toEqual(blocks.slice(0, 1))
  })

  it('S11: the driver of b, and the driver of a', () => {
    const told = (name: string) =>
      eventsOfLog(logOf(name), 'svm.callback').map((e) => e.kind === 'svm.callback' && e.device)
    expect(told('s11-semicolon-right')).toEqual(['b'])
    expect(told('s11-semicolon-wrong')).toEqual(['a'])
  })

  it('S12: all 64 bits of an address, and 52 of them (vector V23)', () => {
    const seen = (name: string) =>
      eventsOfLog(logOf(name), 'svm.request').map((e) => e.kind === 'svm.request' && e.iova)
    expect(seen('s12-address-right')).toEqual([0xffff_8000_0000_1000n])
    expect(seen('s12-address-wrong')).toEqual([0xf_8000_0000_1000n])
  })

  it('S13: failure for the request that asks for a response, nothing for the other one', () => {
    const answers = eventsOfLog(logOf('s13-unknown-pasid-right'), 'vtd.response').map(
      (e) => e.kind === 'vtd.response' && [e.pasid, e.group, e.code],
    )
    expect(answers).toEqual([[77, 2, 15]])
  })

  it('S15: 4 for a write, and 6', () => {
    const told = (name: string) =>
      eventsOfLog(logOf(name), 'svm.callback').map((e) => e.kind === 'svm.callback' && e.rwxp)
    expect(told('s15-rwxp-right')).toEqual([4])
    expect(told('s15-rwxp-wrong')).toEqual([6])
  })

  it('S17: of the two notifications of an unmapping the first one is put off, and nothing is sent for it', () => {
    expect(flushesOf('s17-deferred-right', PAGES)).toHaveLength(1)
    expect(flushesOf('s18-unaligned-right', PAGES)).toHaveLength(4)
  })

  it('S20: mm_users grows by one', () => {
    const users = (name: string) =>
      eventsOfLog(logOf(name), 'mm.users').flatMap((e) =>
        e.kind === 'mm.users' && e.why === 'exit' ? [e.users] : [],
      )
    expect(users('s20-leak-right')).toEqual([0])
    expect(users('s20-leak-wrong')).toEqual([1])
  })
})
