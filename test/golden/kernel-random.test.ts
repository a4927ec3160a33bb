import { beforeAll, describe, expect, it } from 'vitest'
import { readAgentScripts } from '../../src/machine/lockstep/agent-script.ts'
import { compareScript } from '../../src/machine/lockstep/compare.ts'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
import type { ReplayResult } from '../../src/machine/replay/result.ts'
import { randomAnswers } from '../log-rows.ts'
import { changedPeer, PEER_HEAD } from '../support/lockstep.ts'

/** What Linux 6.12.95 answered to random commands of seed 5, recorded by `iommulator connect kernel --record`. */
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
    expect(answers).toEqual({ total: 2057, matched: 2057, diverged: 0, unjudged: 0 })
    expect([profile, log.damaged.count, log.unknown]).toEqual(['linux-6.12.95', 0, []])
  })

  it('show that the kernel has errata', () => {
    const rules = new Set(replay(text, 'intended').divergences.map(({ rule }) => rule))
    expect([...rules]).toEqual(
      expect.arrayContaining(['in-use', 'bad-range', 'not-pinnable', 'ioba-outside']),
    )
  })

  it('hold hypercalls of guests, by how they ended, and dumps of tables', () => {
    const count = (shape: RegExp) => [...text.matchAll(shape)].length
    expect(count(/^hcall 0x(20|1c|138|13c) .* => 0 r4=/gm)).toBeGreaterThan(200)
    expect(count(/^hcall .* EXIT-TO-USER /gm)).toBeGreaterThan(50)
    expect(count(/^hcall .* => -4 0 /gm)).toBeGreaterThan(40)
    expect(count(/^vfiotce .* => 0$/gm)).toBeGreaterThan(20)
    expect(count(/^tcedump .* 0x[1-9a-f]/gm)).toBeGreaterThan(60)
    expect(count(/^eeh .* => 0$/gm)).toBeGreaterThan(10)
  })

  it('are seen to be others: a value, an amount, an entry, a byte that DMA moved', () => {
    const changed = text
      .replace(/^(map .*) => 0$/m, '$1 => -1 EINVAL')
      .replace(/VmLck=4096kB/, 'VmLck=4160kB')
      .replace(/^(hcall 0x1c .* => 0 r4=)0x\w*3$/m, '$10x77')
      .replace(/^(tcedump .* => 0 )0x0/m, '$10x1')
      .replace(/^(peek .*) => 0 ([0-9a-f]{30})[0-9a-f]{2}$/m, '$1 => 0 $2ee')
    const { divergences } = replay(changed)
    expect(divergences.map(({ call }) => call.split(' ', 1)[0]).sort()).toEqual([
      'hcall',
      'map',
      'peek',
      'tcedump',
      'vmlck',
    ])
  })

  it('can be asked again, of any kernel', async () => {
    const scripts = readAgentScripts(text, 'kernel-random')
    expect(scripts.map(({ name }) => name)).toEqual(Array.from({ length: 27 }, (_, i) => `random-5-${i}`))
    const [first] = scripts
    const recorded = text.slice(
      text.indexOf('ORACLE script random-5-0'),
      text.indexOf('ORACLE script random-5-1'),
    )
    const peer = changedPeer({ head: PEER_HEAD, run: async () => recorded }, (answered) => answered)
    expect(await compareScript(peer, first!)).toMatchObject({
      equal: first?.commands.length,
      differences: [],
    })
  })
})
