import { describe, expect, it } from 'vitest'
import {
  formatVtdRecording,
  formatVtdStep,
  readVtdScripts,
  readVtdStep,
  VTD_RAM_BYTES,
} from '../../src/machine/lockstep/vtd-step.ts'
import {
  formatVtdUnit,
  PLAIN_VTD_UNIT,
  readVtdUnit,
  vtdCapabilities,
  vtdDeviceArgument,
  vtdUnitRefusal,
} from '../../src/machine/lockstep/vtd-unit-options.ts'

describe('steps', () => {
  it.each([
    'reg 0x18 4 0x80000000',
    'reg 0x228 8 0x8000000000000000',
    'look 0x34 4',
    'look 0x8 8',
    'word 0x100000 0x101001 0x0',
    'peek 0x200000 4096',
    'dma edu4 read 0xfffffffffffff000 4095',
    'dma edu0 write 0x1000 8 256',
  ])('%s: is read as it is written', (line) => {
    const step = readVtdStep(line)
    expect(typeof step === 'string' ? step : formatVtdStep(step)).toBe(line)
  })

  it.each([
    ['regs 0x18 4 0', /^no step is called "regs", did you mean "reg"\?$|^no step is called "regs"/],
    ['reg 0x18 4', /not of the form reg OFFSET 4\|8 VALUE$/],
    ['reg 0x18 2 0', /not of the form reg/],
    ['reg 0x1a 4 0', /^a register of 4 bytes is at a multiple of them$/],
    ['look 0x4 8', /^a register of 8 bytes is at a multiple of them$/],
    ['look 0x18 4 0', /not of the form look OFFSET 4\|8$/],
    ['look 0x230 4', /^registers end at 0x230$/],
    ['reg 0x18 4 0x100000000', /^the value has more than 4 bytes$/],
    ['reg 0x38 8 0', /^a write of 8 bytes to 0x38 ends QEMU$/],
    ['reg 0xa0 8 0', /ends QEMU$/],
    ['reg 0xa8 8 0', /ends QEMU$/],
    ['reg 0x3c 4 0x400', /^such an interrupt would wake the processor$/],
    ['reg 0xa4 4 0x700', /^such an interrupt would wake the processor$/],
    ['word 0x9fff8 1 2', /^not all memory below 0xa0000, or between 0x100000 and 0x4000000$/],
    ['word 0xffff8 1', /^not all memory below/],
    ['word 0x3fffff8 1 2', /^not all memory below/],
    ['word 0x120000 0x35', /^a wait descriptor with a status write and an interrupt ends QEMU$/],
    ['word 0x123ff8 0x7ffffffffffff001', /^a device-TLB invalidation of everything may end QEMU$/],
    ['word 0x100000', /not of the form word GPA WORD \.\.\.$/],
    ['peek 0x100000 0', /^1 to 4096 bytes$/],
    ['peek 0x4000000 1', /^not all memory/],
    ['peek 0x100000 1 1', /not of the form peek GPA COUNT$/],
    ['dma edu9 read 0 1', /not of the form dma DEVICE/],
    ['dma edu0 up 0 1', /not of the form dma DEVICE/],
    ['dma edu0 read 0 4096', /^a request has 1 to 4095 bytes: others end QEMU/],
    ['dma edu0 read 0 4000 96', /^a request has 1 to 4095 bytes/],
    ['dma edu0 read 0 8 0 0', /not of the form dma DEVICE/],
  ])('%s: is refused', (line, why) => {
    expect(readVtdStep(line)).toMatch(why)
  })

  it('a descriptor that ends QEMU is one in the queue only', () => {
    expect(readVtdStep('word 0x124000 0x35')).toMatchObject({ kind: 'word' })
    expect(readVtdStep('word 0x120000 0x25 0x15')).toMatchObject({ kind: 'word' })
  })
})

