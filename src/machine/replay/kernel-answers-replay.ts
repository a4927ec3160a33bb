import { resolveProfile } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { U64_MAX } from '../../bits/u64.ts'
import { POWERNV_MACHINE } from '../../check/coverage.ts'
import { Judge } from '../../check/judge.ts'
import type { Finding } from '../../check/rule.ts'
import { PROC_EXIT, PROC_FORK } from '../../memory/proc-calls.ts'
import type { AnswerValue } from '../../reader/agent-command.ts'
import type { AgentCommandName } from '../../reader/kernel-answers-format.ts'
import {
  type AgentAnswer,
  type AgentCommand,
  type AgentLine,
  formatAgentCommand,
  formatAgentLine,
} from '../../reader/kernel-answers-line.ts'
import { KernelAnswersReader, type TranscriptEntry } from '../../reader/kernel-answers-reader.ts'
import { LedgerCounter } from '../../report/ledger.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import { createMachine } from '../create-machine.ts'
import type { Machine } from '../machine.ts'
import { ERRATA } from '../registry.ts'
import { Agent } from './kernel-answers-agent.ts'
import { BEARINGS, type Bearing, type Cause, Doubts, type Topic } from './kernel-answers-doubt.ts'
import { FIRST_PROCESS, HostList, type ListedHost, MEMLOCK_BYTES } from './kernel-answers-host.ts'
import type { AgentSaid } from './kernel-answers-said.ts'
import { KEEP_RECORDS, type LogReplay, type ReplayOptions } from './log-source.ts'
import type { ReplayResult } from './result.ts'
import { Tally } from './tally.ts'

type CommandEntry = Extract<TranscriptEntry, { kind: 'command' }>
type MarkEntry = Extract<TranscriptEntry, { kind: 'mark' }>

/** The host of a transcript, from its first command on. */
interface Host {
  readonly machine: Machine
  readonly listed: ListedHost
}

/** The text of an answer as a transcript has it. */
const answerText = (line: AgentLine): string =>
  formatAgentLine(line).slice(formatAgentCommand(line.command).length + ' => '.length)

const isSameValue = (a: AnswerValue, b: AnswerValue | undefined): boolean =>
  Array.isArray(a)
    ? Array.isArray(b) && a.length === b.length && a.every((word, i) => word === b[i])
    : a === b

const isSame = (a: AgentAnswer, b: AgentAnswer, free: readonly string[] = []): boolean =>
  a.value === b.value &&
  a.errno === b.errno &&
  Object.keys(a.fields).length === Object.keys(b.fields).length &&
  Object.entries(a.fields).every(([name, value]) =>
    free.includes(name) ? Object.hasOwn(b.fields, name) : isSameValue(value, b.fields[name]),
  )

/** Letters, digits and a few marks of a script's name: what a process is called in records. */
const wordOf = (script: string): string =>
  script
    .replace(/\.txt$/, '')
    .replaceAll(/[^\w.-]/g, '_')
    .slice(0, 40)

/**
 * Re-runs a transcript of kernel answers: each command is done by the same program on a modelled host, and what it
 * prints is compared with the line. A script is a process; the host lives on from one to the next.
 *
 * @example
 * const replay = new KernelAnswersReplay({ from: 'kernel-answers', source: 'a.log' })
 * replay.push(bytes)
 * replay.end().answers // { total: 340, matched: 203, ... }
 */
export class KernelAnswersReplay implements LogReplay {
  readonly #options: ReplayOptions
  readonly #judge = new Judge()
  readonly #counter = new LedgerCounter(this.#judge)
  readonly #tally: Tally
  readonly #doubts = new Doubts()
  readonly #list = new HostList()
  readonly #reader: KernelAnswersReader
  readonly #names = new Set<string>([FIRST_PROCESS])
  #host: Host | undefined
  #agent: Agent | undefined
  #script = 'agent'
  #line = 0
  /** Why nothing is replayed any more. */
  #stopped: string | undefined
  /** For how many bytes from its start the contents of a device's buffer are known; all where it is not listed. */
  readonly #bufferBytes = new Map<string, bigint>()
  #isLimited = false
  #hasRlimit = false

  /** @throws IommulatorError ERR_PROFILE for an unknown profile */
  constructor(options: ReplayOptions) {
    this.#options = options
    this.#tally = new Tally(options.onAnswer)
    if (options.profile !== undefined) resolveProfile(ERRATA, options.profile)
    this.#reader = new KernelAnswersReader({ take: (entry) => this.#take(entry) })
  }

  get events(): number {
    return this.#reader.events
  }

  get log(): RecordLog {
    return this.#begin().machine.log
  }

  push(bytes: Uint8Array): void {
    this.#reader.push(bytes)
  }

