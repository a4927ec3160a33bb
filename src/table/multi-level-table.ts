import { ERRNO_CODES } from '../bits/codes.ts'
import { assert } from '../bits/errors.ts'
import { Cells, keyOf } from '../bits/state.ts'
import { hiOfNumber, loOfNumber, POWERS_OF_TWO } from '../bits/u64.ts'
import { NO_FRAME } from '../memory/frame-table.ts'
import type { Host } from '../memory/host.ts'
import type { HostMemory } from '../memory/host-memory.ts'
import { KIND } from '../trace/event.ts'
import type { Stage } from '../trace/stage.ts'
import type { DmaDir, HwTable } from './hw-table.ts'
import type { TableGeometry } from './ioda-geometry.ts'
import { TCE_BYTES, TCE_PERM, TCE_READ, TCE_WRITE } from './tce-entry.ts'

const SET = KIND['hw.set']
/** A level in pages of 4 KiB: entries in each, and the shift and mask that find one. */
const PAGE_ENTRIES_SHIFT = 9
const PAGE_ENTRIES_MASK = (1 << PAGE_ENTRIES_SHIFT) - 1
const TCE_BYTES_SHIFT = 3
/** log2 of the most bytes that the host hands out in one piece, for host pages of 4 KiB and of 64 KiB. */
export const BLOCK_BYTES_SHIFT_MAX = 24
const NO_PAGE = -1

/** Whoever caches entries of a table: the PEs that it is programmed into. */
export interface TableUser {
  /** Forgets absolute entries [entry, entry + count). */
  forget(table: MultiLevelTable, entry: number, count: number): void
}

/** What the hardware tables of a host share. */
export interface HwTableParts {
  readonly host: Host
  /** The number of the next table: one counter for the machine. */
  readonly nextTable: () => number
  /** Asked before each level is allocated: false makes that allocation fail. */
  readonly onAllocate?: () => boolean
  /** The kernel stops at an assertion of its own; nothing is done then. */
  readonly onBug?: (why: string) => void
}

export interface HwTableShape {
  readonly geometry: TableGeometry
  readonly pageShift: number
  /** Bus address of the first entry. */
  readonly busOffset: bigint
  /** What its owner was charged; 0 for a table of the kernel's own. */
  readonly allocatedBytes: number
  readonly hasUserView: boolean
  /** Only the user that was linked last hears of `kill` (P7IOC). */
  readonly tellsFirstOnly?: boolean
}

/**
 * A TCE table of one to five levels in the memory of the host, and its mirror with user addresses.
 *
 * Levels are contiguous frames that the kernel owns; only the first is there from the start. An upper entry is
 * the address of the next level with both permission bits, a leaf entry a TCE; all are big-endian. Nothing checks
 * an entry against the table: what lies outside is walked as the kernel walks it, and where a leaf is reached
 * a write there becomes a `memory.corrupt` record at the computed address and is not done.
 * (Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda-tce.c)
 *
 * @example
 * const table = MultiLevelTable.create(parts, { geometry, pageShift: 16, busOffset: 0n, ... })
 * table.xchg(5, 0x100000, 3) // 0
 * table.kill(5, 1)
 */
export class MultiLevelTable implements HwTable {
  readonly number: number
  readonly pageShift: number
  readonly offset: number
  readonly entries: number
  readonly levels: number
  readonly allocatedBytes: number
  readonly hasUserView: boolean
  /** log2 of the entries in one level. */
  readonly levelShift: number
  /** 4 KiB host page of the first level. */
  readonly rootPage: number
  oldHpaPage = 0
  oldDir: DmaDir = 0
  userHi = 0
  userLo = 0
  /** The entry that `load` found. */
  tceHi = 0
  tceLo = 0
  readonly #parts: HwTableParts
  readonly #memory: HostMemory
  readonly #stage: Stage
  readonly #userRoot: number
  readonly #tellsFirstOnly: boolean
  /** Slots that the levels can tell apart. */
  readonly #capacity: number
  readonly #alignMask: number
  readonly #references: Cells
  /** The one linked last comes first. */
  #users: readonly TableUser[] = []
  // Where `#find` ended: a slot in a level, or an address outside the table.
  #slotPage = NO_PAGE
  #slotOffset = 0
  #strayAddress = 0n
  // Where `userSlot` ended.
  #userPage = NO_PAGE
  #userOffset = 0
  #userStray = 0n

