import { KernelLogReader, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import { TRACE_LINES, TRACE_MAP, TRACE_UNMAP } from '../../reader/kernel-log/trace-lines.ts'
import type { FaultGroup, FaultLog } from './fault-log.ts'
import { TracedPages } from './traced-pages.ts'

const CLOCK = /(\d{1,10})\.(\d{6})$/
const MICROSECONDS = 1_000_000
/** Families whose faults have bus addresses that a kernel maps. */
const MAPPED_KINDS = ['dma']

/** Time of a line of a trace, which stands last before the event; undefined where its clock counts something else. */
function timeOf(context: string): number | undefined {
  const found = CLOCK.exec(context)
  return found === null ? undefined : Number(found[1]) * MICROSECONDS + Number(found[2])
}

/**
 * What a kernel's own trace of the same boot says of the faults of its log: when the page of a fault was mapped last
 * before it, and when it no longer was. Both are stamped by clocks that run together.
 */
export class FtraceCauses {
  readonly #log: FaultLog
  readonly #pages = new TracedPages()
  readonly #reader: KernelLogReader
  /** Faults that the trace has not reached, the next one last. */
  readonly #waiting: FaultGroup[]
  #explained = 0

  constructor(log: FaultLog) {
    this.#log = log
    this.#waiting = log.groups
      .filter(({ words, firstUs, addresses }) => {
        return MAPPED_KINDS.includes(words.kind) && firstUs >= 0 && addresses.ranges.length > 0
      })
      .sort((a, b) => b.firstUs - a.firstUs)
    this.#reader = new KernelLogReader([TRACE_LINES], {
      found: (line) => {
        const map = valuesOf(TRACE_MAP, line)
        const unmap = map === undefined ? valuesOf(TRACE_UNMAP, line) : undefined
        const range = map ?? unmap
        if (range === undefined) return
        this.#reach(timeOf(range.context))
        if (map === undefined) this.#pages.unmap(range.iova, range.end, line.line)
        else this.#pages.map(range.iova, range.end, line.line)
      },
    })
  }

  push(bytes: Uint8Array): void {
    this.#reader.push(bytes)
  }

  end(): number {
    this.#reader.end()
    this.#reach(undefined)
    return this.#explained
  }

  /** Faults up to a time see what is mapped now. */
  #reach(timeUs: number | undefined): void {
    for (let next = this.#waiting.at(-1); next !== undefined; next = this.#waiting.at(-1)) {
      if (timeUs !== undefined && next.firstUs >= timeUs) return
      this.#waiting.pop()
      this.#explain(next)
    }
  }

  #explain(group: FaultGroup): void {
    const story = group.addresses.ranges.flatMap(({ first }) => [...this.#pages.storyOf(first)])
    for (const { line, text } of story)
      this.#log.explain(group, { line: 0, text: `trace line ${line}: ${text}` })
    if (story.length === 0)
      this.#log.explain(group, { line: 0, text: 'the trace has no mapping of its address before it' })
    else this.#explained++
  }
}
