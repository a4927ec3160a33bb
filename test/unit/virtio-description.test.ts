import { describe, expect, it } from 'vitest'
import { describeMachine, type MachineInput } from '../../src/machine/description.ts'
import type { PowernvDescription } from '../../src/machine/powernv/description.ts'

const net = (name: string, slot?: number) => ({ name, kind: 'net' as const, slot })

describe('virtio devices of a description', () => {
  it('follow the devices of their PHB, network devices with vhost', () => {
    const { phbs } = describeMachine({
      phbs: [
        {
          devices: [{ name: 'edu0', kind: 'edu' }],
          virtio: [net('a'), { name: 'b', kind: 'blk' }, { name: 'c', kind: 'net', hasVhost: false }],
        },
      ],
    })
    expect(phbs[0]).toMatchObject({
      virtio: [
        { name: 'a', kind: 'net', slot: 1, function: 0, hasVhost: true },
        { name: 'b', kind: 'blk', slot: 2, function: 0, hasVhost: false },
        { name: 'c', kind: 'net', slot: 3, function: 0, hasVhost: false },
      ],
    })
  })

  it('are those of a guest on a POWER host as well, with the remedy that is described', () => {
    const describeGuest = (guest: object) =>
      (describeMachine({ kind: 'powernv', guest }) as PowernvDescription).guest
    expect(describeGuest({ phbs: [{ virtio: [net('net0')] }] })?.phbs[0]?.virtio).toEqual([
      { name: 'net0', kind: 'net', slot: 0, function: 0, hasVhost: true },
    ])
    expect(describeGuest({})).not.toHaveProperty('vhostRemedy')
    expect(describeGuest({ vhostRemedy: 'kill-hook' })).toMatchObject({ vhostRemedy: 'kill-hook' })
  })

  const phb = (virtio: readonly object[]): MachineInput => ({
    phbs: [{ devices: [{ name: 'edu0', kind: 'edu' }], virtio }] as never,
  })
  it.each<[string, MachineInput, string]>([
    ['a name that is taken', phb([net('edu0')]), 'name edu0 is taken by device edu0'],
    ['a slot that is taken', phb([net('a', 0)]), 'slot 0.0 of pci0 is taken by device edu0'],
    [
      'a name of the host',
      { kind: 'powernv', guest: { phbs: [{ virtio: [net('phb0')] }] } } as MachineInput,
      'name phb0 is taken by PHB phb0',
    ],
  ])('refuses %s', (_what, given, message) => {
    expect(() => describeMachine(given)).toThrow(message)
  })
})
