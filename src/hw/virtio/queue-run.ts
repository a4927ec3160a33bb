import { assert } from '../../bits/errors.ts'
import type { Chain } from './chain.ts'
import { faultOf } from './device-faults.ts'
import { RING, RING_ANSWERS, type RingAnswerDecl } from './ring-rules.ts'
import type { SplitRing } from './split-ring.ts'

/** A device that works on chains of a queue. */
export interface ChainServer {
  /**
   * Does the work of a chain. Answers the bytes written to it, or a fault of its driver as -1 - its place in
   * `DEVICE_FAULTS`: the chain counts as not taken, and the queue fails.
   */
  serve(chain: Chain): number
}

/**
 * How a run ended: `idle` nothing is available, and a notification is awaited; `more` the budget is used up, run
 * again; `pending` a translation is missing, run again after the answer; `failed` the driver broke a rule, and
 * the queue stops.
 */
export type RunEnd = 'idle' | 'more' | 'pending' | 'failed'

/**
 * Takes chains of a ring and has them served, as a vhost worker does. Made once a queue.
 *
 * @example
 * const run = new QueueRun(ring, disk)
 * if (run.go(64) === 'failed') stop(run.fault)
 * if (run.wantsCall) interrupt()
 */
export class QueueRun {
  readonly ring: SplitRing
  readonly chain: Chain
  /** Of the last run: chains served; whether the driver wants an interrupt; where it failed, the rule. */
  served = 0
  wantsCall = false
  fault = ''
  /** Where a run failed: what vhost inside Linux says (0 where it has no such device). */
  errno = 0
  readonly #server: ChainServer

  constructor(ring: SplitRing, server: ChainServer) {
    this.ring = ring
    this.chain = ring.newChain()
    this.#server = server
  }

  /** @param budget chains at most */
  go(budget: number): RunEnd {
    const { ring } = this
    this.served = 0
    this.wantsCall = false
    this.fault = ''
    this.errno = 0
    const began = ring.begin()
    if (began !== RING.taken) return this.#end(began)
    ring.disableNotify()
    const end = this.#serveAll(budget)
    if (this.served > 0) this.wantsCall = ring.wantsCall()
    return end
  }

  #serveAll(budget: number): RunEnd {
    const { ring, chain } = this
    // A driver that moves its index to and fro uses up the budget as well.
    for (let looks = 0; looks < budget; looks++) {
      const answer = ring.next(chain)
      if (answer === RING.empty) {
        if (!ring.enableNotify()) return 'idle'
        ring.disableNotify()
        continue
      }
      if (answer !== RING.taken) return this.#end(answer)
      const written = this.#server.serve(chain)
      if (written < 0) {
        ring.giveBack(1)
        return this.#fail(faultOf(written))
      }
      ring.use(chain.head, written)
      ring.publish()
      this.served++
    }
    return 'more'
  }

  #end(answer: number): RunEnd {
    if (answer === RING.pending) return 'pending'
    return this.#fail(RING_ANSWERS[answer])
  }

  #fail(fault: RingAnswerDecl | undefined): RunEnd {
    assert(fault !== undefined, 'a fault of a driver has a rule')
    this.fault = fault.rule
    this.errno = fault.errno
    return 'failed'
  }
}
