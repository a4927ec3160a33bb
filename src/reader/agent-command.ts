import { IommulatorError } from '../bits/errors.ts'

/**
 * How an argument is written: a number as `0x` and digits or in decimal (either is read), one word, or all that
 * is left of the line.
 */
export type AgentArgKind = 'hex' | 'dec' | 'word' | 'rest'

export interface AgentArg {
  readonly kind: AgentArgKind
  readonly doc: string
  /** May be left out. Optional arguments stand last. */
  readonly optional?: true
  /** What stands for an argument that is left out; without it nothing does. */
  readonly initial?: bigint
  /** All words that the argument may be. */
  readonly choices?: readonly string[]
}

/** How a field of an answer is printed, in the words of C's printf, and what of it is kept. */
export const ANSWER_KINDS = {
  x64: { pattern: '(0|[1-9a-f][0-9a-f]{0,15})', doc: 'Hexadecimal, 64 bits (%lx).' },
  x16: { pattern: '([0-9a-f]{4})', doc: 'Hexadecimal, 16 bits, all four digits (%04x).' },
  d64: { pattern: '(0|-?[1-9][0-9]{0,18})', doc: 'Decimal, 64 bits, signed (%ld).' },
  word: { pattern: '([!-~]+)', doc: 'A word without blanks (%s).' },
  bytes: { pattern: '((?:[0-9a-f]{2})*)', doc: 'Bytes as pairs of hexadecimal digits, without blanks.' },
  list: {
    pattern: '(0x(?:0|[1-9a-f][0-9a-f]{0,15})(?: 0x(?:0|[1-9a-f][0-9a-f]{0,15}))*)',
    doc: 'Hexadecimal numbers of 64 bits, a blank between two.',
  },
} as const

export type AnswerKind = keyof typeof ANSWER_KINDS

/** What a field of an answer holds: numbers as bigint, bytes as their digits. */
export type AnswerValue = bigint | string | readonly bigint[]

/** One way in which an answer's fields are printed; `template` is empty where none are. */
export interface AnswerShape {
  readonly template: string
  readonly fields: readonly { readonly name: string; readonly kind: AnswerKind }[]
  /** Literal texts around the fields: one more than there are fields. */
  readonly literals: readonly string[]
  readonly pattern: RegExp
}

export interface AgentCommandDecl<
  A extends Readonly<Record<string, AgentArg>> = Readonly<Record<string, AgentArg>>,
> {
  readonly args: A
  /** What the command does, by the call of the kernel that it makes. */
  readonly doc: string
  /** What follows a value of 0 or more; one of them. */
  readonly done: readonly AnswerShape[]
  /** What follows a negative value and the name of its errno; one of them. */
  readonly failed: readonly AnswerShape[]
  /** A field of bytes or a list, and the argument that says how many there are; a list may be shorter. */
  readonly counts: Readonly<Record<string, string>>
  /** A line as a real transcript has it. */
  readonly example: string
}

interface CommandAbout<A> {
  readonly args: A
  readonly doc: string
  /** Templates of the answer's fields; none says that the command answers nothing at all. */
  readonly done: readonly string[]
  /** The same as `done` where it is not said. */
  readonly failed?: readonly string[]
  readonly counts?: Readonly<Record<string, string>>
  readonly example: string
}

const FIELD = /\{(\w+):(\w+)\}/g
const escaped = (literal: string): string => literal.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')

/** Reads a template: literal text with `{field:kind}` where values stand. @throws IommulatorError ERR_DECLARATION */
export function answerShape(template: string): AnswerShape {
  const fields: { name: string; kind: AnswerKind }[] = []
  const literals: string[] = []
  let at = 0
  for (const found of template.matchAll(FIELD)) {
    const [all, name = '', kind = ''] = found
    if (!Object.hasOwn(ANSWER_KINDS, kind) || fields.some((f) => f.name === name)) {
      throw new IommulatorError('ERR_DECLARATION', `answer "${template}": ${name} is no field of its own`)
    }
    fields.push({ name, kind: kind as AnswerKind })
    literals.push(template.slice(at, found.index))
    at = found.index + all.length
  }
  literals.push(template.slice(at))
  const body = literals.map((l, i) => {
    const field = fields[i]
    return escaped(l) + (field === undefined ? '' : ANSWER_KINDS[field.kind].pattern)
  })
  return { template, fields, literals, pattern: new RegExp(`^${body.join('')}$`) }
}

function wrong(why: string, example: string): IommulatorError {
  return new IommulatorError('ERR_DECLARATION', `command of "${example}": ${why}`)
}

/** Declares one command of the agent. @throws IommulatorError ERR_DECLARATION where it contradicts itself */
export function agentCommand<const A extends Readonly<Record<string, AgentArg>>>(
  about: CommandAbout<A>,
): AgentCommandDecl<A> {
  const { args, doc, counts = {}, example } = about
  const list = Object.values<AgentArg>(args)
  const firstOptional = list.findIndex((a) => a.optional === true)
  if (firstOptional >= 0 && list.slice(firstOptional).some((a) => a.optional !== true)) {
    throw wrong('an argument that is needed follows one that is not', example)
  }
  if (list.slice(0, -1).some((a) => a.kind === 'rest')) throw wrong('the rest of a line stands last', example)
  const done = about.done.map(answerShape)
  const failed = about.failed?.map(answerShape) ?? done
  for (const shapes of [done, failed]) {
    // A writer finds the shape by the fields that it is given.
    const sets = shapes.map((s) =>
      s.fields
        .map((f) => f.name)
        .sort()
        .join(),
    )
    if (new Set(sets).size < sets.length) throw wrong('two answers have the same fields', example)
  }
  for (const [field, arg] of Object.entries(counts)) {
    const isField = [...done, ...failed].some((s) => s.fields.some((f) => f.name === field))
    if (!isField || !Object.hasOwn(args, arg)) throw wrong(`${field} or ${arg} is not declared`, example)
  }
  return Object.freeze({ args, doc, done, failed, counts, example })
}
