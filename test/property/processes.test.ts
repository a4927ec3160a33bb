import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import { CPU_LOAD, CPU_STORE } from '../../src/kernel/process/cpu-calls.ts'
import type { MmStruct } from '../../src/kernel/process/mm-struct.ts'
import { PTE } from '../../src/kernel/process/page-tables.ts'
import {
  SYS_EXECVE,
  SYS_EXIT,
  SYS_FORK,
  SYS_MMAP,
  SYS_MPROTECT,
  SYS_MUNMAP,
} from '../../src/kernel/process/sys-calls.ts'
import type { MmuNotifier } from '../../src/kernel/process-port.ts'
import { KIND, slotMap } from '../../src/trace/event.ts'
import { NaiveProcesses, PAGES, type ProcessAnswer, type ProcessOp } from '../support/naive-processes.ts'
import { makeProcessCalls } from '../support/processes.ts'

const PAGE = 4096n
/** The last six pages of one table, and the first six of the next. */
const FIRST = 512 * 100 - 6
const addressOf = (page: number): bigint => BigInt(FIRST + page) * PAGE
const PROCESSES_MOST = 5
const OWN = slotMap('page.own')

type Kernel = ReturnType<typeof makeKernel>

const makeKernel = (options: { isNew: boolean; journal?: boolean }) => {
  const made = makeProcessCalls({ pages: 512, ...options })
  made.call(SYS_EXIT)
  const free = made.processes.pages.freePages
  made.processes.spawn('p0')
  return { ...made, free }
}

/** What devices remember of the tables of processes: they forget what notifiers tell them. */
class Devices {
  readonly #kernel: Kernel
  readonly #notifiers = new Map<string, MmuNotifier>()
  /** By address space and page: the page of memory, its life, and whether it may be written. */
  readonly #cached = new Map<string, { target: number; generation: number; isWrite: boolean }>()
  readonly wrong: string[] = []
  readonly #isDeaf: boolean

  constructor(kernel: Kernel, isDeaf: boolean) {
    this.#kernel = kernel
    this.#isDeaf = isDeaf
    kernel.log.subscribe({
      kinds: ['page.own'],
      see: (log, seq) => {
        if (log.kindNumberOf(seq) !== KIND['page.own']) return
        if (log.names.word(log.slot(seq, OWN.owner)) !== 'free') return
        this.#freed(log.slot(seq, OWN.first), log.slot(seq, OWN.count))
      },
    })
  }

  watch(mm: MmStruct): void {
    if (this.#notifiers.has(mm.name)) return
    const forget = (start: bigint, end: bigint) => {
      for (let page = 0; page < PAGES && !this.#isDeaf; page++) {
        if (addressOf(page) >= start && addressOf(page) < end) this.#cached.delete(`${mm.name} ${page}`)
      }
      return []
    }
    const notifier = {
      name: `device of ${mm.name}`,
      changePte: (at: bigint) => forget(at, at + PAGE),
      invalidateRange: forget,
      release: () => forget(0n, 1n << 48n),
    }
    this.#notifiers.set(mm.name, notifier)
    mm.register(notifier)
  }

  leave(mm: MmStruct): void {
    const notifier = this.#notifiers.get(mm.name)
    if (notifier !== undefined) this.#kernel.run(mm.unregister(notifier), '')
  }

  access(mm: MmStruct, page: number, isWrite: boolean): void {
    const found = this.#find(mm, page)
    if (found !== undefined && (found.isWrite || !isWrite))
      this.#cached.set(`${mm.name} ${page}`, { ...found, isWrite })
  }

  /** Behind each operation what is remembered is what the tables say, or less. */
  check(): void {
    for (const [key, { target, generation, isWrite }] of this.#cached) {
      const [name, page] = key.split(' ')
      const mm = this.#kernel.processes.space(name)
      const now = mm.users === 0 ? undefined : this.#find(mm, Number(page))
      if (now?.target !== target || now.generation !== generation || (isWrite && !now.isWrite)) {
        this.wrong.push(`stale ${key}`)
      }
    }
  }

  #find(mm: MmStruct, page: number) {
    const { tables, pages } = this.#kernel.processes
    const table = tables.find(mm.pgd, FIRST + page, 1)
    if (table < 0) return undefined
    tables.load(table, FIRST + page, 1)
    if (!tables.isPresent) return undefined
    const { target } = tables
    return { target, generation: pages.generationOf(target), isWrite: (tables.lo & PTE.RW) !== 0 }
  }

