import { answerNumber } from '../../bits/answer.ts'
import type { RuleOf } from '../../bits/call.ts'
import { hex } from '../../bits/u64.ts'
import type { SpaprPhb } from '../../hw/spapr-phb.ts'
import { KVM_CAP } from '../kvm-numbers.ts'
import { TCE_HCALL_R3 } from '../tce-hcalls.ts'
import type { GuestRam } from './guest-ram.ts'
import { errorText, isOk, type QemuProcess } from './qemu-process.ts'
import type { VfioGroupRef, VfioGroups } from './vfio-groups.ts'
import type { VhostDevices } from './vhost-devices.ts'
import type { VMM_DEVICE_ADD, VMM_DEVICE_DEL, VMM_START } from './vmm-calls.ts'

/** Capabilities that QEMU asks KVM for. (Linux v6.1 include/uapi/linux/kvm.h) */
const { H_PUT_TCE_INDIRECT, H_STUFF_TCE } = TCE_HCALL_R3

/** How QEMU is told to run its guest. */
export interface VmmOptions {
  /** With KVM; else its own translator runs the guest, and every hypercall is QEMU's. */
  readonly hasKvm: boolean
  /** It has KVM answer H_PUT_TCE_INDIRECT and H_STUFF_TCE. */
  readonly hasMultiTce: boolean
  /** log2 of the huge pages behind guest memory; 0 for ordinary pages. */
  readonly hugeShift: number
}

export interface VmmPhb {
  readonly phb: SpaprPhb
  /** Groups below it from the start. */
  readonly groups: readonly VfioGroupRef[]
}

export interface VmmParts {
  readonly qemu: QemuProcess
  readonly ram: GuestRam
  readonly phbs: readonly VmmPhb[]
  readonly groups: VfioGroups
  /** A group of the host by its number, whether there is one or not. */
  readonly groupOf: (number: number) => VfioGroupRef
  readonly vhosts: VhostDevices
  /** Drivers in the guest forget their virtio devices, which are reset. */
  readonly resetVirtio: () => void
  /** Whether the process is there, before QEMU runs in it. */
  readonly isThere: () => boolean
}

/** A set-up step that fails: what QEMU prints before it ends. */
class Failed {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** QEMU on a POWER host: it starts a guest with VFIO devices, resets it, and takes devices in and out. */
export class Vmm {
  readonly qemu: QemuProcess
  readonly phbs: readonly SpaprPhb[]
  readonly #parts: VmmParts
  readonly #options: VmmOptions

  constructor(parts: VmmParts, options: VmmOptions) {
    this.qemu = parts.qemu
    this.phbs = parts.phbs.map(({ phb }) => phb)
    this.#parts = parts
    this.#options = options
  }

  start(): RuleOf<typeof VMM_START> {
    const { qemu } = this
    if (!qemu.isNew) return 'started'
    if (!this.#parts.isThere()) return 'no-such-process'
    qemu.begin()
    const failed = this.#setUp()
    if (failed === undefined) {
      for (const phb of this.phbs) if (qemu.isRunning) phb.reset('power-on')
      return 'done'
    }
    qemu.print(failed.text)
    qemu.end()
    return 'setup-failed'
  }

  reset(): 'not-running' | 'done' {
    if (!this.qemu.isRunning) return 'not-running'
    this.#parts.resetVirtio()
    for (const phb of this.phbs) if (this.qemu.isRunning) phb.reset('system_reset')
    return 'done'
  }

  add(group: number, name: string | undefined): RuleOf<typeof VMM_DEVICE_ADD> {
    const { qemu } = this
    if (!qemu.isRunning) return 'not-running'
    const phb = name === undefined ? this.phbs[0] : this.phbs.find((p) => p.name === name)
    if (phb === undefined) return 'no-such-phb'
    const { groups, groupOf } = this.#parts
    if (groups.find(group) !== undefined) return 'group-added'
    const ref = groupOf(group)
    const wrong = groups.add(phb, ref)
    if (wrong === '') return 'done'
    qemu.print(refusal(ref, wrong))
    return 'setup-failed'
  }

  remove(group: number): RuleOf<typeof VMM_DEVICE_DEL> {
    if (!this.qemu.isRunning) return 'not-running'
    const { groups } = this.#parts
    if (groups.find(group) === undefined) return 'no-such-group'
    groups.remove(group)
    return 'done'
  }

  /** The process has ended: the kernel has taken back what it held, and no window is left. */
  ended(): void {
    const { qemu } = this
    if (!qemu.isRunning) return
    qemu.ended()
    this.#parts.vhosts.ended()
    for (const { tables } of this.phbs) for (const table of tables) table.close('exit')
  }

  #setUp(): Failed | undefined {
    const failed = this.#options.hasKvm ? this.#openKvm() : undefined
    if (failed === undefined) this.#parts.vhosts.open()
    return (
      failed ?? this.#mapRam() ?? (this.#options.hasKvm ? this.#giveToKvm() : undefined) ?? this.#addGroups()
    )
  }

