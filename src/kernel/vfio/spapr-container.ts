import type { RuleOf } from '../../bits/call.ts'
import { ERRNO_CODES } from '../../bits/codes.ts'
import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import { hiOf, loOf, U64_MAX } from '../../bits/u64.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import type { Process } from '../../memory/process.ts'
import type { DmaDir, HwTable, TableGroup, TableGroupOps } from '../../table/hw-table.ts'
import { firmwareOutcome, type Outcome, unknown } from '../outcome.ts'
import type { VFIO_SET_IOMMU } from './calls.ts'
import type {
  VFIO_IOMMU_ENABLE,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_SPAPR_REGISTER_MEMORY,
  VFIO_IOMMU_SPAPR_TCE_CREATE,
  VFIO_IOMMU_SPAPR_TCE_REMOVE,
  VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY,
  VFIO_IOMMU_UNMAP_DMA,
} from './spapr-calls.ts'
import { SpaprMapping, type SpaprParts } from './spapr-mapping.ts'
import { type DefaultOutcome, SpaprWindows, type WindowRequest } from './spapr-windows.ts'

/** Entries past a table that are followed; what lies there is not known, and the kernel would come upon anything. */
const PAST_TABLE_MAX = 8192

/** How attaching the first group of a driver can end. */
type FirstOutcome = Outcome<
  Exclude<
    RuleOf<typeof VFIO_SET_IOMMU>,
    | 'no-such-process'
    | 'bad-fd'
    | 'wrong-file'
    | 'no-group'
    | 'driver-set'
    | 'type-unknown'
    | 'type-is-extension'
    | 'no-driver-record'
  >
>
/** How attaching a further one can end. */
export type MoreOutcome = Outcome<
  | 'no-dynamic-windows'
  | 'one-group-only'
  | 'groups-differ'
  | 'no-group-record'
  | 'no-window-link'
  | 'firmware-refused'
  | 'done'
>

export interface MapRequest {
  readonly vaddr: bigint
  readonly iova: bigint
  readonly bytes: bigint
  readonly dir: DmaDir
}

const hashGroups = (groups: readonly TableGroup[]): number =>
  groups.reduce((n, g) => (n * 31 + g.group + 1) | 0, 0)
const hashNumbers = (numbers: readonly number[]): number => numbers.reduce((n, r) => (n * 31 + r + 1) | 0, 0)

/**
 * What the SPAPR TCE driver keeps for a container: its groups, its windows, the memory it has registered, and for
 * which address space. v1 charges the 32-bit window once and pins what is mapped; v2 maps registered memory only.
 * (Linux v6.1 and v6.12 drivers/vfio/vfio_iommu_spapr_tce.c, struct tce_container)
 */
export class SpaprContainer {
  readonly isV2: boolean
  readonly windows: SpaprWindows
  readonly #parts: SpaprParts
  readonly #mapping: SpaprMapping
  readonly #isEnabled: Held<boolean>
  readonly #lockedPages: Held<number>
  readonly #mm: Held<AddressSpace | null>
  /** The one that was attached last comes first. */
  readonly #groups: Held<readonly TableGroup[]>
  readonly #regions: Held<readonly number[]>

