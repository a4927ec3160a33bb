import { hiOfPage, loOfPage } from '../bits/u64.ts'
import { KIND } from '../trace/event.ts'
import type { Host } from './host.ts'

/** What happens to an address space, as records: pages are system pages of its process. */
export class MmRecords {
  readonly #host: Host
  readonly #process: number

  /** @param process whose address space it is */
  constructor(host: Host, process: string) {
    this.#host = host
    this.#process = host.stage.log.names.intern(process)
  }

  /** Pages [page, end) are mapped (1), or not any more (0). */
  map(page: number, end: number, present: number): void {
    const { stage, pageShift } = this.#host
    const [lo, hi] = [loOfPage(page, pageShift), hiOfPage(page, pageShift)]
    const [bytesLo, bytesHi] = [loOfPage(end - page, pageShift), hiOfPage(end - page, pageShift)]
    stage.log.append(KIND['mm.map'], stage.cause, this.#process, lo, hi, bytesLo, bytesHi, present)
  }

  /** Each of `count` pages has `delta` pins more. */
  pin(page: number, count: number, delta: number): void {
    const { stage, pageShift } = this.#host
    const [lo, hi] = [loOfPage(page, pageShift), hiOfPage(page, pageShift)]
    stage.log.append(KIND['mm.pin'], stage.cause, this.#process, lo, hi, count, 0, delta)
  }

  /** The process has ended; its files are closed next. */
  exit(): void {
    const { log, cause } = this.#host.stage
    log.append(KIND['mm.exit'], cause, this.#process)
  }

  /** The last holder of the structure has let go. */
  free(): void {
    const { log, cause } = this.#host.stage
    log.append(KIND['mm.free'], cause, this.#process)
  }
}
