/**
 * `npm run bench:explain -- [LINES]` (10^7): explains a generated log of so many lines in one process, and prints what
 * that took. Exit code 1 where memory grew beyond its bound: it does not depend on the length of a log.
 */
import { createLogExplainer } from '../src/machine/explain.ts'
import { explainText } from '../src/report/explain/explain-text.ts'
import { factLines, machineFacts } from './facts.ts'
import { generateKernelLog } from './generate-kernel-log.ts'

const SEED = 23
const OTHER_EVERY = 10
/** Node itself takes some 60 MiB, and its collector as much again before it works. */
const PEAK_MIB_MAX = 256
const KIB = 1024
const MICROSECONDS = 1e6

const lines = Number(process.argv[2] ?? 1e7)
const out = (line: string) => process.stdout.write(`${line}\n`)
for (const line of factLines(machineFacts(undefined))) out(line)

const explainer = createLogExplainer()
let cpuUs = 0
let bytes = 0
for (const piece of generateKernelLog({ seed: SEED, lines, otherEvery: OTHER_EVERY })) {
  bytes += piece.length
  const before = process.cpuUsage()
  explainer.push(piece)
  const { user, system } = process.cpuUsage(before)
  cpuUs += user + system
}
const text = explainText(explainer.end())
const peakMib = process.resourceUsage().maxRSS / KIB
const seconds = cpuUs / MICROSECONDS
out('')
out(text.split('\n').find((line) => line.includes('in all')) ?? '')
out(`${lines} lines, ${(bytes / 1e6).toFixed(0)} MB`)
out(`${seconds.toFixed(1)} s of processor time, ${(lines / seconds / 1e6).toFixed(2)} M lines/s`)
out(`peak ${peakMib.toFixed(0)} MiB, at most ${PEAK_MIB_MAX}`)
if (peakMib > PEAK_MIB_MAX) process.exitCode = 1