  #freed(first: number, count: number): void {
    for (const [key, { target }] of this.#cached) {
      if (target >= first && target < first + count) this.wrong.push(`freed ${key}`)
    }
  }
}

/** The same operation on the real thing. The contents of a page are one byte at its start. */
function apply(
  kernel: Kernel,
  o: ProcessOp,
  process: string,
  child: string,
  devices?: Devices,
): ProcessAnswer {
  const { call, processes } = kernel
  const mm = processes.mmOf(process) as MmStruct
  const rights = (perm: number): Record<string, Value> => ({
    read: (perm & 1) !== 0,
    write: (perm & 2) !== 0,
  })
  const range =
    'first' in o ? { process, address: addressOf(o.first), bytes: BigInt(o.count) * PAGE } : { process }
  switch (o.op) {
    case 'map':
      return { rule: call(SYS_MMAP, { ...range, ...rights(o.perm), fixed: true, shared: o.isShared }).rule }
    case 'unmap':
      return { rule: call(SYS_MUNMAP, range).rule }
    case 'protect':
      return { rule: call(SYS_MPROTECT, { ...range, ...rights(o.perm) }).rule }
    case 'store': {
      const data = `hex:${o.value.toString(16).padStart(2, '0')}`
      return { rule: call(CPU_STORE, { process, address: addressOf(o.page), data }).rule }
    }
    case 'load': {
      const { rule, outputs } = call(CPU_LOAD, { process, address: addressOf(o.page), bytes: 1n })
      if (rule !== 'done') return { rule }
      const data = outputs['data'] as string
      return {
        rule,
        value: data.startsWith('hex:') ? Number.parseInt(data.slice(4), 16) : data.charCodeAt(0),
      }
    }
    case 'device':
      devices?.watch(mm)
      devices?.access(mm, o.page, o.isWrite)
      return { rule: 'done' }
    case 'fork':
      return { rule: call(SYS_FORK, { process, child }).rule }
    default: {
      const { rule } = call(o.op === 'exit' ? SYS_EXIT : SYS_EXECVE, { process })
      devices?.leave(mm)
      return { rule }
    }
  }
}

const who = fc.nat(PROCESSES_MOST - 1)
const page = fc.nat(PAGES - 1)
const perm = fc.constantFrom(0, 1, 3, 3, 3)
const range = { first: page, count: fc.integer({ min: 1, max: PAGES }) }
const operation: fc.Arbitrary<ProcessOp> = fc
  .oneof(
    {
      weight: 4,
      arbitrary: fc.record({ op: fc.constant('map' as const), who, ...range, perm, isShared: fc.boolean() }),
    },
    { weight: 2, arbitrary: fc.record({ op: fc.constant('unmap' as const), who, ...range }) },
    { weight: 3, arbitrary: fc.record({ op: fc.constant('protect' as const), who, ...range, perm }) },
    { weight: 6, arbitrary: fc.record({ op: fc.constant('store' as const), who, page, value: fc.nat(255) }) },
    { weight: 4, arbitrary: fc.record({ op: fc.constant('load' as const), who, page }) },
    {
      weight: 6,
      arbitrary: fc.record({ op: fc.constant('device' as const), who, page, isWrite: fc.boolean() }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ op: fc.constantFrom('fork' as const, 'execve' as const, 'exit' as const), who }),
    },
  )
  .map((o) => ('first' in o ? { ...o, count: Math.min(o.count, PAGES - o.first) } : o))
const operations = fc.array(operation, { maxLength: 60, size: 'max' })

/** Runs operations on both; what a process that is not there would do is left out. Answers what differed. */
function compare(kernel: Kernel, ops: readonly ProcessOp[], devices?: Devices): string[] {
  const naive = new NaiveProcesses()
  const differ: string[] = []
  for (const o of ops) {
    const { names, next } = naive
    const name = names[o.who % names.length]
    const isFull = o.op === 'fork' && names.length === PROCESSES_MOST
    if (name === undefined || isFull || (o.op === 'exit' && names.length === 1)) continue
    const is = apply(kernel, o, name, next, devices)
    const want = naive.apply(o, name)
    if (JSON.stringify(is) !== JSON.stringify(want)) {
      differ.push(`${JSON.stringify(o)}: ${JSON.stringify(is)}, not ${JSON.stringify(want)}`)
    }
    devices?.check()
  }
  for (const name of naive.names) {
    for (let at = 0; at < PAGES; at++) {
      const load = { op: 'load', who: 0, page: at } as const
      const is = apply(kernel, load, name, '')
      const want = naive.apply(load, name)
      if (JSON.stringify(is) !== JSON.stringify(want))
        differ.push(`${name} ${at}: ${JSON.stringify([is, want])}`)
    }
    apply(kernel, { op: 'exit', who: 0 }, name, '', devices)
  }
  return differ
}

