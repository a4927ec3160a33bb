import { describe, expect, it } from 'vitest'
import { fault, NO_PASID, PERM, QUEUE, type UnitWorld, unitWorld } from '../support/vtd-unit.ts'

const PFO = 1n
const PPF = 2n
const F = 0x8000_0000_0000_0000n

const record = ({ unit }: Pick<UnitWorld, 'unit'>, index = 0): readonly [lo: bigint, hi: bigint] => {
  const at = unit.offsetOf('FRCD_LO') + index * 16
  return [unit.mmioRead(at, 8), unit.mmioRead(at + 8, 8)]
}
const clear = ({ unit }: UnitWorld, index = 0) =>
  unit.mmioWrite(unit.offsetOf('FRCD_LO') + index * 16 + 12, 4, 0x8000_0000n)
const running = (options: Parameters<typeof unitWorld>[0] = {}) => {
  const world = unitWorld(options)
  world.write('FEDATA', 0x21n)
  world.write('FEADDR', 0xfee0_0000n)
  world.write('FECTL', 0n)
  world.write('GCMD', 0x8000_0000n)
  return world
}
/** QEMU 7.2 as it records faults. */
const QEMU_72 = ['D17', 'D80', 'D81', 'D86']

describe('what is recorded of a blocked request', () => {
  it('V5: a write, and a read', () => {
    const world = running()
    fault(world, 5, 0x4020_1234n, { need: PERM.WRITE })
    expect(record(world)).toEqual([0x4020_1000n, 0x8000_0005_0000_0018n])
    expect(world.read('FSTS')).toBe(PPF)
    expect(world.messages).toEqual([[0xfee0_0000n, 0x21]])
    clear(world)
    fault(world, 6)
    expect(record(world)[1]).toBe(0xc000_0006_0000_0018n)
  })

  it('V5 and V6 of QEMU 7.2: all ones for no PASID where tables were walked, 16 bits of one, else none', () => {
    const world = running({ errata: ['D17', 'D80', 'D81'] })
    fault(world, 5, 0x4020_1000n, { need: PERM.WRITE })
    expect(record(world)[1]).toBe(0x80ff_ff05_0000_0018n)
    clear(world)
    world.translator.isWalkFault = false
    fault(world, 2)
    expect(record(world)[1]).toBe(0xc000_0002_0000_0018n)
    clear(world)
    fault(world, 0x58, 0x7f12_3456_7000n, { source: 0x310, pasid: 0x1_2345, need: PERM.WRITE })
    expect(record(world)).toEqual([0x7f12_3456_7000n, 0x8000_0058_0000_0310n])
    clear(world)
    world.translator.isWalkFault = true
    fault(world, 0x87, 0x7f12_3456_7000n, { source: 0x310, pasid: 0x1_2345, need: PERM.WRITE })
    expect(record(world)).toEqual([0x7f12_3456_7000n, 0x8023_4587_8000_0310n])
  })

  it('V11: a PASID', () => {
    const world = running()
    fault(world, 0x59, 0x7f12_3456_7000n, { source: 0x310, pasid: 0x1_2345, need: PERM.WRITE })
    expect(record(world)).toEqual([0x7f12_3456_7000n, 0x8123_4559_8000_0310n])
  })

  it('scalable mode of QEMU until 10: the PASID behind a request without one', () => {
    const world = running({ preset: 'qemu-scalable', errata: ['D17', 'D81'] })
    world.translator.translation.pasid = 0
    fault(world, 6)
    expect(record(world)[1]).toBe(0xc000_0006_8000_0018n)
    const hardware = running({ preset: 'qemu-11-pasid', errata: ['D17'] })
    hardware.translator.translation.pasid = 0
    fault(hardware, 6)
    expect(record(hardware)[1]).toBe(0xc000_0006_0000_0018n)
  })

  it('QEMU 7.2 before 7.2.14 loses everything above the source-id, where there is a PASID', () => {
    const world = running({ errata: QEMU_72 })
    fault(world, 0x58, 0x1000n, { pasid: 5 })
    expect(record(world)[1]).toBe(0xffff_ffff_8000_0018n)
  })

  it.each([
    ['an atomic', { need: PERM.READ | PERM.WRITE }, 0xc000_0006_1000_0018n, 0x8000_0006_0000_0018n],
    [
      'a request for a translation',
      { addressType: 1, need: PERM.READ | PERM.WRITE },
      0xd000_0006_0000_0018n,
      0x8000_0006_0000_0018n,
    ],
    ['a translated request', { addressType: 2 }, 0xe000_0006_0000_0018n, 0xc000_0006_0000_0018n],
    [
      'an instruction fetch',
      { need: PERM.READ | PERM.EXECUTE },
      0xc000_0006_4000_0018n,
      0xc000_0006_0000_0018n,
    ],
    ['a privileged one', { isPrivileged: true }, 0xc000_0006_2000_0018n, 0xc000_0006_0000_0018n],
  ])('%s; QEMU has fewer fields', (_what, more, plain, qemu) => {
    for (const [errata, word] of [
      [[], plain],
      [['D17'], qemu],
    ] as const) {
      const world = running({ errata })
      fault(world, 6, 0x4020_1000n, more)
      expect(record(world)[1]).toBe(word)
    }
  })

  it('V6: nothing where FPD says so, and the request is blocked all the same', () => {
    const world = running()
    world.translator.translation.isSilent = true
    fault(world, 2)
    expect(world.read('FSTS')).toBe(0n)
    expect(world.events('vtd.fault')).toMatchObject([{ reason: 2, record: 0xffff_ffff, why: 'fpd' }])
  })

  it('a record says where it is, and what kind of access it was', () => {
    const world = running()
    fault(world, 6, 0x4020_1234n)
    expect(world.events('vtd.fault')).toEqual([
      {
        kind: 'vtd.fault',
        unit: 'vtd0',
        source: 0x18,
        pasid: NO_PASID,
        reason: 6,
        iova: 0x4020_1234n,
        access: 2,
        record: 0,
        why: '',
        line: 0,
      },
    ])
  })

  it('nothing is asked while translation is off', () => {
    const world = unitWorld()
    world.translator.translation.fault = 6
    expect(world.unit.translate(world.request(0x4020_1234n))).toBe(0)
    expect(world.unit.translation).toMatchObject({
      page: 0x4_0201,
      perm: 3,
      isDirect: true,
      isInterrupt: false,
    })
    world.unit.translate(world.request(0xfee0_1000n))
    expect(world.unit.translation.isInterrupt).toBe(true)
    world.unit.translate(world.request(0xfee0_1000n, { pasid: 5 }))
    expect(world.unit.translation.isInterrupt).toBe(false)
  })
})

