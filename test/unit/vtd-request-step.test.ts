import { describe, expect, it } from 'vitest'
import {
  formatVtdRecording,
  formatVtdStep,
  readVtdScripts,
  readVtdStep,
} from '../../src/machine/lockstep/vtd-step.ts'
import {
  PLAIN_VTD_UNIT,
  readVtdUnit,
  vtdCapabilities,
  vtdDeviceArgument,
  vtdUnitRefusal,
} from '../../src/machine/lockstep/vtd-unit-options.ts'

const SVM = 'first-level,aw48,dt,svm'

describe('requests of devices', () => {
  it.each([
    'pri nic0 0x1 0x201000 7 rwl',
    'pri nic2 - 0xffffffff80000fff 65535 rwxpl',
    'pri nic1 0xfffff 0x0 0 -',
    'ats nic0 0x1 0x201000 4096 -',
    'ats nic1 - 0x0 65536 nxp',
    'ats nic2 0x0 0xffffffffffffe000 4096 n',
  ])('%s: is read as it is written', (line) => {
    const step = readVtdStep(line)
    expect(typeof step === 'string' ? step : formatVtdStep(step)).toBe(line)
  })

  it.each([
    ['pri edu0 0x1 0x0 0 r', /not of the form pri DEVICE PASID\|- ADDRESS GROUP FLAGS\|- \(of rwxpl\)$/],
    ['pri nic0 0x1 0x0 0', /not of the form pri/],
    ['pri nic0 0x1 0x0 0 r 1', /not of the form pri/],
    ['pri nic0 0x1 0x0 0 wr', /not of the form pri/],
    ['pri nic0 0x1 0x0 0 n', /not of the form pri/],
    ['pri nic0 one 0x0 0 r', /not of the form pri/],
    ['pri nic0 0x100000 0x0 0 r', /^a PASID has 20 bits$/],
    ['pri nic0 0x1 0x0 65536 r', /^the index of a group has 16 bits here$/],
    ['ats nic0 0x1 0x0 4096', /not of the form ats DEVICE PASID\|- ADDRESS COUNT FLAGS\|- \(of nxp\)$/],
    ['ats nic0 0x1 0x0 4096 r', /not of the form ats/],
    ['ats nic3 0x1 0x0 4096 -', /not of the form ats/],
    ['ats nic0 0x100000 0x0 1 -', /^a PASID has 20 bits$/],
    ['ats nic0 0x1 0x0 0 -', /^1 to 65536 bytes$/],
    ['ats nic0 0x1 0x0 65537 -', /^1 to 65536 bytes$/],
    ['ats nic0 0x1 0xffffffffffffe000 4097 -', /^the stretch reaches where addresses end$/],
  ])('%s: is refused', (line, why) => {
    expect(readVtdStep(line)).toMatch(why)
  })

  it('need a unit that has them, and a device of the script', () => {
    const text = (unit: string, devices: string) =>
      `script a ${unit} ${devices}\npri nic0 0x1 0x201000 7 rl => end=queued -\n`
    const [script] = readVtdScripts(text(SVM, 'edu0=0x20,nic0=0x21'), 'test')
    expect(script).toMatchObject({
      unit: { hasPageRequests: true },
      devices: { edu0: 0x20, nic0: 0x21 },
      entries: [{ answer: 'end=queued -', step: { kind: 'pri', pasid: 1, group: 7, flags: 'rl' } }],
    })
    const { entries, ...rest } = script ?? { entries: [], name: '', unit: PLAIN_VTD_UNIT }
    const made = { ...rest, steps: entries.map(({ step }) => step) }
    expect(formatVtdRecording(made, ['end=queued -'])).toBe(text(SVM, 'edu0=0x20,nic0=0x21'))
    expect(() => readVtdScripts(text(SVM, 'edu0=0x20,nic1=0x21'), 'test')).toThrow(
      /^test, line 2: the script has no such device$/,
    )
    expect(() => readVtdScripts(text('first-level,aw48,dt', 'nic0=0x21'), 'test')).toThrow(
      /^test, line 2: the unit has no page requests \(svm\)$/,
    )
  })

  it('an interrupt of another kind is refused: nothing masks that of page requests at reset (D42)', () => {
    const text = (unit: string) => `script a ${unit}\nreg 0xe4 4 0x400\n`
    expect(() => readVtdScripts(text(SVM), 'test')).toThrow(/would wake the processor$/)
    expect(readVtdScripts(text('first-level,aw48,dt'), 'test')).toHaveLength(1)
  })
})

describe('units with page requests', () => {
  it('are those of QEMU 11 with first-level tables and a device-TLB', () => {
    const refusal = (text: string, version: string) => vtdUnitRefusal(readVtdUnit(text), version)
    expect(refusal(SVM, '11.1.3')).toBeUndefined()
    expect(refusal(SVM, '10.0.2')).toMatch(/^QEMU 10\.0\.2 has no page requests$/)
    expect(refusal('legacy,aw48,dt,svm', '11.1.3')).toMatch(/with first-level tables only$/)
    expect(refusal('first-level,aw48,svm', '11.1.3')).toMatch(/with a device-TLB \(dt\) only$/)
  })

  it('have the registers that QEMU 11.1.3 shows', () => {
    const unit = readVtdUnit(SVM)
    expect(vtdDeviceArgument(unit, '11.1.3')).toMatch(/,scalable-mode=on,fsts=on,svm=on,pasid-bits=20$/)
    expect(vtdCapabilities(unit, '11.1.3')).toEqual({
      cap: 0x81d2_008c_222f_0606n,
      ecap: 0x8d9a_2000_0f46n,
    })
  })
})
