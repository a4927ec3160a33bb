import { hex } from '../../bits/u64.ts'
import { counted } from '../../check/words.ts'
import { wrapped } from '../layout.ts'
import { type Paint, PLAIN } from '../text.ts'
import type { AddressRange, AddressRanges } from './address-ranges.ts'
import type { Explanation } from './explainer.ts'
import type { Because, FaultGroup } from './fault-log.ts'

/** Columns of a line: such texts are pasted into mails, which wrap at 80. */
export const EXPLAIN_COLUMNS = 80
const RANGES_SHOWN = 6
const PAGE_MASK = 0xfffn
const MICROSECONDS = 1_000_000
const NOTES_SHOWN = 12

const secondsText = (us: number): string => (us / MICROSECONDS).toFixed(6)

const rangeText = ({ first, last }: AddressRange): string => {
  if (first === last) return hex(first)
  const isPages = (first & PAGE_MASK) === 0n && (last & PAGE_MASK) === 0n
  return `${hex(first)}-${hex(isPages ? last | PAGE_MASK : last)}`
}

/** Addresses of a group: runs of pages as one, and few of many. */
export function addressesText({ ranges, isOneRun }: AddressRanges): string {
  if (isOneRun) return `many, between ${rangeText(ranges[0] as AddressRange)}`
  const shown = ranges.slice(0, RANGES_SHOWN).map(rangeText).join(', ')
  const more = ranges.length - RANGES_SHOWN
  return more > 0 ? `${shown}, and ${more} more places` : shown
}

function whenText({ times, firstLine, lastLine, firstUs, lastUs }: FaultGroup): string {
  const lines = times === 1 ? `line ${firstLine}` : `lines ${firstLine} to ${lastLine}`
  if (firstUs < 0) return lines
  const seconds =
    times === 1 || lastUs < 0
      ? `${secondsText(firstUs)} s`
      : `${secondsText(firstUs)} to ${secondsText(lastUs)} s`
  return `${lines}, ${seconds}`
}

const becauseText = ({ line, text }: Because): string => (line === 0 ? text : `line ${line}: ${text}`)

/** How a text is shown. */
export interface ExplainOptions {
  readonly paint?: Paint
  /** What is done to each text before it is broken into lines. */
  readonly redact?: (text: string) => string
}

const asItIs = (text: string): string => text

const CUT = '...'

/** Lines of a text. What has no blank and is longer than a line, as an option of a command line may be, is cut. */
function fitted(head: string, text: string): string[] {
  const room = EXPLAIN_COLUMNS - head.length
  const words = text
    .split(/\s+/)
    .map((word) => (word.length > room ? `${word.slice(0, room - CUT.length)}${CUT}` : word))
  return wrapped(head, words.join(' '), EXPLAIN_COLUMNS)
}

/** One group of faults; `number` stands before it. */
export function groupText(group: FaultGroup, number: number, options: ExplainOptions = {}): string[] {
  const { paint = PLAIN, redact = asItIs } = options
  const { words, times, addresses, because, about } = group
  const head = `${number}  `
  const often = times === 1 ? 'once' : `${times} times`
  const [first = '', ...more] = fitted(head, redact(`${words.title}, ${often}`))
  const rows: [label: string, text: string, bullet?: string][] = [['when', whenText(group)]]
  if (addresses.ranges.length > 0) rows.push(['address', addressesText(addresses)])
  for (const [label, text] of words.rows) rows.push([label, text])
  because.forEach((reason, i) => {
    rows.push([i === 0 ? 'because' : '', becauseText(reason)])
  })
  about.forEach((known, i) => {
    rows.push([i === 0 ? 'known' : '', becauseText(known)])
  })
  words.checks.forEach((check, i) => {
    rows.push([i === 0 ? 'check next' : '', check, `${i + 1}. `])
  })
  const width = Math.max(...rows.map(([label]) => label.length))
  return [
    paint.bold(first),
    ...more,
    ...rows.flatMap(([label, text, bullet = '']) =>
      fitted(`${' '.repeat(head.length)}${label.padEnd(width)}  ${bullet}`, redact(text)),
    ),
  ]
}