  end(): ReplayResult {
    const summary = this.#reader.end()
    const { machine, listed } = this.#begin()
    // A transcript that stops does not say that its program has ended.
    machine.log.emit('run.end', null, { settled: 0 })
    if (this.#options.bare !== true) this.#judge.finish()
    const tally = this.#tally
    return {
      source: this.#options.source,
      from: this.#options.from,
      profile: listed.profile,
      log: summary,
      answers: tally.answers,
      translations: tally.translations,
      entries: tally.entries,
      unjudged: tally.unjudged,
      assumptions: tally.assumptions,
      divergences: tally.divergences,
      findings: this.#judge.findings.map((f) => this.#qualified(f)),
      findingsDropped: this.#judge.dropped,
      verdicts: this.#options.bare === true ? [] : this.#judge.verdicts(POWERNV_MACHINE),
      ledger: this.#counter.ledger(),
    }
  }

  /** A finding that rests on lines in which the model did not know all. */
  #qualified(finding: Finding): Finding {
    const isDoubtful = finding.because.some(({ line }) => this.#doubts.covers(line))
    return isDoubtful ? { ...finding, inferred: true } : finding
  }

  #begin(): Host {
    if (this.#host !== undefined) return this.#host
    const { profile, source, bare, watch } = this.#options
    const listed = this.#list.describe(profile, Math.max(1, this.#line), this.#tally)
    const machine = createMachine(listed.description, {
      source,
      keepRecords: KEEP_RECORDS,
      watch: (log) => {
        watch?.(log)
        if (bare === true) return
        this.#judge.attach(log)
        this.#counter.attach(log)
      },
    })
    this.#host = { machine, listed }
    if (this.#options.isContinued === true) {
      for (const device of listed.modelled) this.#bufferBytes.set(device, 0n)
      this.#doubts.addForEver(['buffer'], { what: 'the start', line: Math.max(1, this.#line) })
    }
    return this.#host
  }

  #take(entry: TranscriptEntry): void {
    this.#line = entry.line
    switch (entry.kind) {
      case 'mark':
        this.#mark(entry)
        return
      case 'damaged':
        this.#damaged(entry.name, entry.line)
        return
      case 'unknown':
        if (!entry.isRefused)
          this.#doubts.addAll({ what: `the unknown command ${entry.name}`, line: entry.line })
        return
      case 'command':
        this.#command(entry)
        return
      default:
    }
  }

