import { describe, expect, it } from 'vitest'
import type { IotlbMiss } from '../../src/kernel/ports.ts'
import type { RamRegion } from '../../src/kernel/qemu/vhost-update.ts'
import { VtdVhost } from '../../src/kernel/qemu/vtd-vhost.ts'
import { DSC, SOURCE, type VtdWorldOptions, vtdWorld } from '../support/vtd.ts'

const UA = 0x7f00_0000_0000n
/** Memory as QEMU's q35 tells it to vhost, with the hole below 1 MiB. */
const RAM = [
  { gpa: 0n, bytes: 0xc_0000n },
  { gpa: 0xe_0000n, bytes: 0x1_0000n },
  { gpa: 0x10_0000n, bytes: 0x5f0_0000n },
].map((r) => ({ ...r, ua: UA + r.gpa }))

const said = (name: string, ...numbers: (bigint | number)[]): string =>
  [name, ...numbers.map((n) => `0x${n.toString(16)}`)].join(' ')

type VhostWorldOptions = VtdWorldOptions & {
  readonly givesBoth?: boolean
  readonly code?: number
  readonly ram?: readonly RamRegion[]
}

function vhostWorld(options: VhostWorldOptions = {}) {
  const world = vtdWorld(options)
  const messages: string[] = []
  const printed: string[] = []
  const misses: IotlbMiss[] = []
  const backend = {
    queues: 2,
    open: () => undefined,
    start: (queues: readonly unknown[], listen: () => void) => {
      messages.push(`start ${queues.length}`)
      listen()
      messages.push('listens')
    },
    connect: () => messages.push('connect'),
    stop: (_queues: readonly unknown[], unlisten: () => void) => {
      messages.push('stop')
      unlisten()
    },
    kick: (index: number) => messages.push(`kick ${index}`),
    forget: () => undefined,
    update: (...args: [bigint, bigint, bigint, number]) => {
      messages.push(said('UPDATE', ...args))
      return options.code ?? 0
    },
    invalidate: (...args: [bigint, bigint]) => {
      messages.push(said('INVALIDATE', ...args))
      return options.code ?? 0
    },
    nextMiss: () => misses.shift(),
  }
  const vhost = new VtdVhost({
    name: 'net0',
    journal: world.journal,
    life: world.life,
    unit: world.unit,
    notifier: world.notifier,
    device: world.device,
    backend,
    ram: options.ram ?? RAM,
    givesBoth: options.givesBoth ?? false,
    print: (text) => printed.push(text),
  })
  const miss = (iova: bigint, access: number): string[] => {
    misses.push({ iova, access })
    vhost.elapse()
    return messages.splice(0)
  }
  return { ...world, vhost, backend, messages, printed, misses, miss }
}

function started(options: VhostWorldOptions = {}) {
  const world = vhostWorld(options)
  world.vhost.start([])
  world.messages.splice(0)
  return world
}

