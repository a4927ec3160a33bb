import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import * as kvm from '../../src/kernel/kvm/calls.ts'
import * as kvmDevice from '../../src/kernel/kvm/device-calls.ts'
import {
  KVM_H_GET_TCE,
  KVM_H_PUT_TCE,
  KVM_H_PUT_TCE_INDIRECT,
  KVM_H_STUFF_TCE,
} from '../../src/kernel/kvm/hcall-calls.ts'
import { VFIO_GROUP_SET_CONTAINER, VFIO_SET_IOMMU } from '../../src/kernel/vfio/calls.ts'
import {
  VFIO_IOMMU_SPAPR_REGISTER_MEMORY,
  VFIO_IOMMU_SPAPR_TCE_CREATE,
  VFIO_IOMMU_SPAPR_TCE_REMOVE,
} from '../../src/kernel/vfio/spapr-calls.ts'
import { PROC_MMAP } from '../../src/memory/proc-calls.ts'
import { FakeGroup } from '../support/fake-platform.ts'
import { eventsOf } from '../support/host.ts'
import {
  GUEST_BYTES,
  type KvmWorldOptions,
  LIOBN,
  makeKvm,
  withAttached,
  withGuest,
  withTable,
} from '../support/kvm.ts'
import { testRules } from '../support/rule-table.ts'
import { PAGE, UA } from '../support/vfio.ts'
import { poke } from '../support/vfio-rows.ts'

type Args = Record<string, Value>
type World = ReturnType<typeof withTable>
type Attached = ReturnType<typeof withAttached>

const LIST = 0x9_0000n
/** First bus address behind the window of `withTable`. */
const END = 0x100_0000n
const OUTSIDE_RAM = GUEST_BYTES | 3n

const put = (world: World, ioba: bigint, tce: bigint) =>
  world.call(KVM_H_PUT_TCE, { liobn: LIOBN, ioba, tce })
const get = (world: World, ioba: bigint) => world.call(KVM_H_GET_TCE, { liobn: LIOBN, ioba })
const stuff = (world: World, ioba: bigint, value: bigint, npages: bigint) =>
  world.call(KVM_H_STUFF_TCE, { liobn: LIOBN, ioba, value, npages })
/** Writes a list into the guest's memory, and makes the call. */
function indirect(world: World, ioba: bigint, tces: readonly bigint[], more: Args = {}) {
  const bytes = new Uint8Array(tces.length * 8)
  tces.forEach((tce, i) => {
    new DataView(bytes.buffer).setBigUint64(i * 8, tce)
  })
  poke(world, UA + LIST, bytes)
  return world.call(KVM_H_PUT_TCE_INDIRECT, {
    liobn: LIOBN,
    ioba,
    list: LIST,
    npages: BigInt(tces.length),
    ...more,
  })
}
/** What a call answers before its own rules: switched off, and a table that is not there. */
const foundRows = (decl: CallDecl, args: Args) => ({
  'not-enabled': () => {
    const world = withTable()
    world.call(kvm.KVM_ENABLE_CAP, { fd: world.vm, cap: 104n, arg0: BigInt(decl.nr ?? 0), arg1: 0n })
    return [world.call(decl, { liobn: 0x99n, ioba: 1n, ...args })]
  },
  'liobn-unknown': () =>
    [0x99n, LIOBN | (1n << 32n)].map((liobn) => withTable().call(decl, { liobn, ioba: 1n, ...args })),
})
/** Three hardware pages of 64 KiB behind pages of the guest of 64 KiB, the last of which are not registered. */
const partly = (options: KvmWorldOptions = {}) => {
  const world = withAttached(options)
  world.call(PROC_MMAP, { address: UA + GUEST_BYTES, bytes: GUEST_BYTES, fixed: true })
  world.call(kvm.KVM_SET_USER_MEMORY_REGION, {
    fd: world.vm,
    slot: 1n,
    gpa: GUEST_BYTES,
    bytes: GUEST_BYTES,
    vaddr: UA + GUEST_BYTES,
  })
  return world
}
/** A kernel that leaves to user space whatever takes an entry back. */
const LEAVING = { vhostRemedy: 'h-too-hard' } as const
/** A host of POWER8: its guests have a hash MMU. */
const POWER8 = { hasV3Mmu: false }
/** The guest of a POWER9 host has a hash MMU. */
function hash<W extends World>(world: W): W {
  world.call(kvm.KVM_PPC_CONFIGURE_V3_MMU, { fd: world.vm })
  return world
}
/** A host before all that Linux 4.20 changed; its guest has a radix MMU. */
const early = () => withTable({ profile: 'linux-4.19' })
const earliest = () => withTable({ profile: 'linux-4.11' })
/** Pages of the guest of 128 KiB over hardware pages of 64 KiB: those of the last page of memory are half registered. */
const halves = (options: KvmWorldOptions = {}) => {
  return withAttached({ registeredBytes: 255n * PAGE, ...options }, { page_shift: 17n, entries: 0x800n })
}
const live = (world: Attached) => world.hw.live().map(([slot, hpaPage, dir]) => [slot, hpaPage >> 4, dir])