describe.each([
  ['Linux 4.9', false],
  ['Linux 6.1', true],
])('processes of %s', (_name, isNew) => {
  it('have the memory of the naive model; when all have ended every page is free; devices remember nothing that is stale or freed', () => {
    fc.assert(
      fc.property(operations, (ops) => {
        const kernel = makeKernel({ isNew })
        const devices = new Devices(kernel, false)
        expect(compare(kernel, ops, devices)).toEqual([])
        expect(devices.wrong).toEqual([])
        expect(kernel.processes.pages.freePages).toBe(kernel.free)
      }),
      { numRuns: 60 },
    )
  })

  it('go back: the same state, and the same answers again', () => {
    fc.assert(
      fc.property(operations, operations, (before, behind) => {
        const kernel = makeKernel({ isNew, journal: true })
        const naive = new NaiveProcesses()
        const go = (ops: readonly ProcessOp[], model: NaiveProcesses) =>
          ops.flatMap((o) => {
            const name = model.names[o.who % model.names.length]
            if (
              name === undefined ||
              model.names.length === PROCESSES_MOST ||
              (o.op === 'exit' && model.names.length === 1)
            )
              return []
            const { next } = model
            model.apply(o, name)
            return [apply(kernel, o, name, next)]
          })
        go(before, naive)
        const { undo, processes } = kernel
        const [mark, hash, free] = [undo.mark(), undo.hash, processes.pages.freePages]
        const copy = () => {
          const again = new NaiveProcesses()
          for (const o of before) {
            const name = again.names[o.who % again.names.length]
            if (
              name === undefined ||
              again.names.length === PROCESSES_MOST ||
              (o.op === 'exit' && again.names.length === 1)
            )
              continue
            again.apply(o, name)
          }
          return again
        }
        const answers = go(behind, copy())
        const end = undo.hash
        undo.rollback(mark)
        expect([undo.hash, processes.pages.freePages]).toEqual([hash, free])
        expect(go(behind, copy())).toEqual(answers)
        expect(undo.hash).toBe(end)
      }),
      { numRuns: 25 },
    )
  })
})

describe('the gates', () => {
  const ops: ProcessOp[] = [
    { op: 'map', who: 0, first: 0, count: 2, perm: 3, isShared: false },
    { op: 'store', who: 0, page: 0, value: 7 },
    { op: 'device', who: 0, page: 0, isWrite: true },
  ]

  it('a device that forgets nothing is seen: behind a change of rights, and when its page is freed', () => {
    for (const [last, wrong] of [
      [{ op: 'protect', who: 0, first: 0, count: 1, perm: 1 }, 'stale p0 0'],
      [{ op: 'fork', who: 0 }, 'stale p0 0'],
      [{ op: 'unmap', who: 0, first: 0, count: 1 }, 'freed p0 0'],
      [{ op: 'execve', who: 0 }, 'freed p0 0'],
    ] as const) {
      const kernel = makeKernel({ isNew: false })
      const devices = new Devices(kernel, true)
      compare(kernel, [...ops, last], devices)
      expect(devices.wrong).toContain(wrong)
    }
  })

  it('a page that a process loses is seen', () => {
    const kernel = makeKernel({ isNew: false })
    kernel.processes.pages.allocate(0, 'nobody')
    compare(kernel, ops)
    expect(kernel.processes.pages.freePages).toBe(kernel.free - 1)
  })

  it('memory that is not what it should be is seen', () => {
    const kernel = makeKernel({ isNew: false })
    const naive: ProcessOp[] = [...ops, { op: 'load', who: 0, page: 0 }]
    const { memory, processes } = kernel
    kernel.log.subscribe({
      kinds: ['mm.fault'],
      see: () => {
        const mm = processes.space('p0')
        const table = processes.tables.find(mm.pgd, FIRST, 1)
        processes.tables.load(table, FIRST, 1)
        if (processes.tables.isPresent)
          memory.writePage(processes.tables.target, 0, new Uint8Array([1]), 0, 1)
      },
    })
    expect(compare(kernel, [...naive, { op: 'load', who: 0, page: 1 }])).not.toEqual([])
  })
})
