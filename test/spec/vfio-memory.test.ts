import { describe, expect, it } from 'vitest'
import { U64_MAX } from '../../src/bits/u64.ts'
import { encodeStruct } from '../../src/kernel/user-struct.ts'
import {
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_SET_IOMMU,
} from '../../src/kernel/vfio/calls.ts'
import {
  VFIO_IOMMU_DISABLE,
  VFIO_IOMMU_ENABLE,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_SPAPR_REGISTER_MEMORY,
  VFIO_IOMMU_SPAPR_TCE_GET_INFO,
  VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY,
  VFIO_IOMMU_UNMAP_DMA,
} from '../../src/kernel/vfio/spapr-calls.ts'
import { STRUCTS } from '../../src/kernel/vfio/structs.ts'
import { FakeGroup } from '../support/fake-platform.ts'
import { testRules } from '../support/rule-table.ts'
import { attached, makeVfio, PAGE, registered, UA, type VfioWorld } from '../support/vfio.ts'
import { driverRows, NOWHERE, poke } from '../support/vfio-rows.ts'

const READ_ONLY = 0x2000_0000n
const GIB = 2n ** 30n

type Fd = VfioWorld & { readonly fd: bigint }
const register = ({ call, fd }: Fd, vaddr: bigint, bytes: bigint, more: Record<string, bigint> = {}) =>
  call(VFIO_IOMMU_SPAPR_REGISTER_MEMORY, { fd, vaddr, bytes, ...more })
const unregister = ({ call, fd }: Fd, vaddr: bigint, bytes: bigint, more: Record<string, bigint> = {}) =>
  call(VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, { fd, vaddr, bytes, ...more })
const map = ({ call, fd }: Fd, iova: bigint, vaddr = UA) =>
  call(VFIO_IOMMU_MAP_DMA, { fd, iova, vaddr, bytes: PAGE })
const unmap = ({ call, fd }: Fd, iova: bigint) => call(VFIO_IOMMU_UNMAP_DMA, { fd, iova, bytes: PAGE })
const v1 = (more: Parameters<typeof attached>[0] = {}) => attached({ ...more, type: 2n })

/** Two containers of one process, each with a group. */
function two() {
  const world = makeVfio({
    groups: [0, 1].map((group) => ({ table: new FakeGroup({ group }), devices: [] })),
  })
  const [a, b] = [0, 1].map((group) => {
    const fd = world.container()
    world.call(VFIO_GROUP_SET_CONTAINER, { fd: world.group(group), container: fd })
    world.call(VFIO_SET_IOMMU, { fd, type: 7n })
    return { ...world, fd }
  })
  return [a!, b!] as const
}

describe('VFIO_IOMMU_SPAPR_TCE_GET_INFO', () => {
  const readOnly = () => {
    const world = attached()
    world.mmap(READ_ONLY, PAGE)
    const arg = poke(world, READ_ONLY, encodeStruct(STRUCTS.info, { argsz: 16n }))
    world.qemu.mm.mprotect(READ_ONLY, PAGE, { read: true, write: false })
    return world.call(VFIO_IOMMU_SPAPR_TCE_GET_INFO, { fd: world.fd, arg })
  }
  testRules(VFIO_IOMMU_SPAPR_TCE_GET_INFO, {
    ...driverRows(VFIO_IOMMU_SPAPR_TCE_GET_INFO),
    'bad-pointer': () => {
      const { call, fd } = attached()
      return [call(VFIO_IOMMU_SPAPR_TCE_GET_INFO, { fd, arg: NOWHERE, argsz: 0n })]
    },
    'argsz-short': () => {
      const { call, fd } = attached()
      return [0n, 15n].map((argsz) => call(VFIO_IOMMU_SPAPR_TCE_GET_INFO, { fd, argsz }))
    },
    'pointer-not-writable': () => [readOnly()],
    done: () => {
      const { call, fd } = attached()
      const answers = [16n, 31n, 32n].map((argsz) => call(VFIO_IOMMU_SPAPR_TCE_GET_INFO, { fd, argsz }))
      const short = { flags: 1n, dma32_start: 0n, dma32_bytes: 0x8000_0000n, pgsizes: 0n, levels: 0n }
      const full = { ...short, pgsizes: 0x4021_1000n, max_windows: 2n, levels: 5n }
      expect(answers.map((a) => a.outputs)).toMatchObject([short, short, full])
      const world = v1()
      const old = world.call(VFIO_IOMMU_SPAPR_TCE_GET_INFO, { fd: world.fd })
      expect(old.outputs).toMatchObject({ flags: 0n, dma32_bytes: 0x8000_0000n, pgsizes: 0n })
      return [...answers, old]
    },
  })

  it('writes 16 bytes of a structure in memory where argsz has no more', () => {
    const world = attached()
    const arg = poke(world, UA, new Uint8Array(32).fill(0xee))
    poke(world, UA, encodeStruct(STRUCTS.info, { argsz: 31n }).subarray(0, 4))
    world.call(VFIO_IOMMU_SPAPR_TCE_GET_INFO, { fd: world.fd, arg })
    const bytes = new Uint8Array(32)
    world.qemu.mm.read(arg, bytes)
    expect([...bytes.subarray(0, 20)]).toEqual([
      31,
      0,
      0,
      0,
      1,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      0x80,
      ...[238, 238, 238, 238],
    ])
  })
})

