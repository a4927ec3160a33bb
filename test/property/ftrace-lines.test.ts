import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { FTRACE } from '../../src/reader/ftrace-format.ts'
import type { LogEvent } from '../../src/reader/log-format.ts'
import { FTRACE_PREFIXES, readFtrace } from '../log-rows.ts'
import { ByteText, LineMutator } from '../mutate-lines.ts'

const GOOD = FTRACE.events.flatMap((event, i) => [
  `${FTRACE_PREFIXES[i % FTRACE_PREFIXES.length]}${event.example}`,
  `${FTRACE_PREFIXES[(i + 3) % FTRACE_PREFIXES.length]}${event.example}\r`,
])
const ODD = [
  '# tracer: nop',
  '#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION',
  'CPU:1 [LOST 118 EVENTS]',
  '          <idle>-0       [000] d.h2.     2.024434: sched_switch: prev_comm=a [000] next_comm=b',
  '          <idle>-0       [000] d.h2.     2.024434: do_idle <-cpu_startup_entry',
  '',
]

const HEX = { x64: '(0|[1-9a-f][0-9a-f]{0,15})', x32: '(0|[1-9a-f][0-9a-f]{0,7})', x64z: '([0-9a-f]{16})' }
const PATTERNS: Readonly<Record<string, string>> = {
  ...HEX,
  d64: '(0|-?[1-9][0-9]{0,18})',
  d32: '(0|-?[1-9][0-9]{0,9})',
  u32: '(0|[1-9][0-9]{0,9})',
  text: '([ -~]{0,200})',
  rwxpl: '([r-][w-][x-][p-][l-])',
}
const FITS: Readonly<Record<string, (n: bigint) => boolean>> = {
  d64: (n) => BigInt.asIntN(64, n) === n,
  d32: (n) => BigInt.asIntN(32, n) === n,
  u32: (n) => BigInt.asUintN(32, n) === n,
}
const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
const EVENTS = FTRACE.events.map((event: LogEvent) => {
  const body = event.parts.map(
    (p) => escaped(p.literal) + (p.field === undefined ? '' : PATTERNS[p.field.kind]),
  )
  return { event, pattern: new RegExp(`^${escaped(event.head)}${body.join('')}$`) }
})
/** The prefix, as plainly as can be: any task, the first CPU that a time follows. */
const CPU = / \[\d{3,}\] /g
const TIME = /^(?:[^ ]{1,10} +| *)(?:\d{1,10}\.\d{6,}|\d{1,20}): /

/** What a line is: the name of its event, or `unknown`, `damaged`, `empty`. */
function slowKind(whole: string): string {
  const line = whole.endsWith('\r') ? whole.slice(0, -1) : whole
  if (line === '' || line.startsWith('#')) return 'empty'
  for (const cpu of line.matchAll(CPU)) {
    if (cpu.index >= 63) break
    const rest = line.slice(cpu.index + cpu[0].length)
    const time = TIME.exec(rest)
    if (time === null) continue
    const text = rest.slice(time[0].length)
    const found = EVENTS.find(({ event, pattern }) => {
      const values = pattern.exec(text)
      return (
        values !== null && event.fields.every((f, i) => FITS[f.kind]?.(BigInt(values[i + 1] ?? '')) ?? true)
      )
    })
    if (found !== undefined) return found.event.name
    const name = /^([a-z][a-z0-9_]{1,99})(?::|$)/.exec(text)?.[1]
    return name === undefined || FTRACE.events.some((e) => e.name === name) ? 'damaged' : 'unknown'
  }
  return 'damaged'
}

describe('mutated lines of a kernel trace', () => {
  it('are what a plain reader finds, every one accounted for, and none throws', () => {
    const prng = new Prng(20_261_121)
    const mutator = new LineMutator(prng, { longLines: false, good: [...GOOD, ...GOOD, ...ODD] })
    const text = new ByteText()
    for (let i = 0; i < 40_000; i++) mutator.addTo(text)
    const bytes = text.taken()
    const pieces: Uint8Array[] = []
    for (let at = 0; at < bytes.length; ) {
      const end = at + 1 + prng.below(prng.oneIn(8) ? 32 : 100_000)
      pieces.push(bytes.subarray(at, end))
      at = end
    }
    const { rows, summary } = readFtrace(pieces, { markDamaged: true, damagedKept: 40_000 })
    const lines = Buffer.from(bytes).toString('latin1').split('\n').slice(0, -1)
    const kinds = lines.map((line) => (line.length > 4096 ? 'damaged' : slowKind(line)))
    const count = (what: (kind: string) => boolean) => kinds.filter(what).length
    expect(summary.lines).toBe(lines.length)
    const events = lines.flatMap((_, i) =>
      ['unknown', 'damaged', 'empty'].includes(kinds[i] as string) ? [] : [[i + 1, kinds[i]]],
    )
    expect(rows.filter((r) => r.name !== '?').map((r) => [r.line, r.name])).toEqual(events)
    expect(summary.damaged.first.map((d) => d.line)).toEqual(
      lines.flatMap((_, i) => (kinds[i] === 'damaged' ? [i + 1] : [])),
    )
    for (const { reason } of summary.damaged.first) expect(reason).not.toBe('')
    expect(summary.empty).toBe(count((kind) => kind === 'empty'))
    expect(summary.unknown.reduce((n, c) => n + c.count, 0)).toBe(count((kind) => kind === 'unknown'))
    // The mutations do what they are for.
    for (const n of [events.length, summary.damaged.count]) expect(n).toBeGreaterThan(5000)
    for (const n of [summary.empty, count((kind) => kind === 'unknown')]) expect(n).toBeGreaterThan(500)
  })
})
