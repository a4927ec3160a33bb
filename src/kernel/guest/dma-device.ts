import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import type { DeviceNode } from './device-tree.ts'
import type { IommuTable } from './iommu-table.ts'
import type { TableGroup } from './table-group.ts'

/** Segment size that the DMA API assumes where a driver sets none. */
const SEGMENT_BYTES_DEFAULT = 65_536
/** Segment boundary and masks of a PCI device whose driver says nothing. */
const MASK_32 = 0xffff_ffffn
/** Segment boundary where a driver takes the one of its bus away. */
const NO_BOUNDARY = 0xffff_ffff_ffff_ffffn

const MASK = 0
const COHERENT = 2
const OFFSET = 4
const LIMIT = 6
const BOUNDARY = 8
const SEGMENT_BYTES = 10
const OWNER = 11
const FLAGS = 12
const TABLE = 13
const CELLS = 14

const HAS_DRIVER = 1
const BYPASS = 2
const DIRECT_STREAM = 4
const DIRECT_COHERENT = 8
const TOLD_DIRECT = 16

/**
 * What the kernel knows of a device's DMA: masks, segment limits, whether and how it reaches memory directly.
 *
 * 64-bit values are bigint at the edges, and lanes (`maskHi`, `maskLo`, ...) where mappings are made.
 */
export class DmaDevice {
  readonly name: string
  /** Interned name. */
  readonly id: number
  readonly node: DeviceNode
  /** Configuration address in RTAS calls: bus << 16 | devfn << 8. */
  readonly configAddress: number
  readonly buid: bigint
  /** The tables of its partitionable endpoint; undefined where no window was found for it. */
  group: TableGroup | undefined
  readonly #cells: Cells

  constructor(
    journal: Journal,
    given: { name: string; id: number; node: DeviceNode; configAddress: number; buid: bigint },
  ) {
    this.name = given.name
    this.id = given.id
    this.node = given.node
    this.configAddress = given.configAddress
    this.buid = given.buid
    this.#cells = new Cells(journal, keyOf('dma-device', given.name), CELLS)
    this.mask = MASK_32
    this.coherentMask = MASK_32
    this.boundaryMask = MASK_32
    this.segmentBytes = SEGMENT_BYTES_DEFAULT
    this.owner = given.id
  }

  get mask(): bigint {
    return this.#word(MASK)
  }

  set mask(value: bigint) {
    this.#setWord(MASK, value)
  }

  get coherentMask(): bigint {
    return this.#word(COHERENT)
  }

  set coherentMask(value: bigint) {
    this.#setWord(COHERENT, value)
  }

  /** Bus address of memory address 0 where the device reaches memory directly. */
  get dmaOffset(): bigint {
    return this.#word(OFFSET)
  }

  set dmaOffset(value: bigint) {
    this.#setWord(OFFSET, value)
  }

  /** Highest bus address of direct access; 0 for no limit. */
  get busLimit(): bigint {
    return this.#word(LIMIT)
  }

  set busLimit(value: bigint) {
    this.#setWord(LIMIT, value)
  }

  /** A segment must not cross a multiple of this + 1. */
  get boundaryMask(): bigint {
    return this.#word(BOUNDARY)
  }

  /** 0 stands for no boundary at all. */
  set boundaryMask(value: bigint) {
    this.#setWord(BOUNDARY, value === 0n ? NO_BOUNDARY : value)
  }

  get maskHi(): number {
    return this.#cells.get(MASK + 1)
  }

  get maskLo(): number {
    return this.#cells.get(MASK)
  }

  get coherentHi(): number {
    return this.#cells.get(COHERENT + 1)
  }

  get coherentLo(): number {
    return this.#cells.get(COHERENT)
  }

  get offsetHi(): number {
    return this.#cells.get(OFFSET + 1)
  }

  get offsetLo(): number {
    return this.#cells.get(OFFSET)
  }

  get limitHi(): number {
    return this.#cells.get(LIMIT + 1)
  }

  get limitLo(): number {
    return this.#cells.get(LIMIT)
  }

  get boundaryHi(): number {
    return this.#cells.get(BOUNDARY + 1)
  }

  get boundaryLo(): number {
    return this.#cells.get(BOUNDARY)
  }

  get segmentBytes(): number {
    return this.#cells.get(SEGMENT_BYTES) >>> 0
  }

  /** 0 stands for what the DMA API assumes. */
  set segmentBytes(value: number) {
    this.#cells.set(SEGMENT_BYTES, value === 0 ? SEGMENT_BYTES_DEFAULT : value | 0)
  }

  /** Interned word for whom its mappings are: its driver, or the device itself. */
  get owner(): number {
    return this.#cells.get(OWNER)
  }

  set owner(value: number) {
    this.#cells.set(OWNER, value)
  }

  get hasDriver(): boolean {
    return this.#flag(HAS_DRIVER)
  }

  set hasDriver(on: boolean) {
    this.#setFlag(HAS_DRIVER, on)
  }

  /** `dma_ops_bypass`: direct access is there and has no limit. */
  get isBypassed(): boolean {
    return this.#flag(BYPASS)
  }

  set isBypassed(on: boolean) {
    this.#setFlag(BYPASS, on)
  }

  /** Mappings go out directly. */
  get mapsDirectly(): boolean {
    return this.#flag(DIRECT_STREAM)
  }

  /** Coherent memory is reached directly. */
  get allocatesDirectly(): boolean {
    return this.#flag(DIRECT_COHERENT)
  }

  /** Whether a record says that it reaches memory directly. */
  get isToldDirect(): boolean {
    return this.#flag(TOLD_DIRECT)
  }

  set isToldDirect(on: boolean) {
    this.#setFlag(TOLD_DIRECT, on)
  }

  /**
   * Decides which of its masks are wide enough for direct access to memory up to its last page (an address).
   * To be called whenever a mask, the offset, the bypass or the end of memory has changed.
   */
  settle(lastPage: bigint): void {
    const top = BigInt.asUintN(64, this.dmaOffset + lastPage)
    const needed = top === 0n ? 0n : (1n << BigInt(top.toString(2).length)) - 1n
    this.#setFlag(DIRECT_STREAM, this.isBypassed && this.mask >= needed)
    this.#setFlag(DIRECT_COHERENT, this.isBypassed && this.coherentMask >= needed)
  }

  /**
   * The table that its mappings come from. A device whose default table is gone uses the dynamic one of its
   * group.
   */
  get table(): IommuTable | undefined {
    return this.group?.tables[this.#cells.get(TABLE)] ?? this.group?.tables[1]
  }

  /** Its mappings come from `group.tables[index]` from now on. */
  useTable(index: 0 | 1): void {
    this.#cells.set(TABLE, index)
  }

  #word(at: number): bigint {
    return wordOf(this.#cells.get(at + 1), this.#cells.get(at))
  }

  #setWord(at: number, value: bigint): void {
    this.#cells.set(at, loOf(value))
    this.#cells.set(at + 1, hiOf(value))
  }

  #flag(bit: number): boolean {
    return (this.#cells.get(FLAGS) & bit) !== 0
  }

  #setFlag(bit: number, on: boolean): void {
    const flags = this.#cells.get(FLAGS)
    this.#cells.set(FLAGS, on ? flags | bit : flags & ~bit)
  }
}
