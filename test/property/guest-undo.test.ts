import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import { GuestMachine, MASK_32, MASK_64 } from '../support/guest-machine.ts'

type Step = readonly [call: string, args: Record<string, Value>, cpu?: number]

const devices = fc.constantFrom('nic', 'disk')
const names = fc.constantFrom('a', 'b', 'c')
const pages = fc.integer({ min: 0x400, max: 0x3fff }).map((p) => BigInt(p) << 16n)
const lengths = fc.constantFrom(1n, 0x1000n, 0x1_0000n, 0x3_1000n)

/** Any call of the guest kernel, with arguments that are often right. */
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ device: devices, mask: fc.constantFrom(MASK_64, MASK_32) }).map((a): Step => ['probe', a]),
  devices.map((device): Step => ['remove', { device }]),
  fc
    .tuple(devices, lengths, names, fc.nat(7))
    .map(([device, bytes, as, cpu]): Step => ['dma_alloc_coherent', { device, bytes, as }, cpu]),
  fc.tuple(devices, names).map(([device, buffer]): Step => ['dma_free_coherent', { device, buffer }]),
  fc
    .tuple(devices, pages, lengths, names)
    .map(([device, gpa, bytes, as]): Step => ['dma_map_page', { device, gpa, bytes, as }]),
  fc.tuple(devices, names).map(([device, buffer]): Step => ['dma_unmap_page', { device, buffer }]),
  fc
    .tuple(devices, pages, fc.array(lengths, { minLength: 1, maxLength: 3 }), names)
    .map(
      ([device, gpa, list, as]): Step => [
        'dma_map_sg',
        { device, as, segments: list.map((bytes) => ({ address: gpa, bytes })) },
      ],
    ),
  fc.tuple(devices, names).map(([device, buffer]): Step => ['dma_unmap_sg', { device, buffer }]),
  fc
    .tuple(fc.bigInt({ min: 0n, max: 3n }), names)
    .map(([order, as]): Step => ['alloc_pages', { order, as, owner: 'x' }]),
  names.map((buffer): Step => ['free_pages', { buffer }]),
  fc.constantFrom(1n, 2n).map((n): Step => ['memory_online', { gpa: (n + 3n) << 28n, bytes: 1n << 28n }]),
  fc.constantFrom(1n, 2n, 3n).map((n): Step => ['memory_offline', { gpa: n << 28n, bytes: 1n << 28n }]),
  fc.constant<Step>(['detach_node', { node: 'pci0' }]),
)

/** A guest of 1 GiB on firmware that a test cannot exhaust. */
function machine(profile: string): GuestMachine {
  const guest = new GuestMachine({ profile, journalOn: true, maxRamBytes: 2n << 30n })
  guest.hypervisor.firmware.windows = 1000
  guest.call('boot')
  return guest
}

const perform = (guest: GuestMachine, steps: readonly Step[]) =>
  steps.map(([call, args, cpu]) => {
    const { rule, outputs, warnings } = guest.call(call, args, cpu)
    return { rule, outputs, warnings }
  })

describe.each(['intended', 'linux-6.1'])('the guest kernel, %s', (profile) => {
  it('goes back to any moment: same state, same hash, same answers from there', () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 12 }),
        fc.array(step, { minLength: 1, maxLength: 12 }),
        (before, after) => {
          const guest = machine(profile)
          perform(guest, before)
          const { windows, memory, firmware } = guest.hypervisor
          const world = {
            windows: new Map([...windows].map(([k, w]) => [k, { ...w, tces: new Map(w.tces) }])),
            memory: new Map(memory),
            firmware: structuredClone(firmware),
          }
          const [mark, hash] = [guest.journal.mark(), guest.journal.hash]
          const first = perform(guest, after)
          const end = guest.journal.hash
          guest.journal.rollback(mark)
          expect(guest.journal.hash).toBe(hash)
          windows.clear()
          for (const [k, w] of world.windows) windows.set(k, w)
          memory.clear()
          for (const [k, v] of world.memory) memory.set(k, v)
          Object.assign(firmware, world.firmware)
          expect(perform(guest, after)).toEqual(first)
          expect(guest.journal.hash).toBe(end)
        },
      ),
      { numRuns: 60 },
    )
  })
})
