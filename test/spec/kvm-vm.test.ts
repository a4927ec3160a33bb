import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import {
  KVM_CHECK_EXTENSION,
  KVM_CREATE_SPAPR_TCE,
  KVM_CREATE_SPAPR_TCE_64,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_ENABLE_CAP,
  KVM_PPC_CONFIGURE_V3_MMU,
  KVM_SET_USER_MEMORY_REGION,
  MMAP_TCE,
  READ_TCE,
  WRITE_TCE,
} from '../../src/kernel/kvm/calls.ts'
import { KVM_CREATE_DEVICE, KVM_DEV_VFIO_GROUP_ADD } from '../../src/kernel/kvm/device-calls.ts'
import { STRUCTS } from '../../src/kernel/kvm/structs.ts'
import { encodeStruct } from '../../src/kernel/user-struct.ts'
import { CLOSE, MMAP_DEVICE, MUNMAP_DEVICE, OPEN, VFIO_GET_API_VERSION } from '../../src/kernel/vfio/calls.ts'
import { PROC_EXIT, PROC_FORK } from '../../src/memory/proc-calls.ts'
import {
  GUEST_BYTES,
  type KvmWorldOptions,
  LIOBN,
  makeKvm,
  TABLE,
  withGuest,
  withHardware,
  withTable,
  withVm,
} from '../support/kvm.ts'
import { fileRows } from '../support/kvm-rows.ts'
import { testRules } from '../support/rule-table.ts'
import { PAGE, UA } from '../support/vfio.ts'
import { NO_FD, NOWHERE, poke } from '../support/vfio-rows.ts'

type Args = Record<string, Value>
type World = ReturnType<typeof makeKvm>

/** Opens files of KVM until the process has no descriptor left. */
function fill(world: World): void {
  while (world.call(OPEN, { path: '/dev/kvm' }).code === 'OK');
}

/** The child of the process, which has its files. */
function asChild<W extends World>(world: W): W {
  world.call(PROC_FORK, { child: 'child' })
  world.processes.actor = 'child'
  return world
}

const noProcess = (decl: CallDecl, args: Args = {}) => {
  const world = makeKvm()
  world.call(PROC_FORK, { child: 'child' })
  world.call(PROC_EXIT, { process: 'child' })
  return ['nobody', 'child'].map((process) => world.call(decl, { ...args, process, fd: NO_FD }))
}
const fdRows = (decl: CallDecl, args: Args = {}) => ({
  'no-such-process': () => noProcess(decl, args),
  'bad-fd': () => [NO_FD, 0n].map((fd) => withVm().call(decl, { ...args, fd })),
})
const vmRows = (decl: CallDecl, args: Args = {}) => ({
  ...fdRows(decl, args),
  ...fileRows(decl, decl === KVM_ENABLE_CAP ? ['vm', 'vcpu'] : ['vm'], args),
  'other-process': () => {
    const world = asChild(withVm())
    return [world.call(decl, { ...args, fd: world.vm, ...('arg' in decl.args ? { arg: NOWHERE } : {}) })]
  },
})
const structRows = (decl: CallDecl, args: Args = {}) => ({
  ...vmRows(decl, args),
  'bad-pointer': () => {
    const world = withVm()
    return [world.call(decl, { ...args, fd: world.vm, arg: NOWHERE })]
  },
})
/** A call whose n-th allocation fails, for each that it makes. */
const failing = (allocations: number, run: (world: ReturnType<typeof withGuest>) => Answer): Answer[] =>
  Array.from({ length: allocations }, (_, i) => {
    const world = withGuest()
    const before = world.qemu.mm.locked.pages
    world.failAt(i + 1)
    const answer = run(world)
    expect(world.qemu.mm.locked.pages).toBe(before)
    return answer
  })

