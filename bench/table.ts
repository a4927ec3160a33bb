import type { CaseResult } from './harness.ts'
import type { LogToolResult } from './log-cases.ts'

export const TABLE_COLUMNS_MAX = 100

type Align = 'left' | 'right'

/** Rows as aligned columns, two blanks apart; the last column is not padded. */
export function columns(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  align: readonly Align[],
): string[] {
  const widths = head.map((h, c) => Math.max(h.length, ...rows.map((r) => (r[c] ?? '').length)))
  return [head, ...rows].map((row) =>
    row
      .map((cell, c) => {
        const width = widths[c] ?? 0
        return align[c] === 'right' ? cell.padStart(width) : cell.padEnd(width)
      })
      .join('  ')
      .trimEnd(),
  )
}

/** Three significant digits, at most two after the point. */
export const figure = (n: number): string => (n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2))

const metText = (met: boolean | null): string => (met === null ? '' : met ? 'yes' : 'NO')

const bytesText = (b: number | null): string => (b === null ? '' : b >= 10 ? b.toFixed(0) : b.toFixed(1))

const HEAD = ['case', 'operation', 'ns/op', 'peer', 'ns/op', 'ratio (min..max)', 'goal', 'met', 'B']
const ALIGN: readonly Align[] = ['left', 'left', 'right', 'left', 'right', 'left', 'left', 'left', 'right']

export const resultTable = (results: readonly CaseResult[]): string[] =>
  columns(
    HEAD,
    results.map((r) => [
      r.id,
      r.operation,
      figure(r.ns),
      r.peer,
      figure(r.peerNs),
      `${figure(r.ratio.median)} (${figure(r.ratio.min)}..${figure(r.ratio.max)})`,
      r.goal,
      metText(r.met),
      bytesText(r.bytesPerOperation),
    ]),
    ALIGN,
  )

/** Text as lines of at most so many columns as the table has. */
export function wrapped(text: string): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > TABLE_COLUMNS_MAX) {
      lines.push(line)
      line = ''
    }
    line += line === '' ? word : ` ${word}`
  }
  return [...lines, line]
}

/** What each tool took, and below what each extracts. */
export function toolTable(tools: readonly LogToolResult[]): string[] {
  const rows = tools.map((t) => [
    t.tool,
    t.wallMs.toFixed(0),
    t.cpuMs.toFixed(0),
    t.mbPerSecond.toFixed(0),
    figure(t.mlinesPerSecond),
    t.peakMib === null ? '?' : t.peakMib.toFixed(0),
  ])
  const align: readonly Align[] = ['left', 'right', 'right', 'right', 'right', 'right']
  const head = ['process', 'wall ms', 'cpu ms', 'MB/s', 'Mlines/s', 'peak MiB']
  const words = tools.map((t) => `${t.tool}: ${t.extracts}`)
  return [...columns(head, rows, align), ...words]
}
