import { wordOf } from '../../bits/u64.ts'
import type { TceEntries } from '../../table/tce-entries.ts'
import { TCE_PERM } from '../../table/tce-entry.ts'
import type { TceMapping } from '../ports.ts'

const PERM_WORD = BigInt(TCE_PERM)

/**
 * The entries of a table that lies in KVM, through the mapping that QEMU has of it: what KVM writes is seen here, and
 * the other way round. Every access brings the page of its entry, also one that reads.
 */
export class MappedEntries implements TceEntries {
  lo = 0
  hi = 0
  readonly fd: number
  /** Name of the mapping; stands for its address. */
  readonly map: string
  readonly #table: TceMapping
  readonly #entries: number
  readonly #onLoss: () => void

  /** @param onLoss told of an access for which the kernel has no memory: SIGBUS, if not worse */
  constructor(
    at: { readonly fd: number; readonly map: string; readonly entries: number },
    table: TceMapping,
    onLoss: () => void,
  ) {
    this.fd = at.fd
    this.map = at.map
    this.#table = table
    this.#entries = at.entries
    this.#onLoss = onLoss
  }

  load(index: number): void {
    this.lo = 0
    this.hi = 0
    if (!this.#reaches(index)) return
    this.#table.load(index)
    this.lo = this.#table.lo
    this.hi = this.#table.hi
  }

  get(index: number): bigint {
    this.load(index)
    return wordOf(this.hi, this.lo)
  }

  set(index: number, lo: number, hi: number): void {
    if (this.#reaches(index)) this.#table.store(index, hi, lo)
  }

  setList(first: number, count: number, list: Int32Array): void {
    for (let i = 0; i < count; i++) this.set(first + i, list[i * 2 + 1] as number, list[i * 2] as number)
  }

  fill(first: number, end: number, lo: number, hi: number): void {
    for (let index = first; index < end; index++) this.set(index, lo, hi)
  }

  *live(): Generator<readonly [index: number, tce: bigint]> {
    for (const entry of this.held()) if ((entry[1] & PERM_WORD) !== 0n) yield entry
  }

  *held(): Generator<readonly [index: number, tce: bigint]> {
    for (let index = 0; index < this.#entries; index++) {
      this.load(index)
      if ((this.lo | this.hi) !== 0) yield [index, wordOf(this.hi, this.lo)]
    }
  }

  /** Whether an access gets its page. Past the last one there is nothing: KVM may write there (erratum X14), QEMU does not. */
  #reaches(index: number): boolean {
    if (!this.#table.hasPage(index)) return false
    if (this.#table.touch(index)) return true
    this.#onLoss()
    return false
  }
}
