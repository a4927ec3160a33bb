import { Bitmap } from '../bits/bitmap.ts'
import { type Gpa, gpa as gpaFrom, type Ua, ua as uaFrom } from '../bits/brand.ts'
import { ERRNO_CODES } from '../bits/codes.ts'
import { IommulatorError } from '../bits/errors.ts'
import { NO_VALUE, RangeMap } from '../bits/range-map.ts'
import { Cells, keyOf } from '../bits/state.ts'
import { hiOf, loOf } from '../bits/u64.ts'
import type { AddressSpace } from './address-space.ts'
import type { Host } from './host.ts'
import { type HostMemory, PAGE_4K_SHIFT } from './host-memory.ts'
import { SLOT_PAGES_MAX, SLOTS_MAX } from './limits.ts'
import { frameOfPte, LEAF_PTES, LEAF_SHIFT, PTE_READ, PTE_WRITE } from './page-table.ts'
import type { BusMemory, WriteWatcher } from './ports.ts'

const { OK, EINVAL, EEXIST, ENOENT, ENOSPC, ENOMEM, ESRCH } = ERRNO_CODES

/** First address that no bus has. */
const BUS_END = 1n << 52n

/** What `#hostPage` answers where there is no memory, and where there is memory that was never written. */
const NOWHERE = -1
const UNTOUCHED = -2

const WORD_BYTES = 8

/** What `uaPageOf` answers outside the slots. */
export const NO_UA = -1

export interface SlotRequest {
  /** Number of the slot; the lowest free one where it is left out. */
  readonly slot?: number
  readonly gpa: Gpa
  readonly bytes: bigint
  readonly mm: AddressSpace
  readonly ua: Ua
}

interface Slot {
  readonly mm: AddressSpace
  /** First 4 KiB page, in the guest, and how many. Pages are 0 for a slot that is gone. */
  first: number
  pages: number
  /** System page of the process behind the first page. */
  readonly uaPage: number
  /** Entry of the first page in the first leaf. */
  readonly head: number
  readonly firstLeaf: number
  /** Leaves of the process's page table, as far as they were needed. */
  readonly leaves: (Cells | undefined)[]
}

const nothing = { first: 0, pages: 0 } as const

/**
 * The physical memory of a guest: slots, each a range of guest physical addresses backed by as many user
 * addresses of a process (Linux v6.1 virt/kvm/kvm_main.c, __kvm_set_memory_region).
 *
 * Slots keep references to the leaves of the process's page table and read the frame of a page there at every
 * access. So nothing is cached that munmap, mprotect, copy-on-write or a machine that goes back would have to
 * drop. A page gets its frame with its first write; what was never written reads as 0.
 *
 * Changes of slots answer with a slot number or a negative errno. A write that finds no frame left in the host
 * meets a bound of the model, so it throws.
 *
 * @throws IommulatorError ERR_MEMORY_LIMIT
 * @example
 * const ram = new GuestMemory(host)
 * ram.addSlot({ gpa: gpa(0n), bytes: 1n << 30n, mm: qemu.mm, ua: ua(0x7f00_0000_0000n) })
 * ram.storeU64be(5, 0, 0, 0x1003)
 */
export class GuestMemory implements BusMemory {
  wordHi = 0
  wordLo = 0
  /** Told of writes to pages that it watches. What a machine that goes back takes back is not told. */
  watcher: WriteWatcher | undefined
  // Results of `focus`.
  slotFirst = 0
  slotPages = 0
  slotUaPage = 0
  readonly #host: Host
  // Of the host, one step nearer for the hot path.
  readonly #memory: HostMemory
  readonly #subShift: number
  readonly #key: number
  readonly #slots = new Map<number, Slot>()
  /** Slot numbers in use. */
  readonly #numbers: Bitmap
  /** 4 KiB pages of the guest to slot numbers. */
  readonly #map: RangeMap
  #last: Slot | typeof nothing = nothing