  private constructor(parts: HwTableParts, shape: HwTableShape, rootPage: number, userRoot: number) {
    const { geometry, pageShift } = shape
    this.number = parts.nextTable()
    this.pageShift = pageShift
    this.offset = Number(shape.busOffset >> BigInt(pageShift))
    this.entries = geometry.entries
    this.levels = geometry.levels
    this.levelShift = geometry.levelShift
    this.allocatedBytes = shape.allocatedBytes
    this.hasUserView = shape.hasUserView
    this.rootPage = rootPage
    this.#parts = parts
    this.#memory = parts.host.memory
    this.#stage = parts.host.stage
    this.#userRoot = userRoot
    this.#tellsFirstOnly = shape.tellsFirstOnly ?? false
    this.#capacity = 2 ** (geometry.levels * geometry.levelShift)
    this.#alignMask = pageShift > 43 ? -1 : 2 ** (pageShift - 12) - 1
    this.#references = new Cells(parts.host.journal, keyOf('hw-table', this.number), 1)
    this.#references.set(0, 1)
  }

  /** A table with one reference and its first level (and that of the mirror), or -ENOMEM. */
  static create(parts: HwTableParts, shape: HwTableShape): MultiLevelTable | number {
    const { levelShift } = shape.geometry
    const rootPage = allocateLevel(parts, levelShift)
    if (rootPage === NO_PAGE) return ERRNO_CODES.ENOMEM
    let userRoot = NO_PAGE
    if (shape.hasUserView) {
      userRoot = allocateLevel(parts, levelShift)
      if (userRoot === NO_PAGE) {
        freeLevel(parts.host, rootPage, levelShift)
        return ERRNO_CODES.ENOMEM
      }
    }
    return new MultiLevelTable(parts, shape, rootPage, userRoot)
  }

