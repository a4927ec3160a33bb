import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import {
  PROC_CAPSET,
  PROC_EXIT,
  PROC_FORK,
  PROC_SETRLIMIT,
  PROC_STATUS,
} from '../../src/memory/proc-calls.ts'
import { makeCalls } from '../support/calls.ts'
import { testRules } from '../support/rule-table.ts'

const make = () => makeCalls({ pageShift: 16 })

/** A process that never was, and one that has ended. */
const noProcess = (decl: CallDecl, args: Record<string, Value>): Answer[] => {
  const m = make()
  m.call(PROC_FORK, { child: 'child' })
  m.call(PROC_EXIT, { process: 'child' })
  return ['nobody', 'child'].map((process) => m.call(decl, { ...args, process }))
}

describe('setrlimit', () => {
  testRules(PROC_SETRLIMIT, {
    'no-such-process': () => noProcess(PROC_SETRLIMIT, { memlock_bytes: 0n }),
    done: () =>
      [0n, 1n << 20n, (1n << 64n) - 1n].map((n) => make().call(PROC_SETRLIMIT, { memlock_bytes: n })),
  })

  it('counts for what is charged from then on, and for children', () => {
    const { call, qemu, processes } = make()
    expect(qemu.mm.locked.add(2, qemu)).toBe(0)
    call(PROC_SETRLIMIT, { memlock_bytes: 0x1_0000n })
    expect([qemu.mm.locked.add(1, qemu), qemu.mm.locked.pages]).toEqual([-12, 2n])
    call(PROC_FORK, { child: 'child' })
    expect(processes.get('child')).toMatchObject({ memlockBytes: 0x1_0000n, hasIpcLock: false })
    call(PROC_SETRLIMIT, { memlock_bytes: 0x3_0000n })
    expect([qemu.mm.locked.add(1, qemu), processes.get('child')?.memlockBytes]).toEqual([0, 0x1_0000n])
  })
})

describe('capset', () => {
  testRules(PROC_CAPSET, {
    'no-such-process': () => noProcess(PROC_CAPSET, { ipc_lock: true }),
    'not-permitted': () => [make().call(PROC_CAPSET, { ipc_lock: true })],
    done: () => [make().call(PROC_CAPSET, { ipc_lock: false })],
  })

  it('gives the capability up for good; the limit counts then', () => {
    const { call, qemu } = make()
    qemu.allow({ memlockBytes: 0n, hasIpcLock: true })
    expect(call(PROC_CAPSET, { ipc_lock: true }).rule).toBe('done')
    expect(qemu.mm.locked.add(1, qemu)).toBe(0)
    expect(call(PROC_CAPSET, { ipc_lock: false }).rule).toBe('done')
    expect([qemu.mm.locked.add(1, qemu), qemu.memlockBytes]).toEqual([-12, 0n])
    expect(call(PROC_CAPSET, { ipc_lock: true }).rule).toBe('not-permitted')
  })
})

describe('status', () => {
  testRules(PROC_STATUS, {
    'no-such-process': () => noProcess(PROC_STATUS, {}),
    done: () => [make().call(PROC_STATUS, {})],
  })

  it('tells locked_vm in KiB, whatever the system page is', () => {
    for (const pageShift of [12, 16]) {
      const { call, qemu } = makeCalls({ pageShift })
      qemu.mm.locked.add(3, qemu)
      const kib = 3n * 2n ** BigInt(pageShift - 10)
      expect(call(PROC_STATUS, {}).outputs).toEqual({ vm_lck_kib: kib, vm_pin_kib: 0n })
    }
  })
})
