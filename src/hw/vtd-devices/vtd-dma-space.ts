import { DMA_CODES } from '../../bits/codes.ts'
import type { Profile } from '../../bits/errata.ts'
import { hiOfNumber } from '../../bits/u64.ts'
import type { BusMemory } from '../../memory/ports.ts'
import type { Stage } from '../../trace/stage.ts'
import type { DmaPort } from '../dma-port.ts'
import { type DmaRequest, recordDone, recordRequest } from '../dma-request.ts'
import { DMA_FAULT } from '../dma-space.ts'
import { ADDRESS_TYPE, NO_PASID, newRequest, PERM } from '../vtd/ports.ts'
import type { VtdUnitPort } from './unit-port.ts'

const PAGE_BYTES = 4096
const PAGE_SHIFT = 12
const PAGE_MASK = PAGE_BYTES - 1
/** Pages that `BusMemory` can be asked for. */
const MEMORY_PAGES = 2 ** 40
/** Interrupt requests have so many bytes, at a multiple of them. */
const INTERRUPT_BYTES = 4
const { MEMTX_OK, MEMTX_DECODE_ERROR } = DMA_CODES

export interface VtdDmaParts {
  readonly unit: VtdUnitPort
  readonly memory: BusMemory
  readonly stage: Stage
  /** Errata of the machine; none where it is left out. */
  readonly profile?: Profile
}

/**
 * The bus as a device behind a VT-d unit sees it. A request goes in pieces, none across a page of 4 KiB (D102: of the size
 * that its entry has); each is translated by itself, and one that is blocked keeps none of the others. Nothing is
 * remembered here.
 *
 * A write to the interrupt addresses is an interrupt where it has 4 bytes at a multiple of 4. (VT-d manual, Interrupt
 * Requests; QEMU 7.2 hw/i386/intel_iommu.c, vtd_mem_ir_ops)
 */
export class VtdDmaSpace implements DmaPort {
  readonly isMmioStopped = false
  moved = 0
  fault: number = DMA_FAULT.NONE
  /** Of the last request: why the unit blocked the first byte that did not get through, 0 for no such reason. */
  reason = 0
  readonly #unit: VtdUnitPort
  readonly #memory: BusMemory
  readonly #stage: Stage
  readonly #piece = newRequest()
  /** Erratum D102. */
  readonly #takesLargePages: boolean

  /** @param source bus, device and function of the device */
  constructor(source: number, { unit, memory, stage, profile }: VtdDmaParts) {
    this.#unit = unit
    this.#memory = memory
    this.#stage = stage
    this.#piece.source = source
    this.#takesLargePages = profile?.has('D102') ?? false
  }

  request(request: DmaRequest): number {
    const { device, hi, lo, bytes, isWrite, tags } = request
    const stage = this.#stage
    const before = stage.cause
    recordRequest(stage, device, hi, lo, bytes, isWrite)
    this.begin()
    const piece = this.#piece
    piece.addressType = ADDRESS_TYPE.UNTRANSLATED
    piece.pasid = tags?.pasid ?? NO_PASID
    piece.isPrivileged = tags?.isPrivileged ?? false
    piece.need = isWrite ? PERM.WRITE : tags?.isExecute ? PERM.READ | PERM.EXECUTE : PERM.READ
    for (let done = 0; done < bytes; ) {
      const low = (lo >>> 0) + done
      piece.hi = (hi + hiOfNumber(low)) | 0
      piece.lo = low | 0
      done += this.#pieceOf(request, done, bytes - done)
    }
    const code = this.fault === DMA_FAULT.NONE ? MEMTX_OK : MEMTX_DECODE_ERROR
    recordDone(stage, device, this.moved, code)
    stage.cause = before
    return code
  }

  /** A request begins: nothing of it has been moved. */
  begin(): void {
    this.moved = 0
    this.fault = DMA_FAULT.NONE
    this.reason = 0
  }

  /** Bytes inside of a page of memory, or why they are not moved. */
  move(page: number, offset: number, buffer: Uint8Array, at: number, bytes: number, isWrite: boolean): void {
    const memory = this.#memory
    const isThere =
      page < MEMORY_PAGES &&
      (isWrite
        ? memory.writePage(page, offset, buffer, at, bytes)
        : memory.readPage(page, offset, buffer, at, bytes))
    if (isThere) this.moved += bytes
    else this.refuse(DMA_FAULT.NO_MEMORY, 0, buffer, at, bytes, isWrite)
  }

  /** Bytes that do not get through: reads deliver zeros. */
  refuse(
    fault: number,
    reason: number,
    buffer: Uint8Array,
    at: number,
    bytes: number,
    isWrite: boolean,
  ): void {
    if (!isWrite) buffer.fill(0, at, at + bytes)
    if (this.fault !== DMA_FAULT.NONE) return
    this.fault = fault
    this.reason = reason
  }

  /** The next piece of a request, of which `rest` bytes are left. Answers its bytes. */
  #pieceOf({ buffer, at, isWrite }: DmaRequest, done: number, rest: number): number {
    const unit = this.#unit
    const piece = this.#piece
    const { need, lo } = piece
    const bytes = Math.min(rest, PAGE_BYTES - (lo & PAGE_MASK))
    const reason = unit.translate(piece)
    const { perm, page, shift, isInterrupt, isDirect } = unit.translation
    if (reason !== 0) this.refuse(DMA_FAULT.BLOCKED, reason, buffer, at + done, bytes, isWrite)
    else if (isInterrupt) this.#interrupts(lo, buffer, at + done, bytes, isWrite)
    // A cache may know less than is needed, and QEMU's says nothing of it (D4).
    else if ((perm & need) !== need) this.refuse(DMA_FAULT.REFUSED, 0, buffer, at + done, bytes, isWrite)
    else {
      const large = this.#takesLargePages && !isDirect ? (1 << shift) - (lo & ((1 << shift) - 1)) : bytes
      return this.#moveOn(page, lo & PAGE_MASK, buffer, at + done, Math.min(rest, large), isWrite)
    }
    return bytes
  }

  /** Moves bytes from a place in memory on, which may go on over pages. Answers how many. */
  #moveOn(
    page: number,
    offset: number,
    buffer: Uint8Array,
    at: number,
    bytes: number,
    isWrite: boolean,
  ): number {
    for (let done = 0; done < bytes; ) {
      const place = offset + done
      const count = Math.min(bytes - done, PAGE_BYTES - (place & PAGE_MASK))
      this.move(page + (place >>> PAGE_SHIFT), place & PAGE_MASK, buffer, at + done, count, isWrite)
      done += count
    }
    return bytes
  }

  /** Words of 4 bytes are interrupts; what is no whole one is lost, as are reads. */
  #interrupts(lo: number, buffer: Uint8Array, at: number, bytes: number, isWrite: boolean): void {
    for (let done = 0; done < bytes; ) {
      const address = (lo >>> 0) + done
      const count = Math.min(bytes - done, INTERRUPT_BYTES - (address % INTERRUPT_BYTES))
      const isWord = isWrite && count === INTERRUPT_BYTES
      if (isWord && this.#unit.interrupt(this.#piece.source, address, wordAt(buffer, at + done))) {
        this.moved += count
      } else this.refuse(DMA_FAULT.REFUSED, 0, buffer, at + done, count, isWrite)
      done += count
    }
  }
}

/** The word of 4 bytes at a place, least significant byte first. */
const wordAt = (bytes: Uint8Array, at: number): number =>
  ((bytes[at] as number) |
    ((bytes[at + 1] as number) << 8) |
    ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 24)) >>>
  0
