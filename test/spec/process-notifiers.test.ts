import { describe, expect, it } from 'vitest'
import { CPU_LOAD, CPU_STORE } from '../../src/kernel/process/cpu-calls.ts'
import {
  SYS_EXECVE,
  SYS_FORK,
  SYS_MMAP,
  SYS_MPROTECT,
  SYS_MUNMAP,
  SYS_PAGEMAP,
} from '../../src/kernel/process/sys-calls.ts'
import { makeProcessCalls, noteNotifier } from '../support/processes.ts'

const PAGE = 4096n
const AT = 0x4000_0000n
const GIB = 1n << 30n

/** P with pages around AT, where a GiB begins, and a notifier. */
function make(isNew = false) {
  const made = makeProcessCalls({ isNew })
  const told: string[] = []
  made.call(SYS_MMAP, { address: AT - 2n * PAGE, bytes: 4n * PAGE, fixed: true })
  made.processes.space('P').register(noteNotifier('n', made.tasks, told))
  const touch = (...pages: bigint[]) => {
    for (const page of pages) made.call(CPU_STORE, { address: AT + page * PAGE, data: 'x' })
    told.length = 0
  }
  return { ...made, told, touch }
}

describe('what notifiers are told', () => {
  it('nothing, where an entry that was not present comes, or becomes writable in place', () => {
    const made = make()
    made.touch()
    made.call(CPU_STORE, { address: AT, data: 'x' })
    made.call(SYS_MPROTECT, { address: AT, bytes: PAGE, read: true })
    made.call(SYS_MPROTECT, { address: AT, bytes: PAGE, read: true, write: true })
    made.told.length = 0
    made.call(CPU_STORE, { address: AT, data: 'y' })
    expect(made.told).toEqual([])
  })

  it('mprotect: each GiB that has a table, from the first table on', () => {
    const made = make()
    made.touch(-1n, 1n)
    made.call(SYS_MPROTECT, { address: AT - 2n * PAGE, bytes: 4n * PAGE, read: true })
    expect(made.told).toEqual([
      'n invalidate_range 3fffe000 40000000',
      'n invalidate_range 40000000 40002000',
    ])
    made.told.length = 0
    made.call(SYS_MPROTECT, { address: AT - 2n * PAGE, bytes: 4n * PAGE, read: true })
    expect(made.told).toEqual([])
  })

  it('mprotect of 6.1: once more, all entries that have to be flushed, of all areas', () => {
    const made = make(true)
    made.call(SYS_MMAP, { address: AT + 2n * PAGE, bytes: 2n * PAGE, fixed: true, execute: true })
    made.touch(-1n, 0n, 2n)
    const protect = (from: bigint, pages: bigint, rights: Record<string, boolean> = {}) => {
      made.told.length = 0
      made.call(SYS_MPROTECT, { address: AT + from * PAGE, bytes: pages * PAGE, ...rights })
      return made.told.map((told) => told.replace('n invalidate_range ', ''))
    }
    expect(protect(-2n, 6n, { read: true })).toEqual([
      '3fffe000 40000000',
      '40000000 40002000',
      '40002000 40004000',
      '3ffff000 40003000',
    ])
    // It leads to its own page, which is dirty: it may be written at once, and that is a right that changes.
    expect(protect(2n, 1n, { read: true, write: true })).toEqual(['40002000 40003000', '40002000 40003000'])
    // Nothing was mapped there: a table is there, and no entry that anybody could have remembered.
    expect(protect(1n, 1n)).toEqual(['40001000 40002000'])
    // What was not present cannot be remembered.
    expect(protect(2n, 1n)).toEqual(['40002000 40003000', '40002000 40003000'])
    expect(protect(2n, 1n, { read: true })).toEqual(['40002000 40003000'])
  })

  it('mprotect of 6.1: also where it fails further on', () => {
    const made = make(true)
    made.touch(0n)
    expect(made.call(SYS_MPROTECT, { address: AT, bytes: 8n * PAGE, read: true }).rule).toBe('hole')
    expect(made.told).toEqual([
      'n invalidate_range 40000000 40002000',
      'n invalidate_range 40000000 40001000',
    ])
    made.told.length = 0
    // The gather of the one before is gone.
    made.call(SYS_MPROTECT, { address: AT + PAGE, bytes: PAGE, read: true, execute: true })
    expect(made.told).toEqual(['n invalidate_range 40001000 40002000'])
  })

  it('mprotect: nothing for memory that has no table', () => {
    const made = make()
    made.call(SYS_MMAP, { address: AT + GIB, bytes: PAGE, fixed: true })
    made.touch()
    made.call(SYS_MPROTECT, { address: AT + GIB, bytes: PAGE })
    expect(made.told).toEqual([])
  })

  it('fork: each area that has private pages, once it is write-protected', () => {
    const made = make()
    made.call(SYS_MMAP, { address: AT + 8n * PAGE, bytes: PAGE, fixed: true })
    made.call(SYS_MMAP, { address: AT + 16n * PAGE, bytes: PAGE, fixed: true, shared: true })
    made.touch(0n, 16n)
    made.call(SYS_FORK, { child: 'Q' })
    expect(made.told).toEqual(['n invalidate_range 3fffe000 40002000'])
  })

  it.each([
    [
      false,
      [
        'n invalidate_range 40000000 40001000',
        'n change_pte 40000000',
        'n invalidate_range 40000000 40001000',
      ],
    ],
    [true, ['n invalidate_range 40000000 40001000', 'n change_pte 40000000']],
  ])(
    'copy on write (6.1: %s): the entry is clear when the first is told, and leads to the new page behind the second',
    (isNew, expected) => {
      const made = make(isNew)
      made.touch(0n)
      made.call(SYS_FORK, { child: 'Q' })
      made.told.length = 0
      const before = made.call(SYS_PAGEMAP, { address: AT }).outputs['target']
      const seen: unknown[] = []
      made.log.subscribe({
        kinds: ['mm.notify'],
        see: () => {
          const { tables } = made.processes
          const { pgd } = made.processes.space('P')
          const page = Number(AT >> 12n)
          tables.load(tables.find(pgd, page, 1), page, 1)
          seen.push(tables.isPresent ? BigInt(tables.target) * PAGE : 'clear')
        },
      })
      made.call(CPU_STORE, { address: AT, data: 'y' })
      expect(made.told).toEqual(expected)
      const now = made.call(SYS_PAGEMAP, { address: AT }).outputs['target']
      expect(now).not.toBe(before)
      expect(seen).toEqual(isNew ? ['clear', 'clear'] : ['clear', 'clear', now])
    },
  )

  it('munmap of nothing, and of what was never touched', () => {
    const made = make()
    made.touch()
    made.call(SYS_MUNMAP, { address: AT + 64n * PAGE, bytes: PAGE })
    expect(made.told).toEqual([])
    // No table was there: there is nothing to flush behind the range itself.
    made.call(SYS_MUNMAP, { address: AT, bytes: PAGE })
    expect(made.told).toEqual(['n invalidate_range 40000000 40001000'])
  })

  it('execve: the old address space ends, and the new one has no notifier', () => {
    const made = make()
    made.touch(0n)
    made.call(SYS_EXECVE)
    expect(made.told).toEqual(['n release'])
    expect(made.processes.mmOf('P')).toMatchObject({ name: 'P.2', notifiers: [] })
  })

  it('a notifier that leaves is told of its release once, and the structure goes with it', () => {
    const made = makeProcessCalls()
    const told: string[] = []
    const mm = made.processes.space('P')
    const notifier = noteNotifier('n', made.tasks, told)
    const dropped: string[] = []
    made.processes.onDropped((name) => dropped.push(name))
    mm.register(notifier)
    made.run(mm.put(), '')
    expect([told, dropped, mm.count]).toEqual([['n release'], [], 1])
    made.run(mm.unregister(notifier), '')
    expect([told, dropped, mm.count]).toEqual([['n release'], ['P'], 0])
  })
})