describe('more faults than registers', () => {
  it('V28: the first stays, the rest is lost, and software hears once', () => {
    const world = running()
    fault(world, 6)
    fault(world, 6, 0x1000n, { source: 0x20 })
    expect(record(world)[1]).toBe(0xc000_0006_0000_0018n)
    expect(world.read('FSTS')).toBe(PPF | PFO)
    fault(world, 6)
    expect(world.messages).toHaveLength(1)
    expect(world.events('vtd.fault').map((e) => 'why' in e && e.why)).toEqual(['', 'overflow', 'overflow'])
    clear(world)
    expect(world.read('FSTS')).toBe(PFO)
    // While PFO is set even a free register takes nothing.
    fault(world, 6)
    expect(record(world)[1] & F).toBe(0n)
    world.write('FSTS', 1n)
    expect(world.read('FSTS')).toBe(0n)
  })

  it('one device has one', () => {
    const world = running({ preset: 'every-feature' })
    fault(world, 6)
    fault(world, 5, 0x9000n)
    fault(world, 5, 0x9000n, { source: 0x20 })
    expect(record(world, 0)[0]).toBe(0x4020_1000n)
    expect(record(world, 1)).toEqual([0x9000n, 0xc000_0005_0000_0020n])
    expect(world.events('vtd.fault').map((e) => 'why' in e && e.why)).toEqual(['', 'compressed', ''])
    expect(world.messages).toHaveLength(1)
  })

  it('registers are filled in turn, and FRI is the one that set PPF', () => {
    const world = running({ preset: 'every-feature' })
    for (let i = 0; i < 3; i++) fault(world, 6, 0x1000n, { source: 0x100 + i })
    expect(world.read('FSTS')).toBe(PPF)
    for (let i = 0; i < 3; i++) clear(world, i)
    expect(world.read('FSTS')).toBe(0n)
    fault(world, 6, 0x1000n, { source: 0x200 })
    expect(world.read('FSTS')).toBe(0x300n | PPF)
    clear(world, 3)
    world.write('GCMD', 0n)
    world.write('GCMD', 0x8000_0000n)
    fault(world, 6, 0x1000n, { source: 0x200 })
    expect(world.read('FSTS')).toBe(PPF)
    expect(record(world, 0)[1] & 0xffffn).toBe(0x200n)
  })

  it('all of them taken: overflow', () => {
    const world = running({ preset: 'every-feature' })
    for (let i = 0; i < 9; i++) fault(world, 6, 0x1000n, { source: 0x100 + i })
    expect(world.read('FSTS')).toBe(PPF | PFO)
  })

  it('clearing one of two leaves PPF', () => {
    const world = running({ preset: 'every-feature' })
    fault(world, 6)
    fault(world, 6, 0n, { source: 0x20 })
    clear(world, 0)
    expect(world.read('FSTS')).toBe(PPF)
    clear(world, 1)
    expect(world.read('FSTS')).toBe(0n)
  })
})

