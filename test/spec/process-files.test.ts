import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import { CPU_LOAD, CPU_STORE } from '../../src/kernel/process/cpu-calls.ts'
import {
  SYS_CLOSE,
  SYS_DUP,
  SYS_EXECVE,
  SYS_EXIT,
  SYS_FILE,
  SYS_FORK,
  SYS_IOCTL,
  SYS_MMAP,
  SYS_MPROTECT,
  SYS_MUNMAP,
  SYS_OPEN,
  SYS_PAGEMAP,
  SYS_STATE,
} from '../../src/kernel/process/sys-calls.ts'
import { makeProcessCalls, noteBinder, noteNotifier } from '../support/processes.ts'
import { testRules } from '../support/rule-table.ts'

const PAGE = 4096n
const AT = 0x100_0000n
const PATH = '/dev/ep0'

/** P with one open file, descriptor 3, and who binds. */
function opened() {
  const made = makeProcessCalls()
  const told: string[] = []
  const binder = noteBinder(made.tasks, told)
  made.files.drivers.binder = binder
  made.call(SYS_OPEN, { path: PATH })
  return { ...made, binder, told }
}

/** P with as many descriptors as it may have. */
function manyFiles() {
  const made = opened()
  for (let fd = 4; fd < 1024; fd++) made.call(SYS_DUP, { fd: 3n })
  return made
}

const refused = (errno: number) => {
  const made = opened()
  made.binder.answer = errno
  return [
    made.call(SYS_IOCTL, { fd: 3n, request: 'bind' }),
    made.call(SYS_IOCTL, { fd: 3n, request: 'unbind', pasid: 1n }),
  ]
}

