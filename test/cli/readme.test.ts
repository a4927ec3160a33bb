import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { run } from './run.ts'

interface Shown {
  readonly command: string
  readonly output: string
}

/** Every command that a page shows behind `$ `, with the output that it shows below it. */
function shownIn(markdown: string): Shown[] {
  const shown: Shown[] = []
  for (const [, block = ''] of markdown.matchAll(/```(?:console|text)?\n([\s\S]*?)```/g)) {
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

describe.each(['README.md'])('%s shows what is printed', (page) => {
  const shown = shownIn(readFileSync(page, 'utf8')).filter((s) => s.output !== '' && argvOf(s.command))

  it('shows at least npm start and one more command', () => {
    expect(shown.map((s) => s.command)).toContain('npm start')
    expect(shown.length).toBeGreaterThan(1)
  })

  it.each(shown.map((s) => [s.command, s] as const))('%s', async (command, { output }) => {
    const { out } = await run(argvOf(command) ?? [])
    expect(out.trimEnd()).toBe(output)
  })
})

it('the page test would see a line that is not printed', async () => {
  const { out } = await run(['decode', 'tce', '0x1003'])
  expect(out).not.toBe('something else')
  expect(shownIn('```\n$ iommulator decode tce 1\nx\n```')).toEqual([
    { command: 'iommulator decode tce 1', output: 'x' },
  ])
})
