import type { Profile } from '../../../bits/errata.ts'
import { Cells, keyOf } from '../../../bits/state.ts'
import type { PagePort, ProcessPort } from '../../process-port.ts'
import type { Tasks } from '../../steps.ts'
import type { InterruptPort } from '../unit-port.ts'
import type { VtdDriver } from '../vtd-driver.ts'
import { SvmBinder } from './bind.ts'
import { Bindings } from './bindings.ts'
import type { SvmCore } from './core.ts'
import { SvmFlushes } from './flushes.ts'
import { KernelRanges } from './kernel-ranges.ts'
import { SvmNotifiers } from './notifier.ts'
import { PasidTables } from './pasid-tables.ts'
import { svmQuirksOf } from './quirks.ts'
import { OLD_QUEUE_ORDER, SvmRequestThread } from './request-thread.ts'

export interface SvmParts {
  readonly driver: VtdDriver
  readonly tasks: Tasks
  readonly processes: ProcessPort
  readonly pages: PagePort
  readonly interrupts: InterruptPort
  readonly profile: Profile
}

/**
 * Shared virtual memory of Linux 4.x on a unit of revisions 2.x: devices use the page tables of processes, by PASIDs of
 * one table that all devices of the unit share. (Linux v4.9 drivers/iommu/intel-svm.c)
 */
export class Svm {
  readonly tables: PasidTables
  readonly bindings: Bindings
  readonly binder: SvmBinder
  readonly thread: SvmRequestThread
  readonly ranges: KernelRanges
  readonly #parts: SvmParts
  readonly #queue: Cells

  /** Takes part in the start of the unit from now on. */
  constructor(parts: SvmParts) {
    const { driver, tasks, processes, pages, interrupts, profile } = parts
    const { core } = driver
    const unit = core.options.port.name
    const say = (text: string) => {
      core.flusher.queue.printed.push(text)
    }
    const quirks = svmQuirksOf(profile)
    this.#parts = parts
    this.#queue = new Cells(core.journal, keyOf('page request queue of 4.x', unit), 1)
    this.tables = new PasidTables({ core, pages, quirks, say })
    this.bindings = new Bindings(core.journal, unit)
    const shared: SvmCore = {
      ...{ driver, tasks, processes, quirks, say },
      tables: this.tables,
      bindings: this.bindings,
      flushes: new SvmFlushes(core, quirks),
    }
    this.binder = new SvmBinder(shared, new SvmNotifiers(shared))
    this.ranges = new KernelRanges(shared, pages)
    this.thread = new SvmRequestThread(shared, interrupts, () => this.queue)
    driver.onStart = () => this.#start()
  }

  /** Page of the page request queue; 0 where there is none. */
  get queue(): number {
    return this.#queue.get(0)
  }

  /** Tables and the queue, where the unit has PASIDs and page requests. */
  #start(): void {
    const { driver, pages } = this.#parts
    const { registers, control, flusher, options } = driver.core
    const { hasPasid, hasPageRequests } = registers.features
    this.bindings.reset()
    if (!driver.core.isExtended || !hasPasid) return
    this.tables.allocate()
    if (!hasPageRequests) return
    if (this.queue !== 0) pages.free(this.queue, OLD_QUEUE_ORDER)
    const queue = pages.allocate(OLD_QUEUE_ORDER, 'kernel')
    if (queue < 0)
      flusher.queue.printed.push(`IOMMU: ${options.port.name}: Failed to allocate page request queue`)
    this.#queue.set(0, Math.max(0, queue))
    if (queue > 0) control.enableRequests(queue, OLD_QUEUE_ORDER)
  }
}