describe('files of drivers', () => {
  describe('open', () => {
    testRules(SYS_OPEN, {
      'no-such-process': () => [opened().call(SYS_OPEN, { process: 'nobody', path: '/dev/none' })],
      'too-many-files': () => [manyFiles().call(SYS_OPEN, { path: '/dev/none' })],
      'no-such-file': () => [
        opened().call(SYS_OPEN, { path: '/dev/none' }),
        opened().call(SYS_OPEN, { path: 'ep0' }),
      ],
      done: () => [opened().call(SYS_OPEN, { path: '/dev/ep1' })],
    })
  })
  describe('dup', () => {
    testRules(SYS_DUP, {
      'no-such-process': () => [opened().call(SYS_DUP, { process: 'nobody', fd: 9n })],
      'bad-fd': () => [opened().call(SYS_DUP, { fd: 4n }), manyFiles().call(SYS_DUP, { fd: 2n })],
      'too-many-files': () => [manyFiles().call(SYS_DUP, { fd: 3n })],
      done: () => [opened().call(SYS_DUP, { fd: 3n })],
    })
  })
  describe('close', () => {
    testRules(SYS_CLOSE, {
      'no-such-process': () => [opened().call(SYS_CLOSE, { process: 'nobody', fd: 9n })],
      'bad-fd': () => {
        const made = opened()
        made.call(SYS_CLOSE, { fd: 3n })
        return [made.call(SYS_CLOSE, { fd: 3n }), opened().call(SYS_CLOSE, { fd: 0xffff_ffffn })]
      },
      done: () => [opened().call(SYS_CLOSE, { fd: 3n })],
    })
  })
  describe('ioctl', () => {
    testRules(SYS_IOCTL, {
      'no-such-process': () => [opened().call(SYS_IOCTL, { process: 'nobody', fd: 9n, request: 'bind' })],
      'bad-fd': () => {
        const made = opened()
        made.files.drivers.binder = undefined
        return [made.call(SYS_IOCTL, { fd: 4n, request: 'bind' })]
      },
      'unknown-request': () => {
        const made = opened()
        made.files.drivers.binder = undefined
        return [made.call(SYS_IOCTL, { fd: 3n, request: 'bind' })]
      },
      'refused-invalid': () => refused(-22),
      'refused-no-memory': () => refused(-12),
      'refused-no-pasid': () => refused(-28),
      'refused-busy': () => refused(-16),
      'refused-no-device': () => refused(-19),
      'refused-unsupported': () => refused(-95),
      'refused-overflow': () => refused(-75),
      done: () => {
        const made = opened()
        return [
          made.call(SYS_IOCTL, { fd: 3n, request: 'bind' }),
          made.call(SYS_IOCTL, { fd: 3n, request: 'unbind', pasid: 1n }),
        ]
      },
    })
  })
  describe('file', () => {
    testRules(SYS_FILE, {
      'no-such-file': () => [opened().call(SYS_FILE, { file: 'ep0:2' })],
      done: () => [opened().call(SYS_FILE, { file: 'ep0:1' })],
    })
  })

  const file = (made: ReturnType<typeof opened>) => made.call(SYS_FILE, { file: 'ep0:1' }).outputs

  it('the last reference unbinds: a descriptor, a copy of it, a child and a mapping hold the file', () => {
    const made = opened()
    expect(made.call(SYS_IOCTL, { fd: 3n, request: 'bind', flags: 2n }).outputs).toEqual({ pasid: 1n })
    expect(made.call(SYS_DUP, { fd: 3n }).outputs).toEqual({ fd: 4n })
    made.call(SYS_FORK, { child: 'Q' })
    expect(file(made)).toEqual({ refs: 4n, binds: 1n })
    const { address } = made.call(SYS_MMAP, { bytes: 2n * PAGE, fd: 3n, shared: true }).outputs
    expect(file(made)).toEqual({ refs: 5n, binds: 1n })
    // A hole in the mapping makes two of it.
    made.call(SYS_MMAP, { address: (address as bigint) + PAGE, bytes: PAGE, fixed: true })
    expect(file(made)['refs']).toBe(5n)
    made.call(SYS_CLOSE, { fd: 3n })
    made.call(SYS_CLOSE, { fd: 4n })
    made.call(SYS_EXIT, { process: 'Q' })
    expect(file(made)).toEqual({ refs: 1n, binds: 1n })
    expect(made.told).toEqual(['bind P ep0 2: 1'])
    made.call(SYS_MUNMAP, { address: address as bigint, bytes: PAGE })
    expect(file(made)).toEqual({ refs: 0n, binds: 0n })
    expect(made.told).toEqual(['bind P ep0 2: 1', 'unbind P ep0 1: 0'])
  })

  it('each part of a mapping that is cut in two holds the file', () => {
    const made = opened()
    made.call(SYS_MMAP, { address: AT, bytes: 3n * PAGE, fd: 3n, fixed: true })
    made.call(SYS_MUNMAP, { address: AT + PAGE, bytes: PAGE })
    expect(file(made)['refs']).toBe(3n)
    made.call(SYS_MPROTECT, { address: AT, bytes: PAGE, read: true })
    made.call(SYS_MMAP, { address: AT + 8n * PAGE, bytes: 3n * PAGE, fd: 3n, fixed: true })
    made.call(SYS_MPROTECT, { address: AT + 9n * PAGE, bytes: PAGE, read: true })
    expect(file(made)['refs']).toBe(6n)
    made.call(SYS_EXIT)
    expect(file(made)['refs']).toBe(0n)
  })

  it('a bind that is refused, or undone, is not the file`s', () => {
    const made = opened()
    made.binder.answer = -16
    made.call(SYS_IOCTL, { fd: 3n, request: 'bind' })
    expect(file(made)['binds']).toBe(0n)
    made.binder.answer = undefined
    for (const pasid of [1n, 2n]) {
      expect(made.call(SYS_IOCTL, { fd: 3n, request: 'bind' }).outputs['pasid']).toBe(pasid)
    }
    made.call(SYS_IOCTL, { fd: 3n, request: 'unbind', pasid: 1n })
    expect(file(made)['binds']).toBe(1n)
    made.call(SYS_CLOSE, { fd: 3n })
    expect(made.told.at(-1)).toBe('unbind P ep0 2: 0')
  })

  it('execve closes what is marked, behind the old address space', () => {
    const made = opened()
    made.call(SYS_OPEN, { path: PATH, cloexec: true })
    made.call(SYS_MMAP, { bytes: PAGE, fd: 4n })
    made.call(SYS_EXECVE)
    expect(made.call(SYS_FILE, { file: 'ep0:2' }).outputs['refs']).toBe(0n)
    expect(file(made)['refs']).toBe(1n)
    const whys = made
      .events('file.refs')
      .flatMap((e) => (e.kind === 'file.refs' ? [`${e.file} ${e.why} ${e.refs}`] : []))
    expect(whys.slice(-2)).toEqual(['ep0:2 exit_mmap 1', 'ep0:2 close_on_exec 0'])
    expect(made.call(SYS_CLOSE, { fd: 4n }).rule).toBe('bad-fd')
  })
})

