import { gpa as gpaFrom, ua as uaFrom } from '../../bits/brand.ts'
import { Held } from '../../bits/held.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import { GuestMemory } from '../../memory/guest-memory.ts'
import type { Host } from '../../memory/host.ts'
import type { Process } from '../../memory/process.ts'
import type { FileTarget, IoctlRefusal } from '../files.ts'
import { TCE_HCALL } from '../tce-hcalls.ts'
import type { GuestTceTable } from './guest-tce-table.ts'
import type { KvmVfioDevice } from './kvm-vfio-device.ts'

/** Hypercalls that the kernel can answer here. */
export const TCE_HCALLS: readonly number[] = [
  TCE_HCALL.H_GET_TCE,
  TCE_HCALL.H_PUT_TCE,
  TCE_HCALL.H_STUFF_TCE,
  TCE_HCALL.H_PUT_TCE_INDIRECT,
]
/** Their bits among those that a VM has answered, in the same order. */
export const HCALL_BITS = { H_GET_TCE: 1, H_PUT_TCE: 2, H_STUFF_TCE: 4, H_PUT_TCE_INDIRECT: 8 } as const
/** Those that it answers from the start. (Linux v6.1 arch/powerpc/kvm/book3s_hv.c, default_hcall_list) */
const DEFAULT_BITS = HCALL_BITS.H_GET_TCE | HCALL_BITS.H_PUT_TCE

/** What the kernel prints where a VM goes whose slots are still being read. (Linux v5.2 kernel/rcu/srcutree.c) */
export const LOCKED_WARNING = 'cleanup_srcu_struct: a reader has never ended'

/** A slot as it was asked for. */
export interface VmSlot {
  readonly slot: number
  readonly gpa: bigint
  readonly bytes: bigint
  readonly vaddr: bigint
}

/**
 * A virtual machine: memory of one address space, VCPUs, TCE tables and a VFIO device. Its files hold it: the VM
 * itself, VCPUs, the device, tables; the last one lets it go, and with it the address space.
 */
export class KvmVm implements FileTarget {
  readonly kind = 'vm'
  readonly number: number
  readonly mm: AddressSpace
  readonly memory: GuestMemory
  readonly #users: Held<number>
  readonly #slots: Held<readonly VmSlot[]>
  readonly #vcpus: Held<readonly number[]>
  /** Bit n: the n-th of TCE_HCALLS is answered. */
  readonly #hcalls: Held<number>
  readonly #isRadix: Held<boolean>
  readonly #tables: Held<readonly GuestTceTable[]>
  readonly #device: Held<KvmVfioDevice | null>
  readonly #isLocked: Held<boolean>
  readonly #host: Host

