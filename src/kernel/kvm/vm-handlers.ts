import type { CallHandler } from '../../bits/answer.ts'
import type { RuleOf } from '../../bits/call.ts'
import { U64_MAX } from '../../bits/u64.ts'
import { SLOTS_MAX } from '../../memory/limits.ts'
import { KVM_CAP, KVM_DEV_TYPE_VFIO } from '../kvm-numbers.ts'
import { type Outcome, type Stop, unknown } from '../outcome.ts'
import type { ProcessCall, StructCall } from '../process-call.ts'
import {
  KVM_CHECK_EXTENSION,
  KVM_CREATE_SPAPR_TCE,
  KVM_CREATE_SPAPR_TCE_64,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_ENABLE_CAP,
  KVM_PPC_CONFIGURE_V3_MMU,
  KVM_SET_USER_MEMORY_REGION,
} from './calls.ts'
import { KVM_CREATE_DEVICE } from './device-calls.ts'
import { chargedPages, hasRoomForRecord, tablePages } from './guest-tce-table.ts'
import { type GuestWindow, windowEntries } from './guest-window.ts'
import type { Kvm } from './kvm.ts'
import { isFound, kvmHandler, targetOf, vmOf } from './kvm-call.ts'
import { KvmVcpu, type KvmVm, TCE_HCALLS } from './kvm-vm.ts'
import { STRUCTS } from './structs.ts'

const PPC_SMT = 64n
const { SPAPR_TCE, SPAPR_MULTITCE, ENABLE_CAP_VM, PPC_ENABLE_HCALL, SPAPR_TCE_64 } = KVM_CAP
const { PPC_MMU_RADIX, SPAPR_TCE_VFIO } = KVM_CAP
const SUPPORTED: readonly bigint[] = [
  ...[SPAPR_TCE, SPAPR_MULTITCE, ENABLE_CAP_VM],
  ...[PPC_ENABLE_HCALL, SPAPR_TCE_64, SPAPR_TCE_VFIO],
]
const UNSUPPORTED: readonly bigint[] = [12n, 83n, 95n, 126n]
const HV_TYPES_MAX = 1n
const PR_TYPE = 2n
/** VCPUs of which every configuration has more. */
const VCPU_IDS = 2048n
const SLOT_PAGES_MAX = 2n ** 31n - 1n
/** XICS and XIVE: the only other devices of HV KVM on powerpc. */
const INTERRUPT_DEVICES: readonly bigint[] = [3n, 9n]
const ONLY_TEST = 1n
const RADIX = 1n
const MMU_FLAGS = 3n
const TABLE_RADIX_SHIFT = 63n
const TABLE_BYTES_MASK = 0x1fn
const TABLE_BYTES_SHIFT_MAX = 24n

/** Erratum `B6`: install_new_memslots waits for a reader that has never ended. What else the host does is not followed. */
const WAITS_FOR_EVER: Stop = {
  stop: 'dead',
  why: 'a change of the memory of a VM waits for ever: a hypercall has left its slots locked',
}

function checkExtension(kvm: Kvm, call: ProcessCall): Outcome<RuleOf<typeof KVM_CHECK_EXTENSION>> {
  const target = kvm.files.find(call.process.name, call.number('fd'))?.target
  if (target?.kind !== 'kvm') {
    const vm = vmOf(kvm, call)
    if (!isFound(vm)) return vm
  }
  const extension = call.u64('extension')
  if (extension === SPAPR_TCE_VFIO && !kvm.hasTceVfio) return 'unsupported'
  if (SUPPORTED.includes(extension) || (extension === PPC_SMT && kvm.hasV3Mmu)) return 'supported'
  if (extension === PPC_MMU_RADIX) return kvm.hasV3Mmu ? 'supported' : 'unsupported'
  return UNSUPPORTED.includes(extension) ? 'unsupported' : unknown(`extension ${extension} of KVM`)
}

function createVm(kvm: Kvm, call: ProcessCall): Outcome<RuleOf<typeof KVM_CREATE_VM>> {
  const found = targetOf(kvm, call, 'kvm')
  if (!isFound(found)) return found
  const { process } = call
  if (!kvm.files.hasRoom(process.name)) return 'too-many-files'
  const type = call.u64('type')
  if (!kvm.onAllocate()) return 'no-memory'
  if (type === PR_TYPE) return unknown('a VM of PR KVM')
  if (type > HV_TYPES_MAX) return 'type-unknown'
  if (!kvm.onAllocate()) return 'no-memory'
  call.handOut(kvm.files.open(process.name, kvm.createVm(process.mm)).fd)
  return 'done'
}

