import { describe, type Scene, type WindowFacts } from '../check/describe.ts'
import { lineOf } from '../check/evidence.ts'
import type { RecordLog } from '../trace/record-log.ts'

/**
 * A whole log as words: it knows every window that the kept records open, closed ones included.
 *
 * @example
 * const words = new Narrator(log)
 * words.tell(12) // { seq: 12, line: 40, text: 'H_PUT_TCE mapped bus address 0x1000 ...' }
 */
export class Narrator {
  readonly #scene: Scene

  constructor(log: RecordLog) {
    const windows = new Map<number, WindowFacts>()
    for (let seq = log.firstKept; seq < log.length; seq++) {
      if (log.kindOf(seq) !== 'window.open') continue
      const { event } = log.read(seq)
      if (event.kind === 'window.open') windows.set(event.window, event)
    }
    this.#scene = { log, windows: { find: (number) => windows.get(number) } }
  }

  /** A record in words, and the line of the input that it comes from, 0 where there is none. */
  tell(seq: number): { readonly seq: number; readonly line: number; readonly text: string } {
    return { seq, line: lineOf(this.#scene.log, seq), text: describe(this.#scene, seq) }
  }
}
