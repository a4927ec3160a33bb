import { IommulatorError } from '../bits/errors.ts'
import { didYouMean } from '../bits/suggest.ts'
import { hex } from '../bits/u64.ts'
import type { AgentArg, AgentCommandDecl, AnswerKind, AnswerShape, AnswerValue } from './agent-command.ts'
import {
  AGENT_COMMANDS,
  type AgentArgsOf,
  type AgentCommandName,
  agentCommandNamed,
} from './kernel-answers-format.ts'

/** A command of the agent. */
export interface AgentCommand {
  readonly name: AgentCommandName
  /** Its arguments as they are spelled: the agent repeats a line as it got it. */
  readonly words: readonly string[]
  /** Their values by name; those that were left out have their initial value, or are missing. */
  readonly args: Readonly<Record<string, bigint | string>>
}

/** What the agent printed behind a command. */
export interface AgentAnswer {
  readonly value: bigint
  /** Name of the errno, only with a negative value; `0` where no errno was set, `?` for one without a name. */
  readonly errno: string | undefined
  readonly fields: Readonly<Record<string, AnswerValue>>
}

export interface AgentLine {
  readonly command: AgentCommand
  /** Undefined where the agent did not take the command (`? unknown command`). */
  readonly answer: AgentAnswer | undefined
}

/** What a line of a transcript may be beside a command with its answer. */
export type AgentLineFault =
  | { readonly unknown: string; readonly isRefused: boolean }
  | { readonly damaged: string; readonly name: AgentCommandName | undefined }

const ARROW = ' => '
const REFUSED = '? unknown command'
const NUMBER = /^(?:0x[0-9a-f]{1,16}|0[0-7]{0,22}|[1-9][0-9]{0,19})$/i
const VALUE = /^(0|-?[1-9][0-9]{0,18})(?= |$)/
const ERRNO = /^ (0|\?|E[A-Z0-9]{2,20})(?= |$)/
const NAME = /^[a-z][a-z0-9_]*$/

/** The number that a word stands for, as strtoul reads it; undefined where it is none of 64 bits. */
function numberOf(word: string): bigint | undefined {
  if (!NUMBER.test(word)) return undefined
  const value = BigInt(/^0[0-7]+$/.test(word) ? `0o${word.slice(1)}` : word)
  return value >> 64n === 0n ? value : undefined
}

/** The value of a word, or what is wrong with it. */
function readWord(word: string, arg: AgentArg): { readonly value: bigint | string } | string {
  if (arg.kind === 'hex' || arg.kind === 'dec') {
    const value = numberOf(word)
    return value === undefined ? `is no number of 64 bits: "${word}"` : { value }
  }
  if (arg.choices?.includes(word) === false) return `is none of ${arg.choices.join(', ')}: "${word}"`
  return { value: word }
}

/** Reads the words behind a command's name; a text says what is wrong with them. */
function readArgs(decl: AgentCommandDecl, text: string): Pick<AgentCommand, 'words' | 'args'> | string {
  const declared = Object.entries(decl.args)
  const hasRest = declared.at(-1)?.[1].kind === 'rest'
  const words = hasRest ? (text === '' ? [] : [text]) : text.split(' ').filter((w) => w !== '')
  if (words.length > declared.length)
    return `the command takes ${declared.length} arguments, not ${words.length}`
  const args: [string, bigint | string][] = []
  for (const [i, [name, arg]] of declared.entries()) {
    const word = words[i]
    if (word === undefined) {
      if (arg.optional !== true) return `argument ${name} is missing`
      if (arg.initial !== undefined) args.push([name, arg.initial])
      continue
    }
    const read = readWord(word, arg)
    if (typeof read === 'string') return `argument ${name} ${read}`
    args.push([name, read.value])
  }
  return { words, args: Object.fromEntries(args) }
}

/** The value of a field from its text, which fits the pattern of its kind. */
export function fieldValue(kind: AnswerKind, text: string): AnswerValue {
  if (kind === 'x64' || kind === 'x16') return BigInt(`0x${text}`)
  if (kind === 'd64') return BigInt(text)
  return kind === 'list' ? text.split(' ').map((word) => BigInt(word)) : text
}