function setSlot(kvm: Kvm, vm: KvmVm, call: StructCall): Outcome<RuleOf<typeof KVM_SET_USER_MEMORY_REGION>> {
  const { struct } = call
  if (!struct.copyIn(STRUCTS.slot.bytes)) return 'bad-pointer'
  const [gpa, bytes, vaddr] = [struct.get('gpa'), struct.get('bytes'), struct.get('vaddr')]
  const flags = struct.get('flags')
  const { pageShift, pageBytes } = kvm.processes.host
  if (flags > 1n) return 'flags-unknown'
  if (((gpa | bytes | vaddr) & BigInt(pageBytes - 1)) !== 0n) return 'unaligned'
  if (!vm.mm.reaches(vaddr, bytes)) return 'vaddr-outside'
  const slot = Number(struct.get('slot'))
  if (slot >= SLOTS_MAX) return 'slot-unknown'
  if (gpa + bytes > U64_MAX) return 'gpa-wraps'
  if (bytes >> BigInt(pageShift) > SLOT_PAGES_MAX) return 'too-many-pages'
  const before = vm.slot(slot)
  if (bytes === 0n && before === undefined) return 'no-such-slot'
  if (flags === 1n) return unknown('a log of dirty pages')
  const made = { slot, gpa, bytes, vaddr }
  if (bytes === 0n) {
    if (!kvm.onAllocate()) return 'no-memory'
    if (vm.isLocked) return WAITS_FOR_EVER
    vm.setSlot(made)
    return 'removed'
  }
  if (before !== undefined) {
    if (before.vaddr !== vaddr || before.bytes !== bytes) return 'reshaped'
    if (before.gpa === gpa) return 'same'
  }
  if (vm.overlaps(made)) return 'overlaps'
  if (!kvm.onAllocate()) return 'no-memory'
  if (before !== undefined && !kvm.onAllocate()) return 'no-memory'
  if (vm.isLocked) return WAITS_FOR_EVER
  if (vm.setSlot(made) < 0) return unknown('a slot of guest memory that is so large or so high')
  return before === undefined ? 'done' : 'moved'
}

function createVcpu(kvm: Kvm, call: ProcessCall): Outcome<RuleOf<typeof KVM_CREATE_VCPU>> {
  const vm = vmOf(kvm, call)
  if (!isFound(vm)) return vm
  const id = call.u64('id')
  if (id >= VCPU_IDS) return unknown('a VCPU with such a number')
  if (!kvm.onAllocate()) return 'no-memory'
  if (vm.vcpus.includes(Number(id))) return kvm.hasV3Mmu ? 'core-taken' : 'id-taken'
  if (!kvm.files.hasRoom(call.process.name)) return 'too-many-files'
  if (!kvm.onAllocate()) return 'no-memory'
  vm.addVcpu(Number(id))
  call.handOut(kvm.files.open(call.process.name, new KvmVcpu(vm)).fd)
  return 'done'
}

function enableCap(vm: KvmVm, { struct }: StructCall): Outcome<RuleOf<typeof KVM_ENABLE_CAP>> {
  if (!struct.copyIn(STRUCTS.cap.bytes)) return 'bad-pointer'
  if (struct.get('flags') !== 0n) return 'flags-unknown'
  if (struct.get('cap') !== PPC_ENABLE_HCALL) return unknown(`capability ${struct.get('cap')} of a VM`)
  const hcall = struct.get('arg0')
  if ((hcall & 3n) !== 0n || struct.get('arg1') > 1n) return 'hcall-invalid'
  if (!TCE_HCALLS.includes(Number(hcall))) return unknown(`hypercall ${hcall} in the kernel`)
  vm.setAnswers(Number(hcall), struct.get('arg1') === 1n)
  return 'done'
}

function configureMmu(kvm: Kvm, vm: KvmVm, { struct }: StructCall): RuleOf<typeof KVM_PPC_CONFIGURE_V3_MMU> {
  if (!struct.copyIn(STRUCTS.mmu.bytes)) return 'bad-pointer'
  if (!kvm.hasV3Mmu) return 'no-v3-mmu'
  const [flags, table] = [struct.get('flags'), struct.get('process_table')]
  if ((flags & ~MMU_FLAGS) !== 0n) return 'flags-unknown'
  if (table >> TABLE_RADIX_SHIFT !== (flags & RADIX)) return 'table-disagrees'
  if ((table & TABLE_BYTES_MASK) > TABLE_BYTES_SHIFT_MAX) return 'table-too-large'
  vm.setRadix((flags & RADIX) !== 0n)
  return 'done'
}

type Made = 'limit' | 'no-memory' | 'liobn-taken' | 'too-many-files' | 'done'

/** Charges, makes and names a table whose shape has been looked at. */
function makeTable(kvm: Kvm, vm: KvmVm, call: ProcessCall, liobn: bigint, asked: GuestWindow): Made {
  const { host } = kvm.processes
  const window = { ...asked, entries: windowEntries(asked.entries, host.pageShift, kvm.backing) }
  const pages = tablePages(window.entries, host.pageShift)
  const charge = chargedPages(pages, host.pageShift)
  const { locked } = vm.mm
  if (locked.add(charge, call.process) !== 0) return 'limit'
  const made = (() => {
    if (!hasRoomForRecord(pages) || !kvm.onAllocate()) return 'no-memory'
    if (vm.tables.some((t) => t.liobn === liobn)) return 'liobn-taken'
    if (!kvm.files.hasRoom(call.process.name)) return 'too-many-files'
    return kvm.onAllocate() ? 'done' : 'no-memory'
  })()
  if (made !== 'done') {
    locked.sub(charge)
    return made
  }
  call.handOut(kvm.files.open(call.process.name, kvm.createTable(vm, liobn, window)).fd)
  return 'done'
}

