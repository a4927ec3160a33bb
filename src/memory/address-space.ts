import { rulesOf } from '../bits/call.ts'
import { ERRNO_CODES } from '../bits/codes.ts'
import { assert } from '../bits/errors.ts'
import { Cells, keyOf } from '../bits/state.ts'
import { hiOfPage, loOfPage, U64_MAX } from '../bits/u64.ts'
import { KIND } from '../trace/event.ts'
import type { Host } from './host.ts'
import { PAGE_4K_BYTES, PAGE_4K_SHIFT } from './host-memory.ts'
import { LockedVm } from './locked-vm.ts'
import { frameOfPte, PageTable, PTE_READ, PTE_WRITE, pteOf } from './page-table.ts'
import { PROC_MMAP, PROC_MPROTECT, PROC_MUNMAP } from './proc-calls.ts'
import { NO_GAP, NOT_MAPPED, VMA_READ, VMA_WRITE, VmaMap } from './vma-map.ts'

/** User space of powerpc64 and x86-64 unless a process asks for more. */
const TASK_BYTES = 2 ** 47

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
  readonly #holders: Cells
  readonly #owner: number
  readonly #process: number
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
    this.#holders = new Cells(host.journal, keyOf('mm', name), 2)
    this.#owner = host.frames.owner(name)
    this.#process = host.stage.log.names.intern(name)
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
    if (this.holders === 0) this.#freed?.(this)
  }

  /** Whether a range lies in user space, mapped or not (access_ok). */
  reaches(address: bigint, bytes: bigint): boolean {
    return address + bytes <= this.#taskBytes
  }

  mmap(request: MmapRequest): { readonly place: number; readonly address: bigint } {
    const refuse = (place: number) => ({ place, address: 0n })
    const { address, noreplace } = request
    const shift = BigInt(this.host.pageShift)
    if (request.bytes === 0n) return refuse(MMAP.empty)
    const bytes = this.#roundUp(request.bytes)
    if (bytes > U64_MAX) return refuse(MMAP['bytes-wrap'])
    if (this.ranges.isOverLimit) return refuse(MMAP['too-many-maps'])
    if (bytes > this.#taskBytes) return refuse(MMAP['no-room'])
    const count = Number(bytes >> shift)
    let page: number
    if (request.fixed || noreplace) {
      if (address > this.#taskBytes - bytes) return refuse(MMAP['no-room'])
      if (!this.#isAligned(address)) return refuse(MMAP.unaligned)
      page = Number(address >> shift)
    } else {
      page = this.ranges.choose(count, Number(this.#roundUp(address) >> shift))
      if (page === NO_GAP) return refuse(MMAP['no-room'])
    }
    const end = page + count
    if (noreplace && !this.ranges.isEmpty(page, end)) return refuse(MMAP.exists)
    if (this.ranges.splitsPastLimit(page, end)) return refuse(MMAP['split-past-limit'])
    this.#unmap(page, end)
    this.#map(page, end, permOf(request.read, request.write))
    return { place: MMAP.done, address: BigInt(page) << shift }
  }

  munmap(address: bigint, bytes: bigint): number {
    if (!this.#isAligned(address)) return MUNMAP.unaligned
    if (address > this.#taskBytes || bytes > this.#taskBytes - address) return MUNMAP['past-end']
    if (bytes === 0n) return MUNMAP.empty
    const page = Number(address >> BigInt(this.host.pageShift))
    const end = page + Number(this.#roundUp(bytes) >> BigInt(this.host.pageShift))
    if (this.ranges.splitsPastLimit(page, end)) return MUNMAP['split-past-limit']
    this.#unmap(page, end)
    return MUNMAP.done
  }

  mprotect(
    address: bigint,
    bytes: bigint,
    access: { readonly read: boolean; readonly write: boolean },
  ): number {
    if (!this.#isAligned(address)) return MPROTECT.unaligned
    if (bytes === 0n) return MPROTECT.empty
    const rounded = this.#roundUp(bytes)
    if (rounded > U64_MAX || address + rounded > U64_MAX) return MPROTECT['range-wraps']
    let page = Number(address >> BigInt(this.host.pageShift))
    const end = page + Number(rounded >> BigInt(this.host.pageShift))
    if (this.ranges.perm(page) === NOT_MAPPED) return MPROTECT['start-not-mapped']
    const perm = permOf(access.read, access.write)
    for (const range of this.ranges.ranges(page, end)) {
      if (range.start > page) return MPROTECT.hole
      const stop = Math.min(range.end, end)
      if (this.ranges.changesPastLimit(page, stop, perm)) return MPROTECT['split-past-limit']
      this.ranges.set(page, stop, perm)
      this.#restrict(page, stop, perm)
      page = stop
    }
    return page < end ? MPROTECT.hole : MPROTECT.done
  }

  /** Frames that `copyTo` must take at once: those of pinned pages. */
  framesToCopy(): number {
    let count = 0
    for (let page = this.pages.next(0, this.ranges.endPage); page < this.ranges.endPage; ) {
      if (this.host.frames.pinsOf(frameOfPte(this.pages.get(page))) > 0) count++
      page = this.pages.next(page + 1, this.ranges.endPage)
    }
    return count
  }

  /** fork: gives an address space that has nothing yet the same ranges and contents. Frames for `framesToCopy` must be free. */
  copyTo(child: AddressSpace): void {
    const { frames } = this.host
    for (const { start, end, value } of this.ranges.ranges()) child.#map(start, end, value)
    const { endPage } = this.ranges
    for (let page = this.pages.next(0, endPage); page < endPage; page = this.pages.next(page + 1, endPage)) {
      const pte = this.pages.get(page)
      const frame = frameOfPte(pte)
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
    const { log, cause } = this.host.stage
    log.append(KIND['mm.exit'], cause, this.#process)
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
    if (done > 0) this.#recordPin(page, done, 1)
    return done > 0 || count === 0 ? done : code
  }

  /**
   * Takes one pin from each of `count` frames in `frames` from `at` on; `page` is where they were pinned, for
   * the record. Answers how many had a pin to give.
   */
  unpin(page: number, count: number, frames: Int32Array, at = 0): number {
    let done = 0
    if (count > 0) this.#recordPin(page, count, -1)
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

  #map(page: number, end: number, perm: number): void {
    this.ranges.set(page, end, perm)
    this.#recordMap(page, end, 1)
  }

  #unmap(from: number, end: number): void {
    for (const range of this.ranges.ranges(from, end)) {
      const start = Math.max(range.start, from)
      const stop = Math.min(range.end, end)
      this.ranges.erase(start, stop)
      this.#recordMap(start, stop, 0)
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

  #roundUp(bytes: bigint): bigint {
    const mask = BigInt(this.host.pageBytes - 1)
    return (bytes + mask) & ~mask
  }

  #isAligned(address: bigint): boolean {
    return (address & BigInt(this.host.pageBytes - 1)) === 0n
  }

  #recordMap(page: number, end: number, present: number): void {
    const { log, cause } = this.host.stage
    const { pageShift } = this.host
    const [lo, hi] = [loOfPage(page, pageShift), hiOfPage(page, pageShift)]
    const [bytesLo, bytesHi] = [loOfPage(end - page, pageShift), hiOfPage(end - page, pageShift)]
    log.append(KIND['mm.map'], cause, this.#process, lo, hi, bytesLo, bytesHi, present)
  }

  #recordPin(page: number, count: number, delta: number): void {
    const { log, cause } = this.host.stage
    const { pageShift } = this.host
    const [lo, hi] = [loOfPage(page, pageShift), hiOfPage(page, pageShift)]
    log.append(KIND['mm.pin'], cause, this.#process, lo, hi, count, 0, delta)
  }
}
