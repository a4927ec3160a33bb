import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import type { AgentArg, AgentCommandDecl, AnswerKind, AnswerValue } from '../../src/reader/agent-command.ts'
import { AGENT_COMMANDS, type AgentCommandName } from '../../src/reader/kernel-answers-format.ts'
import {
  type AgentAnswer,
  type AgentLine,
  agentCommandOf,
  formatAgentLine,
  readAgentLine,
} from '../../src/reader/kernel-answers-line.ts'
import { KernelAnswersReader, type TranscriptEntry } from '../../src/reader/kernel-answers-reader.ts'
import { answers } from '../log-rows.ts'

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
const s64 = fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n })
const anyWord = fc.stringMatching(/^[!-~]{1,12}$/)

const anyArg = ({ kind, choices }: AgentArg): fc.Arbitrary<bigint | string> => {
  if (choices !== undefined) return fc.constantFrom(...choices)
  if (kind === 'word') return anyWord
  if (kind === 'rest') return fc.stringMatching(/^[!-~][ -~]{0,30}$/)
  return u64
}

const anyValue = (kind: AnswerKind, count: bigint | undefined): fc.Arbitrary<AnswerValue> => {
  const bytes = Number(count ?? 0n)
  const hexDigits = fc.stringMatching(new RegExp(`^[0-9a-f]{${bytes * 2}}$`))
  if (kind === 'bytes') return bytes === 0 ? fc.constant('') : hexDigits
  if (kind === 'list') return fc.array(u64, { minLength: 1, maxLength: bytes })
  if (kind === 'word') return anyWord
  return kind === 'x64' ? u64 : s64.filter((v) => v > -(10n ** 18n) && v < 10n ** 18n)
}

/** Any command with any answer that it may have. */
const anyLine: fc.Arbitrary<AgentLine> = fc
  .constantFrom(...(Object.keys(AGENT_COMMANDS) as AgentCommandName[]).filter((n) => n !== 'quit'))
  .chain((name) => {
    const decl: AgentCommandDecl = AGENT_COMMANDS[name]
    const counted = Object.values(decl.counts)
    const args = Object.entries(decl.args).map(([arg, a]) => {
      const value = counted.includes(arg) ? fc.bigInt({ min: 1n, max: 40n }) : anyArg(a)
      return fc.tuple(fc.constant(arg), a.optional === true ? fc.option(value, { nil: undefined }) : value)
    })
    return fc.tuple(...args).chain((pairs) => {
      // An optional argument without an initial value cannot be left out before one that is given.
      const given = Object.fromEntries(pairs.filter(([, v]) => v !== undefined))
      const command = agentCommandOf(name, given as never)
      const { done, failed, counts } = decl
      const ways = [
        ...done.map((shape) => ({ shape, fails: false })),
        ...failed.map((shape) => ({ shape, fails: true })),
      ]
      return fc.constantFrom(...ways).chain(({ shape, fails }) => {
        const fields = shape.fields.map((f) => {
          const count = given[counts[f.name] ?? ''] as bigint | undefined
          return fc.tuple(fc.constant(f.name), anyValue(f.kind, count))
        })
        const value = fails
          ? s64.map((v) => (v < 0n ? v : -v - 1n))
          : s64.map((v) => (v < 0n ? -(v + 1n) : v))
        const errno = fails ? fc.constantFrom('EINVAL', 'ENOMEM', '0', '?') : fc.constant(undefined)
        const answer: fc.Arbitrary<AgentAnswer> = fc.record({
          value,
          errno,
          fields: fc.tuple(...fields).map((f) => Object.fromEntries(f) as AgentAnswer['fields']),
        })
        return fc
          .oneof({ weight: 20, arbitrary: answer }, fc.constant(undefined))
          .map((a) => ({ command, answer: a }))
      })
    })
  })

describe('a transcript', () => {
  let bytes: Uint8Array
  beforeAll(async () => {
    bytes = await answers()
  })

  it('every command with every answer is read as it was written', () => {
    fc.assert(
      fc.property(anyLine, (line) => {
        // A shell line may hold what looks like another answer; the last one is the agent's.
        expect(readAgentLine(formatAgentLine(line))).toEqual(line)
      }),
      { numRuns: 2000 },
    )
  })

  it('mutated lines never throw, and every line is counted once', () => {
    const edit = fc.record({
      at: fc.nat(bytes.length - 1),
      dropped: fc.nat(8),
      added: fc.oneof(
        fc.uint8Array({ maxLength: 6 }),
        fc.constantFrom(' => ', '\n', ' ', '-').map((t) => Buffer.from(t)),
      ),
    })
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 30 }), (edits) => {
        let text = Buffer.from(bytes)
        for (const { at, dropped, added } of edits) {
          text = Buffer.concat([text.subarray(0, at), added, text.subarray(at + dropped)])
        }
        const reader = new KernelAnswersReader({ take: checkWritten })
        reader.push(text)
        const s = reader.end()
        const unknown = s.unknown.reduce((n, u) => n + u.count, 0)
        const counted =
          s.events + s.comments + s.marks + s.messages + s.noise + s.empty + s.damaged.count + unknown
        expect(counted).toBe(s.lines)
        expect(s.bytes).toBe(text.length)
      }),
      { numRuns: 60 },
    )
  })

  it('where it is cut into pieces makes no difference', () => {
    const whole = read([bytes])
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length), { maxLength: 20 }), (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), bytes.length]
        expect(read(at.slice(1).map((to, i) => bytes.subarray(at[i], to)))).toEqual(whole)
      }),
      { numRuns: 20 },
    )
  })
})

/** Whatever is read can be written and read again. */
function checkWritten(entry: TranscriptEntry): void {
  if (entry.kind !== 'command') return
  const { command, answer } = entry
  expect(readAgentLine(formatAgentLine(entry))).toEqual({ command, answer })
}

function read(pieces: readonly Uint8Array[]): unknown {
  const entries: TranscriptEntry[] = []
  const reader = new KernelAnswersReader({ take: (entry) => entries.push(entry) })
  for (const piece of pieces) reader.push(piece)
  return { entries, summary: reader.end() }
}
