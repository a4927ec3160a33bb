import type { Answer, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { PROC_EXIT, PROC_FORK } from '../../src/memory/proc-calls.ts'
import { UA } from './vfio.ts'
import { NO_FD, NOWHERE } from './vfio-rows.ts'
import { makeVhost, owned, type VhostWorld } from './vhost.ts'

type Args = Record<string, Value>
type Rows<R extends string> = Record<R, () => Answer[]>

/** The last bytes of a page that has none behind it: so many of a structure can be read. */
export const cutAt = (bytes: bigint): bigint => UA + 256n * 0x1_0000n - bytes

const wild = (decl: CallDecl): Args => ('arg' in decl.args ? { arg: NOWHERE } : {})

/** A process that never was, and one that has ended; a descriptor that is not there. Each breaks what comes after as well. */
export const fdRows = (decl: CallDecl, args: Args = {}): Rows<'no-such-process' | 'bad-fd'> => ({
  'no-such-process': () => {
    const world = makeVhost()
    world.call(PROC_FORK, { child: 'child' })
    world.call(PROC_EXIT, { process: 'child' })
    return ['nobody', 'child'].map((process) => world.call(decl, { ...args, process, fd: NO_FD }))
  },
  'bad-fd': () => [NO_FD, 0n].map((fd) => makeVhost().call(decl, { ...args, ...wild(decl), fd })),
})

/** Makes a child act, which has the files of its parent, and not its address space. */
export function asChild<W extends VhostWorld>(world: W): W {
  world.call(PROC_FORK, { child: 'child' })
  world.processes.actor = 'child'
  return world
}

/** Calls of who does not own the device: nobody does, and another process does. */
export const ownerRows = (decl: CallDecl, args: Args = {}): Rows<'not-owner'> => ({
  'not-owner': () => {
    const nobodys = makeVhost()
    const others = asChild(owned())
    return [nobodys, others].map((world) => world.call(decl, { ...args, ...wild(decl), fd: world.fd }))
  },
})

/** How calls of a queue begin. */
export const queueRows = (
  decl: CallDecl,
  args: Args = {},
): Rows<'no-such-process' | 'bad-fd' | 'not-owner' | 'index-unreadable' | 'no-such-queue'> => ({
  ...fdRows(decl, args),
  ...ownerRows(decl, { index: 2n, ...args }),
  'index-unreadable': () =>
    [NOWHERE, cutAt(3n)].map((arg) => {
      const world = owned()
      return world.call(decl, { ...args, fd: world.fd, arg })
    }),
  'no-such-queue': () => {
    const world = owned()
    // An index of 2 in the last four bytes that can be read: the rest of the structure cannot be.
    world.qemu.mm.write(cutAt(4n), Uint8Array.of(2, 0, 0, 0))
    return [
      world.call(decl, { ...args, fd: world.fd, index: 2n }),
      world.call(decl, { ...args, fd: world.fd, index: 0xffff_ffffn }),
      world.call(decl, { ...args, fd: world.fd, arg: cutAt(4n) }),
    ]
  },
})
