import { describe, expect, it } from 'vitest'
import { QEMU_TRACE, seenIn, WHOLE_MACHINE } from '../../../src/check/coverage.ts'
import { checkersFor, RULE_IDS, ruleIds } from '../../../src/check/index.ts'
import { Judge } from '../../../src/check/judge.ts'
import { RULES } from '../../../src/check/rules.ts'
import { Uses } from '../../../src/check/uses.ts'
import { WindowShadows } from '../../../src/check/window-shadow.ts'
import { World } from './world.ts'

describe('rules', () => {
  it('are declared with what a reader needs', () => {
    for (const { id, promise, advice, broken, kept } of RULES) {
      expect(promise).toMatch(/^[A-Z].*\.$/)
      expect(advice).toMatch(/^[A-Z].*\.$/)
      expect(broken).toBe(`scenarios/rules/${id}-broken.yaml`)
      expect(kept).toBe(`scenarios/rules/${id}-kept.yaml`)
    }
  })

  it('each has exactly one checker among all', () => {
    const windows = new WindowShadows()
    const judged = checkersFor({ windows, uses: new Uses(windows) }).flatMap((c) => c.rules)
    expect([...judged].sort()).toEqual([...RULE_IDS].sort())
  })

  it('come in the order of their declaration, whatever was asked', () => {
    expect(ruleIds(['unmodelled', 'double-map', 'unmodelled'])).toEqual(['double-map', 'unmodelled'])
  })

  it('a name that is none is refused with the nearest', () => {
    expect(() => new Judge({ rules: ['double-maps'] })).toThrow(
      'no rule is called "double-maps" (did you mean "double-map"?)',
    )
  })
})

describe('the judge', () => {
  it('tells findings in the order in which they showed', () => {
    const w = new World()
    w.open()
    w.refused(1)
    w.map(2, 0x5003n)
    w.map(2, 0x6003n)
    w.clear(2)
    w.clear(2)
    w.refused(3)
    expect(w.rules()).toEqual(['dma-not-granted', 'double-map', 'unmap-miss', 'dma-not-granted'])
  })

  it('of the rules that were asked for only', () => {
    const w = new World({ rules: ['use-after-unmap'] })
    w.open()
    w.refused(1)
    w.map(2, 0x5003n)
    w.map(2, 0x6003n)
    expect(w.found()).toEqual([])
    expect(w.judge.verdicts().map((v) => v.rule)).toEqual(['use-after-unmap'])
  })

  it('a run without records can be judged by no rule but the one that needs none', () => {
    const states = new Judge().verdicts().map((v) => [v.rule, v.state])
    expect(states.filter(([, state]) => state !== 'cannot judge')).toEqual([['unmodelled', 'kept']])
  })

  it('a machine that is modelled as a whole keeps what it does not break', () => {
    const verdicts = new Judge().verdicts(WHOLE_MACHINE)
    expect(verdicts.filter((v) => v.state !== 'kept').map((v) => v.rule)).toEqual(['leak-mapping'])
  })

  it('a trace log of QEMU shows nothing of owners, allocators, drivers and hosts', () => {
    const verdicts = new Judge().verdicts(QEMU_TRACE)
    expect(verdicts.filter((v) => v.state === 'cannot judge').map((v) => [v.rule, v.missing])).toEqual([
      ['foreign-memory', ['page.own']],
      ['leak-mapping', ['device.remove']],
      ['allocator-drift', ['alloc.take']],
      ['leak-pin', ['mm.pin']],
      ['mapped-balance', ['region.map', 'hw.set']],
      ['locked-vm-balance', ['mm.locked']],
      ['orphaned-region', ['region.put']],
      ['range-mismatch', ['hw.set']],
      ['stale-tce', ['hw.set', 'hw.fill', 'hw.kill']],
      ['table-reference-leak', ['hw.table', 'hw.ref']],
      ['host-memory-corruption', ['hw.table', 'hw.set']],
      ['stale-iotlb', ['iotlb.fill']],
      ['iotlb-mismatch', ['iotlb.fill']],
      ['stale-metadata', ['iotlb.use']],
      ['stale-translation', ['vtd.word', 'vtd.translate']],
      ['stale-context', ['vtd.word', 'vtd.context', 'vtd.translate']],
      ['stale-device-tlb', ['vtd.word', 'vtd.fill', 'vtd.translate']],
      ['freed-table-walked', ['vtd.table', 'vtd.walk']],
      ['early-reuse', ['vtd.word', 'page.own']],
      ['flush-order', ['vtd.word', 'vtd.fill', 'domain.flush']],
      ['entry-order', ['vtd.word', 'vtd.context']],
      ['reserved-domain', ['vtd.context']],
      ['reserved-descriptor', ['vtd.refuse']],
      ['cache-survives', ['vtd.fill', 'vtd.translate', 'domain.flush']],
      ['unit-registers', ['vtd.register']],
      ['page-request-answer', ['vtd.page-request', 'vtd.response']],
      ['lost-interrupt', ['vtd.page-request', 'vtd.register', 'vtd.event']],
      ['dead-page-table', ['svm.entry', 'mm.table', 'mm.users']],
      ['mm-kept-alive', ['mm.users', 'svm.bind']],
      ['pasid-crosstalk', ['svm.bind', 'svm.pasid']],
      ['mm-lifetime', ['mm.users', 'mm.notify', 'mm.table']],
      ['svm-bookkeeping', ['svm.pasid', 'svm.bind']],
      ['use-after-unbind', ['svm.bind', 'svm.entry']],
      ['kernel-pasid-non-linear', ['svm.entry', 'vtd.translate']],
      ['stopped', ['dead']],
    ])
  })

  it('a rule that is broken is broken, whatever is missing', () => {
    const w = new World()
    w.ram(0n, 4096n)
    w.open()
    w.map(1, 0x5003n)
    w.found()
    expect(w.judge.verdicts(QEMU_TRACE).find((v) => v.rule === 'foreign-memory')).toEqual({
      rule: 'foreign-memory',
      state: 'broken',
      missing: [],
      skipped: 0,
    })
  })

  it('what has come stands for the coverage where none is given', () => {
    const w = new World()
    w.open()
    w.map(1, 0x5003n)
    w.use(1)
    w.take(1)
    const kept = w.judge.verdicts().filter((v) => v.state === 'kept')
    expect(kept.map((v) => v.rule)).toEqual([
      'use-after-unmap',
      'dma-not-granted',
      'double-map',
      'unmap-miss',
      'allocator-drift',
      'out-of-table',
      'unmodelled',
    ])
    expect([...seenIn(w.log)].sort()).toEqual(
      ['alloc.take', 'call.enter', 'call.return', 'dma.translate', 'tce.set', 'window.open'].sort(),
    )
  })

  it('finishes once', () => {
    const w = new World()
    w.open()
    w.take(1)
    w.found()
    w.judge.finish()
    expect(w.found()).toHaveLength(1)
  })
})