describe('KVM_CHECK_EXTENSION', () => {
  const ask = (extension: bigint, options: KvmWorldOptions = {}) => {
    const world = withVm(options)
    return [world.kvmFd, world.vm].map((fd) => world.call(KVM_CHECK_EXTENSION, { fd, extension }))
  }
  testRules(KVM_CHECK_EXTENSION, {
    ...fdRows(KVM_CHECK_EXTENSION, { extension: 63n }),
    ...fileRows(KVM_CHECK_EXTENSION, ['kvm', 'vm'], { extension: 10n }),
    'other-process': () => {
      const world = asChild(withVm())
      expect(world.call(KVM_CHECK_EXTENSION, { fd: world.kvmFd, extension: 63n }).rule).toBe('supported')
      return [world.call(KVM_CHECK_EXTENSION, { fd: world.vm, extension: 63n })]
    },
    supported: () => [63n, 64n, 94n, 98n, 104n, 125n, 134n, 142n].flatMap((n) => ask(n)),
    unsupported: () => [...[12n, 83n, 95n, 126n].flatMap((n) => ask(n)), ...ask(134n, { hasV3Mmu: false })],
  })

  it('says where it does not know', () => {
    expect(ask(10n).map((a) => a.state)).toEqual(['unmodelled', 'unmodelled'])
    expect(ask(64n, { hasV3Mmu: false })[0]?.state).toBe('unmodelled')
  })
})

describe('KVM_CREATE_VM', () => {
  testRules(KVM_CREATE_VM, {
    ...fdRows(KVM_CREATE_VM, { type: 9n }),
    ...fileRows(KVM_CREATE_VM, ['kvm'], { type: 9n }),
    'other-process': () => {
      const world = asChild(withVm())
      return [world.call(KVM_CREATE_VM, { fd: world.vm, type: 0n })]
    },
    'too-many-files': () => {
      const world = makeKvm()
      fill(world)
      return [world.call(KVM_CREATE_VM, { fd: world.kvmFd, type: 9n })]
    },
    'no-memory': () => failing(2, ({ call, kvmFd }) => call(KVM_CREATE_VM, { fd: kvmFd, type: 0n })),
    'type-unknown': () =>
      [3n, 1n << 63n].map((type) => {
        const { call, kvmFd } = makeKvm()
        return call(KVM_CREATE_VM, { fd: kvmFd, type })
      }),
    done: () =>
      [0n, 1n].map((type) => {
        const { call, kvmFd } = makeKvm()
        return call(KVM_CREATE_VM, { fd: kvmFd, type })
      }),
  })

  it('knows no PR KVM, no named call of VFIO on its files, and no container of another process', () => {
    const world = withVm()
    expect(world.call(KVM_CREATE_VM, { fd: world.kvmFd, type: 2n }).state).toBe('unmodelled')
    const other = asChild(withHardware())
    expect(other.call(KVM_CREATE_VM, { fd: other.containerFd, type: 0n }).state).toBe('unmodelled')
    const guest = withGuest()
    expect(guest.call(KVM_ENABLE_CAP, { fd: guest.vcpu, cap: 104n }).state).toBe('unmodelled')
    expect(asChild(guest).call(KVM_ENABLE_CAP, { fd: guest.vcpu, cap: 104n }).code).toBe('EIO')
    expect(world.call(VFIO_GET_API_VERSION, { fd: world.vm }).state).toBe('unmodelled')
    expect(world.call(MMAP_DEVICE, { fd: world.vm, map: 'x' }).code).toBe('ENODEV')
  })

  it('a VM holds the address space until its last file is gone', () => {
    const world = withGuest()
    const table = world.fdOf(world.table())
    const { mm } = world.qemu
    expect(mm.holders).toBe(2)
    for (const fd of [world.vm, world.vcpu]) world.call(CLOSE, { fd })
    expect(mm.holders).toBe(2)
    world.call(CLOSE, { fd: table })
    expect(mm.holders).toBe(1)
    expect(mm.locked.pages).toBe(0n)
  })

  it('all goes with the process, whatever order its files go in', () => {
    const world = withHardware()
    world.call(KVM_DEV_VFIO_GROUP_ADD, { fd: world.device, group: world.groupFd })
    world.attach()
    world.call(PROC_EXIT)
    expect([world.qemu.mm.holders, world.qemu.mm.locked.pages, world.hw.references]).toEqual([0, 0n, 0])
  })
})

