import { BITMAP_BITS_MAX } from '../../bits/bitmap.ts'
import { Cells, keyOf } from '../../bits/state.ts'
import { ceilLog2 } from '../../bits/u64.ts'
import { BareBackend } from './bare-backend.ts'
import {
  DeviceNode,
  PROP,
  readDdwProperty,
  readDmaWindow,
  type WindowProperty,
  windowNode,
} from './device-tree.ts'
import type { GuestLog } from './guest-log.ts'
import type { GuestKernelOptions, GuestPhb } from './guest-options.ts'
import { IommuTable, type IommuTableShape } from './iommu-table.ts'
import { TableGroup } from './table-group.ts'
import type { TceBackend } from './tce-backend.ts'

const PAGE_SHIFT_4K = 12
/** All bus addresses that TCEs of a machine without a hypervisor cover, and what an ISA bus leaves of them. */
const BARE_BYTES = 0x8000_0000
const BARE_BYTES_BESIDE_ISA = 0x7000_0000
const ISA_WINDOW_BYTES = 0x0800_0000
/** Entry that firmware of an old blade wrote for a free one. */
const FREE_TCE_HI = 0x7fff_ffff

/** The nodes of a PHB: its own, and those of its devices in order. */
export interface PhbNodes {
  readonly phb: GuestPhb
  readonly node: DeviceNode
  readonly deviceNodes: readonly DeviceNode[]
}

/**
 * The tables of a guest kernel: one for every window that the device tree tells of, made at boot, and those of
 * windows that the kernel makes itself. (Linux v6.1 arch/powerpc/platforms/pseries/iommu.c, iommu_init_table)
 */
export class TableSetup {
  readonly phbs: readonly PhbNodes[]
  readonly #options: GuestKernelOptions
  readonly #log: GuestLog
  readonly #groups = new Map<DeviceNode, TableGroup>()
  readonly #phbOf = new Map<DeviceNode, GuestPhb>()
  readonly #made: Cells

  /** @param lpar how entries get to the hypervisor, for PHBs that have one above them */
  constructor(options: GuestKernelOptions, log: GuestLog, lpar: TceBackend) {
    const { journal, ram, stage } = options
    this.#options = options
    this.#log = log
    this.#made = new Cells(journal, keyOf('tables made'), 1)
    this.phbs = options.phbs.map((phb) => {
      const node = new DeviceNode(journal, phb.node)
      const deviceNodes = phb.devices.map((d) => new DeviceNode(journal, d.node ?? { name: d.name }, node))
      const backend = phb.bare === undefined ? lpar : new BareBackend(phb.bare, ram, stage)
      for (const each of [node, ...deviceNodes]) {
        this.#groups.set(each, new TableGroup(journal, each, backend))
        this.#phbOf.set(each, phb)
      }
      return { phb, node, deviceNodes }
    })
  }

