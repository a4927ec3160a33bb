import { describe, expect, it } from 'vitest'
import { PROCESSES_MAX } from '../../src/memory/limits.ts'
import { makeHost, UNLIMITED } from '../support/host.ts'

describe('ProcessTable', () => {
  it('finds the process that acts, or the one that is named, while it lives', () => {
    const { processes } = makeHost()
    const qemu = processes.spawn('qemu', UNLIMITED)
    processes.spawn('other', UNLIMITED)
    expect(processes.find(undefined)).toBeUndefined()
    processes.actor = 'qemu'
    expect([processes.find(undefined), processes.find('qemu')]).toEqual([qemu, qemu])
    processes.exit(qemu)
    expect([processes.find(undefined), processes.get('qemu')]).toEqual([undefined, qemu])
    expect(processes.list().map((p) => [p.name, p.isAlive])).toEqual([
      ['qemu', false],
      ['other', true],
    ])
  })

  it('refuses a second process of a name, and more than there may be', () => {
    const { processes } = makeHost()
    const refused = expect.objectContaining({ code: 'ERR_MACHINE' })
    for (let i = 0; i < PROCESSES_MAX; i++) processes.spawn(`p${i}`, UNLIMITED)
    expect(() => processes.spawn('p7', UNLIMITED)).toThrow(refused)
    expect(() => processes.spawn('one more', UNLIMITED)).toThrow(refused)
  })

  it('forgets a process when the machine goes back, and makes the same one again', () => {
    const { processes, journal } = makeHost({ journal: true })
    const empty = journal.hash
    const mark = journal.mark()
    const first = processes.spawn('qemu', { memlockBytes: 2n ** 40n + 5n, hasIpcLock: true })
    const { hash } = journal
    journal.rollback(mark)
    expect([processes.get('qemu'), first.isAlive, journal.hash]).toEqual([undefined, false, empty])
    const again = processes.spawn('qemu', { memlockBytes: 2n ** 40n + 5n, hasIpcLock: true })
    expect([again.memlockBytes, again.hasIpcLock, journal.hash]).toEqual([2n ** 40n + 5n, true, hash])
    // No cells are left behind for each time around.
    expect(again).toBe(first)
  })

  it('lowers a limit without touching what is locked', () => {
    const { processes } = makeHost()
    const qemu = processes.spawn('qemu', UNLIMITED)
    qemu.mm.locked.add(10, qemu)
    qemu.allow({ memlockBytes: 0n, hasIpcLock: false })
    expect([qemu.mm.locked.pages, qemu.mm.locked.add(1, qemu)]).toEqual([10n, -12])
  })
})