describe('KVM_SET_USER_MEMORY_REGION', () => {
  const D = KVM_SET_USER_MEMORY_REGION
  const TOP = 1n << 52n
  const set = (more: Args = {}, world = withVm()) =>
    world.call(D, { fd: world.vm, bytes: PAGE, vaddr: UA, ...more })
  const twice = (first: Args, second: Args) => {
    const world = withVm()
    expect(set(first, world).code).toBe('OK')
    return set(second, world)
  }
  testRules(KVM_SET_USER_MEMORY_REGION, {
    ...structRows(D),
    'flags-unknown': () => [2n, 4n].map((flags) => set({ flags, bytes: 1n })),
    unaligned: () => [
      set({ bytes: 0x1000n }),
      set({ gpa: 0x1000n, slot: 40_000n }),
      set({ vaddr: UA + 4096n }),
    ],
    'vaddr-outside': () => [set({ vaddr: TOP }), set({ vaddr: TOP - PAGE, bytes: 2n * PAGE, slot: 40_000n })],
    'slot-unknown': () => [32_767n, 0x1_0000n].map((slot) => set({ slot, gpa: (1n << 64n) - PAGE })),
    'gpa-wraps': () => [set({ gpa: (1n << 64n) - PAGE, bytes: 2n * PAGE })],
    'too-many-pages': () => [set({ bytes: 2n ** 47n, vaddr: 0n })],
    'no-such-slot': () => [set({ bytes: 0n }), twice({}, { slot: 1n, bytes: 0n })],
    removed: () => {
      const world = withVm()
      set({}, world)
      const answer = set({ bytes: 0n }, world)
      expect(set({ bytes: 0n }, world).rule).toBe('no-such-slot')
      expect(set({}, world).rule).toBe('done')
      return [answer]
    },
    reshaped: () => [twice({}, { bytes: 2n * PAGE }), twice({}, { vaddr: UA + PAGE, gpa: PAGE })],
    same: () => [twice({}, {})],
    overlaps: () => [twice({ bytes: 2n * PAGE }, { slot: 1n, gpa: PAGE }), twice({}, { slot: 32_766n })],
    'no-memory': () => [
      ...failing(1, ({ call, vm }) =>
        call(D, { fd: vm, slot: 1n, gpa: GUEST_BYTES, bytes: PAGE, vaddr: UA }),
      ),
      ...failing(2, ({ call, vm }) => call(D, { fd: vm, gpa: GUEST_BYTES, bytes: GUEST_BYTES, vaddr: UA })),
      ...failing(1, ({ call, vm }) => call(D, { fd: vm, bytes: 0n })),
    ],
    moved: () => [
      twice({}, { gpa: 2n * PAGE }),
      twice({ bytes: 2n * PAGE }, { gpa: PAGE, bytes: 2n * PAGE }),
    ],
    done: () => [set(), set({ slot: 32_766n, gpa: 1n << 40n }), twice({}, { slot: 1n, gpa: PAGE })],
  })

  it('reads its structure from memory, and says what it has no room for', () => {
    const world = withVm()
    const bytes = encodeStruct(STRUCTS.slot, { slot: 3n, gpa: PAGE, bytes: PAGE, vaddr: UA })
    const arg = poke(world, UA, bytes)
    expect(world.call(D, { fd: world.vm, arg }).rule).toBe('done')
    expect(set({ slot: 3n, gpa: PAGE }, world).rule).toBe('same')
    expect([set({ flags: 1n }).state, set({ gpa: 1n << 52n }).state]).toEqual(['unmodelled', 'unmodelled'])
  })
})

