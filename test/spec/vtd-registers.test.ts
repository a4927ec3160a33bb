import { describe, expect, it } from 'vitest'
import { GCMD, unitWorld } from '../support/vtd-unit.ts'

describe('registers of a unit, as software meets them', () => {
  it('after reset: capabilities, masked events, nothing else', () => {
    const { read } = unitWorld({ preset: 'every-feature' })
    expect(read('VER')).toBe(0x60n)
    expect(read('CAP')).toBe(0x19ed_078c_4078_0c66n)
    expect(read('ECAP')).toBe(0x33_ff9e_e6f0_50dfn)
    for (const name of ['FECTL', 'IECTL', 'PECTL'] as const) expect(read(name)).toBe(0x8000_0000n)
    for (const name of ['GSTS', 'FSTS', 'RTADDR', 'IQA', 'PRS', 'IRTA'] as const) expect(read(name)).toBe(0n)
    expect(read('VCCAP')).toBe(1n)
  })

  it.each([
    ['GCMD', 0x0000_0000n],
    ['RTADDR', 0xffff_ffff_ffff_fc00n],
    ['CCMD', 0x6000_0000_0000_ffffn],
    ['FEDATA', 0xffffn],
    ['FEADDR', 0xffff_fffcn],
    ['FEUADDR', 0xffff_ffffn],
    ['IQT', 0x7_fff0n],
    ['IQH', 0n],
    ['IQA', 0xffff_ffff_ffff_f807n],
    ['IRTA', 0xffff_ffff_ffff_f80fn],
    ['PQH', 0x7_ffe0n],
    ['PQT', 0x7_ffe0n],
    ['PQA', 0xffff_ffff_ffff_f007n],
    ['IVA', 0n],
    ['IOTLB', 0x3003_ffff_0000_0000n],
    ['FRCD_LO', 0n],
    ['CAP', 0x19ed_078c_4078_0c66n],
  ] as const)('%s keeps of all ones %x', (name, kept) => {
    const world = unitWorld({ preset: 'every-feature', version: 0x10 })
    const all = 0xffff_ffff_ffff_ffffn
    // Nothing is commanded: the bits that start something are left out.
    const value = name === 'CCMD' || name === 'IOTLB' ? all >> 1n : name === 'GCMD' ? 0n : all
    world.write(name, value)
    expect(world.read(name)).toBe(kept)
  })

  it('a half is written without the other; an access of 8 bytes is two of 4', () => {
    const { unit, read } = unitWorld()
    unit.mmioWrite(0x24, 4, 0x12n)
    expect(read('RTADDR')).toBe(0x12_0000_0000n)
    unit.mmioWrite(0x20, 4, 0x3000n)
    expect(read('RTADDR')).toBe(0x12_0000_3000n)
    expect(unit.mmioRead(0x24, 4)).toBe(0x12n)
    unit.mmioWrite(0x38, 8, 0x1234_0000_0000n)
    expect([read('FECTL'), read('FEDATA')]).toEqual([0n, 0x1234n])
    expect(unit.mmioRead(0x38, 8)).toBe(0x1234_0000_0000n)
  })

  it('what the unit has not reads 0 and takes nothing', () => {
    const { unit, read, write, events } = unitWorld()
    expect(unit.offsetOf('PQA')).toBe(-1)
    for (const offset of [0xd0, 0x58, 0xe00, 0x48, 0x228 + 8]) {
      unit.mmioWrite(offset, 8, 0xffff_ffff_ffff_ffffn)
      expect(unit.mmioRead(offset, 8)).toBe(0n)
    }
    expect(unit.offsetOf('FEUADDR')).toBe(-1)
    write('FEADDR', 0xfee0_0000n)
    expect(read('FEADDR')).toBe(0xfee0_0000n)
    expect(events('unmodelled')).toEqual([])
  })

  it('accesses of other sizes, or not aligned, are not modelled', () => {
    const { unit, events } = unitWorld()
    expect(unit.mmioRead(0x22, 4)).toBe(0n)
    expect(unit.mmioRead(0x24, 8)).toBe(0n)
    unit.mmioWrite(0x1a, 4, 0xffff_ffffn)
    expect(events('unmodelled')).toHaveLength(3)
    expect(events('vtd.register')).toEqual([])
  })

  it('each access is a record', () => {
    const { unit, events } = unitWorld()
    unit.mmioWrite(0x20, 8, 0x1000n)
    unit.mmioRead(0x20, 4)
    expect(events('vtd.register')).toMatchObject([
      { unit: 'vtd0', offset: 0x20, bytes: 8, value: 0x1000n, write: 1 },
      { unit: 'vtd0', offset: 0x20, bytes: 4, value: 0x1000n, write: 0 },
    ])
  })

  it('units of QEMU have no upper addresses, no IQERCD, and 32 bits of invalidation data', () => {
    const world = unitWorld({ preset: 'qemu-eim-device-iotlb', errata: ['D83', 'D84'] })
    expect(world.unit.offsetOf('FEUADDR')).toBe(-1)
    expect(world.unit.offsetOf('IQERCD')).toBe(-1)
    world.write('IEDATA', 0xffff_ffffn)
    world.write('FEDATA', 0xffff_ffffn)
    expect([world.read('IEDATA'), world.read('FEDATA')]).toEqual([0xffff_ffffn, 0xffffn])
  })

  it('a unit of revisions 2.x has page requests of 16 bytes', () => {
    const { write, read } = unitWorld({ preset: 'skylake-graphics' })
    write('PQH', 0xffff_ffffn)
    expect(read('PQH')).toBe(0x7_fff0n)
  })
})

