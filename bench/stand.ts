import { resolveProfile } from '../src/bits/errata.ts'
import { Journal } from '../src/bits/state.ts'
import { Life } from '../src/hw/life.ts'
import { LiobnMap } from '../src/hw/liobn-map.ts'
import { SpaprTceTable, type TableParts, type WindowShape } from '../src/hw/spapr-tce-table.ts'
import { QEMU_ERRATA } from '../src/kernel/qemu/errata.ts'
import { HostMemory } from '../src/memory/host-memory.ts'
import type { TceWindow } from '../src/table/tce-window.ts'
import { KIND } from '../src/trace/event.ts'
import { RecordLog } from '../src/trace/record-log.ts'
import { Stage } from '../src/trace/stage.ts'
import { BUS_HI, PAGE_SHIFT, tceHi, tceLo } from './patterns.ts'

/** Records that are kept: a ring that a second-level cache holds. */
const KEEP_RECORDS = 1 << 15
const RAM_BYTES = 2 ** 37
const MEMORY_BYTES_MAX = 2 ** 30

/** The parts of a machine that most cases need, without a machine around them. */
export class Stand {
  readonly log = new RecordLog({ keepRecords: KEEP_RECORDS })
  readonly stage = new Stage(this.log)
  readonly journal = new Journal()
  readonly profile = resolveProfile(QEMU_ERRATA, 'qemu-7.2')
  readonly liobns = new LiobnMap()
  readonly life = new Life(this.stage, this.journal)
  readonly memory = new HostMemory({
    journal: this.journal,
    ramBytes: RAM_BYTES,
    maxBytes: MEMORY_BYTES_MAX,
  })
  #windows = 0

  constructor() {
    // As in a scenario or a log: what happens comes from a line.
    this.stage.line = 1
    // The ring of records is full before anything is measured: from then on it takes no memory.
    for (let i = 0; i < 2 * KEEP_RECORDS; i++) this.log.append(KIND['memory.write'], -1)
  }

  get tableParts(): TableParts {
    const { stage, journal, life, profile } = this
    return { stage, journal, life, profile, nextWindow: () => ++this.#windows }
  }

  /** A table without a window. */
  closedTable(liobn: number, unit = 'phb0'): SpaprTceTable {
    const table = new SpaprTceTable(liobn, unit, this.tableParts)
    this.liobns.add(table)
    return table
  }

  /** A table with an open window whose entries are all live. */
  table(liobn: number, shape: WindowShape): SpaprTceTable & { window: TceWindow } {
    const table = this.closedTable(liobn)
    table.open(shape)
    const { window } = table
    if (window === null) throw new Error('the window did not open')
    for (let entry = 0; entry < shape.entries; entry++) window.store.set(entry, tceLo(entry), tceHi(entry))
    return table as SpaprTceTable & { window: TceWindow }
  }
}

/** A dynamic window: 64K pages from bus address 2^59 on. */
export const dynamicWindow = (log2Entries: number): WindowShape => ({
  pageShift: PAGE_SHIFT,
  busOffset: BigInt(BUS_HI) << 32n,
  entries: 1 << log2Entries,
})
