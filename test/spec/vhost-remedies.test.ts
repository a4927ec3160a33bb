import { describe, expect, it } from 'vitest'
import { VHOST_REMEDIES, type VhostRemedy } from '../../src/kernel/vhost-remedy.ts'
import { GUEST_UA, LIOBN, type VhostGuestOptions, vhostGuest } from '../support/vhost-guest.ts'

/** A guest that has used the page at 0x10000 through vhost. */
function live(options: VhostGuestOptions = {}) {
  const world = vhostGuest(options)
  world.virtio('ready')
  world.put(0x10000n, 0x700003n)
  world.deviceWrites(0x10010n, 'hello')
  return world
}
type World = ReturnType<typeof live>

const stories = {
  H_STUFF_TCE: ({ stuff, put }: World) => [stuff(0x10000n, 0n, 3n), put(0x10000n, 0x800003n)],
  'H_PUT_TCE of 0': ({ put }: World) => [put(0x10000n, 0n), put(0x10000n, 0x800003n)],
  'H_PUT_TCE over it': ({ put }: World) => [put(0x10000n, 0x800003n)],
} as const
type Story = keyof typeof stories

const STALE = ['stale-iotlb', 'stale-iotlb']
/** Overwriting is the guest's own fault as well. */
const OVERWRITTEN = ['double-map']

/** What is found for each remedy and way to change a page: nothing, or a map that stays and its use. */
const found: Record<VhostRemedy, Record<Story, readonly string[]>> = {
  none: { H_STUFF_TCE: STALE, 'H_PUT_TCE of 0': STALE, 'H_PUT_TCE over it': [...OVERWRITTEN, ...STALE] },
  userspace: { H_STUFF_TCE: [], 'H_PUT_TCE of 0': [], 'H_PUT_TCE over it': [...OVERWRITTEN, ...STALE] },
  'stuff-too-hard': {
    H_STUFF_TCE: [],
    'H_PUT_TCE of 0': STALE,
    'H_PUT_TCE over it': [...OVERWRITTEN, ...STALE],
  },
  'h-too-hard': { H_STUFF_TCE: [], 'H_PUT_TCE of 0': [], 'H_PUT_TCE over it': [...OVERWRITTEN, ...STALE] },
  'kill-hook': { H_STUFF_TCE: [], 'H_PUT_TCE of 0': [], 'H_PUT_TCE over it': OVERWRITTEN },
  eventfd: { H_STUFF_TCE: STALE, 'H_PUT_TCE of 0': STALE, 'H_PUT_TCE over it': [...OVERWRITTEN, ...STALE] },
  'mm-list': { H_STUFF_TCE: [], 'H_PUT_TCE of 0': [], 'H_PUT_TCE over it': [...OVERWRITTEN, ...STALE] },
}

describe.each(VHOST_REMEDIES)('remedy %s', (remedy) => {
  it.each(Object.keys(stories) as Story[])('a page that is changed by %s', (story) => {
    const world = live({ remedy })
    for (const answer of stories[story](world)) expect(answer).toMatchObject({ code: 'H_SUCCESS' })
    expect(world.deviceWrites(0x10010n, 'frame').code).toBe('MEMTX_OK')
    const isStale = found[remedy][story].includes('stale-iotlb')
    expect([world.memoryAt(0x700010n, 5n), world.memoryAt(0x800010n, 5n)]).toEqual(
      isStale ? ['frame', 'hex:0000000000'] : ['hello', 'frame'],
    )
    expect(world.found().sort()).toEqual([...found[remedy][story]].sort())
  })

  it('says who answers: KVM, or QEMU behind it', () => {
    const { stuff, put } = live({ remedy })
    const layers = (answer: { layers: readonly { layer: string }[] }) => answer.layers.map((l) => l.layer)
    const map = layers(put(0x20000n, 0x700003n))
    const clear = layers(put(0x20000n, 0n))
    const many = layers(stuff(0x20000n, 0n, 2n))
    const inKernel = ['kvm']
    const left = ['kvm', 'qemu']
    expect([map, clear, many]).toEqual(
      {
        none: [inKernel, inKernel, inKernel],
        userspace: [left, left, left],
        'stuff-too-hard': [inKernel, inKernel, left],
        'h-too-hard': [inKernel, left, left],
        'kill-hook': [inKernel, inKernel, inKernel],
        eventfd: [inKernel, inKernel, inKernel],
        'mm-list': [inKernel, inKernel, inKernel],
      }[remedy],
    )
  })
})

