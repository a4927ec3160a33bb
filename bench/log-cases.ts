import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { formatLine, type LogEvent } from '../src/reader/log-format.ts'
import { QemuTraceReader } from '../src/reader/qemu-trace-reader.ts'
import { check } from './case.ts'
import { type Floors, output, type ProcessCost, packageRoot } from './floors.ts'
import { generateLog } from './generate-log.ts'
import { type CaseResult, type HarnessOptions, spreadOf } from './harness.ts'
import { medianOf } from './stopwatch.ts'

const SEED = 20
const FULL_BYTES = 220_000_000
const QUICK_BYTES = 20_000_000
const PARSER_KIB_MAX = 64 * 1024
const PEAK_ID = 'log/columns/peak'
const PROBE_BYTES = 1 << 20
const XLATE = 'spapr_iommu_xlate'
const PUT = 'spapr_iommu_pci_put'
const MAWK_PROGRAM = `$1 == "${XLATE}" { print $2, $3, $5, $6 } $1 == "${PUT}" { print $2, $3, $4, $5 }`
/** What `--only` may choose by. */
export const LOG_CASE_IDS = ['log/columns', 'log/replay']
const HERE = fileURLToPath(new URL('.', import.meta.url))

/** One way of going through the log, as a whole process. */
interface LogTool {
  readonly id: string
  readonly extracts: string
  readonly command: string
  readonly args: (path: string) => readonly string[]
}

const TOOLS = {
  columns: {
    id: 'columns',
    extracts: 'ours: every field of every line into columns, all of it validated',
    command: process.execPath,
    args: (path) => [join(HERE, 'parse-log.js'), path],
  },
  replay: {
    id: 'replay',
    extracts: 'ours: columns, the model run by them, all answers compared, all checkers, ledger',
    command: process.execPath,
    args: (path) => [join(HERE, 'replay-log.js'), path],
  },
  command: {
    id: 'command',
    extracts: 'ours: the same as `iommulator replay LOG` does it, with its report',
    command: process.execPath,
    args: (path) => [join(HERE, '..', 'src', 'cli', 'main.js'), 'replay', path],
  },
  bare: {
    id: 'bare',
    extracts: 'ours: as replay, without checkers and ledger',
    command: process.execPath,
    args: (path) => [join(HERE, 'replay-log.js'), path, 'bare'],
  },
  mawk: {
    id: 'mawk',
    extracts: 'four fields as text of two kinds of events, printed into a pipe',
    command: 'mawk',
    args: (path) => [MAWK_PROGRAM, path],
  },
  grep: {
    id: 'grep -c',
    extracts: 'the number of lines that hold a fixed text',
    command: 'grep',
    args: (path) => ['-c', '-F', XLATE, path],
  },
} as const satisfies Record<string, LogTool>
type ToolName = keyof typeof TOOLS

export interface LogToolResult {
  readonly tool: string
  readonly extracts: string
  readonly wallMs: number
  readonly cpuMs: number
  readonly mbPerSecond: number
  readonly mlinesPerSecond: number
  readonly peakMib: number | null
}

export interface LogResults {
  readonly bytes: number
  readonly lines: number
  readonly cases: readonly CaseResult[]
  readonly tools: readonly LogToolResult[]
}

/** Whether a log begins as the generator makes it now. */
function isOfToday(path: string, bytes: number): boolean {
  const [piece] = generateLog({ seed: SEED, sizeBytes: bytes })
  if (piece === undefined) return false
  const file = openSync(path, 'r')
  const head = Buffer.alloc(piece.length)
  readSync(file, head, 0, head.length, 0)
  closeSync(file)
  return head.equals(piece)
}