describe('H_PUT_TCE', () => {
  testRules(KVM_H_PUT_TCE, {
    ...foundRows(KVM_H_PUT_TCE, { tce: 1n }),
    'ioba-unaligned': () => [put(withTable(), 0x1800n, OUTSIDE_RAM), put(withTable(), END + 1n, 3n)],
    'ioba-outside': () => [
      put(withTable(), END, 0x1003n | (1n << 2n)),
      put(withTable(), (1n << 64n) - 0x1000n, 3n),
      put(withTable({}, { offset: 1n }), 0n, 3n),
    ],
    // No kernel has this: `VHOST_REMEDIES`. What is wrong with the address comes first.
    'taking-back-left': () => {
      const world = withTable(LEAVING)
      expect([put(world, END, 0n).rule, put(world, 0n, 3n).rule]).toEqual(['ioba-outside', 'done'])
      return [put(world, 0n, 0n), put(world, 0x1000n, 0xdead_0000n)]
    },
    'tce-unaligned-early': () => [
      put(early(), 0n, 7n),
      put(early(), 0x1000n, GUEST_BYTES | 7n),
      put(earliest(), 0n, 4n),
    ],
    'tce-unaligned-real': () => {
      // Vector T8: the page of the table has to be there.
      const world = withTable({ profile: 'linux-5.18', ...POWER8 })
      expect([put(world, 0n, 7n).state, put(world, 0n, 3n).rule]).toEqual(['unmodelled', 'done'])
      return [put(world, 0n, 7n), put(world, 0x1000n, GUEST_BYTES | 7n)]
    },
    'tce-unaligned': () => [
      put(withTable(), 0n, GUEST_BYTES | 7n),
      put(withTable({}, { page_shift: 16n }), 0n, 0x1003n),
    ],
    'tce-outside-ram-early': () => [put(early(), 0n, OUTSIDE_RAM), put(early(), 0n, (1n << 52n) | 3n)],
    'tce-outside-ram': () => [put(withTable(), 0n, OUTSIDE_RAM), put(withAttached(), 0n, (1n << 52n) | 3n)],
    'not-registered': () => [put(partly(), 0n, OUTSIDE_RAM)],
    'table-refused': () => {
      const world = withAttached()
      world.hw.refuses = 'xchg'
      const answer = put(world, 0n, 3n)
      expect([world.mapped(), world.tces(0n, 1n)]).toEqual([1, [0n]])
      return [answer]
    },
    done: () => [
      put(withTable(), 0n, 3n),
      put(withTable(), END - 0x1000n, 0xdead_000n),
      put(withAttached(), 0n, 2n),
    ],
  })

  it('T3: poison and zeros', () => {
    const world = withTable()
    const free = () => world.host.frames.free
    const before = free()
    expect([get(world, 0n).outputs, put(world, 0x1000n, 0n).code, free()]).toEqual([
      { r4: 0n, tce: 0n },
      'H_SUCCESS',
      before,
    ])
    expect(put(world, 0x1000n, 0xdead_000n).outputs).toEqual({ r4: LIOBN })
    expect([get(world, 0x1000n).outputs['tce'], free()]).toEqual([0xdead_000n, before - 1])
    expect([put(world, 0x2000n, 0x5003n).code, get(world, 0x2000n).outputs['tce']]).toEqual([
      'H_SUCCESS',
      0x5003n,
    ])
  })

  it('a page of the table that cannot be allocated loses the value', () => {
    const world = withTable()
    world.failAt(1)
    expect([put(world, 0n, 3n).code, get(world, 0n).outputs['tce']]).toEqual(['H_SUCCESS', 0n])
  })

  it('maps in hardware what it writes, and takes it back', () => {
    const world = withAttached()
    put(world, PAGE, 3n)
    put(world, 2n * PAGE, PAGE | 1n)
    expect([live(world).map(([slot]) => slot), world.mapped()]).toEqual([[1, 2], 3])
    expect(world.hw.kills).toEqual([
      [1, 1],
      [2, 1],
    ])
    put(world, PAGE, 0xdead_000n)
    expect([live(world).map(([slot]) => slot), world.mapped(), world.tces(0n, 3n)]).toEqual([
      [2],
      2,
      [0n, 0xdead_000n, PAGE | 1n],
    ])
  })

  it('changes the table that was attached last first; where one refuses, those before it keep what they got', () => {
    const world = withAttached({
      groups: [0, 1].map((group) => ({ table: new FakeGroup({ group }), devices: [] })),
    })
    const containerFd = world.container()
    const groupFd = world.group(1)
    world.call(VFIO_GROUP_SET_CONTAINER, { fd: groupFd, container: containerFd })
    world.call(VFIO_SET_IOMMU, { fd: containerFd, type: 7n })
    world.call(VFIO_IOMMU_SPAPR_REGISTER_MEMORY, { fd: containerFd, vaddr: UA, bytes: GUEST_BYTES })
    world.call(VFIO_IOMMU_SPAPR_TCE_REMOVE, { fd: containerFd, start_addr: 0n })
    const window = { page_shift: 16n, window_bytes: 1n << 28n, levels: 1n }
    world.call(VFIO_IOMMU_SPAPR_TCE_CREATE, { fd: containerFd, ...window })
    world.call(kvmDevice.KVM_DEV_VFIO_GROUP_ADD, { fd: world.device, group: groupFd })
    const table = world.tableFd
    expect(
      world.call(kvmDevice.KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE, { fd: world.device, group: groupFd, table })
        .rule,
    ).toBe('done')
    const [first, second] = [world.hw, (world.vfio.group(1)!.table as FakeGroup).tables[0]!]
    expect([put(world, 0n, 3n).rule, world.mapped()]).toEqual(['done', 3])
    first.refuses = 'xchg'
    expect(put(world, PAGE, 3n).rule).toBe('table-refused')
    expect([first.live().length, second.live().length, world.tces(0n, 2n)]).toEqual([1, 2, [3n, 0n]])
    first.refuses = null
    second.refuses = 'xchg'
    expect(put(world, 2n * PAGE, 3n).rule).toBe('table-refused')
    expect([first.live().length, second.live().length]).toEqual([1, 2])
  })

  it('X5: what was mapped before a half page failed is cleared, and counted for ever', () => {
    for (const [profile, mapped] of [
      ['intended', 1],
      ['X5', 2],
    ] as const) {
      const world = halves({ profile })
      expect(put(world, 0n, (254n * PAGE) | 3n).rule).toBe('table-refused')
      expect([live(world), world.mapped()]).toEqual([[], mapped])
    }
  })

  it('an address of memory that a guest has twice over, above 4 GiB', () => {
    const world = withTable()
    world.call(kvm.KVM_SET_USER_MEMORY_REGION, {
      fd: world.vm,
      slot: 9n,
      gpa: 1n << 40n,
      bytes: PAGE,
      vaddr: UA,
    })
    expect([put(world, 0n, (1n << 40n) | 3n).rule, put(world, 0n, ((1n << 40n) + PAGE) | 3n).rule]).toEqual([
      'done',
      'tce-outside-ram',
    ])
  })

  it('T8 and earlier kernels: what is not modelled says so', () => {
    const world = withTable({ profile: 'linux-5.17', ...POWER8 })
    expect(put(world, 0n, 0x7n).state).toBe('unmodelled')
    expect(put(withTable({ profile: 'linux-5.17' }), 0n, 0x7n).rule).toBe('tce-unaligned')
    expect([put(world, 0n, 3n).rule, get(world, 0n).rule]).toEqual(['done', 'done'])
    const old = partly({ profile: 'linux-4.19' })
    expect(put(old, 0n, OUTSIDE_RAM).state).toBe('unmodelled')
    old.hw.refuses = 'xchg'
    expect(put(old, 0n, 3n).state).toBe('unmodelled')
    hash(old)
    expect([put(old, 0n, 3n).state, stuff(old, 0n, 0n, 1n).state, indirect(old, 0n, [3n]).state]).toEqual(
      Array.from({ length: 3 }, () => 'unmodelled'),
    )
  })

  it('before Linux 4.12 an emulated table takes any address, of a radix guest', () => {
    const world = earliest()
    expect([put(world, 0n, OUTSIDE_RAM).rule, get(world, 0n).outputs['tce']]).toEqual(['done', OUTSIDE_RAM])
    expect(indirect(world, 0n, [3n, OUTSIDE_RAM, 7n]).rule).toBe('tce-unaligned-early')
    expect(world.tces(0n, 3n)).toEqual([3n, OUTSIDE_RAM, 0n])
    expect(put(hash(earliest()), 0n, OUTSIDE_RAM).state).toBe('unmodelled')
    const attached = withAttached({ profile: 'unchecked-tces' })
    expect(put(attached, 0n, OUTSIDE_RAM).rule).toBe('tce-outside-ram')
  })

  it('before Linux 5.2 real mode finds every page of a table', () => {
    expect(put(hash(withTable({ profile: 'linux-5.1' })), 0n, 7n).rule).toBe('tce-unaligned-real')
    expect(put(hash(withTable({ profile: 'linux-5.2' })), 0n, 7n).state).toBe('unmodelled')
    const world = hash(withTable({ profile: 'linux-5.1' }))
    expect(put(world, 0n, 3n).layers).toMatchObject([{ layer: 'kvm-real', code: 'H_SUCCESS' }])
  })

  it.each([
    ['H_PUT_TCE', (world: World) => put(world, 0n, 0n)],
    ['H_STUFF_TCE', (world: World) => stuff(world, 0n, 0n, 2n)],
  ] as const)('B13: %s of a page that is not there stops the host, in real mode', (_, clear) => {
    const at = (profile: string) => withAttached({ profile, ...POWER8 })
    const world = at('linux-5.14.5')
    expect([clear(world).state, world.bugs.length]).toEqual(['dead', 1])
    const there = at('linux-5.14.5')
    put(there, PAGE, 3n)
    const radix = withAttached({ profile: 'linux-5.14.5' })
    for (const safe of [there, radix, at('linux-5.14.6')]) expect(clear(safe).rule).toBe('done')
    expect(stuff(at('linux-5.14.5'), 0n, 0n, 0n).rule).toBe('done')
  })

  it.each([
    ['linux-5.13', 'tce-unaligned-real'],
    ['linux-5.14', 'tce-unaligned'],
  ])('a hash guest of POWER9 with %s: %s', (profile, rule) => {
    const world = hash(withAttached({ profile }))
    expect([put(world, 0n, 3n).rule, put(world, 0n, 7n).rule, indirect(world, 0n, [7n]).rule]).toEqual([
      'done',
      rule,
      rule,
    ])
  })

  it('real mode does what virtual mode does, where it has all that it needs', () => {
    const world = withAttached({ profile: 'real-mode-handlers', ...POWER8 })
    expect([put(world, 0n, 3n).rule, put(world, PAGE, PAGE | 1n).rule, world.mapped()]).toEqual([
      'done',
      'done',
      3,
    ])
    expect([indirect(world, 2n * PAGE, [3n, 0n]).rule, world.mapped()]).toEqual(['done', 4])
    expect([stuff(world, 0n, 0xdead_0000n, 4n).rule, world.mapped()]).toEqual(['done', 1])
    expect(world.tces(0n, 4n)).toEqual(Array.from({ length: 4 }, () => 0xdead_0000n))
    world.hw.userSlot(0, true)
    put(world, 0n, 3n)
    world.hw.userSlot(0, true)
    world.hw.setUser(0x6000, 0)
    expect([stuff(world, 0n, 0n, 1n).rule, put(world, 0n, (1n << 40n) | 3n).rule]).toEqual([
      'table-refused',
      'tce-outside-ram',
    ])
  })

  // Vector T9 by hypercalls, for a window at 0: the first call for a leaf that is missing fails in real mode.
  it.each([
    ['linux-5.17', 255],
    ['linux-5.18', 256],
    ['intended', 256],
  ])('B1 with %s: a page is mapped, and of another %i entries are left', (profile, left) => {
    const options = { profile, windowBytes: 1n << 34n, levels: 2n, ...POWER8 }
    const world = withAttached(options, { page_shift: 24n, entries: 0x400n })
    expect([put(world, 0n, 3n).rule, live(world).length]).toEqual(['done', 256])
    expect(put(world, 0x2000_0000n, 3n).rule).toBe('done')
    const slots = live(world).map(([slot]) => slot as number)
    expect([
      slots.filter((slot) => slot < 256).length,
      slots.filter((slot) => slot >= 0x2000).length,
    ]).toEqual([left, 256])
    expect(slots.includes(0x20)).toBe(left === 256)
  })
})

