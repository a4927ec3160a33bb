import { type Answer, answerOf, type CallHandler } from '../bits/answer.ts'
import { rulesOf } from '../bits/call.ts'
import type { Clock } from '../bits/clock.ts'
import type { Machine } from './machine.ts'
import { TICK_ADVANCE, TICKS_MAX } from './tick-calls.ts'

const TICK = rulesOf(TICK_ADVANCE)

/** Simulated time moves: units whose time has come act, in their order. */
export function tickHandler(
  machine: Machine,
  clock: Clock,
  units: readonly { elapse(): void }[],
): CallHandler {
  const tags = machine.stage.tag(TICK_ADVANCE)
  return {
    decl: TICK_ADVANCE,
    run(args): Answer {
      const ticks = Number(args['ticks'] as bigint)
      const before = machine.stage.enter(tags, ticks | 0)
      if (ticks > TICKS_MAX) {
        machine.stage.leave(tags, before, TICK['too-many-ticks'])
        return answerOf(TICK_ADVANCE, TICK['too-many-ticks'])
      }
      for (let i = 0; i < ticks; i++) {
        clock.advance(1)
        machine.log.tick = clock.tick
        for (const unit of units) unit.elapse()
      }
      machine.stage.leave(tags, before, TICK.done)
      return answerOf(TICK_ADVANCE, TICK.done, { outputs: { tick: BigInt(clock.tick) } })
    },
  }
}