  constructor(host: Host, number: number, mm: AddressSpace, isRadix: boolean) {
    const { journal } = host
    const name = `vm ${number}`
    const sum = (list: readonly number[]) => list.reduce((n, x) => (n * 31 + x + 1) | 0, 0)
    this.#host = host
    this.number = number
    this.mm = mm
    this.memory = new GuestMemory(host, name)
    this.#users = new Held(journal, `${name} users`, 0, (n) => n)
    this.#slots = new Held<readonly VmSlot[]>(journal, `${name} slots`, [], (s) => sum(s.map((x) => x.slot)))
    this.#vcpus = new Held<readonly number[]>(journal, `${name} vcpus`, [], sum)
    this.#hcalls = new Held<number>(journal, `${name} hcalls`, DEFAULT_BITS, (bits) => bits)
    this.#isRadix = new Held<boolean>(journal, `${name} radix`, isRadix, Number)
    this.#tables = new Held<readonly GuestTceTable[]>(journal, `${name} tables`, [], (t) =>
      sum(t.flatMap((x) => [x.liobnHi, x.liobnLo])),
    )
    this.#device = new Held<KvmVfioDevice | null>(journal, `${name} device`, null, (d) =>
      d === null ? 0 : 1,
    )
    this.#isLocked = new Held<boolean>(journal, `${name} locked`, false, Number)
    mm.grab()
    this.hold()
  }

  get isRadix(): boolean {
    return this.#isRadix.value
  }

  setRadix(is: boolean): void {
    this.#isRadix.set(is)
  }

  get vcpus(): readonly number[] {
    return this.#vcpus.value
  }

  addVcpu(id: number): void {
    this.#vcpus.set([...this.vcpus, id])
  }

  get tables(): readonly GuestTceTable[] {
    return this.#tables.value
  }

  setTables(tables: readonly GuestTceTable[]): void {
    this.#tables.set(tables)
  }

  get device(): KvmVfioDevice | null {
    return this.#device.value
  }

  setDevice(device: KvmVfioDevice | null): void {
    this.#device.set(device)
  }

  /** Whether a reader of the slots has never ended (kvm->srcu): who changes them waits for it. */
  get isLocked(): boolean {
    return this.#isLocked.value
  }

  /** A reader of the slots goes without a word. */
  leaveLocked(): void {
    this.#isLocked.set(true)
  }

  /** Whether the kernel answers a hypercall, by its bit (`HCALL_BITS`). */
  answers(bit: number): boolean {
    return (this.#hcalls.value & bit) !== 0
  }

  setAnswers(hcall: number, is: boolean): void {
    const bit = 1 << TCE_HCALLS.indexOf(hcall)
    this.#hcalls.set(is ? this.#hcalls.value | bit : this.#hcalls.value & ~bit)
  }

  slot(number: number): VmSlot | undefined {
    return this.#slots.value.find((s) => s.slot === number)
  }

  /** Whether another slot has some of these addresses. */
  overlaps({ slot, gpa, bytes }: VmSlot): boolean {
    return this.#slots.value.some((s) => s.slot !== slot && s.gpa < gpa + bytes && gpa < s.gpa + s.bytes)
  }

  /** A slot comes, moves, or goes (without bytes): 0, or the errno of a bound of the model. */
  setSlot(made: VmSlot): number {
    const { slot, gpa, bytes, vaddr } = made
    const before = this.slot(slot)
    const code =
      bytes === 0n
        ? this.memory.removeSlot(slot)
        : before === undefined
          ? this.memory.addSlot({ slot, gpa: gpaFrom(gpa), bytes, mm: this.mm, ua: uaFrom(vaddr) })
          : this.memory.moveSlot(slot, gpaFrom(gpa))
    if (code < 0) return code
    const others = this.#slots.value.filter((s) => s.slot !== slot)
    this.#slots.set(bytes === 0n ? others : [...others, made])
    return 0
  }

  /** A file of it more. */
  hold(): void {
    this.#users.set(this.#users.value + 1)
  }

  /** A file of it fewer; with the last one its memory, its device and the address space go. */
  drop(): void {
    this.#users.set(this.#users.value - 1)
    if (this.#users.value > 0) return
    this.device?.dispose()
    for (const { slot } of this.#slots.value) this.memory.removeSlot(slot)
    this.#slots.set([])
    if (this.isLocked) this.#host.warnOnce(LOCKED_WARNING)
    this.mm.drop()
  }

  released(): void {
    this.drop()
  }

  refusal(process: Process): IoctlRefusal {
    return process.mm === this.mm ? 'unknown' : 'other-vm'
  }
}

/** A file that holds its VM and does no more: a VCPU. */
export class KvmVcpu implements FileTarget {
  readonly kind = 'vcpu'
  readonly vm: KvmVm

  constructor(vm: KvmVm) {
    this.vm = vm
    vm.hold()
  }

  released(): void {
    this.vm.drop()
  }

  /** (v6.1 arch/powerpc/kvm/powerpc.c, kvm_arch_vcpu_ioctl) */
  refusal(process: Process): IoctlRefusal {
    return process.mm === this.vm.mm ? 'invalid' : 'other-vm'
  }
}
