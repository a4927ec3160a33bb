import type { Answer, CallHandler, Value } from '../src/bits/answer.ts'
import type { CallDecl } from '../src/bits/call.ts'
import { resolveProfile } from '../src/bits/errata.ts'
import { Journal } from '../src/bits/state.ts'
import { U64_MAX } from '../src/bits/u64.ts'
import type { Judge } from '../src/check/judge.ts'
import type { IodaPe } from '../src/hw/ioda-pe.ts'
import { IodaPhb } from '../src/hw/ioda-phb.ts'
import { PreregisteredMemory } from '../src/kernel/prereg/preregistered-memory.ts'
import { OPEN, VFIO_GROUP_SET_CONTAINER, VFIO_SET_IOMMU } from '../src/kernel/vfio/calls.ts'
import { VFIO_ERRATA } from '../src/kernel/vfio/errata.ts'
import { vfioHandlers } from '../src/kernel/vfio/handlers.ts'
import {
  VFIO_IOMMU_SPAPR_REGISTER_MEMORY,
  VFIO_IOMMU_SPAPR_TCE_CREATE,
} from '../src/kernel/vfio/spapr-calls.ts'
import { spaprErrata } from '../src/kernel/vfio/spapr-errata.ts'
import { SpaprMapping } from '../src/kernel/vfio/spapr-mapping.ts'
import { Vfio } from '../src/kernel/vfio/vfio.ts'
import { completeArguments } from '../src/machine/arguments.ts'
import { Host } from '../src/memory/host.ts'
import { type Process, ProcessTable } from '../src/memory/process.ts'
import type { MultiLevelTable } from '../src/table/multi-level-table.ts'
import { KIND } from '../src/trace/event.ts'
import { RecordLog } from '../src/trace/record-log.ts'
import { Stage } from '../src/trace/stage.ts'
import { check } from './case.ts'
import { PAGE_SHIFT, placeIn } from './patterns.ts'

/** Records that are kept: a ring that a second-level cache holds. */
const KEEP_RECORDS = 1 << 15
const RAM_BYTES = 2 ** 37
const MEMORY_BYTES_MAX = 2 ** 31
const SMALL_PAGE_SHIFT = 12
const HUGE_SHIFT = 21
const GROUP = 2
const V2 = 7n
/** Where QEMU has the memory of its guest, and how much of it: 1 GiB. */
export const GUEST_UA = 0x1_0000_0000n
export const GUEST_PAGES = 1 << 14
export const GUEST_BYTES = GUEST_PAGES * 2 ** PAGE_SHIFT
/** Pages of the guest that cases of DMA use: so few that what they hold stays in a cache. */
export const DATA_PAGES = 512
export const PAGE_BYTES = BigInt(1 << PAGE_SHIFT)
/** Bus address of window 1. */
export const WINDOW_BUS = 1n << 59n

export interface HwStandOptions {
  /** Whether things are recorded once all is set up. */
  readonly records: boolean
  /** Entries of the TCE cache; no bound where it is left out. */
  readonly cacheEntries?: number
  /** A host of 4 KiB pages, with the memory of the guest in huge pages: its tables can have four levels. */
  readonly hasSmallPages?: boolean
}

export interface WindowOptions {
  readonly levels: number
  readonly log2Entries: number
  readonly pageShift?: number
}

/** A POWER host of 64 KiB pages with a PHB4, a PE, and QEMU with 1 GiB in a container of type 2. */
export class HwStand {
  readonly log = new RecordLog({ keepRecords: KEEP_RECORDS })
  readonly stage = new Stage(this.log)
  readonly host: Host
  readonly processes: ProcessTable
  readonly qemu: Process
  readonly memory: PreregisteredMemory
  readonly phb: IodaPhb
  readonly pe: IodaPe
  /** What the container maps and unmaps with. */
  readonly mapping: SpaprMapping
  /** Descriptor of the container. */
  readonly fd: bigint
  readonly #handlers: ReadonlyMap<CallDecl, CallHandler>
  readonly #records: boolean