describe('global commands', () => {
  it('a root table counts from SRTP on, and translation from TE on', () => {
    const { write, read, translator, events } = unitWorld()
    write('RTADDR', 0x1_0000n)
    expect(translator.root).toEqual({ page: 0, mode: 0, isEnabled: false })
    write('GCMD', GCMD.SRTP)
    expect(read('GSTS')).toBe(0x4000_0000n)
    expect(translator.root).toEqual({ page: 0x10, mode: 0, isEnabled: false })
    write('RTADDR', 0x2_0400n)
    write('GCMD', GCMD.TE)
    expect(read('GSTS')).toBe(0xc000_0000n)
    expect(translator.root).toEqual({ page: 0x10, mode: 0, isEnabled: true })
    write('GCMD', GCMD.TE | GCMD.SRTP)
    expect(translator.root).toEqual({ page: 0x20, mode: 1, isEnabled: true })
    write('GCMD', 0n)
    expect(read('GSTS')).toBe(0x4000_0000n)
    expect(events('vtd.root').map((e) => ({ ...e }))).toMatchObject([
      { address: 0x1_0000n, mode: 0, enabled: 0 },
      { address: 0x1_0000n, mode: 0, enabled: 1 },
      { address: 0x2_0000n, mode: 1, enabled: 1 },
      { address: 0x2_0000n, mode: 1, enabled: 0 },
    ])
  })

  it('levels that are left out go off; TE comes before SRTP before QIE', () => {
    const { write, read, events, put } = unitWorld({ errata: ['D10'] })
    put(0x2_0000, [0n, 0n])
    write('IQA', 0x2_0000n)
    write('RTADDR', 0x1_0000n)
    write('IQT', 0x10n)
    write('GCMD', GCMD.TE | GCMD.SRTP | GCMD.QIE)
    expect(read('GSTS')).toBe(0xc400_0000n)
    expect(events('vtd.').map((e) => e.kind)).toEqual([
      'vtd.register',
      'vtd.register',
      'vtd.register',
      'vtd.register',
      'vtd.root',
      'vtd.root',
      'vtd.refuse',
      'vtd.event',
      'vtd.register',
    ])
  })

  it('caches are dropped at SRTP with ESRTPS, and by QEMU at any SRTP and change of TE', () => {
    const drops = (options: Parameters<typeof unitWorld>[0], commands: readonly bigint[]) => {
      const { write, translator } = unitWorld(options)
      for (const command of commands) write('GCMD', command)
      return translator.drops
    }
    const commands = [GCMD.SRTP, GCMD.TE, GCMD.TE, 0n]
    expect(drops({}, commands)).toBe(0)
    expect(drops({ preset: 'qemu-11-pasid' }, commands)).toBe(1)
    expect(drops({ errata: ['D10'] }, commands)).toBe(3)
  })

  it('what a unit lacks it does not switch on', () => {
    const none = unitWorld({ preset: 'intel-4-series' })
    none.write('GCMD', GCMD.QIE | GCMD.IRE | GCMD.SIRTP | GCMD.CFI)
    expect(none.read('GSTS')).toBe(0n)
    const noTranslation = unitWorld({ cap: 0x00d2_008c_2226_0006n })
    noTranslation.write('GCMD', GCMD.TE)
    expect(noTranslation.read('GSTS')).toBe(0n)
    const any = unitWorld({ preset: 'qemu-no-intremap', errata: ['D82'] })
    any.write('IRTA', 0x1000n)
    any.write('GCMD', GCMD.SIRTP | GCMD.IRE)
    expect([any.read('IRTA'), any.read('GSTS')]).toEqual([0x1000n, 0x0100_0000n])
  })

  it('interrupt remapping has its own switches; QEMU has no CFI', () => {
    const all = GCMD.IRE | GCMD.SIRTP | GCMD.CFI
    const { write, read } = unitWorld()
    write('GCMD', all)
    expect(read('GSTS')).toBe(all)
    write('GCMD', 0n)
    expect(read('GSTS')).toBe(GCMD.SIRTP)
    const qemu = unitWorld({ errata: ['D10'] })
    qemu.write('GCMD', all)
    expect(qemu.read('GSTS')).toBe(GCMD.IRE | GCMD.SIRTP)
  })

  it('advanced fault logging is not modelled', () => {
    const { write, events } = unitWorld({ cap: 0x00d2_008c_2226_020en })
    write('GCMD', 0x2000_0000n)
    expect(events('unmodelled')).toHaveLength(1)
  })

  it('bits of addresses that its memory has not are dropped by QEMU', () => {
    const address = 0x80_0001_0000n
    for (const [errata, page] of [
      [[], 0x800_0010],
      [['D96'], 0x10],
    ] as const) {
      const { write, translator } = unitWorld({ errata })
      write('RTADDR', address)
      write('GCMD', GCMD.SRTP)
      expect(translator.root?.page).toBe(page)
    }
  })

  it('protected memory regions are on when they are switched on', () => {
    const { write, read, unit, request, events } = unitWorld({ preset: 'skylake' })
    write('PLMBASE', 0x10_0000n)
    write('PLMLIMIT', 0x1f_ffffn)
    unit.translate(request(0x10_0000n))
    expect(events('unmodelled')).toEqual([])
    write('PMEN', 0x8000_0000n)
    expect(read('PMEN')).toBe(0x8000_0001n)
    unit.translate(request(0x20_0000n))
    expect(events('unmodelled')).toEqual([])
    unit.translate(request(0x1f_f000n))
    expect(events('unmodelled')).toHaveLength(1)
    write('PMEN', 0n)
    expect(read('PMEN')).toBe(0n)
  })
})

