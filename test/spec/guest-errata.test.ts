import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import { PROP } from '../../src/kernel/guest/device-tree.ts'
import { GUEST_ERRATA } from '../../src/kernel/guest/errata.ts'
import { bootedGuest, type GuestMachineOptions, MASK_32, MASK_64 } from '../support/guest-machine.ts'

const GIB = 1n << 30n
const MIB = 1n << 20n
const WINDOW = 1n << 59n
type Id = (typeof GUEST_ERRATA)[number]['id']

const item = (address: bigint, bytes: bigint): Value => ({ address, bytes })

/** A guest whose device allocates from its default window. */
function onTable(profile: string, given: GuestMachineOptions = {}) {
  const guest = bootedGuest({ profile, bootOptions: ['disable_ddw'], ...given })
  guest.call('probe', { device: 'nic', mask: MASK_64 })
  return guest
}

/** A guest whose device allocates from a dynamic window of its own. */
function onDynamic(profile: string, pageSizes: number, given: GuestMachineOptions = {}) {
  const guest = bootedGuest({ profile, maxRamBytes: 1n << 40n, ...given })
  Object.assign(guest.hypervisor.firmware, { largest: 256n, pageSizes })
  guest.call('probe', { device: 'nic', mask: MASK_64 })
  return guest
}

/** What the deviating kernel and the right one do in the same place. */
const SHOWN: Record<Id, (profile: string) => unknown> = {
  B11: (profile) => {
    const guest = onDynamic(profile, 4)
    guest.call('alloc_pages', { owner: 'other' })
    const { code, outputs } = guest.call('dma_alloc_coherent', { device: 'nic', bytes: 0x1_0000n })
    return [code, outputs['handle']]
  },
  X11: (profile) => {
    const guest = onTable(profile)
    guest.hypervisor.refuse = (call) => (call === 'H_PUT_TCE' ? -4 : undefined)
    const { rule, warnings } = guest.call('dma_map_page', { device: 'nic', gpa: 0n, bytes: 1n })
    return [rule, warnings, guest.device('nic').table?.usedCount, guest.hypervisor.live().size]
  },
  X12: (profile) => {
    const memory = [{ gpa: 0n, bytes: GIB - MIB }]
    const guest = bootedGuest({ profile, memory })
    const { rule } = guest.call('probe', { device: 'nic', mask: MASK_64 })
    return [rule, guest.hypervisor.seen('H_PUT_TCE_INDIRECT').map((c) => c[3])]
  },
  X13: (profile) => {
    const guest = onDynamic(profile, 3)
    guest.call('dma_map_page', { device: 'nic', gpa: 512n * MIB, bytes: 1n })
    const before = guest.hypervisor.live(0x8000_0001).get(WINDOW)
    guest.call('memory_offline', { gpa: GIB - 16n * MIB, bytes: 16n * MIB })
    const seen = guest.hypervisor.seen('H_STUFF_TCE').filter(([liobn]) => liobn === 0x8000_0001n)
    return [before, seen.at(-1)]
  },
  X15: (profile) => {
    const guest = bootedGuest({ profile })
    guest.hypervisor.firmware.windows = 0
    guest.hypervisor.calls.length = 0
    guest.call('probe', { device: 'nic', mask: MASK_64 })
    return guest.hypervisor.seen('H_STUFF_TCE').length
  },
  X16: (profile) => {
    const guest = bootedGuest({ profile })
    guest.hypervisor.firmware.createStatus.push(-1)
    const { rule, outputs } = guest.call('dma_set_mask', { device: 'nic', mask: MASK_64 })
    const mapped = guest.call('dma_map_page', { device: 'nic', gpa: 0x400_0000n, bytes: 1n }).outputs[
      'handle'
    ]
    const again = guest.call('dma_set_coherent_mask', { device: 'nic', mask: MASK_64 }).rule
    return [
      rule,
      outputs['offset'],
      mapped,
      again,
      guest.call('probe', { device: 'disk', mask: MASK_64 }).rule,
    ]
  },
  X17: (profile) => {
    const guest = onTable(profile)
    let left = 1
    guest.hypervisor.refuse = (call) => (call.startsWith('H_PUT') && left-- === 0 ? -44 : undefined)
    const segments = [item(0x400_0000n, 0x1000n), item(0x500_0000n, 0x2000n)]
    guest.hypervisor.calls.length = 0
    const { code } = guest.call('dma_map_sg', { device: 'nic', segments })
    const cleared = guest.hypervisor.seen('H_STUFF_TCE').map((c) => c[3])
    return [code, guest.device('nic').table?.usedCount, cleared, guest.hypervisor.live().size]
  },
  'zero-length-first': (profile) => {
    const guest = onTable(profile)
    const segments = [item(0n, 0n), item(0x400_0000n, 0x1000n)]
    const { outputs } = guest.call('dma_map_sg', { device: 'nic', segments, as: 'list' })
    guest.call('dma_unmap_sg', { device: 'nic', buffer: 'list' })
    return [outputs['count'], guest.hypervisor.live().size]
  },
  'mask-below-window': (profile) => {
    const guest = onDynamic(profile, 3)
    guest.device('nic').coherentMask = MASK_32
    const { code, outputs } = guest.call('dma_alloc_coherent', { device: 'nic', bytes: 1n })
    return [code, outputs['handle']]
  },
  'stuff-at-once': (profile) => {
    const guest = onTable(profile)
    const { outputs } = guest.call('dma_map_page', { device: 'nic', gpa: 0n, bytes: 3n * MIB })
    guest.call('dma_unmap_page', { device: 'nic', handle: outputs['handle'] as bigint, bytes: 3n * MIB })
    const counts = guest.hypervisor.seen('H_STUFF_TCE').map((c) => c[3])
    return [counts[0], counts.length, counts.at(-1), guest.hypervisor.live().size]
  },
  'sg-offset-twice': (profile) => {
    const guest = bootedGuest({ profile, hasPmemory: true })
    guest.hypervisor.firmware.largest = GIB >> 24n
    guest.call('probe', { device: 'nic', mask: MASK_64 })
    const map = (address: bigint) =>
      guest.call('dma_map_sg', { device: 'nic', segments: [item(address, 0x1000n)], as: 'list' })
    const rules = [map(GIB - 0x1_0000n).rule, map(GIB - 0x8000n).rule]
    return [...rules, guest.call('dma_unmap_sg', { device: 'nic', buffer: 'list' }).rule]
  },
  'ddw-known-direct': (profile) => {
    const guest = bootedGuest({ profile, hasPmemory: true })
    Object.assign(guest.hypervisor.firmware, { windows: 0, largest: GIB >> 24n })
    const set = (call: string, device: string) => guest.call(call, { device, mask: MASK_64 }).rule
    return [set('dma_set_mask', 'nic'), set('dma_set_coherent_mask', 'nic'), set('dma_set_mask', 'disk')]
  },
}