const DECODED_ONLY = 'no model of it: decoded only'

/** Families of which faults are told, but which the model does not know. */
function decodedOnly({ families, faults }: Explanation): string[] {
  const told = new Set(faults.groups.map(({ family }) => family))
  return families
    .filter(({ id, isModelled }) => told.has(id) && !isModelled)
    .map(({ title }) => `${title}: ${DECODED_ONLY}`)
}

function notesOf(explanation: Explanation): string[] {
  const { log, faults, families } = explanation
  const titleOf = (id: string): string => families.find((family) => family.id === id)?.title ?? id
  const notes = faults.notes.map(({ firstLine, times, text }) =>
    firstLine === 0 ? text : `line ${firstLine}${times === 1 ? '' : ` (${times} times)`}: ${text}`,
  )
  const more = notes.length - NOTES_SHOWN
  return [
    ...faults.suppressed.map(
      ({ family, lines, line, meaning }) =>
        `${counted(lines, 'message')} of ${titleOf(family)} suppressed, because there were too many (last said in line ${line})${meaning === '' ? '' : `; ${meaning}`}: every count here is at least that`,
    ),
    ...notes.slice(0, NOTES_SHOWN),
    ...(more > 0 ? [`and ${counted(more, 'note')} more`] : []),
    ...(faults.overflowed > 0
      ? [`${counted(faults.overflowed, 'fault')} of more kinds than are kept: only counted`]
      : []),
    ...(log.repeated > 0
      ? [`${counted(log.repeated, 'line')} stand in the log twice, with the same time: counted once`]
      : []),
    ...(log.tooLong > 0 ? [`${counted(log.tooLong, 'line')} too long to be read`] : []),
    ...log.unexplained.map(
      ({ family, lines, firstLine, example }) =>
        `${counted(lines, 'line')} of ${titleOf(family)} with no template here, line ${firstLine} first: "${example}"`,
    ),
    ...decodedOnly(explanation),
  ]
}

/** Groups by their first lines; a fault of several lines comes to light when the last of them has come. */
export const inOrder = (groups: readonly FaultGroup[]): readonly FaultGroup[] =>
  [...groups].sort((a, b) => a.firstLine - b.firstLine)

const listed = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : ['', title, ...lines.flatMap((line) => fitted('  ', line))]

/**
 * What a log says, for people and bug reports: at most 80 columns.
 *
 * @example process.stdout.write(explainText(explainer.end()))
 */
export function explainText(explanation: Explanation, options: ExplainOptions = {}): string {
  const { paint = PLAIN, redact = asItIs } = options
  const { log, faults } = explanation
  const groups = inOrder(faults.groups)
  // Faults of kinds that are not kept were counted.
  const total = groups.reduce((sum, { times }) => sum + times, faults.overflowed)
  const kinds = counted(groups.length, 'kind of fault', 'kinds of faults')
  const sum = `${kinds}${faults.overflowed > 0 ? ' and more' : ''}, ${total} in all`
  const lines = groups.flatMap((group, i) => [...groupText(group, i + 1, options), ''])
  const machine = faults.facts.map(({ line, text }) => `line ${line}: ${text}`)
  const found = groups.length === 0 ? paint.green('no fault') : paint.red(sum)
  const read = `${counted(log.lines, 'line')}, ${log.understood} understood, ${log.unknown} not`
  return `${[
    ...lines,
    `${found};${sum.length + 2 + read.length > EXPLAIN_COLUMNS ? '\n  ' : ' '}${read}`,
    ...listed('machine', machine.map(redact)),
    ...listed('notes', notesOf(explanation).map(redact)),
  ].join('\n')}\n`
}
