import type { BindPort } from '../../process-port.ts'
import { type Task, type Work, work } from '../../steps.ts'
import { BIND_IS_CALL, BIND_SUPERVISOR, BindSteps } from './bind-steps.ts'
import { EntrySteps } from './entry-steps.ts'
import { defineFeatureSteps } from './feature-steps.ts'
import { IopfQueue } from './iopf-queue.ts'
import { IopfSteps } from './iopf-steps.ts'
import { SvaBook } from './sva-book.ts'
import { NOT_STARTED, type SvaParts } from './sva-parts.ts'
import { ThreadSteps } from './thread-steps.ts'
import { UnbindSteps } from './unbind-steps.ts'

/** Who does what the kernel has to do while a call waits. */
const HELPERS = { THREAD: 'irq/dmar-prq', WORKER: 'kworker/iopf' } as const

/**
 * Shared virtual addresses of Linux 6.1 on a unit in scalable mode: binds, page requests, and what becomes of both when
 * a process ends. (Linux v6.1 drivers/iommu/intel/svm.c, drivers/iommu/iommu-sva-lib.c, drivers/iommu/io-pgfault.c)
 */
export class SvaDriver implements BindPort {
  readonly parts: SvaParts
  readonly #queue: IopfQueue
  readonly #threads: ThreadSteps
  readonly #book: SvaBook
  readonly #entries: EntrySteps
  readonly #unbinds: UnbindSteps
  readonly #faults: IopfSteps

  /** @param devices names of the devices by their source-id */
  constructor(parts: SvaParts, devices: ReadonlyMap<number, string>) {
    const { stage, journal, processes } = parts
    this.parts = parts
    this.#queue = new IopfQueue(journal)
    this.#book = new SvaBook(stage, journal)
    this.#entries = new EntrySteps(parts, this.#book)
    const binds = new BindSteps(parts, this.#book, this.#entries)
    this.#unbinds = new UnbindSteps({
      parts,
      book: this.#book,
      entries: this.#entries,
      binds,
      queue: this.#queue,
    })
    this.#faults = new IopfSteps(parts, this.#book, this.#queue)
    this.#threads = new ThreadSteps({
      parts,
      book: this.#book,
      queue: this.#queue,
      faults: this.#faults,
      deviceOf: (source) => devices.get(source),
    })
    processes.onDropped((mm) => this.#book.drop(mm))
    defineFeatureSteps({ parts, entries: this.#entries, queue: this.#queue, faults: this.#faults })
    this.#defineCalls()
  }

  bind(task: Task, device: string, flags: number): readonly Work[] {
    const mm = this.parts.processes.mmOf(task.process)
    return [work('sva.bind', device, mm?.name ?? '', flags & BIND_SUPERVISOR)]
  }

  unbind(_task: Task, device: string, pasid: number): readonly Work[] {
    return this.#unbinds.works(device, pasid, false)
  }

  /** The works of a bind that is a call of its own. @param process empty for the kernel's page tables */
  bindWorks(device: string, process: string, flags: number): readonly Work[] {
    const all = flags | BIND_IS_CALL
    return [
      process === '' ? work('sva.bind', device, '', all) : work('sva.bind-process', device, process, all),
    ]
  }

  unbindWorks(device: string, pasid: number): readonly Work[] {
    return this.#unbinds.works(device, pasid, true)
  }

  /**
   * One piece of what the kernel does while a call waits: the thread whose interrupt has come, or else a worker. False
   * where nothing is to be done.
   */
  help(): boolean {
    const group = this.#queue.waiting(undefined, undefined)
    return (
      this.#run(HELPERS.THREAD, this.#threads.isWoken ? this.#threads.works() : []) ||
      this.#run(HELPERS.WORKER, group === undefined ? [] : this.#faults.works(group.id))
    )
  }

  /** Takes a helper as far as it comes. False where it cannot do anything. */
  #run(name: string, works: readonly Work[]): boolean {
    const { tasks } = this.parts
    const known = tasks.find(name)
    const isOver = known === undefined || known.isOver
    if (isOver && works.length === 0) return false
    const task = isOver ? tasks.begin(name, '', works) : known
    if (!tasks.isReady(task)) return false
    if (tasks.runToEnd(task)) tasks.drop(task)
    return true
  }

  #defineCalls(): void {
    const { tasks } = this.parts
    tasks.define('sva.prq', {
      doc: 'begins the page request thread, where there is a queue',
      run: (task, [isLeft]) => {
        if (!this.parts.driver.isOn) task.finishUnknown(NOT_STARTED)
        else if (this.parts.driver.requests.place === 0) task.finish('no-queue')
        else if (isLeft === 0 && !this.#threads.isWoken) task.finish('not-woken')
        else return this.#threads.works()
        return []
      },
    })
    tasks.define('sva.iopf', {
      doc: 'a worker looks for a group of page requests',
      run: (task, [device, index]) => {
        const named = device === '' ? undefined : String(device)
        const group = this.#queue.waiting(named, index === -1 ? undefined : Number(index))
        if (group !== undefined) return this.#faults.works(group.id)
        task.finish('none')
        return []
      },
    })
  }
}
