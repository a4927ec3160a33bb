import { describe, expect, it } from 'vitest'
import { NaivePair } from '../support/naive-ring.ts'
import type { Handing } from '../support/virtio.ts'

describe.each([
  ['with event indices', true],
  ['with flags', false],
])('a driver and a device at a ring %s', (_name, hasEventIndex) => {
  it('agree with plain queues over 70,000 chains, past the end of all indices', () => {
    const pair = new NaivePair({ seed: 1, entries: 16, hasEventIndex, handing: 'whole', chains: 70_000 })
    expect(pair.run()).toBeUndefined()
    expect(pair.driver.availableIndex).toBeLessThan(70_000 - 65_536 + 16)
  }, 60_000)

  it.each<[number, Handing]>([
    [1, 'whole'],
    [2, 'places'],
    [4, 'pages'],
    [64, 'places'],
    [256, 'whole'],
  ])(
    'agree with %d entries, memory handed out as %s',
    (entries, handing) => {
      for (let seed = 2; seed < 7; seed++) {
        const pair = new NaivePair({ seed, entries, hasEventIndex, handing, chains: 600 })
        expect(pair.run()).toBeUndefined()
      }
    },
    60_000,
  )

  it.each([1, 2, 3])('agree in views that are skewed by %d bytes', (skewBytes) => {
    const pair = new NaivePair({
      seed: 8,
      entries: 8,
      hasEventIndex,
      handing: 'whole',
      chains: 3_000,
      skewBytes,
    })
    expect(pair.run()).toBeUndefined()
  })

  it.each([
    [
      'a device that forgets to say that it listens',
      (p: NaivePair) => {
        p.ring.enableNotify = () => false
      },
    ],
    [
      'a device that says a byte too much',
      (p: NaivePair) => {
        const use = p.ring.use.bind(p.ring)
        p.ring.use = (head, written) => use(head, written + 1)
      },
    ],
    [
      'a device that always interrupts',
      (p: NaivePair) => {
        p.ring.wantsCall = () => true
      },
    ],
    [
      'a driver that never notifies',
      (p: NaivePair) => {
        const publish = p.driver.publish.bind(p.driver)
        p.driver.publish = () => publish() && false
      },
    ],
    [
      'memory that loses what is written to the used ring',
      (p: NaivePair) => {
        const { used } = p.driver.places
        const store = p.memory.store.bind(p.memory)
        p.memory.store = (place, ...rest) => (place === used + 12 ? undefined : store(place, ...rest))
      },
    ],
    [
      'a ring that takes a pending chain',
      (p: NaivePair) => {
        const next = p.ring.next.bind(p.ring)
        p.ring.next = (chain) => {
          const answer = next(chain)
          if (answer === 2) p.ring.giveBack(-1)
          return answer
        }
      },
    ],
  ])('the comparison sees %s', (_what, plant) => {
    const pair = new NaivePair({ seed: 9, entries: 8, hasEventIndex, handing: 'places', chains: 2_000 })
    plant(pair)
    expect(pair.run()).toBeDefined()
  })
})
