import { describe, expect, it } from 'vitest'
import {
  contextDescriptor,
  type Descriptor,
  deviceTlbDescriptor,
  fenceDescriptor,
  GRANULARITY,
  iotlbDescriptor,
  pageMask,
  pasidCacheDescriptor,
  pasidDeviceTlbDescriptor,
  pasidIotlbDescriptor,
  waitDescriptor,
} from '../../src/kernel/intel-iommu/descriptors.ts'
import { directoryOf } from '../../src/kernel/intel-iommu/pasid-table.ts'
import { BIT, CAP, type DriverWorldOptions, driverWorld, ECAP } from '../support/vtd-driver.ts'

const drains = { reads: true, writes: true }
const device = { source: 0x0310, physical: 0, depth: 4 }
const SCALABLE = { cap: CAP.modern, ecap: ECAP.modern, scalable: true } as const
const SECOND_LEVEL = { ...SCALABLE, ecap: ECAP.modern & ~BIT.FLTS }
const MAP = { domain: 5n, iova: 0x10_3000n, gpa: 0x20_0000n, bytes: 0x2000n }

describe('descriptors', () => {
  it.each<[string, Descriptor, readonly bigint[]]>([
    [
      'V13: 2 MiB',
      pasidDeviceTlbDescriptor(device, 5, 0x7f00_0020_0000n, 9),
      [0x5_0310_0048n, 0x7f00_002f_f800n],
    ],
    [
      'V13: 2 pages',
      pasidDeviceTlbDescriptor(device, 5, 0x7f00_0020_2000n, 1),
      [0x5_0310_0048n, 0x7f00_0020_2800n],
    ],
    ['V13: all', pasidDeviceTlbDescriptor(device, 5, 0n, 52), [0x5_0310_0048n, 0x7fff_ffff_ffff_f800n]],
    ['V13: one page', pasidDeviceTlbDescriptor(device, 5, 0x1000n, 0), [0x5_0310_0048n, 0x1000n]],
    ['V14: 2 MiB', deviceTlbDescriptor(device, 0x4020_0000n, 9), [0x310_0004_0003n, 0x402f_f001n]],
    ['V14: all', deviceTlbDescriptor(device, 0n, 52), [0x310_0004_0003n, 0x7fff_ffff_ffff_f001n]],
    ['V14: 2 pages', deviceTlbDescriptor(device, 0x4020_0000n, 1), [0x310_0004_0003n, 0x4020_0001n]],
    [
      'a depth of 32 is sent as 0',
      deviceTlbDescriptor({ ...device, depth: 32 }, 0n, 0),
      [0x310_0000_0003n, 0n],
    ],
    [
      'the physical function is in two parts',
      deviceTlbDescriptor({ ...device, physical: 0x0312 }, 0n, 0),
      [0x0310_0310_0004_2003n, 0n],
    ],
    ['V16: domain', iotlbDescriptor({ domain: 5, g: GRANULARITY.DOMAIN }, drains), [0x500e2n, 0n]],
    [
      'V16: page',
      iotlbDescriptor({ domain: 5, g: GRANULARITY.FINE, address: 0x4020_1000n }, drains),
      [0x500f2n, 0x4020_1000n],
    ],
    ['V16: global', iotlbDescriptor({ domain: 0, g: GRANULARITY.GLOBAL }, drains), [0xd2n, 0n]],
    [
      'a unit without drains is asked for none',
      iotlbDescriptor({ domain: 5, g: GRANULARITY.DOMAIN }, { reads: false, writes: false }),
      [0x50022n, 0n],
    ],
    ['V17: device', contextDescriptor(5, 0x18, GRANULARITY.FINE), [0x18_0005_0031n, 0n]],
    ['V17: new, in caching mode', contextDescriptor(0, 0x18, GRANULARITY.FINE), [0x18_0000_0031n, 0n]],
    ['V17: global', contextDescriptor(0, 0, GRANULARITY.GLOBAL), [0x11n, 0n]],
    ['V18: wait', waitDescriptor(0x2_0000n, false), [0x2_0000_0025n, 0x2_0000n]],
    ['V18: with drain', waitDescriptor(0x2_0000n, true), [0x2_0000_00a5n, 0x2_0000n]],
    ['V18: fence', fenceDescriptor(), [0x2_0000_0045n, 0n]],
    ['V19: a PASID entry', pasidCacheDescriptor(1, 5, 'pasid'), [0x5_0001_0017n, 0n]],
    ['V19: those of a domain', pasidCacheDescriptor(5, 0, 'domain'), [0x50007n, 0n]],
    ['V19: all', pasidCacheDescriptor(0, 0, 'all'), [0x37n, 0n]],
    ['V19: a PASID', pasidIotlbDescriptor(1, 5), [0x5_0001_0026n, 0n]],
    [
      'V19: pages of a PASID',
      pasidIotlbDescriptor(1, 5, { address: 0x7f00_0020_0000n, order: 9, hint: false }),
      [0x5_0001_0036n, 0x7f00_0020_0009n],
    ],
  ])('%s', (_what, made, words) => {
    expect(made).toEqual(words)
  })

  it.each([
    ['V15', 0x100, 1, 0],
    ['V15', 0x100, 4, 2],
    ['V15', 0x103, 2, 3],
    ['V15', 0x17f, 4, 8],
    ['V15', 0x1ff, 2, 10],
    ['V15', 0xfff, 2, 13],
    ['three pages of an aligned four', 0x101, 3, 2],
  ])('%s: pages from 0x%x, %d: mask %d', (_what, first, pages, mask) => {
    expect(pageMask(first, pages)).toBe(mask)
  })

  it.each([
    [0x10_0000, 32, 0x10_0000, 7],
    [0x1_0000, 2, 0x1_0000, 3],
    [0x8000, 1, 0x8000, 2],
    [0x100, 1, 0x8000, 2],
    [0, 1, 0x8000, 2],
    [0x20_0000, 32, 0x10_0000, 7],
  ])('V25: a directory for %d PASIDs has %d pages', (pasids, pages, max, sizeCode) => {
    expect(directoryOf(pasids)).toEqual({ pages, pasids: max, sizeCode })
  })
})