describe('VFIO_IOMMU_ENABLE', () => {
  const enable = ({ call, fd }: Fd) => call(VFIO_IOMMU_ENABLE, { fd })
  const without = () =>
    v1({ groups: [{ table: new FakeGroup({ tce32Bytes: 0 }), devices: [] }], memlockBytes: 0n })
  testRules(VFIO_IOMMU_ENABLE, {
    ...driverRows(VFIO_IOMMU_ENABLE),
    'not-v1': () => [enable(registered())],
    enabled: () => {
      const world = v1({ memlockBytes: 32_768n * PAGE })
      enable(world)
      return [enable(world)]
    },
    'no-32-bit-window': () => [enable(without())],
    limit: () => [enable(v1({ memlockBytes: 32_767n * PAGE }))],
    done: () => {
      const world = v1({ memlockBytes: 32_768n * PAGE })
      const answer = enable(world)
      expect(world.qemu.mm.locked.pages).toBe(32_768n)
      return [answer]
    },
  })
})

describe('VFIO_IOMMU_DISABLE', () => {
  const disable = ({ call, fd }: Fd) => call(VFIO_IOMMU_DISABLE, { fd })
  testRules(VFIO_IOMMU_DISABLE, {
    ...driverRows(VFIO_IOMMU_DISABLE),
    'not-v1': () => [disable(registered())],
    'not-enabled': () => [disable(v1())],
    done: () => {
      const world = v1()
      world.call(VFIO_IOMMU_ENABLE, { fd: world.fd })
      map(world, 0n)
      const answer = disable(world)
      expect([world.qemu.mm.locked.pages, map(world, 0n).rule]).toEqual([128n, 'not-enabled'])
      expect(world.pe.tables[0]?.live()).toHaveLength(16)
      return [answer]
    },
  })
})

