import { Bitmap } from '../../bits/bitmap.ts'
import { assert } from '../../bits/errors.ts'
import { RangeMap } from '../../bits/range-map.ts'
import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { hiOfNumber, hiOfPage, loOfNumber, loOfPage, numberOf, pageOf } from '../../bits/u64.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import { PAGE_4K_SHIFT } from '../../memory/host-memory.ts'
import { cellOfFrame, DIRTY, frameOfCell, type RegionLoan } from '../mm-port.ts'

/** Regions of one host: a bound of the model. */
const REGIONS_MAX = 2 ** 20

/** No region, or none of the kind. */
export const NO_REGION = -1
/** The number of no region, and not NO_REGION either. */
const NOTHING = -2

// Cells of a region.
const USED = 0
const MAPPED = 1
const PAGE_SHIFT = 2
const PAGES = 3
const UA = 4
const DEVICE_PAGE = 6
const OWNER = 8
const LEFT = 9
const STRIDE = 10

/** System pages of a region that can be lent: its 4 KiB pages are counted in 31 bits. */
const LENT_PAGES_MAX = 2 ** 26

/** Memory of a region, and how it is kept: pages are system pages, `devicePage` is one of 4 KiB. */
export interface RegionShape {
  readonly mm: AddressSpace
  readonly uaPage: number
  readonly pages: number
  readonly pageShift: number
  /** First 4 KiB page of device memory; NO_REGION for ordinary memory, which has `frames`. */
  readonly devicePage: number
  readonly frames: Int32Array
}

/** The regions of one address space: by user address, and those of device memory, oldest first. */
interface Space {
  readonly map: RangeMap
  readonly devices: number[]
}

/**
 * The regions of preregistered memory of a host, as cells: what they are, not what happens to them.
 *
 * A region is a number, the lowest that is free. Regions of one address space do not overlap, so that at most one
 * holds a user address: it is found in a range map. No read allocates.
 */
export class RegionTable {
  #version = 0
  readonly #journal: Journal
  readonly #pageShift: number
  readonly #cells: Cells
  readonly #numbers: Bitmap
  /** Frames of each region. */
  readonly #frameCells: Cells[] = []
  readonly #mms: (AddressSpace | undefined)[] = []
  readonly #spaces = new Map<AddressSpace, Space>()
  #lastMm: AddressSpace | undefined
  #lastSpace: Space | undefined
  /** Of the region that `at` or `focus` found last, because mappings mostly come in a row: its pages, and what it backs. */
  start = 0
  end = 0
  pageShift = 0
  /** First 4 KiB page of device memory, or NO_REGION. */
  devicePage = NO_REGION
  #frames: Cells | undefined
  #mm: AddressSpace | undefined
  #region = NOTHING
  #rollbacks = 0

  /** @param pageShift log2 of the system page */
  constructor(journal: Journal, pageShift: number) {
    this.#journal = journal
    this.#pageShift = pageShift
    this.#cells = new Cells(journal, keyOf('region', 'fields'))
    this.#numbers = new Bitmap(new Cells(journal, keyOf('region', 'numbers')), REGIONS_MAX)
  }

