import type { Profile } from '../../bits/errata.ts'
import { swap32 } from '../../bits/u64.ts'
import type { VtdFeatures } from '../../hw/vtd/capabilities.ts'
import { type ContextEntry, newContextEntry, newPasidEntry, PGTT, TABLE_MODE } from '../../hw/vtd/ports.ts'
import { ContextReader, isPassThroughType } from '../../hw/vtd/tables/context-reader.ts'
import { PasidReader } from '../../hw/vtd/tables/pasid-reader.ts'
import { TableMemory } from '../../hw/vtd/tables/table-memory.ts'
import type { BusMemory } from '../../memory/ports.ts'

/** Entries of a table, as their log2: each level takes so many bits of an address. */
const LEVEL_BITS = 9
const ENTRIES = 1 << LEVEL_BITS
const ENTRY_BYTES = 8
const PAGE_SHIFT = 12
/** Levels whose entries may map a page of their own: 2 MiB and 1 GiB. */
const LARGE_LEVELS: readonly number[] = [2, 3]
const PERM = 3
const PS = 1 << 7
const SNP = 1 << 11
/** In the upper lane. */
const TM = 1 << 30
const ADDRESS_HI = 0xf_ffff
const PAGES_HI = 2 ** 20

/** 4 KiB pages that an entry of a level maps or leads to. */
const pagesOfLevel = (level: number): number => ENTRIES ** (level - 1)

/** An entry that maps pages, or nothing: `perm` 0. Page numbers count 4 KiB. */
type LeafVisitor = (page: number, pages: number, target: number, perm: number) => void

/** Where the root table of a unit is, as the unit has taken it. */
export interface RootPlace {
  /** Its 4 KiB page. */
  readonly page: number
  /** TTM: bits 11:10 of RTADDR. */
  readonly mode: number
}

export interface VtdTablesParts {
  readonly memory: BusMemory
  readonly features: VtdFeatures
  readonly profile: Pick<Profile, 'has'>
  readonly root: RootPlace
}

/**
 * What QEMU reads of a guest's VT-d tables beside translating: the domain of a device, and every leaf of its page tables.
 * Nothing is cached. (QEMU 7.2 hw/i386/intel_iommu.c, vtd_dev_to_context_entry, vtd_get_domain_id, vtd_page_walk_level)
 */
export class VtdTables {
  /** What `find` found: its domain, and its second-level tables. */
  domain = 0
  levels = 0
  root = 0
  /** Its requests go through no page table. */
  isPassThrough = false
  /** Its page tables are none of the second level. */
  isFirstLevel = false
  readonly features: VtdFeatures
  readonly #memory: BusMemory
  readonly #root: RootPlace
  readonly #contexts: ContextReader
  readonly #pasids: PasidReader
  readonly #context: ContextEntry = newContextEntry()
  readonly #pasid = newPasidEntry()
  readonly #rsvdHi: number
  readonly #rsvdLeafHi: number
  readonly #rsvdLeafLo: number
  #hi = 0
  #lo = 0

  constructor({ memory, features, profile, root }: VtdTablesParts) {
    this.features = features
    this.#memory = memory
    this.#root = root
    const has = (erratum: string) => profile.has(erratum)
    const reader = { memory: new TableMemory(memory), features, has }
    this.#contexts = new ContextReader(reader)
    this.#pasids = new PasidReader(reader)
    this.#rsvdHi = ADDRESS_HI & ~((1 << (features.hostAddressBits - 32)) - 1)
    this.#rsvdLeafHi = this.#rsvdHi | (features.hasDeviceTlb ? 0 : TM)
    this.#rsvdLeafLo = features.hasSnoopControl ? 0 : SNP
  }

  /** Finds the entries of a source-id: 0, or the fault. */
  find(source: number): number {
    const context = this.#context
    const { page, mode: ttm } = this.#root
    const isScalable = this.features.hasScalableMode && (ttm & TABLE_MODE.SCALABLE) !== 0
    const mode = isScalable ? TABLE_MODE.SCALABLE : TABLE_MODE.LEGACY
    const fault = this.#contexts.read(page, mode, source, context)
    if (fault !== 0) return fault
    this.isFirstLevel = false
    if (!isScalable) {
      this.domain = context.domain
      this.levels = context.levels
      this.root = context.root
      this.isPassThrough = isPassThroughType(context.type)
      return 0
    }
    const pasid = this.#pasid
    const wrong = this.#pasids.read(context, context.ridPasid, pasid)
    if (wrong !== 0) return wrong
    this.domain = pasid.domain
    this.levels = pasid.levels
    this.root = pasid.root
    this.isPassThrough = pasid.type === PGTT.PASS_THROUGH
    this.isFirstLevel = pasid.type === PGTT.FIRST_LEVEL && this.features.hasFirstLevel
    return 0
  }

  /** Bits of the addresses that the tables found last translate. */
  get inputBits(): number {
    return Math.min(PAGE_SHIFT + LEVEL_BITS * this.levels, this.features.maxAddressBits)
  }

  /**
   * Shows every entry of the tables found last that maps pages, and every one that leads nowhere, in order. Entries that
   * cannot be read, and those with a reserved bit set, are passed over, with all below them.
   */
  visit(show: LeafVisitor): void {
    this.#visit(this.root, this.levels, 0, 2 ** (this.inputBits - PAGE_SHIFT), PERM, show)
  }

  #visit(table: number, level: number, first: number, end: number, above: number, show: LeafVisitor): void {
    const pages = pagesOfLevel(level)
    for (let page = first; page < end; ) {
      const start = page - (page % pages)
      const next = start + pages
      if (this.#load(table, Math.floor(page / pages) % ENTRIES)) {
        const isLeaf = this.#isLeaf(level)
        const perm = this.#lo & above & PERM
        if (!this.#hasReserved(level, isLeaf)) {
          const target = this.#address()
          if (isLeaf || perm === 0) show(start, pages, target, perm)
          else this.#visit(target, level - 1, page, Math.min(next, end), perm, show)
        }
      }
      page = next
    }
  }

  /** Entries lie in memory least significant byte first. */
  #load(table: number, index: number): boolean {
    const memory = this.#memory
    const isThere = memory.isRam(table) && memory.loadU64be(table, index * ENTRY_BYTES)
    this.#hi = swap32(memory.wordLo)
    this.#lo = swap32(memory.wordHi)
    return isThere
  }

  #isLeaf(level: number): boolean {
    return level === 1 || ((this.#lo & PS) !== 0 && LARGE_LEVELS.includes(level))
  }

  #hasReserved(level: number, isLeaf: boolean): boolean {
    if (!isLeaf) {
      const lo = SNP | (LARGE_LEVELS.includes(level) ? 0 : PS)
      return (this.#hi & (this.#rsvdHi | TM)) !== 0 || (this.#lo & lo) !== 0
    }
    // Bits of the address that are below a large page.
    const below = (pagesOfLevel(level) - 1) << PAGE_SHIFT
    return (this.#hi & this.#rsvdLeafHi) !== 0 || (this.#lo & (this.#rsvdLeafLo | below)) !== 0
  }

  #address(): number {
    return (this.#hi & ADDRESS_HI) * PAGES_HI + (this.#lo >>> PAGE_SHIFT)
  }
}