const started = (options: DriverWorldOptions) => {
  const world = driverWorld({ ...options, starts: false })
  const { rule } = world.iommu('start')
  return { rule, bus: world.unit.take() }
}
const QUEUE_ON = ['GCMD=4000000', 'GSTS']
const FAULTS_ON = ['FEDATA=21', 'FEADDR=fee00000', 'FEUADDR=0', 'FECTL=0', 'FECTL']
/** Descriptors with their waits, as the bus sees them. */
const sent = (tail: number, step: number, ...descriptors: string[]) =>
  descriptors.flatMap((d, i) => [`IQT=${(tail + 2 * step * (i + 1)).toString(16)}`, d, 'wait'])

describe('start-up', () => {
  it('legacy: queue, root table, global flushes, fault event, translation', () => {
    expect(started({}).bus).toEqual([
      ...['CAP', 'ECAP', 'VER', 'GSTS', 'FSTS', 'GSTS'],
      ...['IQT=0', 'IQA=101000', ...QUEUE_ON, 'GSTS'],
      ...['RTADDR=100000', 'GCMD=44000000', 'GSTS'],
      ...sent(0, 0x10, '11 0', 'd2 0'),
      ...FAULTS_ON,
      ...['GCMD=84000000', 'GSTS'],
    ])
  })

  it('scalable: wide descriptors on two pages, PASID entries are flushed too, page requests are queued', () => {
    expect(started(SCALABLE).bus).toEqual([
      ...['CAP', 'ECAP', 'VER', 'GSTS', 'FSTS', 'GSTS'],
      ...['IQT=0', 'IQA=102801', ...QUEUE_ON, 'GSTS'],
      ...['RTADDR=100400', 'GCMD=44000000', 'GSTS'],
      ...sent(0, 0x20, '11 0 0 0', '37 0 0 0', 'd2 0 0 0'),
      ...['PEDATA=22', 'PEADDR=fee00000', 'PEUADDR=0', 'PECTL=0', 'PECTL'],
      ...['PQH=0', 'PQT=0', 'PQA=110004'],
      ...FAULTS_ON,
      ...['GCMD=84000000', 'GSTS'],
    ])
  })

  it('a unit that knows scalable mode has wide descriptors in legacy mode too', () => {
    const { bus } = started({ ...SCALABLE, scalable: false })
    expect(bus).toContain('IQA=102801')
    expect(bus).toContain('RTADDR=100000')
    expect(bus).not.toContain('PQH=0')
  })

  it('without a queue registers flush', () => {
    expect(started({ ecap: ECAP.qemu & ~BIT.QI }).bus).toEqual([
      ...['CAP', 'ECAP', 'VER', 'GSTS', 'FSTS', 'GSTS'],
      ...['RTADDR=100000', 'GCMD=40000000', 'GSTS'],
      ...['CCMD=a000000000000000', 'CCMD', 'IOTLB=9001000000000000', 'IOTLB'],
      ...FAULTS_ON,
      ...['GCMD=80000000', 'GSTS'],
    ])
  })

  it('ESRTPS: a new root table drops all caches, so that nothing is flushed', () => {
    const { bus } = started({ cap: CAP.qemu | BIT.ESRTPS })
    expect(bus.filter((b) => b === 'wait')).toEqual([])
    expect(bus).toContain('GCMD=44000000')
  })

  it('RWBF: the write buffer is flushed before the root table, and before faults', () => {
    const { bus } = started({ cap: CAP.qemu | BIT.RWBF })
    const places = bus.flatMap((b, i) => (b === 'GCMD=c000000' ? [i] : []))
    expect(places).toHaveLength(2)
    expect(bus[(places[0] as number) + 2]).toBe('RTADDR=100000')
    expect(bus[(places[1] as number) + 2]).toBe('FEDATA=21')
  })

  it('what an earlier kernel left on is switched off, the queue once it is empty', () => {
    const world = driverWorld()
    world.iommu('stop')
    world.unit.setReg('GSTS', world.unit.reg('GSTS') | (1n << 31n))
    world.unit.take()
    world.iommu('start')
    expect(world.unit.take().slice(4, 19)).toEqual([
      ...['FSTS', 'GSTS', 'IQT', 'IQH', 'GCMD=80000000', 'GSTS'],
      ...['IQT=0', 'IQA=104000', 'GCMD=84000000', 'GSTS'],
      ...['GSTS', 'GCMD=4000000', 'GSTS', 'RTADDR=103000', 'GCMD=44000000'],
    ])
  })

  it('interrupts that firmware has remapped stay so: IRE is kept in every command', () => {
    const world = driverWorld({ starts: false })
    world.unit.setReg('GSTS', 1n << 25n)
    world.iommu('start')
    const commands = world.unit.take().filter((b) => b.startsWith('GCMD'))
    expect(commands).toEqual(['GCMD=6000000', 'GCMD=46000000', 'GCMD=86000000'])
  })

  it('protected memory regions of the firmware end with the translation on, and before it is off', () => {
    const world = driverWorld({ cap: CAP.qemu | BIT.PLMR, starts: false })
    world.unit.setReg('PMEN', 0x8000_0000n)
    world.iommu('start')
    expect(world.unit.take().slice(-4)).toEqual(['GSTS', 'PMEN', 'PMEN=0', 'PMEN'])
    world.iommu('stop')
    expect(world.unit.take()).toEqual(['PMEN', 'PMEN=0', 'PMEN', 'GCMD=4000000', 'GSTS'])
  })

  it('asleep and awake', () => {
    const world = driverWorld({ ecap: ECAP.qemu & ~BIT.QI })
    world.iommu('suspend')
    expect(world.unit.take()).toEqual([
      ...['CCMD=a000000000000000', 'CCMD', 'IOTLB=9001000000000000', 'IOTLB'],
      ...['GCMD=0', 'GSTS', 'FECTL', 'FEDATA', 'FEADDR', 'FEUADDR'],
    ])
    for (const name of ['FECTL', 'FEDATA', 'FEADDR'] as const) world.unit.setReg(name, 0n)
    world.iommu('resume')
    expect(world.unit.take()).toEqual([
      ...['RTADDR=100000', 'GCMD=40000000', 'GSTS'],
      ...['CCMD=a000000000000000', 'CCMD', 'IOTLB=9001000000000000', 'IOTLB'],
      ...['GCMD=80000000', 'GSTS'],
      ...['FECTL=0', 'FEDATA=21', 'FEADDR=fee00000', 'FEUADDR=0'],
    ])
  })

  it('a unit that never does what it is told ends the guest', () => {
    const world = driverWorld({ starts: false })
    world.unit.ways.deaf = true
    expect(world.iommu('start')).toMatchObject({
      state: 'dead',
      rule: 'the guest panics: DMAR hardware is malfunctioning',
    })
    world.unit.take()
    expect(world.iommu('flush_all').state).toBe('dead')
    expect(world.unit.take()).toEqual([])
  })
})

