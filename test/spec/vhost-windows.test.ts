import { describe, expect, it } from 'vitest'
import type { GuestInput } from '../../src/machine/powernv/guest-description.ts'
import { vhostGuest } from '../support/vhost-guest.ts'
import { BUID, LIOBN } from '../support/vmm.ts'

const WINDOW_64 = 1n << 59n
const LIOBN_64 = LIOBN + 1n
const WITH_DDW: GuestInput = { phbs: [{ virtio: [{ name: 'net0', kind: 'net' }] }] }
/** The group of the host is below the same PHB. */
const WITH_GROUP: GuestInput = {
  phbs: [{ ddw: false, groups: [0], virtio: [{ name: 'net0', kind: 'net' }] }],
}

describe('a window that opens while the device is ready', () => {
  const opened = (remedy: 'kill-hook' | 'userspace' | 'none') => {
    const world = vhostGuest({ remedy, guest: WITH_DDW })
    world.virtio('ready')
    expect(world.createWindow(16n, 24n).outputs).toMatchObject({ liobn: LIOBN_64 })
    world.put(WINDOW_64, 0x10_0003n, LIOBN_64)
    world.deviceWrites(WINDOW_64, 'first')
    return world
  }

  it('is translated with its own pages, and heard of like the first', () => {
    const { put, messagesOf, deviceWrites, memoryAt } = opened('userspace')
    expect(memoryAt(0x10_0000n, 5n)).toBe('first')
    expect(messagesOf(() => put(WINDOW_64, 0n, LIOBN_64))).toEqual(['INVALIDATE 0x800000000000000 0x10000'])
    put(WINDOW_64, 0x20_0003n, LIOBN_64)
    expect(messagesOf(() => deviceWrites(WINDOW_64 + 0x8000n, 'x'))).toEqual([
      'MISS 0x800000000008000 2',
      'UPDATE 0x800000000000000 0x10000 0x100200000 3',
    ])
  })

  it('is hooked like the first', () => {
    const { put, deviceWrites, memoryAt, found } = opened('kill-hook')
    put(WINDOW_64, 0n, LIOBN_64)
    put(WINDOW_64, 0x20_0003n, LIOBN_64)
    deviceWrites(WINDOW_64, 'other')
    expect([memoryAt(0x10_0000n, 5n), memoryAt(0x20_0000n, 5n)]).toEqual(['first', 'other'])
    expect(found()).toEqual([])
  })

  it('leaves its maps behind when it goes: nobody sends a thing', () => {
    const { removeWindow, messagesOf, deviceWrites, memoryAt, found } = opened('kill-hook')
    expect(messagesOf(() => expect(removeWindow(LIOBN_64).rule).toBe('done'))).toEqual([])
    expect(deviceWrites(WINDOW_64, 'late!').code).toBe('MEMTX_OK')
    expect(memoryAt(0x10_0000n, 5n)).toBe('late!')
    expect(found()).toContain('stale-iotlb')
  })

  it('is none to a device whose driver has reset it', () => {
    const { virtio, put, createWindow, during } = vhostGuest({ remedy: 'kill-hook', guest: WITH_DDW })
    virtio('ready')
    virtio('reset')
    createWindow(16n, 24n)
    expect(during(['iotlb.drop', 'vhost.message'], () => put(WINDOW_64, 0x10_0003n, LIOBN_64))).toEqual([])
  })

  it('is another PHB’s where the device is elsewhere', () => {
    const two: GuestInput = { phbs: [{ virtio: [{ name: 'net0', kind: 'net' }] }, {}] }
    const { virtio, perform, put, messagesOf } = vhostGuest({ remedy: 'userspace', guest: two })
    virtio('ready')
    perform('rtas', 'ibm,create-pe-dma-window', {
      cfg_addr: 0n,
      buid: BUID + 1n,
      page_shift: 16n,
      window_shift: 24n,
    })
    expect(messagesOf(() => put(WINDOW_64, 0n, LIOBN_64 + 0x100n))).toEqual([])
    // Nobody listens there: KVM keeps the table.
    expect(put(0n, 0n, LIOBN + 0x100n).layers.map((l) => l.layer)).toEqual(['kvm'])
    expect(put(0n, 0n).layers.map((l) => l.layer)).toEqual(['kvm', 'qemu'])
  })
})

describe('vhost and VFIO on one bus', () => {
  it.each(['none', 'kill-hook'] as const)(
    'remedy %s: KVM keeps the table, and hardware follows',
    (remedy) => {
      const { virtio, put, read, write, deviceReads, callsOf } = vhostGuest({ remedy, guest: WITH_GROUP })
      virtio('ready')
      write(0x10_0000n, 'hello')
      expect(callsOf(() => put(0x1_0000n, 0x10_0003n))).toEqual(['H_PUT_TCE done'])
      expect(deviceReads(0x1_0000n, 5n).outputs['data']).toBe('hello')
      expect(read(0x1_0000n).outputs['data']).toBe('hello')
    },
  )

  it('remedy userspace: the table leaves KVM, and VFIO maps for QEMU', () => {
    const { virtio, put, read, write, deviceReads, found } = vhostGuest({
      remedy: 'userspace',
      guest: WITH_GROUP,
    })
    virtio('ready')
    write(0x10_0000n, 'hello')
    expect(put(0x1_0000n, 0x10_0003n).layers.map((l) => l.layer)).toEqual(['kvm', 'qemu'])
    expect(deviceReads(0x1_0000n, 5n).outputs['data']).toBe('hello')
    expect(read(0x1_0000n).outputs['data']).toBe('hello')
    put(0x1_0000n, 0n)
    expect(deviceReads(0x1_0000n, 5n).rule).toBe('iotlb-miss')
    expect(read(0x1_0000n).rule).not.toBe('done')
    expect(found()).not.toContain('stale-iotlb')
  })
})
