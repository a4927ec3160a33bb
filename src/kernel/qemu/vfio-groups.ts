import { type Answer, answerNumber } from '../../bits/answer.ts'
import { Held } from '../../bits/held.ts'
import type { SpaprPhb } from '../../hw/spapr-phb.ts'
import type { SpaprTceTable } from '../../hw/spapr-tce-table.ts'
import type { WindowWatcher } from '../../hw/window-watcher.ts'
import { KVM_DEV_TYPE_VFIO } from '../kvm-numbers.ts'
import { errorText, isOk, NO_FD } from './qemu-process.ts'
import { QemuContainer, type QemuContainerParts, type QemuGroup } from './vfio-container.ts'

const VIABLE = 1n
/** VFIO_SPAPR_TCE_v2_IOMMU and VFIO_SPAPR_TCE_IOMMU: QEMU asks for them after the types of other platforms. */
const [SPAPR_V2, SPAPR_V1] = [7n, 2n]
const TYPES = [3n, 1n, SPAPR_V2, SPAPR_V1]

/** A group of VFIO that a guest may get, with the PCI addresses of its devices. */
export interface VfioGroupRef {
  readonly number: number
  readonly devices: readonly string[]
}

const fdOf = (answer: Answer): bigint => answer.outputs['fd'] as bigint

/**
 * The groups that a guest of QEMU has, in containers below its PHBs. Set-up and its errors are those of vfio-pci, which
 * asks for the group of its device. (QEMU 7.2 hw/vfio/common.c)
 */
export class VfioGroups {
  readonly #parts: QemuContainerParts
  readonly #containers: Held<readonly QemuContainer[]>