describe('entries', () => {
  const attach = (options: DriverWorldOptions, kind = 'dma') => {
    const world = driverWorld(options)
    expect(world.iommu('attach', { device: 'dev0', domain: 5n, kind }).rule).toBe('done')
    return { ...world, at: (address: number) => world.unit.word(address) }
  }

  it('legacy: root entry, context entry with AW, DID and T of a device-TLB', () => {
    const { at } = attach({ ecap: ECAP.qemu | BIT.DT })
    expect(at(0x10_0000)).toBe(0x10_4001n)
    expect([at(0x10_4180), at(0x10_4188)]).toEqual([0x10_3005n, 0x501n])
    expect([attach({}).at(0x10_4180), attach({}).at(0x10_4188)]).toEqual([0x10_3001n, 0x501n])
  })

  it('legacy pass-through has the greatest width and no table', () => {
    const { at } = attach({ cap: CAP.qemu | (1n << 10n) }, 'identity')
    expect([at(0x10_3180), at(0x10_3188)]).toEqual([0x9n, 0x502n])
  })

  it.each([
    ['legacy pass-through', { ecap: ECAP.qemu | BIT.DT }, 'identity', []],
    ['legacy tables', { ecap: ECAP.qemu | BIT.DT }, 'dma', ['dev0 ATS true']],
    ['scalable pass-through', { ...SCALABLE, ecap: ECAP.modern & ~BIT.PRS }, 'identity', ['dev0 ATS true']],
  ] as const)(
    '%s: a device that is refused translations is not told to ask',
    (_what, options, kind, switched) => {
      const made = attach(options, kind)
      expect(made.switched).toEqual(switched)
      made.unit.done.splice(0)
      made.iommu('flush_device_tlb', { device: 'dev0' })
      expect(made.unit.done).toHaveLength(switched.length)
    },
  )

  it('a unit without pass-through: what Linux then maps is not modelled', () => {
    const { iommu } = driverWorld({ ecap: ECAP.qemu & ~BIT.PT })
    expect(iommu('attach', { device: 'dev0', domain: 5n, kind: 'identity' }).state).toBe('unmodelled')
  })

  it.each([
    // PASID entry: QW0, QW1, QW2. AW is 3: five levels.
    ['first level', SCALABLE, 'dma', [0x4dn, 0x80_0005n, 0x10_4024n]],
    ['second level', SECOND_LEVEL, 'dma', [0x10_408dn, 0x80_0005n, 0n]],
    ['second level for a user', SCALABLE, 'unmanaged', [0x10_408dn, 0x80_0005n, 0n]],
    [
      'first level for a user, where there is no other',
      { ...SCALABLE, ecap: ECAP.modern & ~BIT.SLTS },
      'unmanaged',
      [0x4dn, 0x80_0005n, 0x10_4024n],
    ],
    ['pass-through, domain 1', SCALABLE, 'identity', [0x10dn, 0x80_0001n, 0n]],
  ] as const)('scalable: %s', (_what, options, kind, words) => {
    const { at, unit } = attach({ ...options, ecap: options.ecap & ~BIT.PRS }, kind)
    const context = Number(at(0x10_0000) & ~0xfffn) + 0x18 * 32
    const directory = Number(at(context) & ~0xfffn)
    const table = Number(at(directory) & ~0xfffn)
    expect([at(context) & 0xfffn, at(context + 8), at(context + 16), at(context + 24)]).toEqual([
      0x405n,
      0n,
      0n,
      0n,
    ])
    expect(at(directory) & 0xfffn).toBe(1n)
    expect([at(table), at(table + 8), at(table + 16)]).toEqual(words)
    expect(unit.word(0x10_0008)).toBe(0n)
  })

  it('scalable: devices from 16 on are in the upper half; PASIDs, page requests and ATS in this order', () => {
    const capabilities = { pasids: 0x10_0000, hasRequests: true }
    const world = driverWorld({ ...SCALABLE, capabilities })
    world.iommu('attach', { device: 'dev0', domain: 5n })
    const context = Number(world.unit.word(0x10_0000) & ~0xfffn) + 0x18 * 32
    // DTE, PASIDE, PRE, and a directory of 2^(7+7) entries.
    expect(world.unit.word(context) & 0xfffn).toBe(0xe1dn)
    world.iommu('detach', { device: 'dev0' })
    expect(world.switched).toEqual([
      ...['dev0 PASID true', 'dev0 PRI true', 'dev0 ATS true'],
      ...['dev0 ATS false', 'dev0 PRI false', 'dev0 PASID false'],
    ])
    world.iommu('attach', { device: 'dev1', domain: 5n })
    expect(world.unit.word(0x10_0000 + 4 * 16)).not.toBe(0n)
    expect(world.unit.word(0x10_0000 + 4 * 16 + 8)).toBe(0n)
  })

  it.each([
    ['intended', []],
    ['K6-no-page-drain', ['dev0 PRI true']],
  ])('without page-request drain there are no page requests, or with %s there are', (profile, pri) => {
    const capabilities = { pasids: 0x100, hasRequests: true }
    const world = driverWorld({ ...SCALABLE, ecap: ECAP.modern & ~BIT.PDS, capabilities, profile })
    world.iommu('attach', { device: 'dev0', domain: 5n })
    expect(world.switched).toEqual(['dev0 PASID true', ...pri, 'dev0 ATS true'])
  })

  it('through legacy entries there are neither PASIDs nor page requests', () => {
    const capabilities = { pasids: 0x100, hasRequests: true }
    const world = driverWorld({ ...SCALABLE, scalable: false, capabilities })
    world.iommu('attach', { device: 'dev0', domain: 5n })
    expect(world.switched).toEqual(['dev0 ATS true'])
  })

  it('P is written last, and cleared first', () => {
    const { unit, iommu } = driverWorld()
    const writes: [number, bigint][] = []
    const { memory } = unit
    const store = memory.storeU64be.bind(memory)
    memory.storeU64be = (page, offset, hi, lo) => {
      const done = store(page, offset, hi, lo)
      writes.push([page * 4096 + offset, unit.word(page * 4096 + offset)])
      return done
    }
    iommu('attach', { device: 'dev0', domain: 5n })
    const entry = (list: typeof writes) => list.filter(([at]) => at >= 0x10_4180 && at < 0x10_4190)
    expect(entry(writes).slice(-1)).toEqual([[0x10_4180, 0x10_3001n]])
    writes.splice(0)
    iommu('detach', { device: 'dev0' })
    expect(entry(writes)).toEqual([
      [0x10_4180, 0n],
      [0x10_4188, 0n],
    ])
  })
})

