import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { createLogExplainer } from '../../src/machine/explain.ts'
import { LINE_FAMILIES } from '../../src/reader/kernel-log/families.ts'
import { explainJson } from '../../src/report/explain/explain-json.ts'
import { EXPLAIN_COLUMNS, explainText } from '../../src/report/explain/explain-text.ts'
import { ByteText, LineMutator } from '../mutate-lines.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
const usedBytes = (): number => {
  collect()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

/** `EXPLAIN_LINES=1000000` for a long run. */
const LINES = Number(process.env['EXPLAIN_LINES'] ?? 40_000)

const EXAMPLES = LINE_FAMILIES.flatMap(({ templates }) => templates.map(({ example }) => example))
const GOOD = [
  ...EXAMPLES,
  ...EXAMPLES.map((MESSAGE) => JSON.stringify({ MESSAGE, SYSLOG_IDENTIFIER: 'kernel', _HOSTNAME: 'box' })),
  ...EXAMPLES.map((line) => `Oct 14 18:41:49.056494 box kernel: ${line}\r`),
  '[    1.000000] usb 1-1: new high-speed USB device number 2 using xhci_hcd',
  '{"a":',
  '',
]

describe('mutated kernel logs', () => {
  it('nothing is thrown or hangs, every line is counted once, memory stays flat', () => {
    const prng = new Prng(20_261_121)
    const mutator = new LineMutator(prng, { longLines: true, good: GOOD })
    const text = new ByteText()
    const explainer = createLogExplainer()
    let lines = 0
    const push = (upTo: number) => {
      while (lines < upTo) {
        while (text.length < 1 << 18) lines += mutator.addTo(text)
        for (let at = 0; at < text.length; ) {
          const end = Math.min(text.length, at + 1 + prng.below(prng.oneIn(8) ? 32 : 100_000))
          explainer.push(text.bytes.subarray(at, end))
          at = end
        }
        text.length = 0
      }
    }
    push(LINES >> 1)
    const before = usedBytes()
    push(LINES)
    // The groups, facts and notes that are kept are bounded; until all are full, each takes some KiB.
    expect(usedBytes() - before).toBeLessThan(32 << 20)

    const explanation = explainer.end()
    const { log, faults } = explanation
    expect(log.lines).toBe(lines)
    expect(log.understood + log.unknown).toBe(lines)
    expect(log.understood).toBeGreaterThan(lines / 10)
    expect(log.unknown).toBeGreaterThan(lines / 10)
    expect(faults.groups.length).toBeGreaterThan(50)
    JSON.stringify(explainJson(explanation))
    const long = explainText(explanation)
      .split('\n')
      .filter((line) => line.length > EXPLAIN_COLUMNS)
    // A word of the log that is longer than a line stands alone.
    for (const line of long) expect(line.trim()).not.toMatch(/ .* /)
  })

  it('where pieces are cut makes no difference', () => {
    const prng = new Prng(3)
    const mutator = new LineMutator(prng, { longLines: false, good: GOOD })
    const text = new ByteText()
    for (let i = 0; i < 3000; i++) mutator.addTo(text)
    const bytes = text.taken()
    const explained = (step: () => number) => {
      const explainer = createLogExplainer()
      for (let at = 0; at < bytes.length; ) {
        const end = Math.min(bytes.length, at + step())
        explainer.push(bytes.subarray(at, end))
        at = end
      }
      return JSON.stringify(explainJson(explainer.end()))
    }
    const whole = explained(() => bytes.length)
    expect(explained(() => 1 + prng.below(100))).toBe(whole)
    expect(explained(() => 4096)).toBe(whole)
  })

  it.each([
    ['blanks', ' '.repeat(16_000)],
    ['quotes', '>'.repeat(16_000)],
    ['brackets', '['.repeat(16_000)],
    ['a stamp that goes on', `[${' '.repeat(2000)}1.000000] x`],
    ['a name that goes on', `${'a'.repeat(2000)} kernel: x`],
    [
      'an almost fault',
      `DMAR: [DMA Read NO_PASID] Request device [00:04.0] fault addr 0x1 [fault reason 0x06] ${' '.repeat(1900)}x`,
    ],
    ['two texts', `QI HEAD: ${'qw0 = 0x1, qw1 = 0x'.repeat(100)}`],
    ['many anchors', '] Request device ['.repeat(110)],
    ['escapes', '\x1b['.repeat(8000)],
    ['returns', '\r'.repeat(16_000)],
    ['nested JSON', `${'{"MESSAGE":'.repeat(1400)}`],
  ])('a line of %s is read at once', (_what, line) => {
    const explainer = createLogExplainer()
    const bytes = new TextEncoder().encode(`${line}\n`)
    const cpu = process.cpuUsage()
    for (let i = 0; i < 200; i++) explainer.push(bytes)
    const { user } = process.cpuUsage(cpu)
    expect(user / 200).toBeLessThan(10_000)
    expect(explainer.end().log.lines).toBe(200)
  })
})
