import { describe, expect, it } from 'vitest'
import { eventsOfLog } from '../support/events.ts'
import { DSC, SOURCE, type VtdWorldOptions, vtdWorld } from '../support/vtd.ts'

type Heard = readonly (readonly [iova: bigint, bytes: bigint])[]

const WHOLE: Heard = [
  [0xfef0_0000n, 0xffff_ffff_0110_0000n],
  [0n, 0xfee0_0000n],
]

/** Naturally aligned powers of two that fill [0xfef00000, 2^aw), then [0, 0xfedfffff]. */
const blocks = (addressBits: number): Heard => {
  const upper: [bigint, bigint][] = [
    [0xfef0_0000n, 0x10_0000n],
    [0xff00_0000n, 0x100_0000n],
  ]
  for (let bit = 32n; bit < BigInt(addressBits); bit++) upper.push([1n << bit, 1n << bit])
  return [
    ...upper,
    [0n, 0x8000_0000n],
    [0x8000_0000n, 0x4000_0000n],
    [0xc000_0000n, 0x2000_0000n],
    [0xe000_0000n, 0x1000_0000n],
    [0xf000_0000n, 0x800_0000n],
    [0xf800_0000n, 0x400_0000n],
    [0xfc00_0000n, 0x200_0000n],
    [0xfe00_0000n, 0x80_0000n],
    [0xfe80_0000n, 0x40_0000n],
    [0xfec0_0000n, 0x20_0000n],
  ]
}

/** Which invalidations the listener of a device hears. */
type Column = 'device-tlb' | 'unmap'
const DEAD = 'QEMU ends'

interface Row {
  readonly act: (world: ReturnType<typeof vtdWorld>) => void
  readonly 'device-tlb': Heard
  /** Before 8.0, and since. */
  readonly unmap: readonly [before: Heard | typeof DEAD, since: Heard | typeof DEAD]
}

