import type { CallHandler } from '../../bits/answer.ts'
import type { CallDecl, RuleOf } from '../../bits/call.ts'
import type { FileKind, FileTarget } from '../files.ts'
import { type Outcome, unknown } from '../outcome.ts'
import { type Body, type ProcessCall, processHandler, type StructCall } from '../process-call.ts'
import type { StructDecl } from '../user-struct.ts'
import type { NetQueue } from './net-queue.ts'
import type { Vhost } from './vhost.ts'
import type { VhostNet } from './vhost-net.ts'

/** A handler of one call of vhost. */
export const vhostHandler = <D extends CallDecl>(
  vhost: Vhost,
  decl: D,
  body: Body<D>,
  struct?: StructDecl,
): CallHandler => processHandler(vhost.processes, decl, body, struct)

/** The file of a kind behind the descriptor of a call; one of another kind is `other`. */
export function targetOf<T extends FileTarget, R extends string>(
  vhost: Vhost,
  call: ProcessCall,
  kind: FileKind,
  other: Outcome<R>,
): T | Outcome<R | 'bad-fd'> {
  const target = vhost.files.find(call.process.name, call.number('fd'))?.target
  if (target === undefined) return 'bad-fd'
  return target.kind === kind ? (target as T) : other
}

/** The device behind the descriptor of a call. What other files make of a call of vhost is theirs. */
export const deviceOf = (vhost: Vhost, call: ProcessCall): VhostNet | Outcome<'bad-fd'> =>
  targetOf<VhostNet, never>(vhost, call, 'vhost-net', unknown('a call of vhost on another file'))

/** Whether a look-up found a file. */
export const isFound = <T extends FileTarget>(found: T | Outcome<string>): found is T =>
  typeof found === 'object' && 'kind' in found

/** The handler of a call about the device behind a descriptor, and its structure where it has one. */
export const deviceHandler = <D extends CallDecl>(
  vhost: Vhost,
  decl: D,
  body: (device: VhostNet, call: StructCall) => Outcome<RuleOf<D>>,
  struct?: StructDecl,
): CallHandler =>
  vhostHandler(
    vhost,
    decl,
    (call) => {
      const device = deviceOf(vhost, call)
      return isFound(device) ? body(device, call as StructCall) : (device as Outcome<RuleOf<D>>)
    },
    struct,
  )

type NoQueue = 'not-owner' | 'index-unreadable' | 'no-such-queue'

/** The queue that a structure is about: its index is read alone, and again with the rest. */
export function queueOf(device: VhostNet, call: StructCall): NetQueue | NoQueue {
  if (!device.isOwnedBy(call.process)) return 'not-owner'
  if (!call.struct.copyIn(INDEX_BYTES)) return 'index-unreadable'
  return device.queues[Number(call.struct.get('index'))] ?? 'no-such-queue'
}

const INDEX_BYTES = 4
