import { Held } from '../../../bits/held.ts'
import { Cells, type Journal, keyOf } from '../../../bits/state.ts'
import { get } from '../../../bits/word.ts'
import { PAGE_REQ_DSC_QW0, PAGE_REQ_DSC_QW1 } from '../../../hw/vtd/descriptor-format.ts'
import type { RequestWords } from '../page-request-words.ts'

/** What came of page requests. */
export type PageResult = 'success' | 'invalid'

/** A page request of a device that has a queue. */
export interface PageFault {
  readonly device: string
  readonly words: RequestWords
  /** Where it lay in the queue of the unit. */
  readonly offset: number
}

/** Page requests with one index, the last one among them: a work item. */
export interface FaultGroup {
  readonly id: number
  readonly device: string
  /** In the order in which they came. */
  readonly faults: readonly PageFault[]
  readonly result: PageResult
  /** A worker has it. */
  readonly isTaken: boolean
}

interface Queue {
  /** Devices whose page requests are queued. */
  readonly devices: readonly string[]
  /** Those whose group is not whole. */
  readonly partial: readonly PageFault[]
  /** The last ones of groups that wait for a response. */
  readonly pending: readonly PageFault[]
  readonly groups: readonly FaultGroup[]
}

const EMPTY: Queue = { devices: [], partial: [], pending: [], groups: [] }
const NEXT_ID = 0
const COMPLETE = 1

/** Index of the group of a page request, and its PASID. */
export const groupOf = ({ words }: PageFault): number => Number(get(PAGE_REQ_DSC_QW1, words[1], 'PRGI'))
export const pasidOf = ({ words }: PageFault): number => Number(get(PAGE_REQ_DSC_QW0, words[0], 'PASID'))

/**
 * Page requests of all devices of a unit, until workers have handled them.
 * (Linux v6.1 drivers/iommu/io-pgfault.c, struct iopf_queue; iommu.c, struct iommu_fault_param)
 */
export class IopfQueue {
  readonly #queue: Held<Queue>
  readonly #cells: Cells

  constructor(journal: Journal) {
    this.#queue = new Held<Queue>(journal, 'page faults of devices', EMPTY, (q) =>
      keyOf(
        ...q.devices,
        'partial',
        ...q.partial.flatMap((f) => [f.device, f.offset]),
        'pending',
        ...q.pending.flatMap((f) => [f.device, f.offset]),
        'groups',
        ...q.groups.flatMap((g) => [g.id, g.result, g.isTaken ? 1 : 0]),
      ),
    )
    this.#cells = new Cells(journal, keyOf('page faults of devices'), 2)
  }

  has(device: string): boolean {
    return this.#queue.value.devices.includes(device)
  }

  add(device: string): void {
    this.#set({ devices: [...this.#queue.value.devices, device] })
  }

  /** The device goes, and its groups that are not whole. */
  remove(device: string): void {
    const { devices, partial } = this.#queue.value
    this.#set({
      devices: devices.filter((d) => d !== device),
      partial: partial.filter((f) => f.device !== device),
    })
  }

  isPending(device: string): boolean {
    return this.#queue.value.pending.some((f) => f.device === device)
  }

  /**
   * A page request of a device that has a queue. One that is not the last of its group waits; the last one takes all of
   * its device with it that have its index. True where a group is whole with it.
   */
  report(fault: PageFault, isLast: boolean): boolean {
    const { partial, pending, groups } = this.#queue.value
    if (!isLast) {
      this.#set({ partial: [...partial, fault] })
      return false
    }
    const isOfIt = (f: PageFault) => f.device === fault.device && groupOf(f) === groupOf(fault)
    const id = this.#cells.get(NEXT_ID) + 1
    this.#cells.set(NEXT_ID, id)
    const faults = [...partial.filter(isOfIt), fault]
    this.#set({
      partial: partial.filter((f) => !isOfIt(f)),
      pending: [...pending, fault],
      groups: [...groups, { id, device: fault.device, faults, result: 'success', isTaken: false }],
    })
    return true
  }

  /** Groups that are not whole: their last request may be lost. */
  discardPartial(): void {
    this.#set({ partial: [] })
  }

  /** The oldest group that no worker has, of a device and with an index where they are named. */
  waiting(device: string | undefined, index: number | undefined): FaultGroup | undefined {
    return this.#queue.value.groups.find((g) => {
      const [first] = g.faults
      const isIndex = index === undefined || (first !== undefined && groupOf(first) === index)
      return !g.isTaken && (device === undefined || g.device === device) && isIndex
    })
  }

  group(id: number): FaultGroup | undefined {
    return this.#queue.value.groups.find((g) => g.id === id)
  }

  take(id: number): void {
    this.#change(id, { isTaken: true })
  }

  fail(id: number): void {
    this.#change(id, { result: 'invalid' })
  }

  finish(id: number): void {
    this.#set({ groups: this.#queue.value.groups.filter((g) => g.id !== id) })
  }

  /** The number of the group that came last; groups up to it are not all handled. */
  get newest(): number {
    return this.#cells.get(NEXT_ID)
  }

  hasUpTo(id: number): boolean {
    return this.#queue.value.groups.some((g) => g.id <= id)
  }

  /** Takes the request that a response is for: the first one with its index and PASID. */
  takePending(device: string, index: number, pasid: number): PageFault | undefined {
    const { pending } = this.#queue.value
    const found = pending.find((f) => f.device === device && groupOf(f) === index && pasidOf(f) === pasid)
    if (found !== undefined) this.#set({ pending: pending.filter((f) => f !== found) })
    return found
  }

  /** Whether the page request thread has run since somebody began to wait for it (prq_complete). */
  get isComplete(): boolean {
    return this.#cells.get(COMPLETE) === 1
  }

  setComplete(isComplete: boolean): void {
    this.#cells.set(COMPLETE, isComplete ? 1 : 0)
  }

  #change(id: number, change: Partial<FaultGroup>): void {
    const groups = this.#queue.value.groups.map((g) => (g.id === id ? { ...g, ...change } : g))
    this.#set({ groups })
  }

  #set(change: Partial<Queue>): void {
    this.#queue.set({ ...this.#queue.value, ...change })
  }
}
