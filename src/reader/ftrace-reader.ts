import { FTRACE } from './ftrace-format.ts'
import { FtracePrefix } from './ftrace-prefix.ts'
import type { BatchSink } from './log-batch.ts'
import { TraceLogReader, type TraceLogReaderOptions } from './trace-log-reader.ts'

/**
 * Reads what Linux traced of its IOMMU (`trace` or `trace_pipe` below /sys/kernel/tracing, also out of a console log):
 * lines of other events are unknown, and where the kernel says that it lost events stands a damaged line.
 *
 * @example
 * const reader = new FtraceReader({ take: (batch) => use(batch) })
 * for await (const piece of input) reader.push(piece)
 * reader.end()
 */
export class FtraceReader extends TraceLogReader {
  constructor(sink: BatchSink, options: Partial<TraceLogReaderOptions> = {}) {
    super(sink, { format: FTRACE, prefix: new FtracePrefix(), ...options })
  }
}
