import { type Task, type Work, work } from '../../steps.ts'
import type { BindSteps } from './bind-steps.ts'
import type { EntrySteps } from './entry-steps.ts'
import type { IopfQueue } from './iopf-queue.ts'
import type { SvaBook } from './sva-book.ts'
import { PASID_MUTEX, type SvaParts } from './sva-parts.ts'

const EINVAL = -22
const NULL_SVM =
  'an unbind of a PASID that nobody is bound by: NULL is dereferenced, or the compiler reads it later'

export interface UnbindParts {
  readonly parts: SvaParts
  readonly book: SvaBook
  readonly entries: EntrySteps
  readonly binds: BindSteps
  readonly queue: IopfQueue
}

/**
 * An unbind in steps, with the drain of page requests. (Linux v6.1 drivers/iommu/intel/svm.c, intel_svm_unbind_mm,
 * intel_svm_drain_prq)
 */
export class UnbindSteps {
  readonly #all: UnbindParts
  /** K6-null-svm */
  readonly #readsNull: boolean

  constructor(all: UnbindParts) {
    const { tasks, driver, profile } = all.parts
    const { queue } = all
    this.#all = all
    this.#readsNull = profile.has('K6-null-svm')
    tasks.define('sva.unbind', {
      doc: 'one user of a bind goes',
      run: (task, [device, pasid, isCall]) => this.#unbind(task, String(device), Number(pasid), isCall === 1),
    })
    tasks.define('sva.drain', {
      doc: 'looks for page requests of a PASID that wait in the queue of the unit',
      run: (_task, [device, pasid]) => this.#drain(String(device), Number(pasid)),
    })
    tasks.define('sva.drain.thread', {
      doc: 'waits until the page request thread has emptied the queue once',
      isReady: () => queue.isComplete,
      run: () => queue.setComplete(false) as undefined,
    })
    tasks.define('sva.drain.mark', {
      doc: 'sees which groups of page requests wait for workers, for a device that has the feature',
      run: (_task, [device]) =>
        queue.has(String(device)) ? [work('sva.drain.works', queue.newest)] : undefined,
    })
    tasks.define('sva.drain.works', {
      doc: 'waits until workers have handled the groups that waited',
      isReady: (_task, [newest]) => !queue.hasUpTo(Number(newest)),
      run: () => undefined,
    })
    tasks.define('sva.drain.hardware', {
      doc: 'pushes page requests of a PASID and their responses out of device and unit',
      run: (_task, [device, pasid]) => {
        const attached = all.entries.attached(device)
        if (attached === undefined) return undefined
        queue.setComplete(false)
        driver.drainRequests(attached, Number(pasid))
        if (!driver.requests.hasOverflow) return undefined
        return [work('sva.drain.thread'), work('sva.drain.hardware', String(device), Number(pasid))]
      },
    })
    tasks.define('sva.unbind.space', {
      doc: 'with its last device an address space is forgotten',
      run: (_task, [pasid]) => all.binds.leave(Number(pasid)),
    })
    tasks.define('sva.unbind.end', {
      doc: 'an unbind is over',
      run: (task, [rule, isCall]) => this.#end(task, String(rule), isCall === 1),
    })
  }

  /** The works of an unbind. */
  works(device: string, pasid: number, isCall: boolean): readonly Work[] {
    return [work('lock', PASID_MUTEX), work('sva.unbind', device, pasid, isCall ? 1 : 0)]
  }

  #unbind(task: Task, device: string, pasid: number, isCall: boolean): readonly Work[] {
    const { book, binds, entries } = this.#all
    if (entries.attachedFor(task, device) === undefined) return [work('unlock', PASID_MUTEX)]
    const bond = book.bondOf(pasid, device)
    const space = book.spaceOf(pasid)
    const unlock = work('unlock', PASID_MUTEX)
    if (bond === undefined || space === undefined) {
      this.#end(task, space === undefined ? 'not-bound' : 'bound-by-others', isCall)
      if (space === undefined && isCall && this.#readsNull) task.finishUnknown(NULL_SVM)
      return [unlock]
    }
    const users = bond.users - 1
    const others = space.bonds.filter((b) => b !== bond)
    const left = space.bonds.map((b) => (b === bond ? { device, users } : b))
    book.setBonds(pasid, users === 0 ? others : left)
    binds.recordBond(device, space.mm, pasid, users)
    if (users > 0) {
      this.#end(task, 'still-bound', isCall)
      return [unlock]
    }
    const drains = entries.attached(device)?.hasRequests === true
    return [
      work('sva.clear', device, pasid, 0),
      ...(drains ? [work('sva.drain', device, pasid)] : []),
      work('sva.unbind.space', pasid),
      work('sva.unbind.end', 'done', isCall ? 1 : 0),
      unlock,
    ]
  }

  /** Workers may want the lock: it is given back while they are waited for. */
  #drain(device: string, pasid: number): readonly Work[] {
    const { parts, queue } = this.#all
    queue.setComplete(false)
    if (parts.driver.requests.holds(pasid)) {
      return [work('sva.drain.thread'), work('sva.drain', device, pasid)]
    }
    return [
      work('unlock', PASID_MUTEX),
      work('sva.drain.mark', device),
      work('lock', PASID_MUTEX),
      work('sva.drain.hardware', device, pasid),
    ]
  }

  #end(task: Task, rule: string, isCall: boolean): undefined {
    task.value = rule === 'not-bound' ? EINVAL : 0
    if (isCall) task.finish(rule)
  }
}
