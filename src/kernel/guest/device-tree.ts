import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'

/** Names of the properties that DMA set-up reads and writes (LoPAR, ibm,ddw-*; Linux v6.1 pseries/iommu.c). */
export const PROP = {
  /** LIOBN, bus address, bytes of the default window. */
  DMA_WINDOW: 'ibm,dma-window',
  /** RTAS tokens query, create, remove. */
  DDW_APPLICABLE: 'ibm,ddw-applicable',
  /** How many cells follow, the token of reset, 1 where query has six outputs. */
  DDW_EXTENSIONS: 'ibm,ddw-extensions',
  DMA_ADDRESS_CELLS: 'ibm,#dma-address-cells',
  DMA_SIZE_CELLS: 'ibm,#dma-size-cells',
  ADDRESS_CELLS: '#address-cells',
  SIZE_CELLS: '#size-cells',
  /** A window that the kernel made and filled with all memory. */
  DIRECT64: 'linux,direct64-ddr-window-info',
  /** A window that the kernel made and allocates from. */
  DMA64: 'linux,dma64-ddr-window-info',
} as const

/** Properties as lists of 32-bit cells. */
export type Cells32 = readonly number[]
export type Properties = Readonly<Record<string, Cells32>>

/** A node of the device tree as firmware gives it. */
export interface NodeData {
  readonly name: string
  readonly properties?: Properties
}

const hashOf = (properties: ReadonlyMap<string, Cells32>): number =>
  keyOf(...[...properties].flatMap(([name, cells]) => [name, ...cells]))

/** A node of the device tree; its properties change while the kernel runs. */
export class DeviceNode {
  /** Path from the root, without a slash at the end. */
  readonly path: string
  readonly parent: DeviceNode | undefined
  readonly #properties: Held<ReadonlyMap<string, Cells32>>

  constructor(journal: Journal, { name, properties = {} }: NodeData, parent?: DeviceNode) {
    this.path = `${parent?.path ?? ''}/${name}`
    this.parent = parent
    const map: ReadonlyMap<string, Cells32> = new Map(Object.entries(properties))
    this.#properties = new Held(journal, `node ${this.path}`, map, hashOf)
  }

  /** The cells of a property, undefined where the node has none of that name. */
  cells(name: string): Cells32 | undefined {
    return this.#properties.value.get(name)
  }

  add(name: string, cells: Cells32): void {
    this.#properties.set(new Map([...this.#properties.value, [name, cells]]))
  }

  remove(name: string): void {
    this.#properties.set(new Map([...this.#properties.value].filter(([key]) => key !== name)))
  }
}

/** A DMA window as a property describes it. */
export interface WindowProperty {
  readonly liobn: number
  readonly base: bigint
  readonly pageShift: number
  readonly windowShift: number
}

const word = (cells: Cells32, at: number): bigint =>
  (BigInt((cells[at] ?? 0) >>> 0) << 32n) | BigInt((cells[at + 1] ?? 0) >>> 0)

const numberFrom = (cells: Cells32, at: number, count: number): bigint => {
  let value = 0n
  for (let i = 0; i < count; i++) value = (value << 32n) | BigInt((cells[at + i] ?? 0) >>> 0)
  return BigInt.asUintN(64, value)
}

/** Cells of a window that the kernel made: 24 bytes, four of them empty behind the LIOBN. */
export const DDW_PROPERTY_CELLS = 6

/** The property of a window that the kernel made. */
export const ddwProperty = ({ liobn, base, pageShift, windowShift }: WindowProperty): Cells32 => [
  liobn,
  0,
  Number(base >> 32n),
  Number(base & 0xffff_ffffn),
  pageShift,
  windowShift,
]

/** Reads cells as the property of a window that the kernel made, whatever they are; missing ones are 0. */
export const readDdwProperty = (cells: Cells32): WindowProperty => ({
  liobn: (cells[0] ?? 0) >>> 0,
  base: word(cells, 2),
  pageShift: (cells[4] ?? 0) >>> 0,
  windowShift: (cells[5] ?? 0) >>> 0,
})

/** Where the default window lies. */
export interface DefaultWindow {
  readonly liobn: number
  readonly base: bigint
  readonly bytes: bigint
}

/** A count of cells that the nearest of a node and those above it says; 2 as at the root of the tree. */
function cellsFrom(from: DeviceNode | undefined, name: string): number {
  for (let node = from; node !== undefined; node = node.parent) {
    const count = node.cells(name)?.[0]
    if (count !== undefined) return count
  }
  return 2
}

/**
 * Reads an ibm,dma-window property with the cell counts of its node. Where the node has none for DMA, its own
 * #address-cells count, but the #size-cells of a node above it. (Linux v6.1 arch/powerpc/kernel/prom_parse.c)
 */
export function readDmaWindow(node: DeviceNode, cells: Cells32): DefaultWindow {
  const addressCells = node.cells(PROP.DMA_ADDRESS_CELLS)?.[0] ?? cellsFrom(node, PROP.ADDRESS_CELLS)
  const sizeCells = node.cells(PROP.DMA_SIZE_CELLS)?.[0] ?? cellsFrom(node.parent, PROP.SIZE_CELLS)
  return {
    liobn: (cells[0] ?? 0) >>> 0,
    base: numberFrom(cells, 1, addressCells),
    bytes: numberFrom(cells, 1 + addressCells, sizeCells),
  }
}

/** A value of ibm,ddw-extensions, or undefined where the firmware does not have the extension. */
export function ddwExtension(node: DeviceNode, index: number): number | undefined {
  const cells = node.cells(PROP.DDW_EXTENSIONS)
  const count = cells?.[0]
  return count === undefined || count < index ? undefined : cells?.[index]
}

/**
 * The nearest node, from this one upwards, that has a DMA window. A default window and one that a kernel made
 * are equally good here.
 */
export function windowNode(from: DeviceNode): DeviceNode | undefined {
  for (let node: DeviceNode | undefined = from; node !== undefined; node = node.parent) {
    if ([PROP.DMA_WINDOW, PROP.DIRECT64, PROP.DMA64].some((name) => node?.cells(name) !== undefined))
      return node
  }
  return undefined
}