describe('VFIO_IOMMU_SPAPR_REGISTER_MEMORY', () => {
  testRules(VFIO_IOMMU_SPAPR_REGISTER_MEMORY, {
    ...driverRows(VFIO_IOMMU_SPAPR_REGISTER_MEMORY),
    'not-v2': () => [register(v1(), UA, PAGE, { arg: NOWHERE })],
    'bad-pointer': () => [register(attached(), UA, PAGE, { arg: NOWHERE })],
    'argsz-short': () => [register(attached(), UA, PAGE, { argsz: 23n, flags: 1n })],
    'flags-unknown': () => [1n, 0x8000_0000n].map((flags) => register(attached(), UA + 1n, PAGE, { flags })),
    unaligned: () => [
      register(attached(), UA + 0x1000n, PAGE),
      register(attached(), UA, 0x800n),
      register(attached(), U64_MAX, PAGE),
    ],
    'range-wraps': () => [register(attached(), U64_MAX - PAGE + 1n, PAGE)],
    held: () => [register(registered(), UA, 256n * PAGE)],
    limit: () => [
      register(attached({ memlockBytes: PAGE }), UA, 2n * PAGE),
      register(attached({ memlockBytes: PAGE }), NOWHERE & ~0xffffn, 2n * PAGE),
      ...[1, 2].map((n) => {
        const world = registered()
        world.failAllocation(n)
        return register(world, UA + PAGE, PAGE)
      }),
    ],
    'partly-pinned': () => {
      const world = attached({ memoryErrata: ['partial-pin-count'] })
      const answer = register(world, UA + 255n * PAGE, 2n * PAGE)
      expect(answer.outputs['pinned']).toBe(1n)
      return [answer]
    },
    'not-pinnable': () => [
      register(attached(), 0n, PAGE),
      register(registered(), UA + 255n * PAGE, 2n * PAGE),
    ],
    overlap: () => [register(registered(), UA, PAGE), register(registered(), UA + PAGE, PAGE)],
    'no-entry-record': () => {
      const alone = attached()
      alone.failAllocation(3)
      const first = register(alone, UA, PAGE)
      expect([alone.qemu.mm.locked.pages, alone.memory.isUsed(alone.qemu.mm)]).toEqual([0n, false])
      expect(map(alone, 0n).rule).toBe('not-enabled')
      const [a, b] = two()
      register(a, UA, PAGE)
      b.failAllocation(1)
      const second = register(b, UA, PAGE)
      expect([a.qemu.mm.locked.pages, unregister(a, UA, PAGE).rule]).toEqual([1n, 'done'])
      return [first, second]
    },
    shared: () => {
      const [a, b] = two()
      register(a, UA, PAGE)
      const answer = register(b, UA, PAGE)
      expect(a.qemu.mm.locked.pages).toBe(1n)
      return [answer]
    },
    done: () => {
      const world = attached({ memlockBytes: 3n * PAGE })
      const answers = [register(world, UA, PAGE), register(world, UA + PAGE, 2n * PAGE)]
      expect(world.qemu.mm.locked.pages).toBe(3n)
      return answers
    },
  })

  // T11: the pages are charged before the overlap is found.
  it.each([
    [30_000n, 'EINVAL'],
    [20_000n, 'ENOMEM'],
  ])('with a limit of %d pages half of a region again answers %s', (limit, code) => {
    const pages = 2n ** 14n
    const world = attached({ memlockBytes: limit * PAGE, pages, frames: 2 ** 14 + 64 })
    expect(register(world, UA, GIB).code).toBe('OK')
    expect(register(world, UA, GIB).code).toBe('EBUSY')
    expect(register(world, UA, GIB / 2n).code).toBe(code)
    expect(world.qemu.mm.locked.pages).toBe(pages)
  })
})

