import { QemuTraceReader } from '../../../reader/qemu-trace-reader.ts'
import { RecordLog } from '../../../trace/record-log.ts'
import type { FaultStory } from './fault-lines.ts'
import { VtdReplay } from './vtd-replay.ts'

/** Faults that are told apart; a trace may hold any number. */
const STORIES_MAX = 1 << 16
const PAGE_SHIFT = 12n

/** What a kernel's log says of a fault: enough to find it in a trace. */
export interface LoggedFault {
  /** Bus, slot and function: bus << 8 | slot << 3 | function. */
  readonly source: number
  /** Reason, as the register holds it. */
  readonly reason: number
  readonly isWrite: boolean
  /** Bus address; registers keep its page only. */
  readonly iova: bigint
}

/** All faults of a trace that a log would say alike: the first of them, and how many. */
export interface SeenFault {
  readonly first: FaultStory
  readonly count: number
  /** Those that reached a fault recording register: a kernel can have logged no others. */
  readonly recorded: number
}

/**
 * The faults of QEMU's intel-iommu in a trace of the same run as a kernel's log, and what led to each.
 *
 * @example
 * const stories = new FaultStories()
 * stories.push(bytes)
 * stories.end()
 * stories.find({ source: 0x20, reason: 6, isWrite: false, iova: 0x1000n })?.first.why
 */
export class FaultStories {
  /** Kinds of faults beyond those that are kept. */
  dropped = 0
  /** Faults of the trace, of all kinds. */
  total = 0
  readonly #seen = new Map<string, { first: FaultStory; count: number; recorded: number }>()
  readonly #replay: VtdReplay
  readonly #reader: QemuTraceReader

  constructor() {
    const log = new RecordLog()
    // Of this replay only the stories are wanted: nothing reads records.
    log.on = false
    this.#replay = new VtdReplay(log, (story) => this.#take(story))
    this.#reader = new QemuTraceReader(this.#replay, { markDamaged: true })
  }

  push(bytes: Uint8Array): void {
    this.#reader.push(bytes)
  }

  end(): void {
    this.#reader.end()
    this.#replay.end()
  }

  find(fault: LoggedFault): SeenFault | undefined {
    return this.#seen.get(keyOf(fault))
  }

  /** All of them, in the order in which each first came. */
  all(): readonly SeenFault[] {
    return [...this.#seen.values()]
  }

  #take(story: FaultStory): void {
    this.total++
    const key = keyOf(story)
    const seen = this.#seen.get(key)
    const recorded = story.isRecorded ? 1 : 0
    if (seen !== undefined) {
      seen.count++
      seen.recorded += recorded
    } else if (this.#seen.size < STORIES_MAX) this.#seen.set(key, { first: story, count: 1, recorded })
    else this.dropped++
  }
}

const keyOf = ({ source, reason, isWrite, iova }: LoggedFault): string =>
  `${source} ${reason} ${isWrite} ${iova >> PAGE_SHIFT}`
