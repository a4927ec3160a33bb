import { POWERS_OF_TWO } from '../../bits/u64.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import type { Host } from '../../memory/host.ts'
import type { DmaDir, HwTable } from '../../table/hw-table.ts'
import type { MmIommu } from '../mm-port.ts'
import type { SpaprErrata } from './spapr-errata.ts'

const PAGE_4K_SHIFT = 12
/** Pages of 4 KiB in 2^32 bytes. */
const PAGES_OF_4_GIB = 2 ** (32 - PAGE_4K_SHIFT)
const WRITES = 2

/** What the driver for containers works with. */
export interface SpaprParts {
  readonly host: Host
  readonly memory: MmIommu
  readonly errata: SpaprErrata
  /** Asked before each allocation of VFIO's own: false makes that allocation fail. */
  readonly allocates: () => boolean
  /** Whether EEH is on. */
  readonly hasEeh: boolean
}

/** How entries could be made; the first that meets trouble ends it. */
export type BuildResult =
  | 'done'
  | 'no-memory'
  | 'not-registered'
  | 'not-pinnable'
  | 'not-contained'
  | 'region-going'
  | 'stopped-early'
  | 'null-pointer'

/**
 * The entries of a container: made and taken back, for v1 by pinning each page, for v2 out of registered memory.
 * Entry numbers are absolute; a user address is its 4 KiB page.
 * (Linux v6.1 drivers/vfio/vfio_iommu_spapr_tce.c, tce_iommu_build, tce_iommu_build_v2, tce_iommu_clear)
 */
export class SpaprMapping {
  readonly #parts: SpaprParts
  readonly #isV2: boolean
  readonly #frames = new Int32Array(1)

  constructor(parts: SpaprParts, isV2: boolean) {
    this.#parts = parts
    this.#isV2 = isV2
  }

  /** Maps `count` IOMMU pages from `entry` on. On trouble those before it are cleared, unless the kernel forgets. */
  build(
    table: HwTable,
    mm: AddressSpace,
    entry: number,
    uaPage: number,
    count: number,
    dir: DmaDir,
  ): BuildResult {
    const step = 2 ** (table.pageShift - PAGE_4K_SHIFT)
    let result: BuildResult = 'done'
    this.#beginRun(table)
    let made = 0
    for (; made < count; made++) {
      const page = uaPage + made * step
      result = this.#isV2
        ? this.#useRegistered(table, mm, entry + made, page, dir)
        : this.#usePinned(table, mm, entry + made, page, dir)
      if (result !== 'done') break
    }
    this.#endRun(table)
    if (result === 'null-pointer') return result
    if (result === 'done' || result === 'stopped-early') this.#kill(table, entry, count)
    else this.clear(table, mm, entry, made)
    return result
  }