describe('the fault event', () => {
  const masked = (errata: readonly string[] = []) => {
    const world = running({ errata })
    world.write('FECTL', 0x8000_0000n)
    fault(world, 6)
    return world
  }

  it('is pending while it is masked, and sent when it no longer is', () => {
    const world = masked()
    expect([world.read('FECTL'), world.messages.length]).toEqual([0xc000_0000n, 0])
    world.write('FECTL', 0n)
    expect([world.read('FECTL'), world.messages.length]).toEqual([0n, 1])
    expect(world.events('vtd.event')).toMatchObject([
      { event: 'fault', sent: 0 },
      { event: 'fault', sent: 1, address: 0xfee0_0000n, data: 0x21 },
    ])
  })

  it('is gone once software has dealt with all faults; with QEMU at its next write of FSTS', () => {
    const world = masked()
    clear(world)
    expect(world.read('FECTL')).toBe(0x8000_0000n)
    const qemu = masked(['D80'])
    clear(qemu)
    expect(qemu.read('FECTL')).toBe(0xc000_0000n)
    qemu.write('FSTS', 0n)
    expect(qemu.read('FECTL')).toBe(0x8000_0000n)
  })

  it('comes for the first of all conditions only', () => {
    const world = running()
    world.startQueue()
    world.write('GCMD', 0x8400_0000n)
    world.submit([0n, 0n])
    expect(world.messages).toHaveLength(1)
    fault(world, 6)
    expect(world.messages).toHaveLength(1)
    expect(world.read('FSTS')).toBe(0x12n)
    world.put(QUEUE, [0x12n, 0n])
    world.write('FSTS', 0x10n)
    clear(world)
    fault(world, 6)
    expect(world.messages).toHaveLength(2)
  })

  it('goes to both halves of its address', () => {
    const world = running({ preset: 'every-feature' })
    world.write('FEUADDR', 0x1n)
    fault(world, 6)
    expect(world.messages).toEqual([[0x1_fee0_0000n, 0x21]])
  })
})

