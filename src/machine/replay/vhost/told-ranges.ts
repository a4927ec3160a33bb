import { INTERRUPT_END, INTERRUPT_START } from '../../../memory/interrupt-range.ts'

export interface Range {
  readonly iova: bigint
  readonly last: bigint
}

interface Told extends Range {
  readonly why: string
  /** Parts that nobody has been told of. */
  left: readonly Range[]
  /** QEMU decides by what no line shows: nothing is missing where it tells of nothing. */
  readonly isOptional: boolean
}

/** What of a range is left without another one. */
function without(range: Range, gone: Range): Range[] {
  if (gone.last < range.iova || gone.iova > range.last) return [range]
  const left: Range[] = []
  if (range.iova < gone.iova) left.push({ iova: range.iova, last: gone.iova - 1n })
  if (gone.last < range.last) left.push({ iova: gone.last + 1n, last: range.last })
  return left
}

/** Whether two ranges share addresses where memory can lie: nobody is told of those of interrupts. */
function isMemory(a: Range, b: Range): boolean {
  // Math has no way with bigint.
  const [, iova] = a.iova < b.iova ? [a.iova, b.iova] : [b.iova, a.iova]
  const [last] = a.last < b.last ? [a.last, b.last] : [b.last, a.last]
  return iova <= last && (iova < INTERRUPT_START || last >= INTERRUPT_END)
}

/** What a descriptor takes back, until the listener has been told of all of it. */
export class ToldRanges {
  #told: Told[] = []

  /** A listener must be told of [iova, last]. */
  expect(iova: bigint, last: bigint, why: string, isOptional = false): void {
    this.#told.push({ iova, last, why, left: [{ iova, last }], isOptional })
  }

  /** The listener is told of a range. Answers what it was told for; nothing where it had no reason. */
  take(iova: bigint, last: bigint): string | undefined {
    const told = this.#told.find((t) => iova >= t.iova && last <= t.last)
    if (told === undefined) return undefined
    told.left = told.left.flatMap((range) => without(range, { iova, last }))
    return told.why
  }

  /** The listener is told of something that no line shows: the oldest of what is left. Answers it whole. */
  takeNext(): Range | undefined {
    const told = this.#told.find(({ left }) => left.length > 0)
    if (told === undefined) return undefined
    told.left = []
    return told
  }

  /** What of [iova, last] nobody has been told of, among what was expected so far. */
  untold(iova: bigint, last: bigint): boolean {
    return this.#told.some(({ left }) => left.some((range) => isMemory(range, { iova, last })))
  }

  /** The descriptor is done. Answers what nobody was told of. */
  close(): readonly { readonly why: string; readonly iova: bigint; readonly last: bigint }[] {
    const missing = this.#told.flatMap(({ why, left, isOptional }) =>
      isOptional ? [] : left.filter((range) => isMemory(range, range)).map((range) => ({ why, ...range })),
    )
    this.#told = []
    return missing
  }
}