describe('VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY', () => {
  const ALL = 256n * PAGE
  const mapped = (profile: string, ...iovas: bigint[]) => {
    const world = registered({ profile })
    for (const iova of iovas) map(world, iova)
    return world
  }
  testRules(VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, {
    ...driverRows(VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY),
    'not-v2': () => [unregister(v1(), UA, ALL, { arg: NOWHERE })],
    'no-process-yet': () => [unregister(attached(), UA, ALL, { arg: NOWHERE })],
    'bad-pointer': () => [unregister(registered(), UA, ALL, { arg: NOWHERE })],
    'argsz-short': () => [unregister(registered(), UA, ALL, { argsz: 23n, flags: 1n })],
    'flags-unknown': () => [unregister(registered(), UA + 1n, ALL, { flags: 1n })],
    unaligned: () => [unregister(registered(), UA + 1n, PAGE), unregister(registered(), UA, 1n)],
    'not-registered': () => [
      unregister(registered(), UA, PAGE),
      unregister(registered(), UA + PAGE, ALL - PAGE),
    ],
    'not-held': () => {
      const [a, b] = two()
      register(a, UA, PAGE)
      register(b, UA + PAGE, PAGE)
      return [unregister(b, UA, PAGE)]
    },
    'in-use': () => {
      const world = mapped('intended', 0n)
      const answers = [unregister(world, UA, ALL), unregister(world, UA, ALL)]
      unmap(world, 0n)
      expect(unregister(world, UA, ALL).rule).toBe('done')
      return answers
    },
    orphaned: () => [unregister(mapped('linux-6.1', 0n), UA, ALL)],
    done: () => {
      const world = registered()
      const answer = unregister(world, UA, ALL)
      expect(world.qemu.mm.locked.pages).toBe(0n)
      return [answer]
    },
  })

  // T12
  it('the last of two containers gives the pages back', () => {
    const [a, b] = two()
    register(a, UA, ALL)
    register(b, UA, ALL)
    expect([unregister(a, UA, ALL).rule, a.qemu.mm.locked.pages]).toEqual(['done', 256n])
    expect([unregister(b, UA, ALL).rule, a.qemu.mm.locked.pages]).toEqual(['done', 0n])
  })

  it('a container of two lets go although mappings are live', () => {
    const [a, b] = two()
    register(a, UA, ALL)
    register(b, UA, ALL)
    map(a, 0n)
    expect(unregister(a, UA, ALL).rule).toBe('done')
    expect(unregister(b, UA, ALL).rule).toBe('in-use')
  })

  it.each([
    ['intended', ['done', 'not-held', 'shared'], 0n],
    ['linux-6.12.95', ['done', 'not-held', 'shared'], 256n],
  ])('%s: a container that goes first leaves memory to the one that maps it', (profile, rules, left) => {
    const world = makeVfio({
      profile,
      groups: [0, 1].map((group) => ({ table: new FakeGroup({ group }), devices: [] })),
    })
    const [a, b] = [0, 1].map((group) => {
      const [fd, groupFd] = [world.container(), world.group(group)]
      world.call(VFIO_GROUP_SET_CONTAINER, { fd: groupFd, container: fd })
      world.call(VFIO_SET_IOMMU, { fd, type: 7n })
      return { ...world, fd, groupFd }
    })
    const locked = () => world.qemu.mm.locked.pages
    world.mmap(0x2_0000_0000n, PAGE)
    register(a!, UA, ALL)
    register(b!, 0x2_0000_0000n, PAGE)
    expect([map(b!, 0n).rule, map(b!, PAGE).rule, locked()]).toEqual(['done', 'done', 256n + 1n + 128n])
    world.call(VFIO_GROUP_UNSET_CONTAINER, { fd: a!.groupFd })
    expect([unmap(b!, 0n).rule, unregister(b!, UA, ALL).rule, register(b!, UA, ALL).rule]).toEqual(rules)
    expect(locked()).toBe(256n + 1n + 128n)
    // The one that registers it again has it now, or is one of two holders of whom one is gone.
    expect([unmap(b!, PAGE).rule, unregister(b!, UA, ALL).rule, locked()]).toEqual([
      'done',
      'done',
      left + 129n,
    ])
  })

  it('what nobody holds any more goes with its last mapping', () => {
    const world = registered()
    const region = world.memory.find(world.qemu.mm, UA, ALL)
    world.memory.mappedInc(region)
    world.memory.mappedInc(region)
    world.memory.leave(region)
    world.memory.mappedDec(region)
    expect([world.memory.usesOf(region), world.qemu.mm.locked.pages]).toEqual([1, 256n])
    world.memory.mappedDec(region)
    expect([world.memory.usesOf(region), world.qemu.mm.locked.pages]).toEqual([0, 0n])
  })

  // T13
  it('orphaned memory is found by nobody afterwards, and another registration of it costs nothing', () => {
    const world = mapped('linux-6.1', 0n, PAGE)
    const answers = [unregister(world, UA, ALL)]
    for (const iova of [0n, PAGE]) unmap(world, iova)
    answers.push(unregister(world, UA, ALL))
    expect(answers.map((a) => a.rule)).toEqual(['orphaned', 'not-held'])
    expect(world.qemu.mm.locked.pages).toBe(256n + 128n)
    expect(register(world, UA, ALL).rule).toBe('shared')
    expect(world.qemu.mm.locked.pages).toBe(256n + 128n)
  })

  it('a part of a region takes all of it with B10', () => {
    const world = registered({ profile: 'B10' })
    expect(unregister(world, UA + PAGE, PAGE).rule).toBe('done')
    expect(world.qemu.mm.locked.pages).toBe(0n)
    expect(unregister(world, UA + PAGE, PAGE).rule).toBe('not-registered')
  })
})