/** What each action of a guest with live pages 0x40201000 to 0x40206fff is heard as. */
const ROWS: Readonly<Record<string, Row>> = {
  'pages: one': {
    act: ({ submit }) => submit(...DSC.pages(0x4020_1000n)),
    'device-tlb': [],
    unmap: [[[0x4020_1000n, 0x1000n]], [[0x4020_1000n, 0x1000n]]],
  },
  'pages: 512': {
    act: ({ submit }) => submit(...DSC.pages(0x4020_0000n, 9)),
    'device-tlb': [],
    unmap: [[[0x4020_0000n, 0x20_0000n]], [[0x4020_0000n, 0x20_0000n]]],
  },
  'pages of another domain': {
    act: ({ submit }) => submit(0x6_00f2n, 0x4020_1000n),
    'device-tlb': [],
    unmap: [[], []],
  },
  'domain, pages unchanged': {
    act: ({ submit }) => submit(...DSC.iotlbDomain),
    'device-tlb': [],
    unmap: [[], WHOLE],
  },
  'another domain': {
    act: ({ submit }) => submit(0x6_00e2n, 0n),
    'device-tlb': [],
    unmap: [[], []],
  },
  'everything, pages unchanged': {
    act: ({ submit }) => submit(...DSC.iotlbAll),
    'device-tlb': [],
    unmap: [[], WHOLE],
  },
  'domain, a page gone that an earlier flush had entered': {
    act: ({ submit, unmap, take }) => {
      submit(...DSC.iotlbDomain)
      take()
      unmap(0x4020_6000n)
      submit(...DSC.iotlbDomain)
    },
    'device-tlb': [],
    unmap: [[[0x4020_6000n, 0x1000n]], WHOLE],
  },
  'everything, a page gone that an earlier flush had entered': {
    act: ({ submit, unmap, take }) => {
      submit(...DSC.iotlbAll)
      take()
      unmap(0x4020_6000n)
      submit(...DSC.iotlbAll)
    },
    'device-tlb': [],
    unmap: [[[0x4020_6000n, 0x1000n]], WHOLE],
  },
  'domain, a page mapped and gone since the last flush': {
    act: ({ submit, map, unmap, take }) => {
      submit(...DSC.iotlbDomain)
      take()
      map(0x4020_8000n, 0x9000n)
      unmap(0x4020_8000n)
      submit(...DSC.iotlbDomain)
    },
    'device-tlb': [],
    unmap: [[], WHOLE],
  },
  'domain, a page that leads elsewhere': {
    act: ({ submit, map, unmap, take }) => {
      submit(...DSC.iotlbDomain)
      take()
      unmap(0x4020_2000n)
      map(0x4020_2000n, 0x9000n)
      submit(...DSC.iotlbDomain)
    },
    'device-tlb': [],
    unmap: [[[0x4020_2000n, 0x1000n]], WHOLE],
  },
  'domain, the table of all pages gone': {
    act: ({ submit, unmap, take }) => {
      submit(...DSC.iotlbDomain)
      take()
      unmap(0x4020_0000n, 512)
      submit(...DSC.iotlbDomain)
    },
    'device-tlb': [],
    unmap: [[[0x4020_0000n, 0x20_0000n]], WHOLE],
  },
  'device-TLB: one page': {
    act: ({ submit }) => submit(...DSC.deviceTlb(0x4020_1000n)),
    'device-tlb': [[0x4020_1000n, 0x1000n]],
    unmap: [[], []],
  },
  'device-TLB: 2 MiB': {
    act: ({ submit }) => submit(...DSC.deviceTlb(0x402f_f001n)),
    'device-tlb': [[0x4020_0000n, 0x20_0000n]],
    unmap: [[], []],
  },
  'device-TLB: the whole space': {
    act: ({ submit }) => submit(...DSC.deviceTlb(0x7fff_ffff_ffff_f001n)),
    'device-tlb': WHOLE,
    unmap: [DEAD, DEAD],
  },
  'device-TLB of another device': {
    act: ({ submit }) => submit(0x0018_0000_0003n, 0x4020_1000n),
    'device-tlb': [],
    unmap: [[], []],
  },
  'context entry cleared, context of the device': {
    act: ({ submit, detach }) => {
      detach()
      submit(...DSC.contextDevice)
    },
    'device-tlb': [],
    unmap: [blocks(39), WHOLE],
  },
  'context entry cleared, context of all 8 functions': {
    act: ({ submit, detach }) => {
      detach()
      submit(0x31n | (3n << 48n) | (BigInt(SOURCE | 5) << 32n), 0n)
    },
    'device-tlb': [],
    unmap: [blocks(39), WHOLE],
  },
  'context of another device': {
    act: ({ submit, detach }) => {
      detach()
      submit(0x31n | (BigInt(SOURCE | 1) << 32n), 0n)
    },
    'device-tlb': [],
    unmap: [[], []],
  },
  'contexts of all, nothing changed': {
    act: ({ submit }) => submit(...DSC.contextAll),
    'device-tlb': [],
    unmap: [blocks(39), [...blocks(39), ...WHOLE]],
  },
  'pages across the end of the lower section': {
    act: ({ submit }) => submit(...DSC.pages(0xfedf_f000n, 9)),
    'device-tlb': [],
    unmap: [DEAD, DEAD],
  },
  'pages among the interrupt addresses': {
    act: ({ submit }) => submit(...DSC.pages(0xfee0_0000n, 8)),
    'device-tlb': [],
    unmap: [[], []],
  },
}

