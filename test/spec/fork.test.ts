import { describe, expect, it } from 'vitest'
import type { RuleOf } from '../../src/bits/call.ts'
import { PROCESSES_MAX } from '../../src/memory/limits.ts'
import { PROC_EXIT, PROC_FORK, PROC_MMAP } from '../../src/memory/proc-calls.ts'
import { makeCalls } from '../support/calls.ts'
import { eventsOf, UNLIMITED } from '../support/host.ts'

const PAGE = 4096n
const AT = 0x1000_0000n

function make(frames = 8) {
  const m = makeCalls({ frames })
  m.call(PROC_MMAP, { address: AT, bytes: 4n * PAGE, fixed: true })
  return m
}
const fork = (m: ReturnType<typeof make>, child = 'child', process = 'qemu') =>
  m.call(PROC_FORK, { process, child })
const byteAt = (m: ReturnType<typeof make>, name: string, page = 0) => {
  const byte = new Uint8Array(1)
  m.processes.get(name)!.mm.read(AT + BigInt(page) * PAGE, byte)
  return byte[0]
}
const pinned = (frames: number) => {
  const m = make(frames)
  m.qemu.mm.pin(Number(AT / PAGE), 3, true, new Int32Array(3))
  return m
}
let crowded: ReturnType<typeof make> | undefined
/** As many processes as there may be, and no frame free. */
const crowd = () => {
  if (crowded !== undefined) return crowded
  crowded = pinned(3)
  for (let i = 1; i < PROCESSES_MAX; i++) crowded.processes.spawn(`p${i}`, UNLIMITED)
  return crowded
}

describe('fork', () => {
  const cases: Record<RuleOf<typeof PROC_FORK>, () => { rule: string; code: string }[]> = {
    'no-such-process': () => [fork(make(), 'child', 'nobody'), fork(crowd(), 'qemu', 'nobody')],
    'name-taken': () => {
      const m = make()
      fork(m)
      m.call(PROC_EXIT, { process: 'child' })
      return [fork(m, 'qemu'), fork(m, 'child'), fork(crowd(), 'p1')]
    },
    'too-many-processes': () => [fork(crowd())],
    'no-frames': () => [fork(pinned(5))],
    done: () => [fork(make()), fork(pinned(6))],
  }
  it.each(PROC_FORK.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code })
  })

  it('shares pages until one of the two writes: that one gets a copy', () => {
    const m = make()
    m.qemu.mm.write(AT, Uint8Array.of(5))
    const { frames } = m.host
    const { free } = frames
    fork(m)
    expect([frames.free, byteAt(m, 'child')]).toEqual([free, 5])
    m.qemu.mm.write(AT, Uint8Array.of(6))
    expect([frames.free, byteAt(m, 'qemu'), byteAt(m, 'child')]).toEqual([free - 1, 6, 5])
  })

  it('gives the page to the one that is left, with its first write', () => {
    const m = make()
    m.qemu.mm.write(AT, Uint8Array.of(5))
    fork(m)
    m.call(PROC_EXIT, { process: 'qemu' })
    const { mm } = m.processes.get('child')!
    const { free } = m.host.frames
    mm.write(AT, Uint8Array.of(7))
    expect(m.host.frames.free).toBe(free)
    expect(eventsOf(m, 'page.own').at(-1)).toMatchObject({ owner: 'child', generation: 1 })
    expect(byteAt(m, 'child')).toBe(7)
  })

  it('copies pinned pages at once, so that the device and the parent keep seeing the same memory', () => {
    const m = make()
    const { mm } = m.qemu
    const { frames, memory } = m.host
    mm.write(AT, Uint8Array.of(5))
    const frame = new Int32Array(1)
    mm.pin(Number(AT / PAGE), 1, true, frame)
    fork(m)
    mm.write(AT, Uint8Array.of(6))
    const byte = new Uint8Array(1)
    memory.readPage(frames.hostPage(frame[0]!), 0, byte, 0, 1)
    expect([byte[0], byteAt(m, 'child')]).toEqual([6, 5])
  })

  it('hands on limits and capabilities, and starts with nothing locked', () => {
    const m = make()
    m.qemu.allow({ memlockBytes: 12_288n, hasIpcLock: true })
    m.qemu.mm.locked.add(2, m.qemu)
    fork(m)
    const child = m.processes.get('child')!
    expect([child.memlockBytes, child.hasIpcLock, child.mm.locked.pages]).toEqual([12_288n, true, 0n])
  })

  it('keeps huge pages from the child, also pinned ones', () => {
    const m = makeCalls({ frames: 1024 })
    m.call(PROC_MMAP, { address: AT, bytes: 1n, huge_shift: 21n, fixed: true })
    m.call(PROC_MMAP, { address: AT - PAGE, bytes: PAGE, fixed: true })
    m.qemu.mm.write(AT, Uint8Array.of(7))
    m.qemu.mm.write(AT - PAGE, Uint8Array.of(8))
    m.qemu.mm.pin(Number(AT / PAGE) - 1, 2, true, new Int32Array(2))
    const { free } = m.host.frames
    expect(fork(m).code).toBe('OK')
    const { mm } = m.processes.get('child')!
    expect([byteAt(m, 'child', -1), mm.read(AT, new Uint8Array(1)).code]).toEqual([8, -14])
    expect([...mm.ranges.ranges()].length).toBe(1)
    expect(m.host.frames.free).toBe(free - 1)
  })
})
