import { setTimeout as wait } from 'node:timers/promises'
import { IommulatorError } from '../../bits/errors.ts'
import { createLogExplainer } from '../../machine/explain.ts'
import { CAUSE_FORMATS, createTraceCauses } from '../../machine/explain-trace.ts'
import { explainJson } from '../../report/explain/explain-json.ts'
import { type ExplainOptions, explainText, groupText } from '../../report/explain/explain-text.ts'
import type { Explanation, LogExplainer } from '../../report/explain/explainer.ts'
import { Redactor } from '../../report/explain/redactor.ts'
import type { Command, Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import { GrowingFile } from '../growing-file.ts'
import { openInput, packingOf } from '../input.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import { LogInput } from '../log-input.ts'
import { LogText } from '../log-text.ts'

/** How often a growing file is looked at. */
const LOOK_MS = 100
const PROGRESS_MS = 500

/** Says each kind of fault when it comes first, while a log grows. */
class NewFaults {
  #told = 0
  readonly #explainer: LogExplainer
  readonly #io: Io
  readonly #redactor: Redactor | undefined

  constructor(explainer: LogExplainer, redactor: Redactor | undefined, io: Io) {
    this.#explainer = explainer
    this.#redactor = redactor
    this.#io = io
  }

  tell(): void {
    const { groups } = this.#explainer.faults
    this.#redactor?.hide(this.#explainer.explanation.hosts)
    while (this.#told < groups.length) {
      const group = groups[this.#told++]
      if (group === undefined) return
      const options = optionsOf(this.#redactor, this.#io)
      this.#io.out(`${groupText(group, this.#told, options).join('\n')}\n\n`)
    }
  }
}

const optionsOf = (redactor: Redactor | undefined, io: Io): ExplainOptions => ({
  paint: io.paint,
  ...(redactor !== undefined && { redact: (text: string) => redactor.text(text) }),
})

/** What is pushed into an explainer, if it is a log. */
class LogPieces {
  readonly #text: LogText
  readonly #explainer: LogExplainer

  constructor(name: string, explainer: LogExplainer) {
    this.#text = new LogText(name)
    this.#explainer = explainer
  }

  push(piece: Uint8Array): void {
    this.#explainer.push(this.#text.utf8(piece))
    this.#judge('more')
  }

  /** No more comes for now. */
  idle(): void {
    this.#judge('idle')
  }

  #judge(state: 'more' | 'idle'): void {
    this.#text.judge(() => this.#explainer.explanation.log.understood, state)
  }

  get lines(): number {
    return this.#explainer.explanation.log.lines
  }

  end(): Explanation {
    this.#explainer.push(this.#text.rest())
    const explanation = this.#explainer.end()
    this.#text.judge(() => explanation.log.understood, 'end')
    return explanation
  }
}

/** A packed file does not grow line by line. @throws IommulatorError ERR_INPUT */
function refusePacked(path: string, first: Uint8Array): void {
  const packing = packingOf(first)
  if (packing === 'plain') return
  const what =
    packing === 'gzip' || packing === 'xz'
      ? `packed by ${packing}, and does not grow line by line: leave --follow out`
      : packing
  throw new IommulatorError('ERR_INPUT', `cannot follow ${path}: it is ${what}`, { file: path })
}

/** Reads a file that grows until it is interrupted, or standard input until it ends. */
async function follow(path: string, log: LogPieces, tell: () => void, io: Io): Promise<void> {
  let isOver = false
  const restore = io.onInterrupt(() => {
    isOver = true
  })
  try {
    if (path === '-') {
      for await (const piece of (await openInput(path, io.stdin)).pieces()) {
        log.push(piece)
        tell()
        if (isOver) return
      }
      return
    }
    const file = new GrowingFile(path)
    let isFirst = true
    try {
      while (!isOver) {
        const isMore = file.read((bytes) => {
          if (isFirst) refusePacked(path, bytes)
          isFirst = false
          log.push(bytes)
        })
        tell()
        if (isMore) continue
        log.idle()
        await wait(LOOK_MS)
      }
    } finally {
      file.close()
    }
  } finally {
    restore()
  }
}

async function readAll(path: string, log: LogPieces, io: Io): Promise<void> {
  const input = await openInput(path, io.stdin)
  let shown = PROGRESS_MS
  for await (const piece of input.pieces()) {
    log.push(piece)
    if (io.elapsedMs() <= shown) continue
    shown = io.elapsedMs() + PROGRESS_MS
    io.progress(`${input.name}: ${log.lines} lines`)
  }
  io.progress('')
}

/** Adds what a trace of the same boot shows of each fault. */
async function addTrace(path: string, { faults }: Explanation, io: Io): Promise<void> {
  const trace = await LogInput.open(path, io.stdin)
  try {
    const { format } = trace.detect()
    if (!CAUSE_FORMATS.includes(format.id)) {
      const what = `--trace takes a trace of QEMU with vtd_* events, or of the kernel (ftrace); ${trace.input.name} is a ${format.title}`
      throw new IommulatorError('ERR_LOG_FORMAT', what)
    }
    const causes = createTraceCauses(format.id, faults)
    for await (const piece of trace.pieces()) causes.push(piece)
    causes.end()
  } finally {
    await trace.close()
  }
}

function print(
  explanation: Explanation,
  redactor: Redactor | undefined,
  { options }: Invocation,
  io: Io,
): void {
  redactor?.hide(explanation.hosts)
  if (options['json'] === true) {
    const json = explainJson(explanation)
    io.out(jsonText(redactor === undefined ? json : (redactor.json(json) as object)))
  } else io.out(explainText(explanation, optionsOf(redactor, io)))
}

export const explainCommand: Command = {
  name: 'explain',
  summary: 'say in words what the faults in a kernel log mean',
  positionals: [
    {
      name: '[log]',
      doc: 'dmesg, the journal (also -o json), a serial console, or stderr of QEMU, plain or packed (.gz, .xz); standard input where it is left out, or -',
      complete: 'file',
    },
  ],
  options: [
    { flags: '--json', doc: 'print one JSON object' },
    {
      flags: '--redact',
      doc: 'replace addresses, serial numbers and names of hosts by pseudonyms; devices stay',
    },
    {
      flags: '--trace <file>',
      doc: 'a trace of the same boot, of QEMU (-trace vtd_*) or of the kernel (events iommu): what led to each fault',
    },
    {
      flags: '--follow',
      doc: 'read on while the log grows, and say each new kind of fault at once; ends with the whole at an interruption',
    },
  ],
  examples: [
    ['dmesg | iommulator explain', 'the machine that you sit at'],
    ['iommulator explain boot.txt', 'each kind of fault: what failed, why, what next'],
    ['iommulator explain boot.txt --trace boot.trace', 'and what the trace of the boot shows'],
    ['journalctl -k -o json | iommulator explain --json', 'as one JSON object'],
    ['iommulator explain --redact dmesg.txt', 'to be pasted into a bug report'],
    ['dmesg -w | iommulator explain --follow', 'as they come'],
  ],
  async run(call, io) {
    const path = call.positionals[0] ?? '-'
    if (path === '-' && io.stdin.isTTY === true)
      io.err('reading standard input; dmesg | iommulator explain, or name a log\n')
    const explainer = createLogExplainer()
    const { options } = call
    const redactor = options['redact'] === true ? new Redactor() : undefined
    const log = new LogPieces(path === '-' ? 'standard input' : path, explainer)
    if (options['follow'] === true) {
      const faults = new NewFaults(explainer, redactor, io)
      const tell = options['json'] === true ? () => undefined : () => faults.tell()
      await follow(path, log, tell, io)
    } else await readAll(path, log, io)
    const explanation = log.end()
    const trace = options['trace']
    if (typeof trace === 'string') {
      if (trace === '-' && path === '-')
        throw new IommulatorError('ERR_INPUT', 'standard input is one file: name the log, or the trace')
      await addTrace(trace, explanation, io)
    }
    print(explanation, redactor, call, io)
    return explanation.faults.groups.length > 0 ? EXIT.FINDINGS : EXIT.CLEAN
  },
}