  constructor(parts: QemuContainerParts) {
    this.#parts = parts
    this.#containers = new Held<readonly QemuContainer[]>(parts.qemu.journal, 'qemu containers', [], (list) =>
      list.reduce((n, c) => n * 31 + c.fd, 0),
    )
  }

  /** The container of a group, and the group. */
  find(number: number): { readonly container: QemuContainer; readonly group: QemuGroup } | undefined {
    for (const container of this.#containers.value) {
      const group = container.groups.find((g) => g.number === number)
      if (group !== undefined) return { container, group }
    }
    return undefined
  }

  /** Tells the containers below a PHB of its windows, while the process is there. */
  watcherOf(phb: () => SpaprPhb): WindowWatcher {
    const tell = (of: (container: QemuContainer, table: SpaprTceTable) => void) => (table: SpaprTceTable) => {
      for (const container of this.#containers.value) {
        const { qemu } = this.#parts
        if (container.phb === phb() && qemu.isRunning && table.window !== null) of(container, table)
      }
    }
    return {
      opened: tell((container, table) => container.added(table)),
      closing: tell((container, table) => container.removed(table)),
    }
  }

  /** Opens a group and its devices and puts it below a PHB: what is wrong, or nothing. */
  add(phb: SpaprPhb, { number, devices }: VfioGroupRef): string {
    const { qemu } = this.#parts
    const opened = qemu.proc('open', { path: `/dev/vfio/${number}` })
    if (!isOk(opened)) return `failed to open /dev/vfio/${number}: ${errorText(opened)}`
    const fd = fdOf(opened)
    const failed = this.#connect(phb, { number, fd: Number(fd), devices: [] })
    if (failed !== '') {
      if (qemu.isRunning) qemu.proc('close', { fd })
      return failed
    }
    const { container } = this.find(number) as { container: QemuContainer }
    const fds: number[] = []
    let wrong = ''
    for (const name of devices) {
      const device = qemu.ioctl('VFIO_GROUP_GET_DEVICE_FD', { fd, name })
      if (isOk(device)) fds.push(Number(fdOf(device)))
      else wrong = `error getting device from group ${number}: ${errorText(device)}`
      if (wrong !== '') break
    }
    const group = { number, fd: Number(fd), devices: fds }
    container.setGroups(container.groups.map((g) => (g.number === number ? group : g)))
    if (wrong !== '') this.remove(number)
    return wrong
  }

  /** A group goes: its devices, then KVM, the container, and its file. */
  remove(number: number): void {
    const found = this.find(number)
    if (found === undefined) return
    const { qemu } = this.#parts
    const { container, group } = found
    for (const device of group.devices) qemu.proc('close', { fd: BigInt(device) })
    this.#tellKvm('KVM_DEV_VFIO_GROUP_DEL', group, 'remove group', 'from')
    container.setGroups(container.groups.filter((g) => g !== group))
    if (container.groups.length === 0) this.#release(container)
    if (!qemu.isRunning) return
    const left = qemu.ioctl('VFIO_GROUP_UNSET_CONTAINER', { fd: BigInt(group.fd) })
    if (!isOk(left)) qemu.print(`vfio: error disconnecting group ${number} from container`)
    if (container.groups.length === 0) {
      this.#containers.set(this.#containers.value.filter((c) => c !== container))
      qemu.proc('close', { fd: BigInt(container.fd) })
    }
    qemu.proc('close', { fd: BigInt(group.fd) })
  }

  #connect(phb: SpaprPhb, group: QemuGroup): string {
    const { qemu } = this.#parts
    const { number } = group
    const fd = BigInt(group.fd)
    const status = qemu.ioctl('VFIO_GROUP_GET_STATUS', { fd })
    if (!isOk(status)) return `failed to get group ${number} status: ${errorText(status)}`
    if (((status.outputs['flags'] as bigint) & VIABLE) === 0n) return `group ${number} is not viable`
    for (const container of this.#containers.value) {
      if (container.phb !== phb) continue
      const joined = qemu.ioctl('VFIO_GROUP_SET_CONTAINER', { fd, container: BigInt(container.fd) })
      if (!isOk(joined)) continue
      container.setGroups([group, ...container.groups])
      this.#tellKvm('KVM_DEV_VFIO_GROUP_ADD', group, 'add group', 'to')
      return ''
    }
    const wrong = this.#newContainer(phb, group)
    return wrong === '' ? '' : `failed to setup container for group ${number}: ${wrong}`
  }

  #newContainer(phb: SpaprPhb, group: QemuGroup): string {
    const { qemu } = this.#parts
    const opened = qemu.proc('open', { path: '/dev/vfio/vfio' })
    if (!isOk(opened)) return `failed to open /dev/vfio/vfio: ${errorText(opened)}`
    const container = new QemuContainer(this.#parts, phb, Number(fdOf(opened)))
    const wrong = this.#setUp(container, group)
    if (wrong !== '' && qemu.isRunning) qemu.proc('close', { fd: fdOf(opened) })
    return wrong
  }

  #setUp(container: QemuContainer, group: QemuGroup): string {
    const { qemu } = this.#parts
    const fd = BigInt(container.fd)
    const wrong = this.#setIommu(container, group)
    if (wrong !== '') return wrong
    if (container.isV2) container.register()
    else {
      const enabled = qemu.ioctl('VFIO_IOMMU_ENABLE', { fd })
      if (!isOk(enabled)) return `failed to enable container: ${errorText(enabled)}`
    }
    if (container.error !== '') return `RAM memory listener initialization failed: ${container.error}`
    const info = qemu.ioctl('VFIO_IOMMU_SPAPR_TCE_GET_INFO', { fd })
    if (!isOk(info)) {
      if (container.isV2) container.unregister()
      return `VFIO_IOMMU_SPAPR_TCE_GET_INFO failed: ${errorText(info)}`
    }
    container.learn(info)
    const refused = container.isV2 ? container.removeWindow(info.outputs['dma32_start'] as bigint) : ''
    if (refused !== '') return `failed to remove existing window: ${refused}`
    this.#tellKvm('KVM_DEV_VFIO_GROUP_ADD', group, 'add group', 'to')
    container.setGroups([group])
    this.#containers.set([container, ...this.#containers.value])
    container.ready()
    if (container.error === '') return ''
    this.#containers.set(this.#containers.value.filter((c) => c !== container))
    this.#tellKvm('KVM_DEV_VFIO_GROUP_DEL', group, 'remove group', 'from')
    this.#release(container)
    return `memory listener initialization failed: ${container.error}`
  }

  /** v1 where v2 is refused: that both are offered does not say that both work. */
  #setIommu(container: QemuContainer, group: QemuGroup): string {
    const { qemu } = this.#parts
    const fd = BigInt(container.fd)
    qemu.ioctl('VFIO_GET_API_VERSION', { fd })
    const type = TYPES.find(
      (extension) => answerNumber(qemu.ioctl('VFIO_CHECK_EXTENSION', { fd, extension })) > 0,
    )
    if (type === undefined) return 'No available IOMMU models'
    const joined = qemu.ioctl('VFIO_GROUP_SET_CONTAINER', { fd: BigInt(group.fd), container: fd })
    if (!isOk(joined)) return `Failed to set group container: ${errorText(joined)}`
    for (const wanted of type === SPAPR_V2 ? [SPAPR_V2, SPAPR_V1] : [type]) {
      const set = qemu.ioctl('VFIO_SET_IOMMU', { fd, type: wanted })
      if (isOk(set)) {
        container.begin(wanted === SPAPR_V2)
        return ''
      }
      if (wanted !== SPAPR_V2) return `Failed to set iommu for container: ${errorText(set)}`
    }
    return ''
  }

  /** The listeners go: first windows, then registered memory. */
  #release(container: QemuContainer): void {
    for (const table of container.open()) container.removed(table)
    if (container.isV2 && this.#parts.qemu.isRunning) container.unregister()
  }

  /** KVM hears of groups; that it does not is a line on stderr. */
  #tellKvm(call: string, group: QemuGroup, what: string, how: string): void {
    const { qemu } = this.#parts
    const { vm, device } = qemu.kvm
    if (vm === NO_FD) return
    if (device === NO_FD) {
      if (call === 'KVM_DEV_VFIO_GROUP_DEL') return
      const made = qemu.ioctl('KVM_CREATE_DEVICE', { fd: BigInt(vm), type: KVM_DEV_TYPE_VFIO })
      if (!isOk(made)) {
        qemu.print(`Failed to create KVM VFIO device: ${errorText(made)}`)
        return
      }
      qemu.setKvm({ device: Number(made.outputs['device_fd']) })
    }
    const told = qemu.ioctl(call, { fd: BigInt(qemu.kvm.device), group: BigInt(group.fd) })
    if (!isOk(told)) {
      qemu.print(`Failed to ${what} ${group.number} ${how} KVM VFIO device: ${errorText(told)}`)
    }
  }
}
