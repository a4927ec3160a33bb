import { latin1Bytes } from '../../bits/byte-text.ts'
import { agentCommandOf, formatAgentCommand } from '../../reader/kernel-answers-line.ts'
import { createReplay } from '../replay/log-replay.ts'
import type { Divergence, Unjudged } from '../replay/result.ts'
import { type AgentScript, processesOf } from './agent-script.ts'
import { ModelPeer } from './model-peer.ts'
import type { ScriptPeer } from './script-peer.ts'
import { shrink } from './shrink.ts'

/** What a script gave on a peer and on the model. */
export interface Compared {
  readonly script: AgentScript
  /** The peer's part of a transcript. */
  readonly transcript: string
  readonly equal: number
  /** Answers that the model cannot judge. */
  readonly unjudged: number
  readonly reasons: readonly Unjudged[]
  /** Commands behind one that ended the process. */
  readonly notRun: number
  /** Answers that differ, in order; `line` counts from the first line of the transcript. */
  readonly differences: readonly Divergence[]
}

/** A process that a signal ended. */
const ENDED = /^ORACLE script end rc=(?!0$)/m

export interface CompareOptions {
  /** Errata of the model; those of the kernel that the peer names where it is left out. */
  readonly profile?: string
}

const answersIn = (transcript: string): number =>
  transcript.split('\n').filter((line) => line.includes(' => ')).length

/**
 * A process of the peer ended before its script did: so must the model's, at the same command. Undefined where both
 * did, or where the model does not know.
 */
function endedOtherwise(
  head: string,
  script: AgentScript,
  transcript: string,
  profile: string | undefined,
): Pick<Divergence, 'call' | 'log' | 'model' | 'line'> | undefined {
  const processes = processesOf(script)
  let line = 0
  for (const [i, part] of transcript.split(/(?<=^ORACLE script end .*\n)/m).entries()) {
    line += part.split('\n').length - 1
    const process = processes[i]
    const answered = answersIn(part)
    const command = process?.commands[answered]
    if (process === undefined || command === undefined || !ENDED.test(part)) continue
    const commands = process.commands.slice(0, answered + 1)
    const model = new ModelPeer(head, profile).write({ ...process, commands, before: processes.slice(0, i) })
    const [last] = lastAnswers(model, 1)
    const call = formatAgentCommand(command)
    if (last === undefined || !model.includes(`\n${call} => ${last}\n`) || ENDED.test(model)) return undefined
    return { call, log: 'nothing: the process ended', model: last, line }
  }
  return undefined
}

/** Judges what a peer answered to a script: the model does the same on a host that has just started. */
export function judgeTranscript(
  head: string,
  script: AgentScript,
  transcript: string,
  { profile }: CompareOptions = {},
): Compared {
  const replay = createReplay({
    from: 'kernel-answers',
    source: script.name,
    bare: true,
    isContinued: true,
    ...(profile !== undefined && { profile }),
  })
  replay.push(latin1Bytes(head + transcript))
  const { answers, unjudged, divergences, log } = replay.end()
  const headLines = head.split('\n').length - 1
  const ended = ENDED.test(transcript) ? endedOtherwise(head, script, transcript, profile) : undefined
  const commands = processesOf(script).reduce((n, process) => n + process.commands.length, 0)
  return {
    script,
    transcript,
    equal: answers.matched,
    unjudged: answers.unjudged,
    reasons: unjudged,
    notRun: commands - log.events,
    differences: [
      ...divergences.map((d) => ({ ...d, line: d.line - headLines })),
      ...(ended === undefined ? [] : [{ ...ended, what: 'answer', rule: 'ended' } as const]),
    ],
  }
}

/** Runs a script on a peer and on the model, and compares their answers. */
export async function compareScript(
  peer: ScriptPeer,
  script: AgentScript,
  options: CompareOptions = {},
): Promise<Compared> {
  return judgeTranscript(peer.head, script, await peer.run(script), options)
}

/** How an answer begins: its errno, 0, the code of a hypercall, or that it is a number. */
function beginning(answer: string): string {
  const [value = '', errno = ''] = answer.split(' ')
  if (answer.includes(' EXIT-TO-USER ')) return 'user space'
  if (value.startsWith('-')) return errno === '0' ? value : errno
  return /^[1-9]/.test(value) ? 'a number' : value
}

