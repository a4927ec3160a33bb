import type { Profile } from '../../bits/errata.ts'
import { wordOf } from '../../bits/u64.ts'
import type { DmaApi, Outcome } from './dma-api.ts'
import { OUTCOME } from './dma-api.ts'
import type { DmaDevice } from './dma-device.ts'
import { FAIL, type IommuTable } from './iommu-table.ts'
import { Lanes, offsetIn, offsetOf, pageStart } from './lanes.ts'
import type { Dir } from './tce-backend.ts'

/** An element of a list as a driver gives it. */
export interface SgElement {
  readonly gpa: number
  readonly bytes: number
}

/** A segment of a list as the device sees it. A list ends at the first one of 0 bytes. */
export interface DmaSegment {
  readonly handle: bigint
  readonly bytes: number
}

/** A mapped list: as many places as it has elements, of which the first `count` are segments. */
export interface MappedList {
  readonly outcome: Outcome
  readonly count: number
  readonly segments: readonly DmaSegment[]
}

interface OpenSegment {
  hi: number
  lo: number
  bytes: number
}

/** One element that has its entries, until the whole list has. */
interface Piece {
  readonly slot: number
  readonly count: number
  readonly element: SgElement
}

const NONE: MappedList = { outcome: OUTCOME.NO_TABLE, count: 0, segments: [] }

/**
 * Lists of buffers in the DMA API: dma_map_sg and dma_unmap_sg.
 *
 * An element joins the segment before it where their bus addresses meet and the sum is not longer than the
 * device allows. (Linux v6.1 arch/powerpc/kernel/iommu.c, ppc_iommu_map_sg)
 */
export class ScatterLists {
  readonly #api: DmaApi
  readonly #pageShift: number
  readonly #keepsSlots: boolean
  readonly #skipsFirst: boolean
  readonly #cutsOffset: boolean
  readonly #countsTwice: boolean
  readonly #lanes = new Lanes()

  constructor(api: DmaApi, pageShift: number, profile: Profile) {
    this.#api = api
    this.#pageShift = pageShift
    this.#keepsSlots = profile.has('X17')
    this.#skipsFirst = profile.has('zero-length-first')
    this.#cutsOffset = profile.has('B11')
    this.#countsTwice = profile.has('sg-offset-twice')
  }

