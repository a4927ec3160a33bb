import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { GROUPS } from '../../bench/cases/index.ts'
import { Floors, packageRoot } from '../../bench/floors.ts'
import { slowerThan } from '../../bench/gate.ts'
import { type CaseResult, goalText, spreadOf } from '../../bench/harness.ts'
import { flatPlot, flatTable } from '../../bench/plot.ts'
import { resultTable, TABLE_COLUMNS_MAX, wrapped } from '../../bench/table.ts'

/** So few that nothing is measured: these tests say that the cases do what they claim, not how fast. */
const OPERATIONS = 512
const cases = GROUPS.flatMap((g) => g.cases)
/** The large tables differ in nothing but their size. */
const small = cases.filter((c) => !/2\^(19|22)|10\^[5-7]/.test(c.id))
const floors = Floors.compile()

const result = (id: string, calibrated: number): CaseResult => ({
  id,
  operation: 'line, process',
  ns: 12345,
  peer: 'one kind',
  peerNs: 12345,
  ratio: spreadOf([0.5, 12.34, 99.9]),
  goal: goalText({ mbPerSecondMin: 300 }),
  met: false,
  bytesPerOperation: 1321.4,
  calibrated,
})

describe('the cases of the bench', () => {
  it('have names of their own', () => {
    expect(new Set(cases.map((c) => c.id)).size).toBe(cases.length)
  })

  it.each(small.map((c) => [c.id, c] as const))(
    '%s checks its results, and its work goes on',
    (_id, loop) => {
      const work = loop.setUp(OPERATIONS)
      expect(work.operations).toBeGreaterThan(0)
      const sums = [1, 2, 3].map(() => {
        work.prepare?.()
        return work.pass()
      })
      expect(sums.every(Number.isInteger)).toBe(true)
      if ('setUp' in loop.peer) expect(Number.isInteger(loop.peer.setUp(OPERATIONS).pass())).toBe(true)
    },
  )

  it
    .skipIf(floors === undefined)
    .each(
      small.flatMap((c) =>
        'floor' in c.peer && c.peer.sameSum && floors?.has(String(c.peer.floor[0])) === true
          ? [[c.id, c, c.peer.floor] as const]
          : [],
      ),
    )('%s and its C floor reach the same sum', (_id, loop, floor) => {
    const [name = '', ...numbers] = floor
    expect(floors?.loop(String(name), OPERATIONS, numbers).sum).toBe(loop.setUp(OPERATIONS).pass())
  })
})

describe('the table of the bench', () => {
  it('fits its columns, the longest case and the greatest figures included', () => {
    const ids = [...cases.map((c) => c.id), 'log/columns/inside']
    const lines = resultTable(ids.map((id) => result(id, 1)))
    expect(Math.max(...lines.map((l) => l.length))).toBeLessThanOrEqual(TABLE_COLUMNS_MAX)
    for (const { note } of GROUPS) {
      for (const line of wrapped(note)) expect(line.length).toBeLessThanOrEqual(TABLE_COLUMNS_MAX)
      expect(wrapped(note).join(' ')).toBe(note)
    }
  })
})

describe('the plot of many live entries', () => {
  const root = packageRoot()
  const recorded = JSON.parse(readFileSync(`${root}/bench/live-entries.json`, 'utf8')) as {
    results: CaseResult[]
  }

  it('is that of the recorded run, and so is the table beside it', () => {
    expect(readFileSync(`${root}/docs/live-entries.svg`, 'utf8')).toBe(flatPlot(recorded.results))
    const page = readFileSync(`${root}/docs/performance.md`, 'utf8')
    expect(page).toContain(flatTable(recorded.results).join('\n'))
  })

  it('has a point for each recorded case and its peer', () => {
    const cases = recorded.results.filter((r) => r.id.startsWith('flat/'))
    expect(cases.length).toBeGreaterThan(20)
    expect(flatPlot(recorded.results).match(/<circle/g)).toHaveLength(2 * cases.length)
  })
})

describe('the gate of the bench', () => {
  it('sees what costs more than before in units of the calibration loop, and nothing else', () => {
    const before = [result('a', 2), result('b', 2), result('gone', 1)]
    const now = [result('a', 2.5), result('b', 2.7), result('new', 9)]
    expect(slowerThan(before, now)).toEqual(['b: 1.35 times its cost before'])
  })
})
