import { ERRNO_CODES } from '../../src/bits/codes.ts'
import type { DmaDir, HwTable, TableGroup, TableGroupOps } from '../../src/table/hw-table.ts'
import { chargedBytes, tableGeometry } from '../../src/table/ioda-geometry.ts'

const { ENOMEM } = ERRNO_CODES
/** The largest stretch of memory that the kernel gives out at once. */
const BLOCK_BYTES_MAX = 16 * 2 ** 20

/** A table whose entries lie in maps; what is written outside of it is kept apart. */
export class FakeTable implements HwTable {
  readonly number: number
  readonly pageShift: number
  readonly offset: number
  readonly entries: number
  readonly levels: number
  readonly allocatedBytes: number
  readonly hasUserView = true
  readonly leaves: number
  readonly tces = new Map<number, { hpaPage: number; dir: DmaDir }>()
  readonly users = new Map<number, { hi: number; lo: number }>()
  readonly kills: (readonly [number, number])[] = []
  /** Entries outside the table that were asked for. */
  readonly outside: number[] = []
  readonly #hardware = new Set<number>()
  readonly #view = new Set<number>()
  /** Calls that are refused, by what they would do: for the tests of what the kernel does then. */
  refuses: 'xchg' | 'slot' | null = null
  isRunning = false
  oldHpaPage = 0
  oldDir: DmaDir = 0
  userHi = 0
  userLo = 0
  references = 1
  #slot = -1

  constructor(
    number: number,
    at: { pageShift: number; offset: number; entries: number; levels: number; leaves: number; bytes: number },
  ) {
    this.number = number
    this.pageShift = at.pageShift
    this.offset = at.offset
    this.entries = at.entries
    this.levels = at.levels
    this.leaves = at.leaves
    this.allocatedBytes = at.bytes
  }

  xchg(entry: number, hpaPage: number, dir: DmaDir): number {
    if (this.refuses === 'xchg' && dir !== 0) return ENOMEM
    if (entry < this.offset || entry >= this.offset + this.entries) this.outside.push(entry)
    const old = this.tces.get(entry)
    this.oldHpaPage = old?.hpaPage ?? 0
    this.oldDir = old?.dir ?? 0
    if (dir === 0) this.tces.delete(entry)
    else {
      this.#hardware.add(this.#leafOf(entry))
      this.tces.set(entry, { hpaPage, dir: dir === 2 ? 3 : dir })
    }
    return 0
  }

  reaches(entry: number): boolean {
    return this.levels === 1 || this.#hardware.has(this.#leafOf(entry))
  }

  beginRun(): void {
    if (this.isRunning) throw new Error('a run in a run')
    this.isRunning = true
  }

  endRun(): void {
    this.isRunning = false
  }

  kill(entry: number, count: number, calls = 1): void {
    if (this.isRunning) throw new Error('a kill in a run')
    for (let i = 0; i < calls; i++) this.kills.push([entry + i * count, count])
  }

  userSlot(entry: number, alloc: boolean): boolean {
    if (this.levels > 1 && !this.#view.has(this.#leafOf(entry))) {
      if (!alloc || this.refuses === 'slot') return false
      this.#view.add(this.#leafOf(entry))
    }
    if (alloc && this.refuses === 'slot') return false
    this.#slot = entry
    const { hi, lo } = this.users.get(entry) ?? { hi: 0, lo: 0 }
    this.userHi = hi
    this.userLo = lo
    return true
  }

  setUser(hi: number, lo: number): void {
    this.users.set(this.#slot, { hi, lo })
  }

  emptyRun(): number {
    return 0
  }

  userGap(entry: number): number {
    return this.leaves - ((entry - this.offset) % this.leaves)
  }

  get(): void {
    this.references++
  }

  put(): void {
    this.references--
  }

  /** Live entries, as slot: host page and direction. */
  live(): [slot: number, hpaPage: number, dir: DmaDir][] {
    return [...this.tces].map(([entry, { hpaPage, dir }]) => [entry - this.offset, hpaPage, dir])
  }

  #leafOf(entry: number): number {
    return Math.floor((entry - this.offset) / this.leaves)
  }
}

