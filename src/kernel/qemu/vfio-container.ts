import type { Answer } from '../../bits/answer.ts'
import { Held } from '../../bits/held.ts'
import { hex } from '../../bits/u64.ts'
import type { SpaprPhb } from '../../hw/spapr-phb.ts'
import type { SpaprTceTable } from '../../hw/spapr-tce-table.ts'
import type { TceWindow } from '../../table/tce-window.ts'
import type { GuestRam } from './guest-ram.ts'
import { planHostWindow } from './host-window.ts'
import type { KvmTables } from './kvm-tables.ts'
import { errorText, isOk, NO_FD, type QemuProcess } from './qemu-process.ts'
import { VfioMapper } from './vfio-mapper.ts'

/** A group that is in the container. */
export interface QemuGroup {
  readonly number: number
  readonly fd: number
  /** Descriptors of its devices. */
  readonly devices: readonly number[]
}

/** Bus addresses [start, end) that the host translates for the container. */
interface HostWindow {
  readonly start: bigint
  readonly end: bigint
}

interface ContainerState {
  readonly isV2: boolean
  readonly pageSizes: bigint
  readonly groups: readonly QemuGroup[]
  readonly windows: readonly HostWindow[]
  /** While it is set up, what cannot be done is an error of the set-up; later QEMU aborts. */
  readonly isReady: boolean
  readonly error: string
}

const NEW: ContainerState = {
  isV2: false,
  pageSizes: 0n,
  groups: [],
  windows: [],
  isReady: false,
  error: '',
}

export interface QemuContainerParts {
  readonly qemu: QemuProcess
  readonly tables: KvmTables
  readonly ram: GuestRam
  /** log2 of the smallest page that backs memory of the guest, and of the system page of the host. */
  readonly ramPageShift: number
  readonly hostPageShift: number
}

const hostWindowOf = ({ busOffset, entries, pageShift }: TceWindow): HostWindow => ({
  start: busOffset,
  end: busOffset + (BigInt(entries) << BigInt(pageShift)),
})

const rangeText = ({ start, end }: HostWindow): string => `[${hex(start)},${hex(end - 1n)}]`

/** The memory region of a TCE table, as QEMU calls it. */
const regionName = ({ liobn }: SpaprTceTable): string => `tce-iommu-${liobn.toString(16)}`

/**
 * A VFIO container as QEMU drives it: a window of the host behind every window of a PHB, and mappings behind its entries
 * as the guest's IOMMU tells of them. (QEMU 7.2 hw/vfio/common.c, hw/vfio/spapr.c)
 */
export class QemuContainer {
  readonly fd: number
  readonly phb: SpaprPhb
  readonly #parts: QemuContainerParts
  readonly #mapper: VfioMapper
  readonly #state: Held<ContainerState>