describe('duties', () => {
  const world = (options: DriverWorldOptions = {}) => {
    const made = driverWorld(options)
    made.iommu('attach', { device: 'dev0', domain: 5n })
    made.unit.take()
    return made
  }
  const CACHING = CAP.qemu | BIT.CM

  it('CM: an entry that was not present is flushed under domain 0, then the new domain', () => {
    const made = driverWorld({ cap: CACHING })
    made.unit.done.splice(0)
    made.iommu('attach', { device: 'dev0', domain: 5n })
    made.iommu('map', MAP)
    expect(made.unit.done).toEqual([
      [0x18_0000_0031n, 0n],
      [0x500e2n, 0n],
      [0x500f2n, 0x10_3003n],
    ])
  })

  it('CM: device-TLBs are not flushed for what is new', () => {
    const made = world({ cap: CACHING, ecap: ECAP.qemu | BIT.DT })
    made.unit.done.splice(0)
    made.iommu('map', MAP)
    expect(made.unit.done.map(([lo = 0n]) => lo & 0xfn)).toEqual([2n])
    made.iommu('unmap', { ...MAP, flush: 'strict' })
    expect(made.unit.done.map(([lo = 0n]) => lo & 0xfn)).toEqual([2n, 2n, 3n])
  })

  it('CM, scalable: a PASID entry that was not present is flushed, a first-level page is not', () => {
    const made = driverWorld({ ...SCALABLE, cap: CAP.modern | BIT.CM })
    made.unit.done.splice(0)
    made.iommu('attach', { device: 'dev0', domain: 5n })
    expect(made.unit.done.map(([lo]) => lo)).toEqual([0x50017n, 0x50026n, 0x18_0000_0031n, 0x500e2n])
    made.unit.done.splice(0)
    made.iommu('map', MAP)
    expect(made.unit.done).toEqual([])
  })

  it('CM, second level of scalable mode: what is new is flushed as in legacy mode', () => {
    const made = world({ ...SECOND_LEVEL, cap: CAP.modern | BIT.CM })
    made.unit.done.splice(0)
    made.iommu('map', MAP)
    expect(made.unit.done).toEqual([[0x500f2n, 0x10_3003n, 0n, 0n]])
  })

  it('neither CM nor RWBF: what is new is not flushed at all', () => {
    const made = world()
    made.iommu('map', MAP)
    expect(made.unit.take()).toEqual([])
  })

  it('RWBF: the write buffer is flushed, and only then the unit sees the entry', () => {
    const made = world({ cap: CAP.qemu | BIT.RWBF, ecap: ECAP.qemu | BIT.C })
    let seen = 0n
    made.unit.seen = () => {
      // Root 0x103, then tables 0x105 and 0x106 for 39 bits.
      seen = made.unit.word(0x10_6000 + 0x103 * 8)
    }
    made.iommu('map', MAP)
    expect(made.unit.take()).toEqual(['GCMD=8c000000', 'GSTS'])
    expect([made.unit.word(0x10_6000 + 0x103 * 8), seen]).toEqual([0x20_0003n, 0x20_0003n])
  })

  it.each([
    ['write-buffer', { cap: CAP.qemu | BIT.RWBF, ecap: ECAP.qemu | BIT.C }],
    ['cache-lines', { cap: CAP.qemu, ecap: ECAP.qemu }],
  ] as const)('without the duty %s the unit does not see a new entry', (duty, options) => {
    const made = world(options)
    const leaf = () => made.unit.word(0x10_6000 + 0x103 * 8)
    made.iommu('forget', { duty })
    made.iommu('map', MAP)
    expect(leaf()).toBe(0n)
    expect(made.driver.core.stores.pending).toBeGreaterThan(0)
    expect(made.iommu('map', MAP).rule).toBe('mapped')
    made.iommu('forget', { duty, on: false })
    made.iommu('map', { ...MAP, iova: 0x10_5000n })
    // The line of the new entry takes its neighbours along; a write buffer all of it.
    expect(leaf()).toBe(duty === 'write-buffer' ? 0x20_0003n : leaf())
  })

  it('a flush by the queue drains the write buffer before', () => {
    const made = world({ cap: CAP.qemu | BIT.RWBF, ecap: ECAP.qemu | BIT.C })
    made.iommu('forget', { duty: 'write-buffer' })
    made.iommu('map', MAP)
    made.iommu('flush_all')
    expect(made.unit.word(0x10_6000 + 0x103 * 8)).toBe(0x20_0003n)
    expect(made.driver.core.stores.pending).toBe(0)
  })

  it('SMPWCS: page tables are snooped in scalable mode though entries are not', () => {
    const made = world({ ...SCALABLE, ecap: ECAP.modern & ~BIT.C })
    made.iommu('forget', { duty: 'cache-lines' })
    made.iommu('map', MAP)
    expect(made.driver.core.stores.pending).toBe(0)
    made.iommu('attach', { device: 'dev1', domain: 6n })
    expect(made.driver.core.stores.pending).toBeGreaterThan(0)
  })

  it.each([
    ['caching-mode', { cap: CACHING }, ['map']],
    ['root-caches', {}, ['suspend', 'resume']],
  ] as const)('without the duty %s fewer flushes are sent', (duty, options, calls) => {
    const count = (forgets: boolean) => {
      const made = world(options)
      if (forgets) made.iommu('forget', { duty })
      made.unit.done.splice(0)
      for (const call of calls) made.iommu(call, MAP)
      return made.unit.done.length
    }
    expect(count(true)).toBeLessThan(count(false))
  })

  it.each([
    ['iotlb', [3n]],
    ['device-tlb', [2n]],
    [undefined, [2n, 3n]],
  ] as const)('strict, without the duty %s: types of descriptors %s', (duty, types) => {
    for (const flush of ['strict', 'lazy']) {
      const made = world({ ecap: ECAP.qemu | BIT.DT })
      made.iommu('map', MAP)
      if (duty !== undefined) made.iommu('forget', { duty })
      made.unit.done.splice(0)
      made.iommu('unmap', { ...MAP, flush })
      made.iommu('flush_queue', { domain: 5n })
      expect(made.unit.done.map(([lo = 0n]) => lo & 0xfn)).toEqual(types)
    }
  })

  it('never IH in the queue, and a page of the table pool comes back after the flush only', () => {
    const made = world()
    made.iommu('map', MAP)
    made.unit.done.splice(0)
    made.iommu('unmap', { ...MAP, flush: 'strict' })
    expect(made.unit.done).toEqual([[0x500f2n, 0x10_3003n]])
    made.iommu('map', { ...MAP, iova: 0x20_0000n, bytes: 0x1000n })
    made.iommu('unmap', { domain: 5n, iova: 0x20_0000n, bytes: 0x20_0000n, flush: 'strict' })
    expect(made.unit.done[1]).toEqual([0x500f2n, 0x20_0009n])
  })

  it('a large page where tables were: they are flushed away first', () => {
    const made = world()
    made.iommu('map', { ...MAP, iova: 0x20_0000n, bytes: 0x1000n })
    made.iommu('unmap', { domain: 5n, iova: 0x20_0000n, bytes: 0x1000n })
    made.iommu('flush_domain', { domain: 5n })
    made.unit.done.splice(0)
    made.iommu('map', { domain: 5n, iova: 0x20_0000n, gpa: 0x40_0000n, bytes: 0x20_0000n })
    expect(made.unit.done).toEqual([[0x500f2n, 0x20_0009n]])
  })

  it('without PSI, or beyond MAMV, all of the domain is flushed', () => {
    const made = world({ cap: CAP.qemu & ~BIT.PSI })
    made.iommu('map', MAP)
    made.unit.done.splice(0)
    expect(made.iommu('flush_pages', { domain: 5n, iova: MAP.iova, bytes: MAP.bytes }).rule).toBe('too-many')
    expect(made.unit.done).toEqual([[0x500e2n, 0n]])
  })

  it('nothing is sent to devices while translation is off', () => {
    const made = world({ ecap: ECAP.qemu | BIT.DT })
    made.unit.done.splice(0)
    made.iommu('flush_device_tlb', { device: 'dev0' })
    expect(made.unit.done).toHaveLength(1)
    made.iommu('stop')
    made.iommu('flush_device_tlb', { device: 'dev0' })
    expect(made.unit.done).toHaveLength(1)
  })

  it('a device that needs it is told twice', () => {
    const made = world({ ecap: ECAP.qemu | BIT.DT, capabilities: { isTwice: true, depth: 4 } })
    made.unit.done.splice(0)
    made.iommu('flush_device_tlb', { device: 'dev0' })
    expect(made.unit.done).toEqual([
      [0x18_0004_0003n, 0x7fff_ffff_ffff_f001n],
      [0x18_0004_0003n, 0x7fff_ffff_ffff_f001n],
    ])
  })

  it('DIT: the physical function is named, and only then', () => {
    const capabilities = { physical: 0x0010 }
    const flushed = (ecap: bigint) => {
      const made = world({ ecap, capabilities })
      made.unit.done.splice(0)
      made.iommu('flush_device_tlb', { device: 'dev0' })
      return made.unit.done[0]?.[0]
    }
    expect(flushed(ECAP.qemu | BIT.DT)).toBe(0x18_0000_0003n)
    expect(flushed(ECAP.qemu | BIT.DT | BIT.DIT)).toBe(0x0010_0018_0000_0003n)
  })
})

