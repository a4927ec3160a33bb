/**
 * `node parse-log.js FILE`: reads a log into columns as the reader does it, and prints what it found and took.
 * A process of its own, so that wall time and memory are those of the whole job.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { LANES_MAX } from '../src/reader/log-format.ts'
import { QemuTraceReader } from '../src/reader/qemu-trace-reader.ts'

const PIECE_BYTES = 256 * 1024

const [path = ''] = process.argv.slice(2)
const file = openSync(path, 'r')
const piece = new Uint8Array(PIECE_BYTES)
let sum = 0
const reader = new QemuTraceReader({
  take(batch) {
    const { events, lanes, count } = batch
    for (let row = 0; row < count; row++) {
      sum = (sum + (events[row] as number) + (lanes[row * LANES_MAX + 2] as number)) | 0
    }
  },
})
const from = process.hrtime.bigint()
for (let bytes = 1; bytes > 0; ) {
  bytes = readSync(file, piece, 0, PIECE_BYTES, null)
  if (bytes > 0) reader.push(piece.subarray(0, bytes))
}
closeSync(file)
const summary = reader.end()
const ns = Number(process.hrtime.bigint() - from)
const { lines, events, declared, damaged } = summary
process.stdout.write(`${JSON.stringify({ ns, sum, lines, events, declared, damaged: damaged.count })}\n`)
