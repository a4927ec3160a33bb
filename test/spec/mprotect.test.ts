import { describe, expect, it } from 'vitest'
import type { RuleOf } from '../../src/bits/call.ts'
import { AddressSpace } from '../../src/memory/address-space.ts'
import { PROC_MMAP, PROC_MPROTECT } from '../../src/memory/proc-calls.ts'
import { makeCalls } from '../support/calls.ts'

const PAGE = 4096n
const AT = 0x1000_0000n

/** Pages 0 to 3 and 6 to 9 from AT on are mapped. */
const make = () => {
  const m = makeCalls()
  m.call(PROC_MMAP, { address: AT, bytes: 4n * PAGE, fixed: true })
  m.call(PROC_MMAP, { address: AT + 6n * PAGE, bytes: 4n * PAGE, fixed: true })
  return m
}
const protect = (address: bigint, bytes: bigint, m = make(), more: Record<string, boolean | string> = {}) =>
  m.call(PROC_MPROTECT, { address, bytes, read: true, ...more })

function full(page: bigint, pages: bigint, holeAfter = 5n) {
  const { host } = make()
  const mm = new AddressSpace({ host, name: 'small', mapCountMax: 2 })
  mm.begin()
  const where = { address: 10n * PAGE, bytes: holeAfter * PAGE, fixed: true, noreplace: false }
  mm.mmap({ ...where, read: true, write: true })
  return PROC_MPROTECT.answers[mm.mprotect(page * PAGE, pages * PAGE, { read: true, write: false })]!
}

/** Two huge pages of 2 MiB at 1 GiB. */
const HUGE = 2n * 1024n * 1024n
function makeHuge() {
  const m = makeCalls({ frames: 2048 })
  m.call(PROC_MMAP, { address: 2n ** 30n, bytes: 2n * HUGE, huge_shift: 21n, fixed: true })
  return m
}

describe('mprotect', () => {
  const cases: Record<RuleOf<typeof PROC_MPROTECT>, () => { rule: string; code: string }[]> = {
    'no-such-process': () => [
      protect(AT, PAGE, make(), { process: 'nobody' }),
      protect(1n, 0n, make(), { process: 'nobody' }),
    ],
    unaligned: () => [protect(AT + 1n, PAGE), protect(1n, 0n)],
    empty: () => [protect(AT, 0n), protect(0n, 0n)],
    'range-wraps': () => [protect(AT, 2n ** 64n - 1n), protect(2n ** 64n - PAGE, PAGE)],
    'start-not-mapped': () => [
      protect(AT - PAGE, PAGE),
      protect(AT - PAGE, 2n * PAGE),
      protect(2n ** 63n, PAGE),
    ],
    'split-past-limit': () => [full(11n, 1n), full(11n, 3n)],
    'huge-page-cut': () => [
      protect(2n ** 30n, PAGE, makeHuge()),
      protect(2n ** 30n + PAGE, HUGE, makeHuge()),
      protect(2n ** 30n + HUGE + PAGE, HUGE, makeHuge()),
    ],
    hole: () => [protect(AT, 5n * PAGE), protect(AT + 3n * PAGE, 4n * PAGE), full(10n, 9n)],
    done: () => [protect(AT, 1n), protect(AT, 4n * PAGE), full(10n, 2n), full(13n, 2n), full(10n, 5n)],
  }
  it.each(PROC_MPROTECT.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code })
  })

  const can = (m: ReturnType<typeof make>, page: number) => {
    const { mm } = m.qemu
    const at = AT + BigInt(page) * PAGE
    const byte = new Uint8Array(1)
    return `${mm.read(at, byte).code === 0 ? 'r' : '-'}${mm.write(at, byte).code === 0 ? 'w' : '-'}`
  }

  it('changes what lies before a hole', () => {
    const m = make()
    expect(protect(AT + 2n * PAGE, 5n * PAGE, m).rule).toBe('hole')
    expect([1, 2, 3, 6].map((page) => can(m, page))).toEqual(['rw', 'r-', 'r-', 'rw'])
  })

  it('takes permissions from pages that were used, and gives them back with their bytes', () => {
    const m = make()
    m.qemu.mm.write(AT, Uint8Array.of(9))
    protect(AT, PAGE, m, { read: false })
    expect(can(m, 0)).toBe('--')
    protect(AT, PAGE, m, { read: true })
    expect(can(m, 0)).toBe('r-')
    const byte = new Uint8Array(1)
    m.qemu.mm.read(AT, byte)
    expect(byte[0]).toBe(9)
    protect(AT, PAGE, m, { read: false, write: true })
    expect(can(m, 0)).toBe('rw')
  })

  it('leaves pins alone, and refuses new ones for writing', () => {
    const m = make()
    const frames = new Int32Array(2)
    const page = Number(AT / PAGE)
    expect(m.qemu.mm.pin(page, 1, true, frames)).toBe(1)
    protect(AT, PAGE, m)
    expect(m.host.frames.pinsOf(frames[0]!)).toBe(1)
    expect(m.qemu.mm.pin(page, 1, true, frames, 1)).toBe(-14)
    expect(m.qemu.mm.pin(page, 1, false, frames, 1)).toBe(1)
    expect(frames[1]).toBe(frames[0])
  })

  it('changes huge pages whole, and they stay huge', () => {
    const m = makeHuge()
    expect(protect(2n ** 30n, HUGE, m).code).toBe('OK')
    const byte = new Uint8Array(1)
    const write = (page: bigint) => m.qemu.mm.write(2n ** 30n + page * HUGE, byte).code
    expect([write(0n), write(1n)]).toEqual([-14, 0])
    expect(protect(2n ** 30n, PAGE, m).rule).toBe('huge-page-cut')
    expect(m.host.frames.orderOf(0)).toBe(9)
  })
})