function createTable32(kvm: Kvm, vm: KvmVm, call: StructCall): RuleOf<typeof KVM_CREATE_SPAPR_TCE> {
  const { struct } = call
  if (!struct.copyIn(STRUCTS.table32.bytes)) return 'bad-pointer'
  const entries = struct.get('window_bytes') >> 12n
  if (entries === 0n) return 'empty'
  return makeTable(kvm, vm, call, struct.get('liobn'), { pageShift: 12, offset: 0n, entries })
}

function createTable64(kvm: Kvm, vm: KvmVm, call: StructCall): RuleOf<typeof KVM_CREATE_SPAPR_TCE_64> {
  const { struct } = call
  if (!struct.copyIn(STRUCTS.table64.bytes)) return 'bad-pointer'
  if (struct.get('flags') !== 0n) return 'flags-unknown'
  const [offset, entries, pageShift] = [struct.get('offset'), struct.get('entries'), struct.get('page_shift')]
  if (entries === 0n) return 'empty'
  if (pageShift < 12n || pageShift > 34n) return 'page-shift'
  if (BigInt.asUintN(64, offset + entries) > U64_MAX >> pageShift) return 'window-wraps'
  return makeTable(kvm, vm, call, struct.get('liobn'), { pageShift: Number(pageShift), offset, entries })
}

function createDevice(kvm: Kvm, vm: KvmVm, call: StructCall): Outcome<RuleOf<typeof KVM_CREATE_DEVICE>> {
  const { struct, process } = call
  if (!struct.copyIn(STRUCTS.device.bytes)) return 'bad-pointer'
  const type = struct.get('type')
  if (INTERRUPT_DEVICES.includes(type)) return unknown(`a device of type ${type} of a VM`)
  if (type !== KVM_DEV_TYPE_VFIO) return 'type-unknown'
  if ((struct.get('flags') & ONLY_TEST) !== 0n)
    return struct.copyOut(STRUCTS.device.bytes) ? 'tested' : 'pointer-not-writable'
  if (!kvm.onAllocate()) return 'no-memory'
  if (vm.device !== null) return 'exists'
  if (!kvm.onAllocate()) return 'no-memory'
  if (!kvm.files.hasRoom(process.name)) return 'too-many-files'
  if (!kvm.onAllocate()) return 'no-memory'
  struct.set('device_fd', BigInt(kvm.files.open(process.name, kvm.createDevice(vm)).fd))
  call.free.push('device_fd')
  return struct.copyOut(STRUCTS.device.bytes) ? 'done' : 'pointer-not-writable'
}

/** Calls of KVM itself and of a VM. */
export function vmHandlers(kvm: Kvm): CallHandler[] {
  type VmDecl =
    | typeof KVM_SET_USER_MEMORY_REGION
    | typeof KVM_PPC_CONFIGURE_V3_MMU
    | typeof KVM_CREATE_SPAPR_TCE
    | typeof KVM_CREATE_SPAPR_TCE_64
    | typeof KVM_CREATE_DEVICE
  const ofVm = <D extends VmDecl>(
    decl: D,
    struct: (typeof STRUCTS)[keyof typeof STRUCTS],
    body: (vm: KvmVm, call: StructCall) => Outcome<RuleOf<D>>,
  ): CallHandler =>
    kvmHandler(
      kvm,
      decl,
      (call) => {
        const vm = vmOf(kvm, call)
        return isFound(vm) ? body(vm, call as StructCall) : vm
      },
      struct,
    )
  return [
    kvmHandler(kvm, KVM_CHECK_EXTENSION, (call) => checkExtension(kvm, call)),
    kvmHandler(kvm, KVM_CREATE_VM, (call) => createVm(kvm, call)),
    kvmHandler(kvm, KVM_CREATE_VCPU, (call) => createVcpu(kvm, call)),
    ofVm(KVM_SET_USER_MEMORY_REGION, STRUCTS.slot, (vm, call) => setSlot(kvm, vm, call)),
    kvmHandler(
      kvm,
      KVM_ENABLE_CAP,
      (call) => {
        const target = kvm.files.find(call.process.name, call.number('fd'))?.target
        if (target?.kind === 'vcpu' && target.refusal(call.process) === 'invalid')
          return unknown('a capability of a VCPU')
        const vm = vmOf(kvm, call)
        return isFound(vm) ? enableCap(vm, call as StructCall) : vm
      },
      STRUCTS.cap,
    ),
    ofVm(KVM_PPC_CONFIGURE_V3_MMU, STRUCTS.mmu, (vm, call) => configureMmu(kvm, vm, call)),
    ofVm(KVM_CREATE_SPAPR_TCE, STRUCTS.table32, (vm, call) => createTable32(kvm, vm, call)),
    ofVm(KVM_CREATE_SPAPR_TCE_64, STRUCTS.table64, (vm, call) => createTable64(kvm, vm, call)),
    ofVm(KVM_CREATE_DEVICE, STRUCTS.device, (vm, call) => createDevice(kvm, vm, call)),
  ]
}