/** Versions, with the choice that each makes; `device-tlb` needs device-iotlb=on from 7.2.1 on. */
const MACHINES: readonly [
  profile: string,
  options: VtdWorldOptions & { readonly ats: boolean },
  column: Column,
][] = [
  ['qemu-7.2.0', { hasDeviceTlb: false, ats: false }, 'device-tlb'],
  ['qemu-7.2.0', { hasDeviceTlb: true, ats: false }, 'device-tlb'],
  ['qemu-7.2.0', { hasDeviceTlb: true, ats: true }, 'device-tlb'],
  ['qemu-7.2.1', { hasDeviceTlb: false, ats: false }, 'unmap'],
  ['qemu-7.2.4', { hasDeviceTlb: false, ats: false }, 'unmap'],
  ['qemu-7.2.4', { hasDeviceTlb: true, ats: false }, 'device-tlb'],
  ['qemu-7.2.4', { hasDeviceTlb: true, ats: true }, 'device-tlb'],
  ['qemu-7.2.5', { hasDeviceTlb: true, ats: false }, 'unmap'],
  ['qemu-7.2.22', { hasDeviceTlb: false, ats: false }, 'unmap'],
  ['qemu-7.2.22', { hasDeviceTlb: true, ats: false }, 'unmap'],
  ['qemu-7.2.22', { hasDeviceTlb: true, ats: true }, 'device-tlb'],
  ['qemu-8.0.3', { hasDeviceTlb: true, ats: false }, 'device-tlb'],
  ['qemu-8.0.4', { hasDeviceTlb: true, ats: false }, 'unmap'],
  ['qemu-10.0.2', { hasDeviceTlb: false, ats: false }, 'unmap'],
  ['qemu-10.0.2', { hasDeviceTlb: true, ats: false }, 'unmap'],
  ['qemu-10.0.2', { hasDeviceTlb: true, ats: true }, 'device-tlb'],
]

function startedWorld(options: VtdWorldOptions & { readonly ats: boolean }) {
  const world = vtdWorld(options)
  world.map(0x4020_1000n, 0x1000n, 6)
  world.device.hasAts = options.ats
  world.notifier.start(world.device, world.listener)
  return world
}

const isBefore8 = (profile: string): boolean => profile.startsWith('qemu-7.')

describe.each(MACHINES)('%s %o hears as %s', (profile, options, column) => {
  it.each(Object.entries(ROWS))('%s', (_name, row) => {
    const world = startedWorld({ profile, ...options })
    row.act(world)
    const wanted = column === 'device-tlb' ? row['device-tlb'] : row.unmap[isBefore8(profile) ? 0 : 1]
    const heard = world.take()
    expect(world.life.isDead).toBe(wanted === DEAD)
    expect(heard).toEqual(wanted === DEAD ? [] : wanted)
    // Software learns that it is over after the last listener has answered, and never where QEMU has ended.
    if (world.life.isDead) return
    expect(world.early.every((status) => status === 0)).toBe(true)
    expect(world.status()).toBe(0)
    expect(world.wait()).toBe('done')
    expect(world.status()).toBe(2)
  })

  it('a page from its mapping on, in its records', () => {
    const world = startedWorld({ profile, ...options })
    const flag = column === 'device-tlb' ? 4 : 1
    if (column === 'device-tlb') world.submit(...DSC.deviceTlb(0x4020_1000n))
    else world.submit(...DSC.pages(0x4020_1000n))
    world.wait()
    expect(eventsOfLog(world.log, 'domain.')).toMatchObject([
      { kind: 'domain.flush', scope: column === 'device-tlb' ? 4 : 3, iova: 0x4020_1000n, bytes: 0x1000n },
      { kind: 'domain.notify', device: 'net0', flag, iova: 0x4020_1000n, last: 0x4020_1fffn },
      { kind: 'domain.wait', unit: 'vtd0' },
    ])
  })
})

describe('V35: a flush of the whole device-TLB', () => {
  it('with ATS: the upper section, the lower one, then the status', () => {
    const world = startedWorld({ profile: 'qemu-7.2.22', ats: true })
    world.submit(...DSC.deviceTlb(0x7fff_ffff_ffff_f001n))
    expect(world.early).toEqual([0, 0])
    world.wait()
    expect(eventsOfLog(world.log, 'domain.')).toMatchObject([
      { kind: 'domain.flush', scope: 4, source: SOURCE, iova: 0n, bytes: 0n },
      { kind: 'domain.notify', iova: 0xfef0_0000n, last: 0xffff_ffff_ffff_ffffn },
      { kind: 'domain.notify', iova: 0n, last: 0xfedf_ffffn },
      { kind: 'domain.wait' },
    ])
    expect(world.status()).toBe(2)
  })

  it.each(['qemu-7.2.5', 'qemu-7.2.22', 'qemu-10.0.2'])('without ATS %s ends', (profile) => {
    const world = startedWorld({ profile, ats: false })
    world.submit(...DSC.deviceTlb(0x7fff_ffff_ffff_f001n))
    expect(world.life.why).toBe(
      'an event of bus addresses 0x0 to 0xffffffffffffffff leaves the section of a notifier',
    )
    expect(world.take()).toEqual([])
  })

  it.each(['qemu-10.2', 'intended'])('without ATS nobody of %s is told', (profile) => {
    const world = startedWorld({ profile, ats: false })
    world.submit(...DSC.deviceTlb(0x7fff_ffff_ffff_f001n))
    expect([world.life.isDead, world.take()]).toEqual([false, []])
  })
})

