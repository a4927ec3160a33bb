import { Cells, type Journal } from '../bits/state.ts'

/** The memory of a device that its requests are to and from. */
export class DeviceBuffer {
  readonly bytes: number
  readonly #cells: Cells
  /** Read through this, written through `store`. */
  readonly #data: Uint8Array

  /** @param bytes a multiple of 4 */
  constructor(journal: Journal, key: number, bytes: number) {
    this.bytes = bytes
    this.#cells = new Cells(journal, key, bytes / 4)
    this.#data = new Uint8Array(this.#cells.data.buffer)
  }

  /** A copy of bytes. */
  slice(at: number, bytes: number): Uint8Array {
    return this.#data.slice(at, at + bytes)
  }

  /** Copies bytes to the start of `into`. */
  load(at: number, bytes: number, into: Uint8Array): void {
    into.set(this.#data.subarray(at, at + bytes))
  }

  /** Puts the first bytes of `from` in. */
  store(at: number, from: Uint8Array, bytes: number): void {
    const first = at >> 2
    const end = (at + bytes + 3) >> 2
    const words = new Uint8Array((end - first) * 4)
    words.set(this.#data.subarray(first * 4, end * 4))
    words.set(from.subarray(0, bytes), at - first * 4)
    const view = new Int32Array(words.buffer)
    for (let i = first; i < end; i++) this.#cells.set(i, view[i - first] as number)
  }
}