describe('KVM_CREATE_VCPU', () => {
  const D = KVM_CREATE_VCPU
  testRules(KVM_CREATE_VCPU, {
    ...vmRows(D, { id: 0n }),
    'no-memory': () => failing(2, ({ call, vm }) => call(D, { fd: vm, id: 7n })),
    'core-taken': () => {
      const world = withGuest()
      fill(world)
      return [world.call(D, { fd: world.vm, id: 0n })]
    },
    'id-taken': () => {
      const world = withGuest({ hasV3Mmu: false })
      fill(world)
      return [world.call(D, { fd: world.vm, id: 0n })]
    },
    'too-many-files': () => {
      const world = withGuest()
      fill(world)
      return [world.call(D, { fd: world.vm, id: 1n })]
    },
    done: () => {
      const world = withGuest()
      return [1n, 2047n].map((id) => world.call(D, { fd: world.vm, id }))
    },
  })

  it('of higher numbers, and its memory, are not modelled', () => {
    const world = withGuest()
    expect(world.call(D, { fd: world.vm, id: 2048n }).state).toBe('unmodelled')
    expect(world.call(MMAP_DEVICE, { fd: world.vcpu, map: 'run' }).state).toBe('unmodelled')
  })
})

describe('KVM_ENABLE_CAP', () => {
  const D = KVM_ENABLE_CAP
  const set = (more: Args) => {
    const world = withVm()
    return world.call(D, { fd: world.vm, cap: 104n, arg0: 0x138n, arg1: 1n, ...more })
  }
  testRules(KVM_ENABLE_CAP, {
    ...structRows(D),
    'flags-unknown': () => [set({ flags: 1n }), set({ flags: 1n, arg0: 1n })],
    'hcall-invalid': () => [set({ arg0: 0x139n }), set({ arg1: 2n })],
    done: () => [set({}), set({ arg1: 0n }), set({ arg0: 0x20n, arg1: 0n })],
  })

  it('knows one capability, and hypercalls for TCEs', () => {
    expect([set({ cap: 105n }).state, set({ arg0: 8n }).state]).toEqual(['unmodelled', 'unmodelled'])
  })
})

describe('KVM_PPC_CONFIGURE_V3_MMU', () => {
  const D = KVM_PPC_CONFIGURE_V3_MMU
  const R = 1n << 63n
  const set = (flags: bigint, process_table: bigint, hasV3Mmu = true) => {
    const world = withVm({ hasV3Mmu })
    return world.call(D, { fd: world.vm, flags, process_table })
  }
  testRules(KVM_PPC_CONFIGURE_V3_MMU, {
    ...structRows(D),
    'no-v3-mmu': () => [set(4n, R, false)],
    'flags-unknown': () => [set(4n, R), set(1n << 63n, 0n)],
    'table-disagrees': () => [set(1n, 0n), set(0n, R), set(2n, R | 25n)],
    'table-too-large': () => [set(3n, R | 25n), set(0n, 31n)],
    done: () => [set(3n, R), set(3n, R | 24n), set(0n, 0n)],
  })
})

/** What both forms share after their shape was looked at. */
const makingRows = (decl: CallDecl, args: Args) => {
  const make = (world: ReturnType<typeof withGuest>) => world.call(decl, { fd: world.vm, ...args })
  return {
    limit: () => [make(withGuest({ memlockBytes: PAGE }))],
    'no-memory': () => failing(2, make),
    'liobn-taken': () => {
      const world = withGuest()
      make(world)
      const { pages } = world.qemu.mm.locked
      fill(world)
      const answer = make(world)
      expect(world.qemu.mm.locked.pages).toBe(pages)
      return [answer]
    },
    'too-many-files': () => {
      const world = withGuest()
      fill(world)
      const answer = make(world)
      expect(world.qemu.mm.locked.pages).toBe(0n)
      return [answer]
    },
    done: () => {
      const world = withGuest({ memlockBytes: 2n * PAGE })
      const answer = make(world)
      expect(world.qemu.mm.locked.pages).toBe(2n)
      return [answer]
    },
  }
}

describe('KVM_CREATE_SPAPR_TCE', () => {
  const D = KVM_CREATE_SPAPR_TCE
  testRules(KVM_CREATE_SPAPR_TCE, {
    ...structRows(D),
    empty: () =>
      [0n, 4095n].map((window_bytes) => {
        const world = withVm({ memlockBytes: 0n })
        return world.call(D, { fd: world.vm, liobn: 1n, window_bytes })
      }),
    ...makingRows(D, { liobn: LIOBN, window_bytes: 0x1_0000n }),
  })
})

