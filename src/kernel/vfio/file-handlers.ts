import type { CallHandler } from '../../bits/answer.ts'
import type { RuleOf } from '../../bits/call.ts'
import { type Outcome, unknown } from '../outcome.ts'
import type { ProcessCall } from '../process-call.ts'
import { CLOSE, MMAP_DEVICE, MUNMAP_DEVICE, OPEN } from './calls.ts'
import type { Vfio } from './vfio.ts'
import { vfioHandler } from './vfio-call.ts'

const CONTAINER_PATH = '/dev/vfio/vfio'
const GROUP_PATH = /^\/dev\/vfio\/(0|[1-9][0-9]{0,8})$/

function open(vfio: Vfio, call: ProcessCall): RuleOf<typeof OPEN> {
  const { files } = vfio
  const { name } = call.process
  const path = call.text('path')
  if (!files.hasRoom(name)) return 'too-many-files'
  if (!vfio.allocates()) return 'no-file-record'
  if (path === CONTAINER_PATH) {
    if (!vfio.allocates()) return 'no-container-record'
    call.handOut(files.open(name, vfio.createContainer()).fd)
    return 'done'
  }
  const served = files.targetAt(path)
  if (served !== undefined) {
    call.handOut(files.open(name, served).fd)
    return 'done'
  }
  const group = vfio.group(Number(GROUP_PATH.exec(path)?.[1] ?? -1))
  if (group === undefined) return 'no-such-file'
  if (group.file !== null) return 'group-open'
  const { fd, file } = files.open(name, group)
  group.opened(file)
  call.handOut(fd)
  return 'done'
}

function close(vfio: Vfio, call: ProcessCall): RuleOf<typeof CLOSE> {
  const file = vfio.files.find(call.process.name, call.number('fd'))
  if (file === undefined) return 'bad-fd'
  const isLast = file.holders === 1
  vfio.files.close(call.process.name, call.number('fd'))
  return isLast ? 'done' : 'held'
}

function mmap(vfio: Vfio, call: ProcessCall): Outcome<RuleOf<typeof MMAP_DEVICE>> {
  const { name } = call.process
  const file = vfio.files.find(name, call.number('fd'))
  if (file === undefined) return 'bad-fd'
  const { kind } = file.target
  if (kind === 'vcpu' || kind === 'tce-table') return unknown(`mmap_device of a file of KVM (${kind})`)
  if (kind !== 'device') return 'not-mappable'
  if (vfio.files.mapping(name, call.text('map')) !== undefined) return 'name-taken'
  vfio.files.map(name, call.text('map'), file)
  return 'done'
}

function munmap(vfio: Vfio, call: ProcessCall): RuleOf<typeof MUNMAP_DEVICE> {
  const { name } = call.process
  if (vfio.files.mapping(name, call.text('map')) === undefined) return 'not-mapped'
  vfio.files.unmap(name, call.text('map'))
  return 'done'
}

/** Opening, closing and mapping files. */
export function fileHandlers(vfio: Vfio): CallHandler[] {
  return [
    vfioHandler(vfio, OPEN, (call) => open(vfio, call)),
    vfioHandler(vfio, CLOSE, (call) => close(vfio, call)),
    vfioHandler(vfio, MMAP_DEVICE, (call) => mmap(vfio, call)),
    vfioHandler(vfio, MUNMAP_DEVICE, (call) => munmap(vfio, call)),
  ]
}