describe('PASIDs', () => {
  const capabilities = { pasids: 0x100, hasRequests: true }
  const world = (options: DriverWorldOptions = {}) => {
    const made = driverWorld({ ...SCALABLE, capabilities, ...options })
    made.iommu('attach', { device: 'dev0', domain: 5n })
    made.iommu('attach_pasid', { device: 'dev0', pasid: 7n, domain: 5n })
    made.iommu('map', MAP)
    made.unit.done.splice(0)
    return made
  }
  const los = (made: ReturnType<typeof world>) => made.unit.done.map(([lo, hi]) => [lo, hi])

  it('a strict unmapping flushes requests without PASID, the PASID, and then both in the device', () => {
    const made = world()
    made.iommu('unmap', { ...MAP, flush: 'strict' })
    expect(los(made)).toEqual([
      [0x50036n, 0x10_2041n],
      [0x50036n, 0x10_4041n],
      [0x7_0005_0036n, 0x10_2041n],
      [0x7_0005_0036n, 0x10_4041n],
      [0x18_0000_0003n, 0x10_3001n],
      [0x7_0018_0008n, 0x10_3800n],
    ])
  })

  it('a device that needs it is told twice of pages, but once of an entry that goes', () => {
    const made = world({ capabilities: { ...capabilities, isTwice: true } })
    const told = () => {
      const sent = los(made).filter(([lo = 0n]) => [3n, 8n].includes(lo & 0xfn))
      made.unit.done.splice(0)
      return sent
    }
    made.iommu('unmap', { ...MAP, flush: 'strict' })
    expect(told()).toHaveLength(4)
    made.iommu('detach_pasid', { device: 'dev0', pasid: 7n })
    // Of PASID 7, and the drain of its requests, which names one page.
    expect(told()).toEqual([
      [0x7_0018_0008n, 0x7fff_ffff_ffff_f800n],
      [0x7_0018_0008n, 0n],
    ])
    made.iommu('detach', { device: 'dev0' })
    expect(told()).toHaveLength(1)
  })

  it('an entry that goes: PASID cache, translations, device, then its requests are drained', () => {
    const made = world()
    made.unit.take()
    made.iommu('detach_pasid', { device: 'dev0', pasid: 7n })
    expect(los(made)).toEqual([
      [0x7_0005_0017n, 0n],
      [0x7_0005_0026n, 0n],
      [0x7_0018_0008n, 0x7fff_ffff_ffff_f800n],
      [0x2_0000_0045n, 0n],
      [0x7_0005_0026n, 0n],
      [0x7_0018_0008n, 0n],
    ])
  })

  it('a second-level entry that goes takes its domain along, and with K6 in caching mode no device-TLB', () => {
    const options = { ...SECOND_LEVEL, cap: CAP.modern | BIT.CM, profile: 'linux-6.1' }
    const made = world({ ...options, capabilities: { pasids: 0x100 } })
    made.iommu('detach_pasid', { device: 'dev0', pasid: 7n })
    expect(los(made)).toEqual([
      [0x7_0005_0017n, 0n],
      [0x500e2n, 0n],
    ])
  })

  it.each([
    [false, 0n],
    [true, 2n],
  ])('silent %s: what is left of the entry is %s', (silent, left) => {
    const made = world()
    const find = () => {
      const context = Number(made.unit.word(0x10_0000) & ~0xfffn) + 0x18 * 32
      const directory = Number(made.unit.word(context) & ~0xfffn)
      return made.unit.word(Number(made.unit.word(directory) & ~0xfffn) + 7 * 64)
    }
    expect(find() & 1n).toBe(1n)
    made.iommu('detach_pasid', { device: 'dev0', pasid: 7n, silent })
    expect(find()).toBe(left)
  })

  it('a device that is detached leaves no PASID behind', () => {
    const made = world()
    made.iommu('detach', { device: 'dev0' })
    expect(los(made).slice(0, 2)).toEqual([
      [0x7_0005_0017n, 0n],
      [0x7_0005_0026n, 0n],
    ])
    expect(los(made).slice(-3)).toEqual([
      [0x18_0005_0031n, 0n],
      [0x50007n, 0n],
      [0x500e2n, 0n],
    ])
    made.iommu('attach', { device: 'dev0', domain: 5n })
    expect(made.iommu('attach_pasid', { device: 'dev0', pasid: 7n, domain: 5n }).rule).toBe('done')
  })
})

