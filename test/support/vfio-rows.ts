import type { Answer, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { OPEN } from '../../src/kernel/vfio/calls.ts'
import { PROC_EXIT, PROC_FORK } from '../../src/memory/proc-calls.ts'
import { attached, makeVfio, registered, type VfioWorld } from './vfio.ts'

type Args = Record<string, Value>
type Rows<R extends string> = Record<R, () => Answer[]>

/** An address where nothing is mapped: what a call reads last, so that every rule before it is seen to be before it. */
export const NOWHERE = 0x10_0000n
/** A descriptor that nobody has. */
export const NO_FD = 77n

const badPointer = (decl: CallDecl): Args => ('arg' in decl.args ? { arg: NOWHERE } : {})

/** A process that never was, and one that has ended; with a descriptor that is not there either. */
const noProcess = (decl: CallDecl, args: Args) => {
  const world = makeVfio()
  world.call(PROC_FORK, { child: 'child' })
  world.call(PROC_EXIT, { process: 'child' })
  return ['nobody', 'child'].map((process) => world.call(decl, { ...args, process, fd: NO_FD }))
}

/** The child of a process whose container keeps books for its parent. */
export function childOf(world: VfioWorld): VfioWorld {
  world.call(PROC_FORK, { child: 'child' })
  world.processes.actor = 'child'
  return world
}

/** Descriptors: none of this number, and the highest that fits an int. */
export const fdRows = (decl: CallDecl, args: Args = {}): Rows<'no-such-process' | 'bad-fd'> => ({
  'no-such-process': () => noProcess(decl, args),
  'bad-fd': () =>
    [NO_FD, 0n, 0xffff_ffffn].map((fd) => attached().call(decl, { ...args, ...badPointer(decl), fd })),
})

/** What a call of a container itself answers before its own rules. */
export const containerRows = (
  decl: CallDecl,
  args: Args = {},
): Rows<'no-such-process' | 'bad-fd' | 'wrong-file'> => ({
  ...fdRows(decl, args),
  'wrong-file': () => {
    const { call, groupFd } = attached()
    return [call(decl, { ...args, fd: groupFd })]
  },
})

/** What a call of a container's driver answers before its own rules. */
export const driverRows = (
  decl: CallDecl,
  args: Args = {},
): Rows<'no-such-process' | 'bad-fd' | 'wrong-file' | 'no-driver' | 'other-process'> => ({
  ...containerRows(decl, { ...args, ...badPointer(decl) }),
  'no-driver': () => {
    const world = makeVfio()
    return [world.call(decl, { ...args, ...badPointer(decl), fd: world.container() })]
  },
  'other-process': () => {
    const world = registered()
    childOf(world)
    return [world.call(decl, { ...args, ...badPointer(decl), fd: world.fd })]
  },
})

/** What a call of a group answers before its own rules. */
export const groupRows = (
  decl: CallDecl,
  args: Args = {},
): Rows<'no-such-process' | 'bad-fd' | 'wrong-file' | 'no-driver' | 'other-process'> => ({
  ...driverRows(decl, args),
  'wrong-file': () => {
    const { call, fd } = attached()
    return [call(decl, { ...args, ...badPointer(decl), fd })]
  },
})

/** Descriptors until the process has no more; files of the container kind. */
export function fillFiles(world: VfioWorld): void {
  while (world.call(OPEN, { path: '/dev/vfio/vfio' }).rule === 'done');
}

/** The bytes of a structure in memory of the process, at the start of a page that is there. */
export function poke(world: VfioWorld, address: bigint, bytes: Uint8Array): bigint {
  world.qemu.mm.write(address, bytes)
  return address
}
