import { ERRNO_CODES } from '../../bits/codes.ts'
import { assert } from '../../bits/errors.ts'
import { POWERS_OF_TWO, pageOf } from '../../bits/u64.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import type { Host } from '../../memory/host.ts'
import { PAGE_4K_BYTES, PAGE_4K_SHIFT } from '../../memory/host-memory.ts'
import type { Task } from '../../memory/locked-vm.ts'
import type { ProcessWatcher } from '../../memory/process.ts'
import { KIND } from '../../trace/event.ts'
import type { MmIommu, RegionLoan } from '../mm-port.ts'
import { RegionRecords } from './region-records.ts'
import { NO_REGION, RegionTable } from './region-table.ts'

const { OK, EBUSY, EFAULT, EINVAL, ENOENT, ENOMEM, ENXIO } = ERRNO_CODES
const NEW = KIND['region.new']
const GET = KIND['region.get']
const PUT = KIND['region.put']

/** Pages that are pinned in one go: 2^(page shift + 8) / 8 with 64 KiB pages, 2^(page shift + 12) / 8 with 4 KiB. */
const CHUNK_PAGES = 2 ** 21
/** Bytes that the kernel keeps for each page of a region. */
const ENTRY_BYTES = 8
const NO_FRAMES = new Int32Array(0)

/** What the kernel prints, once, where the address space goes before its regions do. */
export const LEFT_OVER_WARNING = 'destroy_context: preregistered memory is left'
/** What the kernel prints, once, where an array of nothing is asked for. */
export const EMPTY_WARNING = 'vmalloc: nothing is asked for'

export interface PreregisteredMemoryOptions {
  readonly host: Host
  /** Whether an erratum is switched on: those of `PREREG_ERRATA`. */
  readonly has?: (erratum: string) => boolean
  /** Asked before each allocation of the kernel's own: false makes that allocation fail. */
  readonly onAllocate?: () => boolean
  /**
   * Asked before a region without mappings gets its first one: false means that another CPU is giving the region
   * back just then. The caller ends that too.
   */
  readonly onFirstMapping?: () => boolean
}

/** log2 of the largest power of two that divides a word; 64 for 0. */
function alignShift(word: bigint): number {
  let shift = 0
  for (let rest = word; shift < 64 && (rest & 1n) === 0n; rest >>= 1n) shift++
  return shift
}

/**
 * Memory of processes that is pinned, charged and registered once, so that mapping it for a device needs no more
 * than a look-up (Linux v6.1 arch/powerpc/mm/book3s64/iommu_api.c).
 *
 * Answers are 0, a region, or a negative errno; a refused call leaves nothing pinned or charged. Calls are whole:
 * the grace period after which the kernel unpins a region that went is over when `put` answers. Huge pages behind
 * a region (see `AddressSpace.mmap`) let it back larger IOMMU pages.
 *
 * Give it to `ProcessTable.watch`: where an address space ends with regions left, the kernel warns, and their
 * pins stay for good.
 *
 * @example
 * const memory = new PreregisteredMemory({ host })
 * const region = memory.create(qemu.mm, qemu, 0x7000_0000_0000n, 1n << 30n)
 * memory.toHpa(region, 0x7000, 0x1_0000, 16) // 0; memory.hpaPage is the 4 KiB page of the host
 */
export class PreregisteredMemory implements MmIommu, ProcessWatcher {
  hpaPage = 0
  answer = 0
  readonly #host: Host
  readonly #table: RegionTable
  readonly #pageShift: number
  /** 4 KiB pages of a system page. */
  readonly #subPages: number
  readonly #pageBytes: number
  readonly #records: RegionRecords
  readonly #carriesShift: boolean
  readonly #answersCount: boolean
  readonly #looksFirst: boolean
  readonly #backsAnyShift: boolean
  readonly #onAllocate: (() => boolean) | undefined
  readonly #onFirstMapping: (() => boolean) | undefined

