import { expect, it } from 'vitest'
import type { IommuListener } from '../../src/hw/iommu-listener.ts'
import { calls, LIOBN, type Pseries, pseries, VIO_REG } from '../support/pseries.ts'

const silent = (name: string): IommuListener => ({ name, wants: 'both', notify: () => undefined })

/** What a machine can be asked for without changing it. */
const stateOf = (m: Pseries) => ({
  hash: m.journal.hash,
  death: [m.life.isDead, m.life.why],
  tables: [...m.liobns.all()].map((t) => [t.window?.number, t.isDefault, t.needsVfio, t.isPoisoned]),
  entries: [...(m.table(LIOBN).window?.store.live() ?? [])],
  buffer: m.edu.bufferAt(0, 64),
  registers: [
    m.edu.registers.peek('DMA_CMD'),
    m.edu.registers.peek('DMA_SRC'),
    m.edu.registers.peek('IRQ_STATUS'),
  ],
  isBypassed: m.vio.find(VIO_REG)?.space.isBypassed,
  tick: m.clock.tick,
})

const STEPS: readonly ((m: Pseries) => void)[] = [
  (m) => void calls(m).put(0x1000n, 0x50_0003n),
  (m) => void calls(m).create(16n, 24n),
  (m) => void m.phb.space.listen(silent('one')),
  (m) => void m.phb.space.listen(silent('two')),
  (m) => void calls(m).dmaWrite(0x1000n, { data: 'from the buffer', at: 3n }),
  (m) => void m.run('mmio', 'write', { device: 'edu0', offset: 0x98n, value: 7n, bytes: 8n }),
  (m) => {
    m.clock.advance(1)
    m.edu.elapse()
  },
  (m) => void m.run('mmio', 'write', { device: 'edu0', offset: 8n, value: 5n }),
  (m) => {
    const vio = m.vio.find(VIO_REG)
    if (vio !== undefined) vio.space.isBypassed = true
  },
  (m) => void calls(m).remove(LIOBN),
  (m) => void calls(m).create(12n, 44n),
  (m) => void calls(m).create(12n, 20n),
  (m) => m.phb.reset('test'),
]

it('every state on the way can be had again, the newest first', () => {
  const m = pseries({ hasJournal: true })
  const way: { mark: number; state: ReturnType<typeof stateOf> }[] = []
  for (const step of STEPS) {
    way.push({ mark: m.journal.mark(), state: stateOf(m) })
    step(m)
  }
  expect(m.life.isDead).toBe(true)
  expect(new Set(way.map(({ state }) => state.hash)).size).toBe(STEPS.length)
  for (const { mark, state } of way.reverse()) {
    m.journal.rollback(mark)
    expect(stateOf(m)).toEqual(state)
  }
})

it('a listener that was taken away listens again, in its place', () => {
  const m = pseries({ hasJournal: true })
  const heard: string[] = []
  const listener = (name: string): IommuListener => ({ name, wants: 'map', notify: () => heard.push(name) })
  const [one, two] = [listener('one'), listener('two')]
  m.phb.space.listen(one)
  m.phb.space.listen(two)
  const mark = m.journal.mark()
  m.phb.space.unlisten(one)
  calls(m).put(0n, 3n)
  m.journal.rollback(mark)
  calls(m).put(0n, 3n)
  expect(heard).toEqual(['two', 'one', 'two'])
})
