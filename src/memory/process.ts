import { rulesOf } from '../bits/call.ts'
import { IommulatorError } from '../bits/errors.ts'
import { Cells, keyOf } from '../bits/state.ts'
import { hiOf, loOf, wordOf } from '../bits/u64.ts'
import { AddressSpace } from './address-space.ts'
import type { Host } from './host.ts'
import { PROCESSES_MAX } from './limits.ts'
import type { Task } from './locked-vm.ts'
import { PROC_EXIT, PROC_FORK } from './proc-calls.ts'

const FORK = rulesOf(PROC_FORK)
const EXIT = rulesOf(PROC_EXIT)

const ALIVE = 1
const ENDED = 2

/** A process of the host: its address space, and what its tasks may lock. */
export class Process implements Task {
  readonly name: string
  readonly mm: AddressSpace
  // State, RLIMIT_MEMLOCK in two lanes, CAP_IPC_LOCK.
  readonly #cells: Cells

  constructor(host: Host, mm: AddressSpace) {
    this.name = mm.name
    this.mm = mm
    this.#cells = new Cells(host.journal, keyOf('process', mm.name), 4)
  }

  get isAlive(): boolean {
    return this.#cells.get(0) === ALIVE
  }

  get memlockBytes(): bigint {
    return wordOf(this.#cells.get(2), this.#cells.get(1))
  }

  get hasIpcLock(): boolean {
    return this.#cells.get(3) !== 0
  }

  /** setrlimit and capset: what counts from now on. What is locked already stays. */
  allow(task: Task): void {
    this.#cells.set(1, loOf(task.memlockBytes))
    this.#cells.set(2, hiOf(task.memlockBytes))
    this.#cells.set(3, task.hasIpcLock ? 1 : 0)
  }

  begin(task: Task): void {
    this.#cells.set(0, ALIVE)
    this.allow(task)
    this.mm.begin()
  }

  end(): void {
    this.#cells.set(0, ENDED)
    this.mm.exit()
  }
}

/** Who gives a child its files and closes those of a process that ends, and who looks after an mm structure that nobody holds any more. */
export interface ProcessWatcher {
  /** A process has a child, whose memory is there. */
  forked?(parent: Process, child: Process): void
  /** The memory of the process is gone; its files are closed now. */
  exited?(process: Process): void
  /** The last holder of the structure has let go. */
  freed?(mm: AddressSpace): void
}

/** Whether the kernel still serves calls: once it has stopped, none comes back. */
export interface KernelLife {
  readonly isDead: boolean
  readonly why: string
  /** It stops, and says so in a record. */
  die(why: string): void
}

/**
 * The processes of a host, by name. A name stands for one process only, also after its end: holders of its mm
 * structure may still be there.
 *
 * @example
 * const processes = new ProcessTable(host)
 * const qemu = processes.spawn('qemu', { memlockBytes: 8n << 20n, hasIpcLock: false })
 * processes.fork('qemu', 'helper')
 */
export class ProcessTable {
  /** Name of the process that acts where an operation names none. */
  actor = ''
  /** The life of the kernel that serves them; null where nothing can end it. */
  kernel: KernelLife | null = null
  readonly host: Host
  readonly #processes = new Map<string, Process>()
  /** Processes whose beginning was taken back: their cells hold nothing, so they serve again. */
  readonly #spare = new Map<string, Process>()
  readonly #watchers: ProcessWatcher[] = []

  constructor(host: Host) {
    this.host = host
  }

  /** Watchers hear of an end in the order in which they came; `isFirst` for what is in the process itself, which is gone at once. */
  watch(watcher: ProcessWatcher, isFirst = false): void {
    if (isFirst) this.#watchers.unshift(watcher)
    else this.#watchers.push(watcher)
  }

  /** A process by name, ended or not. */
  get(name: string): Process | undefined {
    return this.#processes.get(name)
  }

  /** A process that can act, or undefined. Without a name: the actor. */
  find(name: string | undefined): Process | undefined {
    const process = this.#processes.get(name ?? this.actor)
    return process?.isAlive === true ? process : undefined
  }

  /** All processes, in the order in which they began. */
  list(): Process[] {
    return [...this.#processes.values()]
  }

  /**
   * A first process, with nothing mapped.
   *
   * @throws IommulatorError ERR_MACHINE when the name is taken or there are too many
   */
  spawn(name: string, task: Task): Process {
    if (this.#processes.has(name))
      throw new IommulatorError('ERR_MACHINE', `two processes named "${name}"`, { name })
    if (this.#processes.size >= PROCESSES_MAX) {
      throw new IommulatorError('ERR_MACHINE', `more than ${PROCESSES_MAX} processes`)
    }
    return this.#add(name, task)
  }

  /** Answers the place of a rule of PROC_FORK. */
  fork(parent: Process, child: string): number {
    if (this.#processes.has(child)) return FORK['name-taken']
    if (this.#processes.size >= PROCESSES_MAX) return FORK['too-many-processes']
    if (parent.mm.framesToCopy() > this.host.frames.free) return FORK['no-frames']
    const made = this.#add(child, parent)
    parent.mm.copyTo(made.mm)
    for (const watcher of this.#watchers) watcher.forked?.(parent, made)
    return FORK.done
  }

  /** Answers the place of a rule of PROC_EXIT. */
  exit(process: Process): number {
    process.end()
    for (const watcher of this.#watchers) watcher.exited?.(process)
    process.mm.drop()
    return EXIT.done
  }

  #add(name: string, task: Task): Process {
    const { host } = this
    const freed = (mm: AddressSpace) => {
      for (const watcher of this.#watchers) watcher.freed?.(mm)
    }
    const process = this.#spare.get(name) ?? new Process(host, new AddressSpace({ host, name, freed }))
    this.#spare.delete(name)
    this.#processes.set(name, process)
    host.journal.change(keyOf('processes', name), 0, 1, () => {
      this.#processes.delete(name)
      this.#spare.set(name, process)
    })
    process.begin(task)
    return process
  }
}
