import type { HostMemory } from './host-memory.ts'
import type { BusMemory, WriteWatcher } from './ports.ts'

const WORD_BYTES = 8

/**
 * The memory of a machine without a hypervisor, as its bus sees it: bus addresses are host physical ones. Writes to
 * watched pages are told.
 *
 * @example new PhysicalMemory(host.memory).loadU64le(page, 0)
 */
export class PhysicalMemory implements BusMemory {
  wordHi = 0
  wordLo = 0
  /** Told of writes to pages that it watches. What a machine that goes back takes back is not told. */
  watcher: WriteWatcher | undefined
  readonly #memory: HostMemory

  constructor(memory: HostMemory) {
    this.#memory = memory
  }

  isRam(page: number): boolean {
    return this.#memory.isRam(page)
  }

  loadU64be(page: number, offset: number): boolean {
    return this.#result(this.#memory.loadU64be(page, offset))
  }

  loadU64le(page: number, offset: number): boolean {
    return this.#result(this.#memory.loadU64le(page, offset))
  }

  loadWords(page: number, count: number, into: Int32Array): boolean {
    return this.#memory.loadWords(page, count, into)
  }

  storeU64be(page: number, offset: number, hi: number, lo: number): boolean {
    const { watcher } = this
    const isWatched = watcher?.watches(page) === true
    if (isWatched) watcher.willWrite(page, offset, WORD_BYTES)
    const isDone = this.#memory.storeU64be(page, offset, hi, lo)
    if (isWatched && isDone) watcher.wrote(page, offset, WORD_BYTES)
    return isDone
  }

  readPage(page: number, offset: number, into: Uint8Array, at: number, bytes: number): boolean {
    return this.#memory.readPage(page, offset, into, at, bytes)
  }

  writePage(page: number, offset: number, from: Uint8Array, at: number, bytes: number): boolean {
    const { watcher } = this
    const isWatched = watcher?.watches(page) === true
    if (isWatched) watcher.willWrite(page, offset, bytes)
    const isDone = this.#memory.writePage(page, offset, from, at, bytes)
    if (isWatched && isDone) watcher.wrote(page, offset, bytes)
    return isDone
  }

  #result(isThere: boolean): boolean {
    this.wordHi = this.#memory.wordHi
    this.wordLo = this.#memory.wordLo
    return isThere
  }
}