const EXPECTED: Record<Id, { readonly wrong: unknown; readonly right: unknown }> = {
  B11: { wrong: ['NULL', undefined], right: ['DONE', WINDOW | 0x1_0000n] },
  X11: {
    wrong: ['done', ['H_PUT_TCE answered H_PARAMETER'], 2, 0],
    right: ['set-failed', [], 1, 0],
  },
  X12: { wrong: ['done-direct', [63n]], right: ['done-direct', [64n]] },
  X13: {
    wrong: [(512n * MIB) | 3n, [0x8000_0001n, WINDOW + GIB - 16n * MIB, 0n, 256n]],
    right: [(512n * MIB) | 3n, [0x8000_0001n, WINDOW, 0n, 256n]],
  },
  X15: { wrong: 1, right: 512 },
  X16: {
    wrong: ['done-direct', 0n, 0x400_0000n, 'done-table', 'done-table'],
    right: ['done-table', 0n, 0x1000n, 'done-table', 'done-table'],
  },
  X17: { wrong: ['EIO', 3, [0n, 1n], 0], right: ['EIO', 1, [2n, 1n], 0] },
  'zero-length-first': { wrong: [2n, 1], right: [1n, 0] },
  'mask-below-window': { wrong: ['DONE', WINDOW | 0n], right: ['NULL', undefined] },
  'stuff-at-once': { wrong: [262_144n, 2, 768n, 0], right: [512n, 514, 256n, 0] },
  'sg-offset-twice': {
    wrong: ['done-direct', 'done', 'done'],
    right: ['done-direct', 'done-direct', 'done-direct'],
  },
  'ddw-known-direct': {
    wrong: ['done-table', 'done-limited', 'done-limited'],
    right: ['done-table', 'done-table', 'done-table'],
  },
}

describe.each(GUEST_ERRATA)('$id: $title', ({ id }) => {
  it('decides what the kernel does', () => {
    expect(SHOWN[id](id)).toEqual(EXPECTED[id].wrong)
    expect(SHOWN[id]('intended')).toEqual(EXPECTED[id].right)
  })
})