describe('files of scripts', () => {
  const text = `# a comment
script one scalable,aw48,cm
reg 0x18 4 0x80000000 => GSTS=0x80000000

script two
word ${`0x${(VTD_RAM_BYTES - 8).toString(16)}`} 0x1
`

  it('hold scripts with their units and answers', () => {
    const [one, two] = readVtdScripts(text, 'file')
    expect(one).toMatchObject({
      name: 'one',
      unit: { mode: 'scalable', addressBits: 48, hasCachingMode: true },
      entries: [{ line: 3, answer: 'GSTS=0x80000000' }],
    })
    expect(two).toMatchObject({
      name: 'two',
      unit: PLAIN_VTD_UNIT,
      entries: [{ line: 6, answer: undefined }],
    })
    if (one === undefined) return
    const script = { ...one, steps: one.entries.map(({ step }) => step) }
    expect(formatVtdRecording(script, ['GSTS=0x80000000'])).toBe(
      'script one scalable,aw48,cm\nreg 0x18 4 0x80000000 => GSTS=0x80000000\n',
    )
  })

  it('name devices in other places', () => {
    const [script] = readVtdScripts('script a legacy edu0=0x18,edu4=0x100\ndma edu4 read 0 8\n', 'file')
    expect(script).toMatchObject({ devices: { edu0: 0x18, edu4: 0x100 }, unit: PLAIN_VTD_UNIT })
    if (script === undefined) return
    const steps = script.entries.map(({ step }) => step)
    expect(formatVtdRecording({ ...script, steps }, ['-'])).toBe(
      'script a legacy,aw39 edu0=0x18,edu4=0x100\ndma edu4 read 0x0 8 => -\n',
    )
  })

  it.each([
    ['edu0', '"edu0" is not of the form DEVICE=0xSOURCE'],
    ['edu7=0x18', '"edu7=0x18" is not of the form DEVICE=0xSOURCE'],
    ['edu0=0x0', 'edu0=0x0: the host bridge is in slot 0'],
    ['edu0=0x31', 'edu0=0x31: its root port is in slot 6'],
    ['edu0=0xfa', 'edu0=0xfa: the chipset is in slot 31'],
    ['edu0=0x101', 'edu0=0x101: on bus 1 it has slot 0, function 0 only'],
    ['edu0=0x200', 'edu0=0x200: its buses are 0, and 1 behind a root port'],
    ['edu0=0x18,edu1=0x18', 'edu1=0x18: another device is there'],
  ])('with devices %s: are refused', (places, why) => {
    expect(() => readVtdScripts(`script a legacy ${places}\n`, 'file')).toThrow(`file, line 1: ${why}`)
  })

  it('may have any interrupt while none can be sent, and requests of devices that are there', () => {
    const refusalOf = (...lines: readonly string[]) => {
      const head = 'script a legacy edu0=0x18'
      try {
        readVtdScripts([head, ...lines].join('\n'), 'file')
        return undefined
      } catch (error) {
        return (error as Error).message
      }
    }
    const wakes = 'such an interrupt would wake the processor'
    expect(refusalOf('reg 0xa4 4 0x700', 'reg 0xa0 4 0x80000000')).toBeUndefined()
    expect(refusalOf('reg 0xa4 4 0x700', 'reg 0xa0 4 0')).toBe(`file, line 2: ${wakes}`)
    expect(refusalOf('reg 0x38 4 0', 'reg 0x3c 4 0x100')).toBe(`file, line 3: ${wakes}`)
    expect(refusalOf('dma edu0 read 0 8', 'dma edu1 read 0 8')).toBe(
      'file, line 3: the script has no such device',
    )
  })

  it.each([
    ['script a legacy\nregg 1', 'file, line 2: no step is called "regg"'],
    ['# nothing', 'file holds no step'],
    ['script a legacy,aw40\nlook 0 4', '"aw40" is nothing of a unit'],
  ])('%j: is refused', (bad, why) => {
    expect(() => readVtdScripts(bad, 'file')).toThrow(why)
  })
})

describe('units', () => {
  it.each(['legacy,aw39', 'legacy,aw48,cm,dt,no-pt,ir,sc', 'first-level,aw48,no-1g'])(
    '%s: is read as it is written',
    (text) => {
      expect(formatVtdUnit(readVtdUnit(text))).toBe(text)
    },
  )

  // CAP and ECAP as the registers of these QEMUs read.
  it.each([
    ['legacy,aw39', '7.2.22', 0xd2_008c_2226_0206n, 0xf42n],
    ['legacy,aw48,cm,dt,no-pt,ir,sc', '7.2.22', 0xd2_008c_222f_0686n, 0xf0_0f8en],
    ['scalable,aw39', '7.2.22', 0xd2_008c_2226_0206n, 0x4800_8000_0f42n],
    ['scalable,aw48,cm,dt,no-pt,sc', '10.0.2', 0xd2_008c_222f_0686n, 0x4800_8000_0f86n],
    ['first-level,aw48', '10.0.2', 0x1d2_008c_222f_0606n, 0x8800_0000_0f42n],
    ['first-level,aw48,cm,dt,no-pt,no-1g', '10.0.2', 0xd2_008c_222f_0686n, 0x8800_0000_0f06n],
    ['legacy,aw39', '11.1.3', 0x80d2_008c_2226_0206n, 0xf42n],
    ['first-level,aw48', '11.1.3', 0x81d2_008c_222f_0606n, 0x8800_0000_0f42n],
  ])('%s of QEMU %s: has these capabilities', (text, version, cap, ecap) => {
    expect(vtdCapabilities(readVtdUnit(text), version)).toEqual({ cap, ecap })
  })

  it.each([
    ['first-level,aw48', '7.2.22', /^QEMU 7\.2\.22 has no first-level tables/],
    ['first-level,aw39', '10.0.2', /^QEMU has first-level tables with 48 bits/],
    ['legacy,no-pt', '11.1.3', /^QEMU 11\.1\.3 cannot leave pass-through out$/],
  ])('%s of QEMU %s: is refused', (text, version, why) => {
    expect(vtdUnitRefusal(readVtdUnit(text), version)).toMatch(why)
  })

  it.each([
    ['legacy,aw48', '7.2.22'],
    ['scalable', '11.1.3'],
    ['first-level,aw48', '10.0.2'],
  ])('%s of QEMU %s: is there', (text, version) => {
    expect(vtdUnitRefusal(readVtdUnit(text), version)).toBeUndefined()
  })

  it('are named as each QEMU names them', () => {
    const unit = readVtdUnit('first-level,aw48,no-1g')
    expect(vtdDeviceArgument(unit, '10.0.2')).toContain(',x-scalable-mode=on,x-flts=on,fs1gp=off')
    expect(vtdDeviceArgument(unit, '11.1.3')).toContain(',scalable-mode=on,fsts=on,fs1gp=off')
    expect(vtdDeviceArgument(readVtdUnit('scalable,no-pt,cm'), '7.2.22')).toBe(
      'intel-iommu,aw-bits=39,caching-mode=on,device-iotlb=off,pt=off,intremap=off,snoop-control=off,x-scalable-mode=on',
    )
  })
})
