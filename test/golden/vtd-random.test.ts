import { beforeAll, describe, expect, it } from 'vitest'
import { firstVtdDifference } from '../../src/machine/lockstep/vtd-compare.ts'
import { VtdModel } from '../../src/machine/lockstep/vtd-model.ts'
import { randomVtdModes, randomVtdScript } from '../../src/machine/lockstep/vtd-random.ts'
import { readVtdScripts, type VtdRecording } from '../../src/machine/lockstep/vtd-step.ts'
import { vtdAnswers } from '../log-rows.ts'

/** Of each QEMU: fault reasons that its recording holds. */
const FIRST_LEVEL = [0x2, 0xb, 0x5b, 0x70, 0x71, 0x72, 0x80, 0x81, 0x85, 0x87] as const
const RECORDED = [
  ['7.2.22', [2, 3, 4, 5, 6, 7, 0xb, 0xc, 0xe, 0x58]],
  ['10.0.2', [...FIRST_LEVEL, 0x51, 0x58]],
  ['11.1.3', [...FIRST_LEVEL, 0x59]],
] as const

/** What the intel-iommu of a QEMU answered to random steps of seed 7, recorded by `iommulator connect qemu-vtd`. */
describe.each(RECORDED)('the answers of the intel-iommu of QEMU %s to random steps', (version, reasons) => {
  let scripts: readonly VtdRecording[] = []
  const stepsOf = ({ name, unit, entries }: VtdRecording) => ({
    name,
    unit,
    steps: entries.map(({ step }) => step),
  })
  const differences = (profile?: string, change = (answer: string | undefined) => answer) => {
    const model = new VtdModel(version, profile)
    return scripts.flatMap((recorded) => {
      const script = stepsOf(recorded)
      const answers = recorded.entries.map(({ answer }) => change(answer))
      return firstVtdDifference(script, answers, model.answers(script)) ?? []
    })
  }
  beforeAll(async () => {
    scripts = readVtdScripts((await vtdAnswers(version)) ?? '', version)
  })

  it('are those of the model, all of them', () => {
    expect(differences()).toEqual([])
    const steps = scripts.reduce((sum, { entries }) => sum + entries.length, 0)
    expect(steps).toBeGreaterThan(4000)
  })

  it('hold faults of every kind of table, bytes that DMA moved, and errors of the queue', () => {
    const answers = scripts.flatMap(({ entries }) => entries.map(({ answer = '' }) => answer))
    const recorded = answers.flatMap((answer) => {
      const high = BigInt(/\bFRCD1=(0x[0-9a-f]+)/.exec(answer)?.[1] ?? 0)
      return high >> 63n === 1n ? [Number((high >> 32n) & 0xffn)] : []
    })
    expect([...new Set(recorded)]).toEqual(expect.arrayContaining([...reasons]))
    expect(answers.filter((answer) => / ?0x20[0-9a-f]{4}:/.test(answer)).length).toBeGreaterThan(50)
    expect(answers.some((answer) => /FSTS=0x1[0-3]\b/.test(answer))).toBe(true)
    expect(answers.some((answer) => /FSTS=0x3\b/.test(answer))).toBe(true)
  })

  it('show the quirks of QEMU, and a value or a byte that is another', () => {
    expect(differences('intended')).toHaveLength(scripts.length)
    for (const change of [
      (answer: string) => answer.replace(/FRCD1=0x(.)/, (_, digit) => `FRCD1=0x${digit === '8' ? '9' : '8'}`),
      (answer: string) => answer.replace(/:(..)/, (_, byte) => `:${byte === '00' ? '01' : '00'}`),
    ]) {
      const found = differences(undefined, (answer) => answer && change(answer))
      expect(found.length).toBeGreaterThan(scripts.length / 2)
    }
  })

  it('are of the steps that the seed gives today', () => {
    const modes = randomVtdModes(version)
    expect(scripts.map(stepsOf)).toEqual(
      scripts.map((_, i) => randomVtdScript(7, i, modes[i % modes.length] ?? 'legacy', version)),
    )
  })
})

/** Scripts written by hand: an entry that passes its device through comes, and is gone before the device writes. */
describe('what QEMU 11.1.3 decides anew by an invalidation (D103)', () => {
  it('is what the model does, script by script; without the deviation it differs', async () => {
    const scripts = readVtdScripts((await vtdAnswers('11.1.3', 'pass-through')) ?? '', 'pass-through')
    const differing = (profile?: string): readonly string[] =>
      scripts
        .filter(({ entries, ...script }) => {
          const steps = entries.map(({ step }) => step)
          const answers = new VtdModel('11.1.3', profile).answers({ ...script, steps })
          return entries.some(({ answer }, i) => answer !== answers[i])
        })
        .map(({ name }) => name.replace('pass-through-', ''))
    expect(scripts).toHaveLength(16)
    expect(differing()).toEqual([])
    expect(differing('qemu-11.1.3,-D103')).toContain('nobad-dsi-same')
  })
})
