import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import type { BusMemory } from '../../memory/ports.ts'
import type { Stage } from '../../trace/stage.ts'
import type { ProcessPort } from '../process-port.ts'
import { type Task, type Tasks, type Work, work } from '../steps.ts'
import { BuddyAllocator } from './buddy-allocator.ts'
import { makeKernelTables } from './kernel-tables.ts'
import { MmStruct, mmapSem } from './mm-struct.ts'
import { PageTables } from './page-tables.ts'

/** Which kernel it is, as far as processes can tell. */
export interface KernelEra {
  /** Linux 6.1; else 4.9. */
  readonly isNew: boolean
  /** Entries of page tables forbid to execute what may not be executed; not so with `noexec=off`. */
  readonly hasNx: boolean
}

export interface ProcessParts extends KernelEra {
  readonly stage: Stage
  readonly journal: Journal
  readonly tasks: Tasks
  readonly memory: BusMemory
  /** Memory of the page allocator, in pages of 4 KiB, and all memory. */
  readonly first: number
  readonly pages: number
  readonly ramPages: number
}

interface ProcessState {
  /** Its address space by name; empty where it has given it back. */
  readonly mm: string
  readonly isOver: boolean
}

/** A process: task_struct, as far as it has an address space. */
export interface Process {
  readonly name: string
  mm: string
  /** It has ended: nobody can make calls for it. */
  isOver: boolean
}

class HeldProcess implements Process {
  readonly name: string
  readonly #state: Held<ProcessState>

  constructor(name: string, journal: Journal) {
    this.name = name
    this.#state = new Held<ProcessState>(journal, `process ${name}`, { mm: '', isOver: false }, (s) =>
      keyOf(s.mm, s.isOver ? 1 : 0),
    )
  }

  get mm(): string {
    return this.#state.value.mm
  }

  set mm(mm: string) {
    this.#state.set({ ...this.#state.value, mm })
  }

  get isOver(): boolean {
    return this.#state.value.isOver
  }

  set isOver(isOver: boolean) {
    this.#state.set({ ...this.#state.value, isOver })
  }
}

/**
 * The processes of a kernel with their address spaces. A process, and an address space, keep their names for the whole
 * run: no other one gets them.
 *
 * @example
 * const processes = new Processes(parts)
 * processes.spawn('P') // its address space is called P as well
 */
export class Processes implements ProcessPort {
  readonly stage: Stage
  readonly journal: Journal
  readonly tasks: Tasks
  readonly memory: BusMemory
  readonly pages: BuddyAllocator
  readonly tables: PageTables
  readonly era: KernelEra
  readonly kernel: { readonly pgd: number }
  /** What every page shows that was only read: empty_zero_page. */
  readonly zeroPage: number
  /** Process that acts where an operation names it. */
  actor: string | undefined
  readonly #processes = new Map<string, Process>()
  readonly #spaces = new Map<string, MmStruct>()
  readonly #listeners: ((mm: string) => void)[] = []

  constructor(parts: ProcessParts) {
    const { stage, journal, tasks, memory, first, pages, ramPages, isNew, hasNx } = parts
    this.stage = stage
    this.journal = journal
    this.tasks = tasks
    this.memory = memory
    this.era = { isNew, hasNx }
    this.pages = new BuddyAllocator({ stage, journal, memory, first, pages })
    this.tables = new PageTables(memory)
    const kernelTables = { pages: this.pages, tables: this.tables, ramPages, isNew, hasNx }
    this.kernel = { pgd: makeKernelTables(kernelTables) }
    this.zeroPage = this.pages.allocate(0, 'kernel')
  }

  /** A process by name, ended or not. */
  get(name: string): Process | undefined {
    return this.#processes.get(name)
  }

  /** A process that can make calls: it has begun, and does not end. Without a name: the actor. */
  find(name: string | undefined): Process | undefined {
    const process = this.#processes.get(name ?? this.actor ?? '')
    return process === undefined || process.isOver || process.mm === '' ? undefined : process
  }

  /** A process with an empty address space; undefined where no page is left for its table. */
  spawn(name: string): Process | undefined {
    const mm = this.makeMm(name)
    if (mm === undefined) return undefined
    const process = this.add(name)
    process.mm = mm.name
    return process
  }

  /** A process without an address space. */
  add(name: string): Process {
    const process = new HeldProcess(name, this.journal)
    this.#processes.set(name, process)
    this.journal.change(keyOf('processes', name), 0, 1, () => this.#processes.delete(name))
    return process
  }

  /** mm_alloc: an address space for a process; undefined where no page is left. */
  makeMm(process: string): MmStruct | undefined {
    let name = process
    for (let n = 2; this.#spaces.has(name); n++) name = `${process}.${n}`
    const pgd = this.pages.allocate(0, `page table of ${name}`)
    if (pgd < 0) return undefined
    const { stage, journal, pages, tables } = this
    const dropped = (gone: string) => {
      for (const listener of this.#listeners) listener(gone)
    }
    const parts = { stage, journal, pages, tables, kernelPgd: this.kernel.pgd, dropped }
    const mm = new MmStruct(name, pgd, parts)
    this.#spaces.set(name, mm)
    journal.change(keyOf('address spaces', name), 0, 1, () => this.#spaces.delete(name))
    mm.begin()
    return mm
  }

  mmOf(process: string): MmStruct | undefined {
    return this.#spaces.get(this.#processes.get(process)?.mm ?? '')
  }

  mm(name: string): MmStruct | undefined {
    const mm = this.#spaces.get(name)
    return mm === undefined || mm.count === 0 ? undefined : mm
  }

  onDropped(listener: (mm: string) => void): void {
    this.#listeners.push(listener)
  }

  /** An address space that a step works on: it is there. */
  space(name: unknown): MmStruct {
    const mm = this.#spaces.get(String(name))
    if (mm === undefined) throw new Error(`model bug: no address space is called ${name}`)
    return mm
  }

  /** Work between the lock of an address space and its release. */
  locked(mm: string, ...works: readonly Work[]): readonly Work[] {
    return [work('lock', mmapSem(mm)), ...works, work('unlock', mmapSem(mm))]
  }

  /** How a call ends that holds the lock of an address space. */
  unlockAndReturn(mm: string, rule: string): readonly Work[] {
    return [work('unlock', mmapSem(mm)), work('return', rule)]
  }
}

/** Work that calls every notifier of an address space for [first, end) in pages. */
export const notifyRange = (mm: MmStruct, first: number, end: number): readonly Work[] =>
  mm.notifiers.length === 0 ? [] : [work('invalidate_range', mm.name, first, end)]

/** The task works for the process that it is of, or for nobody. */
export const isKernelThread = (task: Task): boolean => task.process === ''
