import { describe, expect, it } from 'vitest'
import type { RuleOf } from '../../src/bits/call.ts'
import { PROC_EXIT, PROC_MMAP } from '../../src/memory/proc-calls.ts'
import { makeCalls } from '../support/calls.ts'
import { eventsOf } from '../support/host.ts'

const AT = 0x1000_0000n
const make = () => {
  const m = makeCalls()
  m.call(PROC_MMAP, { address: AT, bytes: 3n * 4096n, fixed: true })
  m.qemu.mm.write(AT, new Uint8Array(3 * 4096).fill(1))
  return m
}
const exit = (m: ReturnType<typeof make>, process = 'qemu') => m.call(PROC_EXIT, { process })

describe('exit', () => {
  const cases: Record<RuleOf<typeof PROC_EXIT>, () => { rule: string; code: string }[]> = {
    'no-such-process': () => {
      const m = make()
      exit(m)
      return [exit(m, 'nobody'), exit(m)]
    },
    done: () => [exit(make())],
  }
  it.each(PROC_EXIT.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code })
  })

  it('gives all memory back but what is pinned', () => {
    const m = make()
    const frames = new Int32Array(1)
    m.qemu.mm.pin(Number(AT / 4096n) + 1, 1, true, frames)
    exit(m)
    expect(m.host.frames.free).toBe(63)
    expect(eventsOf(m, 'mm.map', 'mm.exit', 'page.own').slice(-4)).toMatchObject([
      { kind: 'mm.map', ua: AT, bytes: 0x3000n, present: 0 },
      { kind: 'page.own', first: 0, count: 1, owner: '' },
      { kind: 'page.own', first: 2, count: 1, owner: '' },
      { kind: 'mm.exit', process: 'qemu' },
    ])
    m.qemu.mm.unpin(0, 1, frames)
    expect(m.host.frames.free).toBe(64)
  })

  it('closes files when the memory is gone, then lets go of the structure: who holds it keeps it', () => {
    const m = make()
    const seen: string[] = []
    m.processes.watch({
      exited: ({ mm }) => seen.push(`files of ${mm.name}, ${[...mm.ranges.ranges()].length} ranges`),
      freed: (mm) => seen.push(`mm of ${mm.name}`),
    })
    const { mm } = m.qemu
    mm.grab()
    exit(m)
    expect([mm.isDead, mm.holders]).toEqual([true, 1])
    // A container that charged the process settles with the structure after its end.
    mm.locked.sub(0)
    mm.drop()
    expect(seen).toEqual(['files of qemu, 0 ranges', 'mm of qemu'])
    expect(() => mm.drop()).toThrow('model bug')
    expect(() => mm.grab()).toThrow('model bug')
  })
})
