import { hex } from '../../../bits/u64.ts'
import { FRONT_END_REQUESTS, HEADER_FLAGS, REPLY_FLAGS } from '../../../reader/vhost-user-format.ts'
import type { MessageTally } from './message-tally.ts'

/** Requests that have an answer of their own. */
const IS_ANSWERED: ReadonlySet<number> = new Set(
  Object.values(FRONT_END_REQUESTS).flatMap((r) => ('reply' in r ? [r.nr] : [])),
)

/** Answers of the back end, which only the trace shows: each message that asks for one has it before the next. */
export class Answers {
  readonly #tally: MessageTally
  #owed: { readonly request: number; readonly line: number } | undefined
  /** The trace shows answers at all. */
  #areTraced = false

  constructor(tally: MessageTally) {
    this.#tally = tally
  }

  /** QEMU sent a message. */
  sent(request: number, flags: number, line: number): void {
    const owed = this.#owed
    if (owed !== undefined && this.#areTraced) {
      this.#tally.diverge({
        line: owed.line,
        call: `message ${owed.request}`,
        log: 'no answer before the next message',
        model: 'QEMU waits for the answer',
        rule: 'answer-missing',
      })
    }
    const isAnswered = IS_ANSWERED.has(request) || (flags & HEADER_FLAGS.NEED_REPLY) !== 0
    this.#owed = isAnswered ? { request, line } : undefined
  }

  /** QEMU read an answer. */
  read(request: number, flags: number, line: number): void {
    const owed = this.#owed
    this.#owed = undefined
    this.#areTraced = true
    if (owed?.request === request && flags === REPLY_FLAGS) return
    this.#tally.diverge({
      line,
      call: `answer to message ${request}`,
      log: `flags ${hex(flags)}`,
      model: owed === undefined ? 'no answer is due' : `message ${owed.request} is answered, with flags 0x5`,
      rule: 'answer-not-due',
    })
  }
}
