import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import { bootedGuest, type GuestMachine, MASK_64 } from '../support/guest-machine.ts'

const PAGE = 4096n

const element = fc.record({
  page: fc.integer({ min: 0x400, max: 0x2_0000 }),
  offset: fc.constantFrom(0, 0, 0x800, 0x1000, 0xf001),
  bytes: fc.oneof(fc.constantFrom(0, 0x1_0000, 0x800, 1), fc.integer({ min: 0, max: 0x3_0000 })),
})

const lists = fc.record({
  elements: fc.array(element, { minLength: 1, maxLength: 12 }),
  maxSegment: fc.constantFrom(0x1_0000, 0x1000, 0xffff_ffff),
  cpu: fc.integer({ min: 0, max: 7 }),
  dir: fc.constantFrom('to-device', 'from-device', 'bidirectional'),
})

type Item = { readonly address: bigint; readonly bytes: bigint }

/** Memory that the device reaches at a bus address, by the hypervisor's entries. */
function translate(guest: GuestMachine, bus: bigint): bigint | undefined {
  const tce = guest.hypervisor.live().get(bus - (bus % PAGE))
  return tce === undefined ? undefined : tce - (tce % PAGE) + (bus % PAGE)
}

describe('dma_map_sg and dma_unmap_sg', () => {
  const guest = bootedGuest({ bootOptions: ['disable_ddw'] })
  guest.call('probe', { device: 'nic', mask: MASK_64 })
  const device = guest.device('nic')
  const idle = device.table?.usedCount

  it('every byte of every element is reached through the segments in order, and all is gone afterwards', () => {
    fc.assert(
      fc.property(lists, ({ elements, maxSegment, cpu, dir }) => {
        device.segmentBytes = maxSegment
        const given = elements.map((e) => ({
          address: (BigInt(e.page) << 12n) + BigInt(e.offset),
          bytes: BigInt(e.bytes),
        }))
        const answer = guest.call(
          'dma_map_sg',
          { device: 'nic', segments: given as unknown as Value, dir, as: 'list' },
          cpu,
        )
        expect(answer.rule).toBe('done')
        const all = answer.outputs['segments'] as unknown as Item[]
        const count = Number(answer.outputs['count'])
        const segments = all.slice(0, count)
        const total = given.reduce((n, e) => n + e.bytes, 0n)
        expect(segments.reduce((n, s) => n + s.bytes, 0n)).toBe(total)
        expect(all.slice(count).every((s) => s.bytes === 0n)).toBe(true)

        let at = 0
        let into = 0n
        for (const { address, bytes } of given.filter((e) => e.bytes > 0n)) {
          const segment = segments[at] as Item
          expect(into + bytes).toBeLessThanOrEqual(segment.bytes)
          expect(translate(guest, segment.address + into)).toBe(address)
          expect(translate(guest, segment.address + into + bytes - 1n)).toBe(address + bytes - 1n)
          into += bytes
          if (into === segment.bytes) [at, into] = [at + 1, 0n]
        }
        for (const s of segments.slice(1)) expect(s.bytes).toBeGreaterThan(0n)
        expect(guest.call('dma_unmap_sg', { device: 'nic', buffer: 'list' }).rule).toBe('done')
        expect(device.table?.usedCount).toBe(idle)
        expect(guest.hypervisor.live().size).toBe(0)
      }),
      { numRuns: 400 },
    )
  })

  it('a list that the hypervisor refuses somewhere leaves nothing behind', () => {
    fc.assert(
      fc.property(lists, fc.nat(30), ({ elements, cpu }, after) => {
        let left = after
        guest.hypervisor.refuse = (call) => (call.startsWith('H_PUT') && left-- === 0 ? -44 : undefined)
        const given = elements.map((e) => ({ address: BigInt(e.page) << 12n, bytes: BigInt(e.bytes) }))
        const answer = guest.call(
          'dma_map_sg',
          { device: 'nic', segments: given as unknown as Value, as: 'list' },
          cpu,
        )
        guest.hypervisor.refuse = () => undefined
        if (answer.rule === 'done') guest.call('dma_unmap_sg', { device: 'nic', buffer: 'list' })
        else expect(answer).toMatchObject({ code: 'EIO', rule: 'set-failed' })
        expect(device.table?.usedCount).toBe(idle)
        expect(guest.hypervisor.live().size).toBe(0)
      }),
      { numRuns: 200 },
    )
  })
})