describe('interrupts of devices', () => {
  const TABLE = 0x3_0000
  const remapping = (errata: readonly string[] = []) => {
    const world = running({ errata })
    world.write('IRTA', BigInt(TABLE) | 3n)
    world.write('GCMD', 0x8300_0000n)
    const entry = (index: number, lo: bigint, hi = 0n) => world.put(TABLE + index * 16, [lo, hi])
    /** A remappable request for an entry. */
    const ask = (index: number, data = 0, more = 0) =>
      world.unit.interrupt(0x18, 0xfee0_0010 | ((index & 0x7fff) << 5) | more, data)
    return { ...world, entry, ask }
  }
  const reasons = ({ events }: Pick<UnitWorld, 'events'>) =>
    events('vtd.fault').map((e) => ('reason' in e ? e.reason : -1))

  it('pass as they are while interrupts are not remapped', () => {
    const world = unitWorld()
    expect(world.unit.interrupt(0x18, 0xfee0_1004, 0x4041)).toBe(true)
    expect(world.messages).toEqual([[0xfee0_1004n, 0x4041]])
  })

  it('become what their entry says', () => {
    const world = remapping()
    world.entry(2, 0x0000_0300_0042_0001n | (1n << 5n) | (1n << 3n))
    expect(world.ask(2)).toBe(true)
    expect(world.messages).toEqual([[0xfee0_3008n, 0x4142]])
    world.entry(5, 0x0000_0100_0042_0001n)
    expect(world.ask(2, 3, 8)).toBe(true)
    expect(world.messages.at(-1)).toEqual([0xfee0_1000n, 0x4042])
  })

  it('with EIME have 32 bits of destination', () => {
    const world = remapping()
    world.write('IRTA', BigInt(TABLE) | 0x803n)
    world.write('GCMD', 0x8300_0000n)
    world.entry(2, 0x0000_1234_0042_0001n)
    world.ask(2)
    expect(world.messages).toEqual([[0x1200_fee3_4000n, 0x4042]])
  })

  it.each([
    [0x20, (w: ReturnType<typeof remapping>) => w.ask(2, 0x1_0000)],
    [0x21, (w: ReturnType<typeof remapping>) => w.ask(16)],
    [
      0x23,
      (w: ReturnType<typeof remapping>) => {
        w.memory.holes.add(TABLE / 4096)
        return w.ask(2)
      },
    ],
    [0x22, (w: ReturnType<typeof remapping>) => w.ask(2)],
    [
      0x24,
      (w: ReturnType<typeof remapping>) => {
        w.entry(2, 0x1001n)
        return w.ask(2)
      },
    ],
    [0x25, (w: ReturnType<typeof remapping>) => w.unit.interrupt(0x18, 0xfee0_0000, 0x41)],
    [
      0x26,
      (w: ReturnType<typeof remapping>) => {
        w.entry(2, 1n, 0x4_0020n)
        return w.ask(2)
      },
    ],
  ])('blocked for reason %x, which is recorded; QEMU only prints it', (reason, run) => {
    const world = remapping()
    expect(run(world)).toBe(false)
    expect(reasons(world)).toEqual([reason])
    expect((record(world)[1] >> 32n) & 0xffn).toBe(BigInt(reason))
    expect(world.messages.filter(([, data]) => data !== 0x21)).toEqual([])
    const qemu = remapping(['D18'])
    const isCompatibility = reason === 0x25
    expect(run(qemu)).toBe(isCompatibility || reason === 0x20 ? isCompatibility : false)
    expect(qemu.read('FSTS')).toBe(0n)
  })

  it('are checked in order: the request, the index, the entry', () => {
    const world = remapping()
    world.ask(16, 0x1_0000)
    clear(world)
    world.entry(2, 0x1000n, 0x4_0020n)
    world.ask(2)
    clear(world)
    world.entry(2, 0x1001n, 0x4_0020n)
    world.ask(2)
    expect(reasons(world)).toEqual([0x20, 0x22, 0x24])
  })

  it('have their index in the record', () => {
    const world = remapping()
    world.ask(3)
    expect(record(world)[0]).toBe(0x0003_0000_0000_0000n)
  })

  it('are silenced by FPD of their entry, where there is one', () => {
    const world = remapping()
    world.entry(2, 2n)
    world.ask(2)
    expect(world.read('FSTS')).toBe(0n)
    expect(world.events('vtd.fault')).toMatchObject([{ reason: 0x22, why: 'fpd' }])
  })

  it('in compatibility format pass with CFI, but not with EIME', () => {
    const world = remapping()
    world.write('GCMD', 0x8280_0000n)
    expect(world.unit.interrupt(0x18, 0xfee0_0000, 0x41)).toBe(true)
    world.write('IRTA', BigInt(TABLE) | 0x803n)
    world.write('GCMD', 0x8380_0000n)
    expect(world.unit.interrupt(0x18, 0xfee0_0000, 0x41)).toBe(false)
  })

  it.each([
    [0x4_0018n, true, true],
    [0x5_001cn, true, true],
    [0x4_001cn, false, false],
    [0x6_001en, true, true],
    [0x7_001fn, true, true],
    [0x8_0005n, true, false],
    [0x8_0500n, false, true],
    [0x8_0105n, false, false],
    [0xc_0018n, false, false],
  ])('the source-id of an entry %x', (hi, passes, passesInQemu) => {
    for (const [errata, is] of [
      [[], passes],
      [['D18'], passesInQemu],
    ] as const) {
      const world = remapping(errata)
      world.entry(2, 1n, hi)
      expect(world.ask(2)).toBe(is)
    }
  })

  it('posted ones are not modelled', () => {
    const world = remapping()
    world.entry(2, 0x8001n)
    expect(world.ask(2)).toBe(false)
    expect(world.events('unmodelled')).toHaveLength(1)
  })
})
