import type { Answer } from '../../../bits/answer.ts'
import { assert, IommulatorError } from '../../../bits/errors.ts'
import { completeArguments } from '../../arguments.ts'
import { createMachine } from '../../create-machine.ts'
import type { Machine } from '../../machine.ts'
import type { Q35Description } from '../../q35/description.ts'
import type { Scenario, Step } from '../../scenario/scenario.ts'
import { scriptName } from '../agent-script.ts'
import { VtdModel } from '../vtd-model.ts'
import { type VtdDeviceName, type VtdScript, type VtdStep, vtdScriptRefusal } from '../vtd-step.ts'
import { declarationOf } from './declaration.ts'
import { DeviceBuffers } from './device-buffers.ts'
import type { LeftOut } from './plan.ts'
import { type Q35PeerMachine, q35PeerMachine } from './q35-machine.ts'
import { paddedWords, type Q35Translated, q35Call, q35Dma } from './q35-steps.ts'

/** A step of a scenario that the peer does. */
export interface AskedQ35Step {
  /** From 1 on. */
  readonly step: number
  /** The step of the script that it became. */
  readonly at: number
  /** What the device read, and where in its buffer it lies. */
  readonly read?: { readonly device: VtdDeviceName; readonly at: number; readonly bytes: number }
}

/** A scenario as steps of the VT-d peer. */
export interface Q35Plan {
  readonly scenario: Scenario
  readonly script: VtdScript
  readonly asked: readonly AskedQ35Step[]
  /** The step of the scenario that each step of the script is of; 0 before the first, one more behind the last. */
  readonly of: readonly number[]
  /** Steps of the script that show the buffers of devices that have read something. */
  readonly shows: ReadonlyMap<VtdDeviceName, number>
  readonly leftOut: readonly LeftOut[]
  /** What the scenario's own machine answers, step by step. */
  readonly answers: readonly (Answer | undefined)[]
}

/** Where bytes on their way to and from the buffers of devices lie: the last page of memory. */
const STAGE = 0x3ff_f000
const GCMD = 0x18

/** Fills the buffer of a device through a unit that is still off, and leaves memory as it was. */
const loading = (device: VtdDeviceName, bytes: Uint8Array): VtdStep[] => {
  const words = paddedWords(bytes)
  return [
    { kind: 'word', gpa: STAGE, words },
    { kind: 'dma', device, direction: 'read', iova: BigInt(STAGE), bytes: bytes.length },
    { kind: 'word', gpa: STAGE, words: words.map(() => 0n) },
  ]
}

class Pass {
  readonly #scenario: Scenario
  readonly #on: Q35PeerMachine
  readonly #unitName: string
  readonly #version: string
  readonly #name: string
  readonly #skipped: ReadonlyMap<number, string>
  readonly #machine: Machine
  readonly #buffers = new DeviceBuffers()
  readonly #steps: VtdStep[] = []
  readonly #asked: AskedQ35Step[] = []
  readonly #leftOut: LeftOut[] = []
  readonly #answers: (Answer | undefined)[] = []
  readonly #of: number[] = []

  constructor(
    {
      scenario,
      name,
      version,
    }: { readonly scenario: Scenario; readonly name: string; readonly version: string },
    on: Q35PeerMachine,
    skipped: ReadonlyMap<number, string>,
  ) {
    this.#scenario = scenario
    this.#name = name
    this.#version = version
    this.#on = on
    this.#unitName = (scenario.machine as Q35Description).iommu.name
    this.#skipped = skipped
    this.#machine = createMachine(scenario.machine)
    for (const [i, { operation }] of scenario.steps.entries()) {
      const { device, data } = operation.args
      const called = on.devices.get(device as string)?.called
      const isWrite = operation.verb === 'dma' && operation.call === 'write' && typeof data === 'string'
      if (isWrite && called !== undefined && !skipped.has(i + 1)) this.#buffers.reserve(called, data)
    }
  }

