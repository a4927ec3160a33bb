import type { CallHandler } from '../../bits/answer.ts'
import type { CallDecl } from '../../bits/call.ts'
import type { FileKind, FileTarget, IoctlRefusal } from '../files.ts'
import { type Outcome, unknown } from '../outcome.ts'
import { type Body, type ProcessCall, processHandler } from '../process-call.ts'
import type { StructDecl } from '../user-struct.ts'
import type { Kvm } from './kvm.ts'
import type { KvmVm } from './kvm-vm.ts'

/** A handler of one call of KVM. */
export const kvmHandler = <D extends CallDecl>(
  kvm: Kvm,
  decl: D,
  body: Body<D>,
  struct?: StructDecl,
): CallHandler => processHandler(kvm.processes, decl, body, struct)

/** How a file of another kind refuses an ioctl of KVM. */
export type NotFound = Outcome<'bad-fd' | 'other-process' | 'wrong-file' | 'wrong-file-invalid'>

const REFUSALS: Readonly<Record<IoctlRefusal, NotFound>> = {
  unknown: 'wrong-file',
  invalid: 'wrong-file-invalid',
  'other-vm': 'other-process',
  'other-process': unknown('an ioctl of KVM on a file of another process'),
  'bad-pointer': unknown('an ioctl of KVM on a file of vhost'),
  'no-such-queue': unknown('an ioctl of KVM on a file of vhost'),
}

/** The file of a kind behind the descriptor of an ioctl. Files of other kinds refuse in ways of their own. */
export function targetOf<T extends FileTarget>(kvm: Kvm, call: ProcessCall, kind: FileKind): T | NotFound {
  const target = kvm.files.find(call.process.name, call.number('fd'))?.target
  if (target === undefined) return 'bad-fd'
  return target.kind === kind ? (target as T) : REFUSALS[target.refusal(call.process)]
}

/** Whether a file of a VM will not work for the caller. */
export const isOthers = (vm: KvmVm, call: Pick<ProcessCall, 'process'>): boolean => vm.mm !== call.process.mm

/** The VM behind the descriptor of a call that works for the caller. */
export function vmOf(kvm: Kvm, call: ProcessCall): KvmVm | NotFound {
  const vm = targetOf<KvmVm>(kvm, call, 'vm')
  if (typeof vm === 'string' || 'stop' in vm) return vm
  return isOthers(vm, call) ? 'other-process' : vm
}

/** Whether a look-up found what it looked for. */
export const isFound = <T extends FileTarget>(found: T | Outcome<string>): found is T =>
  typeof found === 'object' && 'kind' in found