describe('what a vIOMMU takes and vhost asks for', () => {
  it.each([
    ['qemu-7.2.0', false, false, 4],
    ['qemu-7.2.0', true, false, 4],
    ['qemu-7.2.1', false, false, 1],
    ['qemu-7.2.1', true, false, 4],
    ['qemu-7.2.4', true, true, 4],
    ['qemu-7.2.5', true, false, 1],
    ['qemu-7.2.5', true, true, 4],
    ['intended', true, true, 4],
    ['intended', true, false, 1],
    ['intended', false, false, 1],
  ] as const)('%s, device-iotlb %s, ATS %s: flag %s', (profile, hasDeviceTlb, ats, flag) => {
    const { device } = startedWorld({ profile, hasDeviceTlb, ats })
    expect(device.notifiers.value.map((n) => n.flag)).toEqual([flag, flag])
    expect(device.notifiers.value.map((n) => n.first)).toEqual([0xfef0_0000n, 0n])
  })

  it.each(['qemu-7.2.0', 'qemu-7.2.22', 'qemu-10.0.2'])('with snoop control %s ends (CV2)', (profile) => {
    const world = startedWorld({ profile, hasSnoopControl: true, ats: false })
    expect(world.life.why).toBe('vhost of net0: the vIOMMU takes no notifier of its kind')
    expect(world.device.notifiers.value).toEqual([])
  })

  it('ATS without device-iotlb ends QEMU since it decides', () => {
    expect(startedWorld({ profile: 'qemu-7.2.22', hasDeviceTlb: false, ats: true }).life.isDead).toBe(true)
    expect(startedWorld({ profile: 'qemu-7.2.4', hasDeviceTlb: false, ats: true }).life.isDead).toBe(false)
  })
})

describe('a guest switches ATS while vhost runs', () => {
  it('virtio-net registers anew, and the lower section hears first from then on', () => {
    const world = startedWorld({ profile: 'qemu-7.2.22', ats: false })
    world.notifier.setAts(world.device, true)
    expect(world.device.notifiers.value.map((n) => [n.flag, n.first])).toEqual([
      [4, 0n],
      [4, 0xfef0_0000n],
    ])
    world.submit(...DSC.deviceTlb(0x7fff_ffff_ffff_f001n))
    expect(world.take()).toEqual([...WHOLE].reverse())
    world.notifier.setAts(world.device, false)
    expect(world.device.notifiers.value.map((n) => [n.flag, n.first])).toEqual([
      [1, 0n],
      [1, 0xfef0_0000n],
    ])
  })

  it.each([
    ['qemu-7.2.22', false],
    ['qemu-7.2.4', true],
  ])('%s, of a class that follows ATS %s, keeps what it chose', (profile, followsAts) => {
    const world = startedWorld({ profile, followsAts, ats: false })
    const before = world.device.notifiers.value
    world.notifier.setAts(world.device, true)
    expect(world.device.notifiers.value).toBe(before)
  })

  it('QEMU ends where there is no device-TLB', () => {
    const world = startedWorld({ profile: 'qemu-7.2.22', hasDeviceTlb: false, ats: false })
    world.notifier.setAts(world.device, true)
    expect(world.life.isDead).toBe(true)
  })
})