  #mark({ mark, fields, line }: MarkEntry): void {
    switch (mark) {
      case 'kernel':
        if (this.#host === undefined) this.#list.addKernel(fields['release'] as string, line)
        else this.#stop('the host booted again; replay what follows as a log of its own')
        return
      case 'pci':
      case 'pciWithoutGroup':
        if (this.#host !== undefined) return
        this.#list.addDevice({
          line,
          address: fields['device'] as string,
          vendorId: fields['vendorId'] as bigint,
          deviceId: fields['deviceId'] as bigint,
          group: fields['group'] as bigint | undefined,
        })
        return
      case 'script':
      case 'live':
        this.#endProcess()
        this.#script = mark === 'live' ? 'live' : (fields['script'] as string)
        return
      default:
        this.#endProcess()
    }
  }

  /** The program ends: its files are closed, its memory goes. */
  #endProcess(): void {
    const agent = this.#agent
    this.#agent = undefined
    this.#script = 'agent'
    if (agent !== undefined && this.#stopped === undefined) {
      const { process } = agent
      this.#guarded(() =>
        this.#begin().machine.perform({
          verb: PROC_EXIT.verb,
          call: PROC_EXIT.name,
          args: {},
          by: { process },
          line: this.#line,
        }),
      )
    }
    this.#isLimited = false
    this.#hasRlimit = false
    this.#doubts.processEnds(this.#line)
  }

  /** The program that runs now, begun where there is none. */
  #running(): Agent | undefined {
    if (this.#agent !== undefined) return this.#agent
    const { machine, listed } = this.#begin()
    const word = wordOf(this.#script)
    let name = word
    for (let again = 2; this.#names.has(name); again++) name = `${word}-${again}`
    this.#names.add(name)
    const forked = machine.perform({
      verb: PROC_FORK.verb,
      call: PROC_FORK.name,
      args: { child: name },
      by: { process: FIRST_PROCESS },
      line: this.#line,
    })
    if (forked.code !== 'OK') {
      this.#stop('the modelled host has no room for more processes')
      return undefined
    }
    this.#agent = new Agent(machine, name, listed.others)
    return this.#agent
  }

  #stop(why: string): void {
    if (this.#stopped !== undefined) return
    this.#stopped = why
    this.#tally.assume(this.#line, `not replayed from here on: ${why}`)
  }

  #damaged(name: AgentCommandName | undefined, line: number): void {
    const cause = { what: 'a damaged line', line }
    if (name === undefined) this.#doubts.addAll(cause)
    else if (name === 'sh') this.#doubts.addForEver(BEARINGS.sh.changes, cause)
    else this.#doubts.add(BEARINGS[name].changes, cause)
  }

  #command(entry: CommandEntry): void {
    const { command, answer, line } = entry
    if (this.#stopped !== undefined) {
      this.#tally.leave(this.#stopped, line)
      return
    }
    if (answer === undefined && command.name !== 'dma') {
      this.#tally.leave(REFUSED, line)
      return
    }
    this.#guarded(() => {
      const agent = this.#running()
      if (agent === undefined) this.#tally.leave(this.#stopped ?? '', line)
      else this.#judgeAnswer(entry, agent)
    })
  }

  /** Does something that may be too much for the model: nothing is known then. */
  #guarded(act: () => unknown): void {
    try {
      act()
    } catch (error) {
      if (!(error instanceof IommulatorError)) throw error
      this.#tally.leave('too much for the model', this.#line)
      this.#stop(error.message)
    }
  }

  #judgeAnswer(entry: CommandEntry, agent: Agent): void {
    const { command, answer, line } = entry
    const bearing = this.#bearing(command, line)
    const doubt = this.#doubts.reason(bearing.on)
    const said = agent.run(command, line)
    if (doubt !== undefined) this.#doubts.spread(bearing, doubt.cause)
    if (command.name === 'dma') this.#noteBuffer(command, agent, doubt !== undefined)
    if (command.name === 'dropcap') this.#isLimited = true
    if (command.name === 'rlimit') this.#hasRlimit = true
    if (said.state === 'unmodelled') {
      this.#tally.leave(said.why, line)
      this.#noteUnmodelled(entry, said.isWild === true)
    } else if (doubt !== undefined) this.#tally.leave(`rests on ${doubt.text}`, line)
    else if (isMemoryOfHost(entry, said)) {
      this.#tally.leave('rests on how much memory the host has, which the log does not show', line)
      this.#doubts.add(bearing.changes, { what: 'anon', line })
    } else if (isAsSaid(said, answer)) this.#tally.match(line)
    else this.#diverge(entry, said)
  }

  /** The bearing of a command, as far as the state of the program decides it. */
  #bearing(command: AgentCommand, line: number): Bearing {
    const { name, args } = command
    const bearing = BEARINGS[name]
    const { on } = bearing
    if (name === 'dma') {
      // Where no DMA freezes a PE, none changes what comes after it.
      const state: Topic[] = this.#begin().machine.profile.has('Q13') ? [] : ['device']
      if (args['direction'] === 'r') return { on, changes: [...state, 'buffer'] }
      const known = this.#bufferBytes.get(this.#agent?.device ?? '') ?? U64_MAX
      const isKnown = bufferEnd(args) <= known
      return { on: isKnown ? on : [...on, 'buffer'], changes: [...state, 'memory'] }
    }
    if (!this.#isLimited || !on.includes('limits')) return bearing
    if (!this.#hasRlimit) {
      this.#hasRlimit = true
      this.#tally.assume(line, `RLIMIT_MEMLOCK is ${MEMLOCK_BYTES >> 20n} MiB, what the kernel starts with`)
    }
    return { ...bearing, on: [...on, 'locked'] }
  }

  /** A device has read memory: its buffer holds what the model thinks, or nobody knows what. */
  #noteBuffer({ args }: AgentCommand, { device }: Agent, isDoubtful: boolean): void {
    if (device === undefined || args['direction'] !== 'r') return
    const known = this.#bufferBytes.get(device)
    const at = args['at'] as bigint
    if (isDoubtful) this.#bufferBytes.set(device, at < (known ?? U64_MAX) ? at : (known as bigint))
    else if (known !== undefined && at <= known && bufferEnd(args) > known) {
      this.#bufferBytes.set(device, bufferEnd(args))
    }
  }

  /** What the model does not have may have changed things. */
  #noteUnmodelled({ command, line }: CommandEntry, isWild: boolean): void {
    const { name } = command
    const { changes } = BEARINGS[name]
    const cause: Cause = { what: name, line }
    if (isWild) {
      this.#doubts.addAll(cause)
      return
    }
    if (name === 'sh') {
      this.#doubts.addForEver(changes, cause)
      return
    }
    this.#doubts.add(changes, cause)
  }

  #diverge({ command, answer, line }: CommandEntry, said: Exclude<AgentSaid, { state: 'unmodelled' }>): void {
    this.#tally.diverge({
      line,
      what: 'answer',
      call: formatAgentCommand(command),
      log: answerText({ command, answer }),
      model:
        said.state === 'died'
          ? `nothing: ${said.why}`
          : answerText({ command, answer: said.state === 'answered' ? said.answer : undefined }),
      rule: said.state === 'answered' ? said.rule : said.state,
    })
  }
}

/** The agent says this of commands that it does not have, and of those whose file, guest or table it has not got. */
const REFUSED = 'the agent refused the command: "? unknown command"'

/** Behind the last byte of the device's buffer that a DMA uses. */
const bufferEnd = (args: AgentCommand['args']): bigint => (args['at'] as bigint) + (args['bytes'] as bigint)

const isAsSaid = (said: AgentSaid, answer: AgentAnswer | undefined): boolean =>
  said.state === 'answered'
    ? answer !== undefined && isSame(said.answer, answer, said.free)
    : said.state === 'refused' && answer === undefined

/** Whether the kernel refused memory that the model gives: it looks at how much there is. */
const isMemoryOfHost = ({ command, answer }: CommandEntry, said: AgentSaid): boolean =>
  command.name === 'anon' &&
  answer?.errno === 'ENOMEM' &&
  said.state === 'answered' &&
  said.answer.value === 0n