describe('KVM_CREATE_SPAPR_TCE_64', () => {
  const D = KVM_CREATE_SPAPR_TCE_64
  const make = (more: Args) => {
    const world = withVm({ memlockBytes: 0n })
    return world.call(D, { fd: world.vm, ...TABLE, ...more })
  }
  testRules(KVM_CREATE_SPAPR_TCE_64, {
    ...structRows(D),
    'flags-unknown': () => [make({ flags: 1n, entries: 0n })],
    empty: () => [make({ entries: 0n, page_shift: 11n })],
    'page-shift': () => [make({ page_shift: 11n, offset: 1n << 60n }), make({ page_shift: 35n })],
    // Vector T1: the sum may equal 2^52 - 1, and no more.
    'window-wraps': () => [
      make({ offset: 2n ** 52n - 1n, entries: 2n }),
      make({ page_shift: 34n, offset: 1n << 30n }),
    ],
    ...makingRows(D, TABLE),
  })

  it('T1: the last window that there is', () => {
    const world = withVm()
    expect(world.call(D, { fd: world.vm, ...TABLE, offset: 2n ** 52n - 2n, entries: 1n }).rule).toBe('done')
  })

  it('offset and entries are added in 64 bits, and wrap', () => {
    expect(make({ offset: 2n ** 64n - 1n, entries: 2n }).rule).toBe('limit')
  })

  it('and so are the bytes of the entries: a table without pages is made, and charged for its record', () => {
    const world = withVm()
    const locked = () => world.qemu.mm.locked.pages
    const before = locked()
    const made = world.call(D, {
      fd: world.vm,
      ...TABLE,
      page_shift: 21n,
      offset: 1n << 38n,
      entries: 2n ** 64n - 1n,
    })
    expect([made.rule, locked() - before]).toEqual(['done', 1n])
    expect(
      world.call(D, { fd: world.vm, ...TABLE, liobn: 9n, offset: 1n, entries: 2n ** 61n * 7n }).rule,
    ).toBe('window-wraps')
  })

  it('T2: a table of 1 GiB is charged 33 pages until its last holder is gone', () => {
    const world = withGuest()
    const { mm } = world.qemu
    const fd = world.fdOf(world.table({ liobn: 0x8000_0000n, entries: 0x4_0000n }))
    expect(mm.locked.pages).toBe(33n)
    expect(world.table({ liobn: 0x8000_0000n }).code).toBe('EBUSY')
    expect(world.table({ liobn: 0x1_8000_0000n }).code).toBe('OK')
    expect(mm.locked.pages).toBe(35n)
    world.call(MMAP_TCE, { fd, map: 'a' })
    world.call(CLOSE, { fd })
    expect([mm.locked.pages, world.table({ liobn: 0x8000_0000n }).code]).toEqual([35n, 'EBUSY'])
    world.call(MUNMAP_DEVICE, { map: 'a' })
    expect([mm.locked.pages, world.table({ liobn: 0x8000_0000n }).code]).toEqual([2n, 'OK'])
  })

  it('a record of more than 16 MiB finds no memory', () => {
    const world = withGuest()
    expect(world.table({ entries: 2n ** 34n }).rule).toBe('no-memory')
    expect(world.qemu.mm.locked.pages).toBe(0n)
  })
})