/** How many bytes or numbers a field holds. */
const countOf = (value: AnswerValue): bigint =>
  BigInt(typeof value === 'string' ? value.length / 2 : typeof value === 'bigint' ? 1 : value.length)

function readFields(
  decl: AgentCommandDecl,
  shapes: readonly AnswerShape[],
  text: string,
  args: AgentCommand['args'],
): AgentAnswer['fields'] | string {
  for (const { template, pattern, fields } of shapes) {
    const found = template === '' ? text === '' && [''] : text.startsWith(' ') && pattern.exec(text.slice(1))
    if (!found) continue
    const values = fields.map(({ name, kind }, i) => [name, fieldValue(kind, found[i + 1] ?? '')] as const)
    for (const [name, value] of values) {
      const expected = args[decl.counts[name] ?? '']
      if (typeof expected !== 'bigint') continue
      const isShort = countOf(value) < expected && !Array.isArray(value)
      if (countOf(value) > expected || isShort) return `${name} holds ${countOf(value)} of ${expected}`
    }
    return Object.fromEntries(values)
  }
  const ways = shapes.map(({ template }) => (template === '' ? 'nothing' : `"${template}"`))
  if (ways.length === 0) return 'the command has no such answer'
  return `behind the value stands "${text.trim().slice(0, 80)}", not ${ways.join(' or ')}`
}

function readAnswer(decl: AgentCommandDecl, text: string, args: AgentCommand['args']): AgentAnswer | string {
  const [all, digits = ''] = VALUE.exec(text) ?? []
  if (all === undefined || BigInt.asIntN(64, BigInt(digits)) !== BigInt(digits)) {
    return `the answer is no number of 64 bits: "${text.slice(0, 40)}"`
  }
  const value = BigInt(digits)
  let at = all.length
  let errno: string | undefined
  if (value < 0n) {
    errno = ERRNO.exec(text.slice(at))?.[1]
    if (errno === undefined) return 'no errno follows the negative value'
    at += 1 + errno.length
  }
  const fields = readFields(decl, value < 0n ? decl.failed : decl.done, text.slice(at), args)
  return typeof fields === 'string' ? fields : { value, errno, fields }
}

/**
 * Reads one line of a transcript: a command, its arguments, its answer and the answer's fields.
 *
 * Undefined where the line is none of the agent's: what surrounds it prints on the same console. A line that
 * begins as a declared command with its arguments, but does not go on as one, is damaged.
 *
 * @example
 * readAgentLine('map 0x1000 0x100000000 0x1000 => -1 ENXIO')
 */
export function readAgentLine(text: string): AgentLine | AgentLineFault | undefined {
  const line = text.trimStart()
  const arrow = line.lastIndexOf(ARROW)
  const head = arrow < 0 ? line.trimEnd() : line.slice(0, arrow)
  const answerText = arrow < 0 ? '' : line.slice(arrow + ARROW.length)
  const blank = head.indexOf(' ')
  const name = blank < 0 ? head : head.slice(0, blank)
  const decl = agentCommandNamed(name)
  if (decl === undefined) {
    const isRefused = answerText === REFUSED
    const isAnswer = isRefused || VALUE.test(answerText)
    return isAnswer && NAME.test(name) ? { unknown: name, isRefused } : undefined
  }
  const own = name as AgentCommandName
  const read = readArgs(decl, blank < 0 ? '' : head.slice(blank + 1))
  if (arrow < 0) {
    // A word of the console's that happens to be a command's name is no damage, nor is a silent command.
    const isAnything = Object.values(decl.args).some((a) => a.kind === 'rest')
    if (typeof read === 'string' || decl.done.length === 0 || isAnything) return undefined
    return { damaged: 'the line is cut before its answer', name: own }
  }
  if (typeof read === 'string') return { damaged: read, name: own }
  const command = { name: own, ...read }
  if (answerText === REFUSED) return { command, answer: undefined }
  const answer = readAnswer(decl, answerText, read.args)
  return typeof answer === 'string' ? { damaged: answer, name: own } : { command, answer }
}

/**
 * Reads a command as it is given to the agent. A text says what is wrong with it.
 *
 * @example
 * readAgentCommand('create 16 0x40000000 1')
 */