describe('invalidation by registers', () => {
  it.each([
    ['global', 0xa000_0000_0000_0000n, 0x2800_0000_0000_0000n, { scope: 'all', domain: 0 }],
    ['domain', 0xc000_0000_0000_0005n, 0x5000_0000_0000_0005n, { scope: 'domain', domain: 5 }],
    [
      'device',
      0xe000_0001_0018_0005n,
      0x7800_0000_0000_0005n,
      { scope: 'fine', domain: 5, source: 0x18, functionMask: 1 },
    ],
  ] as const)('context cache: %s', (_name, value, after, what) => {
    const { write, read, translator, events } = unitWorld()
    write('CCMD', value)
    expect(read('CCMD')).toBe(after)
    expect(translator.invalidated).toMatchObject([{ what: 'context', ...what }])
    expect(events('domain.flush')).toHaveLength(1)
  })

  it('context cache: QEMU says of a domain that it did everything; no granularity is none', () => {
    const qemu = unitWorld({ errata: ['D7'] })
    qemu.write('CCMD', 0xc000_0000_0000_0005n)
    expect(qemu.read('CCMD')).toBe(0x4800_0000_0000_0005n)
    const wrong = unitWorld()
    wrong.write('CCMD', 0x8000_0000_0020_0005n)
    expect(wrong.read('CCMD')).toBe(0x5n)
    expect(wrong.translator.invalidated).toEqual([])
  })

  it('IOTLB: each granularity, and what is wrong', () => {
    const { write, read, translator } = unitWorld()
    write('IOTLB', 0x9000_0000_0000_0000n)
    expect(read('IOTLB')).toBe(0x1200_0000_0000_0000n)
    write('IOTLB', 0xa000_0005_0000_0000n)
    expect(read('IOTLB')).toBe(0x2400_0005_0000_0000n)
    write('IVA', 0x4020_1049n)
    write('IOTLB', 0xb000_0005_0000_0000n)
    expect(read('IOTLB')).toBe(0x3600_0005_0000_0000n)
    expect(translator.invalidated).toMatchObject([
      { what: 'iotlb', scope: 'all' },
      { what: 'iotlb', scope: 'domain', domain: 5 },
      { what: 'iotlb', scope: 'fine', domain: 5, address: 0x4020_1000n, order: 9, isLeafOnly: true },
    ])
    write('IVA', 19n)
    write('IOTLB', 0xb000_0005_0000_0000n)
    expect(read('IOTLB')).toBe(0x3000_0005_0000_0000n)
    write('IOTLB', 0x8003_0005_0000_0000n)
    expect(read('IOTLB')).toBe(0x3_0005_0000_0000n)
    expect(translator.invalidated).toHaveLength(3)
  })

  it('IOTLB: pages become their domain where the unit has no page-selective invalidation', () => {
    const { write, read, translator } = unitWorld({ preset: 'skylake-graphics' })
    write('IVA', 63n)
    write('IOTLB', 0xb000_0005_0000_0000n)
    expect(read('IOTLB')).toBe(0x3400_0005_0000_0000n)
    expect(translator.invalidated).toMatchObject([{ scope: 'domain', domain: 5 }])
  })

  it('the upper half starts it, the lower one does not', () => {
    const { unit, translator } = unitWorld()
    unit.mmioWrite(0x28, 4, 0x5n)
    expect(translator.invalidated).toEqual([])
    unit.mmioWrite(0x2c, 4, 0xc000_0000n)
    expect(translator.invalidated).toMatchObject([{ what: 'context', scope: 'domain', domain: 5 }])
  })

  it('while the queue is on: QEMU never ends; else it is not modelled, as in version 6', () => {
    for (const errata of [['D9'], []]) {
      const { write, read, translator, events, startQueue } = unitWorld({ errata })
      startQueue()
      write('CCMD', 0xa000_0000_0000_0000n)
      write('IOTLB', 0x9000_0000_0000_0000n)
      expect([read('CCMD'), read('IOTLB')]).toEqual([0xa000_0000_0000_0000n, 0x9000_0000_0000_0000n])
      expect(translator.invalidated).toEqual([])
      expect(events('unmodelled')).toHaveLength(errata.length === 0 ? 2 : 0)
    }
    const six = unitWorld({ version: 0x60 })
    six.write('CCMD', 0xa000_0000_0000_0000n)
    expect(six.events('unmodelled')).toHaveLength(1)
  })
})