describe('which kernels have which errata', () => {
  const DYNAMIC = 'zero-length-first mask-below-window ddw-known-direct'
  it.each([
    ['linux-4.9', 'B11 X11 X12 X17 zero-length-first stuff-at-once'],
    ['linux-5.13', 'B11 X11 X12 X15 X17 zero-length-first stuff-at-once sg-offset-twice'],
    ['linux-5.15', `B11 X11 X12 X13 X15 X17 ${DYNAMIC} stuff-at-once sg-offset-twice`],
    ['linux-5.15.116', `B11 X11 X12 X13 X15 X17 ${DYNAMIC} sg-offset-twice`],
    ['linux-5.15.140', `B11 X11 X12 X13 X15 X16 X17 ${DYNAMIC} sg-offset-twice`],
    ['linux-6.1', `B11 X11 X12 X13 X15 X16 X17 ${DYNAMIC} stuff-at-once sg-offset-twice`],
    ['linux-6.1.30', `X11 X12 X13 X15 X16 X17 ${DYNAMIC} stuff-at-once sg-offset-twice`],
    ['linux-6.1.176', `X11 X12 X13 X15 X16 X17 ${DYNAMIC} sg-offset-twice`],
    ['linux-6.3.6', `X11 X12 X13 X15 X16 X17 ${DYNAMIC} stuff-at-once sg-offset-twice`],
    ['linux-6.3.7', `X11 X12 X13 X15 X16 X17 ${DYNAMIC} sg-offset-twice`],
    ['linux-6.5.12', `X11 X12 X15 X16 X17 ${DYNAMIC} sg-offset-twice`],
    ['linux-6.5.13', 'X11 X12 X15 X16 X17 zero-length-first mask-below-window sg-offset-twice'],
    ['linux-6.6.2', `X11 X12 X15 X16 X17 ${DYNAMIC} sg-offset-twice`],
    ['linux-6.6.3', 'X11 X12 X15 X16 X17 zero-length-first mask-below-window sg-offset-twice'],
    ['linux-6.12', 'X11 X12 X15 X16 X17 zero-length-first mask-below-window sg-offset-twice'],
  ])('%s', (profile, ids) => {
    expect(resolveProfile(GUEST_ERRATA, profile).ids.join(' ')).toBe(ids)
  })
})

describe('enable_ddw where filling the window fails', () => {
  const failing = (profile: string) => {
    const guest = bootedGuest({ profile })
    guest.hypervisor.refuse = (call) => (call === 'H_PUT_TCE_INDIRECT' ? -4 : undefined)
    guest.hypervisor.calls.length = 0
    const answer = guest.call('dma_set_mask', { device: 'nic', mask: MASK_64 })
    return { guest, answer }
  }

  it('empties and removes the window, drops the property, and uses the table', () => {
    const { guest, answer } = failing('intended')
    expect(answer.rule).toBe('done-table')
    expect(guest.hypervisor.calls.map((c) => c.call)).toEqual([
      'rtas 0x2026',
      'rtas 0x2027',
      'H_PUT_TCE_INDIRECT',
      'H_STUFF_TCE',
      'rtas 0x2028',
    ])
    expect(guest.kernel.node('pci0')?.cells(PROP.DIRECT64)).toBeUndefined()
    expect(guest.kernel.ddw.windows).toEqual([])
  })

  it('X16: the same calls, and the device counts as direct', () => {
    const { guest, answer } = failing('X16')
    expect(answer).toMatchObject({ rule: 'done-direct', outputs: { offset: 0n } })
    const told = [...guest.log.records()].map((r) => r.event).filter((e) => e.kind === 'dma.direct')
    expect(told).toEqual([{ kind: 'dma.direct', device: 'nic', offset: 0n, limit: 0n }])
  })

  it('X12: memory that is shorter than an IOMMU page asks for 0 entries, and the window is not made', () => {
    const memory = [{ gpa: 0n, bytes: 8n * MIB }]
    const guest = bootedGuest({ profile: 'X12', memory, maxRamBytes: 16n * MIB, kernelBytes: MIB })
    expect(guest.call('probe', { device: 'nic', mask: MASK_64 }).rule).toBe('done-table')
    expect(guest.hypervisor.seen('H_PUT_TCE_INDIRECT').map((c) => c[3])).toEqual([0n])
  })

  it('without H_PUT_TCE_INDIRECT the entries go out one by one, and are taken back where one fails', () => {
    const guest = bootedGuest({ profile: 'intended', multiTce: { putIndirect: false, stuff: true } })
    let left = 10
    guest.hypervisor.refuse = (call) => (call === 'H_PUT_TCE' && left-- === 0 ? -44 : undefined)
    expect(guest.call('probe', { device: 'nic', mask: MASK_64 }).rule).toBe('done-table')
    expect(guest.hypervisor.seen('H_PUT_TCE')).toHaveLength(11 + 10)
    const hidden = bootedGuest({ profile: 'X11', multiTce: { putIndirect: false, stuff: true } })
    left = 10
    hidden.hypervisor.refuse = (call) => (call === 'H_PUT_TCE' && left-- === 0 ? -4 : undefined)
    expect(hidden.call('probe', { device: 'nic', mask: MASK_64 })).toMatchObject({
      rule: 'done-direct',
      warnings: ['H_PUT_TCE answered H_PARAMETER'],
    })
    expect(hidden.hypervisor.live(0x8000_0001).size).toBe(63)
  })
})

