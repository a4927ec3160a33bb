import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FTRACE } from '../../src/reader/ftrace-format.ts'
import { type FieldKind, formatLine, type LogEvent } from '../../src/reader/log-format.ts'
import { QEMU_TRACE } from '../../src/reader/qemu-trace-format.ts'
import { FTRACE_PREFIXES, readFtrace, readLog } from '../log-rows.ts'

/** Any value below 2^`bits`, short ones and those at the edges as often as long ones. */
const unsigned = (bits: number): fc.Arbitrary<bigint> =>
  fc.oneof(
    fc.integer({ min: 0, max: bits }).chain((n) => fc.bigInt({ min: 0n, max: (1n << BigInt(n)) - 1n })),
    fc.integer({ min: 0, max: bits }).map((n) => (1n << BigInt(n)) - 1n),
    fc.integer({ min: 0, max: bits - 1 }).map((n) => 1n << BigInt(n)),
  )
const signed = (bits: number): fc.Arbitrary<bigint> => unsigned(bits).map((word) => BigInt.asIntN(bits, word))

const VALUES: Record<FieldKind, fc.Arbitrary<bigint | number | string>> = {
  x64: unsigned(64),
  d64: signed(64),
  pointer: unsigned(64),
  x32: unsigned(32).map(Number),
  x8: unsigned(8).map(Number),
  x64z: unsigned(64),
  rwxpl: unsigned(5).map(Number),
  u32: unsigned(32).map(Number),
  d32: signed(32).map(Number),
  text: fc.string({
    unit: fc.integer({ min: 0x20, max: 0x7e }).map((c) => String.fromCharCode(c)),
    maxLength: 200,
  }),
}

describe('what is printed is read back', () => {
  it.each(FTRACE.events.map((event: LogEvent) => [event.name, event] as const))('%s', (name, event) => {
    const fields = fc.record(Object.fromEntries(event.fields.map((f) => [f.name, VALUES[f.kind]])))
    const prefix = fc.constantFrom(...FTRACE_PREFIXES)
    fc.assert(
      fc.property(fields, prefix, (values, before) => {
        const { rows, summary } = readFtrace([`${before}${formatLine(event, values as never)}\n`])
        expect(summary.damaged.first).toEqual([])
        expect(rows.map((row) => [row.name, row.fields])).toEqual([[name, values]])
      }),
      { numRuns: 60, seed: 8 },
    )
  })

  it.each(QEMU_TRACE.events.map((event: LogEvent) => [event.name, event] as const))('%s', (name, event) => {
    const fields = fc.record(Object.fromEntries(event.fields.map((f) => [f.name, VALUES[f.kind]])))
    const lineEnd = fc.constantFrom('\n', '\r\n', '')
    fc.assert(
      fc.property(fields, lineEnd, (values, end) => {
        const { rows, summary } = readLog([formatLine(event, values as never) + end])
        expect(summary.damaged.first).toEqual([])
        expect(rows).toEqual([{ name, line: 1, offsetBytes: 0, timeUs: -1, fields: values }])
      }),
      { numRuns: 60, seed: 7 },
    )
  })
})