describe('H_PUT_TCE_INDIRECT', () => {
  const many = (count: number, tce: bigint) => Array.from({ length: count }, () => tce)
  testRules(KVM_H_PUT_TCE_INDIRECT, {
    ...foundRows(KVM_H_PUT_TCE_INDIRECT, { list: 1n, npages: 513n }),
    'too-many': () =>
      [513n, 1n << 32n, 1n << 63n].map((npages) => indirect(withTable(), 1n, [], { npages, list: 1n })),
    'list-unaligned': () => [indirect(withTable(), 1n, [3n], { list: LIST + 8n })],
    'ioba-unaligned': () => [indirect(withTable(), END + 1n, [3n])],
    'ioba-outside': () => [
      indirect(withTable(), END, [3n], { list: GUEST_BYTES }),
      indirect(withTable(), END - 0x1000n, [3n, 3n]),
    ],
    'list-outside-ram': () => {
      const world = withTable()
      world.qemu.mm.munmap(UA + LIST, PAGE)
      return [
        indirect(withTable(), 0n, [7n], { list: GUEST_BYTES }),
        indirect(withTable(), 0n, [], { list: 1n << 63n }),
        world.call(KVM_H_PUT_TCE_INDIRECT, { liobn: LIOBN, ioba: 0n, list: LIST, npages: 1n }),
      ]
    },
    'taking-back-left': () => {
      const world = withTable(LEAVING)
      expect(indirect(world, 0n, [3n, 0x1003n]).rule).toBe('done')
      const answers = [indirect(world, 0n, [3n, 0n]), indirect(world, 0n, [0x5000n, 7n])]
      expect(world.tces(0n, 2n)).toEqual([3n, 0x1003n])
      return answers
    },
    'tce-unaligned-early': () => {
      const world = early()
      // Looked at one by one (B5): what is before it is written.
      const answer = indirect(world, 0n, [3n, 0x1003n, 7n, OUTSIDE_RAM])
      expect(world.tces(0n, 3n)).toEqual([3n, 0x1003n, 0n])
      return [answer]
    },
    'tce-unaligned-real': () => {
      const world = withAttached({ profile: 'linux-5.18', ...POWER8 })
      expect([indirect(world, 0n, [7n]).state, put(world, 0n, 3n).rule]).toEqual(['unmodelled', 'done'])
      const answer = indirect(world, 0n, [1n, 7n])
      expect(world.tces(0n, 1n)).toEqual([3n])
      return [answer]
    },
    'tce-unaligned': () => {
      const world = withTable()
      const answer = indirect(world, 0n, [3n, GUEST_BYTES | 7n])
      expect(world.tces(0n, 1n)).toEqual([0n])
      return [answer]
    },
    'tce-outside-ram-early': () => {
      const world = early()
      const answer = indirect(world, 0n, [3n, OUTSIDE_RAM, 7n])
      expect(world.tces(0n, 2n)).toEqual([3n, 0n])
      const whole = withTable({ profile: 'early-tce-checks' })
      const other = indirect(whole, 0n, [3n, OUTSIDE_RAM])
      expect(whole.tces(0n, 1n)).toEqual([0n])
      return [answer, other]
    },
    'tce-outside-ram': () => [indirect(withTable(), 0n, [3n, OUTSIDE_RAM, 7n])],
    'not-registered': () => [indirect(partly(), 0n, [3n, OUTSIDE_RAM])],
    'poison-outside-ram': () => {
      const world = withTable({ profile: 'X2' })
      const answer = indirect(world, 0n, [3n, GUEST_BYTES, 3n])
      expect(world.tces(0n, 3n)).toEqual([3n, 0n, 0n])
      expect(indirect(withTable(), 0n, [3n, GUEST_BYTES]).rule).toBe('done')
      return [answer]
    },
    'table-refused': () => {
      const world = halves()
      const answer = indirect(world, 0n, [3n, (254n * PAGE) | 3n, 3n])
      expect([live(world).length, world.mapped(), world.tces(0n, 3n)]).toEqual([2, 3, [3n, 0n, 0n]])
      return [answer]
    },
    done: () => [
      indirect(withTable(), 0n, many(512, 3n)),
      indirect(withTable(), END, []),
      indirect(withAttached(), 0n, [3n, PAGE | 1n]),
    ],
  })

  it('X2, T18: poison is mapped without permissions', () => {
    const right = withAttached()
    indirect(right, 0n, [3n])
    indirect(right, 0n, [0n])
    expect([live(right), right.mapped()]).toEqual([[], 1])
    const wrong = withAttached({ profile: 'X2' })
    indirect(wrong, 0n, [3n])
    indirect(wrong, 0n, [0n])
    expect([wrong.mapped(), put(wrong, 0n, 0n).rule, wrong.mapped()]).toEqual([2, 'done', 2])
  })

  it('X2: poison that is no multiple of a page stops the kernel', () => {
    const world = withAttached({ profile: 'X2' })
    expect(indirect(world, 0n, [4n])).toMatchObject({ state: 'dead' })
    expect(world.bugs).toHaveLength(1)
    expect(indirect(withAttached(), 0n, [4n]).rule).toBe('done')
  })

  it('B4: the first page is cleared for the one that failed', () => {
    const world = halves({ profile: 'B4' })
    expect(indirect(world, 0n, [3n, (254n * PAGE) | 3n]).rule).toBe('table-refused')
    expect(live(world).map(([slot]) => slot)).toEqual([2])
  })

  it('B2: caches are told the numbers of the guest, at the end', () => {
    const world = withAttached({ profile: 'B2' }, { page_shift: 17n, entries: 0x800n })
    world.hw.kills.length = 0
    indirect(world, 4n * PAGE, [3n, 3n])
    expect(world.hw.kills).toEqual([[2, 2]])
    put(world, 0n, 3n)
    expect(world.hw.kills[1]).toEqual([0, 1])
  })
})

