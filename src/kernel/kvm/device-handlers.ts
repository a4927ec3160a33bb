import type { CallHandler } from '../../bits/answer.ts'
import type { RuleOf } from '../../bits/call.ts'
import type { FileTarget, GroupFile, OpenFile } from '../files.ts'
import { type Outcome, unknown } from '../outcome.ts'
import { StructCall } from '../process-call.ts'
import {
  KVM_DEV_VFIO_GROUP_ADD,
  KVM_DEV_VFIO_GROUP_DEL,
  KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE,
  KVM_GET_DEVICE_ATTR,
  KVM_HAS_DEVICE_ATTR,
  KVM_SET_DEVICE_ATTR,
} from './device-calls.ts'
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

/** An attribute: the structure that it points to, and what setting it does. */
interface Attribute {
  readonly struct: typeof STRUCTS.group | typeof STRUCTS.attach
  readonly set: (
    kvm: Kvm,
    device: KvmVfioDevice,
    call: StructCall,
  ) => Outcome<RuleOf<typeof KVM_SET_DEVICE_ATTR>>
}

const VFIO_GROUP = 1n
const SET_SPAPR_TCE = 3n
/** Attributes of that group, by their numbers. */
const ATTRIBUTES: ReadonlyMap<bigint, Attribute> = new Map<bigint, Attribute>([
  [1n, { struct: STRUCTS.group, set: add }],
  [2n, { struct: STRUCTS.group, set: remove }],
  [SET_SPAPR_TCE, { struct: STRUCTS.attach, set: attach }],
])

/** The attribute that a structure names, where the device has it. */
function attributeOf({ hasTceVfio }: Kvm, { struct }: StructCall): Attribute | undefined {
  const attr = struct.get('attr')
  const isThere = struct.get('group') === VFIO_GROUP && (attr !== SET_SPAPR_TCE || hasTceVfio)
  return isThere ? ATTRIBUTES.get(attr) : undefined
}

function setAttribute(
  kvm: Kvm,
  device: KvmVfioDevice,
  call: StructCall,
): Outcome<RuleOf<typeof KVM_SET_DEVICE_ATTR>> {
  if (!call.struct.copyIn(STRUCTS.attribute.bytes)) return 'bad-pointer'
  const attribute = attributeOf(kvm, call)
  if (attribute === undefined) return 'attribute-unknown'
  const inner = new StructCall(call.process, { arg: call.struct.get('addr') }, attribute.struct)
  return attribute.set(kvm, device, inner)
}

function hasAttribute(
  kvm: Kvm,
  _device: KvmVfioDevice,
  call: StructCall,
): RuleOf<typeof KVM_HAS_DEVICE_ATTR> {
  if (!call.struct.copyIn(STRUCTS.attribute.bytes)) return 'bad-pointer'
  return attributeOf(kvm, call) === undefined ? 'attribute-unknown' : 'done'
}

/** Calls of the VFIO device of a VM. */
export function deviceHandlers(kvm: Kvm): CallHandler[] {
  type DeviceDecl =
    | typeof KVM_DEV_VFIO_GROUP_ADD
    | typeof KVM_DEV_VFIO_GROUP_DEL
    | typeof KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE
    | typeof KVM_SET_DEVICE_ATTR
    | typeof KVM_GET_DEVICE_ATTR
    | typeof KVM_HAS_DEVICE_ATTR
  const ofDevice = <D extends DeviceDecl>(
    decl: D,
    struct: (typeof STRUCTS)['group' | 'attach' | 'attribute'],
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
    ofDevice(KVM_SET_DEVICE_ATTR, STRUCTS.attribute, setAttribute),
    ofDevice(KVM_GET_DEVICE_ATTR, STRUCTS.attribute, () => 'nothing-to-read'),
    ofDevice(KVM_HAS_DEVICE_ATTR, STRUCTS.attribute, hasAttribute),
  ]
}
