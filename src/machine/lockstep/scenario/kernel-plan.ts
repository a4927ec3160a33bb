import type { Answer } from '../../../bits/answer.ts'
import { assert, IommulatorError } from '../../../bits/errors.ts'
import { U64_MAX } from '../../../bits/u64.ts'
import { Judge } from '../../../check/judge.ts'
import { PROC_FORK } from '../../../memory/proc-calls.ts'
import { type AgentCommand, agentCommandOf } from '../../../reader/kernel-answers-line.ts'
import { completeArguments } from '../../arguments.ts'
import { createMachine } from '../../create-machine.ts'
import type { Machine } from '../../machine.ts'
import type { PowernvDescription } from '../../powernv/description.ts'
import { Agent } from '../../replay/kernel-answers-agent.ts'
import { FIRST_PROCESS } from '../../replay/kernel-answers-host.ts'
import type { AgentSaid } from '../../replay/kernel-answers-said.ts'
import type { Scenario, Step } from '../../scenario/scenario.ts'
import { type AgentScript, scriptName } from '../agent-script.ts'
import { hostOf } from '../model-peer.ts'
import type { RandomGroup } from '../random-script.ts'
import { declarationOf } from './declaration.ts'
import { DeviceBuffers } from './device-buffers.ts'
import { dumpName, dumpScript, loadScript } from './device-scripts.ts'
import { kernelMachineFaults, peerDevices } from './kernel-machine.ts'
import type { Args, Translated } from './kernel-step.ts'
import { KERNEL_STEPS } from './kernel-steps.ts'
import { AgentVariables, type PeerDevices } from './kernel-variables.ts'
import { KernelWatch } from './kernel-watch.ts'
import type { LeftOut } from './plan.ts'

/** A step that the agent does. */
export interface AskedStep {
  /** From 1 on. */
  readonly step: number
  /** The command of the script that answers it; undefined where none does. */
  readonly at: number | undefined
  /** Fields of that command's answer, by the outputs that they show. */
  readonly outputs: Readonly<Record<string, string>>
  /** The process behind the script that shows the bytes that a device read, and where they lie among all it shows. */
  readonly read?: { readonly process: string; readonly at: number; readonly bytes: number }
}

/** A scenario as the agent of the kernel peer does it. */
export interface KernelPlan {
  readonly scenario: Scenario
  readonly script: AgentScript
  readonly asked: readonly AskedStep[]
  readonly leftOut: readonly LeftOut[]
  /** What the scenario's own machine answers, step by step. */
  readonly answers: readonly (Answer | undefined)[]
}

type Done = Exclude<Translated, string>

/** Findings of the model behind which nobody knows what a real host does. */
const DANGERS = ['host-memory-corruption', 'foreign-memory'] as const
const AGENT = 'agent'

/** Arguments in which two ways to write them are the same, and defaults are applied. */
function completed({ operation: { verb, call, args } }: Step): Args | string {
  const decl = declarationOf('powernv', verb, call)
  if (decl === undefined) return `the agent has no command for ${verb} ${call}`
  return completeArguments(decl, args)
}

/** An argument that the agent does not pass on, and that is not as where it is left out. */
function strangeArgument(
  { operation: { verb, call, args } }: Step,
  carries: readonly string[],
): string | undefined {
  const decl = declarationOf('powernv', verb, call)
  const strange = Object.entries(args).find(([name, value]) => {
    if (name === 'process' || carries.includes(name)) return false
    const initial = decl?.args[name]?.initial
    return initial === undefined || BigInt(initial) !== BigInt(value as bigint)
  })
  return strange === undefined ? undefined : `the agent does not pass \`${strange[0]}\``
}

/** One pass over a scenario: what its own machine answers, and what the agent would on the peer's. */
class Pass {
  readonly #scenario: Scenario
  readonly #name: string
  readonly #skipped: ReadonlyMap<number, string>
  readonly #own = new AgentVariables()
  readonly #devices: PeerDevices
  readonly #buffers = new DeviceBuffers()
  readonly #machine: Machine
  readonly #agent: Agent
  readonly #judge = new Judge({ rules: DANGERS })
  readonly #watch = new KernelWatch()
  readonly #commands: AgentCommand[] = []
  readonly #asked: AskedStep[] = []
  readonly #leftOut: LeftOut[] = []
  readonly #answers: (Answer | undefined)[] = []
  readonly #process: string | undefined
  #hasEnded = false

