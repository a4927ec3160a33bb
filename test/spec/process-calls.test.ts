import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import {
  SYS_EXECVE,
  SYS_EXIT,
  SYS_FORK,
  SYS_MMAP,
  SYS_MPROTECT,
  SYS_MUNMAP,
} from '../../src/kernel/process/sys-calls.ts'
import type { Area } from '../../src/kernel/process/vmas.ts'
import { makeProcessCalls, noteNotifier } from '../support/processes.ts'
import { testRules } from '../support/rule-table.ts'

const PAGE = 4096n
const AT = 0x100_0000n
const END = 0x7fff_ffff_f000n
const ALL_ONES = 2n ** 64n - 1n

/** P with eight private pages from AT on. */
function make(options: Parameters<typeof makeProcessCalls>[0] = {}) {
  const made = makeProcessCalls(options)
  made.call(SYS_MMAP, { address: AT, bytes: 8n * PAGE, fixed: true })
  return made
}

/** P with as many areas as there may be, the first one of ten pages from page 16 on. */
function full() {
  const made = makeProcessCalls()
  const mm = made.processes.space('P')
  const area = {
    flags: 3,
    isShared: false,
    growsDown: false,
    file: undefined,
    backing: '',
    offset: 0,
  } as const
  const areas: Area[] = [{ ...area, first: 16, end: 26, hasAnon: false }]
  for (let i = 1; i < 65_530; i++)
    areas.push({ ...area, first: 100 + 2 * i, end: 101 + 2 * i, hasAnon: false })
  mm.areas = areas
  return made
}

const over = () => {
  const made = full()
  const mm = made.processes.space('P')
  mm.areas = [...mm.areas, { ...(mm.areas[0] as Area), first: 1_000_000, end: 1_000_001 }]
  return made
}

describe('fork', () => {
  testRules(SYS_FORK, {
    'no-such-process': () => [make().call(SYS_FORK, { process: 'nobody', child: 'P' })],
    'name-taken': () => {
      const made = make()
      made.leave(0)
      return [made.call(SYS_FORK, { child: 'P' })]
    },
    'no-memory': () =>
      [0, 1, 2, 3].map((free) => {
        const made = make()
        made.touch(AT, true)
        made.leave(free)
        const answer = made.call(SYS_FORK, { child: 'Q' })
        expect(made.processes.pages.freePages).toBe(free)
        expect(made.processes.find('Q')).toBeUndefined()
        return answer
      }),
    done: () => {
      const made = make()
      made.touch(AT, true)
      made.leave(4)
      return [made.call(SYS_FORK, { child: 'Q' })]
    },
  })
})

describe('mmap', () => {
  const mmap = (args: Record<string, Value>, made = make()) => made.call(SYS_MMAP, { bytes: PAGE, ...args })
  testRules(SYS_MMAP, {
    'no-such-process': () => [mmap({ process: 'nobody', bytes: 0n })],
    'bad-fd': () => [mmap({ fd: 3n, bytes: 0n })],
    empty: () => [mmap({ bytes: 0n, address: 1n, fixed: true })],
    'bytes-wrap': () => [mmap({ bytes: ALL_ONES }, over())],
    'too-many-areas': () => [mmap({ bytes: END, address: 1n, fixed: true }, over())],
    'no-room': () => [
      mmap({ bytes: END + 1n }),
      mmap({ address: END, fixed: true }),
      mmap({ address: END - PAGE + 1n, fixed: true }),
      mmap({ bytes: END - PAGE, address: 1n }),
    ],
    unaligned: () => [mmap({ address: AT + 1n, fixed: true, growsdown: true, shared: true })],
    'shared-stack': () => [mmap({ growsdown: true, shared: true })],
    'split-past-limit': () => [mmap({ address: 20n * PAGE, fixed: true }, full())],
    done: () => [
      mmap({}),
      mmap({ address: 16n * PAGE, bytes: 10n * PAGE, fixed: true }, full()),
      mmap({ address: END - PAGE, fixed: true }),
      mmap({ address: 0n, fixed: true }),
    ],
  })

  it('goes to the hint where that is free, else below the base, from the top down', () => {
    const made = make()
    const at = (args: Record<string, Value>) => mmap(args, made).outputs['address']
    expect(at({ address: 0x200_1fffn })).toBe(0x200_1000n)
    expect(at({ address: 0x200_1000n })).toBe(0x7fff_f7ff_e000n)
    expect(at({ bytes: 3n * PAGE })).toBe(0x7fff_f7ff_b000n)
    expect(at({ address: 1n })).toBe(0x7fff_f7ff_a000n)
    expect(at({ address: PAGE })).toBe(0x1_0000n)
  })

  it('leaves a gap of 1 MiB below a stack', () => {
    const made = make()
    const stack = made.call(SYS_MMAP, { bytes: PAGE, growsdown: true }).outputs['address']
    expect(made.call(SYS_MMAP, { bytes: PAGE }).outputs['address']).toBe((stack as bigint) - 0x10_1000n)
  })
})

