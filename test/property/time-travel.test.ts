import { expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { completeMachine } from '../../src/machine/description.ts'
import type { Operation } from '../../src/machine/operation.ts'
import { TimeTravel } from '../../src/machine/time-travel.ts'

const DESCRIPTION = completeMachine({
  ram: 64n << 20n,
  phbs: [{ name: 'pci0', devices: [{ name: 'edu0', kind: 'edu', dmaMask: (1n << 64n) - 1n }] }],
})
const LIOBN = 0x8000_0000n
const BUID = 0x0800_0000_2000_0000n

/** Hypercalls, window calls, memory and DMA, so that every kind of state changes. */
function randomOperation(chance: Prng): Operation {
  const page = BigInt(chance.below(64)) << 12n
  const tce = (BigInt(chance.below(1024)) << 12n) | BigInt(chance.below(4))
  const liobn = LIOBN | BigInt(chance.below(2))
  const ioba = chance.oneIn(4) ? (1n << 59n) + (page << 12n) : page
  switch (chance.below(9)) {
    case 0:
      return {
        verb: 'hcall',
        call: 'H_STUFF_TCE',
        args: { liobn, ioba, value: tce, npages: BigInt(chance.below(9)) },
      }
    case 1:
      return { verb: 'mem', call: 'write', args: { space: 'gpa', address: page, words: [tce, tce + 4096n] } }
    case 2:
      return { verb: 'hcall', call: 'H_PUT_TCE_INDIRECT', args: { liobn, ioba, list: page, npages: 2n } }
    case 3:
      return { verb: 'dma', call: 'write', args: { device: 'edu0', iova: ioba + 100n, data: 'some bytes' } }
    case 4:
      return { verb: 'dma', call: 'read', args: { device: 'edu0', iova: ioba, bytes: 33n } }
    case 5:
      return {
        verb: 'rtas',
        call: 'ibm,create-pe-dma-window',
        args: { buid: BUID, page_shift: 16n, window_shift: 24n },
      }
    case 6:
      return { verb: 'rtas', call: 'ibm,reset-pe-dma-window', args: { buid: BUID } }
    default:
      return { verb: 'hcall', call: 'H_PUT_TCE', args: { liobn, ioba, tce } }
  }
}

it.each([1, 2, 3])('seed %i: the state at any record is what it was, whichever way it is reached', (seed) => {
  const chance = new Prng(seed)
  const operations = Array.from({ length: 150 }, () => randomOperation(chance))
  const make = () => createMachine(DESCRIPTION, { journal: true })

  const original = make()
  const hashes: string[] = Array.from({ length: original.log.length }, () => '')
  original.log.subscribe({
    kinds: [
      'call.enter',
      'call.return',
      'tce.set',
      'window.open',
      'window.close',
      'dma.done',
      'memory.write',
    ],
    see: (_log, seq) => {
      hashes[seq] = original.journal.hash
    },
  })
  for (const operation of operations) original.perform(operation)
  const known = [...hashes.keys()].filter((seq) => (hashes[seq] ?? '') !== '')
  expect(new Set(known.map((seq) => hashes[seq])).size).toBeGreaterThan(50)

  const travel = new TimeTravel(make, operations)
  for (let i = 0; i < 200; i++) {
    const seq = chance.pick(known)
    const machine = travel.goTo(seq)
    expect(machine.log.length).toBe(seq + 1)
    expect(machine.log.read(seq)).toEqual(original.log.read(seq))
    expect(machine.journal.hash).toBe(hashes[seq])
    // Whoever looks around may change what they see: the next journey starts from what it was.
    if (chance.oneIn(3)) machine.perform(randomOperation(chance))
  }
  const last = travel.goTo(original.log.length - 1)
  expect(last.log.length).toBe(original.log.length)
  expect(() => travel.goTo(original.log.length)).toThrow(`none ${original.log.length}`)
})

it('goes back to before the first operation, and on from there', () => {
  const chance = new Prng(4)
  const operations = Array.from({ length: 20 }, () => randomOperation(chance))
  const make = () => createMachine(DESCRIPTION, { journal: true })
  const made = make()
  const boot = made.log.length
  for (const operation of operations) made.perform(operation)
  const travel = new TimeTravel(make, operations)
  for (const seq of [made.log.length - 1, 0, boot - 1, 1, made.log.length - 1]) {
    expect(travel.goTo(seq).log.length).toBe(seq + 1)
  }
  expect(travel.goTo(made.log.length - 1).journal.hash).toBe(made.journal.hash)
  expect(travel.goTo(boot - 1).journal.hash).toBe(make().journal.hash)
})
