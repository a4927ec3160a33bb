import { describe, expect, it } from 'vitest'
import { firstDifference } from '../../src/machine/lockstep/pseries-compare.ts'
import { PseriesModel } from '../../src/machine/lockstep/pseries-model.ts'
import { readPseriesScripts } from '../../src/machine/lockstep/pseries-step.ts'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
import type { ReplayResult } from '../../src/machine/replay/result.ts'
import { bytesOf, scenarioAnswers } from '../log-rows.ts'

const textOf = async (peer: 'kernel' | 'pseries') =>
  Buffer.from(await scenarioAnswers(peer)).toString('latin1')

/** What Linux 6.12.95 answered to the scenarios of POWER hosts, recorded by `iommulator connect kernel --record`. */
describe('the answers of a real kernel to scenarios', () => {
  const replay = (text: string, profile?: string): ReplayResult => {
    const run = createReplay({
      from: 'kernel-answers',
      source: 'kernel-scenarios',
      bare: true,
      ...(profile !== undefined && { profile }),
    })
    run.push(bytesOf(text))
    return run.end()
  }

  it('are those of the model, all of them', async () => {
    const { answers, divergences, log } = replay(await textOf('kernel'))
    expect(divergences).toEqual([])
    expect(answers).toEqual({ total: 1961, matched: 1961, diverged: 0, unjudged: 0 })
    expect([log.damaged.count, log.unknown]).toEqual([0, []])
  })

  it('are of a kernel with errata', async () => {
    const { divergences } = replay(await textOf('kernel'), 'intended')
    const rules = new Set(divergences.map(({ rule }) => rule))
    expect([...rules]).toEqual(
      expect.arrayContaining(['in-use', 'iova-unaligned', 'bad-range', 'not-pinnable']),
    )
  })

  it('are seen to be others: an answer, an entry of a table, a byte that DMA moved', async () => {
    const changed = (await textOf('kernel'))
      .replace(/^(vfiotce .*) => 0$/m, '$1 => -1 EIO')
      .replace(/^(tcedump .*) => 0 0x3/m, '$1 => 0 0x1')
      .replace(/^(peek .*) => 0 68656c6c6f/m, '$1 => 0 68656c6c6e')
    const calls = replay(changed).divergences.map(({ call }) => call.split(' ', 1)[0])
    expect(calls.sort()).toEqual(['peek', 'tcedump', 'vfiotce'])
  })
})

/** What QEMU 7.2.22 answered to the scenarios of its pseries, recorded by `iommulator connect qemu-pseries --record`. */
describe("the answers of QEMU's pseries to scenarios", () => {
  const differences = (text: string, profile?: string) =>
    readPseriesScripts(text, 'pseries-scenarios').flatMap(({ name, entries }) => {
      const script = { name, steps: entries.map(({ step }) => step) }
      const recorded = entries.map(({ answer }) => answer)
      return firstDifference(script, recorded, new PseriesModel(profile).answers(script)) ?? []
    })

  it('are those of the model, all of them', async () => {
    const text = await textOf('pseries')
    expect(text.split('\n').filter((line) => line.includes(' => '))).toHaveLength(909)
    expect(differences(text)).toEqual([])
  })

  it('are of a QEMU with quirks, and seen to be others', async () => {
    const text = await textOf('pseries')
    expect(differences(text, 'intended').length).toBeGreaterThan(5)
    const changed = text.replace(/^(hcall 0x1c .*) => 0 r4=0x\w+$/m, '$1 => 0 r4=0x7')
    expect(differences(changed)).toHaveLength(1)
  })
})
