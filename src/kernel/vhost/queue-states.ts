import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import type { Stage } from '../../trace/stage.ts'

/** `runs` as far as it can; `waits` for the answer to a miss; `woken` by one; `stopped` has no backend; `failed`. */
const STATES = ['stopped', 'runs', 'waits', 'woken', 'failed'] as const
export type QueueState = (typeof STATES)[number]

/** The life of a queue, with its records. */
export class QueueStates {
  readonly #stage: Stage
  readonly #device: string
  readonly #queue: number
  readonly #state: Held<QueueState>

  constructor(parts: {
    readonly stage: Stage
    readonly journal: Journal
    readonly device: string
    readonly queue: number
  }) {
    this.#stage = parts.stage
    this.#device = parts.device
    this.#queue = parts.queue
    this.#state = new Held<QueueState>(
      parts.journal,
      `${parts.device} queue ${parts.queue} state`,
      'stopped',
      (s) => STATES.indexOf(s),
    )
  }

  get value(): QueueState {
    return this.#state.value
  }

  /** @param code the negative errno that led there, 0 for none */
  become(state: QueueState, code = 0): void {
    if (state === this.value) return
    this.#state.set(state)
    const { log, cause } = this.#stage
    log.emit('vhost.queue', cause, { device: this.#device, queue: this.#queue, state, code })
  }
}