  /** A new region with one use and no mapping; NO_REGION where there are too many. */
  add(shape: RegionShape): number {
    const { mm, uaPage, pages, pageShift, devicePage, frames } = shape
    this.#version++
    const region = this.#numbers.nextZero(0, REGIONS_MAX)
    if (region >= REGIONS_MAX) return NO_REGION
    this.#numbers.setRange(region, region + 1)
    const cells = this.#cells
    const at = region * STRIDE
    cells.ensure(at + STRIDE)
    cells.set(at + USED, 1)
    cells.set(at + MAPPED, 1)
    cells.set(at + PAGE_SHIFT, pageShift)
    cells.set(at + PAGES, pages)
    cells.set(at + UA, loOfPage(uaPage, this.#pageShift))
    cells.set(at + UA + 1, hiOfPage(uaPage, this.#pageShift))
    cells.set(at + DEVICE_PAGE, loOfNumber(devicePage + 1))
    cells.set(at + DEVICE_PAGE + 1, hiOfNumber(devicePage + 1))
    cells.set(at + OWNER, keyOf('mm', mm.name))
    this.#setMm(region, mm)
    const own = this.#framesOf(region)
    if (devicePage === NO_REGION) {
      own.ensure(pages)
      for (let i = 0; i < pages; i++) own.set(i, cellOfFrame(frames[i] as number))
    }
    const space = this.#makeSpace(mm)
    space.map.set(uaPage, uaPage + pages, region)
    if (devicePage !== NO_REGION) this.#addDevice(space, region, space.devices.length)
    return region
  }

  /** A region without uses is gone, and its number free. Answers its frames in order; device memory has none. */
  remove(region: number): Int32Array {
    assert(this.usesOf(region) === 0, 'a region that goes has no use')
    this.#version++
    const pages = this.pagesOf(region)
    const space = this.#makeSpace(this.mmOf(region))
    const uaPage = this.uaPageOf(region)
    space.map.erase(uaPage, uaPage + pages)
    this.#region = NOTHING
    const isDevice = this.isDevice(region)
    if (isDevice) this.#dropDevice(space, region)
    const frames = new Int32Array(isDevice ? 0 : pages)
    const own = this.#framesOf(region)
    for (let i = 0; i < frames.length; i++) frames[i] = frameOfCell(own.get(i))
    own.fill(0, 0, frames.length)
    this.#cells.fill(0, region * STRIDE, (region + 1) * STRIDE)
    this.#setMm(region, undefined)
    this.#numbers.clearRange(region, region + 1)
    return frames
  }

  /** The region that holds a page of user memory, or NO_REGION. */
  at(mm: AddressSpace, uaPage: number): number {
    if (this.#isFresh() && mm === this.#mm && uaPage >= this.start && uaPage < this.end) return this.#region
    const map = this.#spaceOf(mm)?.map
    if (map === undefined || !map.next(uaPage) || map.start > uaPage) return NO_REGION
    this.#look(map.value)
    return map.value
  }

  /** Looks at a region; false where there is none of this number. */
  focus(region: number): boolean {
    if (region === this.#region && this.#isFresh()) return true
    if (!this.has(region)) return false
    this.#look(region)
    return true
  }

  /** The frame behind a page of the region that is looked at. */
  frameAt(index: number): number {
    return frameOfCell((this.#frames as Cells).data[index] as number)
  }

  overlaps(mm: AddressSpace, uaPage: number, endPage: number): boolean {
    const map = this.#spaceOf(mm)?.map
    return map?.next(uaPage) === true && map.start < endPage
  }

  isUsed(mm: AddressSpace): boolean {
    return (this.#spaceOf(mm)?.map.count ?? 0) > 0
  }

  /** The newest region of device memory that holds a 4 KiB page of the host, or NO_REGION. */
  deviceAt(mm: AddressSpace, hpaPage: number, subPages: number): number {
    const devices = this.#spaceOf(mm)?.devices
    if (devices === undefined || devices.length === 0) return NO_REGION
    for (let i = devices.length - 1; i >= 0; i--) {
      const region = devices[i] as number
      const into = hpaPage - this.devicePageOf(region)
      if (into >= 0 && into < this.pagesOf(region) * subPages) return region
    }
    return NO_REGION
  }

  /** Whether a number is one of a region now. */
  has(region: number): boolean {
    return region >= 0 && region * STRIDE < this.#cells.length && this.#numbers.has(region)
  }

  mmOf(region: number): AddressSpace {
    const mm = this.#mms[region]
    assert(mm !== undefined, 'the region exists')
    return mm
  }

  usesOf(region: number): number {
    return this.has(region) ? this.#cells.get(region * STRIDE + USED) : 0
  }

  setUses(region: number, uses: number): void {
    this.#cells.set(region * STRIDE + USED, uses)
  }

  /** Whether its last holder is gone, and its mappings keep it. */
  isLeft(region: number): boolean {
    return this.has(region) && this.#cells.get(region * STRIDE + LEFT) !== 0
  }

  setLeft(region: number, isLeft: boolean): void {
    this.#version++
    this.#cells.set(region * STRIDE + LEFT, isLeft ? 1 : 0)
  }

  mappedOf(region: number): number {
    return this.focus(region) ? this.#cells.get(region * STRIDE + MAPPED) : 0
  }

  setMapped(region: number, mapped: number): void {
    this.#cells.set(region * STRIDE + MAPPED, mapped)
  }

  pageShiftOf(region: number): number {
    return this.#cells.get(region * STRIDE + PAGE_SHIFT)
  }

  pagesOf(region: number): number {
    return this.#cells.get(region * STRIDE + PAGES)
  }

  uaPageOf(region: number): number {
    return pageOf(this.uaHiOf(region), this.uaLoOf(region), this.#pageShift)
  }

  uaHiOf(region: number): number {
    return this.#cells.get(region * STRIDE + UA + 1)
  }

  uaLoOf(region: number): number {
    return this.#cells.get(region * STRIDE + UA)
  }

  /** Its user address, pages, uses and mappings, as six slots of a record. */
  describe(region: number, lanes: Int32Array, at: number): void {
    const { data } = this.#cells
    const from = region * STRIDE
    lanes[at] = data[from + UA] as number
    lanes[at + 1] = data[from + UA + 1] as number
    lanes[at + 2] = data[from + PAGES] as number
    lanes[at + 3] = 0
    lanes[at + 4] = data[from + USED] as number
    lanes[at + 5] = data[from + MAPPED] as number
  }

  /** Fills a loan with the region that was found last; false for device memory, and where its last holder is gone. */
  lend(region: number, loan: RegionLoan): boolean {
    const { data } = this.#cells
    const at = region * STRIDE
    if (this.devicePage !== NO_REGION || data[at + LEFT] !== 0 || data[at + MAPPED] === 0) return false
    const subShift = this.#pageShift - PAGE_4K_SHIFT
    const pages = this.end - this.start
    if (pages >= LENT_PAGES_MAX) return false
    loan.first = this.start * (1 << subShift)
    loan.pages = pages << subShift
    loan.pageShift = this.pageShift
    loan.subShift = subShift
    loan.frames = (this.#frames as Cells).data
    loan.counts = data
    loan.count = at + MAPPED
    loan.version = this.version
    return true
  }

  /** Another number whenever a region has come, gone, or lost its last holder, and whenever the host went back. */
  get version(): number {
    return this.#version + this.#journal.rollbacks
  }

  isDevice(region: number): boolean {
    return this.devicePageOf(region) !== NO_REGION
  }

  /** First 4 KiB page of device memory, or NO_REGION. */
  devicePageOf(region: number): number {
    const at = region * STRIDE + DEVICE_PAGE
    return numberOf(this.#cells.get(at + 1), this.#cells.get(at)) - 1
  }

  /** The page at an index of the region that is looked at was written by a device. */
  setDirty(index: number): void {
    const frames = this.#frames as Cells
    frames.set(index, frames.get(index) | DIRTY)
  }

  isDirty(index: number): boolean {
    return ((this.#frames as Cells).get(index) & DIRTY) !== 0
  }

  /** Whether what was looked at is still so: going back may change it. */
  #isFresh(): boolean {
    return this.#region !== NOTHING && this.#rollbacks === this.#journal.rollbacks
  }

  #look(region: number): void {
    this.#region = region
    this.#rollbacks = this.#journal.rollbacks
    this.#mm = this.mmOf(region)
    this.start = this.uaPageOf(region)
    this.end = this.start + this.pagesOf(region)
    this.pageShift = this.pageShiftOf(region)
    this.devicePage = this.devicePageOf(region)
    this.#frames = this.#framesOf(region)
  }

  #framesOf(region: number): Cells {
    this.#frameCells[region] ??= new Cells(this.#journal, keyOf('region', 'frames', region))
    return this.#frameCells[region]
  }

  #spaceOf(mm: AddressSpace): Space | undefined {
    if (mm !== this.#lastMm) {
      const space = this.#spaces.get(mm)
      if (space === undefined) return undefined
      this.#lastMm = mm
      this.#lastSpace = space
    }
    return this.#lastSpace
  }

  #makeSpace(mm: AddressSpace): Space {
    let space = this.#spaceOf(mm)
    if (space === undefined) {
      const key = keyOf('regions', mm.name)
      space = { map: new RangeMap({ journal: this.#journal, key, merge: false }), devices: [] }
      this.#spaces.set(mm, space)
    }
    return space
  }

  /** The object behind the name in the cells: not part of the hash itself. */
  #setMm(region: number, mm: AddressSpace | undefined): void {
    const before = this.#mms[region]
    this.#mms[region] = mm
    this.#journal.change(keyOf('region', 'mm'), 0, 0, () => {
      this.#mms[region] = before
    })
  }

  #addDevice({ devices }: Space, region: number, place: number): void {
    devices.splice(place, 0, region)
    this.#journal.change(keyOf('region', 'devices'), 0, 0, () => devices.splice(place, 1))
  }

  #dropDevice({ devices }: Space, region: number): void {
    const place = devices.indexOf(region)
    devices.splice(place, 1)
    this.#journal.change(keyOf('region', 'devices'), 0, 0, () => devices.splice(place, 0, region))
  }
}
