import { assert, IommulatorError } from '../../bits/errors.ts'
import { Judge, judgeable } from '../../check/judge.ts'
import { KIND } from '../../trace/event.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import { unexpected } from '../expectation.ts'
import type { Machine } from '../machine.ts'
import { coverageOf, performed } from '../run-scenario.ts'
import type { Scenario } from '../scenario/scenario.ts'
import { ScenarioWalk } from '../scenario-walk.ts'
import { Exchange } from './exchange.ts'

/** What came of one order. */
export interface OrderEnd {
  /** Lanes, one entry a step. */
  readonly order: readonly string[]
  /**
   * Entries that say something: after so many of them the first lane that can go on always does, which needs not be
   * said.
   */
  readonly said: number
  /** Rules that it breaks, each once, as they showed. */
  readonly broken: readonly string[]
  /** Lanes that cannot go on, each with what it waits for; none where all are over, or the kernel has stopped. */
  readonly stuck: readonly string[]
  /** Whether the model did not know an answer. */
  readonly isUnmodelled: boolean
  /** Hash of the state when no lane could go on. */
  readonly state: string
}

/** Where a machine was. */
interface Before {
  readonly mark: number
  readonly length: number
  readonly tick: number
}

/**
 * The lanes of a scenario on one machine that goes forward by performing and back by its undo log: what all kinds of
 * search stand on.
 */
export class OrderRuns {
  readonly machine: Machine
  readonly #walk: ScenarioWalk
  readonly #scenario: Scenario
  readonly #rules: readonly string[]
  readonly #exchange: Exchange
  readonly #order: string[] = []
  /** Whether each entry of the order is what would come without it. */
  readonly #usual: boolean[] = []
  readonly #taken: Before[] = []
  #steps = 0

  /**
   * @param machine as the scenario describes it, with its journal on
   * @throws IommulatorError ERR_OPERATION where what comes before the lanes is not answered as the scenario expects
   */
  constructor(scenario: Scenario, machine: Machine, rules?: readonly string[]) {
    this.machine = machine
    // No other rule can be broken: a judge of few is made sooner.
    this.#rules = rules ?? judgeable(coverageOf(scenario.machine))
    this.#scenario = scenario
    this.#walk = new ScenarioWalk(scenario, machine)
    this.#exchange = new Exchange(machine, this.#rules, {
      isReady: (lane) => this.#walk.lanes.isReady(lane),
      advance: (lane) => this.#advance(lane),
      takenBack: (act) => this.#takenBack(act),
    })
    let number = 0
    this.#walk.before((operation, step) => {
      const answer = performed(machine, operation, ++number)
      const [wrong] = step?.expect === undefined ? [] : unexpected(answer, step.expect)
      if (wrong === undefined) return
      const where = operation.line === undefined ? {} : { line: operation.line }
      throw new IommulatorError('ERR_OPERATION', `step ${number}, before the lanes: ${wrong}`, where)
    })
  }

  /** Steps that lanes have taken so far, those that were taken back included. */
  get steps(): number {
    return this.#steps
  }

  get lanes(): ScenarioWalk['lanes'] {
    return this.#walk.lanes
  }

  /** Lanes that can take a step, in their order. */
  ready(): string[] {
    return this.#walk.lanes.ready()
  }

  /** Whether it makes no difference which of two lanes that can take a step comes first: see `Exchange`. */
  mayExchange(a: string, b: string): boolean {
    return this.#exchange.isFree(a, b)
  }

  /** Takes a step of a lane. `usual` is the lane that would come unsaid. */
  take(lane: string, usual: string): void {
    const { journal, log } = this.machine
    this.#taken.push({ mark: journal.mark(), length: log.length, tick: log.tick })
    this.#order.push(lane)
    this.#usual.push(lane === usual)
    this.#advance(lane)
    this.#steps++
  }

  /** Takes the last step back. */
  takeBack(): void {
    const before = this.#taken.pop()
    assert(before !== undefined, 'a step that is taken back was taken')
    this.#back(before)
    this.#order.pop()
    this.#usual.pop()
  }

  /** Takes a step for a look only, does something, and takes it back: it is no part of an order, and is not counted. */
  tried(lane: string, act: () => void): void {
    this.#takenBack(() => {
      this.#advance(lane)
      act()
    })
  }

  /** The order that was taken, judged to its end. No lane can go on. */
  end(): OrderEnd {
    const { machine } = this
    const { lanes } = this.#walk
    const state = machine.journal.hash
    const stuck = machine.tasks.isStopped()
      ? []
      : lanes
          .open()
          .filter((lane) => !lanes.isIdle(lane))
          .map((lane) => `${lane} waits for ${lanes.waitsFor(lane)}`)
    let isUnmodelled = false
    const judge = new Judge({ rules: this.#rules })
    this.#takenBack(() => {
      this.#walk.after((operation) => {
        performed(machine, operation, this.#order.length)
      })
      machine.log.emit('run.end', null, { settled: this.#scenario.settled ? 1 : 0 })
      judge.judge(machine.log)
      isUnmodelled = hasUnmodelled(machine.log)
    })
    return {
      order: [...this.#order],
      said: this.#usual.lastIndexOf(false) + 1,
      broken: [...new Set(judge.findings.map((f) => f.rule))],
      stuck,
      isUnmodelled,
      state,
    }
  }

  #advance(lane: string): void {
    this.#walk.lanes.advance(lane, (operation) => {
      performed(this.machine, operation, this.#order.length)
    })
  }

  /** Does something, and takes back whatever the machine did meanwhile. */
  #takenBack(act: () => void): void {
    const { journal, log } = this.machine
    const before = { mark: journal.mark(), length: log.length, tick: log.tick }
    act()
    this.#back(before)
  }

  #back({ mark, length, tick }: Before): void {
    const { journal, log } = this.machine
    journal.rollback(mark)
    log.truncate(length)
    log.tick = tick
  }
}

function hasUnmodelled(log: RecordLog): boolean {
  for (let seq = log.firstKept; seq < log.length; seq++) {
    if (log.kindNumberOf(seq) === KIND.unmodelled) return true
  }
  return false
}
