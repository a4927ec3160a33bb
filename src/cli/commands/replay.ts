import { IommulatorError } from '../../bits/errors.ts'
import { createReplay } from '../../machine/replay/log-replay.ts'
import { DEFAULT_QEMU, LOG_SOURCES, type LogReplay, type LogSource } from '../../machine/replay/log-source.ts'
import { replayJson, replayText } from '../../machine/replay/replay-report.ts'
import { isClean, type ReplayResult } from '../../machine/replay/result.ts'
import { DEFAULT_STABLE_QEMU, JoinedReplay } from '../../machine/replay/vhost/joined-replay.ts'
import { JoinedFtraceReplay } from '../../machine/replay/vtd/ftrace-replay.ts'
import { readTablesJson } from '../../machine/walk/tables-json.ts'
import { detectLogFormat } from '../../reader/detect.ts'
import { FTRACE } from '../../reader/ftrace-format.ts'
import { QEMU_TRACE } from '../../reader/qemu-trace-format.ts'
import { VHOST_LOG } from '../../reader/vhost-log-format.ts'
import type { Command, Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import type { Input } from '../input.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import { LogInput } from '../log-input.ts'
import { PROFILE_NAMES } from '../profiles.ts'

const PROGRESS_MS = 200
const SILENT_MS = 1000

const MIB = 1024 * 1024

function progressLine(input: Input, replay: { readonly events: number }, io: Io): string {
  const rate = input.bytesRead / MIB / (io.elapsedMs() / 1000)
  const part = input.totalBytes === undefined ? '' : ` of ${(input.totalBytes / MIB).toFixed(1)} MiB, `
  return `${(input.bytesRead / MIB).toFixed(1)} MiB${part || ', '}${replay.events} events, ${rate.toFixed(0)} MiB/s`
}

function sourceOf(log: LogInput, from: string | undefined, io: Io): LogSource {
  if (from !== undefined) return LOG_SOURCES[from as keyof typeof LOG_SOURCES]
  const { format, reason } = detectLogFormat(log.head)
  const source = Object.values(LOG_SOURCES).find((id) => id === format.id)
  if (source === undefined) {
    const what = `the log is a ${format.title} (${reason}): give the trace of QEMU of the same run as well`
    throw new IommulatorError('ERR_LOG_FORMAT', what)
  }
  io.err(`${format.title}: ${reason}; read as such, as --from is not given\n`)
  return source
}

async function replay(path: string, options: Invocation['options'], io: Io): Promise<LogReplay> {
  const from = options['from'] as string | undefined
  const profile = options['profile'] as string | undefined
  const log = await LogInput.open(path, io.stdin)
  if (from === undefined && isTables(log)) {
    await log.close()
    const what = `${log.input.name} is a dump of tables: give the trace of QEMU of the same run as well`
    throw new IommulatorError('ERR_LOG_FORMAT', what)
  }
  const running = createReplay({
    from: sourceOf(log, from, io),
    ...(profile === undefined ? {} : { profile }),
    source: log.input.name,
  })
  let shown = SILENT_MS
  for await (const piece of log.pieces()) {
    running.push(piece)
    if (io.elapsedMs() > shown) {
      shown = io.elapsedMs() + PROGRESS_MS
      io.progress(progressLine(log.input, running, io))
    }
  }
  io.progress('')
  return running
}

/** A second log that goes with a trace of QEMU. */
const PARTNERS = [VHOST_LOG, FTRACE] as const

/** The trace of QEMU and its partner among two logs, whichever is which. */
function pairOf(opened: readonly LogInput[]): { trace: LogInput; partner: LogInput; partnerId: string } {
  const logs = opened.map((log) => ({ log, detection: log.detect() }))
  const trace = logs.find(({ detection }) => detection.format.id === QEMU_TRACE.id)
  const partner = logs.find(({ detection }) => PARTNERS.some(({ id }) => id === detection.format.id))
  if (trace === undefined || partner === undefined) {
    const are = logs
      .map(({ log, detection }) => `${log.input.name} is a ${detection.format.title}`)
      .join(', ')
    const what =
      'two logs are the trace of QEMU, and of the same run the message log of a back end, the trace of ' +
      `the guest's kernel, or its tables; ${are}`
    throw new IommulatorError('ERR_LOG_FORMAT', what)
  }
  return { trace: trace.log, partner: partner.log, partnerId: partner.detection.format.id }
}

/** Replays the two logs of a run, in the order in which they are needed. */
async function replayPair(
  paths: readonly [string, string],
  options: Invocation['options'],
  io: Io,
): Promise<ReplayResult> {
  if (options['from'] !== undefined)
    throw new IommulatorError(
      'ERR_NUMBER',
      '--from says what one log is; two are told apart by what they hold',
    )
  const profile = options['profile'] as string | undefined
  const opened = await LogInput.openPair(paths, io.stdin)
  try {
    const tables = opened.find(isTables)
    if (tables !== undefined) {
      const trace = opened.find((log) => log !== tables) as LogInput
      return await withTables(trace, tables, profile, io)
    }
    const { trace, partner, partnerId } = pairOf(opened)
    if (partnerId === FTRACE.id) return await withKernel(trace, partner, profile, io)
    return await joined({ trace, messages: partner }, profile, io)
  } finally {
    for (const log of opened) await log.close()
  }
}

/** How a dump of tables begins: an object with pages and registers. */
const TABLES = /^\s*\{[\s\S]*?"(?:regs|pages)"\s*:\s*\{/
const TABLES_HEAD_BYTES = 4096

const isTables = ({ head }: LogInput): boolean =>
  TABLES.test(String.fromCharCode(...head.subarray(0, TABLES_HEAD_BYTES)))

/** The tables of the guest where the trace ends. */
async function withTables(
  trace: LogInput,
  dump: LogInput,
  profile: string | undefined,
  io: Io,
): Promise<ReplayResult> {
  const { format } = trace.detect()
  if (format.id !== QEMU_TRACE.id) {
    const what = `tables go with a trace of QEMU; ${trace.input.name} is a ${format.title}`
    throw new IommulatorError('ERR_LOG_FORMAT', what)
  }
  const parts: Uint8Array[] = []
  for await (const piece of dump.pieces()) parts.push(piece.slice())
  const tables = readTablesJson(dump.input.name, Buffer.concat(parts).toString('utf8'))
  const running = createReplay({
    from: 'qemu-trace',
    tables,
    source: trace.input.name,
    ...(profile !== undefined && { profile }),
  })
  for await (const piece of trace.pieces()) running.push(piece)
  io.progress('')
  return running.end()
}

/** The trace of the kernel is read first: what it says is looked for in that of QEMU. */
async function withKernel(
  trace: LogInput,
  kernel: LogInput,
  profile: string | undefined,
  io: Io,
): Promise<ReplayResult> {
  const running = new JoinedFtraceReplay({
    ...(profile !== undefined && { profile }),
    source: trace.input.name,
  })
  for await (const piece of kernel.pieces()) running.kernel(piece)
  running.endKernel()
  let shown = SILENT_MS
  for await (const piece of trace.pieces()) {
    running.trace(piece)
    if (io.elapsedMs() > shown) {
      shown = io.elapsedMs() + PROGRESS_MS
      io.progress(progressLine(trace.input, running, io))
    }
  }
  io.progress('')
  return running.end()
}

async function joined(
  { trace, messages }: { trace: LogInput; messages: LogInput },
  profile: string | undefined,
  io: Io,
): Promise<ReplayResult> {
  const running = new JoinedReplay({ ...(profile !== undefined && { profile }), source: trace.input.name })
  const from = { trace: trace.pieces(), messages: messages.pieces() }
  const hasEnded = { trace: false, messages: false }
  let shown = SILENT_MS
  while (!hasEnded.trace || !hasEnded.messages) {
    const next = running.wants
    const { done, value } = await from[next].next()
    if (done === true) {
      hasEnded[next] = true
      if (next === 'trace') running.endTrace()
      else running.endMessages()
    } else running[next](value)
    if (io.elapsedMs() > shown) {
      shown = io.elapsedMs() + PROGRESS_MS
      io.progress(progressLine(trace.input, running, io))
    }
  }
  io.progress('')
  return running.end()
}

export const replayCommand: Command = {
  name: 'replay',
  summary: 'replay a log of a real machine and judge it',
  positionals: [
    { name: '<log>', doc: 'a log, plain or packed (.gz, .xz), or - for standard input', complete: 'file' },
    {
      name: '[log2]',
      doc: "of the same run, beside the trace of QEMU, in any order: the message log of a vhost-user back end, what the guest's kernel traced of its IOMMU, or a dump of its tables at the end (`tables.json`)",
      complete: 'file',
    },
  ],
  options: [
    {
      flags: '--from <format>',
      doc: 'what the log is; guessed where it is not said',
      choices: Object.keys(LOG_SOURCES),
    },
    {
      flags: '--profile <profile>',
      doc: `the errata of the machine that wrote it (${DEFAULT_QEMU}, of two logs ${DEFAULT_STABLE_QEMU}, or its kernel)`,
      offer: () => PROFILE_NAMES,
    },
    { flags: '--json', doc: 'print one JSON object' },
  ],
  examples: [
    ['iommulator replay boot.trace.xz', 'answers, translations, findings, and a ledger'],
    ['qemu-system-ppc64 ... 2>&1 | iommulator replay -', 'a machine that runs now'],
    ['iommulator replay kernel.answers', 'what a real kernel answered to commands'],
    ['iommulator replay boot.trace boot.vhost.jsonl', 'what a vhost device did, and what it was told'],
    ['iommulator replay boot.trace boot.ftrace', 'mapped by the guest, reached by devices'],
    ['iommulator replay boot.trace --json', 'the same as one JSON object'],
  ],
  async run({ positionals: [path = '-', second], options }, io) {
    const result =
      second === undefined
        ? (await replay(path, options, io)).end()
        : await replayPair([path, second], options, io)
    if (result.log.events === 0) {
      const what =
        result.from === 'kernel-answers' ? 'a command with its answer' : 'an event that the model knows'
      const lines =
        result.log.lines === 0 ? 'it is empty' : `none of its ${result.log.lines} lines is ${what}`
      throw new IommulatorError('ERR_LOG_FORMAT', `${path}: ${lines}`)
    }
    io.out(options['json'] === true ? jsonText(replayJson(result)) : replayText(result, io.paint))
    return isClean(result) ? EXIT.CLEAN : EXIT.FINDINGS
  },
}
