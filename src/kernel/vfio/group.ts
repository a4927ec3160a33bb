import type { RuleOf } from '../../bits/call.ts'
import { assert } from '../../bits/errors.ts'
import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import type { TableGroup } from '../../table/hw-table.ts'
import type { EehPort } from '../eeh-port.ts'
import type { FileTarget, GroupFile, IoctlRefusal, OpenFile } from '../files.ts'
import type { Outcome } from '../outcome.ts'
import type { VFIO_GROUP_SET_CONTAINER, VFIO_GROUP_UNSET_CONTAINER } from './calls.ts'
import type { VfioContainer } from './container.ts'

const VIABLE = 1n
const CONTAINER_SET = 2n

/** An IOMMU group as VFIO has it: /dev/vfio/N. */
export interface VfioGroupOptions {
  readonly table: TableGroup
  /** Devices that VFIO drives, by their PCI addresses. */
  readonly devices: readonly string[]
  /** A driver of the kernel that uses the DMA API is bound to another device of the group. */
  readonly hasKernelDriver?: boolean
}

interface GroupParts {
  /** Whether the hardware changes hands with the driver (before Linux 6.4) and not with the container. */
  readonly driverTakesHardware: boolean
  readonly eeh: EehPort | null
}

/**
 * A group: one file at a time, in one container at a time. Its file lives while a descriptor, an open device of it
 * or KVM holds it; the last holder takes it out of its container.
 * (Linux v6.12 drivers/vfio/group.c)
 */
export class VfioGroup implements GroupFile {
  readonly kind = 'group'
  readonly number: number
  readonly table: TableGroup
  readonly devices: readonly string[]
  readonly #hasKernelDriver: boolean
  readonly #driverTakesHardware: boolean
  readonly #eeh: EehPort | null
  readonly #container: Held<VfioContainer | null>
  readonly #file: Held<OpenFile | null>
  /** Names, once for each opening. */
  readonly #openDevices: Held<readonly string[]>

  constructor(options: VfioGroupOptions, journal: Journal, { driverTakesHardware, eeh }: GroupParts) {
    this.table = options.table
    this.number = options.table.group
    this.devices = options.devices
    this.#hasKernelDriver = options.hasKernelDriver ?? false
    this.#driverTakesHardware = driverTakesHardware
    this.#eeh = eeh
    const name = `group ${this.number}`
    this.#container = new Held<VfioContainer | null>(journal, `${name} container`, null, (c) => (c ? 1 : 0))
    this.#file = new Held<OpenFile | null>(journal, `${name} file`, null, (f) => f?.number ?? 0)
    this.#openDevices = new Held<readonly string[]>(journal, `${name} devices`, [], (names) =>
      names.length === 0 ? 0 : keyOf(...names),
    )
  }

  get container(): VfioContainer | null {
    return this.#container.value
  }

  /** Its open file, which may have no descriptor any more. */
  get file(): OpenFile | null {
    return this.#file.value
  }

  /** What VFIO_GROUP_GET_STATUS says. */
  get status(): bigint {
    if (this.container !== null) return VIABLE | CONTAINER_SET
    return this.#hasKernelDriver ? 0n : VIABLE
  }

  opened(file: OpenFile): void {
    this.#file.set(file)
  }

  /** The last holder of its file is gone: no device is open. */
  released(): void {
    this.#file.set(null)
    if (this.container !== null) this.#leave(this.container)
  }

  refusal(): IoctlRefusal {
    return 'unknown'
  }

  setContainer(container: VfioContainer): Outcome<RuleOf<typeof VFIO_GROUP_SET_CONTAINER>> {
    if (this.#hasKernelDriver) return 'dma-owned'
    if (!this.#driverTakesHardware && (this.table.ops?.takeOwnership() ?? 0) !== 0) return 'ownership-refused'
    const outcome = container.join(this)
    if (outcome === 'done') this.#container.set(container)
    else this.#releaseHardware()
    return outcome
  }

  unsetContainer(): RuleOf<typeof VFIO_GROUP_UNSET_CONTAINER> {
    if (this.container === null) return 'not-in-a-container'
    if (this.#openDevices.value.length > 0) return 'device-open'
    this.#leave(this.container)
    return 'done'
  }

  /** Whether somebody has a device of it open. */
  isOpen(device: string): boolean {
    return this.#openDevices.value.includes(device)
  }

  /** A device of it is opened: holds its file. The PE changes hands with the first opening of each device. */
  useDevice(device: string): void {
    this.file?.hold()
    const isFirst = !this.isOpen(device)
    this.#openDevices.set([...this.#openDevices.value, device].sort())
    if (isFirst) this.#eeh?.opened(this.number)
  }

  closeDevice(device: string): void {
    const names = this.#openDevices.value
    this.#openDevices.set(names.toSpliced(names.indexOf(device), 1))
    if (!this.isOpen(device)) this.#eeh?.released(this.number)
    this.file?.drop()
  }

  #leave(container: VfioContainer): void {
    assert(this.#openDevices.value.length === 0, 'a group leaves its container without open devices')
    container.leave(this, () => this.#releaseHardware())
    this.#container.set(null)
  }

  #releaseHardware(): void {
    if (!this.#driverTakesHardware) this.table.ops?.releaseOwnership()
  }
}

/** An open device: holds the file of its group. */
export class VfioDevice implements FileTarget {
  readonly kind = 'device'
  readonly name: string
  readonly group: VfioGroup

  constructor(name: string, group: VfioGroup) {
    this.name = name
    this.group = group
    group.useDevice(name)
  }

  released(): void {
    this.group.closeDevice(this.name)
  }

  refusal(): IoctlRefusal {
    return 'unknown'
  }
}
