import type { CallHandler, Value } from '../bits/answer.ts'
import type { RuleOf } from '../bits/call.ts'
import type { ProcessTable } from '../memory/process.ts'
import type { FileKind, FileTable } from './files.ts'
import { KVM_CHECK_EXTENSION, KVM_CREATE_VCPU, KVM_CREATE_VM } from './kvm/calls.ts'
import { isKvmIoctl } from './kvm/ioctl-numbers.ts'
import { type Outcome, unknown } from './outcome.ts'
import { type ProcessCall, processHandler } from './process-call.ts'
import { vfioIoctlNumber } from './vfio/call-parts.ts'
import { RAW_IOCTL, VFIO_CHECK_EXTENSION, VFIO_SET_IOMMU } from './vfio/calls.ts'
import { isUnmodelledNumber, isVhostNumber } from './vhost/ioctl-numbers.ts'

const VFIO_FILES: readonly FileKind[] = ['container', 'group', 'device']

/** The third argument of an ioctl is a value for these, else a user address. */
const VALUE_OF: Readonly<Record<string, string>> = {
  [VFIO_CHECK_EXTENSION.name]: 'extension',
  [VFIO_SET_IOMMU.name]: 'type',
  [KVM_CHECK_EXTENSION.name]: 'extension',
  [KVM_CREATE_VM.name]: 'type',
  [KVM_CREATE_VCPU.name]: 'id',
}

type Args = Readonly<Record<string, Value>>

/** An ioctl that the model does not declare, or that the file does not know. */
function otherIoctl(files: FileTable, call: ProcessCall): Outcome<RuleOf<typeof RAW_IOCTL>> {
  const target = files.find(call.process.name, call.number('fd'))?.target
  if (target === undefined) return 'bad-fd'
  const cmd = call.number('cmd')
  if (target.kind === 'device' && vfioIoctlNumber(cmd) !== undefined) return unknown('an ioctl of a device')
  if (target.kind === 'tap') return unknown('an ioctl of a tap')
  const refusal = target.refusal(call.process, call.u64('arg'))
  if (target.kind === 'vhost-net' && refusal !== 'other-process' && isUnmodelledNumber(cmd)) {
    return unknown('an ioctl of vhost that is not modelled')
  }
  if (refusal === 'invalid' && target.kind === 'container') return 'no-driver'
  if (refusal !== 'other-vm' && isKvmIoctl(target.kind, cmd)) {
    return unknown('an ioctl of KVM that is not modelled')
  }
  return refusal
}

/**
 * Ioctls by number: answered by the declaration that has the number, where the file is one of its family. Numbers of
 * VFIO are known in both encodings, those of KVM and vhost in that of powerpc.
 *
 * @param ioctls handlers of all ioctls that have numbers
 */
export function rawIoctl(
  processes: ProcessTable,
  files: FileTable,
  ioctls: readonly CallHandler[],
): CallHandler {
  const own = processHandler(processes, RAW_IOCTL, (call) => otherIoctl(files, call))
  const byNumber = new Map(
    ioctls.flatMap((handler) => (handler.decl.nr === undefined ? [] : [[handler.decl.nr, handler] as const])),
  )
  const handlerOf = ({ process, fd, cmd }: Args): CallHandler | undefined => {
    const number = Number(cmd)
    const vfioNumber = vfioIoctlNumber(number)
    const caller = processes.find(process as string | undefined)
    const kind = caller && files.find(caller.name, Number(fd))?.target.kind
    if (kind !== undefined && VFIO_FILES.includes(kind) !== (vfioNumber !== undefined)) return undefined
    if ((kind === 'vhost-net') !== isVhostNumber(number)) return undefined
    if (kind === 'eventfd' || kind === 'tap') return undefined
    return byNumber.get(vfioNumber ?? number)
  }
  return {
    decl: RAW_IOCTL,
    run(args: Args) {
      const handler = handlerOf(args)
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
