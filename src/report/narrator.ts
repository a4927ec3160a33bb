import { describe, type Scene, type WindowFacts } from '../check/describe.ts'
import { lineOf } from '../check/evidence.ts'
import type { EventFields } from '../trace/event.ts'
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
    const tables = new Map<number, EventFields<'hw.table'>>()
    for (let seq = log.firstKept; seq < log.length; seq++) {
      const kind = log.kindOf(seq)
      if (kind !== 'window.open' && kind !== 'hw.table' && kind !== 'hw.window') continue
      const { event } = log.read(seq)
      if (event.kind === 'window.open') windows.set(event.window, event)
      else if (event.kind === 'hw.table') tables.set(event.table, event)
      else if (event.kind === 'hw.window' && event.window !== 0)
        windows.set(event.window, windowOfPe(event, tables.get(event.table)))
    }
    this.#scene = { log, windows: { find: (number) => windows.get(number) } }
  }

  /** A record in words, and the line of the input that it comes from, 0 where there is none. */
  tell(seq: number): { readonly seq: number; readonly line: number; readonly text: string } {
    return { seq, line: lineOf(this.#scene.log, seq), text: describe(this.#scene, seq) }
  }
}

/** A window of a PE; without a table addresses go through it as they are. */
const windowOfPe = (
  { pe, unit }: EventFields<'hw.window'>,
  table: EventFields<'hw.table'> | undefined,
): WindowFacts => ({
  liobn: 0,
  pageShift: table?.pageShift ?? 12,
  busOffset: table?.busOffset ?? 0n,
  place: `PE ${pe} of ${unit}`,
  isBypass: table === undefined,
})
