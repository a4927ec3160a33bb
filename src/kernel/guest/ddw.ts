import type { Profile } from '../../bits/errata.ts'
import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import { ceilLog2 } from '../../bits/u64.ts'
import { type DdwQuery, type DdwRtas, type DdwTokens, ddwTokens, hasReset } from './ddw-rtas.ts'
import {
  type Cells32,
  DDW_PROPERTY_CELLS,
  type DeviceNode,
  ddwProperty,
  PROP,
  readDdwProperty,
  readDmaWindow,
  type WindowProperty,
} from './device-tree.ts'
import type { DirectWindow } from './direct-window.ts'
import type { DmaDevice } from './dma-device.ts'
import type { GuestLog } from './guest-log.ts'
import type { SystemRam } from './system-ram.ts'
import type { TableGroup } from './table-group.ts'

/** Page shift of each bit of the mask that the query answers; 2 MiB stands out of order (LoPAR, DDW). */
const QUERY_PAGE_SHIFTS = [12, 16, 24, 25, 26, 27, 28, 34, 21] as const
const DEFAULT_PAGE_SHIFT = 12
/** MAX_PHYSMEM_BITS of kernels with 64 KiB and with 4 KiB pages. */
const PHYSMEM_BITS = { 16: 51, 12: 46 } as const

/** Largest page shift of a query's mask; 0 where it has none that is known. */
function ddwPageShift(mask: number): number {
  return QUERY_PAGE_SHIFTS.reduce<number>(
    (best, shift, i) => ((mask >>> i) & 1 ? Math.max(best, shift) : best),
    0,
  )
}

/** A window that a kernel made: this one, or the one before a kexec. */
export interface DdwWindow {
  readonly node: DeviceNode
  readonly property: WindowProperty
  /** It maps memory one to one, and nothing is allocated from it. */
  readonly isDirect: boolean
}

export interface DdwParts {
  readonly rtas: DdwRtas
  readonly direct: DirectWindow
  readonly memory: SystemRam
  readonly log: GuestLog
  readonly journal: Journal
  readonly profile: Profile
  readonly pageShift: 12 | 16
  readonly hasPmemory: boolean
  /** A table for a new dynamic window, empty; undefined where there is no memory for it. */
  readonly makeTable: (group: TableGroup, window: WindowProperty) => boolean
  /** Windows came or went: the numbers that tables have for records may be others now. */
  readonly refresh: () => void
}

/** A run of `enable_ddw` on its way. */
interface Attempt {
  readonly device: DmaDevice
  readonly node: DeviceNode
  readonly group: TableGroup
  defaultRemoved: boolean
  direct: boolean
  windowShift: number
}

const hashWindows = (windows: readonly DdwWindow[]): number =>
  keyOf(...windows.flatMap((w) => [w.node.path, w.property.liobn, w.isDirect ? 1 : 0]))

/**
 * Dynamic DMA windows of the guest kernel: makes a 64-bit window for a device that can use one, keeps it in step
 * with memory that comes and goes. (Linux v6.1 arch/powerpc/platforms/pseries/iommu.c, enable_ddw)
 */
export class Ddw {
  readonly #parts: DdwParts
  /** Newest first. */
  readonly #windows: Held<readonly DdwWindow[]>
  readonly #failed: Held<readonly DeviceNode[]>
  readonly #readsPastProperty: boolean
  readonly #staysDirect: boolean
  readonly #onlinesEverywhere: boolean
  readonly #trustsLength: boolean

