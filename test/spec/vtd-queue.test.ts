import { describe, expect, it } from 'vitest'
import { devices, GCMD, QUEUE, STATUS, type UnitWorld, unitWorld } from '../support/vtd-unit.ts'

const FSTS_IQE = 0x10n
const GLOBAL_IOTLB = [0x12n, 0n] as const
const WAIT = [0x2_0000_0025n, BigInt(STATUS)] as const
const DEVICE = [0x0310_0000_0003n, 0n] as const
/** The same with 256 bits. */
const wide = (words: readonly bigint[]) => [...words, 0n, 0n]
const BAD = [0n, 0n] as const

const started = (options: Parameters<typeof unitWorld>[0] = {}, isWide = false) => {
  const world = unitWorld(options)
  world.startQueue(isWide)
  return world
}
const heads = ({ read }: UnitWorld) => ({
  iqh: read('IQH'),
  error: read('IQERCD') & 0xfn,
  fsts: read('FSTS'),
})
const status = ({ view }: UnitWorld) => view.getUint32(STATUS, true)

describe('the invalidation queue', () => {
  it('carries out descriptors up to the tail, and wraps', () => {
    const world = started()
    world.submit(GLOBAL_IOTLB, [0x5_0022n, 0n], WAIT)
    expect(heads(world)).toEqual({ iqh: 0x30n, error: 0n, fsts: 0n })
    expect(world.translator.invalidated).toMatchObject([
      { what: 'iotlb', scope: 'all' },
      { what: 'iotlb', scope: 'domain', domain: 5 },
    ])
    expect(status(world)).toBe(2)
    for (let i = 3; i < 256; i++) world.put(QUEUE + i * 16, [0x1n | 0x10n, 0n])
    world.put(QUEUE, [0x37_0021n, 0n])
    world.write('IQT', 0xff0n)
    expect(world.read('IQH')).toBe(0xff0n)
    // V29: the last one, then the first.
    world.write('IQT', 0x10n)
    expect(world.read('IQH')).toBe(0x10n)
    expect(world.translator.invalidated.at(-1)).toMatchObject({ what: 'context', domain: 0x37 })
  })

  it('has 128 descriptors of 256 bits in a page, and heads in bytes', () => {
    const world = started({ preset: 'sapphire-rapids' }, true)
    world.submit(wide(GLOBAL_IOTLB), wide(WAIT))
    expect(heads(world)).toEqual({ iqh: 0x40n, error: 0n, fsts: 0n })
    world.write('IQT', 0xfe0n)
    expect(heads(world)).toEqual({ iqh: 0x40n, error: 3n, fsts: FSTS_IQE })
  })

  it('an invalidation is a record, and the cause of what follows; the wait comes after it', () => {
    const world = started()
    const causes: number[] = []
    world.unit.watcher = { invalidated: () => causes.push(world.stage.cause) }
    world.submit([0x5_0032n, 0x4020_1002n], WAIT)
    const records = [...world.log.records()]
    const flush = records.find((r) => r.event.kind === 'domain.flush')
    expect(flush?.event).toMatchObject({ scope: 3, domain: 5, iova: 0x4020_0000n, bytes: 0x4000n, hint: 0 })
    expect(causes).toEqual([flush?.seq])
    expect(records.findIndex((r) => r.event.kind === 'domain.wait')).toBeGreaterThan(flush?.seq ?? 99)
  })

  it('each kind has its scope in records', () => {
    const world = started({ preset: 'every-feature' }, true)
    devices(world)
    world.submit(
      wide([0x11n, 0n]),
      wide([0x0001_0018_0005_0031n, 0n]),
      wide([0x14n, 0n]),
      wide([0x37n, 0n]),
      wide([0x5_0005_0017n, 0n]),
      wide([0x5_0001_0026n, 0n]),
      wide([0x5_0001_0036n, 0x7f00_0020_0049n]),
      wide(DEVICE),
      wide([0x5_0310_0008n, 0x7fff_ffff_ffff_f800n]),
    )
    expect(heads(world).fsts).toBe(0n)
    expect(world.events('domain.flush')).toMatchObject([
      { scope: 5, domain: 0xffff_ffff, source: 0xffff_ffff },
      { scope: 5, domain: 5, source: 0x18, hint: 1 },
      { scope: 10 },
      { scope: 6, domain: 0xffff_ffff, pasid: 0xffff_ffff },
      { scope: 6, domain: 5, pasid: 5 },
      { scope: 8, domain: 1, pasid: 5 },
      { scope: 7, domain: 1, pasid: 5, iova: 0x7f00_0020_0000n, bytes: 0x20_0000n, hint: 1 },
      { scope: 4, source: 0x310, iova: 0n, bytes: 0x1000n },
      { scope: 9, source: 0x310, pasid: 5, bytes: 0n },
    ])
  })

  it('a queue that is switched on with a tail begins at once', () => {
    const world = unitWorld()
    world.put(QUEUE, GLOBAL_IOTLB)
    world.write('IQA', BigInt(QUEUE))
    world.write('IQT', 0x10n)
    expect(world.translator.invalidated).toEqual([])
    world.write('GCMD', GCMD.QIE)
    expect(world.read('IQH')).toBe(0x10n)
    expect(world.translator.invalidated).toHaveLength(1)
  })

  it('switched off, its head is 0 again; another IQA counts from the next time on', () => {
    const world = started()
    world.submit(GLOBAL_IOTLB)
    world.write('IQA', 0x7_0000n)
    world.submit(GLOBAL_IOTLB)
    expect(world.read('IQH')).toBe(0x20n)
    world.write('GCMD', 0n)
    expect([world.read('GSTS'), world.read('IQH')]).toEqual([0n, 0n])
    world.write('IQT', 0n)
    world.put(0x7_0000, WAIT)
    world.write('GCMD', GCMD.QIE)
    world.write('IQT', 0x10n)
    expect(status(world)).toBe(2)
  })

  describe('stops', () => {
    /** Every error of IQERCD, by what brings it about. */
    const ERRORS: Record<number, readonly [what: string, run: (world: UnitWorld) => void, UnitWorld][]> = {
      1: [
        ['a tail behind the end (V29)', (w) => w.write('IQT', 0x1000n), started()],
        [
          'the same with 256 bits',
          (w) => w.write('IQT', 0x1000n),
          started({ preset: 'sapphire-rapids' }, true),
        ],
      ],
      2: [
        [
          'a queue that is not in memory',
          (w) => {
            w.memory.holes.add(QUEUE / 4096)
            w.write('IQT', 0x10n)
          },
          started(),
        ],
      ],
      3: [['a type that is not known', (w) => w.submit(BAD), started()]],
      4: [['a reserved bit (V16)', (w) => w.submit([0x5_01f2n, 0x4020_1000n]), started()]],
      5: [
        ['256 bits without scalable mode', (w) => w.submit(wide(GLOBAL_IOTLB)), started({}, true)],
        [
          '128 bits in scalable mode',
          (w) => {
            w.write('RTADDR', 0x400n)
            w.write('GCMD', GCMD.QIE | GCMD.SRTP)
            w.submit(GLOBAL_IOTLB)
          },
          started({ preset: 'sapphire-rapids' }),
        ],
      ],
      6: [
        [
          'half a place of 256 bits (V29)',
          (w) => w.write('IQT', 0x30n),
          started({ preset: 'sapphire-rapids' }, true),
        ],
      ],
      7: [
        [
          'tables of a mode that the unit has not',
          (w) => {
            w.write('RTADDR', 0x800n)
            w.write('GCMD', GCMD.QIE | GCMD.SRTP)
            w.submit(wide(GLOBAL_IOTLB))
          },
          started({ preset: 'sapphire-rapids' }, true),
        ],
      ],
    }
    it.each(
      Object.entries(ERRORS).flatMap(([error, cases]) => cases.map((c) => [Number(error), ...c] as const)),
    )('with error %i at %s', (error, _what, run, world) => {
      run(world)
      expect(heads(world)).toEqual({ iqh: 0n, error: BigInt(error), fsts: FSTS_IQE })
      expect(world.events('vtd.refuse')).toMatchObject([{ reason: error, offset: 0 }])
      expect(world.translator.invalidated).toEqual([])
    })

    it('in order: the tail before the mode, the mode before the descriptor', () => {
      const world = started({ preset: 'sapphire-rapids' })
      world.write('RTADDR', 0x400n)
      world.write('GCMD', GCMD.QIE | GCMD.SRTP)
      world.write('IQT', 0x1000n)
      expect(heads(world).error).toBe(1n)
      world.write('IQT', 0n)
      world.write('FSTS', FSTS_IQE)
      expect(heads(world)).toMatchObject({ error: 0n, fsts: 0n })
      world.submit(BAD)
      expect(heads(world).error).toBe(5n)
    })

    it('nothing is wrong with an idle queue', () => {
      const world = started({}, true)
      world.write('IQT', 0n)
      expect(heads(world).fsts).toBe(0n)
    })

    it('at the bad one, after those before it; says which', () => {
      const world = started()
      world.submit(GLOBAL_IOTLB, [0x5_0032n, 0x80n], GLOBAL_IOTLB)
      expect(heads(world)).toEqual({ iqh: 0x10n, error: 4n, fsts: FSTS_IQE })
      expect(world.translator.invalidated).toHaveLength(1)
      expect(world.events('vtd.refuse')).toMatchObject([
        { reason: 4, offset: 0x10, lo: 0x5_0032n, hi: 0x80n },
      ])
    })

    it('and goes on once software has cleared the error; QEMU with the next tail only', () => {
      for (const isQemu of [false, true]) {
        const world = started({ errata: isQemu ? ['D14'] : [] })
        world.submit(BAD, WAIT)
        world.put(QUEUE, GLOBAL_IOTLB)
        world.write('IQT', 0x20n)
        expect(status(world)).toBe(0)
        world.write('FSTS', FSTS_IQE)
        expect(status(world)).toBe(isQemu ? 0 : 2)
        world.write('IQT', 0x20n)
        expect(status(world)).toBe(2)
      }
    })

    it('an unaligned tail is taken without its bit, once the error is cleared', () => {
      const world = started({ preset: 'sapphire-rapids' }, true)
      world.put(QUEUE, wide(WAIT))
      world.write('IQT', 0x30n)
      expect(world.read('IQT')).toBe(0x20n)
      world.write('FSTS', FSTS_IQE)
      expect(heads(world)).toEqual({ iqh: 0x20n, error: 0n, fsts: 0n })
    })

    it('an unaligned tail in QEMU: 7.2 does nothing, later ones stop and keep the tail', () => {
      for (const errata of [['D91'], ['D92']]) {
        const world = started({ preset: 'qemu-11-svm', errata }, true)
        world.put(QUEUE, wide(WAIT))
        world.write('IQT', 0x30n)
        const stops = errata[0] === 'D92'
        expect(world.read('FSTS')).toBe(stops ? FSTS_IQE : 0n)
        expect(world.read('IQT')).toBe(0x30n)
        world.write('FSTS', FSTS_IQE)
        expect([world.read('IQH'), status(world)]).toEqual([0n, 0])
        world.write('IQT', 0x20n)
        expect([world.read('IQH'), status(world)]).toEqual([0x20n, 2])
      }
    })
  })

  describe('a wait', () => {
    it('writes its status before it interrupts; a second interrupt waits for ICS', () => {
      const world = started()
      world.write('IEDATA', 0x41n)
      world.write('IEADDR', 0xfee0_1000n)
      world.write('IECTL', 0n)
      const seen: number[] = []
      world.unit.msi = { send: (_address, data) => seen.push(data, status(world)) }
      world.submit([0x2_0000_0035n, BigInt(STATUS)])
      expect(seen).toEqual([0x41, 2])
      world.submit([0x15n, 0n])
      expect(seen).toHaveLength(2)
      world.write('ICS', 1n)
      world.submit([0x15n, 0n])
      expect(seen).toHaveLength(4)
      expect(world.read('ICS')).toBe(1n)
    })

    it('masked, the interrupt is pending until it is let go, or until ICS is cleared', () => {
      const world = started()
      world.submit([0x15n, 0n])
      expect([world.read('IECTL'), world.messages.length]).toEqual([0xc000_0000n, 0])
      world.write('IECTL', 0n)
      expect([world.read('IECTL'), world.messages.length]).toEqual([0n, 1])
      world.write('IECTL', 0x8000_0000n)
      world.write('ICS', 1n)
      world.submit([0x15n, 0n])
      expect(world.read('IECTL')).toBe(0xc000_0000n)
      world.write('ICS', 1n)
      expect(world.read('IECTL')).toBe(0x8000_0000n)
      expect(world.messages).toHaveLength(1)
    })

    it('a fence alone is one; QEMU until 10 refuses it', () => {
      const world = started()
      world.submit([0x45n, 0n])
      expect(heads(world)).toMatchObject({ iqh: 0x10n, fsts: 0n })
      const qemu = started({ errata: ['D87'] })
      qemu.submit([0x45n, 0n])
      expect(heads(qemu)).toMatchObject({ iqh: 0n, fsts: FSTS_IQE })
    })

    it('with status and interrupt ends QEMU', () => {
      const world = started({ errata: ['D89'] })
      world.submit([0x35n, BigInt(STATUS)])
      expect(world.life.isDead).toBe(true)
      expect(world.read('IQH')).toBe(0n)
    })

    it('whose status is not in memory: QEMU stops, else it is not modelled', () => {
      const world = started()
      world.submit([0x25n, 0x7fff_0000n])
      expect(world.events('unmodelled')).toHaveLength(1)
      const qemu = started({ errata: ['D95'] })
      qemu.submit([0x25n, 0x7fff_ffff_ffff_f000n])
      expect(heads(qemu)).toMatchObject({ iqh: 0n, fsts: FSTS_IQE })
      expect(qemu.events('unmodelled')).toEqual([])
    })
  })

  describe('devices with a TLB', () => {
    const withDevices = (end: Parameters<typeof devices>[1], more: Parameters<typeof unitWorld>[0] = {}) => {
      const world = started({ preset: 'qemu-device-iotlb', ...more })
      return { world, ...devices(world, end) }
    }

    it('are told after the watchers, and done at once or not', () => {
      const { world, seen } = withDevices('done')
      world.submit(DEVICE, WAIT)
      expect(seen).toMatchObject([{ what: 'device-tlb', source: 0x310, order: 0 }])
      expect(status(world)).toBe(2)
    })

    it('that are late keep a wait from its end, but not what is behind it', () => {
      const { world } = withDevices('late')
      world.submit(DEVICE, WAIT, GLOBAL_IOTLB)
      expect([world.read('IQH'), status(world)]).toEqual([0x30n, 0])
      expect(world.translator.invalidated.at(-1)).toMatchObject({ what: 'iotlb' })
      expect(world.events('domain.wait')).toEqual([])
      world.unit.invalidationDone(0x310)
      expect(status(world)).toBe(2)
      expect(world.events('domain.wait')).toHaveLength(1)
    })

    it('with a fence what is behind it does not begin', () => {
      const { world } = withDevices('late')
      world.submit(DEVICE, [0x2_0000_0065n, BigInt(STATUS)], GLOBAL_IOTLB)
      expect([world.read('IQH'), world.events('domain.flush').length]).toEqual([0x20n, 1])
      world.unit.invalidationDone(0x310)
      expect([world.read('IQH'), status(world)]).toEqual([0x30n, 2])
    })

    it('a wait is for what is before it, and waits end in order', () => {
      const { world, port } = withDevices('late')
      world.submit(DEVICE, WAIT)
      port.end = 'done'
      world.submit([0x2_0000_0025n, BigInt(STATUS + 4)])
      expect(world.view.getUint32(STATUS + 4, true)).toBe(0)
      world.unit.invalidationDone(0x310)
      expect(world.view.getUint32(STATUS + 4, true)).toBe(2)
    })

    it('more than MIP at once are not asked', () => {
      const { world, seen } = withDevices('late')
      const one = [0x0310_0001_0003n, 0n]
      world.submit(one, one)
      expect([seen.length, world.read('IQH')]).toEqual([1, 0x10n])
      world.unit.invalidationDone(0x310)
      expect([seen.length, world.read('IQH')]).toEqual([2, 0x20n])
    })

    it('that never end: time-out, no wait is done, and the queue stops until it is cleared', () => {
      const { world, port } = withDevices('lost')
      world.submit(DEVICE, WAIT)
      world.unit.elapse()
      expect(world.read('FSTS')).toBe(0x40n)
      expect(world.read('IQERCD')).toBe(0x0310_0000_0000n)
      expect([world.read('IQH'), status(world)]).toEqual([0x20n, 0])
      port.end = 'done'
      world.submit(WAIT)
      expect(world.read('IQH')).toBe(0x20n)
      world.write('FSTS', 0x40n)
      expect([world.read('IQH'), status(world)]).toEqual([0x30n, 2])
      world.unit.elapse()
      expect(world.read('FSTS')).toBe(0n)
    })

    it('that do not exist run into the time-out; not with QEMU', () => {
      for (const errata of [[], ['D15']]) {
        const { world } = withDevices('no-device', { errata })
        world.submit(DEVICE, WAIT)
        world.unit.elapse()
        expect(world.read('FSTS')).toBe(errata.length === 0 ? 0x40n : 0n)
        expect(status(world)).toBe(errata.length === 0 ? 0 : 2)
      }
    })

    it('a completion that nobody waits for', () => {
      const { world } = withDevices('done')
      world.unit.invalidationDone(0x1234)
      expect([world.read('FSTS'), world.read('IQERCD')]).toEqual([0x20n, 0x1234_0000_0000_0000n])
      world.submit(WAIT)
      expect(status(world)).toBe(2)
    })

    it('the queue goes off once they are done', () => {
      const { world } = withDevices('late')
      world.submit(DEVICE, WAIT)
      world.write('GCMD', 0n)
      expect(world.read('GSTS')).toBe(0x0400_0000n)
      world.unit.invalidationDone(0x310)
      expect([world.read('GSTS'), status(world)]).toEqual([0n, 2])
    })

    it('responses reach them', () => {
      const world = started({ preset: 'every-feature' }, true)
      const { responses } = devices(world)
      world.submit(wide([0x5_0310_1019n, 0x3cn]))
      expect(responses).toEqual([{ source: 0x310, pasid: 5, group: 7, code: 1, privateData: 0n }])
      expect(world.events('vtd.response')).toMatchObject([{ source: 0x310, pasid: 5, group: 7, code: 1 }])
    })
  })

  describe('of QEMU', () => {
    it('goes off only when the last descriptor was a wait and all is done', () => {
      const world = started({ errata: ['D11'] })
      world.write('GCMD', 0n)
      expect(world.read('GSTS')).toBe(0x0400_0000n)
      world.submit(GLOBAL_IOTLB)
      world.write('GCMD', 0n)
      expect(world.read('GSTS')).toBe(0x0400_0000n)
      world.submit(WAIT)
      world.write('GCMD', 0n)
      expect([world.read('GSTS'), world.read('IQH')]).toEqual([0n, 0n])
    })

    it('shows the IQA that it has taken: 7.2 without DW', () => {
      for (const [errata, shown] of [
        [['D12', 'D98'], BigInt(QUEUE) | 1n],
        [['D12'], BigInt(QUEUE) | 0x801n],
      ] as const) {
        const world = unitWorld({ preset: 'qemu-11-svm', errata })
        world.write('IQA', BigInt(QUEUE) | 0x801n)
        expect(world.read('IQA')).toBe(shown & 0xfffn)
        world.write('GCMD', GCMD.QIE)
        expect(world.read('IQA')).toBe(shown)
        expect(world.unit.mmioRead(0x94, 4)).toBe(0n)
      }
    })

    it('takes DW at the write of IQA, where the unit is scalable', () => {
      for (const preset of ['qemu-scalable', 'qemu'] as const) {
        const world = unitWorld({ preset, errata: ['D93', 'D94', 'D91'] })
        world.startQueue()
        world.write('IQA', BigInt(QUEUE) | 0x800n)
        world.put(QUEUE, wide(WAIT))
        world.put(QUEUE + 0x10, preset === 'qemu' ? WAIT : [0n, 0n])
        world.write('IQT', 0x20n)
        expect(world.read('IQH')).toBe(0x20n)
      }
    })

    it('does not look at the mode of the tables', () => {
      const world = unitWorld({ preset: 'qemu-scalable', errata: ['D94'] })
      world.startQueue()
      world.write('RTADDR', 0x400n)
      world.write('GCMD', GCMD.QIE | GCMD.SRTP)
      world.submit(WAIT)
      expect(status(world)).toBe(2)
    })

    it('7.2 takes what is about PASIDs and does nothing; it looks at few bits', () => {
      const world = started({ preset: 'qemu', errata: ['D13'] })
      const any = 0xffff_ffff_ffff_fff0n
      world.submit([any | 6n, any], [any | 7n, any], [0xffff_0000_07ff_ffe4n, any])
      expect(heads(world)).toMatchObject({ iqh: 0x30n, fsts: 0n })
      expect(world.translator.invalidated).toMatchObject([{ what: 'interrupt-entry', scope: 'all' }])
    })

    it.each([
      ['type 0', 0n],
      ['type 8', 8n],
      ['type 9', 9n],
      ['type 10', 10n],
      ['the upper bits of the type', 0x211n],
      ['PFSID', 0x1_0310_0000_1003n],
      ['page drain', 0xa5n],
    ])('7.2 refuses %s', (_what, qw0) => {
      const world = started({ preset: 'qemu', errata: ['D13'] })
      world.submit([qw0, 0n])
      expect(heads(world)).toMatchObject({ iqh: 0n, fsts: FSTS_IQE })
    })

    it('7.2 does not look at words 2 and 3, and takes devices without ECAP.DT', () => {
      const world = started({ preset: 'qemu-scalable', errata: ['D13', 'D15', 'D93'] }, true)
      world.submit([...GLOBAL_IOTLB, 1n, 1n], wide(DEVICE))
      expect(heads(world)).toMatchObject({ iqh: 0x40n, fsts: 0n })
    })

    it('10.0 takes any PASID-cache descriptor in scalable units; 11.1 bounds pages of a PASID', () => {
      const any = [0xffff_ffff_ffff_f1f7n, 1n, 1n, 1n]
      const ten = started({ preset: 'qemu-11-svm', errata: ['D40'] }, true)
      ten.submit(any)
      expect(heads(ten)).toMatchObject({ iqh: 0x20n, fsts: 0n })
      ten.submit(wide([0x37n, 0n]))
      expect(ten.translator.invalidated).toMatchObject([{ what: 'pasid-cache', scope: 'all' }])
      const legacy = started({ errata: ['D40'] })
      legacy.submit([0x37n, 0n])
      expect(heads(legacy).fsts).toBe(FSTS_IQE)
      for (const errata of [['D38'], []]) {
        const world = started({ preset: 'qemu-11-svm', errata }, true)
        world.submit(wide([0x36n, 19n]))
        expect(heads(world).fsts).toBe(errata.length === 0 ? 0n : FSTS_IQE)
      }
    })

    it('takes devices and interrupt entries without ECAP.DT and IR', () => {
      const world = started({ preset: 'qemu-11-first-level', errata: ['D88', 'D15'] }, true)
      world.submit(wide(DEVICE), wide([0x4n, 0n]), wide([0x5_0310_0008n, 0n]))
      expect(heads(world)).toMatchObject({ iqh: 0x60n, fsts: 0n })
    })

    it('11.1 answers groups without ECAP.PRS, but none without a PASID', () => {
      const world = started({ preset: 'qemu-11-pasid', errata: ['D90'] }, true)
      const { responses } = devices(world)
      world.submit(wide([0x5_0310_0019n, 0x38n]), wide([0x5_0310_0009n, 0x38n]))
      expect([responses.length, world.read('IQH')]).toEqual([1, 0x20n])
    })
  })

  it('goes back with the journal', () => {
    const world = started({ preset: 'qemu-device-iotlb' })
    devices(world, 'late')
    const hash = world.journal.hash
    const mark = world.journal.mark()
    world.submit(DEVICE, WAIT, BAD)
    expect(world.journal.hash).not.toBe(hash)
    world.journal.rollback(mark)
    expect(world.journal.hash).toBe(hash)
    expect(heads(world)).toEqual({ iqh: 0n, error: 0n, fsts: 0n })
    world.unit.invalidationDone(0x310)
    expect(world.read('FSTS')).toBe(0x20n)
  })
})
