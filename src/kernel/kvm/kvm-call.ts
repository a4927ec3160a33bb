import type { CallHandler } from '../../bits/answer.ts'
import type { CallDecl } from '../../bits/call.ts'
import type { FileKind, FileTarget } from '../files.ts'
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

/** The file of a kind behind the descriptor of a call. Files of other kinds answer in ways of their own. */
export function targetOf<T extends FileTarget>(
  kvm: Kvm,
  call: ProcessCall,
  kind: FileKind,
): T | Outcome<'bad-fd'> {
  const target = kvm.files.find(call.process.name, call.number('fd'))?.target
  if (target === undefined) return 'bad-fd'
  return target.kind === kind
    ? (target as T)
    : unknown(`an ioctl of KVM on a file of another kind (${target.kind})`)
}

/** Whether a file of a VM will not work for the caller. */
export const isOthers = (vm: KvmVm, call: ProcessCall): boolean => vm.mm !== call.process.mm

/** The VM behind the descriptor of a call that works for the caller. */
export function vmOf(kvm: Kvm, call: ProcessCall): KvmVm | Outcome<'bad-fd' | 'other-process'> {
  const vm = targetOf<KvmVm>(kvm, call, 'vm')
  if (typeof vm === 'string' || 'stop' in vm) return vm
  return isOthers(vm, call) ? 'other-process' : vm
}

/** Whether a look-up found what it looked for. */
export const isFound = <T extends FileTarget>(found: T | Outcome<string>): found is T =>
  typeof found === 'object' && 'kind' in found
