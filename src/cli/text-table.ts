/** Columns of a line, at most. */
export const COLUMNS = 100

/** Words broken into lines of at most 100 columns, each behind an indent. */
export function wrap(text: string, indent: number, columns = COLUMNS): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(/\s+/).filter((w) => w !== '')) {
    if (line !== '' && indent + line.length + 1 + word.length > columns) {
      lines.push(' '.repeat(indent) + line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return line === '' && lines.length > 0 ? lines : [...lines, ' '.repeat(indent) + line]
}

/** Rows as aligned text; the last column is wrapped so that no line passes 100 columns. */
export function table(rows: readonly (readonly string[])[], columns = COLUMNS): string[] {
  const count = Math.max(0, ...rows.map((r) => r.length))
  const widths = Array.from({ length: count - 1 }, (_, i) =>
    Math.max(...rows.map((r) => (r[i] ?? '').length)),
  )
  const indent = widths.reduce((n, w) => n + w + 2, 0)
  return rows.flatMap((row) => {
    const head = widths.map((w, i) => (row[i] ?? '').padEnd(w)).join('  ')
    const [first = '', ...more] = wrap(row[count - 1] ?? '', 0, Math.max(20, columns - indent))
    return [
      `${widths.length === 0 ? '' : `${head}  `}${first}`.trimEnd(),
      ...more.map((l) => ' '.repeat(indent) + l),
    ]
  })
}
