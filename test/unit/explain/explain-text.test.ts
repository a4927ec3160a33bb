import { describe, expect, it } from 'vitest'
import { createLogExplainer } from '../../../src/machine/explain.ts'
import { explainJson } from '../../../src/report/explain/explain-json.ts'
import { EXPLAIN_COLUMNS, explainText } from '../../../src/report/explain/explain-text.ts'
import { FAULTS_MAX } from '../../../src/report/explain/fault-log.ts'

const explain = (...lines: readonly string[]) => {
  const explainer = createLogExplainer()
  explainer.push(new TextEncoder().encode(`${lines.join('\n')}\n`))
  return explainer.end()
}
const linesOf = (...lines: readonly string[]) => explainText(explain(...lines)).split('\n')
const fault = (device: string, text = 'PTE Read access is not set') =>
  `DMAR: [DMA Read NO_PASID] Request device [${device}] fault addr 0x1000 [fault reason 0x06] ${text}`

describe('the text of an explanation', () => {
  it.each([
    ['on the command line', `Command line: intel_iommu=on,${'a'.repeat(300)} iommu=strict`],
    ['behind a reason', fault('01:00.0', 'x'.repeat(290))],
    ['in a line without template', `DMAR: ${'y'.repeat(200)}`],
  ])('what is longer than a line is cut: %s', (_what, line) => {
    const told = linesOf(line)
    for (const one of told) expect(one.length).toBeLessThanOrEqual(EXPLAIN_COLUMNS)
    expect(told.filter((one) => one.endsWith('...'))).toHaveLength(1)
  })

  it('what fills a line just so stays', () => {
    // In the table, "2  " and nothing but the token.
    const room = EXPLAIN_COLUMNS - '   reason      '.length
    const text = (letters: number) => linesOf(fault('01:00.0', 'x'.repeat(letters)))
    expect(text(room).some((line) => line.endsWith('x'.repeat(room)))).toBe(true)
    expect(text(room + 1).some((line) => line.endsWith(`x${'.'.repeat(3)}`))).toBe(true)
  })

  it('faults of kinds that are not kept are in the sum', () => {
    const devices = Array.from({ length: FAULTS_MAX + 300 }, (_, i) => {
      const two = (n: number) => n.toString(16).padStart(2, '0')
      return `${two(i >> 8)}:${two((i >> 3) & 31)}.${i & 7}`
    })
    const told = linesOf(...devices.map((device) => fault(device)))
    expect(told).toContain('2000 kinds of faults and more, 2300 in all; 2300 lines, 2300 understood, 0 not')
    for (const line of told) expect(line.length).toBeLessThanOrEqual(EXPLAIN_COLUMNS)
  })

  it('groups stand in the order of their first lines, in JSON as well', () => {
    const unit = 'arm-smmu-v3 arm-smmu-v3.2.auto:'
    const all = explain(`${unit} event 0x02 received:`, `${unit} \t0x0000310200000002`, fault('01:00.0'))
    // The event is over when the log ends.
    expect(all.faults.groups.map(({ firstLine }) => firstLine)).toEqual([3, 1])
    const { faults } = explainJson(all) as { faults: { firstLine: number }[] }
    expect(faults.map(({ firstLine }) => firstLine)).toEqual([1, 3])
    expect(explainText(all)).toMatch(/^1 {2}C_BAD_STREAMID, once\n/)
  })
})

describe('faults without a line that names them', () => {
  const STATUS = 'DMAR: DRHD: handling fault status reg'
  const LOST = 'requests were blocked; no line of the log says of which device'
  it.each<[what: string, lines: string[], titles: string[]]>([
    ['a fault status', [`${STATUS} 2`, `${STATUS} 2`], [LOST]],
    ['records lost', [`${STATUS} 1`], [LOST]],
    ['suppressed lines', ['dmar_fault: 5000 callbacks suppressed'], [LOST]],
    ['a status of the queue', [`${STATUS} 40`], []],
    ['all ones', [`${STATUS} ffffffff`], []],
    ['with a fault', [`${STATUS} 2`, fault('01:00.0')], ['DMA read by 01:00.0 was blocked']],
    [
      'with an interrupt',
      [
        `${STATUS} 2`,
        'DMAR: [INTR-REMAP] Request device [f0:1f.0] fault index 0x26 [fault reason 0x22] Present field in the IRTE entry is clear',
      ],
      ['interrupt of f0:1f.0, index 0x26, was blocked'],
    ],
  ])('%s', (_what, lines, titles) => {
    expect(explain(...lines).faults.groups.map(({ words }) => words.title)).toEqual(titles)
  })
})
