import { assert } from '../../bits/errors.ts'
import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import type { Stage } from '../../trace/stage.ts'
import { type Task, type Tasks, work } from '../steps.ts'
import { DriverFiles } from './driver-file.ts'
import { isKernelThread } from './processes.ts'
import type { SharedPages } from './shared-pages.ts'

/** Soft limit of RLIMIT_NOFILE. */
export const FILES_MAX = 1024
/** Descriptors 0 to 2 are the terminal's. */
const FIRST_FD = 3
/** The work item that puts files for kernel threads (delayed_fput). */
const WORKER = 'kworker/delayed_fput'

/** A bind that an open file holds. */
export interface FileBind {
  readonly device: string
  readonly pasid: number
}

interface FileState {
  readonly refs: number
  /** The device whose driver serves it; empty for shared memory. */
  readonly device: string
  readonly binds: readonly FileBind[]
}

interface Descriptor {
  readonly file: string
  readonly isCloseOnExec: boolean
}

type Descriptors = readonly (Descriptor | null)[]

const NO_FILE: FileState = { refs: 0, device: '', binds: [] }

const hashOfFile = ({ refs, device, binds }: FileState): number =>
  keyOf(refs, device, ...binds.flatMap((b) => [b.device, b.pasid]))

const hashOfFds = (fds: Descriptors): number =>
  fds.length === 0 ? 0 : keyOf(...fds.flatMap((d) => [d?.file ?? '', d?.isCloseOnExec === true ? 1 : 0]))

export interface OpenFilesParts {
  readonly stage: Stage
  readonly journal: Journal
  readonly tasks: Tasks
  readonly shared: SharedPages
  /** Devices whose drivers have files. */
  readonly devices: readonly string[]
}

/**
 * Open files (struct file) with their references, and the descriptors of processes. The last reference that goes does not
 * release a file at once: the task does it before it is back with its user, or behind its files when it ends
 * (task_work); a kernel thread leaves it to a work item. (Linux v4.9 and v6.1 fs/file_table.c, fput, delayed_fput)
 */
export class OpenFiles {
  readonly drivers: DriverFiles
  readonly #parts: OpenFilesParts
  readonly #files = new Map<string, Held<FileState>>()
  readonly #fds = new Map<string, Held<Descriptors>>()
  readonly #opened: Held<number>
  /** Files that a task is to release, by its name. */
  readonly #late: Held<ReadonlyMap<string, readonly string[]>>

