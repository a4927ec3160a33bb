import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import type { DmaSpace } from '../../hw/dma-space.ts'
import type { IommuChange, IommuListener } from '../../hw/iommu-listener.ts'
import type { SpaprTceTable } from '../../hw/spapr-tce-table.ts'
import { TCE_READ, TCE_WRITE } from '../../table/tce-entry.ts'
import type { TceWindow } from '../../table/tce-window.ts'
import { sendUpdate, type UpdateParts } from './vhost-update.ts'

/** Entries of one change that vhost is told of one by one, as QEMU does it. */
const MESSAGES_MAX = 2 ** 20

export interface QemuVhostParts extends UpdateParts {
  readonly name: string
  readonly journal: Journal
  /** The bus that the device is on. */
  readonly space: DmaSpace
  /** A bound of the model is met. */
  readonly onUnknown: (why: string) => void
}

/**
 * What QEMU does for a vhost device behind a vIOMMU of sPAPR: it hears of entries that are taken back, and has vhost
 * forget them; and it translates what vhost misses. It never hears of MAP.
 * (QEMU 7.2 hw/virtio/vhost.c, vhost_iommu_region_add, vhost_iommu_unmap_notify, vhost_device_iotlb_miss;
 * hw/virtio/vhost-backend.c; softmmu/physmem.c, address_space_get_iotlb_entry)
 */
export class QemuVhost implements IommuListener {
  readonly name: string
  readonly wants = 'unmap'
  readonly space: DmaSpace
  /** UPDATEs that vhost has taken since the device was made; who waits for one looks whether there were more. */
  updates = 0
  readonly #parts: QemuVhostParts
  readonly #isStarted: Held<boolean>

  constructor(parts: QemuVhostParts) {
    this.name = parts.name
    this.space = parts.space
    this.#parts = parts
    this.#isStarted = new Held<boolean>(parts.journal, `vhost ${parts.name}`, false, Number)
  }

  get isStarted(): boolean {
    return this.#isStarted.value
  }

  /** The driver of the guest is ready: whoever owns the device tells it of the windows that are open. */
  start(): void {
    this.#isStarted.set(true)
  }

  stop(): void {
    this.#isStarted.set(false)
  }

  /** There is a window. DEVIOTLB_UNMAP is asked for first, which sPAPR refuses. */
  opened(table: SpaprTceTable): void {
    const { name } = this
    const asked = { name, wants: 'device-iotlb', notify: () => undefined } as const
    if (!table.listen(asked)) table.listen(this)
  }

  /** A window is about to close, or the device stops. What vhost has of it stays there. */
  closing(table: SpaprTceTable): void {
    table.unlisten(this)
  }

  notify({ window, first, count }: IommuChange): void {
    const shift = BigInt(window.pageShift)
    const iovaOf = (entry: number): bigint => window.busOffset + (BigInt(entry) << shift)
    if (count > MESSAGES_MAX) {
      this.#parts.onUnknown(`more than ${MESSAGES_MAX} messages to vhost for one call`)
      this.invalidate(iovaOf(first), BigInt(count) << shift)
      return
    }
    for (let i = 0; i < count; i++) this.invalidate(iovaOf(first + i), 1n << shift)
  }

  invalidate(iova: bigint, bytes: bigint): void {
    const { sink, print } = this.#parts
    if (sink.invalidate(iova, bytes) === 0) return
    print('Fail to update device iotlb')
    print('Fail to invalidate device iotlb')
  }

  /** Answers all that vhost waits for. */
  answerMisses(): void {
    const { sink } = this.#parts
    for (let miss = sink.nextMiss(); miss !== undefined; miss = sink.nextMiss()) {
      this.#answer(miss.iova, miss.access)
    }
  }

  /** vhost is given the page of a used ring before it looks: a page that is not translated, it misses later. */
  prefill(iova: bigint): void {
    const { space } = this
    if (space.translate(hiOf(iova), loOf(iova)) && (space.perm & TCE_WRITE) !== 0) this.#update(iova)
  }

  #answer(iova: bigint, access: number): void {
    const need = access === TCE_READ ? TCE_READ : TCE_WRITE
    if (this.space.translateOnly(hiOf(iova), loOf(iova), need)) this.#update(iova)
  }

  /** Sends the translation of an address that was found. */
  #update(iova: bigint): void {
    const { space } = this
    const mask = (1n << BigInt((space.window as TceWindow).pageShift)) - 1n
    const page = BigInt.asUintN(64, wordOf(space.gpaHi, space.gpaLo))
    if (sendUpdate(this.#parts, { iova, mask, page, perm: space.perm })) this.updates++
  }
}