  constructor(
    scenario: Scenario,
    name: string,
    head: string,
    groups: readonly RandomGroup[],
    skipped: ReadonlyMap<number, string>,
  ) {
    const description = scenario.machine as PowernvDescription
    this.#scenario = scenario
    this.#name = name
    this.#skipped = skipped
    this.#process = description.processes[0]?.name
    this.#devices = peerDevices(description, groups)
    this.#machine = createMachine(description)
    const host = hostOf(head, undefined)
    const peer = createMachine(host.description, { watch: (log) => this.#judge.attach(log) })
    peer.perform({
      verb: PROC_FORK.verb,
      call: PROC_FORK.name,
      args: { child: AGENT },
      by: { process: FIRST_PROCESS },
    })
    this.#agent = new Agent(peer, AGENT, host.others)
    for (const { operation } of scenario.steps) this.#reserve(operation)
  }

  /** The plan, or the step that must not be done. */
  run(): KernelPlan | { readonly step: number; readonly why: string } {
    const { steps } = this.#scenario
    for (const command of this.#limits()) this.#do(command)
    for (const [i, step] of steps.entries()) {
      const danger = this.#step(step, i + 1)
      if (danger !== undefined) return { step: i + 1, why: danger }
    }
    for (const command of this.#watch.questions()) this.#do(command)
    return {
      scenario: this.#scenario,
      script: this.#script(),
      asked: this.#asked,
      leftOut: this.#leftOut,
      answers: this.#answers,
    }
  }

  #reserve({ verb, call, args: { device, data } }: Step['operation']): void {
    if (verb !== 'dma' || call !== 'write' || typeof data !== 'string') return
    const peer = this.#devices.device(device as string)
    if (peer !== undefined) this.#buffers.reserve(peer.address, data)
  }

  /** What the first process of the scenario may lock, where that matters. */
  #limits(): AgentCommand[] {
    const { processes } = this.#scenario.machine as PowernvDescription
    const [first] = processes
    const changes = ({ operation: { verb, call } }: Step) =>
      verb === 'proc' && (call === 'setrlimit' || call === 'capset')
    if (first === undefined) return []
    if (first.memlockBytes === U64_MAX && !this.#scenario.steps.some(changes)) return []
    return [
      agentCommandOf('rlimit', { bytes: first.memlockBytes }),
      ...(first.hasIpcLock ? [] : [agentCommandOf('dropcap', {})]),
    ]
  }

  /** Does a step on both machines. A text says why the peer must not do it. */
  #step(step: Step, number: number): string | undefined {
    const told = this.#translate(step, number)
    const answer = this.#perform(step)
    this.#answers.push(answer)
    const fd = answer?.outputs['fd'] ?? answer?.outputs['device_fd']
    if (typeof told === 'string') {
      const { verb, call } = step.operation
      this.#leftOut.push({ step: number, path: ['steps', number - 1], what: `${verb} ${call}`, why: told })
      if (typeof fd === 'bigint') this.#own.bind(fd, { kind: 'missing', step: number })
      return undefined
    }
    const danger = this.#doAll(told, answer)
    if (danger !== undefined) return danger
    this.#note(step, number, told)
    if (typeof fd === 'bigint' && told.made !== undefined) this.#own.bind(fd, told.made)
    return undefined
  }

  #translate(step: Step, number: number): Translated {
    const { verb, call, args, by } = step.operation
    const skipped = this.#skipped.get(number)
    if (skipped !== undefined) return skipped
    const actor = by?.process ?? (args['process'] as string | undefined) ?? this.#process
    if (actor !== this.#process) return `the agent is one process, ${this.#process}`
    if (this.#hasEnded) return 'the agent has ended'
    const known = KERNEL_STEPS[`${verb} ${call}`]
    if (known === undefined) return `the agent has no command for ${verb} ${call}`
    const complete = completed(step)
    if (typeof complete === 'string') return complete
    const strange = strangeArgument(step, known.carries)
    if (strange !== undefined) return strange
    const told = known.to({ own: this.#own, devices: this.#devices, buffers: this.#buffers }, complete)
    if (typeof told === 'string') return told
    const tooMuch = told.commands.map((c) => this.#watch.tooMuch(c)).find((why) => why !== undefined)
    if (tooMuch !== undefined) return tooMuch
    const locked = known.locks === true ? [agentCommandOf('vmlck', {})] : []
    const asked = told.asked ?? told.commands.length - 1
    return { ...told, commands: [...told.commands, ...locked], asked }
  }

  /** What the scenario's machine answers; undefined where the step cannot be done there at all. */
  #perform({ operation }: Step): Answer | undefined {
    try {
      return this.#machine.perform(operation)
    } catch (error) {
      if (!(error instanceof IommulatorError)) throw error
      return undefined
    }
  }

  #doAll({ commands }: Done, answer: Answer | undefined): string | undefined {
    for (const command of commands) {
      const said = this.#do(command)
      if (said.state === 'refused') return `the agent does not take \`${command.name}\` here`
      if (said.state === 'died') return `it would end the agent: ${said.why}`
      const failed = said.state === 'answered' && said.answer.value < 0n
      if (failed && command.name === 'anon' && answer?.code === 'OK') {
        return 'the agent does not map memory over what is there'
      }
      const [found] = this.#judge.findings
      if (found !== undefined) return `a real host may not live on: ${found.rule}`
    }
    return undefined
  }

  #do(command: AgentCommand): AgentSaid {
    this.#commands.push(command)
    const said = this.#agent.run(command, this.#commands.length)
    this.#watch.see(command, said)
    return said
  }

  #note({ operation: { verb, call } }: Step, step: number, told: Done): void {
    const { commands, asked = -1, read, whenDone } = told
    const first = this.#commands.length - commands.length
    const outputs = KERNEL_STEPS[`${verb} ${call}`]?.outputs ?? {}
    const at = asked < 0 ? undefined : first + asked
    const shown = read && { read: { process: dumpName(read.address), at: read.at, bytes: read.bytes } }
    this.#asked.push({ step, at, outputs, ...shown })
    whenDone?.()
    if (verb === 'proc' && call === 'exit') this.#hasEnded = true
    const table = commands.find(({ name }) => name === 'tce64' || name === 'tce32')
    if (table !== undefined) this.#own.tables = this.#watch.tables
  }

  #script(): AgentScript {
    const used = this.#buffers.devices.flatMap((address) => this.#devices.at(address) ?? [])
    const before = used.flatMap((d) => loadScript(d, this.#buffers.loadOf(d.device)))
    const after = used.flatMap((d) => dumpScript(d, this.#buffers.readEnd(d.device)))
    return { name: scriptName(this.#name), commands: this.#commands, before, after }
  }
}

/**
 * A scenario of kind `powernv` as commands of the agent.
 *
 * Steps run on two machines: on the scenario's own, which knows what each descriptor stands for, and on the peer's,
 * which knows what the agent would answer. A step that would make a real host's memory undefined is left out, and so
 * is what ends the agent.
 *
 * @param name what its script is called
 * @param head what the peer's host says of itself
 * @param groups groups of that host with a device that does DMA
 */
export function planKernel(
  scenario: Scenario,
  name: string,
  head: string,
  groups: readonly RandomGroup[],
): KernelPlan {
  assert(scenario.machine.kind === 'powernv', 'the scenario is of a POWER host')
  const faults = kernelMachineFaults(scenario.machine, groups)
  const skipped = new Map<number, string>()
  for (;;) {
    const made = new Pass(scenario, name, head, groups, skipped).run()
    if (!('why' in made)) return { ...made, leftOut: [...faults, ...made.leftOut] }
    skipped.set(made.step, made.why)
  }
}
