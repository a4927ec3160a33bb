import { beforeAll, describe, expect, it } from 'vitest'
import { readAgentScripts } from '../../src/machine/lockstep/agent-script.ts'
import { compareScript } from '../../src/machine/lockstep/compare.ts'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
import type { ReplayResult } from '../../src/machine/replay/result.ts'
import { randomAnswers } from '../log-rows.ts'
import { changedPeer, PEER_HEAD } from '../support/lockstep.ts'

/** What Linux 6.12.95 answered to random commands of seed 7, recorded by `iommulator connect kernel --record`. */
describe('the answers of a real kernel to random commands', () => {
  let text = ''
  const replay = (transcript: string, profile?: string): ReplayResult => {
    const run = createReplay({
      from: 'kernel-answers',
      source: 'kernel-random',
      bare: true,
      ...(profile !== undefined && { profile }),
    })
    run.push(Buffer.from(transcript, 'latin1'))
    return run.end()
  }
  beforeAll(async () => {
    text = Buffer.from(await randomAnswers()).toString('latin1')
  })

  it('are those of the model, all of them', () => {
    const { answers, divergences, profile, log } = replay(text)
    expect(divergences).toEqual([])
    expect(answers).toEqual({ total: 1617, matched: 1617, diverged: 0, unjudged: 0 })
    expect([profile, log.damaged.count, log.unknown]).toEqual(['linux-6.12.95', 0, []])
  })

  it('show that the kernel has errata', () => {
    const rules = new Set(replay(text, 'intended').divergences.map(({ rule }) => rule))
    expect([...rules]).toEqual(expect.arrayContaining(['in-use', 'bad-range', 'not-pinnable']))
  })

  it('are seen to be others: a value, an amount, a byte that DMA moved', () => {
    const changed = text
      .replace(/^(map .*) => 0$/m, '$1 => -1 EINVAL')
      .replace(/VmLck=4096kB/, 'VmLck=4160kB')
      .replace(/^(peek .*) => 0 ([0-9a-f]{30})[0-9a-f]{2}$/m, '$1 => 0 $2ee')
    const { divergences } = replay(changed)
    expect(divergences.map(({ call }) => call.split(' ', 1)[0]).sort()).toEqual(['map', 'peek', 'vmlck'])
  })

  it('can be asked again, of any kernel', async () => {
    const scripts = readAgentScripts(text, 'kernel-random')
    expect(scripts.map(({ name }) => name)).toEqual(Array.from({ length: 26 }, (_, i) => `random-7-${i}`))
    const [first] = scripts
    const recorded = text.slice(
      text.indexOf('ORACLE script random-7-0'),
      text.indexOf('ORACLE script random-7-1'),
    )
    const peer = changedPeer({ head: PEER_HEAD, run: async () => recorded }, (answered) => answered)
    expect(await compareScript(peer, first!)).toMatchObject({
      equal: first?.commands.length,
      differences: [],
    })
  })
})
