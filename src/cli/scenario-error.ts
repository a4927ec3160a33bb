import { IommulatorError } from '../bits/errors.ts'

/** A fault of a scenario file in its place: lines and columns count from 1. */
export interface ScenarioProblem {
  readonly line: number
  readonly column: number
  /** Keys and places that lead to it, joined with dots: `steps.3.args.tce`; empty for faults of the YAML itself. */
  readonly path: string
  readonly message: string
  /** The line of the file, and below it a mark at the fault. */
  readonly excerpt: string
}

/** Everything that is wrong with a scenario file, in the order of its lines. `where` is that of the first. */
export class ScenarioError extends IommulatorError {
  readonly file: string
  readonly problems: readonly ScenarioProblem[]

  constructor(file: string, problems: readonly ScenarioProblem[], more: boolean) {
    const [first] = problems
    const blocks = problems.map((p) => `${file}:${p.line}:${p.column}: ${p.message}\n${p.excerpt}`)
    if (more) blocks.push(`${file}: there are more errors; these are the first ${problems.length}`)
    super('ERR_SCENARIO', blocks.join('\n'), {
      file,
      line: first?.line ?? 0,
      column: first?.column ?? 0,
      path: first?.path ?? '',
    })
    this.name = 'ScenarioError'
    this.file = file
    this.problems = problems
  }
}

/** Characters that a terminal would act on: controls, changes of direction, line separators. */
const UNSAFE = /[\p{Cc}\p{Cf}\u2028\u2029]/gu

/** A message with such characters as escapes: names of a file may be in it. */
export const safeText = (text: string): string =>
  text.replaceAll(UNSAFE, (c) => `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`)

const WIDTH_CHARS = 96
const LEAD_CHARS = 60

/**
 * The line of a text that holds an offset, with a mark of `chars` characters below it. Of a long line only the part
 * around the mark is shown; characters that a terminal would act on are blanks.
 */
export function excerptAt(text: string, line: number, column: number, chars: number): string {
  const source = lineOf(text, line)
  const skipped = source.length > WIDTH_CHARS && column > LEAD_CHARS ? column - LEAD_CHARS : 0
  const rest = source.slice(skipped, skipped + WIDTH_CHARS)
  const shown = `${skipped > 0 ? '...' : ''}${rest}${skipped + rest.length < source.length ? '...' : ''}`
  const blanks = column - 1 - skipped + (skipped > 0 ? 3 : 0)
  const marks = Math.max(1, Math.min(chars, rest.length - (column - 1 - skipped)))
  const gutter = String(line).padStart(5)
  const clean = shown.replaceAll(UNSAFE, ' ').trimEnd()
  return `${gutter} | ${clean}\n${' '.repeat(gutter.length)} | ${' '.repeat(blanks)}${'^'.repeat(marks)}`
}

function lineOf(text: string, line: number): string {
  let start = 0
  for (let n = 1; n < line; n++) start = text.indexOf('\n', start) + 1
  const end = text.indexOf('\n', start)
  return text.slice(start, end === -1 ? undefined : end)
}
