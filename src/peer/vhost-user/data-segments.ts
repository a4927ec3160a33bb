import { wordOf } from '../../bits/u64.ts'
import { BLK_HEADER_BYTES } from '../../hw/virtio/blk-format.ts'

const STATUS_BYTES = 1

/** The buffers that a device asked memory for since it began with a request: what a message log shows of the request. */
export class DataSegments {
  readonly #his: number[] = []
  readonly #los: number[] = []
  readonly #bytes: number[] = []

  add(hi: number, lo: number, bytes: number): void {
    this.#his.push(hi)
    this.#los.push(lo)
    this.#bytes.push(bytes)
  }

  clear(): void {
    this.#his.length = 0
    this.#los.length = 0
    this.#bytes.length = 0
  }

  /** The data between header and status, as bus address and bytes; then forgets them. @param chainBytes of all buffers */
  take(chainBytes: number): (readonly [bigint, number])[] {
    const total = this.#bytes.reduce((n, bytes) => n + bytes, 0)
    // What is more than the buffers is the table that they stand in: it was reached first.
    let skip = total - chainBytes + BLK_HEADER_BYTES
    let left = chainBytes - BLK_HEADER_BYTES - STATUS_BYTES
    const out: (readonly [bigint, number])[] = []
    for (let i = 0; i < this.#bytes.length && left > 0; i++) {
      const bytes = this.#bytes[i] as number
      const from = Math.min(skip, bytes)
      skip -= from
      const part = Math.min(bytes - from, left)
      left -= part
      if (part > 0) out.push([wordOf(this.#his[i] as number, this.#los[i] as number) + BigInt(from), part])
    }
    this.clear()
    return out
  }
}
