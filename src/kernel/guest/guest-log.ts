import { KIND } from '../../trace/event.ts'
import type { Stage } from '../../trace/stage.ts'
import { NO_ANSWER } from '../ports.ts'

/**
 * What the guest kernel prints: a record each, and the list of the call that runs, for its answer.
 *
 * It also keeps why the model does not know how the call that runs would end, where that happened.
 */
export class GuestLog {
  readonly #stage: Stage
  readonly #layer: number
  #lines: string[] = []
  #unknown = ''

  constructor(stage: Stage) {
    this.#stage = stage
    this.#layer = stage.log.names.intern('guest')
  }

  /** A call of the kernel begins. */
  begin(): void {
    if (this.#lines.length > 0) this.#lines = []
    this.#unknown = ''
  }

  /** What was printed since `begin`. */
  get lines(): readonly string[] {
    return this.#lines
  }

  /** Why the model does not know the end of the call that runs; empty where it does. */
  get unknown(): string {
    return this.#unknown
  }

  warn(text: string): void {
    const { log, cause } = this.#stage
    log.append(KIND.warning, cause, this.#layer, log.names.intern(text))
    this.#lines.push(text)
  }

  /** Takes note of the code of a call to the hypervisor or to RTAS; answers it. */
  heard(code: number): number {
    if (code === NO_ANSWER) this.doubt('nobody answered a call of the guest kernel')
    return code
  }

  /** From here on the model does not know what the kernel does; the first reason stays. */
  doubt(why: string): void {
    if (this.#unknown === '') this.#unknown = why
  }
}
