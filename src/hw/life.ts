import { Cells, type Journal, keyOf } from '../bits/state.ts'
import { KIND } from '../trace/event.ts'
import type { Stage } from '../trace/stage.ts'

/**
 * Whether the process that emulates the machine still runs. Every unit of it asks before it answers: once dead,
 * nothing of it answers any more.
 */
export class Life {
  readonly #stage: Stage
  readonly #layer: number
  /** 0 alive, else the interned reason. */
  readonly #cells: Cells

  /** @param layer whose life it is, as records name it: `qemu` */
  constructor(stage: Stage, journal: Journal, layer = 'qemu') {
    this.#stage = stage
    this.#layer = stage.log.names.intern(layer)
    this.#cells = new Cells(journal, keyOf('life', layer), 1)
  }

  get isDead(): boolean {
    return this.#cells.get(0) !== 0
  }

  /** What it died of; empty while it lives. */
  get why(): string {
    return this.#stage.log.names.word(this.#cells.get(0))
  }

  /** It dies, and says so in a record. A second death changes nothing. */
  die(why: string): void {
    if (this.isDead) return
    const { log, cause } = this.#stage
    const reason = log.names.intern(why)
    this.#cells.set(0, reason)
    log.append(KIND.dead, cause, this.#layer, reason)
  }
}