  constructor(parts: DdwParts) {
    this.#parts = parts
    this.#windows = new Held<readonly DdwWindow[]>(parts.journal, 'ddw windows', [], hashWindows)
    this.#failed = new Held<readonly DeviceNode[]>(parts.journal, 'ddw failed', [], (nodes) =>
      keyOf(...nodes.map((n) => n.path)),
    )
    this.#readsPastProperty = parts.profile.has('X15')
    this.#staysDirect = parts.profile.has('X16')
    this.#onlinesEverywhere = parts.profile.has('X13')
    this.#trustsLength = parts.profile.has('ddw-known-direct')
  }

  /** Windows that are known now, newest first. */
  get windows(): readonly DdwWindow[] {
    return this.#windows.value
  }

  /**
   * Tries to give a device a 64-bit window. True where it reaches all memory directly afterwards, at
   * `dmaOffset` + address. What fails once for a node is not tried again.
   */
  enable(device: DmaDevice, node: DeviceNode, group: TableGroup): boolean {
    const { memory, hasPmemory } = this.#parts
    const ramShift = ceilLog2(memory.maxBytes)
    const known = this.windows.find((w) => w.node === node)
    const attempt: Attempt = { device, node, group, defaultRemoved: false, direct: false, windowShift: 0 }
    if (known !== undefined) {
      device.dmaOffset = known.property.base
      attempt.windowShift = known.property.windowShift
      const isLarge = attempt.windowShift >= ramShift
      attempt.direct = isLarge && (known.isDirect || this.#trustsLength)
    } else if (!this.#failed.value.includes(node)) {
      const isDone = this.#attempt(attempt, ramShift)
      if (!isDone) {
        if (attempt.defaultRemoved) this.#parts.rtas.reset(device, node)
        this.#failed.set([node, ...this.#failed.value])
        if (!this.#staysDirect) attempt.direct = false
      }
      this.#parts.refresh()
    }
    if (hasPmemory && attempt.direct && attempt.windowShift === ramShift) {
      device.busLimit = BigInt.asUintN(64, device.dmaOffset + (1n << BigInt(ramShift)))
    }
    return attempt.direct
  }

  /**
   * Takes over windows that another kernel left in the device tree. None counts as direct: whatever fills it is
   * not kept up by this kernel. Properties that are too short go.
   */
  adopt(nodes: readonly DeviceNode[]): void {
    for (const name of [PROP.DIRECT64, PROP.DMA64]) {
      for (const node of nodes) {
        const cells = node.cells(name)
        if (cells === undefined) continue
        if (cells.length < DDW_PROPERTY_CELLS) {
          if (ddwTokens(node) !== undefined) node.remove(name)
          continue
        }
        this.#list({ node, property: readDdwProperty(cells), isDirect: false })
      }
    }
  }

  /** Memory is about to come: pages [first, first + pages). Answers 0, or a code that forbids it. */
  goingOnline(first: number, pages: number): number {
    const { direct } = this.#parts
    return this.#concerned(first).reduce((rc, w) => rc | direct.setRange(first, pages, w.property), 0)
  }

  /** Memory is gone, or does not come after all. */
  offline(first: number, pages: number): void {
    for (const w of this.#concerned(first)) this.#parts.direct.clearRange(first, pages, w.property)
  }

  /** A node with its devices is unplugged: its window, direct or dynamic, is emptied and removed. */
  detach(node: DeviceNode): void {
    const tokens = ddwTokens(node)
    const cells = node.cells(PROP.DIRECT64) ?? node.cells(PROP.DMA64)
    if (tokens !== undefined && cells !== undefined && cells.length >= DDW_PROPERTY_CELLS) {
      const property = readDdwProperty(cells)
      this.#parts.direct.clearWindow(property)
      this.#parts.rtas.remove(tokens, property.liobn)
      this.#parts.refresh()
    }
    this.#windows.set(this.windows.filter((w) => w.node !== node))
  }

  /** Windows that memory at a page matters to: direct ones, and only for memory that was announced. */
  #concerned(first: number): readonly DdwWindow[] {
    if (this.#onlinesEverywhere) return this.windows
    const { memory, pageShift } = this.#parts
    const isAnnounced = BigInt(first) << BigInt(pageShift) < memory.maxBytes
    return this.windows.filter((w) => w.isDirect && isAnnounced)
  }

  #list(window: DdwWindow): void {
    this.#windows.set([window, ...this.windows])
  }

  #attempt(attempt: Attempt, ramShift: number): boolean {
    const { rtas } = this.#parts
    const { device, node } = attempt
    const tokens = ddwTokens(node)
    if (tokens === undefined) return false
    let query = rtas.query(device, node, tokens)
    if (query.status !== 0) return false
    if (query.windows === 0) {
      if (!this.#removeDefault(attempt, tokens)) return false
      query = rtas.query(device, node, tokens)
      if (query.status !== 0 || query.windows === 0) return false
    }
    const pageShift = ddwPageShift(query.pageSizes)
    if (pageShift === 0) return false
    this.#plan(attempt, query, pageShift, ramShift)
    return this.#create(attempt, tokens, pageShift)
  }

  /** Makes room for a window where firmware gives one only: the default window goes. */
  #removeDefault(attempt: Attempt, tokens: DdwTokens): boolean {
    const { log, direct, rtas } = this.#parts
    const { node, group } = attempt
    if (group.tables[0]?.isInUse === true) {
      log.warn('the default DMA window is in use and cannot be replaced')
      return false
    }
    const cells = node.cells(PROP.DMA_WINDOW)
    if (cells === undefined || !hasReset(node)) return false
    const property = this.#defaultProperty(node, cells)
    direct.clearWindow(property)
    rtas.remove(tokens, property.liobn)
    attempt.defaultRemoved = true
    return true
  }

  /** The default window as `clearWindow` wants it. With X15 its 20 bytes are read as if they were 24. */
  #defaultProperty(node: DeviceNode, cells: Cells32): WindowProperty {
    if (this.#readsPastProperty) return readDdwProperty(cells)
    const { liobn, base, bytes } = readDmaWindow(node, cells)
    return { liobn, base, pageShift: DEFAULT_PAGE_SHIFT, windowShift: ceilLog2(bytes) }
  }

  /** How large the window shall be, and whether it maps memory directly. */
  #plan(attempt: Attempt, { largest }: DdwQuery, pageShift: number, ramShift: number): void {
    const { hasPmemory, log } = this.#parts
    const physmemShift = PHYSMEM_BITS[this.#parts.pageShift]
    const entriesFor = (shift: number): bigint => 1n << BigInt(Math.max(0, shift - pageShift))
    attempt.windowShift = ramShift
    if (hasPmemory) {
      if (largest >= entriesFor(physmemShift)) attempt.windowShift = physmemShift
      else log.warn('ibm,pmemory is left out: no DMA window is large enough')
    }
    if (largest < entriesFor(attempt.windowShift)) {
      attempt.windowShift = ceilLog2(BigInt.asUintN(64, largest << BigInt(pageShift)))
      return
    }
    attempt.direct =
      !attempt.defaultRemoved ||
      attempt.windowShift === physmemShift ||
      (!hasPmemory && attempt.windowShift === ramShift)
  }

  #create(attempt: Attempt, tokens: DdwTokens, pageShift: number): boolean {
    const { rtas, log } = this.#parts
    const { device, node, group, windowShift } = attempt
    const created = rtas.create(device, tokens, pageShift, windowShift)
    if (created.status !== 0) return false
    this.#parts.refresh()
    const property: WindowProperty = { liobn: created.liobn, base: created.base, pageShift, windowShift }
    const name = attempt.direct ? PROP.DIRECT64 : PROP.DMA64
    node.add(name, ddwProperty(property))
    const rc = attempt.direct ? this.#fill(property) : this.#parts.makeTable(group, property) ? 0 : -1
    if (rc !== 0) {
      if (attempt.direct) {
        log.warn(`memory could not be mapped into the new DMA window: ${rc}`)
        this.#parts.direct.clearWindow(property)
      }
      node.remove(name)
      rtas.remove(tokens, property.liobn)
      return false
    }
    if (!attempt.direct) device.useTable(1)
    if (attempt.defaultRemoved) this.#dropDefault(attempt)
    this.#list({ node, property, isDirect: attempt.direct })
    device.dmaOffset = property.base
    return true
  }

  #fill(property: WindowProperty): number {
    const { direct, memory } = this.#parts
    for (const { first, end } of memory.ranges) {
      const rc = direct.setRange(first, end - first, property)
      if (rc !== 0) return rc
    }
    return 0
  }

  #dropDefault({ group, node }: Attempt): void {
    if (group.tables[0]?.isInUse === true) this.#parts.log.warn('a table with used entries is dropped')
    group.setTable(0, undefined)
    node.remove(PROP.DMA_WINDOW)
  }
}