describe('entries of page tables', () => {
  it.each([
    [{}, 0x67n, false],
    [{ write: false }, 0x225n, false],
    [{ execute: true }, 0x67n, true],
    [{}, 0x8000_0000_0000_0067n, true],
  ])('%o', (rights, bits, isNew) => {
    const made = makeProcessCalls({ isNew })
    made.call(SYS_MMAP, { address: AT, bytes: PAGE, fixed: true, ...rights })
    made.touch(AT, bits === 0x67n || bits > 0x1000n)
    const { entry, target } = made.call(SYS_PAGEMAP, { address: AT }).outputs as Record<string, bigint>
    expect(entry! & ~0x000f_ffff_ffff_f000n).toBe(bits)
    expect(entry! & 0x000f_ffff_ffff_f000n).toBe(target)
  })

  it.each([false, true])('a child has not accessed what it has of its parent (6.1: %s)', (isNew) => {
    const made = make(isNew)
    made.touch(-1n, 0n)
    made.call(SYS_MPROTECT, { address: AT, bytes: PAGE })
    made.call(SYS_FORK, { child: 'Q' })
    const { tables } = made.processes
    const bitsOf = (mm: string, address: bigint) => {
      const page = Number(address / PAGE)
      tables.load(tables.find(made.processes.space(mm).pgd, page, 1), page, 1)
      return tables.lo & 0xfff
    }
    expect([bitsOf('P', AT - PAGE), bitsOf('P', AT)]).toEqual([0x65, 0x160])
    expect([bitsOf('Q', AT - PAGE), bitsOf('Q', AT)]).toEqual([0x45, 0x140])
    made.call(CPU_LOAD, { process: 'Q', address: AT - PAGE, bytes: 1n })
    expect(bitsOf('Q', AT - PAGE)).toBe(0x65)
  })

  it('the upper half of every first table is the kernel`s, for its own use only', () => {
    const { processes } = makeProcessCalls()
    const { tables, kernel } = processes
    const linear = Number(0x8800_0000_0000n / PAGE)
    tables.load(kernel.pgd, linear, 4)
    const entry = [tables.hi, tables.lo]
    tables.load(processes.space('P').pgd, linear, 4)
    expect([tables.hi, tables.lo]).toEqual(entry)
    expect(tables.lo & 0xfff).toBe(0x63)
    // The first 2 MiB, as one page that only the kernel may use.
    const table = tables.find(kernel.pgd, linear, 2)
    tables.load(table, linear, 2)
    expect([tables.target, tables.lo & 0xfff]).toEqual([0, 0x1e3])
  })
})