/** What two answers that begin in the same way have otherwise: their fields by name, where they have the same ones. */
function otherwise(log: string, model: string): string {
  const [theirs, ours] = [log, model].map((answer) => answer.split(' '))
  if (theirs?.length !== ours?.length || theirs?.[0] !== ours?.[0]) return 'values'
  const names = theirs?.map((word, i) => (word === ours?.[i] ? '' : /^(\w+)=/.exec(word)?.[1]))
  return [...new Set(names?.filter((name) => name !== ''))].map((name) => name ?? 'values').join(', ')
}

function contrast(log: string, model: string): string {
  const [theirs, ours] = [beginning(log), beginning(model)]
  return theirs === ours ? `${theirs} with other ${otherwise(log, model)}` : `${theirs} against ${ours}`
}

/** The command, and which hypercall it makes. */
const asked = (call: string): string => /^(?:hcall )?\S+/.exec(call)?.[0] ?? call

/**
 * What makes two differences the same one: the command, how each side's answer begins or which fields differ, and the model's rule. Amounts
 * may change while a script becomes smaller.
 */
export const differenceKind = ({ call, log, model, rule }: Divergence): string =>
  `${asked(call)}: ${contrast(log, model)} (${rule})`

/** One answer of each side. */
export interface BothSides {
  readonly command: string
  readonly peer: string
  readonly model: string
}

/** A difference with the smallest script that shows it, and what both sides say of their state there. */
export interface SmallestDifference {
  readonly kind: string
  readonly difference: Divergence
  readonly script: AgentScript
  /** Nothing can be left out of the script; false where that took too many tries. */
  readonly isMinimal: boolean
  readonly tries: number
  /** Answers of both sides to questions that are asked behind the script. */
  readonly state: readonly BothSides[]
}

/** Scripts that are run to make one smaller. */
const TRIES_MAX = 400

/** Entries of a guest's table that are asked for. */
const ENTRIES_ASKED = 8

/** Questions about the state behind a difference. They change no answer. */
const questions = (commands: AgentScript['commands']): AgentScript['commands'] => [
  agentCommandOf('vmlck', {}),
  agentCommandOf('info', {}),
  agentCommandOf('groupstatus', { group: 0 }),
  agentCommandOf('groupstatus', { group: 1 }),
  ...commands
    .filter(({ name }) => name === 'tce64' || name === 'tce32')
    .map((_, table) => agentCommandOf('tcedump', { table, first: 0n, entries: ENTRIES_ASKED })),
]

/** The answers of a transcript's last commands. */
function lastAnswers(transcript: string, count: number): string[] {
  const lines = transcript.split('\n').flatMap((line) => {
    const arrow = line.lastIndexOf(' => ')
    return arrow < 0 ? [] : [line.trimEnd().slice(arrow + 4)]
  })
  return lines.slice(-count)
}

/**
 * Makes the script of a difference as small as it can be, and asks both sides for their state behind it. Undefined
 * where the difference does not show a second time.
 */
export async function smallest(
  peer: ScriptPeer,
  { script, differences: [first], transcript }: Compared,
  options: CompareOptions = {},
): Promise<SmallestDifference | undefined> {
  if (first === undefined) return undefined
  const kind = differenceKind(first)
  let latest: Divergence | undefined
  const fails = async (commands: AgentScript['commands']): Promise<boolean> => {
    const { differences } = await compareScript(peer, { ...script, commands }, options)
    const same = differences.find((d) => differenceKind(d) === kind)
    if (same !== undefined) latest = same
    return same !== undefined
  }
  const answersUpTo = answersIn(transcript.split('\n').slice(0, first.line).join('\n'))
  const { before = [] } = script
  const answersBefore = before.reduce((n, { commands }) => n + commands.length, 0)
  const upTo = script.commands.slice(0, Math.max(0, answersUpTo - answersBefore))
  const whole = (await fails(upTo)) ? upTo : script.commands
  if (latest === undefined && !(await fails(whole))) return undefined
  const shrunk = await shrink(whole, fails, TRIES_MAX)
  const small = { ...script, commands: shrunk.items }
  const behind = questions(small.commands)
  const longer = { name: small.name, before, commands: [...small.commands, ...behind] }
  const [real, modelled] = [await peer.run(longer), new ModelPeer(peer.head, options.profile).write(longer)]
  const [theirs, ours] = [lastAnswers(real, behind.length), lastAnswers(modelled, behind.length)]
  return {
    kind,
    difference: latest ?? first,
    script: small,
    isMinimal: shrunk.isMinimal,
    tries: shrunk.tries,
    state: behind.map((question, i) => ({
      command: formatAgentCommand(question),
      peer: theirs[i] ?? '',
      model: ours[i] ?? '',
    })),
  }
}
