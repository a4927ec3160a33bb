import type { Answer } from '../../bits/answer.ts'
import { hex } from '../../bits/u64.ts'
import type { WindowShape } from '../../hw/spapr-tce-table.ts'
import type { TableBacking } from '../../hw/window-watcher.ts'
import type { TceEntries } from '../../table/tce-entries.ts'
import type { TceMapping } from '../ports.ts'
import { MappedEntries } from './mapped-entries.ts'
import { isOk, NO_FD, type QemuProcess } from './qemu-process.ts'

/** Bytes that a table of KVM_CREATE_SPAPR_TCE can span. */
const WINDOW_BYTES_END = 1n << 32n
/** An access through a mapping for which the kernel has no memory. */
const NO_PAGE = 'QEMU uses a mapped TCE table for which there is no memory'

/**
 * TCE tables that QEMU has KVM keep, and maps. Where KVM cannot, QEMU keeps the table itself, and every hypercall for it
 * reaches QEMU. (QEMU 7.2 target/ppc/kvm.c, kvmppc_create_spapr_tce, kvmppc_remove_spapr_tce)
 */
export class KvmTables implements TableBacking {
  readonly #qemu: QemuProcess
  readonly #mapped: (map: string) => TceMapping | undefined
  readonly #keepsOut: boolean

  /**
   * @param mapped the table behind a mapping of the process
   * @param keepsOut tables with listeners are kept out of KVM, whatever it can (remedy `userspace` against B8)
   */
  constructor(qemu: QemuProcess, mapped: (map: string) => TceMapping | undefined, keepsOut = false) {
    this.#qemu = qemu
    this.#mapped = mapped
    this.#keepsOut = keepsOut
  }

  /** Descriptor of the table that holds entries; NO_FD where QEMU holds them itself. */
  fdOf(entries: TceEntries): number {
    return entries instanceof MappedEntries ? entries.fd : NO_FD
  }

  allocate(liobn: number, shape: WindowShape, needsVfio: boolean): TceEntries | null {
    const { vm, hasTables, has64 } = this.#qemu.kvm
    if (vm === NO_FD || !hasTables || (needsVfio && !this.#hearsKvm)) return null
    const made = has64 ? this.#create64(liobn, shape) : this.#create32(liobn, shape)
    if (made === null) return null
    if (!isOk(made)) {
      const what = has64 ? 'TCE64' : 'TCE'
      this.#qemu.print(`KVM: Failed to create ${what} table for liobn ${hex(liobn)}`)
      return null
    }
    return this.#map(liobn, Number(made.outputs['fd']), shape.entries)
  }

  keeps(entries: TceEntries): boolean {
    return entries instanceof MappedEntries && this.#hearsKvm
  }

  /** Whether QEMU takes it that listeners miss nothing of what KVM does to a table. */
  get #hearsKvm(): boolean {
    return this.#qemu.kvm.hasVfio && !this.#keepsOut
  }

  release(entries: TceEntries): boolean {
    if (!(entries instanceof MappedEntries)) return false
    const qemu = this.#qemu
    if (!qemu.isRunning) return true
    qemu.proc('munmap_device', { map: entries.map })
    qemu.proc('close', { fd: BigInt(entries.fd) })
    return true
  }

  #create64(liobn: number, { pageShift, busOffset, entries }: WindowShape): Answer {
    return this.#qemu.ioctl('KVM_CREATE_SPAPR_TCE_64', {
      fd: BigInt(this.#qemu.kvm.vm),
      liobn: BigInt(liobn),
      page_shift: BigInt(pageShift),
      offset: busOffset >> BigInt(pageShift),
      entries: BigInt(entries),
    })
  }

  /** The older call has neither an offset nor a page size, and counts bytes in 32 bits. */
  #create32(liobn: number, { pageShift, busOffset, entries }: WindowShape): Answer | null {
    const bytes = BigInt(entries) << BigInt(pageShift)
    if (bytes >= WINDOW_BYTES_END || busOffset !== 0n) return null
    return this.#qemu.ioctl('KVM_CREATE_SPAPR_TCE', {
      fd: BigInt(this.#qemu.kvm.vm),
      liobn: BigInt(liobn),
      window_bytes: bytes,
    })
  }

  #map(liobn: number, fd: number, entries: number): MappedEntries | null {
    const qemu = this.#qemu
    const map = `tce-${hex(liobn)}-fd${fd}`
    const table = isOk(qemu.proc('mmap_tce', { fd: BigInt(fd), map })) ? this.#mapped(map) : undefined
    if (table === undefined) {
      qemu.print(`KVM: Failed to map TCE table for liobn ${hex(liobn)}`)
      qemu.proc('close', { fd: BigInt(fd) })
      return null
    }
    return new MappedEntries({ fd, map, entries }, table, () => qemu.doNotKnow(NO_PAGE))
  }
}