describe('virtual commands', () => {
  it('hand out PASIDs, take them back, and refuse what they did not hand out', () => {
    const { write, read } = unitWorld({ preset: 'every-feature' })
    const run = (command: bigint, pasid = 0n) => {
      write('VCMD', command | (pasid << 16n))
      const answer = read('VCRSP')
      return [(answer >> 1n) & 0x7fn, answer >> 16n]
    }
    expect(run(1n)).toEqual([0n, 1n])
    expect(run(1n)).toEqual([0n, 2n])
    expect(run(2n, 1n)).toEqual([0n, 0n])
    expect(run(1n)).toEqual([0n, 1n])
    expect(run(2n, 7n)).toEqual([16n, 0n])
    expect(run(2n, 0n)).toEqual([16n, 0n])
  })

  it('end where no PASID is free', () => {
    // PSS 3: 16 PASIDs.
    const ecap = (0x33_ff9e_e6f0_50dfn & ~(0x1fn << 35n)) | (3n << 35n)
    const { write, read } = unitWorld({ preset: 'every-feature', ecap })
    for (let pasid = 1n; pasid < 16n; pasid++) {
      write('VCMD', 1n)
      expect(read('VCRSP')).toBe(pasid << 16n)
    }
    write('VCMD', 1n)
    expect(read('VCRSP')).toBe(32n)
  })
})
