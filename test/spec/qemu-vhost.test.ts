import { describe, expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { QemuVhost } from '../../src/kernel/qemu/vhost-device.ts'
import { VhostDevices } from '../../src/kernel/qemu/vhost-devices.ts'
import type { RamRegion } from '../../src/kernel/qemu/vhost-update.ts'
import { FakeVhost } from '../support/fake-vhost.ts'
import { calls, LIOBN, LIOBN_64, type Pseries, pseries, RAM, WINDOW_64 } from '../support/pseries.ts'

const UA = 0x7f00_0000_0000n
const READ = 1
const WRITE = 2
const PAGE = 0x1000n

interface Options {
  readonly profile?: string
  readonly ramBytes?: bigint
  /** The ranges of it that vhost knows. */
  readonly ram?: readonly RamRegion[]
  readonly givesBoth?: boolean
}

/** A vhost device on pci0 of a pseries machine, whose driver is ready. */
function withVhost({ profile = 'qemu-7.2', ramBytes = RAM, ram, givesBoth = false }: Options = {}) {
  const devices = new VhostDevices(new Journal())
  const m: Pseries = pseries({
    profile,
    ramBytes: Number(ramBytes),
    watcher: devices.watcherOf(() => m.phb.space),
  })
  const sink = new FakeVhost()
  const printed: string[] = []
  const vhost = new QemuVhost({
    name: 'net0',
    journal: m.journal,
    space: m.phb.space,
    ram: ram ?? [{ gpa: 0n, bytes: ramBytes, ua: UA }],
    sink,
    givesBoth,
    print: (line) => printed.push(line),
    onUnknown: (why) => printed.push(`unknown: ${why}`),
  })
  const device = devices.add(vhost, sink)
  device.start([])
  /** The device misses an address; answers what QEMU writes to it. */
  const miss = (iova: bigint, access: number): string[] => {
    sink.take()
    sink.miss(iova, access)
    devices.elapse()
    return sink.take()
  }
  return { ...m, ...calls(m), sink, vhost, devices, device, printed, miss }
}

describe('vector T25: the table is QEMU’s', () => {
  const live = (options: Options = {}) => {
    const world = withVhost({ ramBytes: 1n << 27n, ...options })
    world.put(0x10000n, 0x7000003n)
    world.miss(0x10010n, WRITE)
    return world
  }

  it('a miss is answered with the page; what is taken back is invalidated page by page', () => {
    const { miss, stuff, sink, put } = withVhost({ ramBytes: 1n << 27n })
    expect(put(0x10000n, 0x7000003n).rule).toBe('done')
    expect(miss(0x10010n, WRITE)).toEqual(['UPDATE 0x10000 0x1000 0x7f0007000000 0x3'])
    expect(sink.at(0x10010n)).toBe(UA + 0x7000010n)
    expect(stuff(0x10000n, 0n, 3n)).toMatchObject({ code: 'H_SUCCESS', rule: 'done' })
    expect(sink.take()).toEqual([
      'INVALIDATE 0x10000 0x1000',
      'INVALIDATE 0x11000 0x1000',
      'INVALIDATE 0x12000 0x1000',
    ])
    expect(sink.at(0x10010n)).toBeUndefined()
  })

  it('B12: a page that is overwritten is a MAP to listeners, and vhost hears nothing', () => {
    const { put, sink, log, effects } = live()
    const from = log.length
    expect(put(0x10000n, 0x6000003n).rule).toBe('done')
    expect(sink.take()).toEqual([])
    expect(effects(from).map((e) => e.kind)).toEqual(['tce.set'])
    expect(sink.at(0x10010n)).toBe(UA + 0x7000010n)
  })

  it('without B12 the old page is taken back first', () => {
    const { put, sink } = live({ profile: 'qemu-7.2 -B12' })
    put(0x10000n, 0x6000003n)
    expect(sink.take()).toEqual(['INVALIDATE 0x10000 0x1000'])
    expect(sink.at(0x10010n)).toBeUndefined()
  })

  it('an entry that is taken back by H_PUT_TCE is invalidated, also one that was not live', () => {
    const { put, sink } = live()
    put(0x10000n, 0n)
    put(0x20000n, 0n)
    expect(sink.take()).toEqual(['INVALIDATE 0x10000 0x1000', 'INVALIDATE 0x20000 0x1000'])
  })
})

describe('a miss is translated as the device would be', () => {
  it('with the permissions of the entry, unless QEMU gives both', () => {
    for (const [perm, access] of [
      [1n, READ],
      [2n, WRITE],
      [3n, READ],
    ] as const) {
      for (const givesBoth of [false, true]) {
        const { put, miss } = withVhost({ givesBoth })
        put(0n, 0x5000n | perm)
        expect(miss(0x123n, access)).toEqual([`UPDATE 0x0 0x1000 0x7f0000005000 0x${givesBoth ? 3n : perm}`])
      }
    }
  })

  it('what lacks the permission, lies in no window or leads to no memory gets no answer', () => {
    const { put, miss, printed } = withVhost({ givesBoth: true })
    put(0n, 0x5001n)
    put(PAGE, 0x5002n)
    expect([miss(0n, WRITE), miss(PAGE, READ), miss(1n << 40n, READ), miss(0x7000n, READ)]).toEqual([
      [],
      [],
      [],
      [],
    ])
    expect(printed).toEqual([])
  })

  it('any access but a plain read counts as a write', () => {
    const { put, miss } = withVhost()
    put(0n, 0x5002n)
    expect([miss(0n, 3), miss(0n, 0)]).toEqual([
      ['UPDATE 0x0 0x1000 0x7f0000005000 0x2'],
      ['UPDATE 0x0 0x1000 0x7f0000005000 0x2'],
    ])
  })

  it('a page that reaches past its range of memory is cut; one that begins outside is an error', () => {
    // Pages of 16 MiB, and memory of which vhost knows [8 MiB, 12 MiB) only.
    const MIB = 1n << 20n
    const { create, put, miss, printed } = withVhost({
      ram: [
        { gpa: 8n * MIB, bytes: 4n * MIB, ua: UA },
        { gpa: 0n, bytes: MIB, ua: UA + (1n << 32n) },
      ],
    })
    expect(create(24n, 30n).rule).toBe('done')
    put(WINDOW_64, 3n, LIOBN_64)
    expect(miss(WINDOW_64 + 5n, READ)).toEqual(['UPDATE 0x800000000000000 0x100000 0x7f0100000000 0x3'])
    expect(miss(WINDOW_64 + 9n * MIB, READ)).toEqual(['UPDATE 0x800000000000000 0x100000 0x7f0100000000 0x3'])
    expect(miss(WINDOW_64 + 2n * MIB, READ)).toEqual([])
    expect(printed).toEqual([])
    const other = withVhost({ ram: [{ gpa: 8n * MIB, bytes: 4n * MIB, ua: UA }] })
    other.create(24n, 30n)
    other.put(WINDOW_64, 3n, LIOBN_64)
    expect(other.miss(WINDOW_64 + 9n * MIB, READ)).toEqual([])
    expect(other.printed).toEqual(['Fail to lookup the translated address 0'])
  })

  it('each of several misses is answered, in their order', () => {
    const { put, sink, devices } = withVhost()
    put(0n, 0x5003n)
    put(PAGE, 0x6003n)
    for (const iova of [PAGE, 0n, PAGE]) sink.miss(iova, READ)
    devices.elapse()
    expect(sink.take().map((m) => m.split(' ')[1])).toEqual(['0x1000', '0x0', '0x1000'])
  })
})

describe('a call for more entries than the model tells one by one', () => {
  it('says so, and vhost forgets the range all the same', () => {
    const { create, put, miss, stuff, sink, printed } = withVhost()
    create(16n, 37n)
    put(WINDOW_64, 0x50003n, LIOBN_64)
    miss(WINDOW_64, READ)
    stuff(WINDOW_64, 0n, 1n << 21n, LIOBN_64)
    expect(sink.take()).toEqual(['INVALIDATE 0x800000000000000 0x2000000000'])
    expect(sink.at(WINDOW_64)).toBeUndefined()
    expect(printed).toEqual(['unknown: more than 1048576 messages to vhost for one call'])
  })
})

describe('what QEMU prints where a write to vhost fails', () => {
  it('of an UPDATE and of an INVALIDATE', () => {
    const { put, miss, sink, printed } = withVhost()
    put(0n, 0x5003n)
    sink.answer = -14
    miss(0n, READ)
    put(0n, 0n)
    expect(printed).toEqual([
      'Fail to update device iotlb',
      'Fail to update device iotlb',
      'Fail to update device iotlb',
      'Fail to invalidate device iotlb',
    ])
  })
})

describe('windows that come and go', () => {
  it('one that opens is listened to; what vhost has of one that closes stays', () => {
    const { create, put, miss, remove, sink, stuff } = withVhost()
    create(16n, 24n)
    put(WINDOW_64, 0x50003n, LIOBN_64)
    expect(miss(WINDOW_64, READ)).toEqual(['UPDATE 0x800000000000000 0x10000 0x7f0000050000 0x3'])
    stuff(WINDOW_64 + 0x10000n, 0n, 1n, LIOBN_64)
    expect(sink.take()).toEqual(['INVALIDATE 0x800000000010000 0x10000'])
    remove(LIOBN_64)
    expect([sink.take(), sink.at(WINDOW_64)]).toEqual([[], UA + 0x50000n])
  })

  it('the table is marked as one that listeners need, until the device stops', () => {
    const { table, device, put, sink } = withVhost()
    expect(table(LIOBN).needsVfio).toBe(true)
    device.stop([])
    expect(table(LIOBN).needsVfio).toBe(false)
    put(0n, 0n)
    expect(sink.take()).toEqual([])
    device.start([])
    put(0n, 0n)
    expect(sink.take()).toEqual(['INVALIDATE 0x0 0x1000'])
  })

  it('a device that is not ready answers nothing', () => {
    const { device, put, miss } = withVhost()
    put(0n, 0x5003n)
    device.stop([])
    expect(miss(0n, READ)).toEqual([])
  })
})
