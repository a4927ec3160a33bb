import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { openInput } from '../../src/cli/input.ts'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
import { isClean, type ReplayResult } from '../../src/machine/replay/result.ts'

async function replay(name: string): Promise<ReplayResult> {
  const input = await openInput(`recordings/${name}.trace.xz`, Readable.from([]))
  const running = createReplay({ from: 'qemu-trace', profile: 'qemu-7.2', source: name })
  for await (const piece of input.pieces()) running.push(piece)
  return running.end()
}

/** Boots of real guests: answers, translations, and of those the ones that rest on an inference. */
const BOOTS: readonly (readonly [name: string, answers: number, translations: number, inferred: number])[] = [
  ['ppc-32bit', 1233, 1193, 672],
  ['ppc-ddw-default', 1049, 541, 5],
  ['ppc-ddw-64k', 1076, 537, 39],
  ['ppc-ddw-4k', 1026, 571, 329],
  ['ppc-ftrace', 635, 571, 335],
  ['vh-ppc-32bit', 607, 382, 334],
  ['vh-ppc-ddw', 515, 4, 3],
]

describe('every recorded boot replays as it was', () => {
  it.each(BOOTS)('%s', async (name, answers, translations, inferred) => {
    const r = await replay(name)
    expect(r.answers).toEqual({ total: answers, matched: answers, diverged: 0, unjudged: 0 })
    expect(r.translations).toEqual({
      total: translations,
      explained: translations - inferred,
      inferred,
      learned: 0,
      unexplained: 0,
      unjudged: 0,
    })
    expect(r.entries).toMatchObject({ unknown: 0, confirmed: inferred, contradicted: 0 })
    expect(r.log.damaged.count).toBe(0)
    expect(r.findings).toEqual([])
    expect(isClean(r)).toBe(true)
  })
})

describe('machines that start again', () => {
  it.each<[string, number, number, number]>([
    ['ppc-reboot', 1784, 2115, 1991],
    ['ppc-bridges', 3402, 1785, 2311],
  ])(
    '%s: the reset is seen, and what comes after it is no fault',
    async (name, answers, translations, line) => {
      const r = await replay(name)
      expect(r.answers).toEqual({ total: answers, matched: answers, diverged: 0, unjudged: 0 })
      expect(r.translations).toMatchObject({ total: translations, learned: 0, unexplained: 0 })
      const text = 'the machine was reset: its default windows are back, and empty'
      expect(r.assumptions.at(-1)).toEqual({ line, text, state: 'open' })
      expect(isClean(r)).toBe(true)
    },
  )

  it('ppc-kexec: a device that nobody stopped touches what the next kernel has cleared', async () => {
    const r = await replay('ppc-kexec')
    expect(r.answers).toEqual({ total: 1052, matched: 1052, diverged: 0, unjudged: 0 })
    expect(r.findings.map((f) => [f.rule, f.because.map((b) => b.line)])).toEqual([
      ['use-after-unmap', [521, 1573, 1574]],
    ])
  })
})

describe('the log of hypercalls that were meant to go wrong', () => {
  it('has every answer matched, and the findings that the calls deserve', async () => {
    const r = await replay('qtest-ppc')
    expect(r.answers).toMatchObject({ diverged: 0, unjudged: 0 })
    expect(r.translations).toMatchObject({ total: 28, explained: 28, unexplained: 0 })
    expect(new Set(r.findings.map((f) => f.rule))).toContain('double-map')
    expect(isClean(r)).toBe(false)
  })
})
