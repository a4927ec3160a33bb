import { createRequire } from 'node:module'
import { VhostIotlb } from '../src/table/vhost-iotlb.ts'

/** Map `entry` covers 8 KiB of each 16 KiB. */
const STRIDE_SHIFT = 14
export const MAP_BYTES = 0x2000
/** Entries below 4 GiB: those above have the next upper lane. */
const ENTRIES_A_LANE_SHIFT = 32 - STRIDE_SHIFT
const PERM = 3

/** What looks up an address that is in no map. */
export const NOTHING = -1

/** Maps by the number of their entry. All sides do the same with them. */
export interface IotlbSide {
  add(entry: number): void
  /** The lower lane of what byte `offset` of an entry is mapped to, or NOTHING. */
  find(entry: number, offset: number): number
  remove(entry: number): void
  clear(): void
}

/** Where an entry is mapped to: another page for each. */
const targetOf = (entry: number): number => (Math.imul(entry, 40503) << 12) | 0

abstract class OurSide {
  readonly iotlb: VhostIotlb

  constructor(limit: number) {
    this.iotlb = new VhostIotlb({ limit, retire: true })
  }

  add(entry: number): void {
    const hi = entry >>> ENTRIES_A_LANE_SHIFT
    const lo = entry << STRIDE_SHIFT
    this.iotlb.addLanes(hi, lo, hi, lo | (MAP_BYTES - 1), 0x7f00, targetOf(entry), PERM)
  }

  remove(entry: number): void {
    const hi = entry >>> ENTRIES_A_LANE_SHIFT
    const lo = entry << STRIDE_SHIFT
    this.iotlb.deleteLanes(hi, lo, hi, lo | (MAP_BYTES - 1))
  }

  clear(): void {
    this.iotlb.reset()
  }
}

/** The IOTLB as it is used: the page cache first. */
export class CachedSide extends OurSide implements IotlbSide {
  find(entry: number, offset: number): number {
    const { iotlb } = this
    const lo = (entry << STRIDE_SHIFT) | offset
    if (!iotlb.at(entry >>> ENTRIES_A_LANE_SHIFT, lo)) return NOTHING
    return (iotlb.addrLo + (lo - iotlb.startLo)) | 0
  }
}

/** Ranges, which go through the tree. */
export class BareSide extends OurSide implements IotlbSide {
  find(entry: number, offset: number): number {
    const { iotlb } = this
    const hi = entry >>> ENTRIES_A_LANE_SHIFT
    const lo = (entry << STRIDE_SHIFT) | offset
    if (!iotlb.firstLanes(hi, lo, hi, lo)) return NOTHING
    return (iotlb.addrLo + (lo - iotlb.startLo)) | 0
  }
}

// A CommonJS module whose default export Node and bundlers show differently.
const { default: BTree } = createRequire(import.meta.url)('sorted-btree') as typeof import('sorted-btree')
const numerically = (a: number, b: number): number => a - b

/** npm sorted-btree by start; the value is the entry. */
export class BtreeSide implements IotlbSide {
  readonly #tree = new BTree<number, number>(undefined, numerically)
  readonly #pair: [number, number] = [0, 0]

  add(entry: number): void {
    this.#tree.set(entry * 2 ** STRIDE_SHIFT, entry)
  }

  find(entry: number, offset: number): number {
    const address = entry * 2 ** STRIDE_SHIFT + offset
    const pair = this.#tree.getPairOrNextLower(address, this.#pair)
    if (pair === undefined || address - pair[0] >= MAP_BYTES) return NOTHING
    return (targetOf(pair[1]) + (address - pair[0])) | 0
  }

  remove(entry: number): void {
    this.#tree.delete(entry * 2 ** STRIDE_SHIFT)
  }

  clear(): void {
    this.#tree.clear()
  }
}

interface ListNode {
  readonly start: number
  readonly last: number
  readonly target: number
  next: ListNode | undefined
}

/** A linked list in the order of starts, each operation from its head: as DPDK's vhost keeps its IOTLB. */
export class ListSide implements IotlbSide {
  #head: ListNode | undefined

  add(entry: number): void {
    const start = entry * 2 ** STRIDE_SHIFT
    let before: ListNode | undefined
    let next = this.#head
    while (next !== undefined && next.start < start) {
      before = next
      next = next.next
    }
    const node = { start, last: start + MAP_BYTES - 1, target: targetOf(entry), next }
    if (before === undefined) this.#head = node
    else before.next = node
  }

  find(entry: number, offset: number): number {
    const address = entry * 2 ** STRIDE_SHIFT + offset
    for (let node = this.#head; node !== undefined; node = node.next) {
      if (address < node.start) return NOTHING
      if (address <= node.last) return (node.target + (address - node.start)) | 0
    }
    return NOTHING
  }

  remove(entry: number): void {
    const start = entry * 2 ** STRIDE_SHIFT
    let before: ListNode | undefined
    for (let node = this.#head; node !== undefined; node = node.next) {
      if (node.start > start) return
      if (node.start === start) {
        if (before === undefined) this.#head = node.next
        else before.next = node.next
        return
      }
      before = node
    }
  }

  clear(): void {
    this.#head = undefined
  }
}
