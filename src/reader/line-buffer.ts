import { MATCH_MARGIN_BYTES } from './line-matcher.ts'

/** A longer line of most logs is damaged: it is never held as a whole. */
export const LINE_BYTES_MAX = 4096

/** Bytes that are looked at together; small enough to stay in a core's cache. */
const CHUNK_BYTES = 128 * 1024
const NEWLINE = 0x0a

/** Takes the lines of a log, in order. */
export interface LineTarget {
  /**
   * Whole lines: bytes [from, to), the last one ended by a newline as all others, with MATCH_MARGIN_BYTES
   * readable behind them. `offsetBytes` is the place of byte 0 in the log. A line may be too long.
   */
  takeLines(bytes: Uint8Array, to: number, offsetBytes: number): void
  /** The first bytes of a line that is too long, at byte 0. */
  takeLongLine(bytes: Uint8Array, offsetBytes: number): void
}

/**
 * Cuts pieces of any length into lines, in bounded memory: an unfinished line waits for its end, one that
 * grows too long is told of and skipped. Where pieces are cut makes no difference.
 */
export class LineBuffer {
  readonly bytes: Uint8Array
  readonly #target: LineTarget
  readonly #lineBytesMax: number
  /** Bytes of an unfinished line, at the start of the buffer. */
  #held = 0
  /** Place of byte 0 of the buffer in the log. */
  #offsetBytes = 0
  #skipping = false

  constructor(target: LineTarget, lineBytesMax = LINE_BYTES_MAX) {
    this.#target = target
    this.#lineBytesMax = lineBytesMax
    this.bytes = new Uint8Array(lineBytesMax + CHUNK_BYTES + MATCH_MARGIN_BYTES)
  }

  /** Bytes taken so far. */
  get offsetBytes(): number {
    return this.#offsetBytes + this.#held
  }

  push(piece: Uint8Array): void {
    let at = 0
    while (at < piece.length) {
      if (this.#skipping) {
        const newline = piece.indexOf(NEWLINE, at)
        this.#offsetBytes += (newline < 0 ? piece.length : newline + 1) - at
        if (newline < 0) return
        this.#skipping = false
        at = newline + 1
      } else {
        const end = Math.min(piece.length, at + CHUNK_BYTES)
        this.#add(at === 0 && end === piece.length ? piece : piece.subarray(at, end))
        at = end
      }
    }
  }

  /** The log ends here. Answers whether its last line had no newline. */
  end(): boolean {
    if (this.#skipping) return true
    if (this.#held === 0) return false
    this.bytes[this.#held] = NEWLINE
    this.#target.takeLines(this.bytes, this.#held + 1, this.#offsetBytes)
    this.#offsetBytes += this.#held
    this.#held = 0
    return true
  }

  #add(piece: Uint8Array): void {
    const { bytes } = this
    const newline = piece.lastIndexOf(NEWLINE)
    bytes.set(piece, this.#held)
    const filled = this.#held + piece.length
    if (newline >= 0) {
      const to = this.#held + newline + 1
      this.#target.takeLines(bytes, to, this.#offsetBytes)
      bytes.copyWithin(0, to, filled)
      this.#offsetBytes += to
      this.#held = filled - to
    } else this.#held = filled
    if (this.#held <= this.#lineBytesMax) return
    this.#target.takeLongLine(bytes, this.#offsetBytes)
    this.#offsetBytes += this.#held
    this.#held = 0
    this.#skipping = true
  }
}