  xchg(entry: number, hpaPage: number, dir: DmaDir): number {
    if ((hpaPage & this.#alignMask) !== 0) {
      this.#parts.onBug?.('pnv_tce_xchg: the address is no multiple of the IOMMU page')
      return ERRNO_CODES.OK
    }
    const slot = entry - this.offset
    this.oldHpaPage = 0
    this.oldDir = 0
    if (!this.#find(this.rootPage, slot, dir !== 0)) return dir === 0 ? ERRNO_CODES.OK : ERRNO_CODES.ENOMEM
    if (this.#slotPage === NO_PAGE) {
      this.#corrupt(this.#strayAddress, 'tce')
      return ERRNO_CODES.OK
    }
    const perm = (dir & TCE_WRITE) !== 0 ? dir | TCE_READ : dir
    this.#replace(slot, Math.floor(hpaPage / 0x10_0000) | 0, (hpaPage << 12) | perm)
    this.oldHpaPage = (this.tceHi >>> 0) * 0x10_0000 + (this.tceLo >>> 12)
    this.oldDir = (this.tceLo & TCE_PERM) as DmaDir
    return ERRNO_CODES.OK
  }

  kill(entry: number, count: number): void {
    const users = this.#users
    const told = this.#tellsFirstOnly ? Math.min(1, users.length) : users.length
    for (let i = 0; i < told; i++) (users[i] as TableUser).forget(this, entry, count)
  }

  /** Reads an entry into `tceHi` and `tceLo`: 0 where its level is missing or it lies outside the table. */
  load(entry: number): void {
    this.tceHi = 0
    this.tceLo = 0
    if (!this.#find(this.rootPage, entry - this.offset, false) || this.#slotPage === NO_PAGE) return
    const memory = this.#memory
    memory.loadU64be(this.#slotPage, this.#slotOffset)
    this.tceHi = memory.wordHi
    this.tceLo = memory.wordLo
  }

  /** Entries [entry, entry + count) become 0; those of missing levels are passed over. No cache hears of it. */
  clear(entry: number, count: number): void {
    const first = entry - this.offset
    const levelEntries = 2 ** this.levelShift
    for (let slot = first; slot < first + count; ) {
      if (!this.#find(this.rootPage, slot, false)) {
        slot = (Math.floor(slot / levelEntries) + 1) * levelEntries
        continue
      }
      if (this.#slotPage === NO_PAGE) this.#corrupt(this.#strayAddress, 'tce')
      else this.#replace(slot, 0, 0)
      slot++
    }
  }

  userSlot(entry: number, alloc: boolean): boolean {
    this.userHi = 0
    this.userLo = 0
    if (!this.hasUserView || !this.#find(this.#userRoot, entry - this.offset, alloc)) return false
    this.#userPage = this.#slotPage
    this.#userOffset = this.#slotOffset
    this.#userStray = this.#strayAddress
    if (this.#slotPage === NO_PAGE) return true
    const memory = this.#memory
    memory.loadU64be(this.#slotPage, this.#slotOffset)
    this.userHi = memory.wordHi
    this.userLo = memory.wordLo
    return true
  }

  setUser(hi: number, lo: number): void {
    if (this.#userPage === NO_PAGE) this.#corrupt(this.#userStray, 'userspace address')
    else this.#memory.storeU64be(this.#userPage, this.#userOffset, hi, lo)
  }

  userGap(entry: number): number {
    if (this.levels === 1 || !this.hasUserView) return 0
    if (this.#find(this.#userRoot, entry - this.offset, false)) return 0
    const levelEntries = 2 ** this.levelShift
    return levelEntries - (entry % levelEntries)
  }

  get references(): number {
    return this.#references.get(0)
  }

  get(): void {
    assert(this.references > 0, `table ${this.number} lives`)
    this.#references.set(0, this.references + 1)
  }

  put(): void {
    assert(this.references > 0, `table ${this.number} lives`)
    this.#references.set(0, this.references - 1)
    if (this.references > 0) return
    this.#free(this.rootPage, this.levels - 1)
    if (this.hasUserView) this.#free(this.#userRoot, this.levels - 1)
  }

  /** A PE uses the table from now on; it hears of `kill` before those that were there. */
  link(user: TableUser): void {
    this.#setUsers([user, ...this.#users])
  }

  /** False where it did not use it. */
  unlink(user: TableUser): boolean {
    const at = this.#users.indexOf(user)
    if (at < 0) return false
    this.#setUsers(this.#users.filter((_, i) => i !== at))
    return true
  }

  #setUsers(users: readonly TableUser[]): void {
    const before = this.#users
    this.#users = users
    this.#parts.host.journal.change(keyOf('hw-table-users', this.number), before.length, users.length, () => {
      this.#users = before
    })
  }

  /**
   * Walks to the slot of an index. False where a level is missing (and not `alloc`, or no memory for it). An
   * index that no level can tell apart keeps its upper bits down to the leaf: it ends in `#strayAddress`.
   */
  #find(root: number, index: number, alloc: boolean): boolean {
    const { levelShift } = this
    const memory = this.#memory
    let page = root
    let rest = index
    for (let level = this.levels - 1; level > 0; level--) {
      const n = digitOf(index, level * levelShift, levelShift)
      rest -= n * (POWERS_OF_TWO[level * levelShift] as number)
      const at = page + (n >>> PAGE_ENTRIES_SHIFT)
      const offset = (n & PAGE_ENTRIES_MASK) << TCE_BYTES_SHIFT
      memory.loadU64be(at, offset)
      if ((memory.wordHi | memory.wordLo) !== 0) {
        page = (memory.wordHi << 20) | (memory.wordLo >>> 12)
        continue
      }
      if (!alloc) return false
      page = allocateLevel(this.#parts, levelShift)
      if (page === NO_PAGE) return false
      memory.storeU64be(at, offset, page >>> 20, (page << 12) | TCE_PERM)
    }
    if (index < 0 || index >= this.#capacity) {
      this.#slotPage = NO_PAGE
      this.#strayAddress = BigInt.asUintN(64, BigInt(page) * 4096n + BigInt(rest) * BigInt(TCE_BYTES))
      return true
    }
    this.#slotPage = page + (rest >>> PAGE_ENTRIES_SHIFT)
    this.#slotOffset = (rest & PAGE_ENTRIES_MASK) << TCE_BYTES_SHIFT
    return true
  }

  /** Writes the slot that `#find` found, with its record; what was there is in `tceHi` and `tceLo`. */
  #replace(slot: number, hi: number, lo: number): void {
    const memory = this.#memory
    const stage = this.#stage
    memory.loadU64be(this.#slotPage, this.#slotOffset)
    this.tceHi = memory.wordHi
    this.tceLo = memory.wordLo
    memory.storeU64be(this.#slotPage, this.#slotOffset, hi, lo)
    const { log } = stage
    if (!log.on) return
    const at = log.begin(SET, stage.cause)
    const { lanes } = log
    lanes[at] = this.number
    lanes[at + 1] = loOfNumber(slot)
    lanes[at + 2] = hiOfNumber(slot)
    lanes[at + 3] = this.tceLo
    lanes[at + 4] = this.tceHi
    lanes[at + 5] = lo
    lanes[at + 6] = hi
    log.commit(SET)
  }

  #corrupt(address: bigint, what: string): void {
    const { log, cause } = this.#stage
    const fields = { space: 'hpa', address, bytes: TCE_BYTES, what }
    log.emit('memory.corrupt', cause < 0 ? null : cause, fields)
  }

  #free(page: number, level: number): void {
    const { host } = this.#parts
    if (level > 0) {
      for (let n = 0; n < 2 ** this.levelShift; n++) {
        host.memory.loadU64be(page + (n >>> PAGE_ENTRIES_SHIFT), (n & PAGE_ENTRIES_MASK) << TCE_BYTES_SHIFT)
        const { wordHi, wordLo } = host.memory
        if ((wordLo & TCE_PERM) !== 0) this.#free((wordHi << 20) | (wordLo >>> 12), level - 1)
      }
    }
    freeLevel(host, page, this.levelShift)
  }
}

/** Bits [shift, shift + width) of an index, which is a signed 64-bit word. */
function digitOf(index: number, shift: number, width: number): number {
  if (index >= 0 && index <= 0x7fff_ffff && shift < 31) return (index >>> shift) & ((1 << width) - 1)
  const radix = 1 << width
  const digit = Math.floor(index / (POWERS_OF_TWO[shift] as number)) % radix
  return digit < 0 ? digit + radix : digit
}

/** The first 4 KiB page of a zeroed level, or NO_PAGE. */
function allocateLevel({ host, onAllocate }: HwTableParts, levelShift: number): number {
  const bytesShift = levelShift + TCE_BYTES_SHIFT
  if (onAllocate?.() === false || bytesShift > BLOCK_BYTES_SHIFT_MAX) return NO_PAGE
  const { frames } = host
  const frame = frames.allocate(frames.owner('kernel'), bytesShift - host.pageShift)
  return frame === NO_FRAME ? NO_PAGE : frames.hostPage(frame)
}

function freeLevel({ frames, pageShift }: Host, page: number, levelShift: number): void {
  frames.put(page >>> frames.subShift, 2 ** (levelShift + TCE_BYTES_SHIFT - pageShift))
}
