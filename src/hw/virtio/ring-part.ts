import type { RingMemory } from './ring-memory.ts'
import { Segments } from './segments.ts'

/** Words of the engine have their low byte first, as those of a modern ring. */
const IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1
const NO_WORDS16 = new Uint16Array(0)
const NO_WORDS32 = new Int32Array(0)

/**
 * One of the three parts of a ring, as its side reads and writes it: little endian numbers at offsets.
 *
 * Where the part lies in one view, and aligned, numbers are read in place, each as a whole, and indices are
 * exchanged in order with everything before and after them (the other side runs at the same time). Anything
 * else goes byte by byte through the segments.
 */
export class RingPart {
  readonly segments: Segments
  readonly #scratch = new Uint8Array(4)
  #buffer: ArrayBufferLike | null = null
  #allWords16: Uint16Array = NO_WORDS16
  #allWords32: Int32Array = NO_WORDS32
  /** Words of the view, where numbers are read in place, and the index of the first one; else no words. */
  #words16: Uint16Array = NO_WORDS16
  #words32: Int32Array = NO_WORDS32
  #first16 = 0
  #first32 = 0

  constructor(memory: RingMemory) {
    this.segments = new Segments(memory)
  }

  /** The segments were filled anew. */
  settle(): void {
    this.#words16 = NO_WORDS16
    this.#words32 = NO_WORDS32
    const view = this.segments.views[0]
    if (!IS_LITTLE_ENDIAN || this.segments.count !== 1 || view === null || view === undefined) return
    const start = view.byteOffset + (this.segments.starts[0] as number)
    if (start % 2 !== 0) return
    if (this.#buffer !== view.buffer) {
      this.#buffer = view.buffer
      this.#allWords16 = new Uint16Array(view.buffer, 0, Math.floor(view.buffer.byteLength / 2))
      this.#allWords32 = new Int32Array(view.buffer, 0, Math.floor(view.buffer.byteLength / 4))
    }
    this.#words16 = this.#allWords16
    this.#first16 = start / 2
    if (start % 4 !== 0) return
    this.#words32 = this.#allWords32
    this.#first32 = start / 4
  }

  get16(offset: number): number {
    const words = this.#words16
    if (words.length > 0) return words[this.#first16 + (offset >> 1)] as number
    const bytes = this.#scratch
    this.segments.read(offset, bytes, 0, 2)
    return (bytes[0] as number) | ((bytes[1] as number) << 8)
  }

  /** As an int32 lane. */
  get32(offset: number): number {
    const words = this.#words32
    if (words.length > 0) return words[this.#first32 + (offset >> 2)] as number
    const bytes = this.#scratch
    this.segments.read(offset, bytes, 0, 4)
    return (
      (bytes[0] as number) |
      ((bytes[1] as number) << 8) |
      ((bytes[2] as number) << 16) |
      ((bytes[3] as number) << 24)
    )
  }

  put32(offset: number, value: number): void {
    const words = this.#words32
    if (words.length > 0) {
      words[this.#first32 + (offset >> 2)] = value
      return
    }
    const bytes = this.#scratch
    bytes[0] = value
    bytes[1] = value >> 8
    bytes[2] = value >> 16
    bytes[3] = value >> 24
    this.segments.write(offset, bytes, 0, 4)
  }

  /** Two lanes at once. */
  put64(offset: number, lo: number, hi: number): void {
    this.put32(offset, lo)
    this.put32(offset + 4, hi)
  }

  /** A number that tells the other side something: read after all that was done before, before all that follows. */
  fetch16(offset: number): number {
    const words = this.#words16
    if (words.length > 0) return Atomics.load(words, this.#first16 + (offset >> 1))
    return this.get16(offset)
  }

  /** The same for a write. */
  publish16(offset: number, value: number): void {
    const words = this.#words16
    if (words.length > 0) {
      Atomics.store(words, this.#first16 + (offset >> 1), value)
      return
    }
    const bytes = this.#scratch
    bytes[0] = value
    bytes[1] = value >> 8
    this.segments.write(offset, bytes, 0, 2)
  }
}