  map(device: DmaDevice, elements: readonly SgElement[], dir: Dir): MappedList {
    if (elements.every((e) => this.#api.isDirect(device, this.#endOf(e))))
      return this.#mapDirectly(device, elements)
    const { table } = device
    if (table === undefined) return NONE
    const list = new OpenList(elements.length, device.segmentBytes)
    const pieces: Piece[] = []
    this.#api.askForList(device, table)
    for (const [i, element] of elements.entries()) {
      if (element.bytes === 0) {
        list.skip(i === 0 && this.#skipsFirst)
        continue
      }
      const outcome = this.#place(device, table, element, dir)
      if (outcome !== OUTCOME.DONE) {
        this.#undo(device, table, list)
        return { outcome, count: 0, segments: [] }
      }
      const { slot } = this.#api
      pieces.push({ slot, count: this.#entriesOf(table, element), element })
      const bus = this.#lanes.putShifted(slot, table.pageShift).add(table.busHi, table.busLo)
      bus.addNumber(this.#offsetOf(table, element.gpa))
      list.append(bus, element.bytes)
    }
    for (const { slot, count, element } of pieces) {
      this.#api.grant(device, table, slot, count, element.gpa, element.bytes, dir)
    }
    return { outcome: OUTCOME.DONE, count: list.count, segments: list.finish() }
  }

  /** Takes a mapped list back, segment by segment up to the first of 0 bytes. */
  unmap(device: DmaDevice, segments: readonly DmaSegment[]): Outcome {
    const lanesOf = (handle: bigint) =>
      this.#lanes.put(Number(BigInt.asIntN(32, handle >> 32n)), Number(BigInt.asIntN(32, handle)))
    const isDirect = segments.every(({ handle, bytes }) => {
      const { hi, lo } = lanesOf(handle)
      return this.#api.isDirectHandle(device, hi, lo, bytes)
    })
    if (segments.length > 0 ? isDirect : device.mapsDirectly) return OUTCOME.DIRECT
    const { table } = device
    if (table === undefined) return OUTCOME.NO_TABLE
    let outcome: Outcome = OUTCOME.DONE
    for (const { handle, bytes } of segments) {
      if (bytes === 0) break
      const { hi, lo } = lanesOf(handle)
      const count = table.pagesOf(offsetIn(hi, lo, table.pageShift), bytes)
      const done = this.#api.release(device, table, hi, lo, count)
      if (done !== OUTCOME.DONE) outcome = done
    }
    return outcome
  }

  /** First address behind an element, as it is compared with a limit of direct access. */
  #endOf({ gpa, bytes }: SgElement): number {
    return gpa + bytes + (this.#countsTwice ? offsetOf(gpa, this.#pageShift) : 0)
  }

  #mapDirectly(device: DmaDevice, elements: readonly SgElement[]): MappedList {
    const segments: DmaSegment[] = []
    for (const { gpa, bytes } of elements) {
      const outcome = this.#api.mapDirectly(device, gpa, bytes)
      if (outcome !== OUTCOME.DIRECT) return { outcome, count: 0, segments: [] }
      segments.push({ handle: wordOf(this.#api.handle.hi, this.#api.handle.lo), bytes })
    }
    return { outcome: OUTCOME.DIRECT, count: segments.length, segments }
  }

  /** Slots and entries for one element; `api.slot` has the slot. */
  #place(device: DmaDevice, table: IommuTable, element: SgElement, dir: Dir): Outcome {
    const { gpa, bytes } = element
    const { request } = this.#api
    request.alignOrder = this.#api.alignOrder(table, gpa, bytes)
    const count = this.#entriesOf(table, element)
    const slot = table.rangeAlloc(count, request)
    this.#api.slot = slot
    if (slot === FAIL) return OUTCOME.NO_ENTRIES
    const backend = this.#api.backendOf(device)
    if (backend.set(table, slot, count, pageStart(gpa, table.pageShift), dir) === 0) return OUTCOME.DONE
    if (!this.#keepsSlots) {
      backend.clear(table, slot, count)
      table.free(slot, count)
    }
    return OUTCOME.SET_FAILED
  }

  #undo(device: DmaDevice, table: IommuTable, list: OpenList): void {
    for (const { hi, lo, bytes } of list.open) {
      const count = table.pagesOf(offsetIn(hi, lo, table.pageShift), bytes)
      const slot = table.slotOf(hi, lo)
      this.#api.backendOf(device).clear(table, slot, count)
      table.free(slot, count)
    }
  }

  #entriesOf(table: IommuTable, { gpa, bytes }: SgElement): number {
    return table.pagesOf(offsetOf(gpa, table.pageShift), bytes)
  }

  #offsetOf(table: IommuTable, gpa: number): number {
    return offsetOf(this.#cutsOffset ? offsetOf(gpa, this.#pageShift) : gpa, table.pageShift)
  }
}

/** The segments of a list that is being mapped. */
class OpenList {
  readonly #segments: OpenSegment[] = []
  readonly #places: number
  readonly #maxBytes: number
  /** Bus address at which the open segment could go on; it is closed where `canJoin` is false. */
  readonly #next = new Lanes()
  #canJoin = false

  constructor(places: number, maxBytes: number) {
    this.#places = places
    this.#maxBytes = maxBytes
  }

  /** Segments that hold something, in order. */
  get open(): readonly OpenSegment[] {
    return this.#segments.filter((s) => s.bytes > 0)
  }

  /** Segments that the caller is told of; an empty list still has its first place. */
  get count(): number {
    return Math.max(1, this.#segments.length)
  }

  /** An element of 0 bytes closes the segment; a first one may keep the place of the first segment. */
  skip(keepsPlace: boolean): void {
    this.#canJoin = false
    if (keepsPlace) this.#segments.push({ hi: 0, lo: 0, bytes: 0 })
  }

  append(bus: Lanes, bytes: number): void {
    const last = this.#segments.at(-1)
    const meets = this.#canJoin && bus.hi === this.#next.hi && bus.lo === this.#next.lo
    if (last !== undefined && meets && last.bytes + bytes <= this.#maxBytes) last.bytes += bytes
    else this.#segments.push({ hi: bus.hi, lo: bus.lo, bytes })
    this.#next.put(bus.hi, bus.lo).addNumber(bytes)
    this.#canJoin = true
  }

  /** A segment for each place; those behind the last hold 0 bytes. */
  finish(): DmaSegment[] {
    return Array.from({ length: this.#places }, (_, i) => {
      const { hi, lo, bytes } = this.#segments[i] ?? { hi: 0, lo: 0, bytes: 0 }
      return { handle: wordOf(hi, lo), bytes }
    })
  }
}
