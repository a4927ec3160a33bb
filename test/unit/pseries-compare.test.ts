import { describe, expect, it } from 'vitest'
import {
  comparePseries,
  isPseriesEqual,
  pseriesComparisonJson,
  pseriesComparisonText,
} from '../../src/machine/lockstep/pseries-compare.ts'
import { PseriesModel } from '../../src/machine/lockstep/pseries-model.ts'
import type { PseriesScriptPeer } from '../../src/machine/lockstep/pseries-peer-port.ts'
import { randomPseriesScript } from '../../src/machine/lockstep/pseries-random.ts'
import {
  formatPseriesStep,
  type PseriesScript,
  readPseriesScripts,
} from '../../src/machine/lockstep/pseries-step.ts'

const plain = (text: string): string => text
const PAINT = { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain }
const QEMU = new PseriesModel()
const scripts = (seed: number, count: number) =>
  Array.from({ length: count }, (_, number) => randomPseriesScript(seed, number))
const scriptOf = (text: string): PseriesScript[] =>
  readPseriesScripts(text, 'test').map(({ name, entries }) => ({
    name,
    steps: entries.map(({ step }) => step),
  }))

/** A peer whose answers are the model's, one kind of them changed. */
const changed = (
  change: (step: string, answer: string, before: readonly string[]) => string,
): PseriesScriptPeer => ({
  title: 'a peer with a fault',
  run: async (script) => {
    const steps = script.steps.map(formatPseriesStep)
    return QEMU.answers(script).map((answer, i) =>
      answer === undefined ? undefined : change(steps[i] ?? '', answer, steps.slice(0, i)),
    )
  },
})

describe('a peer that answers as the model does', () => {
  it('has no difference', async () => {
    const all = scripts(3, 4)
    const told: number[] = []
    const result = await comparePseries(QEMU, new PseriesModel(), all, {
      differencesMax: 1,
      onProgress: ({ hypercalls }) => told.push(hypercalls),
    })
    expect(isPseriesEqual(result)).toBe(true)
    const calls = all
      .flatMap(({ steps }) => steps)
      .filter(({ kind }) => kind === 'hcall' || kind === 'rtas').length
    const peeks = all.flatMap(({ steps }) => steps).filter(({ kind }) => kind === 'peek').length
    expect(result).toMatchObject({
      scripts: 4,
      hypercalls: calls,
      equal: calls + peeks,
      differences: [],
      passing: [],
    })
    expect(told.at(-1)).toBe(calls)
    expect(pseriesComparisonText(result, { peer: 'p', seed: 3 }, PAINT)).toMatch(/no answer differs\n$/)
  })
})

describe('a planted fault', () => {
  it('is found in noise, and nothing can be left out', async () => {
    // Wrong only where a window was made before: two steps are needed.
    const peer = changed((step, answer, before) =>
      step.startsWith('rtas 0x2026 6 ') &&
      answer.startsWith('0 ') &&
      before.some((s) => s.startsWith('rtas 0x2027 4 0x0 0x8000000 0x20000000 0x10 '))
        ? answer.replace('0x20 0x0', '0x20 0x1')
        : answer,
    )
    const result = await comparePseries(peer, QEMU, scripts(5, 20), { differencesMax: 1 })
    expect(result.differences).toHaveLength(1)
    const [found] = result.differences
    expect(found).toMatchObject({ kind: 'rtas 0x2026: other values', isMinimal: true })
    expect(found?.script.steps.map((s) => formatPseriesStep(s).split(' ', 2)[1])).toEqual([
      '0x2027',
      '0x2026',
    ])
    const text = pseriesComparisonText(result, { peer: 'p' }, PAINT)
    expect(text).toContain('script with 2 steps (nothing can be left out)')
    expect(text).toMatch(/answers differ\n$/)
    expect(pseriesComparisonJson(result, { peer: 'p' })).toMatchObject({
      schema: 'iommulator/connect-pseries/1',
      differences: [
        { script: [expect.stringContaining('rtas 0x2027'), expect.stringContaining('rtas 0x2026')] },
      ],
    })
  })

  it('one byte that DMA moved elsewhere shows, with what put it there', async () => {
    const peer = changed((step, answer) =>
      step === 'peek 0x4000000 4' && answer !== '00000000' ? 'ff000000' : answer,
    )
    const [script] = scriptOf(
      'hcall 0x1c 0x80000000 0x0\npoke 0x4008000 01020304\nhcall 0x20 0x80000000 0x0 0x4008001\nhcall 0x20 0x80000000 0x1000 0x4000002\ndma read 0x0 4\nhcall 0x1c 0x80000000 0x1000\ndma write 0x1000 4\npeek 0x4000000 4\n',
    )
    const result = await comparePseries(peer, QEMU, [script!], { differencesMax: 1 })
    expect(result.differences[0]?.script.steps.map(formatPseriesStep)).toEqual([
      'poke 0x4008000 01020304',
      'hcall 0x20 0x80000000 0x0 0x4008001',
      'hcall 0x20 0x80000000 0x1000 0x4000002',
      'dma read 0x0 4',
      'dma write 0x1000 4',
      'peek 0x4000000 4',
    ])
    expect(result.differences[0]?.difference).toMatchObject({ peer: 'ff000000', model: '01020304' })
  })

  it('each quirk of QEMU is a difference to what is right', async () => {
    const result = await comparePseries(QEMU, new PseriesModel('intended'), scripts(5, 8), {
      differencesMax: 4,
    })
    const kinds = result.differences.map(({ kind }) => kind)
    expect(kinds).toEqual(expect.arrayContaining(['hcall 0x20: 0 against -4', 'hcall 0x13c: 0 against -4']))
    for (const { isMinimal, script } of result.differences) {
      expect(isMinimal).toBe(true)
      expect(script.steps.length).toBeLessThan(5)
    }
  })

  it('one that does not show again is told as such', async () => {
    let asked = 0
    const peer: PseriesScriptPeer = {
      title: 'once',
      run: async (script) => QEMU.answers(script).map((answer) => (asked++ === 0 ? 'strange' : answer)),
    }
    const result = await comparePseries(peer, QEMU, scriptOf('hcall 0x1c 0x80000000 0x0\n'), {
      differencesMax: 1,
    })
    expect(result).toMatchObject({ differences: [], passing: ['hcall 0x1c: strange against 0'] })
    expect(isPseriesEqual(result)).toBe(false)
  })

  it('a profile that does not exist is refused', () => {
    expect(() => new PseriesModel('qemu-none')).toThrow(/qemu-none/)
  })
})
