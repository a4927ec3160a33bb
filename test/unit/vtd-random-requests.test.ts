import { describe, expect, it } from 'vitest'
import { randomRequestScript } from '../../src/machine/lockstep/vtd-random-requests.ts'
import { VTD_AREAS } from '../../src/machine/lockstep/vtd-state.ts'
import { type VtdStep, vtdScriptRefusal } from '../../src/machine/lockstep/vtd-step.ts'
import { vtdUnitRefusal } from '../../src/machine/lockstep/vtd-unit-options.ts'

const scripts = Array.from({ length: 24 }, (_, number) => randomRequestScript(3, number))
const steps = scripts.flatMap((script) => script.steps)
const of = <K extends VtdStep['kind']>(kind: K) =>
  steps.filter((step): step is Extract<VtdStep, { kind: K }> => step.kind === kind)

describe('random scripts of page requests', () => {
  it('are the same ones for the same seed, and others for another', () => {
    expect(scripts.map((_, number) => randomRequestScript(3, number))).toEqual(scripts)
    expect(randomRequestScript(4, 0).steps).not.toEqual(scripts[0]?.steps)
  })

  it('hold nothing that QEMU cannot be asked, and units that it has', () => {
    for (const script of scripts) {
      expect(vtdUnitRefusal(script.unit, '11.1.3')).toBeUndefined()
      expect(vtdScriptRefusal(script)).toBeUndefined()
    }
  })

  it('reach every flag, device and register, PASIDs with and without an entry, and requests without one', () => {
    const [pages, translations] = [of('pri'), of('ats')]
    expect(new Set(pages.flatMap(({ flags }) => [...flags]))).toEqual(new Set('rwxpl'))
    expect(new Set(translations.flatMap(({ flags }) => [...flags]))).toEqual(new Set('nxp'))
    for (const asked of [pages, translations]) {
      expect(new Set(asked.map(({ device }) => device))).toEqual(new Set(['nic0', 'nic1', 'nic2']))
      expect(new Set(asked.map(({ pasid }) => pasid))).toEqual(
        new Set([undefined, 0, 1, 2, 3, 64, 65, 0xf_ffff]),
      )
    }
    expect(pages.some(({ group }) => group > 0x1ff)).toBe(true)
    const registers = [0xc0, 0xc8, 0xd0, 0xd8, 0xdc, 0xe0, 0xe4, 0xe8, 0xec]
    expect(of('reg').map(({ offset }) => offset)).toEqual(expect.arrayContaining(registers))
    expect(new Set(of('dma').map(({ device }) => device))).toEqual(new Set(['edu0', 'edu4']))
  })

  it('answer requests in both widths of the queue, with private data and without', () => {
    const { gpa, bytes } = VTD_AREAS.queue
    const responses = of('word').filter(
      (step) => step.gpa >= gpa && step.gpa < gpa + bytes && (Number(step.words[0]) & 0xf) === 9,
    )
    expect(new Set(responses.map(({ words }) => words.length))).toEqual(new Set([2, 4]))
    expect(new Set(responses.map(({ words: [first = 0n] }) => (first >> 5n) & 1n))).toEqual(new Set([0n, 1n]))
    expect(new Set(responses.map(({ words: [first = 0n] }) => (first >> 12n) & 15n))).toEqual(
      new Set([0n, 1n, 2n, 15n]),
    )
  })
})

it('what ends QEMU, or what it has not read, is never walked', () => {
  const { gpa } = VTD_AREAS.tables
  const pasids = [gpa + 8 * 0x1000, gpa + 10 * 0x1000] as const
  let modes = 0
  let far = 0
  for (let number = 0; number < 60; number++) {
    const script = randomRequestScript(9, number)
    const words = script.steps.flatMap((step) => (step.kind === 'word' ? [step] : []))
    const ofPasids = words.filter((step) => step.gpa >= pasids[0] && step.gpa < pasids[1])
    const withMode = ofPasids.filter(({ words: [, , third = 0n] }) => (third & 0xcn) !== 0n)
    const above = words.filter((step) => step.gpa >= gpa + 2 * 0x1000 && step.gpa < pasids[1])
    const hasFpd = above.some(({ words: [first = 0n] }) => (first & 2n) !== 0n)
    // FLPM in an entry that is none of a first level, or behind FPD.
    for (const { words: entry } of withMode) expect(((entry[0] ?? 0n) >> 6n) & 7n).toBe(1n)
    if (hasFpd) expect(withMode).toEqual([])
    const isFar = script.steps.some((step) => step.kind === 'ats' && step.pasid === 0xf_ffff)
    if (hasFpd) expect(isFar).toBe(false)
    modes += withMode.length
    if (isFar) far++
  }
  expect(modes).toBeGreaterThan(2)
  expect(far).toBeGreaterThan(2)
})
