import type { CallHandler } from '../../bits/answer.ts'
import type { RuleOf } from '../../bits/call.ts'
import type { Process } from '../../memory/process.ts'
import type { Outcome } from '../outcome.ts'
import type { ProcessCall, StructCall } from '../process-call.ts'
import {
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
} from './calls.ts'
import type { VfioContainer } from './container.ts'
import { VfioDevice, type VfioGroup } from './group.ts'
import { STRUCTS } from './structs.ts'
import type { Vfio } from './vfio.ts'
import { groupOf, vfioHandler } from './vfio-call.ts'

function getStatus(group: VfioGroup, call: StructCall): RuleOf<typeof VFIO_GROUP_GET_STATUS> {
  const { struct } = call
  const copied = call.copyIn(STRUCTS.groupStatus.bytes)
  if (copied !== 'done') return copied
  struct.set('flags', group.status)
  return struct.copyOut(STRUCTS.groupStatus.bytes) ? 'done' : 'pointer-not-writable'
}

function setContainer(
  vfio: Vfio,
  group: VfioGroup,
  { process, struct }: StructCall,
): Outcome<RuleOf<typeof VFIO_GROUP_SET_CONTAINER>> {
  if (!struct.copyIn(STRUCTS.containerFd.bytes)) return 'bad-pointer'
  const target = vfio.files.find(process.name, Number(struct.get('container')))?.target
  if (target === undefined) return 'container-bad-fd'
  if (group.container !== null) return 'in-a-container'
  if (target.kind !== 'container') return vfio.refusesWithEinval ? 'not-a-container-v6.1' : 'not-a-container'
  return group.setContainer(target as VfioContainer)
}

/** strndup_user: the text at a user address up to its end, which lies within `most` bytes. */
function textAt(
  process: Process,
  address: bigint,
  most: number,
): { text: string } | 'bad-pointer' | 'name-too-long' {
  const bytes: number[] = []
  const byte = new Uint8Array(1)
  while (bytes.length < most) {
    if (process.mm.read(address + BigInt(bytes.length), byte).moved !== 1) return 'bad-pointer'
    const [one = 0] = byte
    if (one === 0) return { text: String.fromCharCode(...bytes) }
    bytes.push(one)
  }
  return 'name-too-long'
}

function getDevice(vfio: Vfio, group: VfioGroup, call: ProcessCall): RuleOf<typeof VFIO_GROUP_GET_DEVICE_FD> {
  const { process, args } = call
  const most = vfio.processes.host.pageBytes
  let name = call.text('name')
  if (args['arg'] !== undefined) {
    const read = textAt(process, call.u64('arg'), most)
    if (typeof read === 'string') return read
    name = read.text
  }
  if (name.length >= most) return 'name-too-long'
  if (!vfio.allocates()) return 'no-name-copy'
  if (!group.devices.includes(name)) return 'no-such-device'
  if (!vfio.files.hasRoom(process.name)) return 'too-many-files'
  if (!vfio.allocates()) return 'no-device-record'
  if (group.container === null || group.container.driver === null) return 'no-iommu'
  if (!group.isOpen(name)) {
    // The map of its configuration space, and the virtual space itself, which is read then.
    for (let i = 0; i < 2; i++) if (!vfio.allocates()) return 'no-device-memory'
    if (vfio.eeh?.isBlocked(group.number) === true) return 'config-blocked'
  }
  if (!vfio.allocates()) return 'no-device-memory'
  call.handOut(vfio.files.open(process.name, new VfioDevice(name, group)).fd)
  return 'done'
}

/** The calls of a group. */
export function groupHandlers(vfio: Vfio): CallHandler[] {
  return [
    vfioHandler(
      vfio,
      VFIO_GROUP_GET_STATUS,
      (call) => {
        const group = groupOf(vfio, call)
        return typeof group === 'string' ? group : getStatus(group, call as StructCall)
      },
      STRUCTS.groupStatus,
    ),
    vfioHandler(
      vfio,
      VFIO_GROUP_SET_CONTAINER,
      (call) => {
        const group = groupOf(vfio, call)
        return typeof group === 'string' ? group : setContainer(vfio, group, call as StructCall)
      },
      STRUCTS.containerFd,
    ),
    vfioHandler(vfio, VFIO_GROUP_UNSET_CONTAINER, (call) => {
      const group = groupOf(vfio, call)
      return typeof group === 'string' ? group : group.unsetContainer()
    }),
    vfioHandler(vfio, VFIO_GROUP_GET_DEVICE_FD, (call) => {
      const group = groupOf(vfio, call)
      return typeof group === 'string' ? group : getDevice(vfio, group, call)
    }),
  ]
}
