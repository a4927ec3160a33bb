import { Readable } from 'node:stream'
import { expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { openInput } from '../../src/cli/input.ts'
import { createReplay } from '../../src/machine/replay/log-replay.ts'

async function linesOf(name: string): Promise<Uint8Array[]> {
  const input = await openInput(`recordings/${name}.trace.xz`, Readable.from([]))
  const pieces: Uint8Array[] = []
  for await (const piece of input.pieces()) pieces.push(piece.slice())
  const text = Buffer.concat(pieces).toString('latin1')
  return text.split('\n').map((line) => Buffer.from(`${line}\n`, 'latin1'))
}

/** Mostly other digits, so that the line stays one that a machine could have written; at times anything. */
function mutated(line: Uint8Array, chance: Prng): Uint8Array {
  const out = line.slice()
  for (let n = 1 + chance.below(3); n > 0; n--) {
    const at = chance.below(out.length)
    const isDigit = /[0-9a-f]/.test(String.fromCharCode(out[at] ?? 0))
    if (isDigit) out[at] = '0123456789abcdef'.charCodeAt(chance.below(16))
    else if (chance.oneIn(4)) out[at] = chance.below(256)
  }
  return chance.oneIn(20) ? out.subarray(0, chance.below(out.length)) : out
}

it.each(['ppc-ddw-default', 'qtest-ppc', 'vh-ppc-32bit'])(
  '%s with one line in ten mutated: replayed to the end, every line accounted, nothing thrown',
  async (name) => {
    const lines = await linesOf(name)
    for (let seed = 1; seed <= 5; seed++) {
      const chance = new Prng(seed)
      const replay = createReplay({ from: 'qemu-trace', profile: 'qemu-7.2', source: name })
      for (const line of lines) replay.push(chance.oneIn(10) ? mutated(line, chance) : line)
      const { log, answers, translations } = replay.end()
      const unknown = log.unknown.reduce((n, u) => n + u.count, 0)
      expect(log.events + unknown + log.damaged.count + log.empty).toBe(log.lines)
      expect(answers.matched + answers.diverged + answers.unjudged).toBe(answers.total)
      expect(translations.total).toBeGreaterThan(0)
      // Mutations are seen: a log that was damaged so badly is not called right.
      expect(log.damaged.count + answers.diverged + translations.unexplained).toBeGreaterThan(0)
    }
  },
)
