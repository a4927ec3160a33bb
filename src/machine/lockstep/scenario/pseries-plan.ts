import type { Answer } from '../../../bits/answer.ts'
import { hexDigits } from '../../../bits/byte-text.ts'
import { assert, IommulatorError } from '../../../bits/errors.ts'
import { TCE_HCALL_R3 } from '../../../kernel/tce-hcalls.ts'
import type { RecordLog } from '../../../trace/record-log.ts'
import { completeArguments } from '../../arguments.ts'
import { createMachine } from '../../create-machine.ts'
import type { Machine } from '../../machine.ts'
import type { PseriesDescription } from '../../pseries/description.ts'
import type { Scenario, Step } from '../../scenario/scenario.ts'
import { scriptName } from '../agent-script.ts'
import { PSERIES_PROFILE, PseriesModel } from '../pseries-model.ts'
import { PSERIES_FIRMWARE_END, type PseriesScript, type PseriesStep, refusalOf } from '../pseries-step.ts'
import { declarationOf } from './declaration.ts'
import { DeviceBuffers } from './device-buffers.ts'
import type { LeftOut } from './plan.ts'
import { dmaOf, guestCalls, PSERIES_CALLS, type PseriesTranslated, type StepArgs } from './pseries-calls.ts'
import { pageShiftsOf, pseriesMachineFaults } from './pseries-machine.ts'

/** A step of a scenario that the peer does. */
export interface AskedPseriesStep {
  /** From 1 on. */
  readonly step: number
  /** The step of the script that answers it; undefined where none does. */
  readonly at: number | undefined
  /** Where in the shown buffer the bytes lie that the device read. */
  readonly read?: { readonly at: number; readonly bytes: number }
}

/** A scenario as steps of the pseries peer. */
export interface PseriesPlan {
  readonly scenario: Scenario
  readonly script: PseriesScript
  readonly asked: readonly AskedPseriesStep[]
  /** The step that shows the buffer of the device; undefined where it read nothing. */
  readonly shows: number | undefined
  readonly leftOut: readonly LeftOut[]
  /** What the scenario's own machine answers, step by step. */
  readonly answers: readonly (Answer | undefined)[]
}

/** The peer has one device. */
const DEVICE = 'edu'
/** Where bytes on their way to and from the buffer of the device lie. */
const STAGE = 0xfff_0000
const LIOBN = 0x8000_0000n
const { H_PUT_TCE, H_GET_TCE } = TCE_HCALL_R3
const READ_WRITE = 3n
const RESET: PseriesStep = { kind: 'rtas', token: 0x2029, nret: 1, args: [0, 0x0800_0000, 0x2000_0000] }
/** Entries that are looked at behind the last step. */
const ENTRIES_SHOWN = 64

const put: PseriesStep = { kind: 'hcall', registers: [H_PUT_TCE, LIOBN, 0n, BigInt(STAGE) | READ_WRITE] }

/** Fills the buffer of the device, and leaves windows and memory as they were. */
const loading = (bytes: Uint8Array): PseriesStep[] =>
  bytes.length === 0
    ? []
    : [
        { kind: 'poke', gpa: STAGE, data: hexDigits(bytes) },
        put,
        { kind: 'dma', direction: 'read', iova: 0n, bytes: bytes.length },
        RESET,
        { kind: 'poke', gpa: STAGE, data: '00'.repeat(bytes.length) },
      ]

/** Shows the buffer of the device up to a byte. */
const showing = (end: number): PseriesStep[] =>
  end === 0
    ? []
    : [
        RESET,
        put,
        { kind: 'dma', direction: 'write', iova: 0n, bytes: end },
        { kind: 'peek', gpa: STAGE, bytes: end },
      ]

/** The entries that hypercalls of a script touch, to be looked at. */
function entriesOf(steps: readonly PseriesStep[]): PseriesStep[] {
  const looks = new Map<string, PseriesStep>()
  for (const step of steps) {
    if (step.kind !== 'hcall') continue
    const [, liobn, ioba] = step.registers
    if (liobn === undefined || ioba === undefined) continue
    looks.set(`${liobn} ${ioba}`, { kind: 'hcall', registers: [H_GET_TCE, liobn, ioba] })
  }
  return [...looks.values()].slice(-ENTRIES_SHOWN)
}

/** What a step becomes, where the peer may be asked all of it. */
function checked(told: PseriesTranslated): PseriesTranslated {
  if (typeof told === 'string') return told
  return told.steps.map(refusalOf).find((why) => why !== undefined) ?? told
}

class Pass {
  readonly #scenario: Scenario
  readonly #name: string
  readonly #skipped: ReadonlyMap<number, string>
  readonly #machine: Machine
  readonly #buffers = new DeviceBuffers()
  /** Names of virtio devices, which the peer does not have. */
  readonly #virtio: ReadonlySet<string>
  readonly #steps: PseriesStep[] = []
  readonly #asked: AskedPseriesStep[] = []
  readonly #leftOut: LeftOut[] = []
  readonly #answers: (Answer | undefined)[] = []
  /** The step of the scenario that each step of the script is of. */
  readonly #of: number[] = []

