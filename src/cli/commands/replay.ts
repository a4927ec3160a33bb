import { IommulatorError } from '../../bits/errors.ts'
import { createReplay } from '../../machine/replay/log-replay.ts'
import { DEFAULT_QEMU, LOG_SOURCES, type LogReplay, type LogSource } from '../../machine/replay/log-source.ts'
import { replayJson, replayText } from '../../machine/replay/replay-report.ts'
import { isClean } from '../../machine/replay/result.ts'
import { DETECT_BYTES, detectLogFormat } from '../../reader/detect.ts'
import type { Command, Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import { type Input, openInput } from '../input.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import { PROFILE_NAMES } from '../profiles.ts'

const PROGRESS_MS = 200
const SILENT_MS = 1000

const MIB = 1024 * 1024

function progressLine(input: Input, replay: LogReplay, io: Io): string {
  const rate = input.bytesRead / MIB / (io.elapsedMs() / 1000)
  const part = input.totalBytes === undefined ? '' : ` of ${(input.totalBytes / MIB).toFixed(1)} MiB, `
  return `${(input.bytesRead / MIB).toFixed(1)} MiB${part || ', '}${replay.events} events, ${rate.toFixed(0)} MiB/s`
}

/** Collects the first bytes of a log until there are enough to say what it is, or no more. */
class Head {
  #pieces: Uint8Array[] = []
  #bytes = 0

  /** True once there are enough. */
  push(piece: Uint8Array): boolean {
    this.#pieces.push(piece.slice())
    this.#bytes += piece.length
    return this.#bytes >= DETECT_BYTES
  }

  take(): Uint8Array {
    return Buffer.concat(this.#pieces)
  }
}

function sourceOf(head: Uint8Array, from: string | undefined, io: Io): LogSource {
  if (from !== undefined) return LOG_SOURCES[from as keyof typeof LOG_SOURCES]
  const { format, reason } = detectLogFormat(head)
  const source = Object.values(LOG_SOURCES).find((id) => id === format.id)
  if (source === undefined) {
    const what = `the log is a ${format.title} (${reason}), which is known but cannot be replayed yet`
    throw new IommulatorError('ERR_LOG_FORMAT', what)
  }
  io.err(`${format.title}: ${reason}; read as such, as --from is not given\n`)
  return source
}

async function replay(path: string, options: Invocation['options'], io: Io): Promise<LogReplay> {
  const from = options['from'] as string | undefined
  const profile = options['profile'] as string | undefined
  const input = await openInput(path, io.stdin)
  const head = new Head()
  let running: LogReplay | undefined
  let shown = SILENT_MS
  const start = (): LogReplay => {
    const first = head.take()
    const made = createReplay({
      from: sourceOf(first, from, io),
      ...(profile === undefined ? {} : { profile }),
      source: input.name,
    })
    made.push(first)
    return made
  }
  for await (const piece of input.pieces()) {
    if (running !== undefined) running.push(piece)
    else if (head.push(piece)) running = start()
    if (running !== undefined && io.elapsedMs() > shown) {
      shown = io.elapsedMs() + PROGRESS_MS
      io.progress(progressLine(input, running, io))
    }
  }
  io.progress('')
  return running ?? start()
}

export const replayCommand: Command = {
  name: 'replay',
  summary: 'replay a log of a real machine and judge it',
  positionals: [
    { name: '<log>', doc: 'a log, plain or packed (.gz, .xz), or - for standard input', complete: 'file' },
  ],
  options: [
    {
      flags: '--from <format>',
      doc: 'what the log is; guessed where it is not said',
      choices: Object.keys(LOG_SOURCES),
    },
    {
      flags: '--profile <profile>',
      doc: `the errata of the machine that wrote it (${DEFAULT_QEMU}, or its kernel)`,
      offer: () => PROFILE_NAMES,
    },
    { flags: '--json', doc: 'print one JSON object' },
  ],
  examples: [
    ['iommulator replay boot.trace.xz', 'answers, translations, findings, and a ledger'],
    ['qemu-system-ppc64 ... 2>&1 | iommulator replay -', 'a machine that runs now'],
    ['iommulator replay kernel.answers', 'what a real kernel answered to commands'],
    ['iommulator replay boot.trace --json', 'the same as one JSON object'],
  ],
  async run({ positionals: [path = '-'], options }, io) {
    const result = (await replay(path, options, io)).end()
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
