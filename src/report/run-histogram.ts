import { pageOf } from '../bits/u64.ts'
import type { TceUpdate } from '../check/window-shadow.ts'
import { slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'

const SET = slotMap('tce.set')
const UNIT_SHIFT = 12

/** How many runs had from `from` to `to` pages. */
export interface RunLengths {
  readonly from: number
  readonly to: number
  readonly runs: number
  readonly pages: number
}

/**
 * Lengths of the runs in which pages are mapped: entries of one window that are mapped one after another, each
 * behind the one before it, in bus addresses and in memory. A long run could have had larger pages.
 */
export class RunHistogram {
  readonly #runs: number[] = []
  readonly #pages: number[] = []
  // The run that may still grow.
  #window = -1
  #entry = 0
  #memory = 0
  #length = 0

  /** Takes note of a `tce.set` record that maps. */
  add(log: RecordLog, seq: number, { window: { number, pageShift }, first, end }: TceUpdate): void {
    const count = end - first
    const units = 1 << (pageShift - UNIT_SHIFT)
    const page = pageOf(log.slot(seq, SET.tce + 1), log.slot(seq, SET.tce), UNIT_SHIFT)
    const memory = Math.floor(page / units) * units
    const step = log.slot(seq, SET.step)
    const isRow = count === 1 || step === pageShift
    const goesOn = number === this.#window && first === this.#entry && memory === this.#memory
    if (!goesOn) this.#close()
    this.#length += isRow ? count : 1
    if (!isRow) {
      // No two neighbours of it are a row in memory: all but the first are runs of one page.
      this.#close()
      if (count > 2) this.#count(1, count - 2)
      this.#length = 1
    }
    const stride = isRow ? units : step < 0 ? 0 : 2 ** (step - UNIT_SHIFT)
    this.#window = number
    this.#entry = first + count
    this.#memory = memory + (count - 1) * stride + units
  }

  /** Lengths in powers of two, shortest first; the run that may still grow is counted as it is. */
  lengths(): RunLengths[] {
    const open = this.#length === 0 ? -1 : bucketOf(this.#length)
    const buckets = Math.max(this.#runs.length, open + 1)
    return Array.from({ length: buckets }, (_, i) => ({
      from: 2 ** i,
      to: 2 ** (i + 1) - 1,
      runs: (this.#runs[i] ?? 0) + (i === open ? 1 : 0),
      pages: (this.#pages[i] ?? 0) + (i === open ? this.#length : 0),
    })).filter((b) => b.runs > 0)
  }

  #close(): void {
    if (this.#length > 0) this.#count(this.#length, 1)
    this.#length = 0
  }

  #count(pages: number, runs: number): void {
    const bucket = bucketOf(pages)
    this.#runs[bucket] = (this.#runs[bucket] ?? 0) + runs
    this.#pages[bucket] = (this.#pages[bucket] ?? 0) + runs * pages
  }
}

// A logarithm is a call to the mathematical library; nearly all runs are short.
const bucketOf = (pages: number): number =>
  pages <= 0x7fff_ffff ? 31 - Math.clz32(pages) : Math.floor(Math.log2(pages))
