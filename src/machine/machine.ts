import { type Answer, pending, unmodelled, type Value } from '../bits/answer.ts'
import type { Verb } from '../bits/call.ts'
import type { Profile } from '../bits/errata.ts'
import { Journal } from '../bits/state.ts'
import { Tasks, work } from '../kernel/steps.ts'
import { taskHandlers } from '../kernel/task-handlers.ts'
import { KIND } from '../trace/event.ts'
import { RecordLog } from '../trace/record-log.ts'
import { Stage } from '../trace/stage.ts'
import { completeArguments } from './arguments.ts'
import type { MachineDescription } from './description.ts'
import type { CallHandler, Operation } from './operation.ts'

/** What a machine is made with beside its description. */
export interface MachineOptions {
  /** Keep an undo log and a state hash from the first write on: for time travel and exploration. */
  readonly journal?: boolean
  /** Records that are kept; older ones are dropped. */
  readonly keepRecords?: number
  /** What the run is called in its first record. */
  readonly source?: string
  /** Subscribes checkers and counters before the first record. */
  readonly watch?: (log: RecordLog) => void
}

/**
 * A machine: units wired as a description says, one way in (`perform`), one way out (`log`).
 *
 * @example
 * const machine = createMachine(describeMachine({ profile: 'qemu-7.2' }))
 * machine.perform({ verb: 'hcall', call: 'H_GET_TCE', args: { liobn: 0x80000000n, ioba: 0n } }).code
 */
export class Machine {
  readonly description: MachineDescription
  readonly profile: Profile
  readonly journal: Journal
  readonly log: RecordLog
  readonly stage: Stage
  /** Calls that were started, and are done step by step. */
  readonly tasks: Tasks
  /** Told who acts before each operation; undefined where the operation names nobody. */
  actAs: (process: string | undefined) => void = () => undefined
  readonly #handlers = new Map<string, CallHandler>()
  #operations = 0

  constructor(description: MachineDescription, profile: Profile, options: MachineOptions = {}) {
    this.description = description
    this.profile = profile
    this.journal = new Journal()
    this.journal.on = options.journal === true
    this.log = new RecordLog({
      ...(options.keepRecords === undefined ? {} : { keepRecords: options.keepRecords }),
      ...(options.journal === true ? { journal: this.journal } : {}),
    })
    this.stage = new Stage(this.log)
    this.tasks = new Tasks(this.stage, this.journal)
    this.register(taskHandlers(this.tasks, this.stage))
    options.watch?.(this.log)
    this.log.emit('run.begin', null, { source: options.source ?? '', profile: profile.name })
  }

  /** Who acts where an operation names no process, as records name it. */
  defaultActor = 'guest'

  /** Adds what a unit answers to. A call that two units answer is the first one's. */
  register(handlers: readonly CallHandler[]): void {
    for (const handler of handlers) {
      const key = `${handler.decl.verb} ${handler.decl.name}`
      if (!this.#handlers.has(key)) this.#handlers.set(key, handler)
    }
  }

  /** Operations performed so far. */
  get operations(): number {
    return this.#operations
  }

  /**
   * Performs one operation and answers what the real machine would. What the model does not have is answered
   * `unmodelled` and recorded so. An operation with `start` is only begun: `tasks` has its answer when it has ended.
   *
   * @throws IommulatorError ERR_OPERATION where an argument is missing, unknown or of the wrong kind
   */
  perform(operation: Operation): Answer {
    this.#operations++
    this.#enter(operation)
    const { stage } = this
    const handler = this.#handlerOf(operation)
    if (handler === undefined) {
      const what = `${operation.verb} ${operation.call}`
      this.log.emit('unmodelled', null, { what, line: stage.line })
      return unmodelled(`${what} is not modelled by this machine`)
    }
    const args = completeArguments(handler.decl, operation.args)
    const { start } = operation
    if (start === undefined) return this.#answer(handler, args)
    if (handler.start !== undefined) return handler.start(args, start) ?? pending(`started as ${start}`)
    const call = (): Answer => {
      this.#enter(operation)
      return this.#answer(handler, args)
    }
    this.tasks.begin(start, operation.by?.process ?? '', [work('call')], { call })
    return pending(`started as ${start}`)
  }

  /** Whether a call is made of steps, which others may come between. */
  hasSteps(operation: Operation): boolean {
    return this.#handlerOf(operation)?.start !== undefined
  }

  /** Everything from now on is done by who performs an operation, and comes from its line. */
  #enter({ line, by }: Operation): void {
    const { stage } = this
    stage.line = line ?? 0
    stage.cpu = by?.cpu ?? 0
    stage.by = this.log.names.intern(`${by?.process ?? this.defaultActor}:${stage.cpu}`)
    stage.cause = -1
    this.actAs(by?.process)
  }

  #handlerOf({ verb, call }: Operation): CallHandler | undefined {
    return this.#handlers.get(`${verb} ${call}`) ?? this.#handlers.get(`${verb} unknown`)
  }

  #answer(handler: CallHandler, args: Readonly<Record<string, Value>>): Answer {
    const from = this.log.length
    const answer = handler.run(args)
    if (answer.state === 'unmodelled' && !this.#saysUnmodelled(from)) {
      this.log.emit('unmodelled', null, { what: answer.rule, line: this.stage.line })
    }
    return answer
  }

  /**
   * A call that a part of the machine makes while it does something else: what that is, is the cause of the call.
   *
   * @throws Error where no unit answers the call, or an argument is wrong: a bug of the part
   */
  callFromInside(verb: Verb, call: string, args: Readonly<Record<string, Value>>): Answer {
    const handler = this.#handlers.get(`${verb} ${call}`)
    if (handler === undefined) throw new Error(`model bug: nobody answers ${verb} ${call}`)
    return handler.run(completeArguments(handler.decl, args))
  }

  /** Whether a unit has recorded what it does not know, so that it need not be said twice. */
  #saysUnmodelled(from: number): boolean {
    const { log } = this
    for (let seq = Math.max(from, log.firstKept); seq < log.length; seq++) {
      if (log.kindNumberOf(seq) === KIND.unmodelled) return true
    }
    return false
  }
}
