import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import type { RuleOf } from '../../src/bits/call.ts'
import { AddressSpace } from '../../src/memory/address-space.ts'
import { PROC_MMAP } from '../../src/memory/proc-calls.ts'
import { makeCalls } from '../support/calls.ts'
import { eventsOf } from '../support/host.ts'

const PAGE = 65536n
const END = 1n << 47n
const AT = 0x1000_0000n

const make = () => makeCalls({ pageShift: 16 })
const mmap = (args: Record<string, Value>, m = make()): Answer => m.call(PROC_MMAP, args)
const fixed = { fixed: true }

/** Pages of 2 MiB: 32 system pages. A host of `frames` frames, the first of which is taken. */
const HUGE = 2n * 1024n * 1024n
function huge(frames = 130) {
  const m = makeCalls({ pageShift: 16, frames })
  mmap({ address: AT, bytes: PAGE, ...fixed }, m)
  m.qemu.mm.write(AT, Uint8Array.of(7))
  return m
}
const hugeAt = (pages: bigint) => ({ address: 64n * HUGE, bytes: pages * HUGE, huge_shift: 21n, ...fixed })

/** An address space in which 3 ranges are the most, and has as many (or one more). */
function full(ranges: number) {
  const { host } = make()
  const mm = new AddressSpace({ host, name: 'small', mapCountMax: 3 })
  mm.begin()
  const map = (page: bigint, pages: bigint) =>
    mm.mmap({
      address: page * PAGE,
      bytes: pages * PAGE,
      read: true,
      write: true,
      fixed: true,
      noreplace: false,
    }).place
  for (let i = 0; i < ranges; i++) map(BigInt(10 * (i + 1)), 5n)
  return { map, rule: (place: number) => PROC_MMAP.answers[place]! }
}

const small = (ranges: number, page: bigint, pages: bigint) => {
  const { map, rule } = full(ranges)
  return rule(map(page, pages))
}

