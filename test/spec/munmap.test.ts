import { describe, expect, it } from 'vitest'
import type { RuleOf } from '../../src/bits/call.ts'
import { AddressSpace } from '../../src/memory/address-space.ts'
import { PROC_MMAP, PROC_MUNMAP } from '../../src/memory/proc-calls.ts'
import { makeCalls } from '../support/calls.ts'

const PAGE = 4096n
const END = 1n << 47n
const AT = 0x1000_0000n

const make = () => {
  const m = makeCalls()
  m.call(PROC_MMAP, { address: AT, bytes: 8n * PAGE, fixed: true })
  return m
}
const munmap = (address: bigint, bytes: bigint, m = make(), process = 'qemu') =>
  m.call(PROC_MUNMAP, { address, bytes, process })

/** A process whose ranges are as many as there may be. */
function full(page: bigint, bytes: bigint) {
  const { host } = make()
  const mm = new AddressSpace({ host, name: 'small', mapCountMax: 1 })
  mm.begin()
  const where = { address: 10n * PAGE, bytes: 5n * PAGE, fixed: true, noreplace: false }
  mm.mmap({ ...where, read: true, write: true })
  return PROC_MUNMAP.answers[mm.munmap(page * PAGE, bytes)]!
}

/** Two huge pages of 2 MiB at 1 GiB, and what a call of munmap there answers. */
const HUGE = 2n * 1024n * 1024n
function makeHuge() {
  const m = makeCalls({ frames: 2048 })
  m.call(PROC_MMAP, { address: 2n ** 30n, bytes: 2n * HUGE, huge_shift: 21n, fixed: true })
  return m
}
const cut = (from: bigint, bytes: bigint) => munmap(2n ** 30n + from, bytes, makeHuge())

describe('munmap', () => {
  const cases: Record<RuleOf<typeof PROC_MUNMAP>, () => { rule: string; code: string }[]> = {
    'no-such-process': () => [munmap(AT, PAGE, make(), 'nobody'), munmap(1n, 0n, make(), 'nobody')],
    unaligned: () => [munmap(AT + 1n, PAGE), munmap(END + 1n, 0n)],
    'past-end': () => [
      munmap(END, PAGE),
      munmap(AT, END),
      munmap(END + PAGE, 0n),
      munmap(0n, 2n ** 64n - 1n),
    ],
    empty: () => [munmap(AT, 0n), munmap(END, 0n)],
    'split-past-limit': () => [full(11n, 1n), full(11n, PAGE)],
    'huge-page-cut': () => [cut(PAGE, HUGE), cut(0n, HUGE + PAGE), cut(0n, 1n), cut(-PAGE, 2n * PAGE)],
    done: () => [
      munmap(AT, 1n),
      munmap(0n, END),
      munmap(AT + 100n * PAGE, PAGE),
      full(10n, PAGE),
      full(14n, PAGE),
      cut(0n, HUGE),
      cut(HUGE, HUGE + PAGE),
      cut(-PAGE, 2n * HUGE + 2n * PAGE),
    ],
  }
  it.each(PROC_MUNMAP.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code })
  })

  it('leaves the ends of a range, and no memory in the hole', () => {
    const m = make()
    m.qemu.mm.write(AT, new Uint8Array(8 * 4096).fill(5))
    const { free } = m.host.frames
    expect(munmap(AT + 2n * PAGE, PAGE + 1n, m).code).toBe('OK')
    expect([...m.qemu.mm.ranges.ranges()].map((r) => [r.start, r.end])).toEqual([
      [0x10000, 0x10002],
      [0x10004, 0x10008],
    ])
    const bytes = new Uint8Array(3 * 4096)
    expect(m.qemu.mm.read(AT, bytes)).toEqual({ moved: 2 * 4096, code: -14 })
    expect(m.host.frames.free).toBe(free + 2)
  })

  it('leaves a pinned page to the device: it keeps its bytes and its owner until it is unpinned', () => {
    const m = make()
    const { mm } = m.qemu
    const { frames, memory } = m.host
    const pinned = new Int32Array(1)
    mm.write(AT, Uint8Array.of(42))
    expect(mm.pin(Number(AT / PAGE), 1, true, pinned)).toBe(1)
    const [frame] = pinned as unknown as [number]
    munmap(AT, PAGE, m)
    expect([frames.isTaken(frame), frames.ownerOf(frame), frames.pinsOf(frame)]).toEqual([true, 'qemu', 1])

    // What the process maps there now is another page.
    m.call(PROC_MMAP, { address: AT, bytes: PAGE, fixed: true })
    mm.write(AT, Uint8Array.of(1))
    const byte = new Uint8Array(1)
    memory.readPage(frames.hostPage(frame), 0, byte, 0, 1)
    expect(byte[0]).toBe(42)

    expect(mm.unpin(Number(AT / PAGE), 1, pinned)).toBe(1)
    expect([frames.isTaken(frame), frames.ownerOf(frame)]).toEqual([false, ''])
  })

  it('keeps a huge page whole until its last pin is gone', () => {
    const m = makeHuge()
    const { frames } = m.host
    const pinned = new Int32Array(1)
    m.qemu.mm.pin(2 ** 18 + 511, 1, true, pinned)
    expect([pinned[0], frames.free]).toEqual([511, 1024])
    munmap(2n ** 30n, 2n * HUGE, m)
    expect([frames.free, frames.isTaken(0), frames.ownerOf(0), frames.orderOf(511)]).toEqual([
      1536,
      true,
      'qemu',
      9,
    ])
    m.qemu.mm.unpin(2 ** 18 + 511, 1, pinned)
    expect([frames.free, frames.isTaken(0), frames.orderOf(511)]).toEqual([2048, false, 0])
  })
})
