import type { Profile } from '../../bits/errata.ts'
import type { Journal } from '../../bits/state.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import { Life } from '../../hw/life.ts'
import { LiobnMap } from '../../hw/liobn-map.ts'
import { DDW_PAGE_SIZES, SpaprPhb } from '../../hw/spapr-phb.ts'
import type { TableParts, WindowShape } from '../../hw/spapr-tce-table.ts'
import { VioDevice } from '../../hw/vio-bus.ts'
import type { BusMemory } from '../../memory/ports.ts'
import type { TceWindow } from '../../table/tce-window.ts'
import type { Stage } from '../../trace/stage.ts'
import { PSERIES_DEFAULTS } from '../pseries/description.ts'
import { INFERRED } from './knowledge.ts'

/** Entries of a default window, at most: its size has 32 bits in the device tree. */
const DEFAULT_ENTRIES_MAX = 2 ** 20
const DEFAULT_PAGE_SHIFT = 12

/** PHBs and VIO devices of one log, at most: a damaged LIOBN must not make thousands. */
const UNITS_MAX = 256

export const isPciLiobn = (liobn: number): boolean => liobn >= 0x8000_0000
export const phbIndexOf = (liobn: number): number => (liobn & 0x7fff_ffff) >>> 8
export const windowIndexOf = (liobn: number): number => liobn & 0xff

/**
 * The PHBs and VIO devices of the machine that wrote a log. A log does not list them, so each appears when a
 * line first names it, with QEMU's defaults; its windows open as the lines say.
 */
export class PseriesWindows {
  readonly liobns = new LiobnMap()
  readonly life: Life
  readonly #byIndex = new Map<number, SpaprPhb>()
  readonly #vio = new Map<number, VioDevice>()
  readonly #parts: TableParts
  readonly #memory: BusMemory
  /** The PHBs that have appeared; grows. */
  readonly phbs: SpaprPhb[] = []
  /** Those whose page sizes a query has shown. */
  readonly #taught = new Set<SpaprPhb>()
  #pageShifts: readonly number[] | undefined

  constructor(parts: { stage: Stage; journal: Journal; profile: Profile; memory: BusMemory }) {
    const { stage, journal, profile } = parts
    this.life = new Life(stage, journal)
    this.#memory = parts.memory
    let windows = 0
    const nextWindow = () => ++windows
    this.#parts = { stage, journal, life: this.life, profile, nextWindow }
  }

  /** A query shows which page sizes a PHB offers: it has them, and until they show theirs the others as well. */
  learnPageSizes(phb: SpaprPhb, mask: number): void {
    if (this.#taught.has(phb)) return
    this.#taught.add(phb)
    this.#pageShifts = DDW_PAGE_SIZES.filter((s) => (s.bit & mask) !== 0).map((s) => s.pageShift)
    for (const other of this.phbs) {
      if (other === phb || !this.#taught.has(other)) other.pageShifts = this.#pageShifts
    }
  }

  windowOf(liobn: number): TceWindow | undefined {
    return this.liobns.find(0, liobn | 0)?.window ?? undefined
  }

  /** The PHB with an index; it appears if need be. Undefined where there are too many already. */
  phb(index: number): SpaprPhb | undefined {
    const known = this.#byIndex.get(index)
    if (known !== undefined || this.#byIndex.size + this.#vio.size >= UNITS_MAX || index > 0x7f_ffff)
      return known
    const made = new SpaprPhb(
      {
        name: `phb${index}`,
        index,
        buid: PSERIES_DEFAULTS.buid + BigInt(index),
        pageShifts: this.#pageShifts ?? PSERIES_DEFAULTS.pageShifts,
        hasDdw: true,
        memory: this.#memory,
        liobns: this.liobns,
      },
      this.#parts,
    )
    this.#byIndex.set(index, made)
    this.phbs.push(made)
    return made
  }

  /** The default window of a LIOBN reaches to an entry: it opens anew, with what it held. False where it cannot be so large. */
  grow(liobn: number, entry: number): boolean {
    const phb = isPciLiobn(liobn) ? this.#byIndex.get(phbIndexOf(liobn)) : undefined
    const table = phb?.tables[windowIndexOf(liobn)]
    const window = table?.window ?? undefined
    if (phb === undefined || table === undefined || window === undefined) return false
    const { pageShift, busOffset, entries, store } = window
    const isDefault = pageShift === DEFAULT_PAGE_SHIFT && entries === phb.defaultEntries
    if (!isDefault || busOffset !== phb.defaultBusOffset || entry >= DEFAULT_ENTRIES_MAX) return false
    const held = [...store.live()]
    while (phb.defaultEntries <= entry) phb.defaultEntries *= 2
    table.close('larger than it was taken to be')
    table.open({ pageShift, busOffset, entries: phb.defaultEntries })
    table.isDefault = true
    for (const [at, tce] of held) {
      table.window?.store.set(at, loOf(tce), hiOf(tce))
      table.announce(at, 1, hiOf(tce), loOf(tce), -1, false, INFERRED)
    }
    return true
  }

  /** The LIOBNs of the VIO devices that have appeared. */
  vioLiobns(): IterableIterator<number> {
    return this.#vio.keys()
  }

  /** The PHB with a bus unit id, where it follows QEMU's numbering. */
  phbOfBuid(buid: bigint): SpaprPhb | undefined {
    const index = buid - PSERIES_DEFAULTS.buid
    return index < 0n || index > 0xffffn ? undefined : this.phb(Number(index))
  }

  /** The window of a LIOBN opens anew with a shape that the log shows. False where there can be none. */
  open(liobn: number, shape: WindowShape, why: string): boolean {
    if (shape.pageShift < 12 || shape.pageShift > 51 || shape.entries < 1) return false
    if (shape.entries > PSERIES_DEFAULTS.maxWindowEntries) return false
    if (isPciLiobn(liobn)) this.phb(phbIndexOf(liobn))
    else if (this.windowOf(liobn) === undefined) this.openDefault(liobn)
    const table = this.liobns.find(0, liobn | 0)
    table?.close(why)
    table?.open(shape)
    return table !== undefined
  }

  /** A LIOBN has no window any more. */
  close(liobn: number, why: string): void {
    this.liobns.find(0, liobn | 0)?.close(why)
  }

  /** The default window of a LIOBN opens, empty: the machine starts, or its PHB is reset. */
  openDefault(liobn: number): void {
    if (isPciLiobn(liobn)) {
      this.phb(phbIndexOf(liobn))?.reset('machine-reset')
      return
    }
    let device = this.#vio.get(liobn)
    if (device === undefined) {
      if (this.#byIndex.size + this.#vio.size >= UNITS_MAX || this.liobns.find(0, liobn | 0) !== undefined)
        return
      device = new VioDevice(
        {
          name: `vio@${liobn.toString(16)}`,
          reg: liobn,
          windowBytes: PSERIES_DEFAULTS.vioWindowBytes,
          memory: this.#memory,
          liobns: this.liobns,
        },
        this.#parts,
      )
      this.#vio.set(liobn, device)
    }
    device.reset('machine-reset')
  }
}
