import { describe, expect, it } from 'vitest'
import { randomVtdModes, randomVtdScript } from '../../src/machine/lockstep/vtd-random.ts'
import { VTD_AREAS } from '../../src/machine/lockstep/vtd-state.ts'
import { formatVtdStep, type VtdScript, vtdStepRefusal } from '../../src/machine/lockstep/vtd-step.ts'
import { vtdUnitRefusal } from '../../src/machine/lockstep/vtd-unit-options.ts'

const VERSIONS = ['7.2.22', '10.0.2', '11.1.3'] as const
const scriptsOf = (version: string, count: number): VtdScript[] =>
  randomVtdModes(version).flatMap((mode) =>
    Array.from({ length: count }, (_, number) => randomVtdScript(3, number, mode, version)),
  )

describe.each(VERSIONS)('random scripts for QEMU %s', (version) => {
  const scripts = scriptsOf(version, 12)

  it('are the same ones for the same seed, and others for another', () => {
    expect(scriptsOf(version, 12)).toEqual(scripts)
    const [first] = scripts
    expect(randomVtdScript(4, 0, first?.unit.mode ?? 'legacy', version).steps).not.toEqual(first?.steps)
  })

  it('hold nothing that ends QEMU, and units that it has', () => {
    for (const { unit, steps } of scripts) {
      expect(vtdUnitRefusal(unit, version)).toBeUndefined()
      expect(steps.filter((step) => vtdStepRefusal(step) !== undefined)).toEqual([])
    }
  })

  it('reach every register that software writes, every kind of descriptor and every device', () => {
    const steps = scripts.flatMap(({ steps }) => steps)
    const heads = new Set(
      steps.map((step) => {
        if (step.kind === 'reg') return `reg ${step.offset.toString(16)}`
        return step.kind === 'dma' ? `dma ${step.device} ${step.direction}` : step.kind
      }),
    )
    const registers = ['18', '20', '28', '34', '38', '88', '90', '9c', 'a0', 'f0', 'f8', '22c', '228']
    const devices = [0, 1, 2, 3, 4].flatMap((n) => [`dma edu${n} read`, `dma edu${n} write`])
    expect([...heads]).toEqual(
      expect.arrayContaining(['word', 'look', ...devices, ...registers.map((r) => `reg ${r}`)]),
    )
    const { gpa, bytes } = VTD_AREAS.queue
    const types = new Set(
      steps.flatMap((step) =>
        step.kind === 'word' && step.gpa >= gpa && step.gpa < gpa + bytes
          ? [Number(step.words[0]) & 0xf]
          : [],
      ),
    )
    expect([...types].sort((a, b) => a - b)).toEqual(expect.arrayContaining([1, 2, 3, 4, 5, 6, 7]))
    expect(Math.max(...types)).toBeGreaterThan(7)
  })

  it('put no byte into data that makes an entry present', () => {
    const { gpa, bytes } = VTD_AREAS.data
    for (const step of scripts.flatMap(({ steps }) => steps)) {
      if (step.kind !== 'word' || step.gpa < gpa || step.gpa >= gpa + bytes) continue
      for (const word of step.words) expect(word & 0x0707_0707_0707_0707n, formatVtdStep(step)).toBe(0n)
    }
  })
})

it('a mode of first-level tables other than the usual one meets neither FPD nor another type of entry: that ends QEMU', () => {
  const { gpa } = VTD_AREAS.tables
  const pasids = [gpa + 8 * 0x1000, gpa + 10 * 0x1000] as const
  let modes = 0
  for (let number = 0; number < 120; number++) {
    const { steps } = randomVtdScript(9, number, 'first-level', '10.0.2')
    const words = steps.flatMap((step) => (step.kind === 'word' ? [step] : []))
    const ofPasids = words.filter((step) => step.gpa >= pasids[0] && step.gpa < pasids[1])
    const withMode = ofPasids.filter(({ words: [, , third = 0n] }) => (third & 0xcn) !== 0n)
    const hasMode = withMode.length > 0
    expect(withMode.filter(({ words: [first = 0n] }) => ((first >> 6n) & 7n) !== 1n)).toEqual([])
    const above = words.filter((step) => step.gpa >= gpa + 2 * 0x1000 && step.gpa < pasids[1])
    const hasFpd = above.some(({ words: [first = 0n] }) => (first & 2n) !== 0n)
    if (hasMode) modes++
    expect([hasMode, hasFpd]).not.toEqual([true, true])
  }
  expect(modes).toBeGreaterThan(5)
})
