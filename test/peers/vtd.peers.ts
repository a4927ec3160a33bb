import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { compareQ35Scenarios } from '../../src/machine/lockstep/scenario/q35-comparison.ts'
import { planQ35 } from '../../src/machine/lockstep/scenario/q35-plan.ts'
import { compareVtd, vtdComparisonText } from '../../src/machine/lockstep/vtd-compare.ts'
import { VtdModel } from '../../src/machine/lockstep/vtd-model.ts'
import { randomVtdModes, randomVtdScript } from '../../src/machine/lockstep/vtd-random.ts'
import { readVtdScripts, type VtdScript } from '../../src/machine/lockstep/vtd-step.ts'
import { peerCache } from '../../src/peer/programs.ts'
import { findVtdFiles, type VtdFiles } from '../../src/peer/vtd-files.ts'
import { VtdPeer } from '../../src/peer/vtd-peer.ts'
import { vtdAnswers } from '../log-rows.ts'
import { scenariosOf } from '../support/scenarios.ts'

const plain = (text: string): string => text
const PAINT = { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain }

const cache = peerCache(process.env, 'vtd')
const paths = [undefined, join(cache, 'qemu-bookworm'), join(cache, 'qemu-trixie')]
const found: VtdFiles[] = []
for (const path of paths) {
  try {
    if (path === undefined || existsSync(path)) found.push(await findVtdFiles(path))
  } catch (error) {
    process.stderr.write(`the VT-d peer is skipped: ${(error as Error).message}\n`)
  }
}

/** Steps of scenarios that QEMU is not asked. */
const LEFT_OUT: Readonly<Record<string, readonly string[]>> = {
  'scenarios/errata/vtd-queue.yaml': ['39: it would end QEMU'],
}
/** Scenarios that a QEMU must have run. */
const WHOLE: Readonly<Record<string, readonly string[]>> = {
  '7.2.22': ['registers', 'queue', 'tables', 'caches'].map((name) => `scenarios/errata/vtd-${name}.yaml`),
}

describe.each(found)('the intel-iommu of QEMU $version', (files) => {
  const peer = new VtdPeer(files)
  const scriptsOf = (seed: number, count: number): VtdScript[] =>
    randomVtdModes(files.version).flatMap((mode) =>
      Array.from({ length: count }, (_, number) => randomVtdScript(seed, number, mode, files.version)),
    )

  it('gives the recorded answers again', async () => {
    const recorded = await vtdAnswers(files.version)
    for (const { entries, ...script } of recorded === undefined
      ? []
      : readVtdScripts(recorded, 'recording')) {
      const answers = await peer.run({ ...script, steps: entries.map(({ step }) => step) })
      expect(answers).toEqual(entries.map(({ answer }) => answer))
    }
  })

  it('does what the model does, step by step', async () => {
    const scripts = scriptsOf(2026, 20)
    const result = await compareVtd(peer, new VtdModel(files.version), scripts, { differencesMax: 3 })
    expect(result.differences, vtdComparisonText(result, { peer: peer.title }, PAINT)).toEqual([])
    expect(result.passing).toEqual([])
    expect(result.steps).toBeGreaterThan(10_000)
  })

  it('has the quirks that the model knows: without them there are differences', async () => {
    const model = new VtdModel(files.version, 'intended')
    const result = await compareVtd(peer, model, scriptsOf(5, 2), { differencesMax: 1 })
    expect(result.differences).toHaveLength(1)
    expect(result.differences[0]?.isMinimal).toBe(true)
  })
  it('does what the scenarios of this QEMU expect', async () => {
    const plans = scenariosOf('q35')
      .filter(({ scenario }) => scenario.machine.profile === `qemu-${files.version}`)
      .map(({ file, name, scenario }) => ({ file, plan: planQ35(scenario, name, files.version) }))
      .filter(({ plan }) => plan.leftOut.every(({ step }) => step !== undefined))
    const results = await compareQ35Scenarios(peer, new VtdModel(files.version), plans, {
      differencesMax: plans.length + 1,
    })
    for (const { file, difference, differing, leftOut, expectations } of results) {
      expect({ file, difference, differing }).toEqual({ file, difference: undefined, differing: 0 })
      expect({ file, wrong: expectations.filter(({ kept }) => kept !== 'kept') }).toEqual({ file, wrong: [] })
      expect(expectations.length, file).toBeGreaterThan(0)
      const steps = leftOut.map(({ step, why }) => `${step}: ${why}`)
      expect({ file, steps }).toEqual({ file, steps: LEFT_OUT[file] ?? [] })
    }
    const run = results.map(({ file }) => file)
    expect(run).toEqual(expect.arrayContaining([...(WHOLE[files.version] ?? [])]))
  })
})
