/** Columns of a line, at most: reports are pasted into mails and bug trackers. */
export const COLUMNS = 100

/**
 * Words as lines of at most `columns`: the first begins with `head`, the others with as many blanks. A word
 * that is longer than a line stands alone.
 */
export function wrapped(head: string, text: string, columns = COLUMNS): string[] {
  const indent = ' '.repeat(head.length)
  const lines: string[] = []
  let line = head
  let isEmpty = true
  for (const word of text.split(/\s+/).filter((w) => w !== '')) {
    if (!isEmpty && line.length + 1 + word.length > columns) {
      lines.push(line)
      line = indent
      isEmpty = true
    }
    line += isEmpty ? word : ` ${word}`
    isEmpty = false
  }
  return [...lines, line.trimEnd()]
}

export interface TableOptions {
  /** Blanks before each line. */
  readonly indent?: number
  /** Columns, by index, whose text stands at the right: numbers. */
  readonly right?: readonly number[]
  readonly columns?: number
}

/** Rows as aligned text, two blanks between columns; the last column is wrapped where a line would be too long. */
export function table(rows: readonly (readonly string[])[], options: TableOptions = {}): string[] {
  const { indent = 0, right = [], columns = COLUMNS } = options
  const count = Math.max(0, ...rows.map((row) => row.length))
  const widths = Array.from({ length: count }, (_, i) =>
    Math.max(...rows.map((row) => (row[i] ?? '').length)),
  )
  return rows.flatMap((row) => {
    const cells = widths.map((width, i) => {
      const cell = row[i] ?? ''
      return right.includes(i) ? cell.padStart(width) : cell.padEnd(width)
    })
    const last = cells.pop() ?? ''
    const head = [' '.repeat(indent) + (cells[0] ?? ''), ...cells.slice(1)].join('  ')
    if (cells.length === 0) return wrapped(' '.repeat(indent), last, columns)
    return right.includes(count - 1) ? [`${head}  ${last}`.trimEnd()] : wrapped(`${head}  `, last, columns)
  })
}