describe('mmap', () => {
  // The last input of a row breaks a later rule as well: the earlier rule must answer.
  const cases: Record<RuleOf<typeof PROC_MMAP>, () => { rule: string; code: string }[]> = {
    'no-such-process': () => [
      mmap({ process: 'nobody', bytes: PAGE }),
      mmap({ process: 'nobody', bytes: 0n }),
    ],
    'huge-shift': () => [
      mmap({ bytes: PAGE, huge_shift: 16n }),
      mmap({ bytes: PAGE, huge_shift: 255n }),
      mmap({ bytes: 0n, huge_shift: 22n }),
    ],
    empty: () => [mmap({ bytes: 0n }), mmap({ bytes: 0n, address: END + 1n, ...fixed })],
    'bytes-wrap': () => [
      mmap({ bytes: 2n ** 64n - 1n }),
      mmap({ bytes: 2n ** 64n - PAGE + 1n, address: 1n, ...fixed }),
    ],
    'too-many-maps': () => [small(4, 100n, 1n), small(4, 2n ** 40n, 1n)],
    'no-room': () => [
      mmap({ bytes: END + PAGE }),
      mmap({ bytes: END }),
      mmap({ address: END - PAGE, bytes: 2n * PAGE, ...fixed }),
      mmap({ address: END - 1n, bytes: PAGE, ...fixed }),
    ],
    unaligned: () => {
      const m = make()
      mmap({ address: AT, bytes: PAGE, ...fixed }, m)
      return [
        mmap({ address: AT + 4096n, bytes: PAGE, ...fixed }, m),
        mmap({ address: AT + 1n, bytes: 1n, noreplace: true }, m),
        mmap({ address: 64n * HUGE + PAGE, bytes: PAGE, huge_shift: 21n, ...fixed }, huge()),
      ]
    },
    exists: () => {
      const m = make()
      mmap({ address: AT, bytes: PAGE, ...fixed }, m)
      return [
        mmap({ address: AT, bytes: 1n, noreplace: true }, m),
        mmap({ address: AT - PAGE, bytes: 4n * PAGE, fixed: true, noreplace: true }, m),
      ]
    },
    'split-past-limit': () => [small(3, 11n, 1n)],
    'huge-page-cut': () => {
      const m = huge()
      mmap(hugeAt(2n), m)
      return [
        mmap({ address: 64n * HUGE + PAGE, bytes: PAGE, ...fixed }, m),
        mmap({ address: 63n * HUGE, bytes: HUGE + PAGE, ...fixed }, m),
        mmap({ address: 66n * HUGE - PAGE, bytes: PAGE, ...fixed }, m),
      ]
    },
    'no-huge-pages': () => [
      mmap(hugeAt(4n), huge()),
      mmap({ bytes: HUGE, huge_shift: 30n }, huge()),
      mmap({ bytes: 1n, huge_shift: 21n }, huge(63)),
    ],
    done: () => [
      mmap({ bytes: 1n }),
      mmap({ address: AT + 5n, bytes: PAGE }),
      mmap({ address: END - PAGE, bytes: 1n, ...fixed }),
      mmap(hugeAt(3n), huge()),
      mmap({ bytes: 1n, huge_shift: 21n }, huge(64)),
      small(3, 10n, 1n),
      small(3, 100n, 1n),
    ],
  }
  it.each(PROC_MMAP.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code })
  })

  it('chooses the highest gap that is large enough, the same every time, and says that the choice is free', () => {
    const m = make()
    const first = mmap({ bytes: 4n * PAGE }, m)
    const second = mmap({ bytes: PAGE }, m)
    expect(first).toMatchObject({ outputs: { address: END - 0x800_0000n - 4n * PAGE }, free: ['address'] })
    expect(second).toMatchObject({ outputs: { address: END - 0x800_0000n - 5n * PAGE } })
    mmap({ address: END - 0x800_0000n - 8n * PAGE, bytes: PAGE, ...fixed }, m)
    expect(mmap({ bytes: 2n * PAGE }, m).outputs).toEqual({ address: END - 0x800_0000n - 7n * PAGE })
    expect(mmap({ bytes: PAGE }, m).outputs).toEqual({ address: END - 0x800_0000n - 9n * PAGE })
  })

  it('takes a hint, rounded up, where nothing is in the way', () => {
    const m = make()
    expect(mmap({ address: AT - 1n, bytes: PAGE }, m).outputs).toEqual({ address: AT })
    expect(mmap({ address: AT, bytes: PAGE }, m).outputs).not.toEqual({ address: AT })
    expect(mmap({ address: 2n ** 64n - 1n, bytes: PAGE }, m).code).toBe('OK')
  })

  it('replaces what a fixed range covers: its memory is new', () => {
    const m = make()
    mmap({ address: AT, bytes: 2n * PAGE, ...fixed }, m)
    m.qemu.mm.write(AT, Uint8Array.of(7))
    m.qemu.mm.write(AT + PAGE, Uint8Array.of(8))
    const { free } = m.host.frames
    mmap({ address: AT, bytes: PAGE, ...fixed }, m)
    const bytes = new Uint8Array(1)
    expect([m.qemu.mm.read(AT, bytes).code, bytes[0]]).toEqual([0, 0])
    expect([m.qemu.mm.read(AT + PAGE, bytes).code, bytes[0]]).toEqual([0, 8])
    expect(m.host.frames.free).toBe(free + 1)
  })

  it('records each range that goes and comes, with the call as the cause', () => {
    const m = make()
    mmap({ address: AT, bytes: PAGE, ...fixed }, m)
    mmap({ address: AT, bytes: 2n * PAGE, ...fixed }, m)
    const map = (bytes: bigint, present: number) => ({
      kind: 'mm.map',
      process: 'qemu',
      ua: AT,
      bytes,
      present,
    })
    expect(eventsOf(m, 'mm.map')).toEqual([map(PAGE, 1), map(PAGE, 0), map(2n * PAGE, 1)])
    const last = m.log.read(m.log.length - 2)
    expect(m.log.read(last.cause!).event).toMatchObject({
      kind: 'call.enter',
      call: 'mmap',
      a0: AT,
      a1: 2n * PAGE,
    })
    expect(m.log.read(m.log.length - 1).event).toMatchObject({
      kind: 'call.return',
      code: 0,
      rule: 'done',
      out: AT,
    })
  })

  it('takes huge pages at once, each from frames in a row that begin at a multiple of it', () => {
    const m = huge()
    const { frames } = m.host
    expect(mmap(hugeAt(3n), m).outputs).toEqual({ address: 64n * HUGE })
    expect(frames.free).toBe(130 - 1 - 96)
    const pinned = new Int32Array(96)
    expect(m.qemu.mm.pin(64 * 32, 96, true, pinned)).toBe(96)
    expect([...pinned]).toEqual(Array.from({ length: 96 }, (_, i) => 32 + i))
    expect([31, 32, 127, 128].map((frame) => frames.orderOf(frame))).toEqual([0, 5, 5, 0])
  })

  it('rounds huge mappings up to whole pages, and places them at multiples of a page', () => {
    const m = huge()
    const { outputs } = mmap({ address: AT + 1n, bytes: HUGE + 1n, huge_shift: 21n }, m)
    expect(outputs).toEqual({ address: AT + HUGE })
    const top = mmap({ bytes: 1n, huge_shift: 21n }, m).outputs!['address'] as bigint
    expect([top % HUGE, top]).toEqual([0n, END - 0x800_0000n - HUGE])
    expect(eventsOf(m, 'mm.map').slice(1)).toMatchObject([{ bytes: 2n * HUGE }, { ua: top, bytes: HUGE }])
  })

  it('has unmapped what it should replace where there are too few huge pages', () => {
    const m = huge()
    mmap({ address: 64n * HUGE, bytes: PAGE, ...fixed }, m)
    expect(mmap(hugeAt(4n), m).rule).toBe('no-huge-pages')
    expect(m.qemu.mm.read(64n * HUGE, new Uint8Array(1)).code).toBe(-14)
    expect(m.host.frames.free).toBe(129)
  })
})