describe('H_STUFF_TCE', () => {
  testRules(KVM_H_STUFF_TCE, {
    ...foundRows(KVM_H_STUFF_TCE, { value: 3n, npages: 1n }),
    'ioba-unaligned': () => [stuff(withTable(), END + 1n, 3n, 1n)],
    'ioba-outside': () => [
      stuff(withTable(), END, 3n, 1n),
      stuff(withTable(), END - 0x1000n, 3n, 2n),
      stuff(withTable(), 0n, 3n, (1n << 64n) - 1n),
    ],
    'value-grants-access': () => [1n, 2n, 0x5003n].map((value) => stuff(withTable(), 0n, value, 1n)),
    'taking-back-left': () => {
      const patched = withTable({ vhostRemedy: 'stuff-too-hard' })
      expect(stuff(patched, 0n, 0xdead_000n, 1n).rule).toBe('done')
      expect([put(patched, 0n, 0n).rule, stuff(withTable(LEAVING), 0n, 3n, 1n).rule]).toEqual([
        'done',
        'value-grants-access',
      ])
      return [
        stuff(patched, 0n, 0n, 3n),
        stuff(withTable(LEAVING), 0n, 0n, 3n),
        stuff(withTable(LEAVING), 0n, 0xdead_000n, 1n),
      ]
    },
    'table-refused': () => {
      const world = withAttached()
      put(world, PAGE, 3n)
      world.hw.userSlot(1, true)
      world.hw.setUser(0x6000, 0)
      const answer = stuff(world, 0n, 0xdead_000n, 3n)
      expect([live(world).length, world.tces(0n, 3n)]).toEqual([1, [0n, 3n, 0n]])
      return [answer]
    },
    done: () => [
      stuff(withTable(), 0n, 0xdead_000n, 0x1000n),
      stuff(withTable(), END, 0n, 0n),
      stuff(withAttached(), 0n, 0n, 8n),
    ],
  })

  it('fills the table and clears hardware; more than 512 pages at once', () => {
    const world = withAttached()
    for (let i = 0n; i < 8n; i++) put(world, i * PAGE, 3n)
    expect([world.mapped(), stuff(world, PAGE, 0xbeef_000n, 600n).rule, world.mapped()]).toEqual([
      9,
      'done',
      2,
    ])
    expect(world.tces(0n, 3n)).toEqual([3n, 0xbeef_000n, 0xbeef_000n])
    expect(world.tces(600n, 2n)).toEqual([0xbeef_000n, 0n])
  })

  it('T10, B3: the caches are told of the pages behind', () => {
    const kills = (profile: string) => {
      const world = withAttached({ profile })
      world.hw.kills.length = 0
      stuff(world, 0n, 0n, 4n)
      return world.hw.kills
    }
    expect(kills('intended')).toEqual([0, 1, 2, 3].map((entry) => [entry, 1]))
    expect(kills('linux-5.17')).toEqual([[4, 4]])
    expect(kills('B2')).toEqual([[0, 4]])
  })

  it('X14: only the first page is looked at; the rest of the last page of the table is written, and what is behind is not', () => {
    const world = withTable({ profile: 'X14' })
    expect(stuff(world, END - 0x1000n, 0xdead_000n, 2n).rule).toBe('done')
    expect(world.tces(0xfffn, 2n)).toEqual([0xdead_000n, 0xdead_000n])
    expect([get(world, END).rule, stuff(world, END, 0n, 0n).rule]).toEqual(['ioba-outside', 'ioba-outside'])
    expect(eventsOf(world, 'memory.corrupt')).toEqual([])
    stuff(world, END - 0x1000n, 0xdead_000n, 0x1002n)
    expect(eventsOf(world, 'memory.corrupt')).toMatchObject([{ space: 'kernel', address: 8n, bytes: 8 }])
    const most = 1n << 20n
    expect(stuff(world, END - 0x1000n, 0n, most + 2n)).toMatchObject({
      state: 'unmodelled',
      rule: 'H_STUFF_TCE of more than 1048576 entries behind the end of a table',
    })
    expect(stuff(world, END - 0x1000n, 0n, most + 1n).rule).toBe('done')
    expect(stuff(world, 0n, 0n, 1n << 40n).state).toBe('unmodelled')
    const hw = withAttached({ profile: 'X14', windowBytes: 1n << 28n })
    stuff(hw, 0xfffn * PAGE, 0n, 2n)
    expect(hw.hw.outside).toEqual([])
  })
})

