import { describe, expect, it } from 'vitest'
import { encodeStruct } from '../../src/kernel/user-struct.ts'
import { VFIO_GROUP_SET_CONTAINER } from '../../src/kernel/vfio/calls.ts'
import {
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_SPAPR_TCE_CREATE,
  VFIO_IOMMU_SPAPR_TCE_REMOVE,
} from '../../src/kernel/vfio/spapr-calls.ts'
import { STRUCTS } from '../../src/kernel/vfio/structs.ts'
import { FakeGroup } from '../support/fake-platform.ts'
import { testRules } from '../support/rule-table.ts'
import { attached, PAGE, registered, UA, type VfioWorld } from '../support/vfio.ts'
import { driverRows, NOWHERE, poke } from '../support/vfio-rows.ts'

const READ_ONLY = 0x2000_0000n
const GIB = 2n ** 30n
const SECOND = 1n << 59n
/** Page sizes of a PHB3. */
const PHB3 = (1n << 12n) | (1n << 16n) | (1n << 24n) | (1n << 28n)

type Fd = VfioWorld & { readonly fd: bigint }
type More = Record<string, bigint>

const create = ({ call, fd }: Fd, shift: bigint, bytes: bigint, levels = 1n, more: More = {}) =>
  call(VFIO_IOMMU_SPAPR_TCE_CREATE, { fd, page_shift: shift, window_bytes: bytes, levels, ...more })
const remove = ({ call, fd }: Fd, address: bigint, more: More = {}) =>
  call(VFIO_IOMMU_SPAPR_TCE_REMOVE, { fd, start_addr: address, ...more })

/** A container whose 32-bit window is not to be made any more. */
function bare(options: Parameters<typeof attached>[0] = {}) {
  const world = attached(options)
  remove(world, 0n)
  return world
}
const refusing = (answers: FakeGroup['answers'], options: Parameters<typeof attached>[0] = {}) => {
  const world = attached(options)
  world.pe.answers = answers
  return world
}

/** The three ways in which the 32-bit window can fail, and the way in which firmware refuses it. */
const defaultRows = (ask: (world: Fd) => ReturnType<typeof create>) => ({
  'default-window-refused': () => [
    ask(attached({ groups: [{ table: new FakeGroup({ tce32Bytes: 0 }), devices: [] }] })),
    ask(attached({ groups: [{ table: new FakeGroup({ pageSizes: 0x10000n }), devices: [] }] })),
  ],
  'default-window-limit': () => [ask(refusing({ createTable: -12 }, { memlockBytes: 127n * PAGE }))],
  'default-window-memory': () => [ask(refusing({ createTable: -12, setWindow: -6 }))],
  'default-window-firmware': () => [ask(refusing({ setWindow: -6 }))],
})