  constructor(parts: QemuContainerParts, phb: SpaprPhb, fd: number) {
    const { qemu, ram } = parts
    this.fd = fd
    this.phb = phb
    this.#parts = parts
    this.#mapper = new VfioMapper(qemu, ram, fd)
    this.#state = new Held(qemu.journal, `qemu container ${phb.name} ${fd}`, NEW, (s) =>
      s.groups.reduce((n, g) => n * 31 + g.number + 1, s.windows.length * 4 + Number(s.isV2) + 1),
    )
  }

  get isV2(): boolean {
    return this.#state.value.isV2
  }

  get groups(): readonly QemuGroup[] {
    return this.#state.value.groups
  }

  /** What went wrong while it was set up; empty for nothing. */
  get error(): string {
    return this.#state.value.error
  }

  /** The newest group is first. */
  setGroups(groups: readonly QemuGroup[]): void {
    this.#change({ groups })
  }

  /** The kernel drives it from now on. v1 has one window, with pages of 4 KiB; for v2 all memory of the guest is registered. */
  begin(isV2: boolean): void {
    this.#change({ isV2 })
  }

  /** Page sizes of a v2 container, or the only window of a v1 container. */
  learn(info: Answer): void {
    const word = (name: string): bigint => info.outputs[name] as bigint
    if (this.isV2) {
      this.#change({ pageSizes: word('pgsizes') })
      return
    }
    const start = word('dma32_start')
    this.#change({ pageSizes: 0x1000n, windows: [{ start, end: start + word('dma32_bytes') }] })
  }

  /** It is set up: windows that are open are added now, others as they open. */
  ready(): void {
    for (const table of this.open()) this.added(table)
    this.#change({ isReady: true })
  }

  /** Tables of the PHB that have a window, in the order of bus addresses. */
  open(): readonly SpaprTceTable[] {
    const start = ({ window }: SpaprTceTable): bigint => window?.busOffset ?? 0n
    return this.phb.tables
      .filter(({ window }) => window !== null)
      .sort((a, b) => (start(a) < start(b) ? -1 : 1))
  }

  /** All memory of the guest is registered, as one range. */
  register(): void {
    const answer = this.#parts.qemu.ioctl('VFIO_IOMMU_SPAPR_REGISTER_MEMORY', this.#memory)
    // QEMU passes what the ioctl returned, -1, on as the errno.
    if (!isOk(answer)) this.#change({ error: 'Memory registering failed: Operation not permitted' })
  }

  unregister(): void {
    this.#parts.qemu.ioctl('VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY', this.#memory)
  }

  get #memory() {
    const { ram } = this.#parts
    return { fd: BigInt(this.fd), vaddr: ram.uaOf(0n), bytes: ram.bytes }
  }

  /** A window is open: vfio_listener_region_add. */
  added(table: SpaprTceTable): void {
    const window = table.window as TceWindow
    const wanted = hostWindowOf(window)
    const aligned = this.#aligned(wanted)
    if (aligned === undefined) return
    if (this.#isHidden(table, wanted)) return
    if (this.isV2) {
      const failed = this.#addWindow(window, wanted)
      if (failed !== '') {
        this.#fail(table, failed)
        return
      }
      if (!this.#attach(window)) return
    }
    if (!this.#state.value.windows.some(({ start, end }) => start <= aligned.start && aligned.end <= end)) {
      const range = `${hex(aligned.start)}..${hex(aligned.end - 1n)}`
      this.#fail(table, `Container can't map guest IOVA region ${range}`)
      return
    }
    table.listen(this.#mapper)
  }

  /** A window is about to close: vfio_listener_region_del. */
  removed(table: SpaprTceTable): void {
    const window = table.window as TceWindow
    const gone = hostWindowOf(window)
    table.unlisten(this.#mapper)
    const aligned = this.#aligned(gone)
    if (aligned === undefined) return
    this.#mapper.unmap(aligned.start, aligned.end - aligned.start)
    if (!this.isV2) return
    this.removeWindow(gone.start)
    const { windows } = this.#state.value
    const left = windows.filter(({ start, end }) => start !== gone.start || end !== gone.end)
    this.#change({ windows: left })
    if (left.length === windows.length) {
      this.#parts.qemu.abort(
        `vfio_listener_region_del: Cannot delete missing window at ${gone.start.toString(16)}`,
      )
    }
  }

  /** VFIO gives a window up: why it does not, or nothing. */
  removeWindow(start: bigint): string {
    const { qemu } = this.#parts
    const answer = qemu.ioctl('VFIO_IOMMU_SPAPR_TCE_REMOVE', { fd: BigInt(this.fd), start_addr: start })
    if (isOk(answer)) return ''
    qemu.print(`Failed to remove window at ${start.toString(16)}`)
    return errorText(answer)
  }

  /** Where two windows of a PHB meet (Q8) QEMU shows its listeners pieces of them. */
  #isHidden(table: SpaprTceTable, { start, end }: HostWindow): boolean {
    const meets = this.open().some((other) => {
      const its = hostWindowOf(other.window as TceWindow)
      return other !== table && its.start < end && start < its.end
    })
    if (meets) this.#parts.qemu.doNotKnow('windows of a PHB that meet, in front of VFIO')
    return meets
  }

  /** Makes a window of the host behind one of the guest; what is wrong, or nothing. */
  #addWindow(window: TceWindow, wanted: HostWindow): string {
    const { windows } = this.#state.value
    const other = windows.find(({ start, end }) => start < wanted.end && wanted.start < end)
    if (other !== undefined) {
      return `region ${rangeText(wanted)} overlaps with existinghost DMA window ${rangeText(other)}`
    }
    const failed = this.#createWindow(window)
    if (failed !== '') return `Failed to create SPAPR window: ${failed}`
    this.#change({ windows: [wanted, ...this.#state.value.windows] })
    return ''
  }

  #createWindow(window: TceWindow): string {
    const { qemu, ramPageShift, hostPageShift } = this.#parts
    const { pageSizes } = this.#state.value
    const { start, end } = hostWindowOf(window)
    const guestPageShift = window.pageShift
    const plan = planHostWindow({
      guestPageShift,
      bytes: end - start,
      ramPageShift,
      pageSizes,
      hostPageShift,
    })
    if (plan === undefined) {
      const mask = hex(pageSizes)
      qemu.print(
        `Host doesn't support page size ${hex(1n << BigInt(guestPageShift))}, the supported mask is ${mask}`,
      )
      return 'Invalid argument'
    }
    let made: Answer | undefined
    for (let levels = plan.levels; levels <= plan.levelsMax; levels++) {
      made = qemu.ioctl('VFIO_IOMMU_SPAPR_TCE_CREATE', {
        fd: BigInt(this.fd),
        page_shift: BigInt(plan.pageShift),
        window_bytes: end - start,
        levels: BigInt(levels),
      })
      if (isOk(made)) break
    }
    if (made !== undefined && !isOk(made)) {
      qemu.print(`Failed to create a window, ret = -1 (${errorText(made)})`)
      return errorText(made)
    }
    const got = (made?.outputs['start_addr'] ?? 0n) as bigint
    if (got === start) return ''
    this.removeWindow(got)
    qemu.print(`Host doesn't support DMA window at ${start.toString(16)}, must be ${got.toString(16)}`)
    return 'Invalid argument'
  }

  /**
   * Puts the window's table behind the guest's in KVM, for every group. Where KVM cannot keep such tables there is
   * nothing to be done; false where it refuses one, and then nobody maps anything for the window.
   */
  #attach(window: TceWindow): boolean {
    const { qemu, tables } = this.#parts
    const { vm, device, hasVfio } = qemu.kvm
    if (vm === NO_FD || !hasVfio) return true
    const table = tables.fdOf(window.store)
    for (const { fd: group } of this.groups) {
      const answer = qemu.ioctl('KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE', {
        fd: descriptor(device),
        group: BigInt(group),
        table: descriptor(table),
      })
      if (isOk(answer)) continue
      qemu.print(`vfio: failed to setup fd ${table} for a group with fd ${group}: ${errorText(answer)}`)
      return false
    }
    return true
  }

  /** A window as VFIO is asked for it, in whole system pages; undefined where there is none. */
  #aligned({ start, end }: HostWindow): HostWindow | undefined {
    const cut = BigInt.asUintN(64, end) & -(1n << BigInt(this.#parts.hostPageShift))
    return start < cut ? { start, end: cut } : undefined
  }

  /** While the container is set up the first error is kept; later there is no way on. */
  #fail(table: SpaprTceTable, error: string): void {
    const { qemu } = this.#parts
    if (this.#state.value.isReady) {
      qemu.print(error)
      qemu.abort('vfio: DMA mapping failed, unable to continue')
    } else if (this.error === '') this.#change({ error: `Region ${regionName(table)}: ${error}` })
  }

  #change(change: Partial<ContainerState>): void {
    this.#state.set({ ...this.#state.value, ...change })
  }
}

/** A descriptor as ioctls carry it. */
const descriptor = (fd: number): bigint => BigInt.asUintN(32, BigInt(fd))
