/** Runs of addresses that are kept; more are one run from the lowest to the highest. */
export const RANGES_MAX = 64
const PAGE_BYTES = 4096n

/** Addresses [first, last] that one after another faulted; both are as the log prints them, and mostly of a page. */
export interface AddressRange {
  readonly first: bigint
  readonly last: bigint
}

interface Run {
  first: bigint
  last: bigint
}

/** Addresses of faults as runs of pages, sorted; bounded, whatever comes. */
export class AddressRanges {
  readonly #runs: Run[] = []
  #recent: Run | undefined
  #isOneRun = false

  /** Whether there were so many runs that only the lowest and the highest address are known. */
  get isOneRun(): boolean {
    return this.#isOneRun
  }

  get ranges(): readonly AddressRange[] {
    return this.#runs
  }

  add(address: bigint): void {
    const recent = this.#recent
    if (recent !== undefined && address >= recent.first && address <= recent.last) return
    const at = this.#place(address)
    const before = this.#runs[at - 1]
    const next = this.#runs[at]
    if (this.#isOneRun) {
      const run = this.#runs[0] as Run
      if (address < run.first) run.first = address
      if (address > run.last) run.last = address
      return
    }
    if (before !== undefined && address <= before.last + PAGE_BYTES) {
      if (address > before.last) before.last = address
      this.#recent = before
      if (next !== undefined && next.first <= before.last + PAGE_BYTES) {
        before.last = next.last
        this.#runs.splice(at, 1)
      }
      return
    }
    if (next !== undefined && next.first <= address + PAGE_BYTES) {
      next.first = address
      this.#recent = next
      return
    }
    const run = { first: address, last: address }
    this.#runs.splice(at, 0, run)
    this.#recent = run
    if (this.#runs.length > RANGES_MAX) {
      const last = (this.#runs.at(-1) as Run).last
      this.#runs.length = 1
      ;(this.#runs[0] as Run).last = last
      this.#recent = this.#runs[0]
      this.#isOneRun = true
    }
  }

  /** Index of the first run that begins above an address. */
  #place(address: bigint): number {
    let low = 0
    let high = this.#runs.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#runs[middle] as Run).first <= address) low = middle + 1
      else high = middle
    }
    return low
  }
}
