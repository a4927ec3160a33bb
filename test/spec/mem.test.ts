import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import { gpa, ua as uaFrom } from '../../src/bits/brand.ts'
import type { RuleOf } from '../../src/bits/call.ts'
import { MEM_READ, MEM_WRITE } from '../../src/memory/mem-calls.ts'
import { PROC_MMAP } from '../../src/memory/proc-calls.ts'
import { makeCalls } from '../support/calls.ts'
import { eventsOf } from '../support/host.ts'

const UA = 0x1000_0000n
const RAM = 0x2000n
const MIB = 1n << 20n

/** 8 pages of memory at UA, the guest sees 2 of them from 0 on. */
function make(frames = 16) {
  const m = makeCalls({ frames })
  m.call(PROC_MMAP, { address: UA, bytes: 0x8000n, fixed: true })
  m.guest.addSlot({ gpa: gpa(0n), bytes: RAM, mm: m.qemu.mm, ua: uaFrom(UA) })
  return m
}
const read = (args: Record<string, Value>, m = make()) => m.call(MEM_READ, { bytes: 1n, ...args })
const write = (args: Record<string, Value>, m = make()) => m.call(MEM_WRITE, args)
const nobody = { space: 'ua', process: 'nobody' }
const ua = { space: 'ua', address: UA }

describe('mem read', () => {
  const cases: Record<RuleOf<typeof MEM_READ>, () => { rule: string; code: string }[]> = {
    'no-such-process': () => [
      read({ address: UA, ...nobody }),
      read({ address: 0n, bytes: MIB + 1n, ...nobody }),
    ],
    'too-long': () => [read({ address: 0n, bytes: MIB + 1n }), read({ address: RAM, bytes: MIB + 1n })],
    'no-memory': () => [
      read({ address: RAM }),
      read({ address: RAM - 1n, bytes: 2n }),
      read({ address: 2n ** 64n - 1n }),
      read({ space: 'ua', address: UA + 0x8000n }),
      read({ space: 'ua', address: 2n ** 64n - 1n }),
    ],
    done: () => [
      read({ address: RAM, bytes: 0n }),
      read({ address: 0n, bytes: RAM }),
      read({ ...ua, bytes: 0x8000n }),
    ],
  }
  it.each(MEM_READ.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code })
  })

  it('shows what was written, across pages, and 0 where nothing was; takes no frame', () => {
    const m = make()
    write({ address: 0xffen, data: 'hex:01 02 03 04' }, m)
    const { free } = m.host.frames
    expect(read({ address: 0xffdn, bytes: 6n }, m).outputs).toEqual({ data: 'hex:000102030400', moved: 6n })
    expect(read({ space: 'ua', address: UA + 0xffen, bytes: 4n }, m).outputs).toMatchObject({
      data: 'hex:01020304',
    })
    expect(read({ space: 'ua', address: UA + 0x5000n, bytes: 2n }, m).outputs).toMatchObject({
      data: 'hex:0000',
    })
    expect(m.host.frames.free).toBe(free)
  })

  it('moves what lies before the end of memory', () => {
    const m = make()
    write({ address: RAM - 2n, data: 'ab' }, m)
    expect(read({ address: RAM - 2n, bytes: 5n }, m).outputs).toEqual({ data: 'ab', moved: 2n })
  })
})

describe('mem write', () => {
  const cases: Record<RuleOf<typeof MEM_WRITE>, () => { rule: string; code: string }[]> = {
    'no-such-process': () => [
      write({ address: UA, data: 'x', ...nobody }),
      write({ address: UA, ...nobody }),
    ],
    'data-and-words': () => [
      write({ address: 0n }),
      write({ address: 0n, data: 'x', words: [1n] }),
      write({ address: RAM, data: 'x'.repeat(2 ** 20 + 1), words: [1n] }),
    ],
    'too-long': () => [
      write({ address: 0n, data: 'x'.repeat(2 ** 20 + 1) }),
      write({ address: RAM, data: 'x'.repeat(2 ** 20 + 1) }),
    ],
    'no-memory': () => {
      const m = make()
      m.qemu.mm.mprotect(UA, 0x1000n, { read: true, write: false })
      return [
        write({ address: RAM, data: 'x' }),
        write({ address: 0n, data: 'x' }, m),
        write({ ...ua, data: 'x' }, m),
      ]
    },
    'no-frames': () => [write({ ...ua, data: 'x'.repeat(0x2000) }, make(1))],
    done: () => [
      write({ address: 0n, data: 'x' }),
      write({ ...ua, words: [1n, 2n] }),
      write({ address: RAM, data: '' }),
    ],
  }
  it.each(MEM_WRITE.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code })
  })

  it('writes words least significant byte first where that is asked for', () => {
    const m = make()
    write({ address: 0x10n, words: [0x0102_0304_0506_0708n, 2n ** 63n], order: 'little' }, m)
    expect(read({ address: 0x10n, bytes: 16n }, m).outputs).toMatchObject({
      data: 'hex:08070605040302010000000000000080',
    })
  })

  it('writes words as big-endian memory holds them', () => {
    const m = make()
    write({ address: 0x10n, words: [0x0102_0304_0506_0708n, 2n ** 64n - 1n] }, m)
    expect(read({ address: 0x10n, bytes: 16n }, m).outputs).toMatchObject({
      data: `hex:0102030405060708${'ff'.repeat(8)}`,
    })
    expect([m.guest.loadU64be(0, 0x10), m.guest.wordHi, m.guest.wordLo]).toEqual([
      true,
      0x01020304,
      0x05060708,
    ])
  })

  it('records what was moved, and nothing where nothing was', () => {
    const m = make()
    write({ address: RAM - 1n, data: 'xy' }, m)
    write({ address: RAM, data: 'xy' }, m)
    write({ ...ua, data: 'xyz' }, m)
    expect(eventsOf(m, 'memory.write')).toEqual([
      { kind: 'memory.write', space: 'gpa', address: RAM - 1n, bytes: 1 },
      { kind: 'memory.write', space: 'ua', address: UA, bytes: 3 },
    ])
  })
})