describe('KVM_CREATE_DEVICE', () => {
  const D = KVM_CREATE_DEVICE
  const made = (more: Args = {}, world = withVm()) => world.call(D, { fd: world.vm, type: 4n, ...more })
  testRules(KVM_CREATE_DEVICE, {
    ...structRows(D),
    'type-unknown': () =>
      [0n, 1n, 2n, 5n, 8n, 10n, 11n, 0xffff_ffffn].flatMap((type) => [
        made({ type, flags: 1n }),
        made({ type }, withHardware()),
      ]),
    tested: () => {
      const { call, vm } = withHardware()
      return [made({ flags: 1n }), made({ flags: 3n }), call(D, { fd: vm, type: 4n, flags: 1n })]
    },
    'no-memory': () => failing(3, ({ call, vm }) => call(D, { fd: vm, type: 4n })),
    exists: () => {
      const world = withHardware()
      fill(world)
      return [made({}, world)]
    },
    'too-many-files': () => {
      const world = withVm()
      fill(world)
      return [made({}, world)]
    },
    'pointer-not-writable': () => {
      const world = withVm()
      const arg = poke(world, UA, encodeStruct(STRUCTS.device, { type: 4n }))
      world.qemu.mm.mprotect(UA, PAGE, { read: true, write: false })
      const answer = world.call(D, { fd: world.vm, arg })
      expect(made({}, world).rule).toBe('exists')
      return [answer]
    },
    done: () => {
      const answer = made()
      expect(answer).toMatchObject({ free: ['device_fd'], outputs: { device_fd: 5n } })
      return [answer, made({ flags: 0xffff_fffen })]
    },
  })

  it('says where it does not know: controllers of interrupts', () => {
    expect([made({ type: 3n }).state, made({ type: 9n, flags: 1n }).state]).toEqual([
      'unmodelled',
      'unmodelled',
    ])
  })

  it.each([
    ['intended', 'done'],
    ['linux-6.1', 'exists'],
  ])('%s: after the device was closed another one: %s', (profile, rule) => {
    const world = withHardware({ profile })
    world.call(KVM_DEV_VFIO_GROUP_ADD, { fd: world.device, group: world.groupFd })
    world.call(CLOSE, { fd: world.groupFd })
    expect(world.call(OPEN, { path: '/dev/vfio/0' }).rule).toBe('group-open')
    world.call(CLOSE, { fd: world.device })
    expect(made({}, world).rule).toBe(rule)
    expect(world.call(OPEN, { path: '/dev/vfio/0' }).code).toBe(rule === 'done' ? 'OK' : 'EBUSY')
  })
})

describe('a mapping of a table', () => {
  testRules(MMAP_TCE, {
    ...fdRows(MMAP_TCE, { map: 'tce' }),
    'name-taken': () => {
      const { call, tableFd } = withTable()
      return [call(MMAP_TCE, { fd: tableFd, map: 'tce' })]
    },
    done: () => {
      const { call, tableFd } = withTable()
      return [call(MMAP_TCE, { fd: tableFd, map: 'again' })]
    },
  })

  const noMapping = (decl: CallDecl, args: Args) => ({
    'no-such-process': () => [makeKvm().call(decl, { ...args, process: 'nobody', map: 'tce' })],
    'not-mapped': () => [withTable().call(decl, { ...args, map: 'other' })],
  })

  describe('reads', () => {
    testRules(READ_TCE, {
      ...noMapping(READ_TCE, { first: 1n << 40n }),
      'past-end': () =>
        [0x2000n, 1n << 40n].map((first) => withTable().call(READ_TCE, { map: 'tce', first })),
      done: () => {
        const world = withTable()
        const owned = () => world.host.frames.free
        const before = owned()
        const answers = [0n, 0x1fffn].map((first) => world.call(READ_TCE, { map: 'tce', first }))
        expect(owned()).toBe(before - 1)
        return answers
      },
    })
  })

  describe('writes', () => {
    testRules(WRITE_TCE, {
      ...noMapping(WRITE_TCE, { entry: 1n << 40n, tce: 1n }),
      'past-end': () => [withTable().call(WRITE_TCE, { map: 'tce', entry: 0x2000n, tce: 1n })],
      done: () => {
        const world = withTable()
        const answer = world.call(WRITE_TCE, { map: 'tce', entry: 7n, tce: 0x1_2345_6003n })
        expect(world.tces(6n, 3n)).toEqual([0n, 0x1_2345_6003n, 0n])
        return [answer]
      },
    })
  })

  it('for which there is no memory is not modelled', () => {
    const world = withTable()
    world.failAt(1)
    expect(world.call(READ_TCE, { map: 'tce' }).state).toBe('unmodelled')
    world.failAt(1)
    expect(world.call(WRITE_TCE, { map: 'tce', entry: 0n, tce: 1n }).state).toBe('unmodelled')
  })
})