describe('the queue', () => {
  const world = (options: DriverWorldOptions = {}) => {
    const made = driverWorld({ ecap: ECAP.qemu | BIT.DT, ...options })
    made.iommu('attach', { device: 'dev0', domain: 5n })
    made.unit.take()
    return made
  }

  it('IQE: the wait takes the place of the bad descriptor, the error is cleared, and the next ones pass', () => {
    const made = world()
    made.unit.ways.refuse = 0x1n
    expect(made.iommu('submit', { lo: 0x1n })).toMatchObject({
      rule: 'refused',
      warnings: [
        'VT-d detected Invalidation Queue Error: Reason 4',
        'Invalidation Queue Error (IQE) cleared',
      ],
    })
    expect(made.unit.take()).toEqual([...['IQT=60', 'FSTS', 'IQERCD', 'IQH', 'FSTS=10', 'wait', 'wait']])
    expect(made.unit.word(0x10_1040)).toBe(made.unit.word(0x10_1050))
    expect(made.iommu('submit', { lo: 0x11n }).rule).toBe('done')
  })

  it('IQE at a later descriptor of a submission is waited for without end', () => {
    const made = driverWorld({ ...SCALABLE, capabilities: { pasids: 0x100, hasRequests: true } })
    made.iommu('attach', { device: 'dev0', domain: 5n })
    made.iommu('attach_pasid', { device: 'dev0', pasid: 7n, domain: 5n })
    // The second one of the drain: the first of its kind, alone in its submission, is taken back by then.
    made.unit.ways.refuse = 0x7_0005_0026n
    const { unit } = made
    unit.seen = () => undefined
    expect(made.iommu('detach_pasid', { device: 'dev0', pasid: 7n })).toMatchObject({
      state: 'dead',
      rule: 'the guest waits for ever: the status of an invalidation wait is not written',
    })
  })

  it('ITE: all that was fetched is lost, the error is cleared, and the submission is sent again', () => {
    const made = world()
    made.unit.ways.lost = 2
    expect(made.iommu('flush_device_tlb', { device: 'dev0' })).toMatchObject({
      rule: 'done',
      warnings: [
        ...['VT-d detected Invalidation Time-out Error: SID 18', 'Invalidation Time-out Error (ITE) cleared'],
        ...['VT-d detected Invalidation Time-out Error: SID 18', 'Invalidation Time-out Error (ITE) cleared'],
      ],
    })
    expect(made.unit.done.slice(-3).map(([lo]) => lo)).toEqual([
      ...[0x18_0000_0003n, 0x18_0000_0003n, 0x18_0000_0003n],
    ])
    expect(made.iommu('flush_all').rule).toBe('done')
  })

  it('a device that never completes keeps the guest for ever', () => {
    const made = world()
    made.unit.ways.lost = 1000
    expect(made.iommu('flush_device_tlb', { device: 'dev0' })).toMatchObject({
      state: 'dead',
      rule: 'the guest waits for ever: a device does not complete an invalidation',
    })
  })

  it('ICE: the error is cleared, the submission ends as it would', () => {
    const made = world()
    made.unit.ways.unasked = true
    made.unit.ways.late = 3
    expect(made.iommu('flush_device_tlb', { device: 'dev0' })).toMatchObject({
      rule: 'done',
      warnings: [
        'VT-d detected Invalidation Completion Error: SID 0',
        'Invalidation Completion Error (ICE) cleared',
      ],
    })
    expect(made.unit.reg('FSTS')).toBe(0n)
  })

  it('a device that is late is waited for', () => {
    const made = world()
    made.unit.ways.late = 20
    expect(made.iommu('flush_device_tlb', { device: 'dev0' })).toMatchObject({ rule: 'done', warnings: [] })
  })

  it('goes round in both widths', () => {
    for (const options of [{}, SCALABLE]) {
      const made = driverWorld(options)
      for (let i = 0; i < 300; i++) expect(made.iommu('flush_all').rule).toBe('done')
      expect(made.unit.done.slice(-300).every(([lo]) => lo === 0xd2n)).toBe(true)
    }
  })
})

