import type { Iova } from '../bits/brand.ts'
import type { RequestTags } from './dma-request.ts'

/** A device whose requests steps make (`dma`): one with an engine of its own, or one that others move the bytes for. */
export interface BusMaster {
  readonly name: string
  /** What it said during the last call. */
  warnings: string[]
  /** Bytes that the last request moved. */
  readonly moved: number
  /** Why a VT-d unit blocked it: a fault reason, 0 or undefined where none did. */
  readonly reason?: number
  /** Its requests may carry tags. */
  readonly hasTags?: boolean
  /**
   * One request, made at once. Answers the place of the rule in `DMA_READ` and `DMA_WRITE`.
   *
   * @param at where in its buffer
   * @param data what the buffer holds first (writes)
   * @param tags of a device with `hasTags`
   */
  transfer(
    iova: Iova,
    bytes: number,
    isWrite: boolean,
    at: number,
    data?: Uint8Array,
    tags?: RequestTags,
  ): number
  /** A copy of bytes of its buffer. */
  bufferAt(at: number, bytes: number): Uint8Array
}