describe('the end of a process', () => {
  it('goes in the order of Linux: release, pages and tables, areas, files, driver, structure', () => {
    const made = opened()
    const { tasks, told, call, processes } = made
    call(SYS_IOCTL, { fd: 3n, request: 'bind' })
    call(SYS_MMAP, { bytes: PAGE, fd: 3n, shared: true })
    call(SYS_MMAP, { address: AT, bytes: PAGE, fixed: true })
    made.touch(AT, true)
    const mm = processes.space('P')
    mm.register(noteNotifier('n1', tasks, told))
    const from = made.log.length
    call(SYS_EXIT)
    const order = [...made.log.records()]
      .filter((r) => r.seq >= from)
      .flatMap(({ event: e }) => {
        if (e.kind === 'mm.users') return [`users ${e.users} count ${e.count}`]
        if (e.kind === 'mm.table') return [`table ${e.level}`]
        if (e.kind === 'page.own') return [e.owner]
        if (e.kind === 'file.refs') return [`file ${e.refs}`]
        if (e.kind === 'mm.vma') return [`area ${e.present}`]
        return e.kind === 'task.step' && e.step.startsWith('note') ? [e.step] : []
      })
    expect(order).toEqual([
      'users 1 count 3',
      'users 0 count 3',
      'note of n1',
      'free',
      'table 1',
      'free',
      'table 2',
      'free',
      'table 3',
      'free',
      'area 0',
      'area 0',
      'file 1',
      'users 0 count 2',
      'file 0',
      'note unbind',
      'users 0 count 1',
    ])
    expect(processes.mmOf('P')).toBeUndefined()
    // The notifier holds the structure still, and with it the first table.
    expect(processes.mm('P')).toBe(mm)
    made.run(mm.unregister(noteNotifier('n2', tasks, told)), '')
    expect(processes.mm('P')).toBeUndefined()
  })

  it('an address space that somebody else uses outlives its process', () => {
    const made = opened()
    made.call(SYS_MMAP, { bytes: PAGE, fd: 3n })
    const mm = made.processes.space('P')
    expect(mm.get()).toBe(true)
    made.call(SYS_EXIT)
    expect(made.call(SYS_FILE, { file: 'ep0:1' }).outputs['refs']).toBe(1n)
    expect(made.call(SYS_STATE, { mm: 'P' }).outputs).toMatchObject({ users: 1n, count: 1n, areas: 1n })
    // A kernel thread leaves the file to a work item.
    made.run(mm.put(), '')
    expect(mm.get()).toBe(false)
    expect(made.call(SYS_FILE, { file: 'ep0:1' }).outputs['refs']).toBe(0n)
    const worker = made.tasks.find('kworker/delayed_fput')
    expect(worker?.works.map((w) => w.step)).toEqual(['task_work_run'])
  })

  it('who leaves while the address space ends waits until its notifiers have come back', () => {
    const made = makeProcessCalls()
    const told: string[] = []
    const mm = made.processes.space('P')
    const notifier = noteNotifier('n1', made.tasks, told)
    mm.register(notifier)
    const exit = made.tasks.begin('exit', 'P', [...mm.put()])
    for (let n = 0; n < 3; n++) made.tasks.step(exit)
    const leave = made.tasks.begin('leave', '', mm.unregister(notifier))
    while (made.tasks.isReady(leave)) made.tasks.step(leave)
    expect(leave.isOver).toBe(false)
    expect(told).toEqual(['n1 release'])
    made.tasks.runToEnd(exit)
    expect(made.tasks.runToEnd(leave)).toBe(true)
    expect(mm.count).toBe(0)
  })
})

