import type { Answer } from '../../../src/bits/answer.ts'
import { Prng } from '../../../src/bits/prng.ts'
import { Judge } from '../../../src/check/judge.ts'
import { createMachine } from '../../../src/machine/create-machine.ts'
import { describeMachine } from '../../../src/machine/description.ts'
import type { Machine } from '../../../src/machine/machine.ts'
import type { Operation } from '../../../src/machine/operation.ts'
import type { PowernvDescription } from '../../../src/machine/powernv/description.ts'
import { LegalOperations, type LegalStep } from './legal-operations.ts'
import { type NaiveAnswer, NaiveHost } from './naive-host.ts'
import type { NaiveContainer } from './naive-parts.ts'

const WORD = 0xffff_ffff_ffff_ffffn

/** A host with every kind of PHB, groups of several devices, and processes of different means; drawn from a seed. */
export function legalHost(seed: number, profile: string): PowernvDescription {
  const prng = new Prng(seed ^ 0x5ca1e)
  const edu = (name: string) => ({ name, kind: 'edu' as const, dmaMask: WORD })
  const hostPageShift = prng.oneIn(4) ? 12 : 16
  const limit = BigInt(prng.pick([64, 400, 1500])) << BigInt(hostPageShift)
  return describeMachine({
    kind: 'powernv',
    profile,
    ramBytes: 1n << 30n,
    hostPageShift,
    processes: [
      { name: 'vmm', memlockBytes: WORD },
      { name: 'poor', memlockBytes: limit },
      { name: 'root', memlockBytes: 0n, hasIpcLock: true },
    ],
    phbs: [
      {
        name: 'p8',
        platform: 'PHB3',
        domain: 1,
        m32Base: 0x100_0000,
        ...(prng.oneIn(2) && { cacheEntries: 8 }),
        pes: [{ devices: [edu('a0'), edu('a1')] }, { devices: [edu('b0')] }],
      },
      {
        name: 'p9',
        platform: 'PHB4',
        domain: 2,
        m32Base: 0x200_0000,
        freeze: 'none',
        killsWholePe: prng.oneIn(2),
        pes: [{ devices: [edu('c0')] }, { devices: [edu('d0'), edu('d1')] }, { hasKernelDriver: true }],
      },
      { name: 'p10', platform: 'PHB5', domain: 3, m32Base: 0x100_0000, pes: [{ devices: [edu('e0')] }] },
      { name: 'p7', platform: 'P7IOC', domain: 4, pes: [{ devices: [edu('f0')] }] },
    ],
  }) as PowernvDescription
}

export interface LegalRunOptions {
  readonly seed: number
  readonly profile?: string
  /** Keep an undo log and a hash. */
  readonly journal?: boolean
  /** The machine may answer otherwise than the naive host, which gives up what it does not understand then. */
  readonly tolerates?: boolean
}

/** What a run said that the naive host did not expect. */
export interface Difference {
  readonly at: number
  readonly op: Operation
  readonly said: string
  readonly expected: string
}

const textOf = (_key: string, value: unknown) =>
  typeof value === 'bigint' ? `0x${value.toString(16)}` : value

/** Legal operations on a machine, with the naive host beside it. */
export class LegalRun {
  readonly description: PowernvDescription
  readonly machine: Machine
  readonly judge = new Judge()
  readonly host: NaiveHost
  readonly operations: Operation[] = []
  /** By call and rule. */
  readonly counts = new Map<string, number>()
  readonly differences: Difference[] = []
  performed = 0
  readonly #generator: LegalOperations
  readonly #tolerates: boolean
  readonly #keeps: boolean

  constructor({ seed, profile = 'intended', journal = false, tolerates = false }: LegalRunOptions) {
    this.description = legalHost(seed, profile)
    this.machine = createMachine(this.description, {
      journal,
      keepRecords: 1 << 14,
      watch: (log) => this.judge.attach(log),
    })
    this.host = new NaiveHost(this.description)
    this.#generator = new LegalOperations(new Prng(seed), this.host, {
      lendsTables: this.machine.profile.has('v1-kernel-tables'),
    })
    this.#tolerates = tolerates
    this.#keeps = journal
  }

  /** One operation; undefined while nothing differs. */
  step(): Difference | undefined {
    return this.#perform(this.#generator.next())
  }

  /** Every process ends, and with it all that it had. */
  end(): void {
    for (const { name, isAlive } of this.host.processes.values()) {
      if (isAlive) this.#perform({ op: { verb: 'proc', call: 'exit', args: {}, by: { process: name } } })
    }
    this.machine.log.emit('run.end', null, { settled: 1 })
    this.judge.finish()
  }

  #perform({ op, meaning }: LegalStep): Difference | undefined {
    const answer = this.machine.perform(op)
    if (this.#keeps) this.operations.push(op)
    this.performed++
    const what = `${op.verb} ${meaning?.call ?? op.call} ${answer.rule}`
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1)
    const before = this.#tolerates ? this.#membership() : undefined
    const asked = meaning ?? op
    const expected = this.host.answer(asked, answer)
    const difference = this.#compare(asked, answer, expected)
    if (before !== undefined) this.#giveUp(asked, answer, expected, difference, before)
    else if (difference !== undefined) this.differences.push(difference)
    return this.#tolerates ? undefined : difference
  }

  #compare(op: Operation, answer: Answer, expected: NaiveAnswer | undefined): Difference | undefined {
    const { rule, code, state } = answer
    const isKnown = state === 'done'
    if (expected === undefined && isKnown) return undefined
    const outputs = Object.entries(expected?.outputs ?? {}).every(([n, value]) => {
      return code !== 'OK' && code !== 'MEMTX_OK' ? true : answer.outputs[n] === value
    })
    if (isKnown && code === expected?.code && outputs) return undefined
    const said = `${state} ${code} by ${rule} ${JSON.stringify(answer.outputs, textOf)}`
    return { at: this.performed, op, said, expected: JSON.stringify(expected, textOf) ?? 'anything known' }
  }

  /** Which containers have how many groups. */
  #membership(): Map<NaiveContainer, number> {
    const found = new Map<NaiveContainer, number>()
    for (const { container } of this.host.groups) {
      if (container !== null) found.set(container, (found.get(container) ?? 0) + 1)
    }
    return found
  }

  /** Where kernels answer otherwise, or take a group from others, nothing is known of the container any more. */
  #giveUp(
    op: Operation,
    answer: Answer,
    expected: NaiveAnswer | undefined,
    difference: Difference | undefined,
    before: ReadonlyMap<NaiveContainer, number>,
  ): void {
    const now = this.#membership()
    for (const [container, groups] of before) if ((now.get(container) ?? 0) < groups) container.isLost = true
    if (difference === undefined) return
    const process = this.host.actor(op)
    if (process === undefined) return
    for (const name of ['fd', 'container']) {
      const target = this.host.file(process, op.args[name])?.target
      if (target?.kind === 'container') target.isLost = true
      if (target?.kind === 'group' && target.group.container !== null) target.group.container.isLost = true
    }
    if (answer.code !== 'OK' && expected?.code === 'OK') this.host.takeBack(op, process, expected)
  }
}