/** The generated log, made once for each length. */
function logFile(bytes: number, progress: (text: string) => void): string {
  const folder = join(packageRoot(), 'build-bench')
  const path = join(folder, `generated-${bytes}-${SEED}.trace`)
  mkdirSync(folder, { recursive: true })
  if (existsSync(path) && statSync(path).size >= bytes && isOfToday(path, bytes)) return path
  progress(`generating ${Math.round(bytes / 1e6)} MB of log`)
  const file = openSync(path, 'w')
  for (const piece of generateLog({ seed: SEED, sizeBytes: bytes })) writeSync(file, piece)
  closeSync(file)
  return path
}

/** What the reader takes from the first lines, printed again, is the same text. */
function checkReader(path: string): void {
  const text = readFileSync(path).subarray(0, PROBE_BYTES)
  const whole = text.subarray(0, text.lastIndexOf(0x0a) + 1)
  let again = ''
  const reader = new QemuTraceReader({
    take(batch) {
      for (let row = 0; row < batch.count; row++) {
        const event = batch.format.events[batch.events[row] as number] as LogEvent
        again += `${formatLine(event, batch.read(row).fields as Parameters<typeof formatLine>[1])}\n`
      }
    },
  })
  reader.push(whole)
  reader.end()
  check(again === whole.toString('latin1'), 'what was read, printed again, is the log')
}

/** Without a compiler: no CPU time and no memory of others is known then. */
function runPlainly(command: string, args: readonly string[]): ProcessCost {
  const from = process.hrtime.bigint()
  const head = output(command, args)
  const wallNs = Number(process.hrtime.bigint() - from)
  return { wallNs, cpuNs: 0, peakKib: 0, outBytes: head.length, code: 0, head }
}

const runTool = (floors: Floors | undefined, { command, args }: LogTool, path: string): ProcessCost =>
  floors === undefined ? runPlainly(command, args(path)) : floors.run(command, args(path))

interface OwnReport {
  readonly ns: number
  readonly lines: number
  readonly events: number
  readonly damaged?: number
  readonly clean?: boolean
  readonly declared?: readonly { readonly name: string; readonly count: number }[]
}

const reportOf = (cost: ProcessCost): OwnReport => JSON.parse(cost.head) as OwnReport

/** All tools on one log, round by round, each round in another order. */
export function runLogCases(options: HarnessOptions): LogResults {
  const { floors, pairs, shrink, progress } = options
  const path = logFile(shrink === 0 ? FULL_BYTES : QUICK_BYTES, progress)
  const bytes = statSync(path).size
  checkReader(path)
  const names = Object.keys(TOOLS) as ToolName[]
  const costs = Object.fromEntries(names.map((n) => [n, [] as ProcessCost[]])) as Record<
    ToolName,
    ProcessCost[]
  >
  for (const name of names) runTool(floors, TOOLS[name], path)
  for (let round = 0; round < pairs; round++) {
    for (let i = 0; i < names.length; i++) {
      const name = names[(i + round) % names.length] as ToolName
      progress(`log: round ${round + 1} of ${pairs}, ${TOOLS[name].id}`)
      costs[name].push(runTool(floors, TOOLS[name], path))
    }
  }
  const parsed = reportOf(costs.columns[0] as ProcessCost)
  const replayed = reportOf(costs.replay[0] as ProcessCost)
  const found = parsed.declared?.find((d) => d.name === XLATE)?.count
  check(String(found) === (costs.grep[0] as ProcessCost).head.trim(), 'the reader counts as grep does')
  check(parsed.damaged === 0 && replayed.clean === true, 'the log is sound and its replay clean')
  const ofQuarter = quarterPeak(options)
  const cases = casesOf(costs, bytes, parsed.lines, floors === undefined ? null : ofQuarter)
  // On a short log the start of Node and its compiler is most of what is measured.
  const judged = shrink === 0 ? cases : cases.map((c) => (c.id === PEAK_ID ? c : { ...c, met: null }))
  return {
    bytes,
    lines: parsed.lines,
    cases: judged,
    tools: names.map((n) => toolResult(TOOLS[n], costs[n], bytes, parsed.lines)),
  }
}

