import { Bitmap } from '../bits/bitmap.ts'
import { assert } from '../bits/errors.ts'
import { Cells, type Journal, keyOf } from '../bits/state.ts'
import { KIND } from '../trace/event.ts'
import type { Stage } from '../trace/stage.ts'
import { type HostMemory, PAGE_4K_SHIFT } from './host-memory.ts'
import { FRAMES_MAX } from './limits.ts'

/** What `allocate` answers when no frames are free. */
export const NO_FRAME = -1

export interface FrameTableOptions {
  readonly stage: Stage
  readonly journal: Journal
  readonly memory: HostMemory
  /** log2 of the system page: 12 or 16. */
  readonly pageShift: number
}

/**
 * The page frames of a host: who owns each, how many use it, how many hold it pinned.
 *
 * A frame is taken with one user (`get` and `put` count more and fewer) and without pins. It is free again
 * when the last user and the last pin are gone: memory that its process gave up while a device has it pinned
 * stays the device's to reach. `generation` counts the lives of a frame, so that a frame that was freed and
 * taken again is another page. Taking a frame zeroes it; freeing leaves its bytes for a late device to find.
 * Each change of owner is a `page.own` record of the space `hpa`.
 *
 * A huge page (`allocateHuge`) is whole frames that stay together: none of them is free before all are.
 *
 * The lowest free frame is taken first, so that the same run has the same addresses.
 */
export class FrameTable {
  readonly pageShift: number
  /** Frames that the host has. */
  readonly frames: number
  /** log2 of the 4 KiB pages in a frame. */
  readonly subShift: number
  readonly #stage: Stage
  readonly #memory: HostMemory
  readonly #journal: Journal
  readonly #used: Bitmap
  readonly #users: Cells
  readonly #pins: Cells
  readonly #owners: Cells
  readonly #generations: Cells
  readonly #taken: Cells
  /** log2 of the frames in the huge page that a frame is part of, 0 for none. */
  readonly #orders: Cells
  /** In the first frame of a huge page: users and pins of all its frames together. */
  readonly #held: Cells
  readonly #space: number
  readonly #idOf = new Map<string, number>()
  readonly #words = new Map<number, { readonly word: string; readonly name: number }>()
  /** No frame below it is free, unless the machine went back since. */
  #lowest = 0
  #rollbacks = 0

  constructor(options: FrameTableOptions) {
    const { journal, memory, pageShift } = options
    assert(pageShift === 12 || pageShift === 16, 'a system page has 4 or 64 KiB')
    this.pageShift = pageShift
    this.subShift = pageShift - PAGE_4K_SHIFT
    this.frames = Math.min(FRAMES_MAX, Math.floor(memory.pages / 2 ** this.subShift))
    this.#stage = options.stage
    this.#memory = memory
    this.#journal = journal
    const column = (name: string) => new Cells(journal, keyOf('frame', name))
    this.#used = new Bitmap(column('used'), this.frames)
    this.#users = column('users')
    this.#pins = column('pins')
    this.#owners = column('owner')
    this.#generations = column('generation')
    this.#taken = column('taken')
    this.#orders = column('order')
    this.#held = column('held')
    this.#taken.ensure(1)
    this.#space = options.stage.log.names.intern('hpa')
    this.#words.set(0, { word: '', name: 0 })
  }

  get free(): number {
    return this.frames - this.#taken.get(0)
  }

