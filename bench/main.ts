/**
 * `npm run bench -- [--only PATTERN] [--quick] [--json FILE] [--against FILE] [--plot FILE]`: every case against its
 * peer, one table. Exit code 1 where a case is slower than in FILE. `--plot` draws the cases with many live entries.
 * The method is in README.md.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { GROUPS } from './cases/index.ts'
import { factLines, machineFacts } from './facts.ts'
import { Floors } from './floors.ts'
import { slowerThan } from './gate.ts'
import { type CaseResult, type HarnessOptions, runLoopCase } from './harness.ts'
import { LOG_CASE_IDS, type LogResults, runLogCases } from './log-cases.ts'
import { flatPlot, flatTable } from './plot.ts'
import { resultTable, toolTable, wrapped } from './table.ts'

const PAIRS = 5
const QUICK_PAIRS = 2

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    json: { type: 'string' },
    against: { type: 'string' },
    plot: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
})
const only = new RegExp(values.only)
const out = (line: string) => process.stdout.write(`${line}\n`)
const isTerminal = process.stderr.isTTY === true
const progress = (text: string) => process.stderr.write(isTerminal ? `\r\x1b[K${text}` : `${text}\n`)

const floors = Floors.compile()
const facts = machineFacts(floors?.compiler)
for (const line of factLines(facts)) out(line)
out('')

const pairs = values.quick ? QUICK_PAIRS : PAIRS
const options: HarnessOptions = { floors, pairs, shrink: values.quick ? 2 : 0, progress }
const loops: CaseResult[] = []
const notes: string[] = []
for (const { title, note, cases } of GROUPS) {
  const chosen = cases.filter((c) => only.test(c.id))
  for (const loop of chosen) loops.push(runLoopCase(loop, options))
  if (chosen.length > 0) notes.push(`${title}. ${note}`)
}
const log: LogResults | undefined = LOG_CASE_IDS.some((id) => only.test(id))
  ? runLogCases(options)
  : undefined
if (isTerminal) process.stderr.write('\r\x1b[K')

const results = [...loops, ...(log?.cases ?? [])]
for (const line of resultTable(results)) out(line)
if (log !== undefined) {
  const [mb, mlines] = [(log.bytes / 1e6).toFixed(0), (log.lines / 1e6).toFixed(2)]
  out(`\nWhole processes on a generated log of ${mb} MB, ${mlines} M lines:`)
  for (const line of toolTable(log.tools)) out(line)
}
for (const note of notes) {
  out('')
  for (const line of wrapped(note)) out(line)
}
if (values.json !== undefined) {
  writeFileSync(values.json, `${JSON.stringify({ facts, results, log }, null, 2)}\n`)
}
if (values.plot !== undefined) {
  writeFileSync(values.plot, flatPlot(results))
  out('')
  for (const line of flatTable(results)) out(line)
}
if (values.against !== undefined) {
  const before = JSON.parse(readFileSync(values.against, 'utf8')) as { results: CaseResult[] }
  const slower = slowerThan(before.results, results)
  out(slower.length === 0 ? `\nno case is slower than in ${values.against}` : '')
  for (const line of slower) out(line)
  if (slower.length > 0) process.exitCode = 1
}