describe('H_GET_TCE', () => {
  testRules(KVM_H_GET_TCE, {
    ...foundRows(KVM_H_GET_TCE, {}),
    'ioba-unaligned': () => [get(withTable(), END + 1n)],
    'ioba-outside': () => {
      const answer = get(withTable(), END)
      expect(answer.outputs).toEqual({ r4: LIOBN })
      return [answer]
    },
    done: () => [get(withTable(), END - 0x1000n)],
  })

  it('sees what user space writes through a mapping; hardware does not', () => {
    const world = withAttached()
    world.call(kvm.WRITE_TCE, { map: 'tce', entry: 1n, tce: 3n })
    expect([get(world, PAGE).outputs['tce'], live(world)]).toEqual([3n, []])
  })
})

describe('who makes a call', () => {
  it('is the VM of a VCPU: the lowest of the process, or the one that is named', () => {
    const world = withTable()
    const other = world.fdOf(world.call(kvm.KVM_CREATE_VM, { fd: world.kvmFd, type: 0n }))
    const vcpu = world.fdOf(world.call(kvm.KVM_CREATE_VCPU, { fd: other, id: 0n }))
    put(world, 0n, 3n)
    const ask = (more: Args) => world.call(KVM_H_GET_TCE, { liobn: LIOBN, ioba: 0n, ...more })
    expect([ask({}).outputs['tce'], ask({ vcpu: world.vcpu }).outputs['tce']]).toEqual([3n, 3n])
    expect(ask({ vcpu }).rule).toBe('liobn-unknown')
    expect([ask({ vcpu: other }).state, ask({ process: 'nobody' }).state]).toEqual([
      'unmodelled',
      'unmodelled',
    ])
    expect(makeKvm().call(KVM_H_GET_TCE, { liobn: 1n, ioba: 0n }).state).toBe('unmodelled')
    expect(withGuest().call(KVM_H_GET_TCE, { liobn: 1n, ioba: 0n }).rule).toBe('liobn-unknown')
  })
})
