import { beforeAll, describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
import { type AgentAnswer, formatAgentLine, readAgentLine } from '../../src/reader/kernel-answers-line.ts'
import { bytesOf } from '../log-rows.ts'
import { Recording, replayText } from '../support/transcript.ts'

let recording: Recording
beforeAll(async () => {
  recording = await Recording.read()
})

/** Mostly other digits, so that the line stays one that the agent could have printed; at times anything. */
function mutated(line: string, chance: Prng): string {
  let out = line
  for (let n = 1 + chance.below(3); n > 0; n--) {
    const at = chance.below(out.length + 1)
    const put = (text: string, dropped: number) => {
      out = out.slice(0, at) + text + out.slice(at + dropped)
    }
    if (/[0-9a-f]/.test(out[at] ?? '')) put('0123456789abcdef'[chance.below(16)] ?? '', 1)
    else if (chance.oneIn(3))
      put(chance.pick([' ', ' => ', '\n', '0x', 'ffffffffffff', '-1 ENOMEM', '\u0000']), 1)
  }
  return chance.oneIn(20) ? out.slice(0, chance.below(out.length + 1)) : out
}

describe('a transcript that is damaged', () => {
  it.each([1, 2, 3, 4, 5, 6])('is replayed to its end, every line accounted (seed %i)', (seed) => {
    const chance = new Prng(seed)
    const lines = recording.lines.map((line) => (chance.oneIn(6) ? mutated(line, chance) : line))
    const order = seed % 2 === 0 ? lines : lines.map((line) => (chance.oneIn(10) ? chance.pick(lines) : line))
    const { log, answers, unjudged } = replayText(order.join('\n'))
    const unknown = log.unknown.reduce((n, u) => n + u.count, 0)
    const others = (log.comments ?? 0) + (log.marks ?? 0) + (log.messages ?? 0) + (log.noise ?? 0)
    expect(log.events + others + unknown + log.damaged.count + log.empty).toBe(log.lines)
    expect(answers.matched + answers.diverged + answers.unjudged).toBe(answers.total)
    expect(answers.total).toBe(log.events)
    expect(unjudged.reduce((n, u) => n + u.count, 0)).toBe(answers.unjudged)
    expect(log.damaged.count + unknown + answers.diverged + answers.unjudged).toBeGreaterThan(0)
  })

  it('is the same in pieces of any length', () => {
    const bytes = bytesOf(recording.script('pnv-1'))
    const replay = createReplay({ from: 'kernel-answers', source: 'test' })
    const chance = new Prng(7)
    for (let at = 0; at < bytes.length; ) {
      const end = Math.min(bytes.length, at + 1 + chance.below(300))
      replay.push(bytes.subarray(at, end))
      at = end
    }
    expect(replay.end()).toEqual(replayText(recording.script('pnv-1')))
  })
})

/** An answer that another kernel might have given. */
function otherAnswer({ value, errno, fields }: AgentAnswer): AgentAnswer {
  const [name, field] = Object.entries(fields)[0] ?? []
  if (name !== undefined && typeof field === 'bigint') {
    return { value, errno, fields: { ...fields, [name]: field ^ 1n } }
  }
  if (name !== undefined && typeof field === 'string' && /^[0-9a-f]+$/.test(field)) {
    return {
      value,
      errno,
      fields: { ...fields, [name]: field.replace(/^./, (c) => (c === '7' ? '8' : '7')) },
    }
  }
  if (value < 0n) return { value, errno: errno === 'EXDEV' ? 'EINVAL' : 'EXDEV', fields }
  return { value: value + 1n, errno, fields }
}

describe('a transcript with one answer that is wrong', () => {
  it.each(['pnv-1', 'pnv-2', 'pnv-5'])('%s has that divergence, at its line, and no other', (name) => {
    const lines = recording.script(name).split('\n')
    const answered = lines.flatMap((text, i) => {
      const read = readAgentLine(text)
      return read !== undefined && 'command' in read && read.answer !== undefined ? [{ i, text, read }] : []
    })
    const before = replayText(lines.join('\n'))
    const chance = new Prng(11)
    for (let n = 0; n < 12; n++) {
      const { i, text, read } = chance.pick(answered)
      const wrong = formatAgentLine({ ...read, answer: otherAnswer(read.answer as AgentAnswer) })
      expect(wrong).not.toBe(text)
      const r = replayText(lines.with(i, wrong).join('\n'))
      expect(r.divergences.map((d) => `${d.line} ${d.call} => ${d.log}`)).toEqual([`${i + 1} ${wrong}`])
      expect(r.answers.matched).toBe(before.answers.matched - 1)
    }
  })
})