describe('misses of vhost', () => {
  it('on a mapped page: its translation, as QEMU 7.2.22 gave it', () => {
    const world = started({ givesBoth: true })
    world.map(0x4020_1000n, 0x20_1000n, 6)
    expect(world.miss(0x4020_6080n, 1)).toEqual([said('UPDATE', 0x4020_6000n, 0x1000n, UA + 0x20_6000n, 3)])
    expect(world.vhost.updates).toBe(1)
  })

  it.each([
    [true, 1, 1, 3],
    [true, 1, 2, undefined],
    [true, 2, 2, 3],
    [true, 2, 1, undefined],
    [true, 2, 3, 3],
    [true, 3, 1, 3],
    [false, 1, 1, 1],
    [false, 1, 2, undefined],
    [false, 2, 2, 2],
    [false, 2, 3, 2],
    [false, 3, 1, 3],
    [false, 3, 2, 3],
  ])('widened %s: entry %s, asked for %s: permission %s', (givesBoth, perm, access, given) => {
    const world = started({ givesBoth })
    world.map(0x10_0000n, 0x20_0000n, 1, perm)
    const update = given === undefined ? [] : [said('UPDATE', 0x10_0000n, 0x1000n, UA + 0x20_0000n, given)]
    expect(world.miss(0x10_0ff0n, access)).toEqual(update)
  })

  it.each([
    ['that is not mapped', 0x4030_0000n],
    ['beyond the width', 1n << 40n],
    ['of an interrupt', 0xfee0_0000n],
    ['of an interrupt, the last one', 0xfeef_ffffn],
  ])('on an address %s: nothing', (_what, iova) => {
    const world = started()
    world.map(0xfee0_0000n, 0x20_0000n, 256)
    expect([world.miss(iova, 1), world.printed]).toEqual([[], []])
  })

  it('on either side of the interrupts: a translation', () => {
    const world = started()
    world.map(0xfedf_f000n, 0x20_0000n)
    world.map(0xfef0_0000n, 0x20_1000n)
    expect(world.miss(0xfedf_f000n, 1)).toHaveLength(1)
    expect(world.miss(0xfef0_0000n, 1)).toHaveLength(1)
  })

  it('without a context entry: nothing', () => {
    const world = started()
    world.map(0x10_0000n, 0x20_0000n)
    world.detach()
    // The unit remembers the entry until it is told.
    expect(world.miss(0x10_0000n, 1)).not.toEqual([])
    world.submit(...DSC.contextAll)
    world.submit(...DSC.iotlbAll)
    world.miss(0x10_0000n, 1)
    expect(world.miss(0x10_0000n, 1)).toEqual([])
  })

  it('on a large page: all of it', () => {
    const world = started()
    world.map(0x4000_0000n, 0x40_0000n, 512)
    expect(world.miss(0x4012_3456n, 2)).toEqual([
      said('UPDATE', 0x4000_0000n, 0x20_0000n, UA + 0x40_0000n, 3),
    ])
  })

  it('on a large page that ends behind memory: as much as there is', () => {
    const world = started()
    world.map(0x4000_0000n, 0n, 512)
    expect(world.miss(0x4000_0000n, 1)).toEqual([said('UPDATE', 0x4000_0000n, 0xc_0000n, UA, 3)])
    // What is behind the hole is asked for again and again: it is never in the answer.
    expect(world.miss(0x4015_0000n, 1)).toEqual([said('UPDATE', 0x4000_0000n, 0xc_0000n, UA, 3)])
  })

  it('on a page outside of memory: nothing', () => {
    const world = started()
    world.map(0x10_0000n, 0xd_0000n)
    world.map(0x10_1000n, 0x7000_0000n)
    expect([world.miss(0x10_0000n, 1), world.miss(0x10_1000n, 1), world.printed]).toEqual([[], [], []])
  })

  it('on a large page that begins before memory: a line', () => {
    const world = started({ ram: [{ gpa: 0x10_0000n, bytes: 0x10_0000n, ua: UA }] })
    world.map(0x5000_0000n, 0n, 512)
    expect(world.miss(0x5018_0000n, 1)).toEqual([])
    expect(world.printed).toEqual(['Fail to lookup the translated address 0'])
  })

  it('that vhost does not take: two lines', () => {
    const world = started({ code: -14 })
    world.map(0x10_0000n, 0x20_0000n)
    world.miss(0x10_0000n, 1)
    expect(world.vhost.updates).toBe(0)
    expect(world.printed).toEqual(['Fail to update device iotlb', 'Fail to update device iotlb'])
  })

  it('of a device that is stopped: stay', () => {
    const world = vhostWorld()
    world.map(0x10_0000n, 0x20_0000n)
    expect(world.miss(0x10_0000n, 1)).toEqual([])
    expect(world.misses).toHaveLength(1)
  })
})

describe('the life of a vhost device', () => {
  const queue = (index: number, used: bigint) => ({
    index,
    entries: 16,
    descriptors: 0n,
    available: 0n,
    used,
  })

  it('starts: listens, then is given the used rings, then runs', () => {
    const world = vhostWorld()
    world.map(0x10_0000n, 0x20_0000n)
    world.map(0n, 0x20_1000n)
    world.vhost.start([queue(1, 0x10_0040n)])
    expect(world.messages).toEqual([
      'start 1',
      'listens',
      said('UPDATE', 0n, 0x1000n, UA + 0x20_1000n, 3),
      said('UPDATE', 0x10_0000n, 0x1000n, UA + 0x20_0000n, 3),
      'connect',
    ])
    expect(world.vhost.isStarted).toBe(true)
  })

  it('a ring that the device may not write is not given', () => {
    const world = vhostWorld()
    world.map(0x10_0000n, 0x20_0000n, 1, 1)
    world.vhost.start([queue(0, 0x10_0000n), queue(1, 0x30_0000n)])
    expect(world.messages).toEqual(['start 2', 'listens', 'connect'])
  })

  it('goes no further where QEMU ends', () => {
    const world = vhostWorld({ hasSnoopControl: true })
    world.vhost.start([])
    expect([world.life.isDead, world.vhost.isStarted, world.messages]).toEqual([
      true,
      false,
      ['start 0', 'listens'],
    ])
  })

  it('hears of flushes until it stops, and is kicked', () => {
    const world = started()
    world.submit(...DSC.pages(0x4020_1000n))
    world.submit(...DSC.iotlbDomain)
    world.vhost.kick(1)
    world.vhost.stop([])
    world.submit(...DSC.iotlbDomain)
    expect(world.messages).toEqual([
      said('INVALIDATE', 0x4020_1000n, 0x1000n),
      said('INVALIDATE', 0xfef0_0000n, 0xffff_ffff_0110_0000n),
      said('INVALIDATE', 0n, 0xfee0_0000n),
      'kick 1',
      'stop',
    ])
    expect(world.vhost.isStarted).toBe(false)
    expect(world.device.options.source).toBe(SOURCE)
  })

  it('an INVALIDATE that vhost does not take: two lines', () => {
    const world = started({ code: -14 })
    world.printed.splice(0)
    world.submit(...DSC.pages(0x4020_1000n))
    expect(world.printed).toEqual(['Fail to update device iotlb', 'Fail to invalidate device iotlb'])
  })
})
