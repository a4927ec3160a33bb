import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { openWindow } from '../support/ioda.ts'
import { hardwareWorld } from '../unit/check/hardware-world.ts'

const ENTRIES = 3

const step = fc.record({
  op: fc.constantFrom('map', 'unmap', 'dma', 'dma', 'dma', 'kill', 'kill PE'),
  entry: fc.nat(ENTRIES - 1),
  count: fc.integer({ min: 1, max: 4 }),
  page: fc.nat(3),
  row: fc.boolean(),
  kills: fc.boolean(),
})
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

/**
 * Runs steps, each change in a call of its own. Answers how many DMAs are found to go through a stale TCE, and how
 * many do by two maps: of what the table holds, and of what is cached.
 */
function uses(steps: readonly Step[]) {
  const w = hardwareWorld()
  const table = openWindow(w.pe)
  const first = w.host.frames.allocate(w.host.frames.owner('qemu'), 3)
  const inTable = new Map<number, number>()
  const cached = new Map<number, number>()
  let naive = 0
  const kill = (entry: number, count: number) => {
    table.kill(entry, count)
    for (let i = entry; i < entry + count; i++) cached.delete(i)
  }
  const change = ({ op, entry, count, page, row, kills }: Step) => {
    table.beginRun()
    for (let i = 0; i < count; i++) {
      const frame = first + page + (row ? i : 0)
      table.xchg(entry + i, op === 'map' ? w.host.frames.hostPage(frame) : 0, op === 'map' ? 3 : 0)
      if (op === 'map') inTable.set(entry + i, frame)
      else inTable.delete(entry + i)
    }
    table.endRun()
    if (kills) kill(entry, count)
  }
  const use = (entry: number) => {
    w.dma(w.pe, BigInt(entry) << 16n, 4)
    const frame = inTable.get(entry)
    const known = cached.get(entry)
    if (known !== undefined && known !== frame) naive++
    else if (frame !== undefined) cached.set(entry, frame)
  }
  for (const s of steps) {
    if (s.op === 'dma') use(s.entry)
    else if (s.op === 'kill') kill(s.entry, s.count)
    else if (s.op === 'kill PE') {
      w.phb.kills.pe(5)
      cached.clear()
    } else w.call(s.op, () => change(s))
  }
  const found = w
    .found()
    .filter((f) => f.rule === 'stale-tce' && w.log.kindOf(f.because.at(-1)?.seq ?? 0) === 'dma.translate')
    .reduce((n, f) => n + f.times, 0)
  return { found, naive }
}

describe('stale-tce', () => {
  it('finds a DMA exactly where a map of what is cached differs from one of the table', () => {
    let stale = 0
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 60 }), (steps) => {
        const { found, naive } = uses(steps)
        expect(found).toBe(naive)
        stale += naive
      }),
      { numRuns: 100 },
    )
    expect(stale).toBeGreaterThan(0)
  })
})
