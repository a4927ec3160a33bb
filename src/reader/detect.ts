import { IommulatorError } from '../bits/errors.ts'
import { FTRACE } from './ftrace-format.ts'
import { FtraceReader } from './ftrace-reader.ts'
import { KERNEL_ANSWERS } from './kernel-answers-format.ts'
import { KernelAnswersReader } from './kernel-answers-reader.ts'
import type { LogFormat } from './log-format.ts'
import { QEMU_TRACE } from './qemu-trace-format.ts'
import { QemuTraceReader } from './qemu-trace-reader.ts'
import { VHOST_LOG } from './vhost-log-format.ts'
import { VhostLogReader } from './vhost-log-reader.ts'

/** How much of a log `detectLogFormat` wants to see; less is fine where the log ends earlier. */
export const DETECT_BYTES = 256 * 1024

/** Log formats whose lines are events. A transcript of kernel answers is one of commands (`AGENT_COMMANDS`). */
export const LOG_FORMATS = [QEMU_TRACE, FTRACE] as const

export interface Detection {
  /** A format that is known; whether a log of it can be replayed is another question. */
  readonly format: Pick<LogFormat, 'id' | 'title' | 'source'>
  /** Why, in words, for a note on stderr. */
  readonly reason: string
}

/** Binary inputs that people take for logs: how they begin, and what to do about them. */
const NO_LOGS: readonly (readonly [start: readonly number[], what: string])[] = [
  [[0xff, 0xfe], 'it is UTF-16 text: save it as UTF-8'],
  [[0xfe, 0xff], 'it is UTF-16 text: save it as UTF-8'],
  [
    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    "it is a binary trace of QEMU's simple back end: record it again with the log back end (-trace EVENTS -D FILE)",
  ],
]

/** How sure a format is, why, and what speaks against it. */
interface Trial {
  /** A declared line stands in the log. */
  readonly certain?: string
  /** The log looks so. */
  readonly likely?: string
  readonly against?: string
}

function tryKernelAnswers(head: Uint8Array): Trial {
  const reader = new KernelAnswersReader({ take: () => undefined }, { damagedKept: 1 })
  reader.push(head)
  const { lines, declared } = reader.end()
  const first = declared[0]
  if (first !== undefined)
    return { certain: `line ${first.firstLine} is the command ${first.name} with its answer` }
  return { against: `none of the first ${lines} lines is a command with its answer` }
}

function tryVhostMessages(head: Uint8Array): Trial {
  const reader = new VhostLogReader({ take: () => undefined }, { damagedKept: 1 })
  reader.push(head)
  const { lines, declared } = reader.end()
  const first = declared[0]
  if (first !== undefined) return { certain: `line ${first.firstLine} is the message ${first.name}` }
  return { against: `none of the first ${lines} lines is a message` }
}

function tryFtrace(head: Uint8Array): Trial {
  const reader = new FtraceReader({ take: () => undefined }, { damagedKept: 1 })
  reader.push(head)
  const { lines, declared } = reader.end()
  const first = declared[0]
  if (first !== undefined) return { certain: `line ${first.firstLine} is a ${first.name}` }
  return {
    against: `none of the first ${lines} lines has an event that it knows behind a task, CPU and time`,
  }
}

function tryQemuTrace(head: Uint8Array): Trial {
  const reader = new QemuTraceReader({ take: () => undefined }, { damagedKept: 1 })
  reader.push(head)
  const { lines, empty, declared, unknown, damaged } = reader.end()
  const first = declared[0]
  if (first !== undefined) return { certain: `line ${first.firstLine} is a ${first.name}` }
  const named = unknown.filter(({ name }) => name.includes('_'))
  const count = named.reduce((n, c) => n + c.count, 0)
  if (count * 2 > lines - empty) {
    return {
      likely: `its lines begin with event names, though none of the first ${lines} is one that is modelled`,
    }
  }
  const example = damaged.first[0]
  const shown = example === undefined ? '' : `; line ${example.line} is "${example.excerpt}"`
  return { against: `none of the first ${lines} lines begins with an event that it knows${shown}` }
}

/**
 * The format of a log, by its first bytes.
 *
 * @throws IommulatorError ERR_LOG_FORMAT when it is none that is known; the message says what was tried
 */
export function detectLogFormat(head: Uint8Array): Detection {
  if (head.length === 0) throw new IommulatorError('ERR_LOG_FORMAT', 'the log is empty')
  const binary = NO_LOGS.find(([start]) => start.every((byte, i) => head[i] === byte))
  if (binary !== undefined) throw new IommulatorError('ERR_LOG_FORMAT', binary[1])
  const qemu = tryQemuTrace(head)
  if (qemu.certain !== undefined) return { format: QEMU_TRACE, reason: qemu.certain }
  const kernel = tryFtrace(head)
  if (kernel.certain !== undefined) return { format: FTRACE, reason: kernel.certain }
  const answers = tryKernelAnswers(head)
  if (answers.certain !== undefined) return { format: KERNEL_ANSWERS, reason: answers.certain }
  const messages = tryVhostMessages(head)
  if (messages.certain !== undefined) return { format: VHOST_LOG, reason: messages.certain }
  if (qemu.likely !== undefined) return { format: QEMU_TRACE, reason: qemu.likely }
  const tried = [
    `${QEMU_TRACE.title}: ${qemu.against}`,
    `${KERNEL_ANSWERS.title}: ${answers.against}`,
    `${FTRACE.title}: ${kernel.against}`,
    `${VHOST_LOG.title}: ${messages.against}`,
  ]
  throw new IommulatorError(
    'ERR_LOG_FORMAT',
    `no known log format; tried\n${tried.map((t) => `  ${t}`).join('\n')}`,
  )
}