/** A table of the kernel, as P7IOC and pseries lend it to v1 containers. */
export class FakeKernelTable extends FakeTable {
  /** What taking it answers. */
  claimAnswers = 0
  isClaimed = false

  claim(): number {
    if (this.claimAnswers === 0) this.isClaimed = true
    return this.claimAnswers
  }

  unclaim(): void {
    this.isClaimed = false
  }
}

export interface FakeGroupOptions {
  readonly group?: number
  readonly kind?: string
  readonly tce32Bytes?: number
  readonly pageSizes?: bigint
  readonly maxWindows?: number
  readonly hostPageShift?: number
}

/** A PE like one of IODA2: geometry and charges of the real one, no hardware behind it. */
export class FakeGroup implements TableGroup {
  readonly name: string
  readonly group: number
  readonly tce32Start = 0
  readonly tce32Bytes: number
  readonly pageSizes: bigint
  readonly maxWindows: number
  readonly maxLevels = 5
  readonly tables: (FakeTable | null)[] = [null, null]
  ops: TableGroupOps | null
  /** What the next calls answer, where it is not 0. */
  answers: { setWindow?: number; takeOwnership?: number; createTable?: number } = {}
  isOwned = false
  /** All tables that were ever made. */
  readonly made: FakeTable[] = []

  constructor(options: FakeGroupOptions = {}) {
    const { group = 0, kind = 'ioda2', hostPageShift = 16 } = options
    this.name = `pe${group}`
    this.group = group
    this.tce32Bytes = options.tce32Bytes ?? 0x8000_0000
    this.pageSizes = options.pageSizes ?? 0x4021_1000n
    this.maxWindows = options.maxWindows ?? 2
    this.ops = {
      kind,
      tableBytes: (pageShift, windowBytes, levels) =>
        chargedBytes({ pageShift, windowBytes, levels }, hostPageShift),
      createTable: (window, pageShift, windowBytes, levels) =>
        this.#create(window, { pageShift, windowBytes, levels }, hostPageShift),
      setWindow: (window, table) => {
        if (this.answers.setWindow !== undefined) return this.answers.setWindow
        this.tables[window] = table as FakeTable
        table.get(this.name)
        return 0
      },
      unsetWindow: (window) => {
        this.tables[window]?.put()
        this.tables[window] = null
        return 0
      },
      takeOwnership: () => {
        const code = this.answers.takeOwnership ?? 0
        if (code === 0) this.isOwned = true
        return code
      },
      releaseOwnership: () => {
        this.isOwned = false
      },
    }
  }

  #create(
    window: number,
    request: { pageShift: number; windowBytes: bigint; levels: number },
    hostPageShift: number,
  ): HwTable | number {
    if (this.answers.createTable !== undefined) return this.answers.createTable
    const geometry = tableGeometry(request, hostPageShift)
    if (typeof geometry === 'number') return geometry
    if (2 ** geometry.levelShift * 8 > BLOCK_BYTES_MAX) return ENOMEM
    const table = new FakeTable(this.made.length + 1, {
      pageShift: request.pageShift,
      offset: window === 0 ? 0 : 2 ** (59 - request.pageShift),
      entries: geometry.entries,
      levels: geometry.levels,
      leaves: 2 ** geometry.levelShift,
      bytes: chargedBytes(request, hostPageShift),
    })
    this.made.push(table)
    return table
  }
}

/** A PE with a table of the kernel and nothing to make others with (P7IOC, pseries). */
export function kernelTableGroup(
  group: number,
  pageShift = 12,
): { group: FakeGroup; table: FakeKernelTable } {
  const pe = new FakeGroup({ group, maxWindows: 0 })
  pe.ops = null
  const table = new FakeKernelTable(100 + group, {
    pageShift,
    offset: 0,
    entries: 0x80000,
    levels: 1,
    leaves: 0x80000,
    bytes: 0,
  })
  pe.tables[0] = table
  return { group: pe, table }
}
