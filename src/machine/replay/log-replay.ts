import { resolveProfile } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { createChecks } from '../../check/checks.ts'
import { QemuTraceReader } from '../../reader/qemu-trace-reader.ts'
import { LedgerSink } from '../../report/ledger.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import { ERRATA } from '../registry.ts'
import { QemuReplay } from './qemu-replay.ts'
import type { ReplayResult } from './result.ts'

/** Logs that can be replayed, by the id of their format. */
export const LOG_SOURCES = ['qemu-trace'] as const
export type LogSource = (typeof LOG_SOURCES)[number]

/** Records that a replay keeps: what a finding shows must be among them. About 270 MB. */
const KEEP_RECORDS = 4 * 1024 * 1024

export interface ReplayOptions {
  readonly from: LogSource
  readonly profile: string
  /** How the result and the records call the log. */
  readonly source: string
  /** Without checkers and ledger: for benches. */
  readonly bare?: boolean
}

/** A replay that takes the bytes of a log as they come. */
export interface LogReplay {
  push(bytes: Uint8Array): void
  /** Lines replayed so far that are events. */
  readonly events: number
  readonly log: RecordLog
  end(): ReplayResult
}