  /**
   * The number that stands for an owner in the table. It comes from the word, not from the order in which
   * owners appear, so that equal states have equal hashes.
   */
  owner(word: string): number {
    const known = this.#idOf.get(word)
    if (known !== undefined) return known
    let id = keyOf('owner', word)
    while (this.#words.has(id)) id = (id + 1) | 0
    this.#idOf.set(word, id)
    this.#words.set(id, { word, name: this.#stage.log.names.intern(word) })
    return id
  }

  /** 4 KiB page of host memory at which a frame starts. */
  hostPage(frame: number): number {
    return frame << this.subShift
  }

  isTaken(frame: number): boolean {
    return frame < this.frames && this.#used.has(frame)
  }

  ownerOf(frame: number): string {
    return this.#words.get(this.#read(this.#owners, frame))?.word ?? '?'
  }

  generationOf(frame: number): number {
    return this.#read(this.#generations, frame) >>> 0
  }

  usersOf(frame: number): number {
    return this.#read(this.#users, frame)
  }

  pinsOf(frame: number): number {
    return this.#read(this.#pins, frame)
  }

  /** log2 of the frames in the huge page that a taken frame is part of; 0 for an ordinary frame. */
  orderOf(frame: number): number {
    return this.#read(this.#orders, frame)
  }

  /** log2 of the bytes of the page that holds a 4 KiB page of host memory: a huge page, or a system page. */
  compoundShift(hostPage: number): number {
    return this.pageShift + this.orderOf(hostPage >>> this.subShift)
  }

  /** Whether `count` huge pages of 2^order frames are free. */
  hasHuge(order: number, count: number): boolean {
    let from = 0
    for (let left = count; left > 0; left--) {
      const first = this.#used.nextZeroArea(from, this.frames, 2 ** order, 2 ** order - 1)
      if (first >= this.frames) return false
      from = first + 2 ** order
    }
    return true
  }

  /** Takes a huge page of 2^order frames, order above 0, each with one user. Answers its first frame, or NO_FRAME. */
  allocateHuge(owner: number, order: number): number {
    assert(order > 0, 'a huge page has several frames')
    const first = this.allocate(owner, order)
    if (first === NO_FRAME) return NO_FRAME
    const end = first + 2 ** order
    this.#orders.ensure(end)
    this.#held.ensure(end)
    this.#orders.fill(order, first, end)
    this.#held.set(first, 2 ** order)
    return first
  }

  /**
   * Takes 2^order frames in a row, the first a multiple of 2^order, for an owner (`owner(word)`).
   * Answers the first, or NO_FRAME.
   */
  allocate(owner: number, order = 0): number {
    const count = 2 ** order
    if (this.#rollbacks !== this.#journal.rollbacks) {
      this.#rollbacks = this.#journal.rollbacks
      this.#lowest = 0
    }
    const lowest = this.#used.nextZero(this.#lowest, this.frames)
    this.#lowest = lowest
    const first = order === 0 ? lowest : this.#used.nextZeroArea(lowest, this.frames, count, count - 1)
    if (first >= this.frames) return NO_FRAME
    this.#used.setRange(first, first + count)
    if (first + count > this.#users.length) this.#ensure(first + count)
    for (let frame = first; frame < first + count; frame++) {
      this.#users.set(frame, 1)
      this.#owners.set(frame, owner)
      this.#generations.set(frame, this.#generations.get(frame) + 1)
    }
    this.#taken.set(0, this.#taken.get(0) + count)
    this.#memory.zeroPages(this.hostPage(first), count << this.subShift)
    this.#record(first, count, owner)
    return first
  }

  /** One more user of a taken frame. */
  get(frame: number): void {
    assert(this.usersOf(frame) > 0, `frame ${frame} has users`)
    this.#users.set(frame, this.#users.get(frame) + 1)
    if (this.orderOf(frame) !== 0) this.#hold(frame, 1)
  }

  /** One user fewer of each of `count` frames; those that nobody uses or has pinned are free. */
  put(first: number, count = 1): void {
    let run = first
    for (let frame = first; frame < first + count; frame++) {
      assert(this.usersOf(frame) > 0, `frame ${frame} has users`)
      this.#users.set(frame, this.#users.get(frame) - 1)
      if (this.orderOf(frame) !== 0) {
        this.#release(run, frame)
        run = frame + 1
        this.#hold(frame, -1)
        continue
      }
      if (this.#users.get(frame) === 0 && this.#pins.get(frame) === 0) continue
      this.#release(run, frame)
      run = frame + 1
    }
    this.#release(run, first + count)
  }

  /** One more long-term pin of a taken frame. */
  pin(frame: number): void {
    assert(this.isTaken(frame), `frame ${frame} is taken`)
    this.#pins.set(frame, this.#pins.get(frame) + 1)
    if (this.orderOf(frame) !== 0) this.#hold(frame, 1)
  }

  /** One pin fewer. False, and nothing happens, where there was none: a page count would have underflowed. */
  unpin(frame: number): boolean {
    const pins = this.pinsOf(frame)
    if (pins === 0) return false
    this.#pins.set(frame, pins - 1)
    if (this.orderOf(frame) !== 0) {
      this.#hold(frame, -1)
      return true
    }
    if (pins === 1 && this.#users.get(frame) === 0) this.#release(frame, frame + 1)
    return true
  }

  /** A taken frame belongs to another owner from now on. */
  give(frame: number, owner: number): void {
    assert(this.isTaken(frame), `frame ${frame} is taken`)
    if (this.#owners.get(frame) === owner) return
    this.#owners.set(frame, owner)
    this.#record(frame, 1, owner)
  }

  #ensure(frames: number): void {
    for (const column of [this.#users, this.#pins, this.#owners, this.#generations]) column.ensure(frames)
  }

  /** Frames past the columns were never taken: all of them read 0. */
  #read(column: Cells, frame: number): number {
    return frame < column.length ? column.get(frame) : 0
  }

  /** One user or pin more or fewer of a huge page; with the last one all its frames are free. */
  #hold(frame: number, delta: 1 | -1): void {
    const frames = 2 ** this.#orders.get(frame)
    const first = frame - (frame % frames)
    const left = this.#held.get(first) + delta
    this.#held.set(first, left)
    if (left > 0) return
    this.#orders.fill(0, first, first + frames)
    this.#release(first, first + frames)
  }

  #release(first: number, end: number): void {
    if (first >= end) return
    this.#used.clearRange(first, end)
    this.#owners.fill(0, first, end)
    this.#taken.set(0, this.#taken.get(0) - (end - first))
    this.#lowest = Math.min(this.#lowest, first)
    this.#record(first, end - first, 0)
  }

  /** One record for each stretch of frames of the same generation. */
  #record(first: number, count: number, owner: number): void {
    const { log, cause } = this.#stage
    const name = this.#words.get(owner)?.name ?? 0
    for (let from = first; from < first + count; ) {
      const generation = this.#generations.get(from)
      let end = from + 1
      while (end < first + count && this.#generations.get(end) === generation) end++
      log.append(
        KIND['page.own'],
        cause,
        this.#space,
        this.pageShift,
        from,
        0,
        end - from,
        0,
        name,
        generation,
      )
      from = end
    }
  }
}
