import { ERRNO_CODES } from '../../bits/codes.ts'
import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import type { Task } from '../../memory/locked-vm.ts'
import type { HwTable, TableGroup, TableGroupOps } from '../../table/hw-table.ts'
import { firmwareOutcome, isStop, type Outcome, unknown } from '../outcome.ts'
import type { SpaprMapping, SpaprParts } from './spapr-mapping.ts'

/** Windows of a container: the one at bus address 0, and the one at 1 << 59. */
export const WINDOWS = 2
const DEFAULT_PAGE_SHIFT = 12

/** What is asked for, nothing checked. */
export interface WindowRequest {
  readonly pageShift: number
  readonly bytes: bigint
  readonly levels: number
}

/** Whose address space is charged, and whose limit counts. */
export interface Payer {
  readonly mm: AddressSpace
  readonly task: Task
}

/** How making a window can end. */
export type CreateOutcome = Outcome<
  | 'no-free-window'
  | 'page-size-unknown'
  | 'bad-geometry'
  | 'limit'
  | 'table-refused'
  | 'no-memory'
  | 'firmware-refused'
  | 'done'
>
/** How making the 32-bit window first can end. */
export type DefaultOutcome = Outcome<
  | 'default-window-refused'
  | 'default-window-limit'
  | 'default-window-memory'
  | 'default-window-firmware'
  | 'done'
>

const hashOf = (tables: readonly (HwTable | null)[]): number =>
  tables.reduce((n, t) => (n * 1_000_003 + (t?.number ?? 0)) | 0, 0)

/** 1ULL << shift as a 64-bit POWER does it: seven bits of the shift count, and 64 and more give 0. */
const powerOf = (shift: number): bigint => ((shift & 127) > 63 ? 0n : 1n << BigInt(shift & 127))

/** The DMA windows of a container: the tables it has, and whether the 32-bit one is still to be made. */
export class SpaprWindows {
  readonly #parts: SpaprParts
  readonly #mapping: SpaprMapping
  readonly #tables: Held<readonly (HwTable | null)[]>
  readonly #isPending: Held<boolean>
  readonly #name: string
  #newest = 0

  constructor(parts: SpaprParts, mapping: SpaprMapping, place: { journal: Journal; name: string }) {
    this.#parts = parts
    this.#mapping = mapping
    this.#name = place.name
    this.#tables = new Held<readonly (HwTable | null)[]>(
      place.journal,
      `${place.name} tables`,
      [null, null],
      hashOf,
    )
    this.#isPending = new Held<boolean>(place.journal, `${place.name} pending`, false, Number)
  }

  get tables(): readonly (HwTable | null)[] {
    return this.#tables.value
  }

  get isPending(): boolean {
    return this.#isPending.value
  }

  setPending(is: boolean): void {
    this.#isPending.set(is)
  }

  put(window: number, table: HwTable | null): void {
    this.#tables.set(this.tables.with(window, table))
  }

  /** The window that has a bus address, or -1. */
  indexOf(address: bigint): number {
    return this.tables.findIndex((table) => {
      if (table === null) return false
      const entry = Number(address >> BigInt(table.pageShift))
      return entry >= table.offset && entry < table.offset + table.entries
    })
  }

  /** Bus address of the window that was made last; for the call that made it. */
  get newestStart(): bigint {
    const table = this.tables[this.#newest] ?? null
    return table === null ? 0n : BigInt(table.offset) << BigInt(table.pageShift)
  }

  /** Programs all windows into a group that comes; where one is refused, none stays. */
  program(ops: TableGroupOps): number {
    for (const [window, table] of this.tables.entries()) {
      const code = table === null ? 0 : ops.setWindow(window, table)
      if (code === 0) continue
      for (let i = 0; i < WINDOWS; i++) ops.unsetWindow(i)
      return code
    }
    return 0
  }

  /** Takes all windows from a group that goes. The tables stay. */
  unprogram(ops: TableGroupOps): void {
    for (const [window, table] of this.tables.entries()) if (table !== null) ops.unsetWindow(window)
  }

  /** A window for all groups; the first of them makes the table. */
  create(groups: readonly TableGroup[], request: WindowRequest, payer: Payer): CreateOutcome {
    const window = this.tables.indexOf(null)
    if (window < 0) return 'no-free-window'
    const [first] = groups
    if (first === undefined) return unknown('a window for no group')
    if ((first.pageSizes & powerOf(request.pageShift)) === 0n) return 'page-size-unknown'
    if (first.ops === null) return unknown('a window for a group without dynamic windows')
    const table = this.#charge(first.ops, window, request, payer)
    if (typeof table !== 'object' || 'stop' in table) return table
    for (const { ops } of groups) {
      const code = ops?.setWindow(window, table) ?? 0
      if (code === 0) continue
      for (const group of groups) group.ops?.unsetWindow(window)
      this.#free(table, payer.mm)
      if (code === ERRNO_CODES.ENOMEM) return 'no-memory'
      return firmwareOutcome(code, 'firmware-refused')
    }
    this.put(window, table)
    this.#newest = window
    return 'done'
  }

  /** The 32-bit window, where it is still to be made: 4 KiB pages, one level. */
  createDefault(groups: readonly TableGroup[], payer: Payer): DefaultOutcome {
    if (!this.isPending) return 'done'
    const bytes = BigInt(groups[0]?.tce32Bytes ?? 0)
    const made = this.create(groups, { pageShift: DEFAULT_PAGE_SHIFT, bytes, levels: 1 }, payer)
    if (isStop(made)) return made
    if (made === 'limit') return 'default-window-limit'
    if (made === 'no-memory') return 'default-window-memory'
    if (made === 'firmware-refused') return 'default-window-firmware'
    if (made !== 'done') return 'default-window-refused'
    this.setPending(false)
    return 'done'
  }

  /** Removes a window: groups first, then what it maps, then its table and charge. */
  remove(groups: readonly TableGroup[], window: number, mm: AddressSpace): void {
    for (const { ops } of groups) ops?.unsetWindow(window)
    this.dispose(window, mm)
  }

  /** What a window maps goes, then its table and charge. No group has it any more. */
  dispose(window: number, mm: AddressSpace): void {
    const table = this.tables[window]
    if (table === null || table === undefined) return
    this.#mapping.clear(table, mm, table.offset, table.entries)
    this.#free(table, mm)
    this.put(window, null)
  }

  /** A table that is paid for, or why there is none. */
  #charge(
    ops: TableGroupOps,
    window: number,
    { pageShift, bytes, levels }: WindowRequest,
    { mm, task }: Payer,
  ): HwTable | Exclude<CreateOutcome, 'done'> {
    const { host, errata } = this.#parts
    const tableBytes = ops.tableBytes(pageShift, bytes, levels)
    if (tableBytes === 0) return 'bad-geometry'
    const pages = Math.floor(tableBytes / host.pageBytes)
    if (mm.locked.add(pages, task) !== 0) return 'limit'
    const table = ops.createTable(window, pageShift, bytes, levels)
    if (typeof table === 'object') return table
    if (!errata.keepsCharge) mm.locked.sub(pages)
    if (table === ERRNO_CODES.ENOMEM) return 'no-memory'
    return table === ERRNO_CODES.EINVAL ? 'table-refused' : unknown(`create_table answers ${table}`)
  }

  #free(table: HwTable, mm: AddressSpace): void {
    const pages = Math.floor(table.allocatedBytes / this.#parts.host.pageBytes)
    table.put(this.#name)
    mm.locked.sub(pages)
  }
}
