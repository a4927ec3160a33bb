import { expect, it } from 'vitest'
import { compareVtd, vtdComparisonText } from '../../src/machine/lockstep/vtd-compare.ts'
import { VtdModel } from '../../src/machine/lockstep/vtd-model.ts'
import { randomRequestScript } from '../../src/machine/lockstep/vtd-random-requests.ts'
import { readVtdScripts, type VtdScript } from '../../src/machine/lockstep/vtd-step.ts'
import { findRequestFiles, type VtdFiles } from '../../src/peer/vtd-files.ts'
import { VtdPeer } from '../../src/peer/vtd-peer.ts'
import { requestAnswers } from '../log-rows.ts'

const plain = (text: string): string => text
const PAINT = { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain }

let files: VtdFiles | undefined
try {
  files = await findRequestFiles()
} catch (error) {
  process.stderr.write(`page requests are skipped: ${(error as Error).message}\n`)
}

const scriptsOf = (seed: number, count: number): VtdScript[] =>
  Array.from({ length: count }, (_, number) => randomRequestScript(seed, number))
const here = it.skipIf(files === undefined)
const peer = new VtdPeer(files ?? { qemu: '', version: '', setpriv: undefined })
const version = files?.version ?? ''

here('page requests: QEMU gives the recorded answers again', async () => {
  for (const { entries, ...script } of readVtdScripts(await requestAnswers('11.1.3'), 'recording')) {
    const answers = await peer.run({ ...script, steps: entries.map(({ step }) => step) })
    expect(answers).toEqual(entries.map(({ answer }) => answer))
  }
})

here('page requests: QEMU does what the model does, step by step', async () => {
  const result = await compareVtd(peer, new VtdModel(version), scriptsOf(2026, 20), { differencesMax: 3 })
  expect(result.differences, vtdComparisonText(result, { peer: peer.title }, PAINT)).toEqual([])
  expect(result.passing).toEqual([])
  expect(result.steps).toBeGreaterThan(10_000)
})

here('page requests: without the quirks of QEMU there are differences', async () => {
  const result = await compareVtd(peer, new VtdModel(version, 'intended'), scriptsOf(5, 2), {
    differencesMax: 1,
  })
  expect(result.differences).toHaveLength(1)
  expect(result.differences[0]?.isMinimal).toBe(true)
})
