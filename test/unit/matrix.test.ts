import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { matrixJson, matrixText } from '../../src/machine/matrix-report.ts'
import {
  foundBy,
  isMatrixAsExpected,
  MATRIX_BITS,
  matrixBits,
  otherAnswers,
  runMatrix,
} from '../../src/machine/matrix-runs.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'
import { PLAIN } from '../../src/report/text.ts'
import { run } from '../cli/run.ts'
import { scenarioOf } from '../support/scenarios.ts'

const FILE = 'scenarios/tour/vtd-duties.yaml'
const duties = () => parseScenario(readFileSync(FILE, 'utf8'), FILE, CATALOGUE)
const Q35 = '  { kind: q35, profile: intended, ram: 64 MiB, devices: [{ name: edu0, kind: edu }] }'

describe('capabilities of a matrix', () => {
  it('are taken in the order given, each once', () => {
    expect(matrixBits(['c', 'cm', 'c'])).toEqual(['c', 'cm'])
  })

  it.each([
    [[], 'a matrix needs a capability; known: cm, rwbf, esrtps, psi, c, qi, dt'],
    [['cm', 'xx'], '"xx" is no capability of a matrix; known: cm, rwbf, esrtps, psi, c, qi, dt'],
    [Object.keys(MATRIX_BITS), 'a matrix has at most 6 capabilities'],
  ])('%j are refused', (names, sentence) => {
    expect(() => matrixBits(names)).toThrow(sentence)
  })

  it('each is a bit that the unit shows', () => {
    for (const bit of matrixBits(['cm', 'rwbf', 'esrtps', 'psi', 'c', 'qi'])) {
      const [without, withIt] = runMatrix(scenarioOf(Q35, 'iommu: flush_all'), [bit], {}).runs
      const of = (r: typeof withIt) => {
        const { description } = (r as NonNullable<typeof r>).result.machine
        return description.kind === 'q35' ? [description.iommu.cap ?? 0n, description.iommu.ecap ?? 0n] : []
      }
      const [a, b] = [of(without), of(withIt)]
      const changed = a.map((word, i) => word ^ (b[i] ?? 0n))
      const { register } = MATRIX_BITS[bit]
      expect(changed.map((w) => w.toString(2).replaceAll('0', ''))).toEqual(
        register === 'cap' ? ['1', ''] : ['', '1'],
      )
    }
  })
})

describe('runMatrix', () => {
  it('runs every combination, the first bit turning fastest', () => {
    const { runs } = runMatrix(duties(), ['cm', 'c'])
    expect(runs.map((r) => r.set)).toEqual([
      [false, false],
      [true, false],
      [false, true],
      [true, true],
    ])
  })

  it('says where a unit answers otherwise than the first one', () => {
    const matrix = runMatrix(duties(), ['cm'])
    const [without, withIt] = matrix.runs
    expect(otherAnswers(matrix, without as NonNullable<typeof without>)).toEqual([])
    expect(otherAnswers(matrix, withIt as NonNullable<typeof withIt>)).toEqual([
      {
        step: 5,
        call: 'dma read',
        said: 'MEMTX_DECODE_ERROR (translation-fault)',
        instead: 'MEMTX_OK (done)',
      },
    ])
    expect(isMatrixAsExpected(matrix)).toBe(false)
    expect(isMatrixAsExpected(runMatrix(duties(), ['esrtps']))).toBe(true)
  })

  it('does not change the scenario, nor the machine of another unit', () => {
    const scenario = duties()
    runMatrix(scenario, ['cm', 'c'])
    expect(scenario).toEqual(duties())
  })

  it('takes no machine without a VT-d unit', () => {
    const power = scenarioOf('  { kind: pseries, profile: intended }', 'tick: advance')
    expect(() => runMatrix(power, ['cm'])).toThrow(
      'a matrix takes a machine with a VT-d unit (kind: q35 or x86)',
    )
  })
})

describe('the report', () => {
  it('has a row for each unit, and a sum', () => {
    const lines = matrixText(runMatrix(duties(), ['cm', 'c']), PLAIN).split('\n')
    expect(lines.slice(1, 5)).toEqual([
      '',
      '  cm      CAP.CM: caching mode: what is not present may be cached',
      '  c       ECAP.C: the unit snoops caches of the processor',
      '',
    ])
    const rows = lines.slice(5).join(' ').replaceAll(/ +/g, ' ')
    const wrong = 'not as expected; #5 dma read: MEMTX_DECODE_ERROR (translation-fault), not MEMTX_OK (done)'
    const found = /1 0 (\S+) not/.exec(rows)?.[1] ?? ''
    expect(rows).toBe(
      [
        'cm c findings answers',
        '0 0 none as expected',
        `1 0 ${found} ${wrong}`,
        '0 1 none as expected',
        `1 1 ${found} ${wrong}`,
        ' 4 units: 2 as expected, 2 not ',
      ]
        .join(' ')
        .replaceAll(/ +/g, ' '),
    )
    expect(lines.every((l) => l.length <= 100)).toBe(true)
  })

  it('counts findings by rule, and names steps that no unit answers as expected', () => {
    const steps = [
      'iommu: submit\n    args: { lo: 0xe }',
      'iommu: attach\n    args: { device: edu0, domain: 0 }\n    expect: OK',
    ]
    const matrix = runMatrix(scenarioOf(Q35, ...steps), ['esrtps'])
    const text = matrixText(matrix, PLAIN)
    expect(text).toContain('not as expected at #2')
    expect(text).toContain('2 units: 0 as expected, 2 not')
    for (const { result } of matrix.runs) {
      const all = foundBy(result).reduce((sum, [, count]) => sum + count, 0)
      expect(all).toBe(result.findings.length)
    }
  })

  it('as JSON: bits by name, findings, and what is wrong', () => {
    expect(matrixJson(runMatrix(duties(), ['cm']))).toMatchObject({
      schema: 'iommulator/run-matrix/1',
      profile: 'intended',
      bits: ['cm'],
      units: [
        { set: { cm: false }, asExpected: true, findings: [], otherAnswers: [], wrong: [] },
        { set: { cm: true }, asExpected: false, otherAnswers: [{ step: 5 }], wrong: [{ step: 5 }] },
      ],
    })
  })
})

describe('iommulator run --matrix', () => {
  it('prints the table; its exit code says whether all units are as expected', async () => {
    const { code, out } = await run(['run', FILE, '--matrix', 'cm,c'])
    expect([code, out.includes('4 units: 2 as expected, 2 not')]).toEqual([1, true])
    expect((await run(['run', FILE, '--matrix', 'esrtps, c'])).code).toBe(0)
    expect(JSON.parse((await run(['run', FILE, '--matrix', 'cm', '--json'])).out).units).toHaveLength(2)
  })

  it('keeps the profile that is given', async () => {
    const { out } = await run(['run', FILE, '--matrix', 'c', '--profile', 'linux-6.1'])
    expect(out.split('\n')[0]).toContain('(linux-6.1)')
  })

  it('says what is wrong with its capabilities', async () => {
    const { code, err } = await run(['run', FILE, '--matrix', 'cx'])
    expect([code > 1, err.includes('"cx" is no capability of a matrix')]).toEqual([true, true])
  })
})
