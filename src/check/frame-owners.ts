import { slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { NO_RECORD } from './lives.ts'
import { pageSlot } from './window-shadow.ts'

const OWN = slotMap('page.own')
const CHUNK_SHIFT = 12
const CHUNK_FRAMES = 1 << CHUNK_SHIFT

interface Chunk {
  readonly owners: Int32Array
  readonly records: Int32Array
}

/** Who owns each frame of the host, and since which record, by `page.own` records of the space `hpa`. */
export class FrameOwners {
  /** log2 of the 4 KiB pages in a frame. */
  subShift = 0
  readonly #chunks: (Chunk | undefined)[] = []

  /** Takes a `page.own` record in. */
  own(log: RecordLog, seq: number): void {
    this.subShift = log.slot(seq, OWN.pageShift) - 12
    const owner = log.slot(seq, OWN.owner)
    const first = pageSlot(log, seq, OWN.first)
    const end = first + pageSlot(log, seq, OWN.count)
    for (let at = first; at < end; ) {
      const number = Math.floor(at / CHUNK_FRAMES)
      const from = at - number * CHUNK_FRAMES
      const stop = Math.min(CHUNK_FRAMES, from + (end - at))
      const chunk = this.#chunk(number)
      chunk.owners.fill(owner, from, stop)
      chunk.records.fill(seq, from, stop)
      at += stop - from
    }
  }

  /** Interned owner of a frame; 0 while it is free, and where no record speaks of it. */
  ownerOf(frame: number): number {
    return this.#chunks[Math.floor(frame / CHUNK_FRAMES)]?.owners[frame & (CHUNK_FRAMES - 1)] ?? 0
  }

  /** The record that says who owns a frame, or NO_RECORD. */
  recordOf(frame: number): number {
    return this.#chunks[Math.floor(frame / CHUNK_FRAMES)]?.records[frame & (CHUNK_FRAMES - 1)] ?? NO_RECORD
  }

  #chunk(number: number): Chunk {
    let chunk = this.#chunks[number]
    if (chunk === undefined) {
      chunk = {
        owners: new Int32Array(CHUNK_FRAMES),
        records: new Int32Array(CHUNK_FRAMES).fill(NO_RECORD),
      }
      this.#chunks[number] = chunk
    }
    return chunk
  }
}
