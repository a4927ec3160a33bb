import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { Prng } from '../../src/bits/prng.ts'
import { VHOST_CALLS } from '../../src/kernel/vhost/calls.ts'
import { UA } from '../support/vfio.ts'
import { BEHIND_IOTLB, IOVA, MODERN, withRing } from '../support/vhost.ts'

type World = ReturnType<typeof withRing>

/** Addresses and sizes that may mean something, and some that do not. */
const WORDS = [
  ...[0n, 1n, 2n, 4n, 16n, 64n, 0x100n, 0x1000n, 0x2000n, 0x1_0000n, 0xffff_ffffn],
  ...[UA, UA + 0x100n, UA + 0x1000n, UA + 0xff_ffffn, IOVA, IOVA + 0x40n, IOVA + 0x1000n],
  ...[BEHIND_IOTLB, MODERN, BEHIND_IOTLB | (1n << 29n), (1n << 47n) - 1n, (1n << 64n) - 1n],
]
const WIDTHS: Readonly<Record<string, number>> = { u8: 8, u32: 32, u64: 64, count: 32 }

/** Arguments of a call that fit its declaration; `fd` is a file of the right kind mostly. */
function argsFor(prng: Prng, decl: CallDecl, world: World): Record<string, Value> {
  const fds = [world.fd, world.fd, world.fd, world.kickFd, world.tap]
  const args: Record<string, Value> = {}
  for (const [name, arg] of Object.entries(decl.args)) {
    const width = WIDTHS[arg.type]
    if (name === 'fd')
      args[name] = decl.verb === 'vhost' ? prng.pick([...fds, world.tap, world.kickFd]) : world.fd
    else if (name === 'process' || (arg.optional === true && prng.oneIn(4))) continue
    else if (name === 'arg') {
      if (prng.oneIn(6)) args[name] = prng.pick(WORDS)
    } else if (name === 'index' || name === 'queue') args[name] = BigInt(prng.below(prng.oneIn(9) ? 4 : 2))
    else if (name === 'file') args[name] = prng.pick([...fds, 0xffff_ffffn])
    else if (name === 'regions') args[name] = [0n, prng.pick(WORDS), prng.pick(WORDS)]
    else if (arg.type === 'bytes') {
      // Messages as bytes only now and then: most of those are refused at once.
      if (decl.name === 'deliver' || prng.oneIn(9)) args[name] = `hex:${'ab'.repeat(prng.below(80))}`
    } else if (arg.type === 'flag') args[name] = prng.oneIn(2)
    else if (width !== undefined) {
      const small = width === 8 || prng.oneIn(3)
      args[name] = small ? BigInt(prng.below(5)) : BigInt.asUintN(width, prng.pick(WORDS))
    }
  }
  return args
}

/** A driver that writes what it likes into its rings. */
function scribble(prng: Prng, world: World): void {
  const at = UA + BigInt(prng.below(0x1100))
  const data = Uint8Array.from({ length: 1 + prng.below(16) }, () =>
    prng.oneIn(2) ? prng.below(4) : prng.below(256),
  )
  world.qemu.mm.write(at, data)
}

describe('a process and a driver that do anything', () => {
  it.each([1, 2, 3, 4, 5, 6])(
    'get an answer each time, and all of it can be taken back, seed %d',
    (seed) => {
      const prng = new Prng(seed)
      const features = prng.pick([BEHIND_IOTLB, MODERN, BEHIND_IOTLB | (1n << 29n)])
      const world = withRing({ journal: true, queue: seed % 2, features })
      if (features !== MODERN) world.update(IOVA, 0x1_0000n, UA)
      world.setBackend()
      const { journal } = world
      const mark = journal.mark()
      const before = journal.hash
      const answered = new Set<string>()
      for (let step = 0; step < 1500; step++) {
        if (prng.oneIn(3)) scribble(prng, world)
        if (prng.oneIn(4)) world.kick()
        const decl = prng.pick(VHOST_CALLS)
        // Files are few: each makes one more.
        if (decl.name === 'eventfd' && !prng.oneIn(20)) continue
        const answer = world.call(decl, argsFor(prng, decl, world))
        answered.add(`${decl.name} ${answer.rule}`)
      }
      expect(answered.size).toBeGreaterThan(50)
      expect(world.bugs).toEqual([])
      journal.rollback(mark)
      expect(journal.hash).toBe(before)
    },
    60_000,
  )
})