describe('errata', () => {
  const unmapped = (profile: string, iova: bigint, bytes: bigint) => {
    const made = driverWorld({ ...SCALABLE, profile })
    made.iommu('attach', { device: 'dev0', domain: 5n })
    made.iommu('map', { domain: 5n, iova, gpa: 0x20_0000n, bytes })
    made.unit.done.splice(0)
    made.iommu('unmap', { domain: 5n, iova, bytes, flush: 'strict' })
    return made.unit.done.flatMap(([lo = 0n, hi = 0n]) => ((lo & 0xfn) === 6n ? [hi] : []))
  }

  it.each([
    ['across its alignment', 0x10_3000n, 0x2000n, [0x10_2041n, 0x10_4041n], [0x10_2041n]],
    ['aligned', 0x10_4000n, 0x2000n, [0x10_4041n], [0x10_4041n]],
    ['three pages', 0x10_2000n, 0x3000n, [0x10_0042n, 0x10_4042n], [0x10_0042n]],
    ['one page', 0x10_3000n, 0x1000n, [0x10_3040n], [0x10_3040n]],
  ])('K6-unaligned-piotlb: %s', (_what, iova, bytes, right, wrong) => {
    expect(unmapped('intended', iova, bytes)).toEqual(right)
    expect(unmapped('linux-6.1', iova, bytes)).toEqual(wrong)
    expect(unmapped('linux-6.10', iova, bytes)).toEqual(right)
  })

  it.each([
    ['intended', true],
    ['linux-6.1', false],
    ['linux-6.10', true],
  ])('K6-caching-device-tlb: %s, device-TLBs are flushed in caching mode: %s', (profile, isFlushed) => {
    for (const cap of [CAP.qemu, CAP.qemu | BIT.CM]) {
      const made = driverWorld({ cap, ecap: ECAP.qemu | BIT.DT, profile })
      made.iommu('attach', { device: 'dev0', domain: 5n })
      made.iommu('map', MAP)
      made.unit.done.splice(0)
      made.iommu('unmap', { ...MAP, flush: 'lazy' })
      made.iommu('flush_queue', { domain: 5n })
      const types = made.unit.done.map(([lo = 0n]) => lo & 0xfn)
      expect(types).toEqual(isFlushed || cap === CAP.qemu ? [2n, 3n] : [2n])
    }
  })

  it.each([
    // Type 3: as many ones from bit 12 on, and a zero, as the block has pages.
    ['intended', 4n, 0x10_3001n],
    ['linux-6.1', 4n, 0x10_1001n],
    ['intended', 2n, 0x10_1001n],
    ['linux-6.1', 2n, 0x10_1001n],
  ])('K6-unaligned-piotlb, TLBs of devices: %s, %i pages from 0x101 on', (profile, pages, range) => {
    const made = driverWorld({ ...SCALABLE, profile })
    made.iommu('attach', { device: 'dev0', domain: 5n })
    const at = { domain: 5n, iova: 0x10_1000n, bytes: pages * 0x1000n }
    made.iommu('map', { ...at, gpa: 0x20_0000n })
    made.unit.done.splice(0)
    made.iommu('unmap', { ...at, flush: 'strict' })
    expect(made.unit.done.at(-1)?.slice(0, 2)).toEqual([0x18_0000_0003n, range])
  })

  it('K6-unaligned-piotlb: a PASID of its own is flushed in aligned blocks', () => {
    const made = driverWorld({ ...SCALABLE, profile: 'linux-6.1', capabilities: { pasids: 0x100 } })
    made.iommu('attach', { device: 'dev0', domain: 5n })
    made.iommu('attach_pasid', { device: 'dev0', pasid: 7n, domain: 5n })
    made.iommu('map', MAP)
    made.unit.done.splice(0)
    made.iommu('flush_pages', { domain: 5n, iova: MAP.iova, bytes: MAP.bytes })
    const words = made.unit.done.map((words) => words.slice(0, 2))
    expect(words).toEqual([
      [0x5_0036n, 0x10_2001n],
      [0x7_0005_0036n, 0x10_2001n],
      [0x7_0005_0036n, 0x10_4001n],
    ])
  })

  it.each([
    ['intended', ['IVA=0', 'IOTLB=b001000500000000', 'IOTLB']],
    ['linux-6.1', ['IOTLB=b001000500000000', 'IOTLB']],
  ])('K6-iva-zero: %s', (profile, bus) => {
    const made = driverWorld({ ecap: ECAP.qemu & ~BIT.QI, profile })
    made.iommu('attach', { device: 'dev0', domain: 5n })
    made.unit.take()
    const flush = (iova: bigint) => made.iommu('flush_pages', { domain: 5n, iova, bytes: 0x1000n })
    flush(0n)
    expect(made.unit.take()).toEqual(bus)
    flush(0x1000n)
    expect(made.unit.take()).toEqual(['IVA=1000', ...bus.slice(-2)])
  })
})

