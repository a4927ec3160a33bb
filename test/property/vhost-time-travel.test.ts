import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import type { VhostRemedy } from '../../src/kernel/vhost-remedy.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine, type MachineInput } from '../../src/machine/description.ts'
import type { Operation } from '../../src/machine/operation.ts'
import { TimeTravel } from '../../src/machine/time-travel.ts'

const LIOBN = 0x8000_0000n
const BUID = 0x0800_0000_2000_0000n
const phbs = [{ virtio: [{ name: 'net0', kind: 'net' as const }] }]
const guest = (vhostRemedy: VhostRemedy): MachineInput => ({
  kind: 'powernv',
  guest: { ramBytes: 1n << 24n, ua: 1n << 32n, vhostRemedy, phbs },
})
const MACHINES: readonly (readonly [string, MachineInput])[] = [
  ['pseries', { ram: 16n << 20n, phbs }],
  ['a guest with remedy eventfd', guest('eventfd')],
  ['a guest with remedy kill-hook', guest('kill-hook')],
  ['a guest with remedy userspace', guest('userspace')],
]

/** Drivers with rings, hypercalls, windows, frames and time, so that every kind of state of vhost changes. */
function randomOperation(chance: Prng): Operation {
  const page = BigInt(chance.below(16)) << 12n
  const tce = (BigInt(chance.below(64)) << 12n) | BigInt(chance.below(4))
  const device = 'net0'
  const queue = BigInt(chance.below(2))
  switch (chance.below(12)) {
    case 0:
      return { verb: 'virtio', call: 'queue', args: { device, queue, gpa: page, iova: page } }
    case 1:
      return { verb: 'virtio', call: 'ready', args: { device } }
    case 2:
      return chance.oneIn(3)
        ? { verb: 'virtio', call: 'reset', args: { device } }
        : { verb: 'virtio', call: 'reap', args: { device, queue } }
    case 3:
      return { verb: 'virtio', call: 'send', args: { device, iova: page, bytes: 64n } }
    case 4:
      return { verb: 'virtio', call: 'offer', args: { device, iova: page, bytes: 64n } }
    case 5:
      return {
        verb: 'hcall',
        call: 'H_STUFF_TCE',
        args: { liobn: LIOBN, ioba: page, value: 0n, npages: BigInt(chance.below(5)) },
      }
    case 6:
      return {
        verb: 'rtas',
        call: 'ibm,create-pe-dma-window',
        args: { buid: BUID, page_shift: 16n, window_shift: 24n },
      }
    case 7:
      return { verb: 'rtas', call: 'ibm,remove-pe-dma-window', args: { liobn: LIOBN + 1n } }
    case 8:
      return { verb: 'tick', call: 'advance', args: { ticks: 1n } }
    case 9:
      return { verb: 'dma', call: 'write', args: { device, iova: page + 100n, data: 'some bytes' } }
    default:
      return { verb: 'hcall', call: 'H_PUT_TCE', args: { liobn: LIOBN, ioba: page, tce } }
  }
}

describe.each(MACHINES)('%s with a device of vhost', (_name, input) => {
  it.each([1, 2])('seed %i: the state at any record is what it was, whichever way it is reached', (seed) => {
    const chance = new Prng(seed)
    const start: Operation[] = input.kind === 'powernv' ? [{ verb: 'vmm', call: 'start', args: {} }] : []
    const operations = [...start, ...Array.from({ length: 120 }, () => randomOperation(chance))]
    const make = () => createMachine(describeMachine(input), { journal: true })
    const original = make()
    const hashes: string[] = []
    original.log.subscribe({
      kinds: [
        'call.return',
        'tce.set',
        'window.open',
        'window.close',
        'iotlb.fill',
        'iotlb.drop',
        'dma.done',
      ],
      see: (_log, seq) => {
        hashes[seq] = original.journal.hash
      },
    })
    for (const operation of operations) original.perform(operation)
    const known = [...hashes.keys()].filter((seq) => hashes[seq] !== undefined)
    expect(new Set(known.map((seq) => hashes[seq])).size).toBeGreaterThan(50)
    const travel = new TimeTravel(make, operations)
    for (let i = 0; i < 60; i++) {
      const seq = chance.pick(known)
      const machine = travel.goTo(seq)
      expect(machine.log.length).toBe(seq + 1)
      expect(machine.journal.hash).toBe(hashes[seq])
    }
  })
})
