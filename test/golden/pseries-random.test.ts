import { beforeAll, describe, expect, it } from 'vitest'
import { firstDifference } from '../../src/machine/lockstep/pseries-compare.ts'
import { PseriesModel } from '../../src/machine/lockstep/pseries-model.ts'
import { randomPseriesScript } from '../../src/machine/lockstep/pseries-random.ts'
import { type PseriesRecording, readPseriesScripts } from '../../src/machine/lockstep/pseries-step.ts'
import { pseriesAnswers } from '../log-rows.ts'

/** What QEMU 7.2.22 answered to random steps of seed 7, recorded by `iommulator connect qemu-pseries --record`. */
describe("the answers of QEMU's pseries to random steps", () => {
  let scripts: readonly PseriesRecording[] = []
  const differences = (profile?: string, all = scripts) =>
    all.flatMap(({ name, entries }) => {
      const script = { name, steps: entries.map(({ step }) => step) }
      const recorded = entries.map(({ answer }) => answer)
      return firstDifference(script, recorded, new PseriesModel(profile).answers(script)) ?? []
    })
  beforeAll(async () => {
    scripts = readPseriesScripts(Buffer.from(await pseriesAnswers()).toString('latin1'), 'pseries-random')
  })

  it('are those of the model, all of them', () => {
    const answers = scripts.flatMap(({ entries }) => entries).filter(({ answer }) => answer !== undefined)
    expect([scripts.length, answers.length]).toEqual([5, 6293])
    expect(differences()).toEqual([])
  })

  it('hold both sides of every call, windows at one address, and bytes that DMA moved', () => {
    const ends = new Set(
      scripts.flatMap(({ entries }) =>
        entries.map(({ step, answer = '' }) => {
          if (step.kind === 'hcall') return `${step.registers[0]?.toString(16)} ${answer.split(' ', 1)[0]}`
          return step.kind === 'rtas' ? `${step.token.toString(16)} ${answer.split(' ', 1)[0]}` : step.kind
        }),
      ),
    )
    const all = ['20', '1c', '138', '13c'].flatMap((call) => [`${call} 0`, `${call} -4`])
    const windows = [
      '2026 0',
      '2026 -3',
      '2027 0',
      '2027 -1',
      '2027 -3',
      '2028 0',
      '2028 -3',
      '2029 0',
      '2029 -3',
    ]
    expect([...ends]).toEqual(expect.arrayContaining([...all, ...windows, '3f4 -2', 'dma', 'peek']))
    const created = scripts.flatMap(({ entries }) =>
      entries.flatMap(({ step, answer = '' }) =>
        step.kind === 'rtas' && step.token === 0x2027 && answer.startsWith('0 ') ? [answer] : [],
      ),
    )
    expect(new Set(created)).toEqual(
      new Set(['0 0x80000001 0x8000000 0x0', '0 0x80000000 0x8000000 0x0', '0 0x80000000 0x0 0x0']),
    )
  })

  it('show the quirks of QEMU, and a value or a byte that is another', () => {
    expect(differences('intended')).toHaveLength(scripts.length)
    for (const [kind, change] of [
      ['hcall', (answer: string) => answer.replace(/^0 r4/, '-4 r4')],
      ['peek', (answer: string) => answer.replace(/^../, (byte) => (byte === '77' ? '78' : '77'))],
    ] as const) {
      const changed = scripts.map(({ name, entries }) => ({
        name,
        entries: entries.map(({ line, step, answer }) => ({
          line,
          step,
          answer: step.kind === kind && answer !== undefined ? change(answer) : answer,
        })),
      }))
      expect(differences(undefined, changed)).toHaveLength(scripts.length)
    }
  })

  it('are of the steps that the seed gives today', () => {
    expect(scripts.map(({ name, entries }) => ({ name, steps: entries.map(({ step }) => step) }))).toEqual(
      scripts.map((_, number) => randomPseriesScript(7, number)),
    )
  })
})