describe('going back', () => {
  it('entries, stores that are not there yet, the queue and what is forgotten', () => {
    const made = driverWorld({ ...SCALABLE, ecap: ECAP.modern & ~BIT.C, capabilities: { pasids: 0x100 } })
    const bytes = () => [...made.unit.memory.bytes.subarray(0x10_0000, 0x14_0000)]
    const { journal } = made
    const [mark, hash, before] = [journal.mark(), journal.hash, bytes()]
    const act = () => [
      made.iommu('forget', { duty: 'cache-lines' }).rule,
      made.iommu('attach', { device: 'dev0', domain: 5n }).rule,
      made.iommu('attach_pasid', { device: 'dev0', pasid: 9n, domain: 5n }).rule,
      made.iommu('map', MAP).rule,
      made.iommu('unmap', { ...MAP, flush: 'lazy' }).rule,
      made.driver.core.stores.pending,
    ]
    const first = act()
    const after = journal.hash
    journal.rollback(mark)
    expect(journal.hash).toBe(hash)
    expect(made.driver.core.stores.pending).toBe(0)
    // Memory of the test has no journal of its own.
    made.unit.memory.bytes.set(before, 0x10_0000)
    expect(act()).toEqual(first)
    expect(journal.hash).toBe(after)
  })
})