  /** @param name stands for the guest in the hash */
  constructor(host: Host, name = 'guest') {
    this.#host = host
    this.#memory = host.memory
    this.#subShift = host.frames.subShift
    this.#key = keyOf('slot', name)
    this.#numbers = new Bitmap(new Cells(host.journal, keyOf('slot numbers', name)), SLOTS_MAX)
    this.#map = new RangeMap({ journal: host.journal, key: this.#key, merge: false })
  }

  /** Bytes in all slots. */
  get bytes(): number {
    return this.#map.pages * 2 ** PAGE_4K_SHIFT
  }

  /**
   * -EINVAL: something is not a multiple of the system page, empty, too large, past 2^52, or the number is out
   * of range; -ESRCH: the process has ended; -EEXIST: it overlaps another slot, or the number is taken;
   * -ENOSPC: no number is free.
   */
  addSlot(request: SlotRequest): number {
    const { gpa, bytes, ua, mm } = request
    const { pageShift } = this.#host
    const mask = BigInt(this.#host.pageBytes - 1)
    const pages = Number(bytes >> BigInt(PAGE_4K_SHIFT))
    if (((gpa | bytes | ua) & mask) !== 0n || bytes === 0n || pages > SLOT_PAGES_MAX) return EINVAL
    if (gpa + bytes > BUS_END || !mm.reaches(ua, bytes)) return EINVAL
    if (mm.isDead) return ESRCH
    const slot = request.slot ?? this.#numbers.nextZero(0, SLOTS_MAX)
    if (slot >= SLOTS_MAX) return request.slot === undefined ? ENOSPC : EINVAL
    const first = Number(gpa >> BigInt(PAGE_4K_SHIFT))
    if (this.#slots.has(slot) || this.#overlaps(first, pages)) return EEXIST
    const uaPage = Number(ua >> BigInt(pageShift))
    const head = uaPage % LEAF_PTES
    const firstLeaf = (uaPage - head) / LEAF_PTES
    const leafCount = ((head + pages / 2 ** (pageShift - PAGE_4K_SHIFT) - 1) >>> LEAF_SHIFT) + 1
    const leaves = new Array<Cells | undefined>(leafCount).fill(undefined)
    const made: Slot = { mm, first, pages, uaPage, head, firstLeaf, leaves }
    this.#slots.set(slot, made)
    this.#numbers.setRange(slot, slot + 1)
    this.#note(slot, made, 1, () => this.#slots.delete(slot))
    this.#show(slot, made, true)
    return slot
  }

  /** -ENOENT where there is no such slot. */
  removeSlot(slot: number): number {
    const found = this.#slots.get(slot)
    if (found === undefined) return ENOENT
    this.#show(slot, found, false)
    this.#slots.delete(slot)
    this.#numbers.clearRange(slot, slot + 1)
    this.#note(slot, found, 0, () => this.#slots.set(slot, found))
    return OK
  }

  /** The same memory at another place: -ENOENT, -EINVAL, -EEXIST as above, and nothing happens then. */
  moveSlot(slot: number, gpa: Gpa): number {
    const found = this.#slots.get(slot)
    if (found === undefined) return ENOENT
    const first = Number(gpa >> BigInt(PAGE_4K_SHIFT))
    if ((gpa & BigInt(this.#host.pageBytes - 1)) !== 0n || first + found.pages > 2 ** 40) return EINVAL
    if (this.#overlaps(first, found.pages, slot)) return EEXIST
    const before = found.first
    this.#show(slot, found, false)
    found.first = first
    this.#host.journal.change(this.#key, 0, 0, () => {
      found.first = before
    })
    this.#show(slot, found, true)
    return OK
  }

  /** Slots by their place in the guest. */
  *slots(): Generator<SlotRequest & { readonly slot: number }> {
    for (const { start, value } of this.#map.ranges()) {
      const { mm, pages, uaPage } = this.#slots.get(value) as Slot
      const at = (page: number, shift: number) => BigInt(page) << BigInt(shift)
      const ua = uaFrom(at(uaPage, this.#host.pageShift))
      const gpa = gpaFrom(at(start, PAGE_4K_SHIFT))
      yield { slot: value, gpa, bytes: at(pages, PAGE_4K_SHIFT), mm, ua }
    }
  }

  /** The user address, in 4 KiB pages, behind a 4 KiB page of the guest, or NO_UA. */
  uaPageOf(page: number): number {
    const slot = this.#slotOf(page)
    if (slot === undefined) return NO_UA
    return slot.uaPage * (1 << this.#subShift) + (page - slot.first)
  }

  /**
   * Looks up the slot of a 4 KiB page of the guest, for who translates many: `slotFirst` is its first page, `slotPages`
   * how many, `slotUaPage` the user address behind the first, in 4 KiB pages. False outside the slots.
   */
  focus(page: number): boolean {
    const slot = this.#slotOf(page)
    if (slot === undefined) return false
    this.slotFirst = slot.first
    this.slotPages = slot.pages
    this.slotUaPage = slot.uaPage * (1 << this.#subShift)
    return true
  }

  /** The user address behind a guest physical address. */
  uaOf(gpa: Gpa): Ua | undefined {
    const page = this.uaPageOf(Number(gpa >> BigInt(PAGE_4K_SHIFT)))
    return page === NO_UA ? undefined : uaFrom((BigInt(page) << BigInt(PAGE_4K_SHIFT)) | (gpa & 0xfffn))
  }

  /** The address space behind a 4 KiB page of the guest. */
  mmOf(page: number): AddressSpace | undefined {
    return this.#slotOf(page)?.mm
  }

  isRam(page: number): boolean {
    return this.#slotOf(page) !== undefined
  }

  loadU64be(page: number, offset: number): boolean {
    const at = this.#hostPage(page, PTE_READ)
    if (at < 0) {
      this.wordHi = 0
      this.wordLo = 0
      return at === UNTOUCHED
    }
    const memory = this.#memory
    memory.loadU64be(at, offset)
    this.wordHi = memory.wordHi
    this.wordLo = memory.wordLo
    return true
  }

  loadU64le(page: number, offset: number): boolean {
    const at = this.#hostPage(page, PTE_READ)
    if (at < 0) {
      this.wordHi = 0
      this.wordLo = 0
      return at === UNTOUCHED
    }
    const memory = this.#memory
    memory.loadU64le(at, offset)
    this.wordHi = memory.wordHi
    this.wordLo = memory.wordLo
    return true
  }

  loadWords(page: number, count: number, into: Int32Array): boolean {
    const from = this.#hostPage(page, PTE_READ)
    if (from >= 0) return this.#memory.loadWords(from, count, into)
    into.fill(0, 0, count * 2)
    return from === UNTOUCHED
  }

  storeU64be(page: number, offset: number, hi: number, lo: number): boolean {
    const { watcher } = this
    const isWatched = watcher?.watches(page) === true
    if (isWatched) watcher.willWrite(page, offset, WORD_BYTES)
    const at = this.#hostPage(page, PTE_WRITE)
    const isDone = at >= 0 && this.#memory.storeU64be(at, offset, hi, lo)
    if (isWatched && isDone) watcher.wrote(page, offset, WORD_BYTES)
    return isDone
  }

  readPage(page: number, offset: number, into: Uint8Array, at: number, bytes: number): boolean {
    const from = this.#hostPage(page, PTE_READ)
    if (from >= 0) return this.#memory.readPage(from, offset, into, at, bytes)
    into.fill(0, at, at + bytes)
    return from === UNTOUCHED
  }

  writePage(page: number, offset: number, from: Uint8Array, at: number, bytes: number): boolean {
    const { watcher } = this
    const isWatched = watcher?.watches(page) === true
    if (isWatched) watcher.willWrite(page, offset, bytes)
    const to = this.#hostPage(page, PTE_WRITE)
    const isDone = to >= 0 && this.#memory.writePage(to, offset, from, at, bytes)
    if (isWatched && isDone) watcher.wrote(page, offset, bytes)
    return isDone
  }

  /** The 4 KiB page of host memory behind one of the guest, made ready for the access; or NOWHERE, UNTOUCHED. */
  #hostPage(page: number, need: number): number {
    let slot = this.#last as Slot
    let at = page - slot.first
    if (at < 0 || at >= slot.pages) {
      const found = this.#slotOf(page)
      if (found === undefined) return NOWHERE
      slot = found
      at = page - slot.first
    }
    const subShift = this.#subShift
    const entry = (at >>> subShift) + slot.head
    const leaf = slot.leaves[entry >>> LEAF_SHIFT]
    const pte = leaf === undefined ? 0 : (leaf.data[entry & (LEAF_PTES - 1)] as number)
    const sub = at & ((1 << subShift) - 1)
    if ((pte & need) !== 0) return (frameOfPte(pte) << subShift) | sub
    return this.#fault(slot, entry, need, sub)
  }

  #fault(slot: Slot, entry: number, need: number, sub: number): number {
    const { mm } = slot
    const number = slot.firstLeaf + (entry >>> LEAF_SHIFT)
    const page = number * LEAF_PTES + (entry & (LEAF_PTES - 1))
    slot.leaves[entry >>> LEAF_SHIFT] ??= mm.pages.leaf(number)
    if (need === PTE_READ && mm.pages.get(page) === 0)
      return mm.ranges.permits(page, false) ? UNTOUCHED : NOWHERE
    const frame = mm.fault(page, need === PTE_WRITE)
    if (frame === ENOMEM) {
      throw new IommulatorError('ERR_MEMORY_LIMIT', `the host has no frame left for ${mm.name}`)
    }
    slot.leaves[entry >>> LEAF_SHIFT] ??= mm.pages.leaf(number)
    return frame < 0 ? NOWHERE : (frame << this.#subShift) | sub
  }

  #slotOf(page: number): Slot | undefined {
    const last = this.#last
    if (page >= last.first && page < last.first + last.pages) return last as Slot
    const number = this.#map.get(page)
    if (number === NO_VALUE) return undefined
    const slot = this.#slots.get(number) as Slot
    this.#last = slot
    return slot
  }

  #overlaps(first: number, pages: number, except = -1): boolean {
    for (const { value } of this.#map.ranges(first, first + pages)) if (value !== except) return true
    return false
  }

  /** Puts a slot into the guest, or takes it out. */
  #show(slot: number, { mm, first, pages, uaPage }: Slot, present: boolean): void {
    if (present) this.#map.set(first, first + pages, slot)
    else this.#map.erase(first, first + pages)
    this.#last = nothing
    const { log, cause } = this.#host.stage
    const { pageShift } = this.#host
    const at = (page: number, shift: number) => BigInt(page) << BigInt(shift)
    log.emit('memory.slot', cause, {
      gpa: at(first, PAGE_4K_SHIFT),
      bytes: at(pages, PAGE_4K_SHIFT),
      ua: at(uaPage, pageShift),
      owner: mm.name,
      present: present ? 1 : 0,
    })
  }

  /** Tells the journal that a slot came or went: what backs it is not in the range map. */
  #note(slot: number, { mm, uaPage }: Slot, present: 0 | 1, undo: () => void): void {
    const backing = keyOf(mm.name, hiOf(BigInt(uaPage)), loOf(BigInt(uaPage))) | 1
    this.#host.journal.change(
      keyOf('backing', this.#key, slot),
      present === 1 ? 0 : backing,
      present * backing,
      () => {
        this.#last = nothing
        undo()
      },
    )
  }
}
