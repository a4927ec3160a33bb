/**
 * `node replay-log.js FILE [bare]`: the full replay of a log with all checkers and the ledger, or without them,
 * through the library. Prints what it found and took.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { createReplay } from '../src/machine/replay/log-replay.ts'
import { isClean } from '../src/machine/replay/result.ts'

const PIECE_BYTES = 256 * 1024

const [path = '', mode = ''] = process.argv.slice(2)
const file = openSync(path, 'r')
const piece = new Uint8Array(PIECE_BYTES)
const profile = 'qemu-7.2+linux-6.1'
const replay = createReplay({ from: 'qemu-trace', profile, source: path, bare: mode === 'bare' })
const from = process.hrtime.bigint()
for (let bytes = 1; bytes > 0; ) {
  bytes = readSync(file, piece, 0, PIECE_BYTES, null)
  if (bytes > 0) replay.push(piece.subarray(0, bytes))
}
closeSync(file)
const result = replay.end()
const ns = Number(process.hrtime.bigint() - from)
const { log, answers, translations } = result
process.stdout.write(
  `${JSON.stringify({ ns, clean: isClean(result), lines: log.lines, events: log.events, answers, translations })}\n`,
)
