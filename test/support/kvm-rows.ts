import type { Answer, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { type KvmWorldOptions, withHardware } from './kvm.ts'
import { NOWHERE } from './vfio-rows.ts'

type Kind = 'container' | 'driven' | 'group' | 'kvm' | 'vm' | 'vcpu' | 'device' | 'table'

/** A file of every kind; a container without a driver, and one with it. */
export function withFiles(options: KvmWorldOptions = {}) {
  const world = withHardware(options)
  const fds: Readonly<Record<Kind, bigint>> = {
    container: world.container(),
    driven: world.containerFd,
    group: world.groupFd,
    kvm: world.kvmFd,
    vm: world.vm,
    vcpu: world.vcpu,
    device: world.device,
    table: world.tableFd,
  }
  return { ...world, fds }
}

/** Files whose ioctls KVM answers with EINVAL where it does not know them, and the others. */
const INVALID: readonly Kind[] = ['container', 'kvm', 'vcpu']
const UNKNOWN: readonly Kind[] = ['driven', 'group', 'vm', 'device', 'table']

/** Files that do not know an ioctl, whatever its arguments; `knows` are those that do. */
export function fileRows(
  decl: CallDecl,
  knows: readonly Kind[],
  args: Record<string, Value> = {},
): Record<'wrong-file' | 'wrong-file-invalid', () => Answer[]> {
  const on = (kinds: readonly Kind[]) => () => {
    const world = withFiles()
    const wild = 'arg' in decl.args ? { arg: NOWHERE } : {}
    return kinds
      .filter((kind) => !knows.includes(kind))
      .map((kind) => world.call(decl, { ...args, ...wild, fd: world.fds[kind] }))
  }
  return { 'wrong-file': on(UNKNOWN), 'wrong-file-invalid': on(INVALID) }
}
