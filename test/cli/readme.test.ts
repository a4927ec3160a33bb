import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { CATALOGUE } from '../../src/machine/registry.ts'
import { scenarioJsonSchema } from '../../src/machine/scenario/scenario-schema.ts'
import { run } from './run.ts'

interface Shown {
  readonly command: string
  readonly output: string
}

/** Every command that a page shows behind `$ `, with the output that it shows below it. */
function shownIn(markdown: string): Shown[] {
  const shown: Shown[] = []
  for (const [, language = '', block = ''] of markdown.matchAll(/^```(\w*)\n([\s\S]*?)^```/gm)) {
    if (!['', 'console', 'text'].includes(language)) continue
    for (const part of block.split(/^\$ /m).slice(1)) {
      const [command = '', ...output] = part.split('\n')
      shown.push({ command: command.trim(), output: output.join('\n').trimEnd() })
    }
  }
  return shown
}

const scripts = JSON.parse(readFileSync('package.json', 'utf8')).scripts as Record<string, string>

/** The arguments of iommulator behind a shown command, or undefined where it is another program's. */
function argvOf(command: string): string[] | undefined {
  const line = command === 'npm start' ? (scripts['start'] ?? '') : command
  const words = line.split(/\s+/)
  const at = words.findIndex((w) => w === 'iommulator' || w.endsWith('cli/main.js'))
  return at < 0 ? undefined : words.slice(at + 1)
}

/** Where a printed text does not hold what is shown, in which `...` alone in a line stands for any lines. */
function notPrinted(shown: string, printed: string): string | undefined {
  const lines = printed.split('\n')
  const parts: string[][] = [[]]
  for (const line of shown.split('\n')) {
    if (line === '...') parts.push([])
    else parts.at(-1)?.push(line)
  }
  let at = 0
  for (const [i, part] of parts.entries()) {
    const isThere = (start: number) => part.every((line, j) => lines[start + j] === line)
    const last = lines.length - part.length
    let start = i > 0 && i === parts.length - 1 && part.length > 0 ? last : at
    if (i > 0 && i < parts.length - 1) while (start < last && !isThere(start)) start++
    if (start < at || !isThere(start)) return part.join('\n')
    at = start + part.length
  }
  return parts.length > 1 || at === lines.length ? undefined : lines.slice(at).join('\n')
}

const guides = readdirSync('docs/guide')
  .filter((f) => f.endsWith('.md'))
  .sort()
  .map((f) => join('docs/guide', f))

describe.each(['README.md', ...guides])('%s shows what is printed', (page) => {
  const shown = shownIn(readFileSync(page, 'utf8')).filter((s) => s.output !== '' && argvOf(s.command))

  it('shows more than one command', () => {
    if (page === 'README.md') expect(shown.map((s) => s.command)).toContain('npm start')
    expect(shown.length).toBeGreaterThan(1)
  })

  it.each(shown.map((s) => [s.command, s] as const))('%s', async (command, { output }) => {
    const { out, err } = await run(argvOf(command) ?? [])
    const printed = (out === '' ? err : out).trimEnd()
    if (/^\.\.\.$/m.test(output)) expect(notPrinted(output, printed)).toBeUndefined()
    else expect(printed).toBe(output)
  })

  it('leads only to files that are there', () => {
    const text = readFileSync(page, 'utf8')
    for (const [, to = ''] of text.matchAll(/\]\((?!https?:)([^)#]+)/g)) {
      expect([to, existsSync(join(dirname(page), to))]).toEqual([to, true])
    }
  })
})

describe('docs/guide/scenarios.md', () => {
  const text = readFileSync('docs/guide/scenarios.md', 'utf8')

  it('shows docs/guide/first.yaml as it is', () => {
    const [, block = ''] = /^```yaml\n([\s\S]*?)^```/m.exec(text) ?? []
    expect(block).toBe(readFileSync('docs/guide/first.yaml', 'utf8'))
  })

  it('names every key of a scenario file', () => {
    const keys = new Set<string>()
    const collect = (value: unknown): void => {
      if (typeof value !== 'object' || value === null) return
      for (const [name, under] of Object.entries(value)) {
        if (name === 'properties') for (const key of Object.keys(under as object)) keys.add(key)
        collect(under)
      }
    }
    // Without the steps, whose calls have their arguments in docs/reference/calls.md.
    const { steps: _steps, ...rest } = (scenarioJsonSchema(CATALOGUE) as { properties: object })
      .properties as Record<string, unknown>
    collect({ properties: rest })
    for (const key of ['steps', 'args', 'by', 'process', 'task', 'cpu', 'code', 'outputs']) keys.add(key)
    expect([...keys].filter((key) => !text.includes(`\`${key}\``))).toEqual([])
  })
})

describe('docs/guide/driver-test.md', () => {
  it('shows the test that is run, with the name of the package', () => {
    const [, block = ''] =
      /^```ts\n([\s\S]*?)^```/m.exec(readFileSync('docs/guide/driver-test.md', 'utf8')) ?? []
    const test = readFileSync('test/guide/driver-life.test.ts', 'utf8')
    expect(block).toBe(test.replace('../../src/index.ts', 'iommulator'))
  })
})

describe('the page test', () => {
  it('would see a line that is not printed', async () => {
    const { out } = await run(['decode', 'tce', '0x1003'])
    expect(out).not.toBe('something else')
    expect(shownIn('```\n$ iommulator decode tce 1\nx\n```')).toEqual([
      { command: 'iommulator decode tce 1', output: 'x' },
    ])
  })

  it.each([
    ['a\n...\nd', true],
    ['a\nb\n...', true],
    ['...\nc\nd', true],
    ['a\n...\nc', false],
    ['b\n...\nd', false],
    ['a\n...\nb\n...\nx', false],
    ['a\n...\nd\n...\nb', false],
    ['a\n...\nc d', false],
  ])('takes ... for lines left out, and nothing else: %j', (shown, isRight) => {
    expect(notPrinted(shown, 'a\nb\nc\nd') === undefined).toBe(isRight)
  })
})
