import { rulesOf } from '../bits/call.ts'
import { ERRNO_CODES } from '../bits/codes.ts'
import { assert } from '../bits/errors.ts'
import { Cells, keyOf } from '../bits/state.ts'
import { U64_MAX } from '../bits/u64.ts'
import type { Host } from './host.ts'
import { PAGE_4K_BYTES, PAGE_4K_SHIFT } from './host-memory.ts'
import { HUGE_SHIFTS } from './limits.ts'
import { LockedVm } from './locked-vm.ts'
import { MmRecords } from './mm-records.ts'
import { isAligned, roundUp } from './page-rounding.ts'
import { frameOfPte, PageTable, PTE_READ, PTE_WRITE, pteOf } from './page-table.ts'
import { PROC_MMAP, PROC_MPROTECT, PROC_MUNMAP } from './proc-calls.ts'
import { accessBytes, TASK_BYTES } from './user-space.ts'
import { hugeShiftOfValue, NO_GAP, NOT_MAPPED, rangeValue, VMA_READ, VMA_WRITE, VmaMap } from './vma-map.ts'

const MMAP = rulesOf(PROC_MMAP)
const MUNMAP = rulesOf(PROC_MUNMAP)
const MPROTECT = rulesOf(PROC_MPROTECT)
const { EFAULT, ENOMEM } = ERRNO_CODES

export interface MmapRequest {
  readonly address: bigint
  readonly bytes: bigint
  readonly read: boolean
  readonly write: boolean
  readonly fixed: boolean
  readonly noreplace: boolean
  /** log2 of the bytes of a huge page; ordinary pages where it is left out. */
  readonly hugeShift?: number
}

/** How far an access by software came: bytes moved, and 0 or the negative errno that stopped it. */
export interface Access {
  readonly moved: number
  readonly code: number
}

export interface AddressSpaceOptions {
  readonly host: Host
  /** The process; stands for the address space in records and in the hash. */
  readonly name: string
  readonly taskBytes?: number
  readonly mapCountMax?: number
  /** Called when the last holder of the structure lets go. */
  readonly freed?: (mm: AddressSpace) => void
}

const permOf = (read: boolean, write: boolean): number => (read ? VMA_READ : 0) | (write ? VMA_WRITE : 0)

/**
 * The address space (mm) of a process: private anonymous ranges, and the page frames that back what was used
 * of them.
 *
 * Pages get a frame with their first write or pin. After `copyTo` (fork) the frames are shared, and the first
 * of the two that writes gets a copy; a frame with long-term pins is never shared, so that a device and its
 * process keep seeing the same memory. `pin` keeps frames beyond `munmap` and the end of the process.
 *
 * Huge pages (`hugeShift`) get their frames with `mmap`, are unmapped whole, and are not there in a child.
 *
 * Calls of the process answer with the place of a rule in their declaration (`PROC_MMAP.answers[place]`);
 * what the kernel does inside answers with 0, a count, or a negative errno.
 */
export class AddressSpace {
  readonly name: string
  readonly host: Host
  readonly ranges: VmaMap
  readonly pages: PageTable
  readonly locked: LockedVm
  readonly #taskBytes: bigint
  readonly #accessBytes: bigint
  readonly #holders: Cells
  readonly #owner: number
  readonly #records: MmRecords
  readonly #freed: ((mm: AddressSpace) => void) | undefined

  constructor(options: AddressSpaceOptions) {
    const { host, name } = options
    const taskBytes = options.taskBytes ?? TASK_BYTES
    this.name = name
    this.host = host
    this.ranges = new VmaMap({
      journal: host.journal,
      name,
      pageShift: host.pageShift,
      taskBytes,
      ...(options.mapCountMax === undefined ? {} : { countMax: options.mapCountMax }),
    })
    this.pages = new PageTable(host.journal, name)
    this.locked = new LockedVm(host, name)
    this.#taskBytes = BigInt(taskBytes)
    this.#accessBytes = options.taskBytes === undefined ? accessBytes(host.pageShift) : this.#taskBytes
    this.#holders = new Cells(host.journal, keyOf('mm', name), 2)
    this.#owner = host.frames.owner(name)
    this.#records = new MmRecords(host, name)
    this.#freed = options.freed
  }

  /** The process begins to use it: one user, and one holder for all users together. */
  begin(): void {
    this.#holders.set(0, 1)
    this.#holders.set(1, 1)
  }