describe('VFIO_IOMMU_SPAPR_TCE_CREATE', () => {
  const readOnly = () => {
    const world = bare()
    world.mmap(READ_ONLY, PAGE)
    const args = { argsz: 40n, page_shift: 16n, window_bytes: GIB, levels: 1n }
    const arg = poke(world, READ_ONLY, encodeStruct(STRUCTS.create, args))
    world.qemu.mm.mprotect(READ_ONLY, PAGE, { read: true, write: false })
    const answer = world.call(VFIO_IOMMU_SPAPR_TCE_CREATE, { fd: world.fd, arg })
    expect(world.pe.tables[0]).not.toBeNull()
    return answer
  }
  const full = () => {
    const world = bare()
    create(world, 16n, GIB)
    create(world, 16n, GIB)
    return world
  }
  testRules(VFIO_IOMMU_SPAPR_TCE_CREATE, {
    ...driverRows(VFIO_IOMMU_SPAPR_TCE_CREATE),
    'not-v2': () => [create(attached({ type: 2n }), 16n, GIB, 1n, { arg: NOWHERE })],
    'bad-pointer': () => [create(attached(), 16n, GIB, 1n, { arg: NOWHERE })],
    'argsz-short': () => [create(attached(), 16n, GIB, 1n, { argsz: 39n, flags: 1n })],
    'flags-unknown': () => [create(refusing({ setWindow: -6 }), 16n, GIB, 1n, { flags: 1n })],
    ...defaultRows((world) => create(world, 13n, 3n, 0n)),
    'no-free-window': () => [create(full(), 13n, 3n)],
    'page-size-unknown': () => [13n, 24n, 64n, 0xffff_ffffn].map((shift) => create(bare(), shift, 3n, 0n)),
    'bad-geometry': () => {
      const world = bare({ memlockBytes: 0n })
      return [
        create(world, 16n, GIB, 0n),
        create(world, 16n, GIB, 6n),
        create(world, 16n, GIB + 1n),
        create(world, 16n, 0n),
      ]
    },
    limit: () => [
      create(bare({ memlockBytes: 67n * PAGE }), 16n, 16n * GIB, 3n),
      create(bare({ memlockBytes: 3n * PAGE }), 16n, GIB),
    ],
    'table-refused': () => [create(bare({ memlockBytes: 68n * PAGE }), 16n, 16n * GIB, 3n)],
    'no-memory': () => {
      const world = bare()
      world.pe.answers = { setWindow: -6 }
      return [create(world, 16n, 1024n * GIB)]
    },
    'firmware-refused': () => {
      const world = bare()
      world.pe.answers = { setWindow: -6 }
      const answer = create(world, 16n, GIB)
      expect([world.qemu.mm.locked.pages, world.pe.made[0]?.references]).toEqual([0n, 0])
      return [answer]
    },
    'pointer-not-writable': () => [readOnly()],
    done: () => [create(attached(), 16n, GIB), create(bare(), 16n, GIB, 2n), create(bare(), 21n, GIB)],
  })

  it('start_addr is as it was where the call fails', () => {
    expect(create(bare(), 13n, GIB, 1n, { start_addr: 5n }).outputs).toEqual({ start_addr: 5n })
    expect(create(bare(), 16n, GIB, 1n, { start_addr: 5n }).outputs).toEqual({ start_addr: 0n })
  })

  // T14
  it('windows, their addresses and charges on a PHB3', () => {
    const world = attached({ groups: [{ table: new FakeGroup({ pageSizes: PHB3 }), devices: [] }] })
    const locked = () => world.qemu.mm.locked.pages
    expect([remove(world, 0n).rule, locked()]).toEqual(['cancelled', 0n])
    expect([create(world, 16n, 16n * GIB).outputs['start_addr'], locked()]).toEqual([0n, 64n])
    expect([create(world, 16n, 16n * GIB, 2n).outputs['start_addr'], locked()]).toEqual([SECOND, 130n])
    expect(create(world, 16n, 16n * GIB).code).toBe('ENOSPC')
    expect([remove(world, SECOND + 0x12345n).code, locked()]).toEqual(['OK', 64n])
    expect([create(world, 21n, GIB).code, locked()]).toEqual(['EINVAL', 64n])
    expect([create(world, 16n, GIB, 6n).code, locked()]).toEqual(['EINVAL', 64n])
  })

  it('the 32-bit window comes first where it is still to be made', () => {
    const world = attached()
    expect(create(world, 16n, 16n * GIB).outputs['start_addr']).toBe(SECOND)
    expect(world.qemu.mm.locked.pages).toBe(192n)
    expect(world.pe.tables.map((t) => t?.pageShift)).toEqual([12, 16])
  })

  it.each([
    ['intended', 0n],
    ['linux-6.12.95', 68n],
  ])('%s: a table that fails stays charged with %d pages', (profile, pages) => {
    const world = bare({ profile })
    expect(create(world, 16n, 16n * GIB, 3n).code).toBe('EINVAL')
    expect(world.qemu.mm.locked.pages).toBe(pages)
  })

  it('a window goes to every group, or to none', () => {
    const tables = [new FakeGroup(), new FakeGroup({ group: 1 })]
    const world = bare({ groups: tables.map((table) => ({ table, devices: [] })) })
    const second = world.group(1)
    world.call(VFIO_GROUP_SET_CONTAINER, { fd: second, container: world.fd })
    tables[0]!.answers = { setWindow: -6 }
    expect(create(world, 16n, GIB).rule).toBe('firmware-refused')
    expect(tables.map((t) => t.tables[0])).toEqual([null, null])
    tables[0]!.answers = {}
    create(world, 16n, GIB)
    expect(tables.map((t) => t.tables[0]?.pageShift)).toEqual([16, 16])
  })
})

describe('VFIO_IOMMU_SPAPR_TCE_REMOVE', () => {
  testRules(VFIO_IOMMU_SPAPR_TCE_REMOVE, {
    ...driverRows(VFIO_IOMMU_SPAPR_TCE_REMOVE),
    'not-v2': () => [remove(attached({ type: 2n }), 0n, { arg: NOWHERE })],
    'bad-pointer': () => [remove(attached(), 0n, { arg: NOWHERE })],
    'argsz-short': () => [remove(attached(), 0n, { argsz: 15n, flags: 1n })],
    'flags-unknown': () => [remove(attached(), 0n, { flags: 1n })],
    cancelled: () => [remove(attached(), 0n)],
    'no-window': () => [remove(attached(), 1n), remove(bare(), 0n), remove(bare(), SECOND)],
    done: () => {
      const world = bare()
      create(world, 16n, GIB)
      return [remove(world, GIB - 1n)]
    },
  })

  it('takes what the window maps with it', () => {
    const world = registered()
    world.call(VFIO_IOMMU_MAP_DMA, { fd: world.fd, vaddr: UA, iova: 0n, bytes: PAGE })
    const region = world.memory.find(world.qemu.mm, UA, 256n * PAGE)
    expect(world.memory.mappedOf(region)).toBe(17)
    expect(remove(world, 0n).rule).toBe('done')
    expect([world.memory.mappedOf(region), world.qemu.mm.locked.pages]).toEqual([1, 256n])
    expect(world.pe.made[0]).toMatchObject({ references: 0, tces: new Map() })
  })
})
