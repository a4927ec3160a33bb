import { describe, expect, it } from 'vitest'
import { type SourceFile, sourcesBelow } from './floors.ts'

const LINES_MAX = 400
const DECLARATION_LINES_MAX = 700
const DECLARATIONS = /(^|[/-])(calls|errata|rules|event|registers|reasons|format)\.ts$/

/** Banned in comments as well. */
const UNFINISHED = /\b(TODO|FIXME|XXX)\b/

/** What must not stand in the sources of the model, and what to use instead. */
const BANS: readonly (readonly [pattern: RegExp, instead: string, except?: RegExp])[] = [
  [/\bDate\.now\b|\bnew Date\b|performance\.now/, 'the machine clock', /src\/(cli|scripts)\//],
  [/\bMath\.random\b/, 'bits/prng'],
  [/\bset(Timeout|Interval|Immediate)\b/, 'ticks', /src\/(cli|peer)\//],
  [/\bconsole\./, 'the Io of the command'],
  [UNFINISHED, 'an issue, or the work itself'],
  [/@ts-(ignore|expect-error|nocheck)|\bas any\b/, 'a type'],
  [/\benum\s+\w|\bnamespace\s+\w/, 'a const object and its type'],
  [/(?:readonly |const |let |\(|, )(?:size|len|addr)[?:,) =]/, 'a name that ends in its unit'],
  [/\bexport default\b/, 'a named export'],
]

export function untidy(files: readonly SourceFile[]): string[] {
  const bad: string[] = []
  for (const { path, text } of files) {
    const lines = text.split('\n')
    const most = DECLARATIONS.test(path) ? DECLARATION_LINES_MAX : LINES_MAX
    if (lines.length > most + 1) bad.push(`${path}: ${lines.length - 1} lines, at most ${most}`)
    lines.forEach((line, i) => {
      const isComment = /^\s*(\*|\/\/|\/\*)/.test(line)
      for (const [pattern, instead, except] of BANS) {
        if (isComment && pattern !== UNFINISHED) continue
        if (pattern.test(line) && !except?.test(path))
          bad.push(`${path}:${i + 1}: use ${instead}: ${line.trim()}`)
      }
    })
  }
  return bad
}

describe('tidy', () => {
  it('the sources hold to their rules', () => {
    expect(untidy(sourcesBelow('src'))).toEqual([])
  })

  it.each([
    ['the wall clock', 'const t = Date.now()'],
    ['chance', 'const x = Math.random()'],
    ['a timer', 'setTimeout(f, 1)'],
    ['talk to the console', 'console.log(1)'],
    ['unfinished work', 'f() // TODO later'],
    ['unfinished work in a comment', ' * FIXME: the rest'],
    ['a size without a unit', 'const size = 4'],
    ['an enum', 'enum A { B }'],
    ['a file that is too long', '\n'.repeat(500)],
  ])('sees %s', (_what, text) => {
    expect(untidy([{ path: 'src/hw/planted.ts', text }])).not.toEqual([])
  })
})
