import { type Journal, keyOf } from '../bits/state.ts'
import { KIND } from '../trace/event.ts'
import type { Stage } from '../trace/stage.ts'

/**
 * Whether the process that emulates the machine still runs. Every unit of it asks before it answers: once dead,
 * nothing of it answers any more.
 */
export class Life {
  readonly #stage: Stage
  readonly #layer: number
  readonly #journal: Journal
  readonly #key: number
  /** Interned, 0 while it lives. */
  #reason = 0
  #isDead = false
  /** What its end brings with it, after the record of it. */
  onDeath: (() => void) | undefined

  /** @param layer whose life it is, as records name it: `qemu` */
  constructor(stage: Stage, journal: Journal, layer = 'qemu') {
    this.#stage = stage
    this.#layer = stage.log.names.intern(layer)
    this.#journal = journal
    this.#key = keyOf('life', layer)
  }

  get isDead(): boolean {
    return this.#isDead
  }

  /** What it died of; empty while it lives. */
  get why(): string {
    return this.#stage.log.names.word(this.#reason)
  }

  /** It dies, and says so in a record. A second death changes nothing. */
  die(why: string): void {
    if (this.isDead) return
    const { log, cause } = this.#stage
    const reason = log.names.intern(why)
    this.#become(reason)
    this.#journal.change(this.#key, 0, reason, () => this.#become(0))
    log.append(KIND.dead, cause, this.#layer, reason)
    this.onDeath?.()
  }

  #become(reason: number): void {
    this.#reason = reason
    this.#isDead = reason !== 0
  }
}
