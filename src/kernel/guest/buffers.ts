import { type Journal, keyOf } from '../../bits/state.ts'
import type { DmaSegment } from './scatter-list.ts'

/** Memory that a driver has named, and its mapping. */
export interface NamedBuffer {
  readonly gpa: number
  readonly bytes: number
  /** Bus address of the mapping that was made last, and its length. */
  readonly handle?: bigint
  readonly mappedBytes?: number
  /** The mapped list, where it is one. */
  readonly segments?: readonly DmaSegment[]
}

const numberOf = (buffer: NamedBuffer | undefined): number =>
  buffer === undefined
    ? 0
    : keyOf(buffer.gpa, buffer.bytes, `${buffer.handle ?? ''}`, buffer.mappedBytes ?? 0)

/** The names that drivers gave to buffers, so that later steps can speak of them. */
export class Buffers {
  readonly #journal: Journal
  readonly #named = new Map<string, NamedBuffer>()

  constructor(journal: Journal) {
    this.#journal = journal
  }

  get(name: string): NamedBuffer | undefined {
    return this.#named.get(name)
  }

  /** The name stands for this buffer from now on. */
  put(name: string, buffer: NamedBuffer): void {
    const before = this.#named.get(name)
    if (this.#journal.on) {
      this.#journal.change(keyOf('buffer', name), numberOf(before), numberOf(buffer), () => {
        if (before === undefined) this.#named.delete(name)
        else this.#named.set(name, before)
      })
    }
    this.#named.set(name, buffer)
  }
}