describe('what the processor does', () => {
  const RO = { read: true, write: false }
  /** One page each: to read and write, to read, for nothing, and of a file. */
  function mapped() {
    const made = opened()
    const map = (page: bigint, args: Record<string, Value>) =>
      made.call(SYS_MMAP, { address: AT + page * PAGE, bytes: PAGE, fixed: true, ...args })
    map(0n, {})
    map(1n, RO)
    map(2n, { read: false, write: false })
    map(4n, { fd: 3n })
    return made
  }
  const load = (address: bigint, bytes = 1n, made = mapped()) => made.call(CPU_LOAD, { address, bytes })
  const store = (address: bigint, data = 'x', made = mapped()) => made.call(CPU_STORE, { address, data })

  describe('load', () => {
    testRules(CPU_LOAD, {
      'no-such-process': () => [mapped().call(CPU_LOAD, { process: 'nobody', address: AT, bytes: 65_537n })],
      'too-long': () => [load(0n, 65_537n)],
      'not-mapped': () => [
        load(0n),
        load(AT + 3n * PAGE),
        load(2n ** 64n - 8n),
        load(0xffff_8880_0000_0000n),
      ],
      'not-permitted': () => [load(AT + 2n * PAGE), load(AT, 3n * PAGE + 1n)],
      'no-backing': () => [load(AT + 4n * PAGE)],
      done: () => [load(AT, 2n * PAGE), load(AT + PAGE), load(0n, 0n)],
    })
  })
  describe('store', () => {
    testRules(CPU_STORE, {
      'no-such-process': () => [mapped().call(CPU_STORE, { process: 'nobody', address: AT, data: 'x' })],
      'too-long': () => [store(0n, 'x'.repeat(65_537))],
      'not-mapped': () => [store(0n), store(AT + 3n * PAGE)],
      'not-permitted': () => [store(AT + PAGE), store(AT + PAGE - 1n, 'xy')],
      'no-backing': () => [store(AT + 4n * PAGE)],
      done: () => [store(AT), store(AT, '')],
    })
  })
  describe('pagemap', () => {
    testRules(SYS_PAGEMAP, {
      'no-such-process': () => [mapped().call(SYS_PAGEMAP, { process: 'nobody', address: 0n })],
      'not-present': () => [
        mapped().call(SYS_PAGEMAP, { address: AT }),
        mapped().call(SYS_PAGEMAP, { address: 2n ** 63n }),
      ],
      done: () => {
        const made = mapped()
        store(AT, 'x', made)
        return [made.call(SYS_PAGEMAP, { address: AT })]
      },
    })
  })
  describe('state', () => {
    testRules(SYS_STATE, {
      'no-such-process': () => [
        mapped().call(SYS_STATE, { mm: 'Q' }),
        mapped().call(SYS_STATE, { process: 'Q' }),
      ],
      done: () => [mapped().call(SYS_STATE)],
    })
  })

  it('tells what it moved before it came to a bad page', () => {
    const made = mapped()
    store(AT + PAGE - 3n, 'abc', made)
    expect(load(AT + PAGE - 3n, 4100n, made).outputs).toMatchObject({ moved: 4099n })
    expect(store(AT + PAGE - 2n, 'wxyz', made).outputs).toEqual({ moved: 2n })
    expect(load(AT + PAGE - 3n, 3n, made).outputs).toEqual({ data: 'awx', moved: 3n })
  })

  it('a page that was only read is the one page of zeros; a write makes one of its own', () => {
    const made = mapped()
    const told: string[] = []
    made.processes.space('P').register(noteNotifier('n1', made.tasks, told))
    load(AT, 1n, made)
    const target = () => made.call(SYS_PAGEMAP, { address: AT }).outputs['target']
    expect(target()).toBe(BigInt(made.processes.zeroPage) * PAGE)
    store(AT, 'x', made)
    expect(target()).not.toBe(BigInt(made.processes.zeroPage) * PAGE)
    expect(told).toEqual([
      'n1 invalidate_range 1000000 1001000',
      'n1 change_pte 1000000',
      'n1 invalidate_range 1000000 1001000',
    ])
  })

  it('a child has the memory of its parent until one of the two writes', () => {
    const made = mapped()
    store(AT, 'parent', made)
    made.call(SYS_FORK, { child: 'Q' })
    const of = (process: string) => made.call(CPU_LOAD, { process, address: AT, bytes: 6n }).outputs['data']
    const at = (process: string) => made.call(SYS_PAGEMAP, { process, address: AT }).outputs['target']
    expect(at('Q')).toBe(at('P'))
    made.call(CPU_STORE, { process: 'Q', address: AT, data: 'child!' })
    expect([of('P'), of('Q')]).toEqual(['parent', 'child!'])
    const before = at('P')
    store(AT, 'P', made)
    expect(at('P')).toBe(before)
  })

  it('shared memory is one for parent and child, also where it was never touched before', () => {
    const made = mapped()
    made.call(SYS_MMAP, { address: AT, bytes: PAGE, fixed: true, shared: true })
    made.call(SYS_FORK, { child: 'Q' })
    made.call(CPU_STORE, { process: 'Q', address: AT + 8n, data: 'child' })
    expect(load(AT + 8n, 5n, made).outputs['data']).toBe('child')
    const { freePages } = made.processes.pages
    made.call(SYS_EXIT, { process: 'Q' })
    const left = made.processes.pages.freePages
    made.call(SYS_MUNMAP, { address: AT, bytes: PAGE })
    // Its page, and tables that nothing else needs are none.
    expect(made.processes.pages.freePages - left).toBe(1)
    expect(left).toBeGreaterThan(freePages)
  })

  it('a stack grows down to what is touched, and not beyond its limit', () => {
    const made = mapped()
    made.call(SYS_MMAP, { address: 0x4000_0000n, bytes: PAGE, fixed: true, growsdown: true })
    expect(store(0x4000_0000n - 5n * PAGE, 'x', made).rule).toBe('done')
    expect(made.processes.space('P').findVma(0x4000_0000n, false)).toMatchObject({
      first: 0x3fffb,
      end: 0x40001,
    })
    expect(load(0x4000_1000n - 2n ** 23n - 1n, 1n, made).rule).toBe('not-mapped')
    expect(load(0x4000_1000n - 2n ** 23n, 1n, made).rule).toBe('done')
  })

  it('without memory it does not guess whom the kernel would end', () => {
    const made = mapped()
    made.leave(0)
    expect(store(AT, 'x', made)).toMatchObject({ state: 'unmodelled' })
    expect(made.tasks.holderOf('mmap_sem P')).toBeUndefined()
  })
})