  #openKvm(): Failed | undefined {
    const { qemu } = this
    const kvm = qemu.proc('open', { path: '/dev/kvm' })
    if (!isOk(kvm)) return new Failed(`Could not access KVM kernel module: ${errorText(kvm)}`)
    const fd = kvm.outputs['fd'] as bigint
    const made = qemu.ioctl('KVM_CREATE_VM', { fd, type: 0n })
    if (!isOk(made)) {
      return new Failed(`ioctl(KVM_CREATE_VM) failed: ${-answerNumber(made)} ${errorText(made)}`)
    }
    const vm = made.outputs['fd'] as bigint
    const has = (of: bigint, extension: bigint): boolean =>
      qemu.ioctl('KVM_CHECK_EXTENSION', { fd: of, extension }).code === 'RETURN_1'
    qemu.setKvm({
      vm: Number(vm),
      hasTables: has(fd, KVM_CAP.SPAPR_TCE),
      has64: has(fd, KVM_CAP.SPAPR_TCE_64),
      hasMultiTce: has(fd, KVM_CAP.SPAPR_MULTITCE),
      hasVfio: has(vm, KVM_CAP.SPAPR_TCE_VFIO),
    })
    return undefined
  }

  #mapRam(): Failed | undefined {
    const { qemu, ram } = this.#parts
    const { hugeShift } = this.#options
    const mapped = qemu.proc('mmap', {
      address: ram.uaOf(0n),
      bytes: ram.bytes,
      fixed: true,
      huge_shift: BigInt(hugeShift),
    })
    if (isOk(mapped)) {
      if (!this.#options.hasKvm) this.#showRam()
      return undefined
    }
    const what =
      hugeShift > 0
        ? 'unable to map backing store for guest RAM'
        : "cannot set up guest memory 'ppc_spapr.ram'"
    return new Failed(`${what}: ${errorText(mapped)}`)
  }

  /** Guest memory without KVM is QEMU's alone; with KVM the slot says where it is. */
  #showRam(): void {
    const { qemu, ram } = this.#parts
    const { log, cause } = qemu.stage
    const slot = { gpa: 0n, bytes: ram.bytes, ua: ram.uaOf(0n), owner: qemu.name, present: 1 }
    log.emit('memory.slot', cause < 0 ? null : cause, slot)
  }

  #giveToKvm(): Failed | undefined {
    const { qemu, ram } = this.#parts
    const fd = BigInt(qemu.kvm.vm)
    const slot = qemu.ioctl('KVM_SET_USER_MEMORY_REGION', { fd, bytes: ram.bytes, vaddr: ram.uaOf(0n) })
    if (!isOk(slot)) {
      const place = ['slot=0', 'start=0x0', `size=${hex(ram.bytes)}`].join(', ')
      qemu.print(
        `kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION failed, ${place}: ${errorText(slot)}`,
      )
      qemu.print(`kvm_set_phys_mem: error registering slot: ${errorText(slot)}`)
      qemu.crash('kvm_set_phys_mem: error registering slot')
      return undefined
    }
    const vcpu = qemu.ioctl('KVM_CREATE_VCPU', { fd, id: 0n })
    if (!isOk(vcpu)) return new Failed(`kvm_init_vcpu: kvm_get_vcpu failed (0): ${errorText(vcpu)}`)
    if (!this.#options.hasMultiTce || !qemu.kvm.hasMultiTce) return undefined
    for (const arg0 of [H_PUT_TCE_INDIRECT, H_STUFF_TCE]) {
      if (!isOk(qemu.ioctl('KVM_ENABLE_CAP', { fd, cap: KVM_CAP.PPC_ENABLE_HCALL, arg0, arg1: 1n }))) break
    }
    return undefined
  }

  #addGroups(): Failed | undefined {
    if (!this.qemu.isRunning) return undefined
    for (const { phb, groups } of this.#parts.phbs) {
      for (const group of groups) {
        const wrong = this.#parts.groups.add(phb, group)
        if (wrong !== '') return new Failed(refusal(group, wrong))
      }
    }
    return undefined
  }
}

/** What is printed where a device cannot be had; for a group without devices, of the group. */
const refusal = ({ number, devices }: VfioGroupRef, wrong: string): string =>
  `vfio ${devices[0] ?? `group ${number}`}: ${wrong}`
