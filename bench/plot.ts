import type { CaseResult } from './harness.ts'
import { figure } from './table.ts'

/** One line of a chart: cases of one kind, ours or their peers. */
interface Line {
  readonly where: string
  readonly isOurs: boolean
}

const PANELS = [
  ['map', 'unmap + map, with records'],
  ['hit', 'DMA, TCE cache hit'],
  ['miss', 'DMA, TCE cache miss'],
] as const
const LINES: readonly Line[] = [
  { where: 'few', isOurs: true },
  { where: 'all', isOurs: true },
  { where: 'few', isOurs: false },
  { where: 'all', isOurs: false },
]
/** log10 of the ends of both axes: live entries, nanoseconds. */
const [X_MIN, X_MAX, Y_MIN, Y_MAX] = [3, 7, 0, 4]
const Y_WORDS = ['1 ns', '10 ns', '100 ns', '1 µs', '10 µs']
const UPPER = ['³', '⁴', '⁵', '⁶', '⁷']

const [PANEL_WIDTH, PANEL_HEIGHT, GAP] = [196, 200, 28]
const [LEFT, TOP] = [58, 52]
const WIDTH = LEFT + PANELS.length * (PANEL_WIDTH + GAP)
const HEIGHT = TOP + PANEL_HEIGHT + 74

const STYLE = `
    .back { fill: #ffffff } .text { fill: #1f2328; font: 12px sans-serif } .head { font-weight: 600 }
    .grid { stroke: #d1d9e0; stroke-width: 1 } .line { fill: none; stroke-width: 2 } .all { stroke-dasharray: 5 4 }
    .ours { stroke: #0969da } .c { stroke: #6e7781 } .dot { stroke: none } .dot.ours { fill: #0969da } .dot.c { fill: #6e7781 }
    @media (prefers-color-scheme: dark) {
      .back { fill: #0d1117 } .text { fill: #e6edf3 } .grid { stroke: #30363d }
      .ours { stroke: #58a6ff } .c { stroke: #9198a1 } .dot.ours { fill: #58a6ff } .dot.c { fill: #9198a1 }
    }`

const xOf = (power: number): number => ((power - X_MIN) / (X_MAX - X_MIN)) * PANEL_WIDTH
const yOf = (ns: number): number =>
  TOP + PANEL_HEIGHT - ((Math.log10(ns) - Y_MIN) / (Y_MAX - Y_MIN)) * PANEL_HEIGHT
const at = (n: number): string => n.toFixed(1)
const classOf = ({ where, isOurs }: Line): string => `${isOurs ? 'ours' : 'c'} ${where}`

const text = (x: number, y: number, words: string, anchor = 'middle', more = ''): string =>
  `<text class="text${more}" x="${at(x)}" y="${at(y)}" text-anchor="${anchor}">${words}</text>`

function gridOf(left: number): string[] {
  const rows = Y_WORDS.map((_, i) => {
    const y = at(yOf(10 ** (Y_MIN + i)))
    return `<line class="grid" x1="${left}" x2="${left + PANEL_WIDTH}" y1="${y}" y2="${y}"/>`
  })
  const words = UPPER.map((upper, i) => text(left + xOf(X_MIN + i), TOP + PANEL_HEIGHT + 18, `10${upper}`))
  return [...rows, ...words]
}

function lineOf(results: readonly CaseResult[], what: string, line: Line, left: number): string[] {
  const points: (readonly [x: number, y: number])[] = []
  for (let power = X_MIN; power <= X_MAX; power++) {
    const found = results.find((r) => r.id === `flat/${what}/${line.where}/10^${power}`)
    if (found !== undefined) points.push([left + xOf(power), yOf(line.isOurs ? found.ns : found.peerNs)])
  }
  const path = points.map(([x, y]) => `${at(x)},${at(y)}`).join(' ')
  const dots = points.map(
    ([x, y]) => `<circle class="dot ${line.isOurs ? 'ours' : 'c'}" cx="${at(x)}" cy="${at(y)}" r="2.5"/>`,
  )
  return [`<polyline class="line ${classOf(line)}" points="${path}"/>`, ...dots]
}

function legend(): string[] {
  const y = HEIGHT - 14
  const words = ['ours, 512 entries', 'ours, any entry', 'C, 512 entries', 'C, any entry']
  return LINES.flatMap((line, i) => {
    const x = LEFT + i * 165
    const sample = `<line class="line ${classOf(line)}" x1="${x}" x2="${x + 28}" y1="${y - 4}" y2="${y - 4}"/>`
    return [sample, text(x + 34, y, words[i] as string, 'start')]
  })
}

/** How the cost of an operation goes with the live entries, as a picture for light and dark pages. */
export function flatPlot(results: readonly CaseResult[]): string {
  const parts = PANELS.flatMap(([what, title], i) => {
    const left = LEFT + i * (PANEL_WIDTH + GAP)
    return [
      text(left + PANEL_WIDTH / 2, TOP - 14, title, 'middle', ' head'),
      ...gridOf(left),
      ...LINES.flatMap((line) => lineOf(results, what, line, left)),
    ]
  })
  const words = Y_WORDS.map((word, i) => text(LEFT - 8, yOf(10 ** (Y_MIN + i)) + 4, word, 'end'))
  const axis = text(LEFT + (WIDTH - LEFT - GAP) / 2, TOP + PANEL_HEIGHT + 38, 'live entries')
  const title = 'Cost of an operation over a thousand to ten million live entries'
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="${title}">`,
    `<style>${STYLE}\n</style>`,
    `<rect class="back" width="${WIDTH}" height="${HEIGHT}"/>`,
    text(LEFT, 20, title, 'start', ' head'),
    ...words,
    ...parts,
    axis,
    ...legend(),
    '</svg>',
    '',
  ].join('\n')
}

/** The same as a table in Markdown: nanoseconds of ours, of C, and the median of their ratios. */
export function flatTable(results: readonly CaseResult[]): string[] {
  const powers = Array.from({ length: X_MAX - X_MIN + 1 }, (_, i) => X_MIN + i)
  const cell = (what: string, where: string, power: number): string => {
    const found = results.find((r) => r.id === `flat/${what}/${where}/10^${power}`)
    if (found === undefined) return ''
    return `${figure(found.ns)} / ${figure(found.peerNs)} = ${figure(found.ratio.median)}`
  }
  const rows = PANELS.flatMap(([what, title]) =>
    ['few', 'all'].map((where) => {
      const name = `${title}, ${where === 'few' ? '512 entries' : 'any entry'}`
      return `| ${[name, ...powers.map((p) => cell(what, where, p))].join(' | ')} |`
    }),
  )
  const head = ['ns: ours / C = ratio', ...powers.map((p) => `10^${p}`)]
  return [`| ${head.join(' | ')} |`, `|${head.map(() => '---').join('|')}|`, ...rows]
}
