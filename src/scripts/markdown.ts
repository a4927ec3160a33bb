import { COLUMNS, wrapped } from '../report/layout.ts'

const escaped = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')

/** A table, as short as it can be. */
export function grid(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(escaped).join(' | ')} |`
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n')
}

/** A table whose columns stand under one another. */
export function alignedGrid(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, ...rows].map((line) => line.map(escaped))
  const widths = head.map((_, i) => Math.max(3, ...lines.map((line) => (line[i] ?? '').length)))
  const shown = lines.map((line) => `| ${widths.map((w, i) => (line[i] ?? '').padEnd(w)).join(' | ')} |`)
  const rule = `|${widths.map((w) => '-'.repeat(w + 2)).join('|')}|`
  return [shown[0], rule, ...shown.slice(1)].join('\n')
}

/** A paragraph in lines that are not too long. */
export const paragraph = (text: string): string => wrapped('', text, COLUMNS).join('\n')

/** An item of a list in lines that are not too long. */
export const item = (text: string): string => wrapped('- ', text, COLUMNS).join('\n')

/** The address of a heading inside a page, as GitHub makes it where no heading before it is the same. */
export const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\w\- ]/g, '')
    .replaceAll(' ', '-')

/** The addresses of the headings of a page, in their order: a second one that is the same has a number. */
export function anchorsOf(headings: readonly string[]): string[] {
  const seen = new Map<string, number>()
  return headings.map((heading) => {
    const anchor = anchorOf(heading)
    const before = seen.get(anchor) ?? 0
    seen.set(anchor, before + 1)
    return before === 0 ? anchor : `${anchor}-${before}`
  })
}
