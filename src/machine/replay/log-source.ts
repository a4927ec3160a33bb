import type { RecordLog } from '../../trace/record-log.ts'
import type { Dump } from '../walk/dump-memory.ts'
import type { ReplayResult } from './result.ts'
import type { OnAnswer } from './tally.ts'

/** Logs that can be replayed: what a user calls them, and the id of their format. */
export const LOG_SOURCES = {
  qemu: 'qemu-trace',
  'kernel-answers': 'kernel-answers',
  ftrace: 'linux-ftrace',
} as const
export type LogSource = (typeof LOG_SOURCES)[keyof typeof LOG_SOURCES]

/** Whose errata a trace of QEMU has where nobody says. A transcript of kernel answers names its kernel. */
export const DEFAULT_QEMU = 'qemu-7.2'

/** The same of a trace of a kernel. */
export const DEFAULT_LINUX = 'linux-6.1'

/** Records that a replay keeps: what a finding shows must be among them. About 70 MB. */
export const KEEP_RECORDS = 1024 * 1024

export interface ReplayOptions {
  readonly from: LogSource
  /** Errata of the machine that wrote it; left out, those of the kernel that the log names, or of QEMU 7.2. */
  readonly profile?: string
  /** How the result and the records call the log. */
  readonly source: string
  /** Tables of the guest, dumped where a trace of QEMU with a VT-d unit ends. */
  readonly tables?: Dump
  /** Without checkers and ledger: for benches. */
  readonly bare?: boolean
  /** The host ran before the log begins: what its devices hold then is not known. */
  readonly isContinued?: boolean
  /** Subscribes to the records before there is one. */
  readonly watch?: (log: RecordLog) => void
  readonly onAnswer?: OnAnswer
}

/** A replay that takes the bytes of a log as they come. */
export interface LogReplay {
  push(bytes: Uint8Array): void
  /** Lines replayed so far that are events. */
  readonly events: number
  readonly log: RecordLog
  end(): ReplayResult
}