  /** The plan, or the step that must not be done. */
  run(): Q35Plan | { readonly step: number; readonly why: string } {
    for (const device of this.#buffers.devices as VtdDeviceName[])
      this.#add(0, loading(device, this.#buffers.loadOf(device)))
    for (const [i, step] of this.#scenario.steps.entries()) this.#step(step, i + 1)
    const shows = this.#showing(this.#scenario.steps.length + 1)
    const places = [...this.#on.devices.values()].map(({ called, source }) => [called, source])
    const script: VtdScript = {
      name: scriptName(this.#name),
      unit: this.#on.unit,
      devices: Object.fromEntries(places),
      steps: this.#steps,
    }
    const danger = this.#danger(script)
    if (danger !== undefined) return danger
    return {
      scenario: this.#scenario,
      script,
      asked: this.#asked,
      of: this.#of,
      shows,
      leftOut: this.#leftOut,
      answers: this.#answers,
    }
  }

  #add(step: number, steps: readonly VtdStep[]): void {
    for (const one of steps) {
      this.#steps.push(one)
      this.#of.push(step)
    }
  }

  #step(step: Step, number: number): void {
    const { verb, call } = step.operation
    let answer: Answer | undefined
    try {
      answer = this.#machine.perform(step.operation)
    } catch (error) {
      if (!(error instanceof IommulatorError)) throw error
    }
    this.#answers.push(answer)
    const told = this.#skipped.get(number) ?? this.#translate(step)
    if (typeof told === 'string') {
      this.#leftOut.push({ step: number, path: ['steps', number - 1], what: `${verb} ${call}`, why: told })
      return
    }
    this.#add(number, [told.step])
    this.#asked.push({ step: number, at: this.#steps.length - 1, ...(told.read && { read: told.read }) })
  }

  #translate({ operation: { verb, call, args: given } }: Step): Q35Translated {
    const decl = declarationOf('q35', verb, call)
    const none = `the peer has no step for ${verb} ${call}`
    if (decl === undefined) return none
    const args = completeArguments(decl, given)
    if (verb !== 'dma') return q35Call(verb, call, args, this.#unitName) ?? none
    const device = this.#on.devices.get(args['device'] as string)?.called
    if (device === undefined) return 'the peer has no such device'
    return q35Dma(args, call === 'write', device, this.#buffers)
  }

  /** Shows what devices have read, once the unit is off. */
  #showing(step: number): ReadonlyMap<VtdDeviceName, number> {
    const shows = new Map<VtdDeviceName, number>()
    for (const device of this.#buffers.devices as VtdDeviceName[]) {
      const bytes = this.#buffers.readEnd(device)
      if (bytes === 0) continue
      if (shows.size === 0) this.#add(step, [{ kind: 'reg', offset: GCMD, widthBytes: 4, value: 0n }])
      this.#add(step, [
        { kind: 'dma', device, direction: 'write', iova: BigInt(STAGE), bytes },
        { kind: 'peek', gpa: STAGE, bytes },
      ])
      shows.set(device, this.#steps.length - 1)
    }
    return shows
  }

  /** The first step that would end QEMU, or that it cannot be asked. */
  #danger(script: VtdScript): { readonly step: number; readonly why: string } | undefined {
    const refused = vtdScriptRefusal(script)
    if (refused !== undefined) return { step: this.#of[refused.at] as number, why: refused.why }
    const answers = new VtdModel(this.#version).answers(script)
    const dead = answers.findIndex((answer) => answer?.startsWith('dead: ') === true)
    return dead < 0 ? undefined : { step: this.#of[dead] as number, why: 'it would end QEMU' }
  }
}

/**
 * A scenario of kind `q35` as steps of the peer with QEMU's VT-d unit.
 *
 * Steps run on the scenario's own machine, too. Steps that end QEMU, or that it cannot be asked, are left out.
 *
 * @param name what its script is called
 * @param version of the QEMU, such as `7.2.22`
 * @throws IommulatorError ERR_PROFILE where the errata of that QEMU are not known
 */
export function planQ35(scenario: Scenario, name: string, version: string): Q35Plan {
  assert(scenario.machine.kind === 'q35', 'the scenario is of a q35')
  const on = q35PeerMachine(scenario.machine, version)
  const skipped = new Map<number, string>()
  for (;;) {
    const made = new Pass({ scenario, name, version }, on, skipped).run()
    if (!('why' in made)) return { ...made, leftOut: [...on.faults, ...made.leftOut] }
    assert(made.step > 0 && !skipped.has(made.step), 'the step is one of the scenario')
    skipped.set(made.step, made.why)
  }
}
