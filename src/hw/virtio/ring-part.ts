import { DESCRIPTOR_BYTES } from './ring-layout.ts'
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
  /** Words of the descriptor that `readDescriptor` read: address (low, high), length, flags and next. */
  lo = 0
  hi = 0
  bytes = 0
  flags = 0
  next = 0
  readonly #scratch = new Uint8Array(DESCRIPTOR_BYTES)
  readonly #scratchWords = new DataView(this.#scratch.buffer)
  #buffer: ArrayBufferLike | null = null
  #allWords16: Uint16Array = NO_WORDS16
  #allWords32: Int32Array = NO_WORDS32
  /** Words of the view, where numbers are read in place, and the index of the first one; else no words. */
  #words16: Uint16Array = NO_WORDS16
  #words32: Int32Array = NO_WORDS32
  #first16 = 0
  #first32 = 0

  /** @param limit pieces that the part may lie in */
  constructor(memory: RingMemory, limit?: number) {
    this.segments = new Segments(memory, limit)
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
    this.segments.read(offset, this.#scratch, 0, 2)
    return this.#scratchWords.getUint16(0, true)
  }

  /** A descriptor, into the fields: each byte is read once, since the driver may write meanwhile. */
  readDescriptor(index: number): void {
    let flagsAndNext: number
    const words = this.#words32
    if (words.length > 0) {
      const at = this.#first32 + index * (DESCRIPTOR_BYTES / 4)
      this.lo = words[at] as number
      this.hi = words[at + 1] as number
      this.bytes = (words[at + 2] as number) >>> 0
      flagsAndNext = words[at + 3] as number
    } else {
      this.segments.read(index * DESCRIPTOR_BYTES, this.#scratch, 0, DESCRIPTOR_BYTES)
      this.lo = this.#scratchWords.getInt32(0, true)
      this.hi = this.#scratchWords.getInt32(4, true)
      this.bytes = this.#scratchWords.getUint32(8, true)
      flagsAndNext = this.#scratchWords.getInt32(12, true)
    }
    this.flags = flagsAndNext & 0xffff
    this.next = flagsAndNext >>> 16
  }

  /** Two lanes, the lower one first. */
  put64(offset: number, lo: number, hi: number): void {
    const words = this.#words32
    if (words.length > 0) {
      const at = this.#first32 + (offset >> 2)
      words[at] = lo
      words[at + 1] = hi
      return
    }
    this.#scratchWords.setInt32(0, lo, true)
    this.#scratchWords.setInt32(4, hi, true)
    this.segments.write(offset, this.#scratch, 0, 8)
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
    this.#scratchWords.setUint16(0, value, true)
    this.segments.write(offset, this.#scratch, 0, 2)
  }
}