describe('memory that comes while a device has a dynamic window', () => {
  const grow = (profile: string) => {
    const guest = bootedGuest({ profile, memory: [{ gpa: 0n, bytes: 512n * MIB }], maxRamBytes: 1n << 40n })
    Object.assign(guest.hypervisor.firmware, { largest: 1n << 14n, pageSizes: 3 })
    guest.call('probe', { device: 'nic', mask: MASK_64 })
    guest.call('dma_map_page', { device: 'nic', gpa: 0x1000_0000n, bytes: 0x100_0000n, as: 'live' })
    return guest
  }

  it('X13: entries of live mappings are overwritten with the new memory', () => {
    const guest = grow('X13')
    const bus = guest.kernel.buffers.get('live')?.handle ?? 0n
    const gpa = bus - WINDOW
    const before = guest.hypervisor.live(0x8000_0001).get(bus)
    expect(gpa).toBeGreaterThanOrEqual(512n * MIB)
    expect(guest.call('memory_online', { gpa, bytes: 0x100_0000n }).rule).toBe('done')
    expect([before, guest.hypervisor.live(0x8000_0001).get(bus)]).toEqual([0x1000_0003n, gpa | 3n])
  })

  it('right: the window has nothing to do with it', () => {
    const guest = grow('intended')
    const { length } = guest.hypervisor.calls
    expect(guest.call('memory_online', { gpa: 512n * MIB, bytes: 512n * MIB }).rule).toBe('done')
    expect(guest.hypervisor.calls).toHaveLength(length)
  })
})

describe('the alternative of mask-below-window', () => {
  /** A window of one IOMMU page: the small pool is empty, and the last page of the large one is never given. */
  const tiny = (profile: string) => {
    const guest = bootedGuest({ profile, maxRamBytes: 1n << 40n })
    Object.assign(guest.hypervisor.firmware, { largest: 1n, pageSizes: 4 })
    guest.call('probe', { device: 'nic', mask: MASK_64 })
    return () => guest.call('dma_map_page', { device: 'nic', gpa: 0x400_0000n, bytes: 1n })
  }

  it('a window of one IOMMU page gives it out, and what comes behind it nobody knows', () => {
    const map = tiny('mask-below-window')
    expect(map()).toMatchObject({ rule: 'done', outputs: { handle: WINDOW } })
    expect(map()).toMatchObject({ state: 'unmodelled' })
  })

  it('right: it has nothing to give', () => expect(tiny('intended')().rule).toBe('no-entries'))
})

describe('the alternatives of B11', () => {
  it('a buffer longer than an IOMMU page is mapped in part, at the start of that page', () => {
    const guest = onDynamic('B11', 0x100)
    guest.call('alloc_pages', { owner: 'other' })
    const { outputs } = guest.call('dma_alloc_coherent', { device: 'nic', bytes: 3n * MIB })
    expect((outputs['gpa'] as bigint) % (2n * MIB)).toBe(0n)
    expect(guest.hypervisor.live(0x8000_0001).size).toBe(1)
    const segments = [item(0x410_0000n, 0x1000n)]
    expect(guest.call('dma_map_sg', { device: 'nic', segments }).outputs['segments']).toEqual([
      item(WINDOW + 2n * MIB * 16n, 0x1000n),
    ])
  })
})