describe('sections and walks', () => {
  it('48 bits: the upper section goes on to 2^48', () => {
    const world = startedWorld({ profile: 'qemu-7.2.22', addressBits: 48, ats: false })
    world.detach()
    world.submit(...DSC.contextDevice)
    expect(world.take()).toEqual(blocks(48))
  })

  it('the right unit crops to the section, and aligns', () => {
    const world = startedWorld({ ats: false })
    world.submit(...DSC.pages(0xfedf_f000n, 9))
    expect(world.take()).toEqual([[0xfec0_0000n, 0x20_0000n]])
  })

  it('an address that is not aligned is passed on as it is (CV4)', () => {
    const world = startedWorld({ profile: 'qemu-10.0.2', ats: false })
    world.submit(...DSC.pages(0x4020_3000n, 3))
    expect(world.take()).toEqual([[0x4020_3000n, 0x8000n]])
    const right = startedWorld({ ats: false })
    right.submit(...DSC.pages(0x4020_3000n, 3))
    expect(right.take()).toEqual([[0x4020_0000n, 0x8000n]])
  })

  it.each([
    [0xfee0_0000n, 512],
    [0xc000_0000n, 0x4_0000],
  ])('a large page at %s that a walk enters ends QEMU', (iova, count) => {
    const world = startedWorld({ profile: 'qemu-7.2.22', ats: false })
    world.map(iova, 0x4000_0000n, count)
    world.submit(...DSC.iotlbDomain)
    expect(world.life.isDead).toBe(true)
  })

  it('a context entry that leads to other tables is compared with them', () => {
    const world = startedWorld({ profile: 'qemu-7.2.22', ats: false })
    world.submit(...DSC.iotlbDomain)
    world.unmap(0x4020_1000n, 6)
    world.map(0x4020_3000n, 0x3000n)
    world.attach(9)
    world.submit(...DSC.contextDevice)
    const gone = [0x4020_1000n, 0x4020_2000n, 0x4020_4000n, 0x4020_5000n, 0x4020_6000n]
    expect(world.take()).toEqual(gone.map((iova) => [iova, 0x1000n]))
  })

  it('nobody hears of a root entry that is not there', () => {
    const world = startedWorld({ profile: 'qemu-7.2.22', ats: false })
    world.setRoot(0x18)
    world.submit(...DSC.contextDevice)
    expect([world.take(), world.life.isDead]).toEqual([[], false])
  })

  it('a device that stops hears no more, and one that came last hears first', () => {
    const world = startedWorld({ ats: false })
    const order: string[] = []
    const second = { unmapped: () => order.push('second') }
    const other = world.notifier.addDevice({ name: 'blk0', source: SOURCE + 1, followsAts: false })
    world.notifier.start(other, { unmapped: () => order.push('other') })
    world.notifier.start(world.device, second)
    world.submit(...DSC.iotlbAll)
    expect(order).toEqual(['other', 'other', 'second', 'second'])
    expect(world.take()).toEqual(WHOLE)
    world.notifier.stop(other, other.notifiers.value[0]?.listener as never)
    world.notifier.stop(world.device, second)
    world.submit(...DSC.iotlbAll)
    expect(order).toHaveLength(4)
    expect(world.take()).toEqual(WHOLE)
  })

  it('pass-through is not modelled', () => {
    const world = startedWorld({ profile: 'qemu-7.2.22', ats: false })
    world.attach(5, 2)
    world.submit(...DSC.iotlbDomain)
    expect(eventsOfLog(world.log, 'unmodelled')).toHaveLength(1)
  })

  it('goes back: tree, notifiers and ATS', () => {
    const world = startedWorld({ profile: 'qemu-7.2.22', ats: false })
    const [mark, hash] = [world.journal.mark(), world.journal.hash]
    world.submit(...DSC.iotlbDomain)
    world.notifier.setAts(world.device, true)
    expect(world.device.tree.count).toBe(6)
    world.journal.rollback(mark)
    expect([world.device.tree.count, world.journal.hash]).toEqual([0, hash])
    expect(world.device.notifiers.value.map((n) => n.flag)).toEqual([1, 1])
    expect(world.device.hasAts).toBe(false)
  })
})
