import { describe, expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { DESCRIPTOR, needsEvent } from '../../src/hw/virtio/ring-layout.ts'
import { RING, RING_ANSWERS, type RingRule } from '../../src/hw/virtio/ring-rules.ts'
import { SplitRing } from '../../src/hw/virtio/split-ring.ts'
import { type Handing, RawRing, type RingPairOptions, TestMemory } from '../support/virtio.ts'

const { NEXT, WRITE, INDIRECT } = DESCRIPTOR
/** Page of 64 bytes of the test memory that an address lies in. */
const page = (address: number) => address / 64
const [TABLE, BUFFER, OTHER] = [1024, 2048, 3072]
const HANDINGS: readonly Handing[] = ['whole', 'pages', 'places']
const GIB = 2 ** 30

interface Case {
  readonly what: string
  /** Readers that answer so: both unless said. */
  readonly by?: 'standard' | 'linux'
  readonly entries?: number
  readonly memoryBytes?: number
  readonly options?: Omit<RingPairOptions, 'entries' | 'start'>
  readonly set: (r: RawRing) => void
}

const offered = (r: RawRing) => r.offer([0])

// An input that breaks two rules is answered by the first: said as "before".
const CASES: Record<RingRule, readonly Case[]> = {
  taken: [
    { what: 'one buffer', set: (r) => offered(r).describe(0, {}) },
    {
      what: 'a chain through the whole ring',
      set: (r) =>
        offered(r)
          .describe(0, { flags: NEXT, next: 3 })
          .describe(3, { flags: NEXT, next: 1 })
          .describe(1, { flags: NEXT, next: 2 })
          .describe(2, { flags: WRITE }),
    },
    {
      what: 'buffers without bytes, wherever they lead, and a buffer to read behind such a one to write',
      set: (r) =>
        offered(r)
          .describe(0, { address: 2 ** 50, bytes: 0, flags: NEXT | WRITE, next: 1 })
          .describe(1, {}),
    },
    {
      what: 'a table behind a buffer',
      set: (r) =>
        offered(r)
          .describe(0, { flags: NEXT, next: 1 })
          .describe(1, { address: TABLE, bytes: 32, flags: INDIRECT | WRITE })
          .describe(0, { address: BUFFER, flags: NEXT, next: 1 }, TABLE)
          .describe(1, { address: BUFFER, flags: WRITE }, TABLE),
    },
    {
      what: 'as many new entries as the ring has',
      set: (r) => r.offer([0, 1, 2, 3]).describe(0, {}),
    },
    {
      what: 'buffers of 2^32 bytes together',
      set: (r) =>
        offered(r)
          .describe(0, { address: GIB, bytes: 2 ** 31, flags: NEXT, next: 1 })
          .describe(1, { address: GIB, bytes: 2 ** 31 }),
    },
    {
      what: 'a table that goes on in the ring',
      by: 'linux',
      set: (r) =>
        offered(r)
          .describe(0, { address: TABLE, bytes: 16, flags: INDIRECT | NEXT, next: 1 })
          .describe(1, { flags: WRITE })
          .describe(0, {}, TABLE),
    },
    {
      what: 'a table whose next leads outside, read in order',
      by: 'linux',
      set: (r) =>
        offered(r)
          .describe(0, { address: TABLE, bytes: 32, flags: INDIRECT })
          .describe(0, { flags: NEXT, next: 9 }, TABLE)
          .describe(1, {}, TABLE),
    },
    {
      what: 'a table with a hole',
      by: 'standard',
      set: (r) =>
        offered(r)
          .describe(0, { address: TABLE, bytes: 48, flags: INDIRECT })
          .describe(0, { flags: NEXT, next: 2 }, TABLE)
          .describe(1, { flags: INDIRECT }, TABLE)
          .describe(2, {}, TABLE),
    },
  ],
  empty: [{ what: 'nothing was ever offered', set: (r) => r.offer([], 0).describe(0, { flags: INDIRECT }) }],
  pending: [
    { what: 'descriptors', set: (r) => offered(r).memory.missing.add(page(0)) },
    {
      what: 'descriptors, before an available ring that is refused',
      set: (r) => offered(r).memory.missing.add(page(0)) && r.memory.refused.set(page(512), 1),
    },
    {
      what: 'available, before a used ring that is refused',
      set: (r) => offered(r).memory.missing.add(page(512)) && r.memory.refused.set(page(640), 2),
    },
    { what: 'used', set: (r) => offered(r).memory.missing.add(page(640)) },
    {
      what: 'a table',
      set: (r) =>
        offered(r)
          .describe(0, { address: TABLE, bytes: 16, flags: INDIRECT })
          .memory.missing.add(page(TABLE)),
    },
    {
      what: 'a buffer, before a chain that goes on outside',
      set: (r) =>
        offered(r).describe(0, { address: BUFFER, flags: NEXT, next: 9 }).memory.missing.add(page(BUFFER)),
    },
    {
      what: 'a buffer to read, before its place behind one to write',
      set: (r) =>
        offered(r)
          .describe(0, { address: BUFFER, flags: NEXT | WRITE, next: 1 })
          .describe(1, { address: OTHER })
          .memory.missing.add(page(OTHER)),
    },
  ],
  'ring-refused': [
    {
      what: 'descriptors, before a missing available ring',
      set: (r) => offered(r).memory.missing.add(page(512)) && r.memory.refused.set(page(0), 1),
    },
    { what: 'available', set: (r) => offered(r).memory.refused.set(page(512), 1) },
    { what: 'used, to write', set: (r) => offered(r).memory.refused.set(page(640), 2) },
    {
      what: 'the event index behind the used ring',
      entries: 16,
      options: { hasEventIndex: true },
      // 640 + 4 + 8 x 16 = 772: the index lies in a page of its own.
      set: (r) => offered(r).memory.refused.set(page(768), 2),
    },
  ],
  'avail-jump': [
    { what: 'by 5 of 4 entries, before a head outside', set: (r) => r.offer([9], 5) },
    { what: 'back by 1', set: (r) => r.offer([], 0xffff) },
  ],
  'head-outside': [{ what: 'head 4 of 4', set: (r) => r.offer([4]) }],
  'next-outside': [
    { what: 'next 4 of 4', set: (r) => offered(r).describe(0, { flags: NEXT, next: 4 }) },
    {
      what: 'before a chain with more descriptors than the ring',
      entries: 1,
      set: (r) => offered(r).describe(0, { flags: NEXT, next: 1 }),
    },
  ],
  loop: [
    { what: 'a descriptor that follows itself', set: (r) => offered(r).describe(0, { flags: NEXT }) },
    {
      what: 'the fifth of four descriptors, before its piece is the fifth of four',
      options: { segmentsMax: 4 },
      set: (r) => offered(r).describe(0, { flags: NEXT }),
    },
    {
      what: 'without bytes',
      set: (r) =>
        offered(r)
          .describe(0, { flags: NEXT, next: 3, bytes: 0 })
          .describe(3, { flags: NEXT, next: 0, bytes: 0 }),
    },
    {
      what: 'of buffers to read and to write, before their order',
      entries: 1,
      set: (r) => offered(r).describe(0, { flags: NEXT | WRITE }),
    },
  ],
  'indirect-with-next': [
    {
      what: 'before a wrong length',
      by: 'standard',
      set: (r) => offered(r).describe(0, { address: TABLE, bytes: 15, flags: INDIRECT | NEXT, next: 1 }),
    },
  ],
  'indirect-length': [
    {
      what: '24 bytes, before an address that cannot be read',
      set: (r) => offered(r).describe(0, { address: 2 ** 50, bytes: 24, flags: INDIRECT }),
    },
    {
      what: '15 bytes of a table that goes on in the ring',
      by: 'linux',
      set: (r) => offered(r).describe(0, { address: TABLE, bytes: 15, flags: INDIRECT | NEXT, next: 1 }),
    },
  ],
  'indirect-refused': [
    {
      what: 'before a length of more than 65,536 descriptors',
      set: (r) => offered(r).describe(0, { address: 2 ** 50, bytes: 16 * 65_537, flags: INDIRECT }),
    },
    {
      what: 'a page that cannot be read',
      set: (r) =>
        offered(r)
          .describe(0, { address: TABLE, bytes: 16, flags: INDIRECT })
          .memory.refused.set(page(TABLE), 1),
    },
  ],
  'indirect-too-long': [
    {
      what: '65,537 descriptors, before what they are',
      memoryBytes: 2 ** 21,
      options: { segmentsMax: 2 ** 20 },
      set: (r) =>
        offered(r)
          .describe(0, { address: TABLE, bytes: 16 * 65_537, flags: INDIRECT })
          .describe(0, { flags: INDIRECT }, TABLE),
    },
  ],
  'indirect-loop': [
    {
      what: 'an empty table',
      set: (r) => offered(r).describe(0, { address: TABLE, bytes: 0, flags: INDIRECT }),
    },
    {
      what: 'the last descriptor goes on, before where to',
      set: (r) =>
        offered(r)
          .describe(0, { address: TABLE, bytes: 16, flags: INDIRECT })
          .describe(0, { flags: NEXT, next: 7 }, TABLE),
    },
    {
      what: 'two that follow each other',
      set: (r) =>
        offered(r)
          .describe(0, { address: TABLE, bytes: 32, flags: INDIRECT })
          .describe(0, { flags: NEXT, next: 1 }, TABLE)
          .describe(1, { flags: NEXT, next: 0 }, TABLE),
    },
  ],
  'indirect-outside': [
    {
      what: 'next 2 of 2',
      by: 'standard',
      set: (r) =>
        offered(r)
          .describe(0, { address: TABLE, bytes: 32, flags: INDIRECT })
          .describe(0, { flags: NEXT, next: 2 }, TABLE),
    },
  ],
  'indirect-nested': [
    {
      what: 'before a buffer that is refused',
      set: (r) =>
        offered(r)
          .describe(0, { address: TABLE, bytes: 16, flags: INDIRECT })
          .describe(0, { address: 2 ** 50, flags: INDIRECT }, TABLE),
    },
  ],
  'buffer-refused': [
    { what: 'outside', set: (r) => offered(r).describe(0, { address: 2 ** 50 }) },
    { what: 'past 2^64', set: (r) => offered(r).describe(0, { address: 2 ** 64 - 2048, bytes: 4096 }) },
    {
      what: 'to write what can only be read',
      set: (r) =>
        offered(r).describe(0, { address: BUFFER, flags: WRITE }).memory.refused.set(page(BUFFER), 2),
    },
    {
      what: 'before the order',
      set: (r) =>
        offered(r)
          .describe(0, { flags: NEXT | WRITE, next: 1 })
          .describe(1, { address: 2 ** 50 }),
    },
  ],
  'too-many-segments': [
    {
      what: 'a third piece of two, before a missing translation and the order',
      options: { segmentsMax: 2 },
      set: (r) =>
        offered(r)
          .describe(0, { address: BUFFER, flags: NEXT | WRITE, next: 1 })
          .describe(1, { address: BUFFER, flags: NEXT | WRITE, next: 2 })
          .describe(2, { address: OTHER })
          .memory.missing.add(page(OTHER)),
    },
    {
      what: 'pieces of a table',
      options: { segmentsMax: 0 },
      set: (r) => offered(r).describe(0, { address: TABLE, bytes: 16, flags: INDIRECT }),
    },
  ],
  order: [
    {
      what: 'read behind write, before their length',
      set: (r) =>
        offered(r)
          .describe(0, { address: GIB, bytes: 2 ** 31, flags: NEXT | WRITE, next: 1 })
          .describe(1, { address: GIB, bytes: 2 ** 31 + 1 }),
    },
    {
      what: 'in a table behind the ring',
      set: (r) =>
        offered(r)
          .describe(0, { flags: NEXT | WRITE, next: 1 })
          .describe(1, { address: TABLE, bytes: 16, flags: INDIRECT })
          .describe(0, {}, TABLE),
    },
  ],
  'length-overflow': [
    {
      what: '2^32 + 1 bytes, before a loop',
      by: 'standard',
      set: (r) =>
        offered(r)
          .describe(0, { address: GIB, bytes: 2 ** 31, flags: NEXT, next: 1 })
          .describe(1, { address: GIB, bytes: 2 ** 31 + 1, flags: NEXT, next: 0 }),
    },
  ],
}

/** Everything that a case answers: by each kind of memory and each reader it is for. */
function answersOf({ by, entries, memoryBytes, options, set }: Case) {
  const readers = [false, true].filter((linux) => by === undefined || linux === (by === 'linux'))
  return readers.flatMap((asLinuxVhost) =>
    HANDINGS.map((handing) => {
      const memory = new TestMemory(memoryBytes ?? 8192, handing)
      memory.emptyUpTo = 8 * GIB
      const raw = new RawRing(memory, entries, { ...options, asLinuxVhost })
      set(raw)
      return { rule: RING_ANSWERS[raw.look()]?.rule, base: raw.ring.base, handing, asLinuxVhost }
    }),
  )
}

describe('a look at a split ring', () => {
  it.each(RING_ANSWERS)('$rule: $when', ({ rule }) => {
    for (const one of CASES[rule]) {
      for (const got of answersOf(one)) {
        expect(got, `${one.what} (${got.handing}${got.asLinuxVhost ? ', Linux' : ''})`).toMatchObject({
          rule,
          // What is not taken leaves the ring where it was.
          base: rule === 'taken' ? 1 : 0,
        })
      }
    }
  })

  it('every rule has an errno that is one, or none', () => {
    for (const { errno } of RING_ANSWERS) expect([0, -7, -11, -14, -22, -105]).toContain(errno)
  })

  it('sees a rule that does not answer', () => {
    const [first] = CASES.loop
    expect(answersOf({ ...first!, set: (r) => offered(r).describe(0, {}) })[0]?.rule).toBe('taken')
  })

  it('goes on after what was missing came, and after the driver repaired a fault', () => {
    const raw = new RawRing(new TestMemory(8192, 'places'))
    raw.offer([0]).describe(0, { address: BUFFER, bytes: 16, flags: WRITE })
    raw.memory.missing.add(page(BUFFER))
    expect([raw.look(), raw.look()]).toEqual([RING.pending, RING.pending])
    raw.memory.missing.clear()
    const chain = raw.ring.newChain()
    expect(raw.look(chain)).toBe(RING.taken)
    expect([chain.head, chain.readable.bytes, chain.writable.bytes]).toEqual([0, 0, 16])
    expect(raw.look()).toBe(RING.empty)
    raw.offer([0, 7])
    expect(raw.look()).toBe(RING['head-outside'])
    raw.offer([0, 1]).describe(1, {})
    expect(raw.look()).toBe(RING.taken)
  })

  it.each([
    ['the standard', false, ['avail-jump', 'avail-jump']],
    ['Linux', true, ['avail-jump', 'taken']],
  ])('a second look at an index that jumped, by %s', (_name, asLinuxVhost, rules) => {
    const raw = new RawRing(new TestMemory(8192), 4, { asLinuxVhost })
    raw.offer([2], 5).describe(2, {})
    expect([raw.look(), raw.look()].map((answer) => RING_ANSWERS[answer]?.rule)).toEqual(rules)
  })

  it('gives chains back', () => {
    const raw = new RawRing(new TestMemory(8192))
    raw.offer([0, 1]).describe(0, {}).describe(1, {})
    const chain = raw.ring.newChain()
    expect([raw.look(chain), raw.look(chain), chain.head]).toEqual([RING.taken, RING.taken, 1])
    raw.ring.giveBack(2)
    expect([raw.look(chain), chain.head]).toEqual([RING.taken, 0])
  })
})

describe('a ring in a machine that goes back', () => {
  it('takes and gives the same chains again', () => {
    const journal = new Journal()
    journal.on = true
    const memory = new TestMemory(8192)
    const ring = new SplitRing({ memory, queue: 0, journal, name: 'q' })
    ring.setUp({ entries: 4, descriptors: 0n, available: 512n, used: 640n, hasEventIndex: true })
    new RawRing(memory).offer([0, 1]).describe(0, {}).describe(1, {})
    ring.start()
    const [mark, hash] = [journal.mark(), journal.hash]
    const chain = ring.newChain()
    const heads = () => {
      ring.begin()
      return [ring.next(chain), chain.head, ring.next(chain), chain.head, ring.base, ring.usedIndex]
    }
    const first = heads()
    ring.use(0, 1)
    expect([journal.hash === hash, ring.usedIndex]).toEqual([false, 1])
    journal.rollback(mark)
    expect([journal.hash, ring.base, ring.usedIndex]).toEqual([hash, 0, 0])
    expect(heads()).toEqual(first)
  })

  it('begins where it is told to', () => {
    const raw = new RawRing(new TestMemory(8192))
    raw.ring.base = 0x1_ffff
    expect(raw.ring.base).toBe(0xffff)
    // Entry 65,535 of 4 is entry 3; the next one is entry 0.
    raw.offer([1, 0, 0, 2], 1).describe(1, {}).describe(2, {})
    const chain = raw.ring.newChain()
    expect([raw.look(chain), chain.head, raw.look(chain), chain.head]).toEqual([0, 2, 0, 1])
    expect([raw.look(chain), raw.ring.base, raw.ring.seenAvailable]).toEqual([RING.empty, 1, 1])
  })
})

describe('where a ring may lie', () => {
  const at = (entries: number, available: bigint, used: bigint) =>
    new RawRing(new TestMemory(64)).ring.setUp({
      entries,
      descriptors: 0n,
      available,
      used,
      hasEventIndex: false,
    })

  it.each([
    [true, 1],
    [true, 2],
    [true, 32_768],
    [false, 0],
    [false, 3],
    [false, 65_536],
    [false, 1.5],
    [false, -4],
  ])('%s for %s entries', (isRing, entries) => {
    expect(at(entries, 2n, 4n)).toBe(isRing)
  })

  it('its available ring is aligned to 2 bytes, its used ring to 4', () => {
    expect([at(4, 1n, 4n), at(4, 2n, 2n), at(4, 2n, 6n), at(4, 6n, 8n)]).toEqual([false, false, false, true])
  })

  it('without one nothing begins', () => {
    const raw = new RawRing(new TestMemory(8192))
    raw.ring.setUp({ ...raw.ring.setup, entries: 3 })
    expect(raw.ring.setup).toEqual({
      entries: 4,
      descriptors: 0n,
      available: 512n,
      used: 640n,
      hasEventIndex: false,
    })
  })
})

describe('notifications', () => {
  it.each([
    [true, 5, 6, 5],
    [false, 6, 6, 5],
    [false, 4, 6, 5],
    [true, 4, 6, 4],
    [true, 0xffff, 0, 0xffff],
    [true, 0xfffe, 2, 0xfff0],
    [false, 2, 2, 0xfff0],
    [false, 7, 7, 7],
  ])('%s: the index to hear of is %d, the side went to %d from %d', (needed, event, now, before) => {
    expect(needsEvent(event, now, before)).toBe(needed)
  })

  it('a start writes flags 0, and goes on in the used ring where its index stands', () => {
    const raw = new RawRing(new TestMemory(8192))
    raw.memory.bytes.set([1, 0, 0x34, 0x12], 640)
    expect(raw.ring.start()).toBe(RING.taken)
    expect(raw.ring.usedIndex).toBe(0x1234)
    expect([...raw.memory.bytes.subarray(640, 644)]).toEqual([0, 0, 0x34, 0x12])
  })

  it.each([
    ['pending', (m: TestMemory) => m.missing.add(page(640))],
    ['ring-refused', (m: TestMemory) => m.refused.set(page(640), 1)],
    ['ring-refused', (m: TestMemory) => m.refused.set(page(640), 2)],
  ] as const)('a start that is %s changes nothing', (rule, spoil) => {
    const raw = new RawRing(new TestMemory(8192))
    raw.memory.bytes.set([1, 0, 0x34, 0x12], 640)
    spoil(raw.memory)
    expect(raw.ring.start()).toBe(RING[rule])
    expect(raw.ring.usedIndex).toBe(0)
    expect(raw.memory.bytes[640]).toBe(1)
  })

  it('without event indices the flags say it, both ways', () => {
    const raw = new RawRing(new TestMemory(8192))
    raw.ring.start()
    raw.ring.begin()
    raw.ring.disableNotify()
    expect(raw.memory.bytes[640]).toBe(1)
    // What is said already is not written again: the driver's cache line stays where it is.
    raw.memory.bytes[640] = 9
    raw.ring.disableNotify()
    expect(raw.memory.bytes[640]).toBe(9)
    expect(raw.ring.enableNotify()).toBe(false)
    expect(raw.memory.bytes[640]).toBe(0)
    raw.ring.disableNotify()
    raw.offer([0])
    expect(raw.ring.enableNotify()).toBe(true)
    expect(raw.ring.wantsCall()).toBe(true)
    raw.memory.bytes[512] = 1
    expect(raw.ring.wantsCall()).toBe(false)
  })

  it('with them the device names the index that it has seen, and hears what came meanwhile', () => {
    const raw = new RawRing(new TestMemory(8192), 4, { hasEventIndex: true })
    raw.ring.start()
    raw.offer([0, 1]).describe(0, {}).describe(1, {})
    raw.ring.begin()
    raw.ring.disableNotify()
    expect([raw.look(), raw.look()]).toEqual([RING.taken, RING.taken])
    raw.offer([0, 1, 2])
    expect(raw.ring.enableNotify()).toBe(true)
    expect(raw.memory.bytes[640 + 4 + 8 * 4]).toBe(2)
    // Flags are not used then.
    expect(raw.memory.bytes[640]).toBe(0)
  })

  it('with them the driver is told when its index is passed, and with the first one after a start', () => {
    const raw = new RawRing(new TestMemory(8192), 4, { hasEventIndex: true })
    raw.ring.start()
    raw.ring.begin()
    const used = (event: number) => {
      raw.memory.bytes[512 + 4 + 2 * 4] = event
      raw.ring.use(0, 7)
      raw.ring.publish()
      return raw.ring.wantsCall()
    }
    expect([used(9), used(9), used(2), used(2)]).toEqual([true, false, true, false])
    expect([...raw.memory.bytes.subarray(640 + 2, 640 + 12)]).toEqual([4, 0, 0, 0, 0, 0, 7, 0, 0, 0])
  })

  it('a driver that was told nothing for 2^16 chains is told then', () => {
    const raw = new RawRing(new TestMemory(8192), 4, { hasEventIndex: true })
    raw.ring.start()
    raw.ring.begin()
    expect(raw.ring.wantsCall()).toBe(true)
    const useMany = (chains: number) => {
      for (let i = 0; i < chains; i++) raw.ring.use(0, 0)
      raw.ring.publish()
    }
    raw.memory.bytes.set([0x00, 0x80], 512 + 4 + 2 * 4)
    useMany(2 ** 15)
    expect(raw.ring.wantsCall()).toBe(false)
    useMany(2 ** 16)
    expect(raw.ring.wantsCall()).toBe(true)
  })

  it('with NOTIFY_ON_EMPTY it is told whenever nothing is left', () => {
    const raw = new RawRing(new TestMemory(8192), 4, { notifiesOnEmpty: true })
    raw.ring.start()
    raw.ring.begin()
    raw.memory.bytes[512] = 1
    raw.offer([0, 1]).describe(0, {}).describe(1, {})
    expect([raw.look(), raw.ring.wantsCall()]).toEqual([RING.taken, false])
    expect([raw.look(), raw.ring.wantsCall()]).toEqual([RING.taken, true])
  })
})
