import { readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { createLogExplainer } from '../../src/machine/explain.ts'
import { EXPLAIN_COLUMNS, explainText } from '../../src/report/explain/explain-text.ts'

/** Logs as people paste them, and what is said of each. `WRITE_GOLDEN=1` writes the file anew. */
const FILE = 'test/golden/explain-lines.txt'
const HEAD = '## '
const SPLIT = '\n--\n'

interface Section {
  readonly title: string
  readonly log: string
  readonly told: string
}

const sections: readonly Section[] = readFileSync(FILE, 'utf8')
  .split(/^(?=## )/m)
  .map((text) => {
    const at = text.indexOf(SPLIT)
    const [title = '', ...log] = text.slice(HEAD.length, at).split('\n')
    return { title, log: `${log.join('\n')}\n`, told: text.slice(at + SPLIT.length).trimEnd() }
  })

function explain(log: string): string {
  const explainer = createLogExplainer()
  explainer.push(new TextEncoder().encode(log))
  return explainText(explainer.end()).trimEnd()
}

if (process.env['WRITE_GOLDEN'] === '1') {
  const texts = sections.map(({ title, log }) => `${HEAD}${title}\n${log}--\n${explain(log)}\n`)
  writeFileSync(FILE, texts.join('\n'))
}

describe('lines as people paste them', () => {
  it('are of every family that people asked about', () => {
    const families = ['VT-d', 'AMD-Vi', 'SMMUv3', 'powerpc', 'VFIO', 'ftrace', 'QEMU']
    const counts = families.map((family) => sections.filter(({ title }) => title.startsWith(family)).length)
    expect(counts.every((count) => count >= 2)).toBe(true)
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(sections.length)
  })

  it.each(sections)('$title', ({ log, told }) => {
    expect(explain(log)).toBe(told)
  })

  it.each(sections)('$title: every line is understood, and nothing is wider than 80 columns', ({ log }) => {
    const text = explain(log)
    const lines = log.trimEnd().split('\n').length
    expect(text).toContain(
      `${lines} understood, 0 not`.replace(/^/, lines === 1 ? '1 line, ' : `${lines} lines, `),
    )
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(EXPLAIN_COLUMNS)
  })
})
