import type { CallHandler, Value } from '../../bits/answer.ts'
import type { RuleOf } from '../../bits/call.ts'
import { type Outcome, unknown } from '../outcome.ts'
import type { ProcessCall } from '../process-call.ts'
import { vfioIoctlNumber } from './call-parts.ts'
import {
  CLOSE,
  MMAP_DEVICE,
  MUNMAP_DEVICE,
  OPEN,
  RAW_IOCTL,
  VFIO_CHECK_EXTENSION,
  VFIO_SET_IOMMU,
} from './calls.ts'
import type { VfioContainer } from './container.ts'
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

/** An ioctl that the model does not declare. */
function unknownIoctl(vfio: Vfio, call: ProcessCall): Outcome<RuleOf<typeof RAW_IOCTL>> {
  const target = vfio.files.find(call.process.name, call.number('fd'))?.target
  if (target === undefined) return 'bad-fd'
  const cmd = call.number('cmd')
  const isVfio = vfioIoctlNumber(cmd) !== undefined
  if (target.kind === 'device' && isVfio) return unknown('an ioctl of a device')
  if (target.kind !== 'container') return 'unknown'
  const { driver } = target as VfioContainer
  if (driver === null) return 'no-driver'
  return driver.isOther(call.process) ? 'other-process' : 'unknown'
}

/** The third argument of an ioctl is a value for these, else a user address. */
const VALUE_OF: Readonly<Record<string, string>> = {
  [VFIO_CHECK_EXTENSION.name]: 'extension',
  [VFIO_SET_IOMMU.name]: 'type',
}

/** An ioctl by number: answered by the declaration that has it. */
function rawHandler(vfio: Vfio, ioctls: readonly CallHandler[]): CallHandler {
  const own = vfioHandler(vfio, RAW_IOCTL, (call) => unknownIoctl(vfio, call))
  return {
    decl: RAW_IOCTL,
    run(args: Readonly<Record<string, Value>>) {
      const number = vfioIoctlNumber(Number(args['cmd']))
      const handler = ioctls.find(({ decl }) => decl.nr !== undefined && decl.nr === number)
      if (handler === undefined) return own.run(args)
      const { process, fd, arg } = args
      const value = VALUE_OF[handler.decl.name] ?? 'arg'
      return handler.run({
        ...(process === undefined ? {} : { process }),
        fd: fd as Value,
        ...(Object.hasOwn(handler.decl.args, value) ? { [value]: arg as Value } : {}),
      })
    },
  }
}

/** Opening, closing and mapping files, and ioctls by number. */
export function fileHandlers(vfio: Vfio, ioctls: readonly CallHandler[]): CallHandler[] {
  return [
    vfioHandler(vfio, OPEN, (call) => open(vfio, call)),
    vfioHandler(vfio, CLOSE, (call) => close(vfio, call)),
    vfioHandler(vfio, MMAP_DEVICE, (call) => mmap(vfio, call)),
    vfioHandler(vfio, MUNMAP_DEVICE, (call) => munmap(vfio, call)),
    rawHandler(vfio, ioctls),
  ]
}