  constructor(parts: SpaprParts, isV2: boolean, place: { readonly journal: Journal; readonly name: string }) {
    const { journal, name } = place
    this.#parts = parts
    this.isV2 = isV2
    this.#mapping = new SpaprMapping(parts, isV2)
    this.windows = new SpaprWindows(parts, this.#mapping, place)
    this.#isEnabled = new Held<boolean>(journal, `${name} enabled`, false, Number)
    this.#lockedPages = new Held(journal, `${name} locked`, 0, (n) => n | 0)
    this.#mm = new Held<AddressSpace | null>(journal, `${name} mm`, null, (mm) => (mm === null ? 0 : 1))
    this.#groups = new Held<readonly TableGroup[]>(journal, `${name} attached`, [], hashGroups)
    this.#regions = new Held<readonly number[]>(journal, `${name} regions`, [], hashNumbers)
  }

  get isEnabled(): boolean {
    return this.#isEnabled.value
  }

  /** The address space that it keeps books for, from the first call on that needs one. */
  get mm(): AddressSpace | null {
    return this.#mm.value
  }

  /** Attached groups, the last one first. */
  get groups(): readonly TableGroup[] {
    return this.#groups.value
  }

  /** Regions that it has registered, the last one first. */
  get regions(): readonly number[] {
    return this.#regions.value
  }

  /** Whether the container keeps books for somebody else. */
  isOther(process: Process): boolean {
    return this.mm !== null && this.mm !== process.mm
  }

  /** The caller's address space is adopted, unless there is one. */
  adopt(process: Process): AddressSpace {
    if (this.mm !== null) return this.mm
    process.mm.grab()
    this.#mm.set(process.mm)
    return process.mm
  }

  /** A group of those that the driver is made for; the first one decides what the container is. */
  attach(group: TableGroup, process: Process): FirstOutcome {
    if (this.groups.length > 0) return this.attachMore(group)
    const outcome = this.#attachFirst(group, process)
    if (outcome === 'done') this.#groups.set([group])
    return outcome
  }

  /** A group beside others. */
  attachMore(group: TableGroup): MoreOutcome {
    const { ops } = group
    const { usesKernelTables } = this.#parts.errata
    if (this.#lacksWindows(group)) return 'no-dynamic-windows'
    if (usesKernelTables ? ops === null : !this.isV2) return 'one-group-only'
    if (this.groups.some((g) => g.ops?.kind !== ops?.kind)) return 'groups-differ'
    if (!this.#parts.allocates()) return 'no-group-record'
    if (ops === null) return unknown('groups with tables of the kernel in one container')
    const outcome = this.#take(ops)
    if (outcome === 'done') this.#groups.set([group, ...this.groups])
    return outcome
  }

  /** A group goes. Tables that the container made stay, for other groups or for the last one that left. */
  detach(group: TableGroup): void {
    this.#groups.set(this.groups.filter((g) => g !== group))
    const { ops } = group
    if (ops !== null) {
      if (this.#parts.errata.clearsOnDetach) this.#clearAll()
      this.windows.unprogram(ops)
      if (this.#parts.errata.usesKernelTables) ops.releaseOwnership()
      return
    }
    this.#clearAll()
    this.#unclaim()
  }

  /** The last group has left: all that the container has goes. */
  release(): void {
    const { mm } = this
    if (mm !== null) {
      for (const window of this.windows.tables.keys()) this.windows.dispose(window, mm)
      this.#dropRegions()
    }
    this.disable()
    this.#lockedPages.set(0)
    this.windows.setPending(false)
    mm?.drop()
    this.#mm.set(null)
  }

  enable(process: Process): RuleOf<typeof VFIO_IOMMU_ENABLE> {
    if (this.isEnabled) return 'enabled'
    const bytes = this.groups[0]?.tce32Bytes ?? 0
    if (bytes === 0) return 'no-32-bit-window'
    const pages = Math.floor(bytes / this.#parts.host.pageBytes)
    if (this.adopt(process).locked.add(pages, process) !== 0) return 'limit'
    this.#lockedPages.set(pages)
    this.#isEnabled.set(true)
    return 'done'
  }

  /** False where it was not enabled. */
  disable(): boolean {
    if (!this.isEnabled) return false
    this.#isEnabled.set(false)
    this.mm?.locked.sub(this.#lockedPages.value)
    return true
  }

  map(request: MapRequest, process: Process): Outcome<RuleOf<typeof VFIO_IOMMU_MAP_DMA>> {
    const ready = this.#prepare(process)
    if (ready !== 'done') return ready
    const table = this.#tableOf(request.iova)
    if (table === null) return 'no-window'
    const mask = (1n << BigInt(table.pageShift)) - 1n
    if (((request.bytes | request.vaddr) & mask) !== 0n) return 'unaligned'
    if (request.dir === 0) return 'no-direction'
    const { errata } = this.#parts
    if ((request.iova & mask) !== 0n) return errata.returns1 ? 'iova-unaligned-returns-1' : 'iova-unaligned'
    const [entry, count] = entriesOf(table, request)
    if (!errata.mapsPastWindow && entry + count > table.offset + table.entries) return 'past-window'
    const uaPage = Number(request.vaddr >> 12n)
    const built = this.#mapping.build(table, this.adopt(process), entry, uaPage, count, request.dir)
    return built === 'null-pointer'
      ? { stop: 'dead', why: 'kernel access of address 0 in VFIO_IOMMU_MAP_DMA' }
      : built
  }

  unmap(
    request: { readonly iova: bigint; readonly bytes: bigint },
    process: Process,
  ): Outcome<RuleOf<typeof VFIO_IOMMU_UNMAP_DMA>> {
    const ready = this.#prepare(process)
    if (ready !== 'done') return ready
    const table = this.#tableOf(request.iova)
    if (table === null) return 'no-window'
    const mask = (1n << BigInt(table.pageShift)) - 1n
    if ((request.bytes & mask) !== 0n) return 'unaligned'
    const { errata } = this.#parts
    const [entry, count] = entriesOf(table, request)
    const past = Math.max(0, entry + count - (table.offset + table.entries))
    if ((request.iova & mask) !== 0n || (past > 0 && !errata.clearsPastWindow))
      return errata.returns1 ? 'bad-range-returns-1' : 'bad-range'
    const followed = Math.min(past, PAST_TABLE_MAX)
    this.#mapping.clear(table, this.adopt(process), entry, count - past + followed)
    if (past > followed) return unknown(`${past} entries past the table are cleared`)
    return past > 0 ? 'past-window' : 'done'
  }

  register(ua: bigint, bytes: bigint, process: Process): RuleOf<typeof VFIO_IOMMU_SPAPR_REGISTER_MEMORY> {
    const mm = this.adopt(process)
    const { memory } = this.#parts
    if (this.#isUnaligned(ua | bytes)) return 'unaligned'
    if (ua + bytes > U64_MAX) return 'range-wraps'
    let region = memory.get(mm, ua, bytes)
    const isShared = region >= 0
    if (isShared && this.regions.includes(region)) {
      memory.put(region)
      return 'held'
    }
    if (!isShared) region = memory.create(mm, process, ua, bytes)
    if (region < 0 && memory.answer > 0) return 'partly-pinned'
    if (region < 0) return REGISTER_ERRORS[region] ?? 'not-pinnable'
    if (!this.#parts.allocates()) {
      memory.put(region)
      return 'no-entry-record'
    }
    this.#regions.set([region, ...this.regions])
    this.#isEnabled.set(true)
    return isShared ? 'shared' : 'done'
  }

  /** The container has an address space. */
  unregister(mm: AddressSpace, ua: bigint, bytes: bigint): RuleOf<typeof VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY> {
    const { memory, errata } = this.#parts
    if (this.#isUnaligned(ua | bytes)) return 'unaligned'
    let region = memory.find(mm, ua, bytes)
    if (region < 0 && errata.unregistersPart) region = memory.lookup(mm, hiOf(ua), loOf(ua), Number(bytes))
    if (region < 0) return 'not-registered'
    if (!this.regions.includes(region)) return 'not-held'
    const isBack = memory.put(region) === 0
    if (!isBack && !errata.orphansRegions) return 'in-use'
    this.#regions.set(this.regions.filter((r) => r !== region))
    return isBack ? 'done' : 'orphaned'
  }

  create(request: WindowRequest, process: Process): Outcome<RuleOf<typeof VFIO_IOMMU_SPAPR_TCE_CREATE>> {
    const ready = this.#prepare(process)
    if (ready !== 'done') return ready
    return this.windows.create(this.groups, request, { mm: this.adopt(process), task: process })
  }

  remove(address: bigint, process: Process): RuleOf<typeof VFIO_IOMMU_SPAPR_TCE_REMOVE> {
    if (this.windows.isPending && address === 0n) {
      this.windows.setPending(false)
      return 'cancelled'
    }
    const window = this.windows.indexOf(address)
    if (window < 0) return 'no-window'
    this.windows.remove(this.groups, window, this.adopt(process))
    return 'done'
  }

  /** The 32-bit window, if it is still to be made. */
  #prepare(process: Process): DefaultOutcome {
    if (!this.windows.isPending) return 'done'
    return this.windows.createDefault(this.groups, { mm: this.adopt(process), task: process })
  }

  #clearAll(): void {
    for (const table of this.windows.tables) {
      if (table === null || this.mm === null) continue
      this.#mapping.clear(table, this.mm, table.offset, table.entries)
    }
  }

  #dropRegions(): void {
    const { host, memory, errata } = this.#parts
    for (const region of this.regions) {
      if (!errata.losesMapped) {
        memory.leave(region)
        continue
      }
      if (memory.put(region) === 0) continue
      const { log, cause } = host.stage
      log.emit('warning', cause, { layer: 'kernel', text: 'tce_iommu_release: a region is still mapped' })
    }
    this.#regions.set([])
  }

  #tableOf(iova: bigint): HwTable | null {
    return this.windows.tables[this.windows.indexOf(iova)] ?? null
  }

  #isUnaligned(word: bigint): boolean {
    return (word & BigInt(this.#parts.host.pageBytes - 1)) !== 0n
  }

  #lacksWindows(group: TableGroup): boolean {
    return !this.#parts.errata.usesKernelTables && this.isV2 && group.maxWindows === 0
  }

  #attachFirst(group: TableGroup, process: Process): FirstOutcome {
    const { ops } = group
    const { usesKernelTables, isEager } = this.#parts.errata
    if (this.#lacksWindows(group)) return 'no-dynamic-windows'
    if (!this.#parts.allocates()) return 'no-group-record'
    if (ops === null && !usesKernelTables)
      return unknown('a container over tables of the kernel, as Linux 6.4 lends them')
    if (ops === null) return this.isV2 ? 'v2-without-windows' : this.#claim(group)
    if (usesKernelTables && !this.isV2) return 'v1-with-windows'
    const outcome = this.#take(ops)
    if (outcome !== 'done' || !isEager) {
      this.windows.setPending(outcome === 'done')
      return outcome
    }
    const eager = this.#createEagerly(group, process)
    if (eager !== 'done') ops.releaseOwnership()
    return eager
  }

  /** Takes the hardware, where the driver does, and programs the windows that are there. */
  #take(ops: TableGroupOps): Outcome<'no-window-link' | 'firmware-refused' | 'done'> {
    const { usesKernelTables } = this.#parts.errata
    const taken = usesKernelTables ? ops.takeOwnership() : 0
    if (taken !== 0) return unknown(`take_ownership answers ${taken}`)
    const code = this.windows.program(ops)
    if (code === 0) return 'done'
    if (usesKernelTables) ops.releaseOwnership()
    return code === ERRNO_CODES.ENOMEM ? 'no-window-link' : firmwareOutcome(code, 'firmware-refused')
  }

  /** Linux before 4.10: the 32-bit window comes with the first group. */
  #createEagerly(group: TableGroup, process: Process): DefaultOutcome {
    this.windows.setPending(true)
    const outcome = this.windows.createDefault([group], { mm: this.adopt(process), task: process })
    this.windows.setPending(false)
    if (outcome !== 'done') this.release()
    return outcome
  }

  /** v1 before Linux 6.4: the tables of the kernel are used as they are. */
  #claim(group: TableGroup): 'table-cannot-swap' | 'table-in-use' | 'done' {
    for (const [window, table] of group.tables.entries()) {
      const code = table?.claim?.() ?? 0
      if (code !== 0) {
        this.#unclaim()
        return code === ERRNO_CODES.EINVAL ? 'table-cannot-swap' : 'table-in-use'
      }
      this.windows.put(window, table)
    }
    return 'done'
  }

  #unclaim(): void {
    for (const [window, table] of this.windows.tables.entries()) {
      table?.unclaim?.()
      this.windows.put(window, null)
    }
  }
}

const REGISTER_ERRORS: Readonly<Record<number, RuleOf<typeof VFIO_IOMMU_SPAPR_REGISTER_MEMORY>>> = {
  [ERRNO_CODES.ENOMEM]: 'limit',
  [ERRNO_CODES.EFAULT]: 'not-pinnable',
  [ERRNO_CODES.EINVAL]: 'overlap',
}

/** The first entry of a range, and how many; both are whole pages. */
function entriesOf(
  table: HwTable,
  { iova, bytes }: { readonly iova: bigint; readonly bytes: bigint },
): readonly [entry: number, count: number] {
  const shift = BigInt(table.pageShift)
  return [Number(iova >> shift), Number(bytes >> shift)]
}