  constructor(options: PreregisteredMemoryOptions) {
    const { host, has, onAllocate, onFirstMapping } = options
    this.#host = host
    this.#table = new RegionTable(host.journal, host.pageShift)
    this.#records = new RegionRecords(host.stage, this.#table)
    this.#pageShift = host.pageShift
    this.#subPages = 2 ** (host.pageShift - PAGE_4K_SHIFT)
    this.#pageBytes = host.pageBytes
    this.#carriesShift = has?.('X8') ?? false
    this.#answersCount = has?.('partial-pin-count') ?? false
    this.#looksFirst = has?.('overlap-before-charge') ?? false
    this.#backsAnyShift = has?.('page-shift-unchecked') ?? false
    this.#onAllocate = onAllocate
    this.#onFirstMapping = onFirstMapping
  }

  create(mm: AddressSpace, task: Task, ua: bigint, bytes: bigint): number {
    this.#assertAligned(ua | bytes)
    const pages = Number(bytes >> BigInt(this.#pageShift))
    const uaPage = Number(ua >> BigInt(this.#pageShift))
    if (this.#looksFirst && this.#table.overlaps(mm, uaPage, uaPage + pages)) return this.#refuse(EINVAL)
    // Such an array has no room: whether the charge or the array fails, the answer is the same and nothing stays.
    if (pages * ENTRY_BYTES > this.#host.memory.pages * 2 ** PAGE_4K_SHIFT) return this.#refuse(ENOMEM)
    const code = mm.locked.add(pages, task)
    if (code < 0) return this.#refuse(code)
    const region = this.#createCharged(mm, ua, pages)
    if (region < 0) mm.locked.sub(pages)
    return region
  }

  createDevice(mm: AddressSpace, ua: bigint, bytes: bigint, hpa: bigint): number {
    this.#assertAligned(ua | bytes | hpa)
    assert(bytes > 0n, 'device memory is not empty')
    if (!this.#allocates()) return this.#refuse(ENOMEM)
    const pages = Number(bytes >> BigInt(this.#pageShift))
    const uaPage = Number(ua >> BigInt(this.#pageShift))
    if (this.#table.overlaps(mm, uaPage, uaPage + pages)) return this.#refuse(EINVAL)
    const devicePage = Number(hpa >> BigInt(PAGE_4K_SHIFT))
    const pageShift = alignShift(hpa | bytes)
    return this.#add(this.#table.add({ mm, uaPage, pages, pageShift, devicePage, frames: NO_FRAMES }))
  }

  get(mm: AddressSpace, ua: bigint, bytes: bigint): number {
    const region = this.find(mm, ua, bytes)
    if (region === NO_REGION) return NO_REGION
    if (this.#table.isLeft(region)) this.#table.setLeft(region, false)
    else this.#table.setUses(region, this.#table.usesOf(region) + 1)
    this.#records.record(GET, region)
    return region
  }

  find(mm: AddressSpace, ua: bigint, bytes: bigint): number {
    this.#assertAligned(ua | bytes)
    const uaPage = Number(ua >> BigInt(this.#pageShift))
    const region = this.#table.at(mm, uaPage)
    if (region === NO_REGION || this.#table.uaPageOf(region) !== uaPage) return NO_REGION
    return this.#table.pagesOf(region) === Number(bytes >> BigInt(this.#pageShift)) ? region : NO_REGION
  }

  lookup(mm: AddressSpace, uaHi: number, uaLo: number, bytes: number): number {
    const table = this.#table
    const uaPage = pageOf(uaHi, uaLo, this.#pageShift)
    const region = table.at(mm, uaPage)
    if (region === NO_REGION) return NO_REGION
    const offset = uaLo & (this.#pageBytes - 1)
    return offset + bytes <= (table.end - uaPage) * this.#pageBytes ? region : NO_REGION
  }

  put(region: number): number {
    const table = this.#table
    const uses = table.usesOf(region)
    if (uses === 0) return ENOENT
    if (uses > 1) {
      table.setUses(region, uses - 1)
      this.#records.record(PUT, region, OK)
      return OK
    }
    if (table.mappedOf(region) !== 1) {
      this.#records.record(PUT, region, EBUSY)
      return EBUSY
    }
    table.setUses(region, 0)
    table.setMapped(region, 0)
    this.#records.record(PUT, region, OK)
    const mm = table.mmOf(region)
    const uaPage = table.uaPageOf(region)
    const frames = table.remove(region)
    mm.locked.sub(frames.length)
    mm.unpin(uaPage, frames.length, frames)
    return OK
  }

  leave(region: number): void {
    if (this.#table.usesOf(region) === 1 && this.#table.mappedOf(region) > 1)
      this.#table.setLeft(region, true)
    else this.put(region)
  }

  usesOf(region: number): number {
    return this.#table.usesOf(region)
  }

  mappedOf(region: number): number {
    return this.#table.mappedOf(region)
  }

  mappedInc(region: number): number {
    const mapped = this.#table.mappedOf(region)
    if (mapped === 0 || (mapped === 1 && !this.takesFirst())) return ENXIO
    this.#changeMapped(region, mapped + 1, 1)
    return OK
  }

  mappedDec(region: number): void {
    const mapped = this.#table.mappedOf(region)
    if (mapped === 0) return
    // One that was not counted is a record of its own: `mapped` stays.
    if (mapped === 1) this.#records.flush()
    this.#changeMapped(region, Math.max(1, mapped - 1), -1)
    if (mapped === 1) this.#records.flush()
    if (mapped !== 2 || !this.#table.isLeft(region)) return
    this.#records.flush()
    this.put(region)
  }

  takesFirst(): boolean {
    return this.#onFirstMapping?.() !== false
  }

  lend(mm: AddressSpace, uaHi: number, uaLo: number, loan: RegionLoan): boolean {
    loan.region = NO_REGION
    if (this.#host.journal.on) return false
    const region = this.#table.at(mm, pageOf(uaHi, uaLo, this.#pageShift))
    if (region === NO_REGION || !this.#table.lend(region, loan)) return false
    loan.region = region
    return true
  }

  get version(): number {
    return this.#table.version
  }

  beforeMapped(region: number, delta: number): void {
    this.#records.before(region, delta)
  }

  noteMapped(region: number, delta: number): void {
    this.#records.add(region, delta)
  }

  beginRun(): void {
    this.#records.begin()
  }

  endRun(): void {
    this.#records.end()
  }

  toHpa(region: number, uaHi: number, uaLo: number, pageShift: number): number {
    const table = this.#table
    const index = this.#indexOf(region, uaHi, uaLo)
    if (index < 0 || (pageShift > table.pageShift && !this.#backsAnyShift)) return EFAULT
    const sub = (uaLo & (this.#pageBytes - 1)) >>> PAGE_4K_SHIFT
    const { devicePage } = table
    this.hpaPage =
      devicePage === NO_REGION
        ? this.#host.frames.hostPage(table.frameAt(index)) + sub
        : devicePage + index * this.#subPages + sub
    return OK
  }

  markDirty(region: number, uaHi: number, uaLo: number): void {
    const index = this.#indexOf(region, uaHi, uaLo)
    if (index >= 0 && this.#table.devicePage === NO_REGION) this.#table.setDirty(index)
  }

  /** Whether the host page behind a user address was marked since it was registered. */
  isDirty(region: number, uaHi: number, uaLo: number): boolean {
    const index = this.#indexOf(region, uaHi, uaLo)
    return index >= 0 && this.#table.devicePage === NO_REGION && this.#table.isDirty(index)
  }

  deviceBytes(mm: AddressSpace, hpaPage: number, pageShift: number): number {
    const region = this.#table.deviceAt(mm, hpaPage, this.#subPages)
    if (region === NO_REGION) return 0
    const left = this.#table.devicePageOf(region) + this.#table.pagesOf(region) * this.#subPages - hpaPage
    return Math.min(POWERS_OF_TWO[pageShift] as number, left * PAGE_4K_BYTES)
  }

  isUsed(mm: AddressSpace): boolean {
    return this.#table.isUsed(mm)
  }

  /** log2 of the largest IOMMU page that a region backs. */
  pageShiftOf(region: number): number {
    return this.#table.pageShiftOf(region)
  }

  /** The last holder of an address space has let go. */
  freed(mm: AddressSpace): void {
    if (this.isUsed(mm)) this.#host.warnOnce(LEFT_OVER_WARNING)
  }

  /** The rest of `create`, for which pages are charged already: what it pins it gives back itself. */
  #createCharged(mm: AddressSpace, ua: bigint, pages: number): number {
    if (!this.#allocates()) return this.#refuse(ENOMEM)
    if (pages === 0) {
      this.#host.warnOnce(EMPTY_WARNING)
      return this.#refuse(ENOMEM)
    }
    if (!this.#allocates()) return this.#refuse(ENOMEM)
    const uaPage = Number(ua >> BigInt(this.#pageShift))
    const frames = new Int32Array(Math.min(pages, this.#host.frames.frames))
    const pinned = this.#pin(mm, uaPage, pages, frames)
    let code = this.answer
    if (code === OK && this.#table.overlaps(mm, uaPage, uaPage + pages)) code = EINVAL
    if (code === OK) {
      const bound = alignShift(ua | (BigInt(pages) << BigInt(this.#pageShift)))
      const pageShift = this.#largestShift(frames, bound)
      return this.#add(this.#table.add({ mm, uaPage, pages, pageShift, devicePage: NO_REGION, frames }))
    }
    mm.unpin(uaPage, pinned, frames)
    this.#refuse(code)
    return code > 0 ? EFAULT : code
  }

  /** Pins pages in chunks, as far as it goes: how many. `answer` is 0, or what the kernel's function answers. */
  #pin(mm: AddressSpace, uaPage: number, pages: number, frames: Int32Array): number {
    this.answer = OK
    let pinned = 0
    while (pinned < pages) {
      const count = Math.min(pages - pinned, CHUNK_PAGES)
      const got = mm.pin(uaPage + pinned, count, true, frames, pinned)
      if (got > 0) pinned += got
      if (got === count) continue
      this.answer = got > 0 && !this.#answersCount ? EFAULT : got
      break
    }
    return pinned
  }

  /** log2 of the largest IOMMU page that the frames of a region back, `bound` at most. */
  #largestShift(frames: Int32Array, bound: number): number {
    const { frames: host } = this.#host
    let shift = bound
    let backing = this.#pageShift
    for (let i = 0; i < frames.length; i++) {
      const order = shift > this.#pageShift ? host.orderOf(frames[i] as number) : 0
      if (order > 0) backing = this.#pageShift + order
      else if (!this.#carriesShift) backing = this.#pageShift
      shift = Math.min(shift, backing)
    }
    return shift
  }

  #add(region: number): number {
    if (region === NO_REGION) return this.#refuse(ENOMEM)
    this.answer = OK
    this.#records.record(NEW, region, this.#table.pageShiftOf(region), this.#table.isDevice(region) ? 1 : 0)
    return region
  }

  #refuse(code: number): number {
    this.answer = code
    return code
  }

  #allocates(): boolean {
    return this.#onAllocate?.() !== false
  }

  /** Place of a user address in a region, or below 0 outside. */
  #indexOf(region: number, uaHi: number, uaLo: number): number {
    const table = this.#table
    if (!table.focus(region)) return -1
    const uaPage = pageOf(uaHi, uaLo, this.#pageShift)
    return uaPage < table.end ? uaPage - table.start : -1
  }

  #assertAligned(words: bigint): void {
    assert(BigInt.asUintN(this.#pageShift, words) === 0n, 'callers have checked the alignment')
  }

  #changeMapped(region: number, mapped: number, delta: number): void {
    this.#records.before(region, delta)
    this.#table.setMapped(region, mapped)
    this.#records.add(region, delta)
  }
}
