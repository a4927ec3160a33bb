import type { DeviceTlbPort, PageRequest, Translation, VtdRequest } from '../vtd/ports.ts'

/** What a unit does with a page request: it queues it, has no place for it, or answers it with a failure at once. */
export type PageRequestEnd = 'queued' | 'dropped' | 'refused'

/** A VT-d unit as the devices behind it meet it. */
export interface VtdUnitPort {
  readonly name: string
  /** What the last request came to: one object, used again. */
  readonly translation: Translation
  /** Devices with a TLB of their own. */
  deviceTlbs: DeviceTlbPort | undefined
  /** A DMA or a translation request. Answers the fault reason, 0 for none. */
  translate(request: VtdRequest): number
  /** A write of 4 bytes to the interrupt addresses. False where the unit blocks it. */
  interrupt(source: number, address: number, data: number): boolean
  pageRequest(request: PageRequest): PageRequestEnd
  /** A device has no more work for a PASID. Answers whether the unit has counted it (units of revisions 2.x do). */
  pasidLeft?(source: number, pasid: number): boolean
  /** A device completes an invalidation that it has not completed yet; where there is none, the unit has an error (ICE). */
  invalidationDone(source: number): void
  /** The next number of a cached translation (`vtd.fill`): its own caches and the TLBs of devices share them. */
  nextEntry(): number
}