describe('munmap', () => {
  const munmap = (address: bigint, bytes: bigint, made = make(), process = 'P') =>
    made.call(SYS_MUNMAP, { process, address, bytes })
  testRules(SYS_MUNMAP, {
    'no-such-process': () => [munmap(1n, 0n, make(), 'nobody')],
    unaligned: () => [munmap(AT + 1n, PAGE), munmap(END + 1n, 0n)],
    'past-end': () => [munmap(END, PAGE), munmap(END + PAGE, 0n), munmap(0n, ALL_ONES)],
    empty: () => [munmap(AT, 0n), munmap(END, 0n)],
    'split-past-limit': () => [munmap(17n * PAGE, PAGE, full()), munmap(17n * PAGE, 1n, full())],
    done: () => [
      munmap(AT, 1n),
      munmap(0n, END),
      munmap(AT + 100n * PAGE, PAGE),
      munmap(16n * PAGE, PAGE, full()),
    ],
  })

  it('clears entries, tells notifiers, takes tables out, tells them again, and frees behind it', () => {
    const made = make()
    const told: string[] = []
    for (let page = 0n; page < 8n; page++) made.touch(AT + page * PAGE, true)
    const mm = made.processes.space('P')
    const { freePages } = made.processes.pages
    mm.register(noteNotifier('n1', made.tasks, told))
    mm.register(noteNotifier('n2', made.tasks, told))
    const from = made.log.length
    munmap(AT, 8n * PAGE, made)
    expect(told).toEqual([
      'n2 invalidate_range 1000000 1008000',
      'n1 invalidate_range 1000000 1008000',
      'n2 invalidate_range 0 1008000',
      'n1 invalidate_range 0 1008000',
    ])
    const order = [...made.log.records()]
      .filter((r) => r.seq >= from)
      .map((r) => r.event)
      .flatMap((e) =>
        e.kind === 'task.step' && e.step.startsWith('note')
          ? [e.step]
          : e.kind === 'page.own'
            ? [`${e.owner} ${e.count}`]
            : [],
      )
    expect(order.slice(0, 4)).toEqual(['note of n2', 'note of n1', 'note of n2', 'note of n1'])
    // Eight pages, and the three tables on the way to them.
    expect(order.slice(4)).toEqual(new Array(11).fill('free 1'))
    expect(made.processes.pages.freePages).toBe(freePages + 11)
  })

  it('keeps tables that a neighbour needs', () => {
    const made = make()
    made.touch(AT, true)
    made.touch(AT + PAGE, true)
    munmap(AT, PAGE, made)
    expect(made.events('mm.table').filter((e) => e.kind === 'mm.table' && e.state === 0)).toEqual([])
    munmap(AT + PAGE, 7n * PAGE, made)
    const gone = made
      .events('mm.table')
      .flatMap((e) => (e.kind === 'mm.table' && e.state === 0 ? [e.level] : []))
    expect(gone).toEqual([1, 2, 3])
  })
})

describe('mprotect', () => {
  const mprotect = (address: bigint, bytes: bigint, made = make(), more: Record<string, Value> = {}) =>
    made.call(SYS_MPROTECT, { address, bytes, read: true, ...more })
  testRules(SYS_MPROTECT, {
    'no-such-process': () => [mprotect(1n, 0n, make(), { process: 'nobody' })],
    unaligned: () => [mprotect(AT + 1n, 0n)],
    empty: () => [mprotect(AT, 0n), mprotect(0n, 0n)],
    'range-wraps': () => [mprotect(AT, ALL_ONES), mprotect(2n ** 64n - PAGE, PAGE)],
    'start-not-mapped': () => [mprotect(AT - PAGE, 2n * PAGE), mprotect(END, PAGE)],
    'split-past-limit': () => [mprotect(17n * PAGE, PAGE, full()), mprotect(25n * PAGE, 80n * PAGE, full())],
    hole: () => [mprotect(AT + 7n * PAGE, 2n * PAGE)],
    done: () => [mprotect(AT, 8n * PAGE), mprotect(16n * PAGE, 10n * PAGE, full())],
  })
})

describe('execve and exit', () => {
  testRules(SYS_EXECVE, {
    'no-such-process': () => [make().call(SYS_EXECVE, { process: 'nobody' })],
    'no-memory': () => {
      const made = make()
      made.leave(0)
      const answer = made.call(SYS_EXECVE)
      expect(made.processes.mmOf('P')?.name).toBe('P')
      return [answer]
    },
    done: () => [make().call(SYS_EXECVE)],
  })
  testRules(SYS_EXIT, {
    'no-such-process': () => {
      const made = make()
      made.call(SYS_EXIT)
      return [made.call(SYS_EXIT), make().call(SYS_EXIT, { process: 'nobody' })]
    },
    done: () => [make().call(SYS_EXIT)],
  })
})
