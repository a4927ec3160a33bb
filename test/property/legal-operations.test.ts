import { describe, expect, it } from 'vitest'
import { LegalRun } from '../support/legal/legal-run.ts'

/** How far a run goes on one host before it begins with another one. */
const EPISODE = 5000
const OPERATIONS = Number(process.env['LEGAL_OPERATIONS'] ?? 10_000)

describe('legal operations', () => {
  it.each([1, 2])(
    'seed %d: as the naive host has it, and nothing is found',
    { timeout: 3_600_000 },
    (seed) => {
      const totals = new Map<string, number>()
      for (let done = 0; done < OPERATIONS; done += EPISODE) {
        const run = new LegalRun({ seed: seed * 1_000_003 + done / EPISODE })
        while (run.performed < EPISODE && run.step() === undefined);
        run.end()
        expect(run.differences).toEqual([])
        expect(run.judge.findings.map((f) => `${f.rule}: ${f.message}`)).toEqual([])
        for (const [what, n] of run.counts) totals.set(what, (totals.get(what) ?? 0) + n)
      }
      if (process.env['LEGAL_SHOW']) {
        const lines = [...totals].sort((a, b) => b[1] - a[1]).map(([what, n]) => `${n} ${what}`)
        process.stdout.write(`${lines.join('\n')}\n`)
      }
    },
  )
})
