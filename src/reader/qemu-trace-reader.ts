import type { BatchSink } from './log-batch.ts'
import { QemuStamp } from './qemu-stamp.ts'
import { QEMU_TRACE } from './qemu-trace-format.ts'
import { TraceLogReader, type TraceLogReaderOptions } from './trace-log-reader.ts'

/** What is left out: the format of QEMU, and its time stamps. */
export type QemuTraceReaderOptions = Partial<TraceLogReaderOptions>

/**
 * Reads a QEMU trace log (the log back end: `-trace ... [-D FILE]`).
 *
 * @example
 * const reader = new QemuTraceReader({ take: (batch) => use(batch) })
 * for await (const piece of input) reader.push(piece)
 * const { events, damaged } = reader.end()
 */
export class QemuTraceReader extends TraceLogReader {
  constructor(sink: BatchSink, options: QemuTraceReaderOptions = {}) {
    super(sink, { format: QEMU_TRACE, prefix: new QemuStamp(), ...options })
  }
}
