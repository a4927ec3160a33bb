import type { CallHandler } from '../../bits/answer.ts'
import type { RuleOf } from '../../bits/call.ts'
import type { FileTarget, GroupFile, OpenFile } from '../files.ts'
import { type Outcome, unknown } from '../outcome.ts'
import type { StructCall } from '../process-call.ts'
import { KVM_DEV_VFIO_GROUP_ADD, KVM_DEV_VFIO_GROUP_DEL, KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE } from './calls.ts'
import type { GuestTceTable } from './guest-tce-table.ts'
import type { Kvm } from './kvm.ts'
import { isFound, isOthers, kvmHandler, targetOf } from './kvm-call.ts'
import type { KvmVfioDevice } from './kvm-vfio-device.ts'
import { STRUCTS } from './structs.ts'

const isGroup = (target: FileTarget): target is GroupFile => target.kind === 'group'

/** The file behind a descriptor that a structure names. */
const fileOf = (kvm: Kvm, { process, struct }: StructCall, name: string): OpenFile | undefined =>
  kvm.files.find(process.name, Number(struct.get(name)))

function add(
  kvm: Kvm,
  device: KvmVfioDevice,
  call: StructCall,
): Outcome<RuleOf<typeof KVM_DEV_VFIO_GROUP_ADD>> {
  if (!call.struct.copyIn(STRUCTS.group.bytes)) return 'bad-pointer'
  const file = fileOf(kvm, call, 'group')
  if (file === undefined) return 'group-bad-fd'
  if (file.target.kind === 'device') return unknown('KVM is told of a device of VFIO')
  if (!isGroup(file.target)) return 'not-a-group'
  if (device.has(file)) return 'added'
  if (!kvm.onAllocate()) return 'no-memory'
  device.add(file)
  return 'done'
}

function remove(kvm: Kvm, device: KvmVfioDevice, call: StructCall): RuleOf<typeof KVM_DEV_VFIO_GROUP_DEL> {
  if (!call.struct.copyIn(STRUCTS.group.bytes)) return 'bad-pointer'
  const file = fileOf(kvm, call, 'group')
  if (file === undefined) return 'group-bad-fd'
  if (!device.has(file)) return 'not-added'
  device.remove(file)
  return 'done'
}

function attach(
  kvm: Kvm,
  device: KvmVfioDevice,
  call: StructCall,
): RuleOf<typeof KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE> {
  if (!kvm.hasTceVfio) return 'attribute-unknown'
  if (!call.struct.copyIn(STRUCTS.attach.bytes)) return 'bad-pointer'
  const file = fileOf(kvm, call, 'group')
  if (file === undefined) return 'group-bad-fd'
  if (!device.has(file)) return 'not-added'
  const group = device.know(file)
  const target = fileOf(kvm, call, 'table')?.target
  if (target === undefined) return 'table-bad-fd'
  if (target.kind !== 'tce-table' || !device.vm.tables.includes(target as GuestTceTable)) return 'not-a-table'
  return kvm.attach(target as GuestTceTable, group.tables)
}

/** Calls of the VFIO device of a VM. */
export function deviceHandlers(kvm: Kvm): CallHandler[] {
  type DeviceDecl =
    | typeof KVM_DEV_VFIO_GROUP_ADD
    | typeof KVM_DEV_VFIO_GROUP_DEL
    | typeof KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE
  const ofDevice = <D extends DeviceDecl>(
    decl: D,
    struct: typeof STRUCTS.group | typeof STRUCTS.attach,
    body: (kvm: Kvm, device: KvmVfioDevice, call: StructCall) => Outcome<RuleOf<D>>,
  ): CallHandler =>
    kvmHandler(
      kvm,
      decl,
      (call) => {
        const device = targetOf<KvmVfioDevice>(kvm, call, 'kvm-vfio')
        if (!isFound(device)) return device
        return isOthers(device.vm, call) ? 'other-process' : body(kvm, device, call as StructCall)
      },
      struct,
    )
  return [
    ofDevice(KVM_DEV_VFIO_GROUP_ADD, STRUCTS.group, add),
    ofDevice(KVM_DEV_VFIO_GROUP_DEL, STRUCTS.group, remove),
    ofDevice(KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE, STRUCTS.attach, attach),
  ]
}