/** Peak memory of the parser on a log of a quarter of the length: it must not depend on it. */
function quarterPeak({ floors, shrink, progress }: HarnessOptions): number {
  const path = logFile((shrink === 0 ? FULL_BYTES : QUICK_BYTES) / 4, progress)
  return runTool(floors, TOOLS.columns, path).peakKib
}

function toolResult(
  tool: LogTool,
  costs: readonly ProcessCost[],
  bytes: number,
  lines: number,
): LogToolResult {
  const wallNs = medianOf(costs.map((c) => c.wallNs))
  const peak = Math.max(...costs.map((c) => c.peakKib))
  return {
    tool: tool.id,
    extracts: tool.extracts,
    wallMs: wallNs / 1e6,
    cpuMs: medianOf(costs.map((c) => c.cpuNs)) / 1e6,
    mbPerSecond: (bytes / wallNs) * 1e3,
    mlinesPerSecond: (lines / wallNs) * 1e3,
    peakMib: peak === 0 ? null : peak / 1024,
  }
}

function casesOf(
  costs: Readonly<Record<ToolName, readonly ProcessCost[]>>,
  bytes: number,
  lines: number,
  quarterKib: number | null,
): CaseResult[] {
  const perLine = (name: ToolName) => costs[name].map((c) => c.wallNs / lines)
  const inside = (name: ToolName) => medianOf(costs[name].map((c) => reportOf(c).ns / lines))
  const against = (name: ToolName, peer: ToolName, goal: string, isMet: boolean | null): CaseResult => {
    const [own, other] = [perLine(name), perLine(peer)]
    return {
      id: `log/${name}`,
      operation: 'line, process',
      ns: medianOf(own),
      peer: TOOLS[peer].id,
      peerNs: medianOf(other),
      ratio: spreadOf(own.map((ns, i) => ns / (other[i] as number))),
      goal,
      met: isMet,
      bytesPerOperation: null,
      calibrated: null,
    }
  }
  const judged = (name: ToolName, peer: ToolName, most: number): CaseResult => {
    const result = against(name, peer, `<=${most}x`, null)
    return { ...result, met: result.ratio.median <= most }
  }
  const parseNs = inside('columns')
  const replayNs = inside('replay')
  const megabytes = (bytes / lines / parseNs) * 1e3
  const peakKib = Math.max(...costs.columns.map((c) => c.peakKib))
  /** Without the start of Node, the engine's included: what a log of any length comes to. */
  const withoutStart = (name: ToolName, goal: string, isMet: boolean): CaseResult => {
    const ratios = costs[name].map((c) => reportOf(c).ns / c.wallNs)
    const whole = medianOf(perLine(name))
    const row = against(name, name, goal, isMet)
    const figures = { ns: inside(name), peer: 'process', peerNs: whole, ratio: spreadOf(ratios) }
    return { ...row, id: `log/${name}/inside`, operation: 'line, inside', ...figures }
  }
  const memory: CaseResult = {
    ...against('columns', 'columns', '<=64 MiB', peakKib <= PARSER_KIB_MAX),
    id: PEAK_ID,
    operation: 'MiB at most',
    ns: peakKib / 1024,
    peer: '1/4 log',
    peerNs: (quarterKib ?? 0) / 1024,
    ratio: spreadOf([peakKib / (quarterKib ?? peakKib)]),
  }
  return [
    judged('columns', 'mawk', 1),
    { ...against('columns', 'grep', '', null), id: 'log/columns/grep' },
    withoutStart('columns', '>=300 MB/s', megabytes >= 300),
    ...(quarterKib === null ? [] : [memory]),
    against('replay', 'mawk', '', null),
    withoutStart('replay', '>=2 M/s', 1e3 / replayNs >= 2),
    { ...against('replay', 'bare', '', null), id: 'log/replay/bare' },
    against('command', 'replay', '', null),
  ]
}
