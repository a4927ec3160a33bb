import { type Answer, answerOf, type CallHandler, dead, unmodelled, type Value } from '../bits/answer.ts'
import { type CallDecl, type RuleOf, rulesOf } from '../bits/call.ts'
import { hiOf, loOf } from '../bits/u64.ts'
import type { Process, ProcessTable } from '../memory/process.ts'
import { KIND } from '../trace/event.ts'
import { isStop, type Outcome, type Stop } from './outcome.ts'
import { type StructDecl, UserStruct } from './user-struct.ts'

/** Arguments that the record of a call has room for, and their lanes. */
const SHOWN_MAX = 4
type Lanes = [number, number, number, number, number, number, number, number]

type Values = Readonly<Record<string, Value>>

/** A call under way: who makes it, with what, and what it hands out. */
export class ProcessCall {
  readonly process: Process
  readonly args: Values
  /** Outputs by name; those that the kernel was free to choose are in `free`. */
  readonly outputs: Record<string, Value> = {}
  readonly free: string[] = []

  constructor(process: Process, args: Values) {
    this.process = process
    this.args = args
  }

  u64(name: string): bigint {
    return this.args[name] as bigint
  }

  /** A descriptor or other number. */
  number(name: string): number {
    return Number(this.u64(name))
  }

  text(name: string): string {
    return this.args[name] as string
  }

  /** The caller gets a descriptor. */
  handOut(fd: number): void {
    this.outputs['fd'] = BigInt(fd)
    this.free.push('fd')
  }
}

/** A call with the structure that it points to. */
export class StructCall extends ProcessCall {
  readonly struct: UserStruct

  constructor(process: Process, args: Values, decl: StructDecl) {
    super(process, args)
    this.struct = new UserStruct(decl, process.mm, args)
  }

  /** copy_from_user and the check of argsz, as every ioctl with such a structure begins. */
  copyIn(bytes: number): 'bad-pointer' | 'argsz-short' | 'done' {
    if (!this.struct.copyIn(bytes)) return 'bad-pointer'
    return this.struct.get('argsz') < BigInt(bytes) ? 'argsz-short' : 'done'
  }
}

/** Arguments that say how a structure comes, not what is asked: records show them last. */
const HEADER: readonly string[] = ['arg', 'argsz', 'flags']

/** Names of the arguments that records show: addresses and sizes before the head of a structure. */
function shownOf({ args }: CallDecl): readonly string[] {
  const words = Object.keys(args).filter((name) => ['u32', 'u64'].includes(args[name]?.type ?? ''))
  const isHead = (name: string) => HEADER.includes(name)
  return [...words.filter((name) => !isHead(name)), ...words.filter(isHead)].slice(0, SHOWN_MAX)
}

/** Arguments by name; those in a structure as the caller has them in its memory. */
function askedOf(call: ProcessCall | undefined, args: Values, names: readonly string[]): Values {
  if (!(call instanceof StructCall) || args['arg'] === undefined) return args
  return { ...args, ...call.struct.outputs(names) }
}

/** What a call does: the rule that ends it. */
export type Body<D extends CallDecl> = (call: ProcessCall) => Outcome<RuleOf<D> | 'no-such-process'>

/** Ends a call: the record of its answer, and the answer. */
function finish(
  { host, kernel }: ProcessTable,
  decl: CallDecl,
  place: number | Stop,
  call: ProcessCall | undefined,
): Answer {
  if (typeof place !== 'number') {
    const { log, cause, line } = host.stage
    const { stop, why } = place
    if (stop === 'unmodelled') {
      log.append(KIND.unmodelled, cause, log.names.intern(why), line)
      return unmodelled(why)
    }
    if (kernel === null) log.append(KIND.dead, cause, log.names.intern('kernel'), log.names.intern(why))
    else kernel.die(why)
    return dead(why)
  }
  return answerOf(decl, place, { outputs: call?.outputs ?? {}, free: call?.free ?? [] })
}

/** A handler of one call of a process, with the records of its beginning and end. A structure's outputs are what the caller finds in it afterwards. */
export function processHandler<D extends CallDecl>(
  processes: ProcessTable,
  decl: D,
  body: Body<D>,
  struct?: StructDecl,
): CallHandler {
  const { stage } = processes.host
  const tags = stage.tag(decl)
  const rules = rulesOf(decl) as Readonly<Record<string, number>>
  const shown = shownOf(decl)
  const lanes = new Array<number>(2 * SHOWN_MAX).fill(0)
  const outputs = Object.keys(decl.outputs ?? {})
  return {
    decl,
    run(args: Values): Answer {
      const process = processes.find(args['process'] as string | undefined)
      const call =
        process === undefined
          ? undefined
          : struct === undefined
            ? new ProcessCall(process, args)
            : new StructCall(process, args, struct)
      const asked = askedOf(call, args, shown)
      for (let i = 0; i < shown.length; i++) {
        const word = (asked[shown[i] as string] ?? 0n) as bigint
        lanes[2 * i] = loOf(word)
        lanes[2 * i + 1] = hiOf(word)
      }
      const [l0, h0, l1, h1, l2, h2, l3, h3] = lanes as Lanes
      const before = stage.enter(tags, l0, h0, l1, h1, l2, h2, l3, h3)
      const outcome = call === undefined ? 'no-such-process' : body(call)
      const { kernel } = processes
      if (kernel?.isDead === true) {
        stage.cause = before
        return dead(kernel.why)
      }
      if (call instanceof StructCall && outputs.length > 0)
        Object.assign(call.outputs, call.struct.outputs(outputs))
      const place = isStop(outcome) ? outcome : (rules[outcome] as number)
      const answer = finish(processes, decl, place, call)
      if (typeof place !== 'number') {
        stage.cause = before
        return answer
      }
      const first = answer.outputs[outputs[0] ?? '']
      const out = typeof first === 'bigint' ? first : 0n
      stage.leave(tags, before, place, loOf(out), hiOf(out))
      return answer
    },
  }
}