  /** Clears entries, mapped or not, and makes caches forget all of them. */
  clear(table: HwTable, mm: AddressSpace, entry: number, count: number): void {
    const skips = table.levels > 1 && table.hasUserView
    const usesView = this.#isV2 || skips
    this.#beginRun(table)
    for (let at = entry; at < entry + count; at++) {
      const hasSlot = usesView && table.userSlot(at, false)
      if (skips && !hasSlot) {
        at += Math.max(table.userGap(at), 1) - 1
        continue
      }
      if (this.#swap(table, at, 0, 0) !== 0 || table.oldDir === 0) {
        if (!this.#parts.errata.killsEach) at += table.emptyRun(at + 1, entry + count - at - 1)
        continue
      }
      if (!this.#isV2) this.#unpin(mm, table.oldHpaPage)
      else if (hasSlot) this.#forget(table, mm, table.oldDir)
    }
    this.#endRun(table)
    this.#kill(table, entry, count)
  }

  /** Where caches are told of each entry, so are records: swaps of a row are none. */
  #beginRun(table: HwTable): void {
    this.#parts.memory.beginRun()
    if (!this.#parts.errata.killsEach) table.beginRun()
  }

  #endRun(table: HwTable): void {
    this.#parts.memory.endRun()
    if (!this.#parts.errata.killsEach) table.endRun()
  }

  /** Makes caches forget a range, unless each of its entries did so. */
  #kill(table: HwTable, entry: number, count: number): void {
    if (!this.#parts.errata.killsEach) table.kill(entry, count)
  }

  #swap(table: HwTable, entry: number, hpaPage: number, dir: DmaDir): number {
    const code = table.xchg(entry, hpaPage, dir)
    if (code === 0 && this.#parts.errata.killsEach) table.kill(entry, 1)
    return code
  }

  #useRegistered(table: HwTable, mm: AddressSpace, entry: number, page: number, dir: DmaDir): BuildResult {
    const { host, memory, errata } = this.#parts
    const { pageShift } = table
    const pageBytes = POWERS_OF_TWO[pageShift] as number
    const hi = (page / PAGES_OF_4_GIB) | 0
    const lo = page << PAGE_4K_SHIFT
    const hasSlot = table.userSlot(entry, true)
    if (!hasSlot && !errata.followsNull) return 'no-memory'
    const region = memory.lookup(mm, hi, lo, pageBytes)
    if (region < 0 || memory.toHpa(region, hi, lo, pageShift) !== 0) return 'not-registered'
    const { hpaPage } = memory
    const deviceBytes = memory.deviceBytes(mm, hpaPage, pageShift)
    const isContained =
      deviceBytes > 0 ? deviceBytes === pageBytes : host.frames.compoundShift(hpaPage) >= pageShift
    if (!isContained) return 'not-contained'
    if (memory.mappedInc(region) !== 0) return errata.stopsEarly ? 'stopped-early' : 'region-going'
    if (this.#swap(table, entry, hpaPage, dir) !== 0) {
      if (!errata.countsWrongRegion) memory.mappedDec(region)
      else if (hasSlot) this.#forget(table, mm, 0)
      return 'no-memory'
    }
    if (!hasSlot) return 'null-pointer'
    if (table.oldDir !== 0) this.#forget(table, mm, table.oldDir)
    table.setUser(hi, lo)
    return 'done'
  }

  #usePinned(table: HwTable, mm: AddressSpace, entry: number, page: number, dir: DmaDir): BuildResult {
    const { host, errata } = this.#parts
    const { subShift } = host.frames
    const userPage = Math.floor(page / 2 ** subShift)
    // The kernel takes the direction from an address that is cut at its page: it always asks to write.
    if (mm.pin(userPage, 1, true, this.#frames) !== 1) return 'not-pinnable'
    const firstPage = host.frames.hostPage(this.#frames[0] as number)
    if (host.frames.compoundShift(firstPage) < table.pageShift) {
      if (!errata.leaksSmallPage) mm.unpin(userPage, 1, this.#frames)
      return 'not-contained'
    }
    if (this.#swap(table, entry, firstPage + (page - userPage * 2 ** subShift), dir) !== 0) {
      mm.unpin(userPage, 1, this.#frames)
      return 'no-memory'
    }
    if (table.oldDir !== 0) this.#unpin(mm, table.oldHpaPage)
    return 'done'
  }

  /** The region that the slot found last showed has one mapping less, and the slot no user address. */
  #forget(table: HwTable, mm: AddressSpace, oldDir: DmaDir): void {
    const { memory } = this.#parts
    const { pageShift, userHi, userLo } = table
    const region = memory.lookup(mm, userHi, userLo, POWERS_OF_TWO[pageShift] as number)
    if (region >= 0 && memory.toHpa(region, userHi, userLo, pageShift) === 0) {
      if ((oldDir & WRITES) !== 0) memory.markDirty(region, userHi, userLo)
      memory.mappedDec(region)
    }
    table.setUser(0, 0)
  }

  /** Where the page was pinned is known to nobody any more: the record says 0. */
  #unpin(mm: AddressSpace, hpaPage: number): void {
    this.#frames[0] = hpaPage >> this.#parts.host.frames.subShift
    mm.unpin(0, 1, this.#frames)
  }
}
