import type { CallHandler } from '../../bits/answer.ts'
import type { CallDecl } from '../../bits/call.ts'
import type { FileKind } from '../files.ts'
import { type Outcome, unknown } from '../outcome.ts'
import { type Body, type ProcessCall, processHandler } from '../process-call.ts'
import type { StructDecl } from '../user-struct.ts'
import type { VfioContainer } from './container.ts'
import type { VfioGroup } from './group.ts'
import type { SpaprContainer } from './spapr-container.ts'
import type { Vfio } from './vfio.ts'

const OWN_KINDS: readonly FileKind[] = ['container', 'group', 'device']

/** Whether an ioctl came to a file that is not VFIO's. */
function isForeign({ files }: Vfio, call: ProcessCall): boolean {
  const target = files.find(call.process.name, call.number('fd'))?.target
  return target !== undefined && !OWN_KINDS.includes(target.kind)
}

/** A handler of one call of VFIO. */
export const vfioHandler = <D extends CallDecl>(
  vfio: Vfio,
  decl: D,
  body: Body<D>,
  struct?: StructDecl,
): CallHandler =>
  processHandler(
    vfio.processes,
    decl,
    (call) =>
      decl.verb === 'ioctl' && isForeign(vfio, call)
        ? unknown(`${decl.name} on a file that is not of VFIO`)
        : body(call),
    struct,
  )

/** The container behind the descriptor of a call, or the rule that refuses. */
export function containerOf(vfio: Vfio, call: ProcessCall): VfioContainer | 'bad-fd' | 'wrong-file' {
  const target = vfio.files.find(call.process.name, call.number('fd'))?.target
  if (target === undefined) return 'bad-fd'
  return target.kind === 'container' ? (target as VfioContainer) : 'wrong-file'
}

/** The driver of the container behind the descriptor of a call, which works for the caller; or why it does not. */
export function driverOf(
  vfio: Vfio,
  call: ProcessCall,
): SpaprContainer | Outcome<'bad-fd' | 'wrong-file' | 'no-driver' | 'other-process'> {
  const target = vfio.files.find(call.process.name, call.number('fd'))?.target
  if (target === undefined) return 'bad-fd'
  if (target.kind === 'device') return unknown('an ioctl of a device')
  if (target.kind === 'group') return 'wrong-file'
  const { driver } = target as VfioContainer
  if (driver === null) return 'no-driver'
  return driver.isOther(call.process) ? 'other-process' : driver
}

/** The group behind the descriptor of a call. A container hands calls that are not its own to its driver. */
export function groupOf(
  vfio: Vfio,
  call: ProcessCall,
): VfioGroup | 'bad-fd' | 'wrong-file' | 'no-driver' | 'other-process' {
  const target = vfio.files.find(call.process.name, call.number('fd'))?.target
  if (target === undefined) return 'bad-fd'
  if (target.kind === 'group') return target as VfioGroup
  if (target.kind === 'device') return 'wrong-file'
  const { driver } = target as VfioContainer
  if (driver === null) return 'no-driver'
  return driver.isOther(call.process) ? 'other-process' : 'wrong-file'
}
