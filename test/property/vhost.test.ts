import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { ACCESS } from '../../src/hw/virtio/ring-memory.ts'
import { Segments } from '../../src/hw/virtio/segments.ts'
import { VHOST_RESET_OWNER, VHOST_SET_FEATURES } from '../../src/kernel/vhost/calls.ts'
import { NaiveVhost } from '../support/naive-vhost.ts'
import { UA } from '../support/vfio.ts'
import { BEHIND_IOTLB, GUEST_BYTES, lanes, owned } from '../support/vhost.ts'

const LIMIT = 24
const USER_END = 1n << 47n
const STEPS = 4_000
/** Bus addresses are here, so that ranges meet; and at the end of the space. */
const PLACES = [0n, 0x1000n, (1n << 64n) - 0x1_0000n] as const

/** Draws the numbers of an operation. */
class Draw {
  readonly prng: Prng

  constructor(seed: number) {
    this.prng = new Prng(seed)
  }

  iova(): bigint {
    return this.prng.pick(PLACES) + BigInt(this.prng.below(0x1_0000))
  }

  bytes(): bigint {
    if (this.prng.oneIn(30)) return this.prng.u64()
    return BigInt(this.prng.below(this.prng.oneIn(3) ? 4 : 0x3000))
  }

  /** User addresses that the process has, mostly. */
  ua(): bigint {
    if (this.prng.oneIn(20)) return this.prng.u64()
    return UA + BigInt(this.prng.below(Number(GUEST_BYTES) - 0x4000))
  }
}

/** Runs the same random operations on a device and on lists; answers the first difference. */
function differs(seed: number, skew: (naive: NaiveVhost) => void = () => undefined): string | undefined {
  const world = owned({ iotlbEntries: LIMIT })
  const { device, call, fd, qemu } = world
  call(VHOST_SET_FEATURES, { fd, features: BEHIND_IOTLB })
  const naive = new NaiveVhost(LIMIT, USER_END)
  skew(naive)
  const draw = new Draw(seed)
  const { prng } = draw
  const message = { version: 2, perm: 0, ua: 0n }
  for (let step = 0; step < STEPS; step++) {
    const [iova, bytes, queue] = [draw.iova(), draw.bytes(), prng.below(2)]
    const what = `seed ${seed}, step ${step}`
    const kind = prng.below(8)
    if (kind < 3) {
      const [ua, perm] = [draw.ua(), prng.below(4)]
      const end = device.write({ ...message, type: 2, iova, bytes, ua, perm }, qemu)
      const { taken } = naive.update(iova, bytes, ua, perm)
      if ((end === 'done') !== taken) return `${what}: UPDATE ${end}`
    } else if (kind === 3) {
      device.write({ ...message, type: 3, iova, bytes: bytes >> 2n, ua: 0n, perm: 0 }, qemu)
      naive.invalidate(iova, bytes >> 2n)
    } else if (kind < 6) {
      const read = device.read()
      const expected = naive.take()
      if (read?.iova !== expected?.iova || read?.perm !== expected?.access)
        return `${what}: read ${read?.iova}`
    } else {
      const { memory } = device.queues[queue]!
      const access = prng.oneIn(2) ? ACCESS.READ : ACCESS.WRITE
      const into = new Segments(memory)
      const length = 1 + prng.below(0x2000)
      const answer = memory.translate(...lanes(iova), length, access, into)
      const expected = naive.translate(queue, iova, length, access)
      const joined: [bigint, number][] = []
      if (typeof expected === 'object') {
        for (const [at, n] of expected) {
          const before = joined.at(-1)
          if (before !== undefined && before[0] + BigInt(before[1]) === at) before[1] += n
          else joined.push([at, n])
        }
      }
      const got =
        answer >= 0 ? into.starts.slice(0, into.count).map((at, i) => [BigInt(at), into.lengths[i]]) : answer
      const wanted = expected === 'miss' ? -11 : expected === 'refused' ? -1 : joined
      // Memory that the process does not have is another matter.
      if (answer !== -14 && !isEqual(got, wanted)) return `${what}: translate ${got} instead of ${wanted}`
    }
    const maps = [...device.tables.iotlb!.entries()].map((m) => `${m.start} ${m.last} ${m.address} ${m.perm}`)
    if (maps.join() !== naive.maps.map((m) => `${m.start} ${m.last} ${m.address} ${m.perm}`).join())
      return `${what}: maps`
    const pending = device.messages.pending.map((n) => `${n.queue} ${n.message.iova} ${n.message.perm}`)
    if (pending.join() !== naive.pending.map((m) => `${m.queue} ${m.iova} ${m.access}`).join())
      return `${what}: pending`
  }
  return undefined
}

const isEqual = (a: unknown, b: unknown): boolean => String(a) === String(b)

describe('the IOTLB and the messages of a device', () => {
  it.each([1, 2, 3, 4, 5])('are those of plain lists, seed %d', (seed) => {
    expect(differs(seed)).toBeUndefined()
  })

  it.each<[string, (naive: NaiveVhost) => void]>([
    [
      'wakes too late',
      (n) => {
        const update = n.update.bind(n)
        n.update = (iova, bytes, ua, perm) => {
          const late = n.pending.filter((m) => m.iova === iova + bytes - 1n)
          const end = update(iova, bytes, ua, perm)
          if (end.taken) n.pending.push(...late)
          return end
        }
      },
    ],
    [
      'splits a map',
      (n) => {
        n.invalidate = (iova, bytes) => {
          n.maps = n.maps.filter((m) => !(m.start >= iova && m.last < iova + bytes))
        }
      },
    ],
    [
      'counts misses together',
      (n) => {
        const translate = n.translate.bind(n)
        n.translate = (...args) => {
          const end = translate(...args)
          const last = n.read.at(-1)
          if (end === 'miss' && n.read.slice(0, -1).some((m) => m.iova === last?.iova)) n.read.pop()
          return end
        }
      },
    ],
  ])('one that %s shows', (_what, skew) => {
    expect([1, 2, 3, 4, 5].some((seed) => differs(seed, skew) !== undefined)).toBe(true)
  })

  it('come back as they were, whatever happened', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const world = owned({ journal: true, iotlbEntries: LIMIT })
      const { journal, device, call, fd, qemu } = world
      const draw = new Draw(seed)
      const message = { version: 1, perm: 3, ua: UA }
      const mark = journal.mark()
      const before = journal.hash
      for (let i = 0; i < 100; i++) {
        const kind = draw.prng.below(12)
        const [iova, bytes] = [draw.iova(), draw.bytes()]
        if (kind === 0) call(VHOST_SET_FEATURES, { fd, features: BEHIND_IOTLB })
        else if (kind === 1) call(VHOST_RESET_OWNER, { fd })
        else if (kind < 6) device.write({ ...message, type: 2, iova, bytes }, qemu)
        else if (kind < 8) device.write({ ...message, type: 3, iova, bytes }, qemu)
        else if (kind < 10) device.read()
        else if (device.tables.iotlb !== null) {
          const { memory } = device.queues[0]!
          memory.translate(...lanes(iova), 64, ACCESS.READ, new Segments(memory))
        }
      }
      journal.rollback(mark)
      expect([seed, journal.hash]).toEqual([seed, before])
      expect([device.tables.iotlb, device.messages.pending, device.messages.readable]).toEqual([null, [], []])
    }
  })
})