  constructor({ records, cacheEntries, hasSmallPages = false }: HwStandOptions) {
    const { stage, log } = this
    this.#records = records
    this.host = new Host({
      stage,
      journal: new Journal(),
      pageShift: hasSmallPages ? SMALL_PAGE_SHIFT : PAGE_SHIFT,
      ramBytes: RAM_BYTES,
      maxBytes: MEMORY_BYTES_MAX,
    })
    const { host } = this
    // As in a scenario: what happens comes from a line. And the ring of records is full.
    stage.line = 1
    for (let i = 0; i < 2 * KEEP_RECORDS; i++) log.append(KIND['memory.write'], -1)
    log.on = false
    const processes = new ProcessTable(host)
    this.processes = processes
    this.qemu = processes.spawn('qemu', { memlockBytes: U64_MAX, hasIpcLock: true })
    processes.actor = 'qemu'
    this.memory = new PreregisteredMemory({ host })
    let tables = 0
    this.phb = new IodaPhb({
      name: 'phb0',
      platform: 'PHB4',
      tables: { host, nextTable: () => ++tables },
      ...(cacheEntries !== undefined && { cacheEntries }),
    })
    this.pe = this.phb.addPe({ pe: 5, group: GROUP })
    const profile = resolveProfile(VFIO_ERRATA, 'intended')
    const { memory, pe } = this
    const groups = [{ table: pe, devices: ['0001:01:00.0'] }]
    const vfio = new Vfio({ processes, memory, profile, groups, eeh: null })
    this.mapping = new SpaprMapping(
      { host, memory, errata: spaprErrata(profile), allocates: () => true, hasEeh: false },
      true,
    )
    this.#handlers = new Map(vfioHandlers(vfio).map((h) => [h.decl, h]))
    this.mmap(GUEST_UA, BigInt(GUEST_BYTES), hasSmallPages ? HUGE_SHIFT : 0)
    this.fd = this.#opened('/dev/vfio/vfio')
    this.call(VFIO_GROUP_SET_CONTAINER, { fd: this.#opened(`/dev/vfio/${GROUP}`), container: this.fd })
    this.call(VFIO_SET_IOMMU, { fd: this.fd, type: V2 })
  }

  /** Checkers see everything from here on, the set-up that follows included. */
  watch(judge: Judge): void {
    judge.attach(this.log)
    this.log.on = true
  }

  mmap(address: bigint, bytes: bigint, hugeShift = 0): void {
    const request = { address, bytes, read: true, write: true, fixed: true, noreplace: false, hugeShift }
    this.qemu.mm.mmap(request)
  }

  /** A call as whoever uses a machine makes it; it must succeed. */
  call(decl: CallDecl, args: Record<string, Value>): Answer {
    const answer = this.prepared(decl, args)()
    check(answer.code === 'OK', `${decl.name}: ${answer.code} ${answer.rule}`)
    return answer
  }

  /** The same call again and again, its arguments completed once. */
  prepared(decl: CallDecl, args: Record<string, Value>): () => Answer {
    const handler = this.#handlers.get(decl)
    if (handler === undefined) throw new Error(`${decl.name} has no handler`)
    const complete = completeArguments(decl, args)
    return () => handler.run(complete)
  }

  /** Registers the memory of the guest, and makes window 1; from then on things are recorded, or not. */
  ready({ levels, log2Entries, pageShift = PAGE_SHIFT }: WindowOptions): MultiLevelTable {
    const { fd } = this
    this.call(VFIO_IOMMU_SPAPR_REGISTER_MEMORY, {
      fd,
      vaddr: GUEST_UA,
      bytes: BigInt(GUEST_BYTES),
    })
    this.call(VFIO_IOMMU_SPAPR_TCE_CREATE, {
      fd,
      page_shift: BigInt(pageShift),
      window_bytes: 1n << BigInt(log2Entries + pageShift),
      levels: BigInt(levels),
    })
    this.log.on = this.#records
    const table = this.pe.tables[1] as MultiLevelTable
    check(table.levels === levels && table.entries === 2 ** log2Entries, 'the window is as asked for')
    return table
  }

  /** The region of the guest's memory. */
  get region(): number {
    return this.memory.find(this.qemu.mm, GUEST_UA, BigInt(GUEST_BYTES))
  }

  /** Maps entries [0, live) to the first pages of the guest again and again; each of these begins with its number. */
  fill(table: MultiLevelTable, live: number): void {
    const { mapping, memory, qemu, log, region } = this
    const isOn = log.on
    log.on = false
    for (let from = 0; from < live; from += DATA_PAGES) {
      const count = Math.min(DATA_PAGES, live - from)
      const built = mapping.build(table, qemu.mm, table.offset + from, uaPageOf(0), count, 3)
      check(built === 'done', 'entries are live')
    }
    for (let page = 0; page < DATA_PAGES; page++) {
      const code = memory.toHpa(region, Number(GUEST_UA >> 32n), page << PAGE_SHIFT, PAGE_SHIFT)
      check(code === 0, 'a page is in memory')
      this.host.memory.storeU64be(memory.hpaPage, placeIn(page), page, ~page)
    }
    log.on = isOn
  }

  #opened(path: string): bigint {
    return this.call(OPEN, { path }).outputs['fd'] as bigint
  }
}

/** First 4 KiB page of the guest's page behind an entry: entries go through its memory again and again. */
export const uaPageOf = (entry: number): number =>
  Number(GUEST_UA >> 12n) + (entry & (GUEST_PAGES - 1)) * (1 << (PAGE_SHIFT - 12))
