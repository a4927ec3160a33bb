import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { DAMAGED_LINE } from '../../src/reader/log-batch.ts'
import { QEMU_TRACE } from '../../src/reader/qemu-trace-format.ts'
import { QemuTraceReader } from '../../src/reader/qemu-trace-reader.ts'
import { UNKNOWN_NAMES_MAX } from '../../src/reader/trace-log-reader.ts'
import { readLog } from '../log-rows.ts'
import { ByteText, LineMutator } from '../mutate-lines.ts'
import { slowLine } from '../slow-qemu-trace.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
const usedBytes = (): number => {
  collect()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

describe('mutated lines', () => {
  it('a million of them: nothing is thrown, every line is accounted for, memory stays flat', () => {
    const prng = new Prng(20_261_120)
    const mutator = new LineMutator(prng, { longLines: true })
    const text = new ByteText()
    let rows = 0
    const reader = new QemuTraceReader({
      take: (batch) => {
        rows += batch.count
      },
    })
    let lines = 0
    let bytes = 0
    const push = (upTo: number) => {
      while (lines < upTo) {
        while (text.length < 1 << 19) lines += mutator.addTo(text)
        bytes += text.length
        for (let at = 0; at < text.length; ) {
          const end = Math.min(text.length, at + 1 + prng.below(prng.oneIn(8) ? 32 : 200_000))
          reader.push(text.bytes.subarray(at, end))
          at = end
        }
        text.length = 0
      }
    }
    push(200_000)
    const before = usedBytes()
    push(1_000_000)
    expect(usedBytes() - before).toBeLessThan(8 << 20)

    const summary = reader.end()
    expect(summary).toMatchObject({ lines, bytes, events: rows, truncated: false })
    const unknown = summary.unknown.reduce((n, c) => n + c.count, 0)
    expect(summary.events + unknown + summary.damaged.count + summary.empty).toBe(lines)
    expect(summary.declared.reduce((n, c) => n + c.count, 0)).toBe(summary.events)
    expect(summary.unknown.length).toBe(UNKNOWN_NAMES_MAX + 1)
    expect(summary.damaged.first.length).toBe(1000)
    // The mutations do what they are for: good, unknown and damaged lines are all frequent.
    for (const count of [summary.events, unknown, summary.damaged.count])
      expect(count).toBeGreaterThan(50_000)
  })

  it('what the fast reader finds in 20 000 of them is what the plain one finds', () => {
    const prng = new Prng(1)
    const mutator = new LineMutator(prng, { longLines: false })
    const text = new ByteText()
    for (let i = 0; i < 20_000; i++) mutator.addTo(text)
    const bytes = text.taken()
    const { rows, summary } = readLog([bytes], { markDamaged: true, damagedKept: 20_000 })

    const slow = Buffer.from(bytes).toString('latin1').split('\n').slice(0, -1).map(slowLine)
    const events: { name: string; line: number; fields: object }[] = []
    const damaged: number[] = []
    const unknown: string[] = []
    slow.forEach((found, i) => {
      if (found.kind === 'event') events.push({ name: found.name, line: i + 1, fields: found.fields })
      if (found.kind === 'damaged') damaged.push(i + 1)
      if (found.kind === 'unknown') unknown.push(found.name)
    })

    expect(summary.lines).toBe(slow.length)
    expect(summary.empty).toBe(slow.filter((l) => l.kind === 'empty').length)
    const read = rows.filter((r) => r.name !== '?')
    expect(read.map(({ name, line, fields }) => ({ name, line, fields }))).toEqual(events)
    expect(rows.filter((r) => r.name === '?').map((r) => r.line)).toEqual(damaged)
    expect(summary.damaged.first.map((d) => d.line)).toEqual(damaged)
    for (const { reason } of summary.damaged.first) expect(reason).not.toBe('')

    const names = new Map<string, number>()
    for (const name of unknown) names.set(name, (names.get(name) ?? 0) + 1)
    const kept = [...names].slice(0, UNKNOWN_NAMES_MAX).map(([name, count]) => ({ name, count }))
    const others = unknown.length - kept.reduce((n, c) => n + c.count, 0)
    if (others > 0) kept.push({ name: '(other names)', count: others })
    expect(summary.unknown.map(({ name, count }) => ({ name, count }))).toEqual(kept)
  })

  it('a damaged line tells which event it was, where it still shows', () => {
    const events: number[] = []
    const reader = new QemuTraceReader(
      {
        take: (batch) => {
          for (let row = 0; row < batch.count; row++) {
            if (batch.events[row] === DAMAGED_LINE) events.push(batch.lanes[row * 12]!)
          }
        },
      },
      { markDamaged: true },
    )
    reader.push(Buffer.from('spapr_iommu_pci_put liobn=0x\n[console]\n17@x\nspapr_iommu_xlate\n'))
    reader.end()
    const { number } = QEMU_TRACE
    expect(events).toEqual([number.spapr_iommu_pci_put, -1, -1, number.spapr_iommu_xlate])
  })
})
