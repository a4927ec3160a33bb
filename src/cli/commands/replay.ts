import { IommulatorError } from '../../bits/errors.ts'
import { createReplay, LOG_SOURCES, type LogReplay, type LogSource } from '../../machine/replay/log-replay.ts'
import { replayJson, replayText } from '../../machine/replay/replay-report.ts'
import { isClean } from '../../machine/replay/result.ts'
import { detectLog } from '../../reader/detect.ts'
import type { Command } from '../command.ts'
import { EXIT } from '../exit.ts'
import { openInput } from '../input.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import { PROFILE_NAMES } from '../profiles.ts'

const DETECT_BYTES = 64 * 1024
const PROGRESS_MS = 200

const MIB = 1024 * 1024

function progressLine(bytes: number, replay: LogReplay, io: Io): string {
  const seconds = io.elapsedMs() / 1000
  const rate = seconds === 0 ? 0 : bytes / MIB / seconds
  return `${(bytes / MIB).toFixed(0)} MiB, ${replay.events} events, ${rate.toFixed(0)} MiB/s`
}

/** Collects the first bytes of a stream until there are enough to say what it is, or no more. */
class Head {
  #pieces: Uint8Array[] = []
  #bytes = 0

  push(piece: Uint8Array): boolean {
    this.#pieces.push(piece.slice())
    this.#bytes += piece.length
    return this.#bytes >= DETECT_BYTES
  }

  take(): Uint8Array {
    const all = new Uint8Array(this.#bytes)
    let at = 0
    for (const piece of this.#pieces) {
      all.set(piece, at)
      at += piece.length
    }
    this.#pieces = []
    return all
  }
}

function sourceOf(head: Uint8Array, from: string | undefined, io: Io): LogSource {
  if (from !== undefined) return from as LogSource
  const found = detectLog(head)
  io.err(`format: ${found.format.title} (${found.because}); --from overrides\n`)
  return found.format.id as LogSource
}

async function replay(path: string, options: Readonly<Record<string, unknown>>, io: Io): Promise<LogReplay> {
  const from = options['from'] as string | undefined
  const profile = (options['profile'] as string | undefined) ?? 'qemu-7.2'
  const head = new Head()
  let running: LogReplay | undefined
  let bytes = 0
  let shown = 0
  const start = (first: Uint8Array): LogReplay => {
    const made = createReplay({ from: sourceOf(first, from, io), profile, source: path })
    made.push(first)
    return made
  }
  for await (const piece of openInput(path, io.stdin)) {
    bytes += piece.length
    if (running === undefined) {
      if (head.push(piece)) running = start(head.take())
    } else running.push(piece)
    if (running !== undefined && io.elapsedMs() - shown > PROGRESS_MS) {
      shown = io.elapsedMs()
      if (shown > 1000) io.progress(progressLine(bytes, running, io))
    }
  }
  io.progress('')
  return running ?? start(head.take())
}

export const replayCommand: Command = {
  name: 'replay',
  summary: 'replay a log of a real machine and judge it',
  positionals: [
    { name: '<log>', doc: 'a log, plain or packed (.gz, .xz), or - for standard input', complete: 'file' },
  ],
  options: [
    { flags: '--from <format>', doc: 'what the log is; guessed where it is not said', choices: LOG_SOURCES },
    {
      flags: '--profile <profile>',
      doc: 'the errata of the machine that wrote it (qemu-7.2)',
      offer: () => PROFILE_NAMES,
    },
    { flags: '--json', doc: 'print one JSON object' },
  ],
  examples: [
    ['iommulator replay boot.trace.xz', 'answers, translations, findings, and a ledger'],
    ['qemu-system-ppc64 ... 2>&1 | iommulator replay -', 'a machine that runs now'],
    ['iommulator replay boot.trace --json', 'the same as one JSON object'],
  ],
  async run({ positionals: [path = '-'], options }, io) {
    const result = (await replay(path, options, io)).end()
    if (result.log.events === 0) {
      throw new IommulatorError(
        'ERR_LOG_FORMAT',
        `${path}: ${result.log.lines} lines, and none of them is an event that the model knows`,
        { file: path },
      )
    }
    io.out(options['json'] === true ? jsonText(replayJson(result)) : replayText(result, io.paint))
    return isClean(result) ? EXIT.CLEAN : EXIT.FINDINGS
  },
}
