import { describe, expect, it } from 'vitest'
import { LegalVtd, type TableKind } from '../support/vtd-legal.ts'

/** Steps of each run; more with VTD_LEGAL_STEPS=1000000. */
const STEPS = Number(process.env['VTD_LEGAL_STEPS'] ?? 4000)
/** How far a run goes before it begins anew. */
const EPISODE = 5000
const LONG = { timeout: 3_600_000 }

const shown = ({ judge }: LegalVtd) => judge.findings.map(({ rule, message }) => `${rule}: ${message}`)

interface Kind {
  readonly kind: TableKind
  readonly isCaching: boolean
  readonly hasAts: boolean
}
const kinds = (['legacy', 'second', 'first'] as const).flatMap((kind) =>
  [false, true].flatMap((isCaching) => [false, true].map((hasAts): Kind => ({ kind, isCaching, hasAts }))),
)

/** What has to be forgotten for each change. */
const neededOf = ({ kind, isCaching, hasAts }: Kind): readonly string[] => {
  const entry = kind === 'legacy' ? 'context entry' : 'PASID entry'
  return [
    ...['unmap: IOTLB', 'remap: IOTLB', 'lower: IOTLB', 'table: IOTLB'],
    ...[`detach: ${entry}`, 'detach: IOTLB', 'root: contexts'],
    ...(hasAts ? ['unmap: device', 'remap: device', 'lower: device', 'detach: device'] : []),
    ...(isCaching ? [`attach: ${entry}`] : []),
    ...(isCaching && kind !== 'first' ? ['map: IOTLB', 'raise: IOTLB'] : []),
  ]
}

describe.each(kinds)('$kind tables, caching mode $isCaching, ATS $hasAts', (kind) => {
  it('edits with the smallest invalidations are right, and nothing is found', LONG, () => {
    for (let done = 0, seed = 1; done < STEPS; seed++) {
      const run = new LegalVtd({ ...kind, seed })
      for (let n = 0; n < EPISODE && done < STEPS; n++, done++) run.step()
      run.judge.finish()
      expect(run.differences).toEqual([])
      expect(shown(run)).toEqual([])
      if (STEPS >= EPISODE) expect(neededOf(kind).filter((name) => !run.counts.has(name))).toEqual([])
    }
  })

  it.each(neededOf(kind))('without one invalidation (%s) it is found', (name) => {
    for (let seed = 1; seed <= 3; seed++) {
      const run = new LegalVtd({ ...kind, seed })
      for (let n = 0; n < 60; n++) run.step()
      expect(run.judge.findings).toEqual([])
      expect([name, run.leaveOut(name)]).toEqual([name, true])
      expect([seed, shown(run).length > 0]).toEqual([seed, true])
    }
  })
})
