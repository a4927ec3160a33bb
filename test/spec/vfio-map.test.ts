import { describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import { wordOf } from '../../src/bits/u64.ts'
import { CLOSE } from '../../src/kernel/vfio/calls.ts'
import {
  VFIO_IOMMU_ENABLE,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_SPAPR_REGISTER_MEMORY,
  VFIO_IOMMU_SPAPR_TCE_CREATE,
  VFIO_IOMMU_SPAPR_TCE_REMOVE,
  VFIO_IOMMU_UNMAP_DMA,
} from '../../src/kernel/vfio/spapr-calls.ts'
import { FakeGroup, kernelTableGroup } from '../support/fake-platform.ts'
import { testRules } from '../support/rule-table.ts'
import { attached, PAGE, registered, UA, type VfioWorld, type VfioWorldOptions } from '../support/vfio.ts'
import { driverRows, NOWHERE } from '../support/vfio-rows.ts'

const SMALL = 0x1000n
const GIB = 2n ** 30n
const TOP = 0x8000_0000n

type Fd = VfioWorld & { readonly fd: bigint }
type More = Record<string, bigint>

const map = ({ call, fd }: Fd, more: More = {}) =>
  call(VFIO_IOMMU_MAP_DMA, { fd, vaddr: UA, iova: 0n, bytes: PAGE, ...more })
const unmap = ({ call, fd }: Fd, more: More = {}) =>
  call(VFIO_IOMMU_UNMAP_DMA, { fd, iova: 0n, bytes: PAGE, ...more })

/** A v1 container that is enabled. */
function v1(options: VfioWorldOptions = {}) {
  const world = attached({ ...options, type: 2n })
  world.call(VFIO_IOMMU_ENABLE, { fd: world.fd })
  return world
}

/** A container with one window of 64 KiB pages at bus address 0. */
function with64k(options: VfioWorldOptions = {}, levels = 1n) {
  const world = registered(options)
  world.call(VFIO_IOMMU_SPAPR_TCE_REMOVE, { fd: world.fd, start_addr: 0n })
  world.call(VFIO_IOMMU_SPAPR_TCE_CREATE, { fd: world.fd, page_shift: 16n, window_bytes: GIB, levels })
  const region = world.memory.find(world.qemu.mm, UA, 256n * PAGE)
  return { ...world, table: world.pe.tables[0]!, mapped: () => world.memory.mappedOf(region) }
}

const refusing = (answers: FakeGroup['answers'], options: VfioWorldOptions = {}) => {
  const world = registered(options)
  world.pe.answers = answers
  return world
}
const lacking = (options: ConstructorParameters<typeof FakeGroup>[0]) =>
  registered({ groups: [{ table: new FakeGroup(options), devices: [] }] })

/** How the 32-bit window, which a call has to make first, can fail. */
const defaultRows = (ask: (world: Fd) => Answer) => ({
  'default-window-refused': () => [ask(lacking({ tce32Bytes: 0 })), ask(lacking({ pageSizes: 0x10000n }))],
  'default-window-limit': () => [ask(refusing({ createTable: -12 }, { memlockBytes: 383n * PAGE }))],
  'default-window-memory': () => [ask(refusing({ createTable: -12, setWindow: -6 }))],
  'default-window-firmware': () => [ask(refusing({ setWindow: -6 }))],
})

/** A page of 2 MiB and behind it normal ones, registered as one region that backs IOMMU pages of 2 MiB (X8). */
function mixed() {
  const HUGE = 2n ** 21n
  const AT = 0x2_0000_0000n
  const world = attached({ frames: 2048, memoryErrata: ['X8'] })
  world.mmap(AT, HUGE, { hugeShift: 21 })
  world.mmap(AT + HUGE, HUGE)
  world.call(VFIO_IOMMU_SPAPR_REGISTER_MEMORY, { fd: world.fd, vaddr: AT, bytes: 2n * HUGE })
  world.call(VFIO_IOMMU_SPAPR_TCE_CREATE, { fd: world.fd, page_shift: 21n, window_bytes: GIB, levels: 1n })
  const at = (vaddr: bigint) => map(world, { vaddr, iova: 1n << 59n, bytes: HUGE })
  return { huge: at(AT), normal: at(AT + HUGE) }
}

/** v1 of an old kernel over a table of the kernel with 2 MiB pages, which no memory has. */
function oldV1(profile: string) {
  const { group } = kernelTableGroup(0, 21)
  const world = v1({ profile, groups: [{ table: group, devices: [] }] })
  const answer = map(world, { bytes: 2n ** 21n })
  const { frames } = world.host
  world.qemu.mm.munmap(UA, 256n * PAGE)
  return { answer, leaked: frames.frames - frames.free }
}

describe('VFIO_IOMMU_MAP_DMA', () => {
  const going = (profile: string) => {
    const world = with64k({ profile })
    world.memory.mappedInc = () => -6
    return map(world)
  }
  testRules(VFIO_IOMMU_MAP_DMA, {
    ...driverRows(VFIO_IOMMU_MAP_DMA),
    'not-enabled': () => [attached(), attached({ type: 2n })].map((world) => map(world, { arg: NOWHERE })),
    'bad-pointer': () => [map(registered(), { arg: NOWHERE })],
    'argsz-short': () => [0n, 31n].map((argsz) => map(registered(), { argsz, flags: 4n })),
    'flags-unknown': () => [4n, 7n].map((flags) => map(refusing({ setWindow: -6 }), { flags })),
    ...defaultRows((world) => map(world, { iova: TOP })),
    'no-window': () => [TOP, 1n << 59n, 1n << 40n].map((iova) => map(registered(), { iova, bytes: 1n })),
    unaligned: () => [
      map(registered(), { bytes: 0x800n, flags: 0n }),
      map(registered(), { vaddr: UA + 1n, flags: 0n }),
      map(with64k(), { vaddr: UA + SMALL, iova: 1n }),
    ],
    'no-direction': () => [map(registered(), { flags: 0n, iova: 1n })],
    'iova-unaligned': () => [map(registered(), { iova: 1n }), map(with64k(), { iova: SMALL })],
    'iova-unaligned-returns-1': () => [map(with64k({ profile: 'linux-6.12.95' }), { iova: SMALL })],
    'past-window': () => [map(registered(), { iova: TOP - SMALL, vaddr: NOWHERE })],
    'no-memory': () => {
      const world = with64k({}, 2n)
      const answers = (['slot', 'xchg'] as const).map((refuses) => {
        world.table.refuses = refuses
        return map(world, { vaddr: refuses === 'slot' ? NOWHERE & ~0xffffn : UA })
      })
      expect(world.mapped()).toBe(1)
      return answers
    },
    'not-registered': () => [
      map(registered(), { vaddr: 0x3_0000_0000n }),
      map(registered(), { vaddr: UA + 255n * PAGE, bytes: 2n * PAGE }),
    ],
    'not-pinnable': () => [map(v1(), { vaddr: 0x3_0000_0000n, bytes: SMALL })],
    'not-contained': () => [mixed().normal, oldV1('linux-6.1').answer],
    'region-going': () => [going('intended')],
    'stopped-early': () => [going('linux-6.12.95')],
    done: () => [
      map(registered()),
      map(registered(), { bytes: 0n }),
      map(registered(), { iova: TOP - PAGE }),
      map(v1(), { vaddr: UA + SMALL, bytes: SMALL }),
      mixed().huge,
    ],
  })

  // T16
  it('entries, counts and one kill for all pages', () => {
    const world = with64k()
    expect(map(world, { vaddr: UA + PAGE, iova: 2n * PAGE, bytes: 2n * PAGE }).code).toBe('OK')
    const { hostPage } = pagesOf(world)
    expect(world.table.live()).toEqual([
      [2, hostPage(1), 3],
      [3, hostPage(2), 3],
    ])
    expect(world.table.kills.at(-1)).toEqual([2, 2])
    expect(world.mapped()).toBe(3)
    expect([...world.table.users.values()].map((u) => wordOf(u.hi, u.lo))).toEqual([
      UA + PAGE,
      UA + 2n * PAGE,
    ])
  })

  it('a page in its place keeps the counts right, and a refused range takes its beginning back', () => {
    const world = with64k()
    map(world)
    map(world, { vaddr: UA + PAGE })
    expect(world.mapped()).toBe(2)
    const refused = map(world, { vaddr: UA + 254n * PAGE, bytes: 3n * PAGE, iova: 8n * PAGE })
    expect([refused.rule, world.mapped(), world.table.live().length]).toEqual(['not-registered', 2, 1])
    expect(world.table.kills.at(-1)).toEqual([8, 2])
  })

  it('X6: the pages past the window are written past the table', () => {
    const ask = { iova: GIB - PAGE, bytes: 2n * PAGE }
    const world = with64k({ profile: 'linux-6.12.95' })
    expect(map(world, ask).code).toBe('OK')
    expect(world.table.outside).toEqual([0x4000])
    const right = with64k()
    expect([map(right, ask).rule, right.table.outside]).toEqual(['past-window', []])
  })

  it('X3: the answer is 0 and the rest is not mapped', () => {
    const world = with64k({ profile: 'linux-6.12.95' })
    const { mappedInc } = world.memory
    let left = 2
    world.memory.mappedInc = (region) => (left-- > 0 ? mappedInc.call(world.memory, region) : -6)
    expect(map(world, { bytes: 4n * PAGE }).code).toBe('OK')
    expect([world.table.live().length, world.table.kills.at(-1)]).toEqual([2, [0, 4]])
  })

  it.each([
    ['intended', 2, UA],
    ['linux-6.12.95', 2, 0n],
  ])('%s: a refused swap leaves %d mappings counted and the user address %d', (profile, counted, user) => {
    const world = with64k({ profile })
    map(world)
    world.table.refuses = 'xchg'
    expect(map(world, { vaddr: UA + PAGE }).code).toBe('ENOMEM')
    const { hi, lo } = world.table.users.get(0)!
    expect([world.mapped(), wordOf(hi, lo)]).toEqual([counted, user])
  })

  it('X4: a refused swap into an empty entry leaks a count', () => {
    const world = with64k({ profile: 'linux-6.12.95' })
    world.table.refuses = 'xchg'
    map(world)
    expect(world.mapped()).toBe(2)
  })

  it('X9: the pin of a page that is too small stays', () => {
    expect(oldV1('linux-6.1').leaked).toBe(1)
    expect(oldV1('linux-6.1 -X9').leaked).toBe(0)
  })

  it('the kernel stops where the userspace view has no memory', () => {
    const world = with64k({ profile: 'linux-6.12.95' }, 2n)
    world.table.refuses = 'slot'
    expect(map(world).state).toBe('dead')
  })

  it('v1 pins each page, once for every IOMMU page in it, and unpins what it replaces and clears', () => {
    const world = v1()
    const { frames } = world.host
    map(world)
    const pins = () => frames.pinsOf(pagesOf(world).frame(0))
    expect(pins()).toBe(16)
    map(world)
    expect(pins()).toBe(16)
    unmap(world, { bytes: SMALL })
    expect(pins()).toBe(15)
    world.call(CLOSE, { fd: world.groupFd })
    expect([pins(), world.qemu.mm.locked.pages]).toEqual([0, 0n])
  })
})

describe('VFIO_IOMMU_UNMAP_DMA', () => {
  const PEER = 'linux-6.12.95'
  testRules(VFIO_IOMMU_UNMAP_DMA, {
    ...driverRows(VFIO_IOMMU_UNMAP_DMA),
    'not-enabled': () => [unmap(attached(), { arg: NOWHERE })],
    'bad-pointer': () => [unmap(registered(), { arg: NOWHERE })],
    'argsz-short': () => [0n, 23n].map((argsz) => unmap(registered(), { argsz, flags: 1n })),
    'flags-unknown': () => [1n, 2n].map((flags) => unmap(refusing({ setWindow: -6 }), { flags })),
    ...defaultRows((world) => unmap(world, { iova: TOP })),
    'no-window': () => [TOP, 1n << 59n].map((iova) => unmap(registered(), { iova, bytes: 1n })),
    unaligned: () => [unmap(registered(), { iova: 1n, bytes: 0x800n })],
    'bad-range': () => [
      unmap(registered(), { iova: 1n }),
      unmap(registered(), { iova: TOP - SMALL, bytes: 2n * SMALL }),
    ],
    'bad-range-returns-1': () => [
      unmap(registered({ profile: PEER }), { iova: 1n }),
      unmap(registered({ profile: 'linux-6.1.192' }), { iova: TOP - SMALL, bytes: 2n * SMALL }),
    ],
    'past-window': () => [unmap(registered({ profile: PEER }), { iova: TOP - SMALL, bytes: 2n * SMALL })],
    done: () => {
      const answers = [0n, PAGE].map((bytes) => unmap(registered(), { bytes }))
      expect(answers.map((a) => a.outputs['bytes'])).toEqual([0n, PAGE])
      return answers
    },
  })

  it('X14: what lies past the table is cleared; how much of that is not followed without end', () => {
    const world = with64k({ profile: PEER })
    map(world, { iova: GIB - PAGE })
    expect(unmap(world, { iova: GIB - PAGE, bytes: 3n * PAGE }).rule).toBe('past-window')
    expect([world.table.outside, world.mapped()]).toEqual([[0x4000, 0x4001], 1])
    expect(unmap(world, { iova: 0n, bytes: 1n << 62n }).state).toBe('unmodelled')
  })

  it('skips levels of a table that were never there', () => {
    const world = with64k({}, 2n)
    map(world, { iova: GIB - PAGE })
    expect(unmap(world, { bytes: GIB }).rule).toBe('done')
    expect([world.table.live(), world.mapped()]).toEqual([[], 1])
    expect(world.table.kills.at(-1)).toEqual([0, 0x4000])
  })
})

/** Frames and host pages behind the memory at UA, by page. */
function pagesOf({ qemu, host }: VfioWorld) {
  const frame = (page: number) => qemu.mm.fault(Number(UA / PAGE) + page, true)
  return { frame, hostPage: (page: number) => host.frames.hostPage(frame(page)) }
}
