import { Cells, type Journal, keyOf } from '../bits/state.ts'
import type { Stage } from '../trace/stage.ts'
import { FrameTable } from './frame-table.ts'
import { HostMemory } from './host-memory.ts'

export interface HostOptions {
  readonly stage: Stage
  readonly journal: Journal
  /** log2 of the system page: 12 or 16. */
  readonly pageShift: number
  /** Physical memory of the host; what is never written costs nothing. */
  readonly ramBytes: number
  /** Bytes that the model may take for its contents. */
  readonly maxBytes: number
}

/** What everything in a host shares: its physical memory, the frames in it, the log and the journal. */
export class Host {
  readonly stage: Stage
  readonly journal: Journal
  readonly pageShift: number
  readonly memory: HostMemory
  readonly frames: FrameTable
  readonly #warned = new Map<string, Cells>()

  constructor(options: HostOptions) {
    const { stage, journal, pageShift } = options
    this.stage = stage
    this.journal = journal
    this.pageShift = pageShift
    this.memory = new HostMemory(options)
    this.frames = new FrameTable({ stage, journal, pageShift, memory: this.memory })
  }

  get pageBytes(): number {
    return 2 ** this.pageShift
  }

  /** A warning that the host kernel prints at its first occasion only. True where it was the first. */
  warnOnce(text: string): boolean {
    let cells = this.#warned.get(text)
    if (cells === undefined) {
      cells = new Cells(this.journal, keyOf('warned', text), 1)
      this.#warned.set(text, cells)
    }
    if (cells.get(0) !== 0) return false
    cells.set(0, 1)
    const { log, cause } = this.stage
    log.emit('warning', cause, { layer: 'kernel', text })
    return true
  }
}
