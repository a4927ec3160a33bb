import { BATCH_ROWS } from '../../src/reader/log-batch.ts'
import { LANES_MAX } from '../../src/reader/log-format.ts'
import { QemuTraceReader } from '../../src/reader/qemu-trace-reader.ts'
import { type CaseGroup, check, type SetUp, type Work } from '../case.ts'
import { generateLog } from '../generate-log.ts'

/** Bytes of a generated line, about: so much log has a pass of `operations` lines. */
const LINE_BYTES = 100
const SEED = 21
const PIECE_BYTES = 1 << 16

function logOf(operations: number): { bytes: Uint8Array; lines: number } {
  const bytes = Buffer.concat([...generateLog({ seed: SEED, sizeBytes: operations * LINE_BYTES })])
  let lines = 0
  for (let i = 0; i < bytes.length; i++) if (bytes[i] === 0x0a) lines++
  return { bytes, lines }
}

const columns: SetUp = (operations): Work => {
  const { bytes, lines } = logOf(operations)
  let sum = 0
  let events = 0
  const reader = new QemuTraceReader({
    take({ lanes, count }) {
      for (let row = 0; row < count; row++) sum = (sum + (lanes[row * LANES_MAX] as number)) | 0
      events += count
    },
  })
  const pass = (): number => {
    sum = 0
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) reader.push(bytes.subarray(at, at + PIECE_BYTES))
    return sum
  }
  pass()
  check(reader.lines === lines && lines - events < BATCH_ROWS, 'every line is an event')
  return { operations: lines, pass }
}

const FIELD = /(?:0x([0-9a-f]+)|(\d+))(?![0-9a-z_])/g

/** What one writes first: text, lines, a regular expression for the numbers. */
const plainly: SetUp = (operations): Work => {
  const { bytes, lines } = logOf(operations)
  const text = Buffer.from(bytes)
  return {
    operations: lines,
    pass(): number {
      let sum = 0
      for (const line of text.toString('latin1').split('\n')) {
        for (const [, digits, decimal] of line.matchAll(FIELD)) {
          sum = (sum + (digits === undefined ? Number(decimal) : Number.parseInt(digits, 16))) | 0
        }
      }
      return sum
    },
  }
}

export const PARSE: CaseGroup = {
  title: 'Log lines in memory',
  note:
    'Ours: QemuTraceReader on bytes in memory, pieces of 64 KiB. Plainly: split into lines, a regular expression for ' +
    'every number, parseInt (which rounds 64-bit values and checks nothing else).',
  cases: [
    {
      id: 'parse',
      operation: 'line',
      operations: 1 << 18,
      setUp: columns,
      peer: { label: 'regex', setUp: plainly },
    },
  ],
}