  /** Whether the process has ended (mm_users is 0). What is left serves holders of the structure only. */
  get isDead(): boolean {
    return this.#holders.get(0) === 0
  }

  /** Holders of the structure (mm_count): its process, containers, virtual machines. */
  get holders(): number {
    return this.#holders.get(1)
  }

  /** Keeps the structure, not the memory (mmgrab). */
  grab(): void {
    assert(this.holders > 0, `the mm of ${this.name} is held`)
    this.#holders.set(1, this.holders + 1)
  }

  /** Lets go of the structure (mmdrop). */
  drop(): void {
    assert(this.holders > 0, `the mm of ${this.name} is held`)
    this.#holders.set(1, this.holders - 1)
    if (this.holders > 0) return
    this.#records.free()
    this.#freed?.(this)
  }

  /** Whether a range lies in user space, mapped or not (access_ok): with pages of 64 KiB that is more than mmap hands out. */
  reaches(address: bigint, bytes: bigint): boolean {
    return address + bytes <= this.#accessBytes
  }

  mmap(request: MmapRequest): { readonly place: number; readonly address: bigint } {
    const refuse = (place: number) => ({ place, address: 0n })
    const { address, noreplace, hugeShift = 0 } = request
    const { pageShift } = this.host
    if (hugeShift !== 0 && !HUGE_SHIFTS.includes(hugeShift)) return refuse(MMAP['huge-shift'])
    const unitShift = hugeShift === 0 ? pageShift : hugeShift
    const isFixed = request.fixed || noreplace
    if (request.bytes === 0n) return refuse(MMAP.empty)
    const bytes = roundUp(request.bytes, unitShift)
    if (bytes > U64_MAX) return refuse(MMAP['bytes-wrap'])
    if (this.ranges.isOverLimit) return refuse(MMAP['too-many-maps'])
    if (bytes > this.#taskBytes || (isFixed && address > this.#taskBytes - bytes))
      return refuse(MMAP['no-room'])
    if (isFixed && !isAligned(address, unitShift)) return refuse(MMAP.unaligned)
    const count = Number(bytes >> BigInt(pageShift))
    const hint = Number(roundUp(address, pageShift) >> BigInt(pageShift))
    const page = isFixed ? hint : this.ranges.choose(count, hint, 2 ** (unitShift - pageShift))
    if (page === NO_GAP) return refuse(MMAP['no-room'])
    const end = page + count
    if (noreplace && !this.ranges.isEmpty(page, end)) return refuse(MMAP.exists)
    if (this.ranges.splitsPastLimit(page, end)) return refuse(MMAP['split-past-limit'])
    if (this.ranges.cutsHugePage(page, end)) return refuse(MMAP['huge-page-cut'])
    this.#unmap(page, end)
    if (hugeShift !== 0 && !this.#takeHuge(page, end, request)) return refuse(MMAP['no-huge-pages'])
    this.#map(page, end, rangeValue(permOf(request.read, request.write), hugeShift))
    return { place: MMAP.done, address: BigInt(page) << BigInt(pageShift) }
  }

  munmap(address: bigint, bytes: bigint): number {
    const { pageShift } = this.host
    if (!isAligned(address, pageShift)) return MUNMAP.unaligned
    if (address > this.#taskBytes || bytes > this.#taskBytes - address) return MUNMAP['past-end']
    if (bytes === 0n) return MUNMAP.empty
    const page = Number(address >> BigInt(pageShift))
    const end = page + Number(roundUp(bytes, pageShift) >> BigInt(pageShift))
    if (this.ranges.splitsPastLimit(page, end)) return MUNMAP['split-past-limit']
    if (this.ranges.cutsHugePage(page, end)) return MUNMAP['huge-page-cut']
    this.#unmap(page, end)
    return MUNMAP.done
  }

  mprotect(
    address: bigint,
    bytes: bigint,
    access: { readonly read: boolean; readonly write: boolean },
  ): number {
    const { pageShift } = this.host
    if (!isAligned(address, pageShift)) return MPROTECT.unaligned
    if (bytes === 0n) return MPROTECT.empty
    const rounded = roundUp(bytes, pageShift)
    if (rounded > U64_MAX || address + rounded > U64_MAX) return MPROTECT['range-wraps']
    let page = Number(address >> BigInt(pageShift))
    const end = page + Number(rounded >> BigInt(pageShift))
    if (this.ranges.perm(page) === NOT_MAPPED) return MPROTECT['start-not-mapped']
    const perm = permOf(access.read, access.write)
    for (const range of this.ranges.ranges(page, end)) {
      if (range.start > page) return MPROTECT.hole
      const stop = Math.min(range.end, end)
      const value = rangeValue(perm, hugeShiftOfValue(range.value))
      if (this.ranges.changesPastLimit(page, stop, value)) return MPROTECT['split-past-limit']
      if (this.ranges.cutsHugePage(page, stop)) return MPROTECT['huge-page-cut']
      this.ranges.set(page, stop, value)
      this.#restrict(page, stop, perm)
      page = stop
    }
    return page < end ? MPROTECT.hole : MPROTECT.done
  }

  /** Frames that `copyTo` must take at once: those of pinned pages. */
  framesToCopy(): number {
    const { frames } = this.host
    let count = 0
    for (let page = this.pages.next(0, this.ranges.endPage); page < this.ranges.endPage; ) {
      const frame = frameOfPte(this.pages.get(page))
      if (frames.pinsOf(frame) > 0 && frames.orderOf(frame) === 0) count++
      page = this.pages.next(page + 1, this.ranges.endPage)
    }
    return count
  }

  /** fork: gives an address space that has nothing yet the same ranges and contents. Frames for `framesToCopy` must be free. */
  copyTo(child: AddressSpace): void {
    const { frames } = this.host
    for (const { start, end, value } of this.ranges.ranges()) {
      if (hugeShiftOfValue(value) === 0) child.#map(start, end, value)
    }
    const { endPage } = this.ranges
    for (let page = this.pages.next(0, endPage); page < endPage; page = this.pages.next(page + 1, endPage)) {
      const pte = this.pages.get(page)
      const frame = frameOfPte(pte)
      if (frames.orderOf(frame) > 0) continue
      if (frames.pinsOf(frame) > 0) {
        const own = child.#copyOf(frame)
        assert(own >= 0, 'frames for pinned pages are free')
        child.pages.set(page, pteOf(own, pte & (PTE_READ | PTE_WRITE)))
      } else {
        frames.get(frame)
        this.pages.set(page, pteOf(frame, pte & PTE_READ))
        child.pages.set(page, pteOf(frame, pte & PTE_READ))
      }
    }
  }

  /** The process ends: its memory goes, what is pinned stays. The structure stays until it is dropped. */
  exit(): void {
    assert(!this.isDead, `${this.name} lives`)
    this.#holders.set(0, 0)
    this.#unmap(0, this.ranges.endPage)
    this.#records.exit()
  }

  /**
   * Makes a page usable as a first access by software would: -EFAULT where nothing is mapped or permitted,
   * -ENOMEM where the host has no frame, else its frame. With `alone` the frame is nobody else's afterwards.
   */
  fault(page: number, write: boolean, alone = write): number {
    if (!this.ranges.permits(page, write)) return EFAULT
    const { frames } = this.host
    const pte = this.pages.get(page)
    const perm = PTE_READ | ((this.ranges.perm(page) & VMA_WRITE) === 0 ? 0 : PTE_WRITE)
    if (pte === 0) {
      const frame = frames.allocate(this.#owner)
      if (frame < 0) return ENOMEM
      this.pages.set(page, pteOf(frame, perm))
      return frame
    }
    const frame = frameOfPte(pte)
    if (!alone || (pte & PTE_WRITE) !== 0) return frame
    if (frames.usersOf(frame) === 1) {
      frames.give(frame, this.#owner)
      this.pages.set(page, pteOf(frame, perm))
      return frame
    }
    const own = this.#copyOf(frame)
    if (own < 0) return ENOMEM
    frames.put(frame)
    this.pages.set(page, pteOf(own, perm))
    return own
  }

  /** Software of the process reads. What was never written reads as 0 and takes no frame. */
  read(address: bigint, into: Uint8Array): Access {
    return this.#access(address, into, false)
  }

  /** Software of the process writes. */
  write(address: bigint, from: Uint8Array): Access {
    return this.#access(address, from, true)
  }

  /**
   * Pins pages for long, as pin_user_pages with FOLL_LONGTERM (and FOLL_WRITE where `write` is set): their
   * frames go into `into` from `at` on.
   *
   * Answers how many pages were pinned, which may be fewer than asked; where it is not even the first, -EFAULT
   * (nothing mapped, or not as asked) or -ENOMEM. The caller unpins what it does not keep.
   */
  pin(page: number, count: number, write: boolean, into: Int32Array, at = 0): number {
    let done = 0
    let code = 0
    for (; done < count; done++) {
      code = this.fault(page + done, write, true)
      if (code < 0) break
      this.host.frames.pin(code)
      into[at + done] = code
    }
    if (done > 0) this.#records.pin(page, done, 1)
    return done > 0 || count === 0 ? done : code
  }

  /**
   * Takes one pin from each of `count` frames in `frames` from `at` on; `page` is where they were pinned, for
   * the record. Answers how many had a pin to give.
   */
  unpin(page: number, count: number, frames: Int32Array, at = 0): number {
    let done = 0
    if (count > 0) this.#records.pin(page, count, -1)
    for (let i = 0; i < count; i++) if (this.host.frames.unpin(frames[at + i] as number)) done++
    return done
  }

  #access(address: bigint, data: Uint8Array, write: boolean): Access {
    const { memory, frames, pageShift } = this.host
    for (let moved = 0; moved < data.length; ) {
      const at = address + BigInt(moved)
      const page = Number(at >> BigInt(pageShift))
      const offset = Number(at & BigInt(this.host.pageBytes - 1))
      const bytes = Math.min(data.length - moved, PAGE_4K_BYTES - (offset & (PAGE_4K_BYTES - 1)))
      const isUntouched = !write && this.pages.get(page) === 0 && this.ranges.permits(page, false)
      const frame = isUntouched ? 0 : this.fault(page, write)
      if (frame < 0) return { moved, code: frame }
      const hostPage = frames.hostPage(frame) + (offset >>> PAGE_4K_SHIFT)
      if (isUntouched) data.fill(0, moved, moved + bytes)
      else if (write) memory.writePage(hostPage, offset & (PAGE_4K_BYTES - 1), data, moved, bytes)
      else memory.readPage(hostPage, offset & (PAGE_4K_BYTES - 1), data, moved, bytes)
      moved += bytes
    }
    return { moved: data.length, code: 0 }
  }

  /** A new frame of this process with the contents of another, or negative. */
  #copyOf(frame: number): number {
    const { frames, memory } = this.host
    const own = frames.allocate(this.#owner)
    if (own >= 0) memory.copyPages(frames.hostPage(frame), frames.hostPage(own), 1 << frames.subShift)
    return own
  }

  #map(page: number, end: number, value: number): void {
    this.ranges.set(page, end, value)
    this.#records.map(page, end, 1)
  }

  /** Huge pages for pages [from, end), or none of them. */
  #takeHuge(from: number, end: number, request: MmapRequest): boolean {
    const { frames, pageShift } = this.host
    const order = (request.hugeShift ?? pageShift) - pageShift
    if (!frames.hasHuge(order, (end - from) / 2 ** order)) return false
    const perm = permOf(request.read, request.write)
    const access = perm === 0 ? 0 : perm | PTE_READ
    for (let page = from; page < end; page += 2 ** order) {
      const first = frames.allocateHuge(this.#owner, order)
      for (let i = 0; i < 2 ** order; i++) this.pages.set(page + i, pteOf(first + i, access))
    }
    return true
  }

  #unmap(from: number, end: number): void {
    for (const range of this.ranges.ranges(from, end)) {
      const start = Math.max(range.start, from)
      const stop = Math.min(range.end, end)
      this.ranges.erase(start, stop)
      this.#records.map(start, stop, 0)
      this.#zap(start, stop)
    }
  }

  /** Pages lose their frames; those in a row go back together. */
  #zap(from: number, end: number): void {
    const { frames } = this.host
    let first = 0
    let count = 0
    for (let page = this.pages.next(from, end); page < end; page = this.pages.next(page + 1, end)) {
      const frame = frameOfPte(this.pages.get(page))
      this.pages.set(page, 0)
      if (frame === first + count) count++
      else {
        frames.put(first, count)
        first = frame
        count = 1
      }
    }
    frames.put(first, count)
  }

  /** Entries keep no permission that the range does not give. New ones come with the next access. */
  #restrict(from: number, end: number, perm: number): void {
    const keep = perm === 0 ? 0 : PTE_READ | ((perm & VMA_WRITE) === 0 ? 0 : PTE_WRITE)
    for (let page = this.pages.next(from, end); page < end; page = this.pages.next(page + 1, end)) {
      const pte = this.pages.get(page)
      this.pages.set(page, pteOf(frameOfPte(pte), (pte | PTE_READ) & keep))
    }
  }
}
