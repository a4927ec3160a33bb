import { existsSync } from 'node:fs'
import { openInput } from '../src/cli/input.ts'
import { FtraceReader } from '../src/reader/ftrace-reader.ts'
import type { LogBatch, LogRow } from '../src/reader/log-batch.ts'
import type { LogSummary } from '../src/reader/log-summary.ts'
import { QemuTraceReader, type QemuTraceReaderOptions } from '../src/reader/qemu-trace-reader.ts'
import type { TraceLogReaderOptions } from '../src/reader/trace-log-reader.ts'

export interface ReadLog {
  readonly rows: readonly LogRow[]
  readonly summary: LogSummary
}

/** Bytes of a text whose characters are bytes. */
export const bytesOf = (text: string): Uint8Array => Buffer.from(text, 'latin1')

/** Reads a log that is given in pieces, every row as an object. */
export function readLog(
  pieces: Iterable<Uint8Array | string>,
  options: QemuTraceReaderOptions = {},
): ReadLog {
  const rows: LogRow[] = []
  const take = (batch: LogBatch) => {
    for (let row = 0; row < batch.count; row++) rows.push(batch.read(row))
  }
  const reader = new QemuTraceReader({ take }, options)
  for (const piece of pieces) reader.push(typeof piece === 'string' ? bytesOf(piece) : piece)
  return { rows, summary: reader.end() }
}

/** Reads what Linux traced, given in pieces, every row as an object. */
export function readFtrace(
  pieces: Iterable<Uint8Array | string>,
  options: Partial<TraceLogReaderOptions> = {},
): ReadLog {
  const rows: LogRow[] = []
  const take = (batch: LogBatch) => {
    for (let row = 0; row < batch.count; row++) rows.push(batch.read(row))
  }
  const reader = new FtraceReader({ take }, options)
  for (const piece of pieces) reader.push(typeof piece === 'string' ? bytesOf(piece) : piece)
  return { rows, summary: reader.end() }
}

/** What stands before events of Linux: with and without flags and thread group, odd tasks, and a clock that counts. */
export const FTRACE_PREFIXES = [
  '          <idle>-0       [000] d.h2.     2.024434: ',
  '    kworker/0:1H-37      [000] d..1.     2.022369: ',
  '           <...>-103     [000] .....     2.003023: ',
  '     Web Content-12345   (  12340) [127] d.h21  1234.567890: ',
  '            init-1       (-------) [001] .... 99999.000001: ',
  '      a [b] c: d-7       [003]     2.000001: ',
  '              dd-186     [000] d..5. 123456789012: ',
  '              dd-186     [1023] d..5.     3.480547123: ',
] as const

/** The bytes of a recorded trace, unpacked. */
export const recording = (name: string): Promise<Uint8Array> => unpacked(`${name}.trace.xz`)

/** The bytes of the console of a recorded guest, unpacked. */
export const consoleOf = (name: string): Promise<Uint8Array> => unpacked(`${name}.console.txt.xz`)

/** The bytes of what the kernel of a recorded guest traced, unpacked. */
export const ftraceOf = (name: string): Promise<Uint8Array> => unpacked(`${name}.ftrace.xz`)

/** The bytes of the tables of a recorded guest that was stopped, unpacked. */
export const tablesOf = (name: string): Promise<Uint8Array> => unpacked(`${name}.tables.json.xz`)

/** The bytes of what a back end saw of a recorded run, unpacked. */
export const messageLog = (name: string): Promise<Uint8Array> => unpacked(`${name}.vhost.jsonl.xz`)

/** The bytes of the recorded transcript of kernel answers. */
export const answers = (): Promise<Uint8Array> => unpacked('kernel-6.12-64k.answers.xz')

/** The bytes of the recorded answers to random commands. */
export const randomAnswers = (): Promise<Uint8Array> => unpacked('kernel-random.answers.xz')

/** The bytes of the recorded answers to ioctls by number. */
export const ioctlAnswers = (): Promise<Uint8Array> => unpacked('kernel-ioctls.answers.xz')

/** The bytes of the recorded answers of vhost-net. */
export const vhostAnswers = (): Promise<Uint8Array> => unpacked('kernel-vhost.answers.xz')

/** The bytes of the recorded answers to random hypercalls. */
export const pseriesAnswers = (): Promise<Uint8Array> => unpacked('pseries-random.answers.xz')

/** What the unit of a QEMU answered to random steps; undefined for a QEMU without a recording. */
export async function vtdAnswers(version: string, of = 'random'): Promise<string | undefined> {
  const file = `vtd-unit/${of}-${version}.answers.xz`
  if (!existsSync(`recordings/${file}`)) return undefined
  return Buffer.from(await unpacked(file)).toString('latin1')
}

/** What the devices of a QEMU were answered to random page requests and translation requests. */
export const requestAnswers = async (version: string): Promise<string> =>
  Buffer.from(await unpacked(`vtd-prq/random-${version}.answers.xz`)).toString('latin1')

/** The bytes of what a real kernel, and QEMU's pseries, answered to the project's scenarios. */
export const scenarioAnswers = (peer: 'kernel' | 'pseries'): Promise<Uint8Array> =>
  unpacked(`${peer}-scenarios.answers.xz`)

/** Lines of what QEMU's VT-d unit answered to register accesses, page requests and translation requests. */
export const pageRequestLines = async (): Promise<string[]> =>
  Buffer.from(await unpacked('vtd-unit/page-requests-11.1.3.jsonl.xz'))
    .toString()
    .trimEnd()
    .split('\n')

async function unpacked(file: string): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  const input = await openInput(`recordings/${file}`, process.stdin)
  for await (const piece of input.pieces()) pieces.push(Uint8Array.from(piece))
  return Buffer.concat(pieces)
}