  constructor(parts: OpenFilesParts) {
    const { journal, tasks } = parts
    this.#parts = parts
    this.drivers = new DriverFiles(tasks, this)
    this.#opened = new Held(journal, 'files opened', 0, (n) => n)
    this.#late = new Held<ReadonlyMap<string, readonly string[]>>(journal, 'task work', new Map(), (late) =>
      keyOf(...[...late].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([task, files]) => [task, ...files])),
    )
    tasks.define('fput', {
      doc: 'a file has one reference fewer; whoever drops the last one is to release it',
      run: (task, [file, why]) => {
        this.#put(task, String(file), String(why))
        return undefined
      },
    })
    tasks.define('task_work_run', {
      doc: 'files that the task has dropped the last reference of are released',
      run: (task) => {
        const files = this.#late.value.get(task.name) ?? []
        this.#setLate(task.name, [])
        return files.map((file) => work('__fput', file))
      },
    })
    tasks.define('__fput', {
      doc: 'a file is released: its driver lets go of what the file held',
      run: (_task, [name]) => {
        const { device } = this.stateOf(String(name))
        if (device === '') parts.shared.end(String(name))
        return device === '' ? undefined : this.drivers.release(String(name))
      },
    })
    tasks.define('exit_files', {
      doc: 'the descriptors of the process are closed, the lowest first',
      run: (task, [process]) => {
        const held = this.#of(String(process ?? task.process))
        const { value } = held
        if (value.length > 0) held.set([])
        return value.flatMap((d) => (d === null ? [] : [work('fput', d.file, 'exit_files')]))
      },
    })
    tasks.define('do_close_on_exec', {
      doc: 'descriptors that are not for the new program are closed',
      run: (task) => {
        const held = this.#of(task.process)
        const { value } = held
        held.set(trimmed(value.map((d) => (d?.isCloseOnExec === true ? null : d))))
        return value.flatMap((d) =>
          d?.isCloseOnExec === true ? [work('fput', d.file, 'close_on_exec')] : [],
        )
      },
    })
  }

  /** delayed_fput, where it has something to release. */
  releaseDelayed(): void {
    const worker = this.#parts.tasks.find(WORKER)
    if (worker !== undefined && !worker.isOver) this.#parts.tasks.runToEnd(worker)
  }

  /** The device that a path names. */
  deviceAt(path: string): string | undefined {
    return this.#parts.devices.find((device) => path === `/dev/${device}`)
  }

  /** Whether a file of the name was ever open. */
  has(file: string): boolean {
    return this.#files.has(file) && this.stateOf(file) !== NO_FILE
  }

  /** The lowest descriptor that is free; undefined where RLIMIT_NOFILE forbids it. */
  freeFd(process: string): number | undefined {
    const fds = this.#of(process).value
    const free = fds.indexOf(null)
    const fd = FIRST_FD + (free < 0 ? fds.length : free)
    return fd < FILES_MAX ? fd : undefined
  }

  /** A new file with one reference. */
  make(device: string): string {
    const number = this.#opened.value + 1
    this.#opened.set(number)
    const name = `${device === '' ? 'shmem' : device}:${number}`
    this.#setFile(name, { refs: 1, device, binds: [] }, device === '' ? 'mmap' : 'open')
    return name
  }

  /** fd_install. */
  install(process: string, fd: number, file: string, isCloseOnExec: boolean): void {
    const held = this.#of(process)
    const fds = [...held.value]
    while (fds.length <= fd - FIRST_FD) fds.push(null)
    fds[fd - FIRST_FD] = { file, isCloseOnExec }
    held.set(fds)
  }

  /** The file of a descriptor. */
  at(process: string, fd: number): string | undefined {
    return this.#of(process).value[fd - FIRST_FD]?.file
  }

  /** The descriptor is free; its reference is the caller's now. */
  takeAway(process: string, fd: number): string | undefined {
    const held = this.#of(process)
    const file = held.value[fd - FIRST_FD]?.file
    if (file !== undefined) held.set(trimmed(held.value.with(fd - FIRST_FD, null)))
    return file
  }

  /** dup_fd: a child has the same files. */
  inherit(parent: string, child: string): void {
    const fds = this.#of(parent).value
    this.#of(child).set(fds)
    for (const d of fds) if (d !== null) this.get(d.file, 'fork')
  }

  /** get_file. */
  get(file: string, why: string): void {
    const state = this.stateOf(file)
    assert(state.refs > 0, `${file} is open`)
    this.#setFile(file, { ...state, refs: state.refs + 1 }, why)
  }

  stateOf(file: string): FileState {
    return this.#file(file).value
  }

  /** Its driver notes what it holds. */
  setBinds(file: string, binds: readonly FileBind[]): void {
    const held = this.#file(file)
    held.set({ ...held.value, binds })
  }

  #put(task: Task, file: string, why: string): void {
    const state = this.stateOf(file)
    assert(state.refs > 0, `${file} is open`)
    this.#setFile(file, { ...state, refs: state.refs - 1 }, why)
    if (state.refs > 1) return
    const { tasks } = this.#parts
    const name = isKernelThread(task) ? WORKER : task.name
    this.#setLate(name, [...(this.#late.value.get(name) ?? []), file])
    const run = work('task_work_run')
    if (!isKernelThread(task)) {
      if (!task.works.some((w) => w.step === run.step)) task.works = [...task.works, run]
      return
    }
    const worker = tasks.find(WORKER)
    if (worker === undefined || worker.isOver) tasks.begin(WORKER, '', [run])
  }

  #setLate(task: string, files: readonly string[]): void {
    const late = new Map(this.#late.value)
    if (files.length === 0) late.delete(task)
    else late.set(task, files)
    this.#late.set(late)
  }

  #file(name: string): Held<FileState> {
    let held = this.#files.get(name)
    if (held === undefined) {
      held = new Held<FileState>(this.#parts.journal, `file ${name}`, NO_FILE, hashOfFile)
      this.#files.set(name, held)
    }
    return held
  }

  #setFile(name: string, state: FileState, why: string): void {
    this.#file(name).set(state)
    const { log, cause } = this.#parts.stage
    log.emit('file.refs', cause, { file: name, refs: state.refs, why })
  }

  #of(process: string): Held<Descriptors> {
    let held = this.#fds.get(process)
    if (held === undefined) {
      held = new Held<Descriptors>(this.#parts.journal, `descriptors of ${process}`, [], hashOfFds)
      this.#fds.set(process, held)
    }
    return held
  }
}

/** Without empty places at the end. */
const trimmed = (fds: Descriptors): Descriptors => fds.slice(0, fds.findLastIndex((d) => d !== null) + 1)
