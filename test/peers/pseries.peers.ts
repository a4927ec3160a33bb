import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { comparePseries, pseriesComparisonText } from '../../src/machine/lockstep/pseries-compare.ts'
import { PseriesModel } from '../../src/machine/lockstep/pseries-model.ts'
import { randomPseriesScript } from '../../src/machine/lockstep/pseries-random.ts'
import { type PseriesScript, readPseriesScripts } from '../../src/machine/lockstep/pseries-step.ts'
import { comparePseriesScenarios } from '../../src/machine/lockstep/scenario/pseries-comparison.ts'
import { planPseries } from '../../src/machine/lockstep/scenario/pseries-plan.ts'
import { isAsModelled } from '../../src/machine/lockstep/scenario/result.ts'
import { findPseriesFiles } from '../../src/peer/pseries-files.ts'
import { FreshPseriesPeer, PseriesPeer } from '../../src/peer/pseries-peer.ts'
import { pseriesAnswers } from '../log-rows.ts'
import { scenariosOf } from '../support/scenarios.ts'

const plain = (text: string): string => text
const PAINT = { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain }

/** Why there is no QEMU here; undefined where there is one. */
function whyNot(): string | undefined {
  try {
    findPseriesFiles()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

const missing = whyNot()
if (missing !== undefined) process.stderr.write(`the pseries peer is skipped: ${missing}\n`)

describe.skipIf(missing !== undefined)("QEMU's pseries", () => {
  let peer: PseriesPeer
  beforeAll(async () => {
    peer = await PseriesPeer.start()
  })
  afterAll(() => peer?.stop())

  const same = async (scripts: Iterable<PseriesScript>) => {
    const result = await comparePseries(peer, new PseriesModel(), scripts, { differencesMax: 3 })
    expect(result.differences, pseriesComparisonText(result, { peer: peer.title }, PAINT)).toEqual([])
    expect(result.passing).toEqual([])
    return result
  }

  it('gives the recorded answers again', async () => {
    const scripts = readPseriesScripts(Buffer.from(await pseriesAnswers()).toString('latin1'), 'recording')
    for (const { name, entries } of scripts) {
      const answers = await peer.run({ name, steps: entries.map(({ step }) => step) })
      expect(answers).toEqual(entries.map(({ answer }) => answer))
    }
  })

  it('answers random hypercalls as the model does, and moves the same bytes', async () => {
    const { hypercalls } = await same(
      Array.from({ length: 40 }, (_, number) => randomPseriesScript(2026, number)),
    )
    expect(hypercalls).toBeGreaterThan(40_000)
  })

  it('answers scenarios as the model does, and keeps what they expect', async () => {
    const plans = scenariosOf('pseries').map(({ file, name, scenario }) => ({
      file,
      plan: planPseries(scenario, name),
    }))
    const peer = new FreshPseriesPeer()
    const results = await comparePseriesScenarios(peer, new PseriesModel(), plans, { differencesMax: 3 })
    expect(results.filter(({ difference }) => difference !== undefined)).toEqual([])
    expect([results.length, isAsModelled(results)]).toEqual([plans.length, true])
  })

  it('has the quirks that the model knows: without them there are differences', async () => {
    const scripts = Array.from({ length: 4 }, (_, number) => randomPseriesScript(5, number))
    const result = await comparePseries(peer, new PseriesModel('intended'), scripts, { differencesMax: 1 })
    expect(result.differences).toHaveLength(1)
    expect(result.differences[0]?.isMinimal).toBe(true)
  })
})