export function readAgentCommand(text: string): AgentCommand | string {
  const line = text.trim()
  const blank = line.indexOf(' ')
  const name = blank < 0 ? line : line.slice(0, blank)
  const decl = agentCommandNamed(name)
  if (decl === undefined)
    return `no command is called "${name}"${didYouMean(name, Object.keys(AGENT_COMMANDS))}`
  const read = readArgs(decl, blank < 0 ? '' : line.slice(blank + 1))
  return typeof read === 'string' ? `${name}: ${read}` : { name: name as AgentCommandName, ...read }
}

function printedField(kind: AnswerKind, value: AnswerValue): string {
  if (typeof value === 'string') return value
  if (typeof value !== 'bigint') return value.map(hex).join(' ')
  if (kind === 'x16') return BigInt.asUintN(16, value).toString(16).padStart(4, '0')
  return kind === 'x64' ? BigInt.asUintN(64, value).toString(16) : value.toString()
}

/** The text of an answer's fields: the first shape that has exactly these. */
function fieldsText(shapes: readonly AnswerShape[], given: AgentAnswer['fields'], value: bigint): string {
  const names = Object.keys(given)
  for (const { template, fields, literals } of shapes) {
    if (fields.length !== names.length || !fields.every(({ name }) => Object.hasOwn(given, name))) continue
    if (template === '') return ''
    const parts = fields.map(({ name, kind }, i) => literals[i] + printedField(kind, given[name] ?? ''))
    return ` ${parts.join('')}${literals.at(-1)}`
  }
  throw new IommulatorError(
    'ERR_OPERATION',
    `no answer of ${value} has the fields ${names.join(', ') || 'none'}`,
  )
}

/** The line that gives a command to the agent, without its end. */
export const formatAgentCommand = ({ name, words }: AgentCommand): string => [name, ...words].join(' ')

/**
 * The line of a transcript, without its end. What `readAgentLine` reads comes back as it was, but for more
 * blanks than one between words.
 *
 * @throws IommulatorError ERR_OPERATION where the command never answers with such fields
 */
export function formatAgentLine({ command, answer }: AgentLine): string {
  const head = formatAgentCommand(command) + ARROW
  if (answer === undefined) return head + REFUSED
  const { value, errno, fields } = answer
  const decl: AgentCommandDecl = AGENT_COMMANDS[command.name]
  const code = value < 0n ? `${value} ${errno ?? '?'}` : `${value}`
  return head + code + fieldsText(value < 0n ? decl.failed : decl.done, fields, value)
}

function spelled(value: bigint | number | string, arg: AgentArg): string {
  if (typeof value === 'string') return value
  return arg.kind === 'hex' ? hex(BigInt(value)) : BigInt(value).toString()
}

/**
 * A command from its arguments, spelled as its declaration says.
 *
 * @throws IommulatorError ERR_OPERATION where an argument is missing, unknown or of the wrong kind
 * @example
 * formatAgentCommand(agentCommandOf('create', { pageShift: 16, bytes: 1n << 30n, levels: 1 }))
 * // create 16 0x40000000 1
 */
export function agentCommandOf<N extends AgentCommandName>(name: N, given: AgentArgsOf<N>): AgentCommand {
  const decl: AgentCommandDecl = AGENT_COMMANDS[name]
  const values = given as Readonly<Record<string, bigint | number | string | undefined>>
  const names = Object.keys(decl.args)
  for (const arg of Object.keys(values)) {
    if (names.includes(arg)) continue
    throw new IommulatorError('ERR_OPERATION', `${name} has no argument ${arg}${didYouMean(arg, names)}`)
  }
  const last = names.findLastIndex((arg) => values[arg] !== undefined)
  const words = Object.entries(decl.args).flatMap(([arg, a], i) => {
    const value = values[arg] ?? a.initial
    if (i > last && a.optional === true) return []
    return [value === undefined ? '' : spelled(value, a)]
  })
  const read = readArgs(decl, words.join(' '))
  if (typeof read === 'string' || words.includes('')) {
    throw new IommulatorError(
      'ERR_OPERATION',
      `${name}: ${typeof read === 'string' ? read : 'a word is empty'}`,
    )
  }
  return { name, ...read }
}