  /** All nodes, PHBs before their devices. */
  get nodes(): DeviceNode[] {
    return [...this.#groups.keys()]
  }

  /** Tables that are there now. */
  get tables(): IommuTable[] {
    return [...this.#groups.values()].flatMap((g) => g.tables.filter((t) => t !== undefined))
  }

  groupOf(node: DeviceNode): TableGroup | undefined {
    return this.#groups.get(node)
  }

  phbOf(node: DeviceNode): GuestPhb | undefined {
    return this.#phbOf.get(node)
  }

  /** A table for every default window, and for the windows of another kernel where there is no default one. */
  boot(): void {
    for (const nodes of this.phbs) {
      if (nodes.phb.bare !== undefined) this.#setUpBare(nodes)
      else for (const node of [nodes.node, ...nodes.deviceNodes]) this.#setUpWindow(windowNode(node))
    }
  }

  /** The tables that a device uses. */
  groupFor(node: DeviceNode): TableGroup | undefined {
    if (this.#phbOf.get(node)?.bare !== undefined) return this.#groups.get(node)
    const own = windowNode(node)
    return own && this.#groups.get(own)
  }

  /** A table for a dynamic window. False where there is none. */
  makeDynamic(group: TableGroup, { liobn, base, pageShift, windowShift }: WindowProperty): boolean {
    const entries = entriesOf(windowShift, pageShift)
    if (entries < 1 || entries > BITMAP_BITS_MAX) {
      this.#log.doubt(`a dynamic DMA window of 2^${windowShift} bytes is too large for this model`)
      return false
    }
    const hole = this.#phbOf.get(group.node)?.mmio32
    // The last byte of the hole is taken for the first behind it, as the kernel does.
    const reserved = hole && {
      start: Number(hole.start >> BigInt(pageShift)),
      end: Number(hole.last >> BigInt(pageShift)),
    }
    this.#make(group, 1, { liobn, busOffset: base, pageShift, entries, ...(reserved && { reserved }) })
    return true
  }

  /** Windows came or went: finds out anew which life each table is about. */
  refresh(): void {
    for (const group of this.#groups.values()) {
      if (this.#phbOf.get(group.node)?.bare !== undefined) continue
      for (const table of group.tables) {
        if (table !== undefined) table.window = this.#options.windows.windowOf(table.liobn)
      }
    }
  }

  /** The tables of a node go. */
  drop(node: DeviceNode): void {
    const group = this.#groups.get(node)
    for (const index of [0, 1] as const) {
      if (group?.tables[index]?.isInUse === true) this.#log.warn('a table with used entries is dropped')
      group?.setTable(index, undefined)
    }
  }

  /** The table of a node's window, once. A default window comes before one that another kernel made. */
  #setUpWindow(node: DeviceNode | undefined): void {
    const group = node && this.#groups.get(node)
    if (node === undefined || group === undefined || group.tables[0] !== undefined) return
    const cells = node.cells(PROP.DMA_WINDOW)
    if (cells !== undefined) {
      const { liobn, base, bytes } = readDmaWindow(node, cells)
      const entries = entriesOf(ceilLog2(bytes), PAGE_SHIFT_4K)
      this.#make(group, 0, { liobn, busOffset: base, pageShift: PAGE_SHIFT_4K, entries })
      return
    }
    const made = readDdwProperty(node.cells(PROP.DIRECT64) ?? node.cells(PROP.DMA64) ?? [])
    const { liobn, base, pageShift, windowShift } = made
    this.#make(group, 0, { liobn, busOffset: base, pageShift, entries: entriesOf(windowShift, pageShift) })
  }

  /** Every child of a PHB without a hypervisor gets a part of its bus addresses. */
  #setUpBare({ phb: { bare }, node, deviceNodes }: PhbNodes): void {
    const group = this.#groups.get(node) as TableGroup
    if (this.#options.isKdump !== true) (group.backend as BareBackend).clearArea()
    let base = 0
    if (bare?.hasIsa === true) {
      this.#make(group, 0, bareShape(ISA_WINDOW_BYTES, ISA_WINDOW_BYTES))
      base = 2 * ISA_WINDOW_BYTES
    }
    let bytes = BARE_BYTES
    const most = bare?.hasIsa === true ? BARE_BYTES_BESIDE_ISA : BARE_BYTES
    while (bytes * deviceNodes.length > most) bytes /= 2
    for (const own of deviceNodes) {
      this.#make(this.#groups.get(own) as TableGroup, 0, bareShape(base, bytes))
      base += bytes
    }
  }

  /** iommu_init_table: a table with nothing handed out, and nothing in the window unless a crash left it there. */
  #make(group: TableGroup, index: 0 | 1, shape: IommuTableShape): void {
    const { stage, journal, profile, windows, isKdump } = this.#options
    const number = this.#made.get(0)
    this.#made.set(0, number + 1)
    const table = new IommuTable(shape, {
      stage,
      journal,
      log: this.#log,
      id: `${shape.liobn} ${number}`,
      maskWraps: profile.has('mask-below-window'),
    })
    const bare = this.#phbOf.get(group.node)?.bare
    table.window = bare?.window ?? windows.windowOf(shape.liobn)
    table.reserve()
    if (isKdump === true) this.#markLeft(group.backend, table)
    else group.backend.clear(table, 0, table.entries)
    group.setTable(index, table)
  }

  /** Entries that a crashed kernel left are kept: devices may still use them. */
  #markLeft(backend: TceBackend, table: IommuTable): void {
    if (backend instanceof BareBackend) {
      this.#log.doubt('a kdump kernel on a machine without a hypervisor')
      return
    }
    let used = 0
    let from = -1
    for (let slot = 0; slot <= table.entries; slot++) {
      const isLeft =
        slot < table.entries && backend.get(table, slot) && isLeftEntry(backend.tce.hi, backend.tce.lo)
      if (isLeft) {
        used++
        if (from === -1) from = slot
      } else if (from !== -1) {
        table.markUsed(from, slot)
        from = -1
      }
    }
    if (table.makeRoom(used)) this.#log.warn('the TCE table is full; entries at its end are taken for free')
  }
}

const entriesOf = (windowShift: number, pageShift: number): number =>
  Math.floor(2 ** (windowShift - pageShift))

const bareShape = (base: number, bytes: number): IommuTableShape => ({
  liobn: 0,
  busOffset: BigInt(base),
  pageShift: PAGE_SHIFT_4K,
  entries: bytes >>> PAGE_SHIFT_4K,
  windowFirst: base >>> PAGE_SHIFT_4K,
})

const isLeftEntry = (hi: number, lo: number): boolean =>
  (hi !== 0 || lo !== 0) && !(hi === FREE_TCE_HI && lo === -1)