  constructor(scenario: Scenario, name: string, skipped: ReadonlyMap<number, string>) {
    this.#scenario = scenario
    this.#name = name
    this.#skipped = skipped
    this.#machine = createMachine(scenario.machine)
    const phbs = scenario.machine.kind === 'pseries' ? scenario.machine.phbs : []
    this.#virtio = new Set(phbs.flatMap(({ virtio }) => virtio.map((d) => d.name)))
    for (const { operation } of scenario.steps) {
      const { data } = operation.args
      if (operation.verb === 'dma' && operation.call === 'write' && typeof data === 'string') {
        this.#buffers.reserve(DEVICE, data)
      }
    }
  }

  /** The plan, or the step that must not be done. */
  run(): PseriesPlan | { readonly step: number; readonly why: string } {
    this.#add(0, loading(this.#buffers.loadOf(DEVICE)))
    for (const [i, step] of this.#scenario.steps.entries()) this.#step(step, i + 1)
    const last = this.#scenario.steps.length
    this.#add(last, entriesOf(this.#steps))
    const end = this.#buffers.readEnd(DEVICE)
    this.#add(last, showing(end))
    const script = this.#script()
    const danger = this.#danger(script)
    if (danger !== undefined) return danger
    return {
      scenario: this.#scenario,
      script,
      asked: this.#asked,
      shows: end === 0 ? undefined : this.#steps.length - 1,
      leftOut: this.#leftOut,
      answers: this.#answers,
    }
  }

  #script(): PseriesScript {
    const pageShifts = pageShiftsOf(this.#scenario.machine as PseriesDescription)
    return {
      name: scriptName(this.#name),
      steps: this.#steps,
      ...(pageShifts !== undefined && { pageShifts }),
    }
  }

  #add(step: number, steps: readonly PseriesStep[]): void {
    for (const one of steps) {
      this.#steps.push(one)
      this.#of.push(step)
    }
  }

  #step(step: Step, number: number): void {
    const { verb, call, args } = step.operation
    const from = this.#machine.log.length
    let answer: Answer | undefined
    try {
      answer = this.#machine.perform(step.operation)
    } catch (error) {
      if (!(error instanceof IommulatorError)) throw error
    }
    this.#answers.push(answer)
    const told = this.#skipped.get(number) ?? this.#translate(step, args, from)
    if (typeof told === 'string') {
      this.#leftOut.push({ step: number, path: ['steps', number - 1], what: `${verb} ${call}`, why: told })
      return
    }
    const { steps, isAnswer = false, read } = told
    this.#add(number, steps)
    const at = isAnswer ? this.#steps.length - 1 : undefined
    this.#asked.push({ step: number, at, ...(read && { read }) })
  }

  #translate({ operation: { verb, call } }: Step, given: StepArgs, from: number): PseriesTranslated {
    if (verb === 'driver') {
      const steps = guestCalls(this.#machine, from)
      return checked(typeof steps === 'string' ? steps : { steps })
    }
    const decl = declarationOf('pseries', verb, call)
    const known = PSERIES_CALLS[`${verb} ${call}`]
    if (decl === undefined || (known === undefined && verb !== 'dma'))
      return `the peer has no step for ${verb} ${call}`
    const args = completeArguments(decl, given)
    if (known !== undefined) return checked(known(args))
    if (this.#virtio.has(args['device'] as string)) return 'the peer has no such device'
    return checked(dmaOf(args, call === 'write', this.#machine, from, this.#buffers, DEVICE))
  }

  /** The first step that would end QEMU, or reach the firmware. */
  #danger(script: PseriesScript): { readonly step: number; readonly why: string } | undefined {
    let log: RecordLog | undefined
    const model = new PseriesModel(PSERIES_PROFILE, (of) => {
      log = of
    })
    const answers = model.answers(script)
    const dead = answers.findIndex((answer) => answer?.startsWith('dead: ') === true)
    const low = log === undefined ? undefined : lowTranslation(log)
    const at = Math.min(dead < 0 ? Number.POSITIVE_INFINITY : dead, low ?? Number.POSITIVE_INFINITY)
    const step = this.#of[at]
    if (step === undefined || step === 0) return undefined
    return { step, why: at === dead ? 'it would end QEMU' : "the device would reach the peer's own program" }
  }
}

/** Place in a script of the first DMA that gets through to memory below that of scripts. */
function lowTranslation(log: RecordLog): number | undefined {
  const pageShifts = new Map<number, number>()
  for (let seq = log.firstKept; seq < log.length; seq++) {
    const { event } = log.read(seq)
    if (event.kind === 'window.open') pageShifts.set(event.window, event.pageShift)
    if (event.kind !== 'dma.translate' || event.allowed === 0) continue
    const offset = event.address & ((1n << BigInt(pageShifts.get(event.window) ?? 0)) - 1n)
    if (event.gpa + offset < BigInt(PSERIES_FIRMWARE_END)) return event.line - 1
  }
  return undefined
}

/**
 * A scenario of kind `pseries` as steps of the peer.
 *
 * Steps run on the scenario's own machine. What its guest kernel asks of the hypervisor, the peer is asked: the kernel
 * is the model's, the hypervisor is QEMU. Steps that end QEMU, or reach the program of the peer, are left out.
 *
 * @param name what its script is called
 */
export function planPseries(scenario: Scenario, name: string): PseriesPlan {
  assert(scenario.machine.kind === 'pseries', 'the scenario is of a pseries')
  const faults = pseriesMachineFaults(scenario.machine)
  const skipped = new Map<number, string>()
  for (;;) {
    const made = new Pass(scenario, name, skipped).run()
    if (!('why' in made)) return { ...made, leftOut: [...faults, ...made.leftOut] }
    skipped.set(made.step, made.why)
  }
}
