import { assert } from '../../bits/errors.ts'
import type { RingMemory } from './ring-memory.ts'

/** Shorter copies are cheaper byte by byte than through a second view. */
const SHORT_BYTES = 32

/**
 * Where reached bytes of a driver lie, in order: a list of views of memory, or of places that only their
 * `RingMemory` can read and write. Made once a queue and filled anew for each chain, so that nothing is allocated.
 *
 * `skip` counts bytes from the start of the list. Nothing here reaches outside the list: that is an assertion.
 */
export class Segments {
  /** Segments, and bytes of all of them. */
  count = 0
  bytes = 0
  /** How often something was added: neighbours are joined, so `count` may be less. */
  added = 0
  /** Of each segment: the view, or null; the first byte in the view, or the place; how many bytes. */
  readonly views: (Uint8Array | null)[] = []
  readonly starts: number[] = []
  readonly lengths: number[] = []
  /** How often something can be added. */
  limit: number
  readonly #memory: RingMemory
  /** Segment that the last access began in, and the bytes before it: the next one is mostly not far. */
  #cursor = 0
  #cursorSkip = 0

  /** @param limit how often something can be added */
  constructor(memory: RingMemory, limit = 65_536) {
    this.#memory = memory
    this.limit = limit
  }

  /** Nothing can be added any more: a memory asks before it looks up the next piece, and stops with `ok`. */
  get isFull(): boolean {
    return this.added >= this.limit
  }

  clear(): void {
    this.count = 0
    this.bytes = 0
    this.added = 0
    this.#cursor = 0
    this.#cursorSkip = 0
  }

  /** Bytes [start, start + bytes) of a view. Left out where the list is full. */
  addView(view: Uint8Array, start: number, bytes: number): void {
    assert(start >= 0 && start + bytes <= view.length, 'a segment lies in its view')
    this.#add(view, start, bytes)
  }

  /** `bytes` bytes at a place of the memory, which numbers them one by one. Left out where the list is full. */
  addPlace(place: number, bytes: number): void {
    this.#add(null, place, bytes)
  }

  /** Copies bytes [skip, skip + bytes) to `into[at]` on. */
  read(skip: number, into: Uint8Array, at: number, bytes: number): void {
    assert(skip + bytes <= this.bytes && at + bytes <= into.length, 'a read stays in its segments')
    if (bytes === 0) return
    let i = this.#seek(skip)
    let inside = skip - this.#cursorSkip
    for (let left = bytes; left > 0; i++) {
      const part = Math.min(left, (this.lengths[i] as number) - inside)
      const view = this.views[i] as Uint8Array | null
      const from = (this.starts[i] as number) + inside
      if (view === null) this.#memory.load(from, into, at, part)
      else copy(view, from, into, at, part)
      at += part
      left -= part
      inside = 0
    }
  }

  /** Copies `bytes` bytes from `from[at]` on to [skip, skip + bytes). */
  write(skip: number, from: Uint8Array, at: number, bytes: number): void {
    assert(skip + bytes <= this.bytes && at + bytes <= from.length, 'a write stays in its segments')
    if (bytes === 0) return
    let i = this.#seek(skip)
    let inside = skip - this.#cursorSkip
    for (let left = bytes; left > 0; i++) {
      const part = Math.min(left, (this.lengths[i] as number) - inside)
      const view = this.views[i] as Uint8Array | null
      const to = (this.starts[i] as number) + inside
      if (view === null) this.#memory.store(to, from, at, part)
      else copy(from, at, view, to, part)
      at += part
      left -= part
      inside = 0
    }
  }

  /** Takes bytes off the front: what follows is byte 0 then. */
  drop(bytes: number): void {
    assert(bytes <= this.bytes, 'no more is dropped than there is')
    let gone = 0
    let left = bytes
    while (gone < this.count && left >= (this.lengths[gone] as number)) left -= this.lengths[gone++] as number
    this.count -= gone
    this.bytes -= bytes
    this.#cursor = 0
    this.#cursorSkip = 0
    for (let i = 0; gone > 0 && i < this.count; i++) {
      this.views[i] = this.views[i + gone] as Uint8Array | null
      this.starts[i] = this.starts[i + gone] as number
      this.lengths[i] = this.lengths[i + gone] as number
    }
    if (left > 0) {
      this.starts[0] = (this.starts[0] as number) + left
      this.lengths[0] = (this.lengths[0] as number) - left
    }
  }

  /** The segment that holds byte `skip`. */
  #seek(skip: number): number {
    if (skip < this.#cursorSkip) {
      this.#cursor = 0
      this.#cursorSkip = 0
    }
    let i = this.#cursor
    let before = this.#cursorSkip
    while (skip - before >= (this.lengths[i] as number)) before += this.lengths[i++] as number
    this.#cursor = i
    this.#cursorSkip = before
    return i
  }

  #add(view: Uint8Array | null, start: number, bytes: number): void {
    if (bytes === 0 || this.isFull) return
    this.added++
    const last = this.count - 1
    this.bytes += bytes
    if (
      last >= 0 &&
      this.views[last] === view &&
      (this.starts[last] as number) + (this.lengths[last] as number) === start
    ) {
      this.lengths[last] = (this.lengths[last] as number) + bytes
      return
    }
    this.views[this.count] = view
    this.starts[this.count] = start
    this.lengths[this.count] = bytes
    this.count++
  }
}

function copy(from: Uint8Array, at: number, into: Uint8Array, to: number, bytes: number): void {
  if (bytes > SHORT_BYTES) {
    into.set(from.subarray(at, at + bytes), to)
    return
  }
  for (let i = 0; i < bytes; i++) into[to + i] = from[at + i] as number
}
