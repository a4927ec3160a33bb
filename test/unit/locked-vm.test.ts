import { describe, expect, it } from 'vitest'
import { U64_MAX } from '../../src/bits/u64.ts'
import { LOCKED_VM_WARNING, LockedVm } from '../../src/memory/locked-vm.ts'
import { eventsOf, makeHost, UNLIMITED } from '../support/host.ts'

const PAGE = 65_536n
const task = (memlockBytes: bigint, hasIpcLock = false) => ({ memlockBytes, hasIpcLock })

function make() {
  const made = makeHost({ pageShift: 16 })
  return { ...made, locked: new LockedVm(made.host, 'qemu') }
}

describe('locked_vm', () => {
  it('counts host pages up to the limit of the task that calls, whole pages only', () => {
    const { locked } = make()
    expect(locked.add(3, task(4n * PAGE - 1n))).toBe(0)
    expect(locked.add(1, task(4n * PAGE - 1n))).toBe(-12)
    expect(locked.add(1, task(4n * PAGE))).toBe(0)
    expect([locked.pages, locked.add(1, task(0n)), locked.pages]).toEqual([4n, -12, 4n])
  })

  it('asks CAP_IPC_LOCK of the caller, whoever the counter belongs to', () => {
    const { locked } = make()
    expect([locked.add(9, task(0n, true)), locked.add(1, task(9n * PAGE)), locked.pages]).toEqual([
      0,
      -12,
      9n,
    ])
  })

  it('does nothing for no pages, also over the limit', () => {
    const made = make()
    expect([made.locked.add(0, task(0n)), made.locked.sub(0), made.locked.pages]).toEqual([0, [], 0n])
    expect(made.log.length).toBe(0)
  })

  it('gives back more than it has: it wraps, and the kernel warns once', () => {
    const made = make()
    const { locked } = made
    const other = new LockedVm(made.host, 'other')
    locked.add(2, UNLIMITED)
    expect(locked.sub(2)).toEqual([])
    expect(locked.sub(3)).toEqual([LOCKED_VM_WARNING])
    expect(locked.pages).toBe(U64_MAX - 2n)
    expect(other.sub(1)).toEqual([])
    expect(eventsOf(made, 'warning')).toEqual([{ kind: 'warning', layer: 'kernel', text: LOCKED_VM_WARNING }])
    // The counter is past every limit now, also past that of a task without one: 2^64 - 1 bytes are 2^48 - 1 pages.
    expect(locked.add(1, UNLIMITED)).toBe(-12)
    expect([locked.add(5, task(0n, true)), locked.pages]).toEqual([0, 2n])
  })

  it('records each change with what it comes to; a change that does not fit a record takes several', () => {
    const made = make()
    made.locked.add(2 ** 31, task(0n, true))
    made.locked.sub(5)
    expect(eventsOf(made, 'mm.locked')).toEqual([
      { kind: 'mm.locked', process: 'qemu', delta: 2 ** 30, total: 2 ** 30 },
      { kind: 'mm.locked', process: 'qemu', delta: 2 ** 30, total: 2 ** 31 },
      { kind: 'mm.locked', process: 'qemu', delta: -5, total: 2 ** 31 - 5 },
    ])
  })

  it('warns again after the machine went back to before the warning', () => {
    const { locked, journal } = make()
    journal.on = true
    const mark = journal.mark()
    expect(locked.sub(1)).toHaveLength(1)
    journal.rollback(mark)
    expect([locked.pages, locked.sub(1).length]).toEqual([0n, 1])
  })
})
