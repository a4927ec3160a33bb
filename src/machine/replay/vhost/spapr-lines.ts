import { hex } from '../../../bits/u64.ts'
import type { LogBatch } from '../../../reader/log-batch.ts'
import { QEMU_TRACE } from '../../../reader/qemu-trace-format.ts'
import type { MessageTally } from './message-tally.ts'
import type { Range } from './told-ranges.ts'

const N = QEMU_TRACE.number
const S = QEMU_TRACE.slot
const TCE_PERM = 3n
/** A call clears no more; what is told before it is no longer. */
const PENDING_MAX = 1 << 16

interface Dropped {
  readonly iova: bigint
  readonly last: bigint
  readonly line: number
}

/** IOMMU page size behind a LIOBN, if it is known. */
export type PageBytesOf = (liobn: bigint) => bigint | undefined

/** What a hypercall cleared: bus addresses [start, end). */
interface Cleared {
  readonly start: bigint
  readonly end: bigint
  readonly text: string
}

/**
 * What QEMU's pseries machine tells a listener: each entry that a hypercall clears, one by one, before the line of the
 * hypercall. So an INVALIDATE waits for that line, and the line must cover all that wait.
 */
export class SpaprLines {
  readonly #tally: MessageTally
  readonly #pageBytesOf: PageBytesOf
  #pending: Dropped[] = []
  /** Messages of the same kind that the message log does not have. */
  #unseen = 0
  /** Whether the back end's device has a listener: from the start of a driver to its stop. */
  isListening = false

  constructor(tally: MessageTally, pageBytesOf: PageBytesOf) {
    this.#tally = tally
    this.#pageBytesOf = pageBytesOf
  }

  /** The back end is told that [iova, last] goes. */
  take(iova: bigint, last: bigint, line: number): void {
    if (this.#pending.length < PENDING_MAX) this.#pending.push({ iova, last, line })
  }

  /** The back end is told of a range that the message log does not have. */
  takeUnseen(): void {
    this.#unseen++
  }

  /** What a line clears, where the message log does not have all that the back end was told of it. */
  unseenBy(batch: LogBatch): Range | undefined {
    const cleared = this.#unseen === 0 ? undefined : this.#clearedBy(batch)
    return cleared === undefined ? undefined : { iova: cleared.start, last: cleared.end - 1n }
  }

  row(batch: LogBatch): void {
    const cleared = this.#clearedBy(batch)
    if (cleared === undefined) return
    const hasUnseen = this.#unseen > 0
    this.#unseen = 0
    const line = batch.lines[0] as number
    let told = 0n
    for (const dropped of this.#pending) {
      const { iova, last } = dropped
      if (iova >= cleared.start && last < cleared.end) {
        told += last - iova + 1n
        this.#tally.matched.add('INVALIDATE: an entry that a hypercall cleared', dropped.line)
      } else this.#diverge(dropped)
    }
    this.#pending = []
    if (this.isListening && !hasUnseen && told !== cleared.end - cleared.start) {
      this.#tally.diverge({
        line,
        call: cleared.text,
        log: `INVALIDATE of ${told} bytes`,
        model: `INVALIDATE of ${cleared.end - cleared.start} bytes, all that the call clears`,
        rule: 'listener-not-told',
      })
    }
  }

  /** No hypercall follows any more. */
  finish(): void {
    for (const dropped of this.#pending) this.#diverge(dropped)
    this.#pending = []
  }

  #diverge({ iova, last, line }: Dropped): void {
    this.#tally.diverge({
      line,
      call: 'INVALIDATE',
      log: `[${hex(iova)}, ${hex(last)}]`,
      model: 'no hypercall clears it',
      rule: 'invalidate-without-cause',
    })
  }

  /** What a line shows to be cleared; nothing for one that clears nothing, or behind a window that nobody knows. */
  #clearedBy(batch: LogBatch): Cleared | undefined {
    const event = batch.events[0] as number
    const isStuff = event === N.spapr_iommu_pci_stuff || event === N.spapr_iommu_stuff
    if (!isStuff && event !== N.spapr_iommu_pci_put && event !== N.spapr_iommu_put) return undefined
    const s = isStuff ? S.spapr_iommu_pci_stuff : S.spapr_iommu_pci_put
    if (batch.u64(0, s.ret) !== 0n || (batch.u64(0, s.tce) & TCE_PERM) !== 0n) return undefined
    const pageBytes = this.#pageBytesOf(batch.u64(0, s.liobn))
    if (pageBytes === undefined) return undefined
    if (isStuff) {
      const pages = batch.u64(0, S.spapr_iommu_pci_stuff.npages)
      const end = batch.u64(0, S.spapr_iommu_pci_stuff.iobaEnd)
      const text = `H_STUFF_TCE of ${pages} entries before ${hex(end)}`
      return { start: end - pages * pageBytes, end, text }
    }
    const start = batch.u64(0, S.spapr_iommu_pci_put.ioba)
    return { start, end: start + pageBytes, text: `H_PUT_TCE of nothing at ${hex(start)}` }
  }
}
