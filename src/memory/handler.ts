import { type Answer, answerOf, type CallHandler, type Value } from '../bits/answer.ts'
import type { CallDecl } from '../bits/call.ts'
import { hiOf, loOf } from '../bits/u64.ts'
import type { Stage } from '../trace/stage.ts'

export type Args = Readonly<Record<string, Value>>

/** What a handler decides: the place of a rule in the declaration, and what goes with it. */
export interface Decision {
  readonly place: number
  readonly outputs?: Readonly<Record<string, Value>>
  readonly free?: readonly string[]
  /** The word that the record of the answer shows. */
  readonly out?: bigint
}

/**
 * A handler that records its call: what happens in `decide` has the call as its cause. The record shows the
 * first four arguments that are numbers.
 */
export function handlerOf(stage: Stage, decl: CallDecl, decide: (args: Args) => Decision): CallHandler {
  const tags = stage.tag(decl)
  const shown = Object.keys(decl.args).filter((name) =>
    ['u8', 'u16', 'u32', 'u64', 'count'].includes(decl.args[name]?.type ?? ''),
  )
  return {
    decl,
    run(args: Args): Answer {
      const lanes = shown.slice(0, 4).flatMap((name) => {
        const word = (args[name] ?? 0n) as bigint
        return [loOf(word), hiOf(word)]
      })
      const before = stage.enter(tags, ...lanes)
      const { place, out = 0n, outputs, free } = decide(args)
      stage.leave(tags, before, place, loOf(out), hiOf(out))
      return answerOf(decl, place, {
        ...(outputs === undefined ? {} : { outputs }),
        ...(free === undefined ? {} : { free }),
      })
    },
  }
}