describe('vector T25: the table is in KVM, which has KVM_CAP_SPAPR_TCE_VFIO', () => {
  const t25 = (options: VhostGuestOptions = {}) => {
    const phbs = [{ ddw: false, virtio: [{ name: 'net0', kind: 'net' }] }] as const
    const world = vhostGuest({ ...options, guest: { ramBytes: 1n << 27n, phbs } })
    world.virtio('ready')
    world.put(0x10000n, 0x7000003n)
    return world
  }

  it('the miss, the answer, and H_STUFF_TCE that sends no message', () => {
    const { messagesOf, deviceWrites, stuff, found: findings } = t25()
    expect(messagesOf(() => deviceWrites(0x10010n, 'x'))).toEqual([
      'MISS 0x10010 2',
      `UPDATE 0x10000 0x1000 0x${(GUEST_UA + 0x7000000n).toString(16)} 3`,
    ])
    expect(messagesOf(() => expect(stuff(0x10000n, 0n, 3n).code).toBe('H_SUCCESS'))).toEqual([])
    expect(messagesOf(() => expect(deviceWrites(0x10010n, 'x').code).toBe('MEMTX_OK'))).toEqual([])
    expect(findings()).toEqual(STALE)
  })

  it.each([
    ['userspace', 3],
    ['h-too-hard', 3],
    ['kill-hook', 0],
  ] as const)('remedy %s: the next access misses, and nobody has an answer', (remedy, invalidates) => {
    const { messagesOf, deviceWrites, stuff } = t25({ remedy })
    deviceWrites(0x10010n, 'x')
    expect(messagesOf(() => stuff(0x10000n, 0n, 3n))).toEqual(
      ['INVALIDATE 0x10000 0x1000', 'INVALIDATE 0x11000 0x1000', 'INVALIDATE 0x12000 0x1000'].slice(
        0,
        invalidates,
      ),
    )
    expect(messagesOf(() => expect(deviceWrites(0x10010n, 'x').rule).toBe('iotlb-miss'))).toEqual([
      'MISS 0x10010 2',
    ])
  })

  it('a kernel without that capability: QEMU takes the table out of KVM by itself', () => {
    const { stuff, messagesOf, deviceWrites } = t25({ host: { profile: 'linux-4.11' } })
    deviceWrites(0x10010n, 'x')
    expect(stuff(0x20000n, 0n, 1n).layers.map((l) => l.layer)).toEqual(['kvm', 'qemu'])
    expect(messagesOf(() => stuff(0x10000n, 0n, 1n))).toEqual(['INVALIDATE 0x10000 0x1000'])
  })

  it('without B8 the kernel has vhost forget, with no message', () => {
    const { stuff, during, deviceWrites, found: findings } = t25({ host: { profile: 'linux-6.12.95 -B8' } })
    deviceWrites(0x10010n, 'x')
    expect(during(['vhost.message', 'iotlb.drop'], () => stuff(0x10000n, 0n, 3n))).toMatchObject([
      { kind: 'iotlb.drop', iova: 0x10000n, last: 0x12fffn, maps: 1, why: 'invalidate' },
    ])
    expect(findings()).toEqual([])
  })
})

describe('a guest without KVM', () => {
  const phbs = [{ ddw: false, virtio: [{ name: 'net0', kind: 'net' as const }] }]

  it('has no table in KVM, and no remedy to need; B12 is QEMU’s', () => {
    const { put, stuff, deviceWrites, found: findings } = live({ guest: { hasKvm: false, phbs } })
    stuff(0x10000n, 0n, 1n)
    put(0x10000n, 0x800003n)
    deviceWrites(0x10000n, 'x')
    expect(findings()).toEqual([])
    put(0x10000n, 0x900003n)
    deviceWrites(0x10000n, 'x')
    expect(findings().sort()).toEqual([...OVERWRITTEN, ...STALE])
  })

  it('records where its memory is in QEMU', () => {
    const { machine } = live({ guest: { hasKvm: false, phbs } })
    const slots = [...machine.log.records()].map((r) => r.event).filter((e) => e.kind === 'memory.slot')
    expect(slots).toEqual([
      { kind: 'memory.slot', gpa: 0n, bytes: 1n << 24n, ua: GUEST_UA, owner: 'qemu', present: 1 },
    ])
  })
})

describe('remedy eventfd', () => {
  it('QEMU forgets the whole window when it comes to run, once for all signals', () => {
    const { put, stuff, messagesOf, perform } = live({ remedy: 'eventfd' })
    expect(messagesOf(() => [stuff(0x10000n, 0n, 1n), put(0x20000n, 0n)])).toEqual([])
    const tick = () => perform('tick', 'advance', { ticks: 1n })
    expect(messagesOf(tick)).toEqual(['INVALIDATE 0x0 0x40000000'])
    expect(messagesOf(tick)).toEqual([])
  })

  it('a device that waits for a miss has QEMU run, which then handles the signal first', () => {
    const { put, stuff, messagesOf, deviceWrites } = live({ remedy: 'eventfd' })
    stuff(0x10000n, 0n, 1n)
    put(0x30000n, 0x900003n)
    expect(messagesOf(() => deviceWrites(0x30000n, 'x'))).toEqual([
      'MISS 0x30000 2',
      'INVALIDATE 0x0 0x40000000',
      'UPDATE 0x30000 0x1000 0x100900000 3',
    ])
  })
})

describe('remedy mm-list', () => {
  const twoPhbs = {
    phbs: [
      { ddw: false, virtio: [{ name: 'net0', kind: 'net' as const }] },
      { ddw: false, virtio: [{ name: 'net1', kind: 'net' as const }] },
    ],
  }

  it.each([
    ['mm-list', ['vhost-net0', 'vhost-net1']],
    ['kill-hook', ['vhost-net0']],
  ] as const)('%s: devices that forget what one table lost: %s', (remedy, devices) => {
    const { virtio, put, deviceWrites, during } = vhostGuest({ remedy, guest: twoPhbs })
    virtio('ready')
    virtio('ready', { device: 'net1' })
    put(0x10000n, 0x700003n)
    put(0x10000n, 0x800003n, LIOBN + 0x100n)
    deviceWrites(0x10000n, 'a')
    deviceWrites(0x10000n, 'b', 'net1')
    const dropped = during(['iotlb.drop'], () => put(0x10000n, 0n))
    expect(dropped.map((e) => (e.kind === 'iotlb.drop' ? `vhost-net${e.iotlb - 1}` : ''))).toEqual(devices)
  })
})
