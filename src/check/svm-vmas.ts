import { numberOf } from '../bits/u64.ts'
import { slotMap } from '../trace/event.ts'
import { PAGE_REQUEST } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { NEVER } from './vtd-flushes.ts'

const VMA = slotMap('mm.vma')
const PAGE_SHIFT = 12n
/** What a request needs, as the bits of an `mm.vma` record. */
const NEEDS = [
  [PAGE_REQUEST.READ, 1, 'read'],
  [PAGE_REQUEST.WRITE, 2, 'write'],
  [PAGE_REQUEST.EXECUTE, 4, 'execute'],
] as const

interface Area {
  readonly first: number
  readonly end: number
  readonly flags: number
  readonly seq: number
}

/** What user addresses each address space has, and with which rights, from `mm.vma` records. */
export class VmaShadow {
  readonly #areas = new Map<number, readonly Area[]>()
  readonly #changed = new Map<number, number>()

  note(log: RecordLog, seq: number): void {
    const mm = log.slot(seq, VMA.mm)
    const first = numberOf(log.slot(seq, VMA.first + 1), log.slot(seq, VMA.first))
    const end = first + numberOf(log.slot(seq, VMA.count + 1), log.slot(seq, VMA.count))
    const rest = (this.#areas.get(mm) ?? []).flatMap((area) => [
      ...(area.first < first ? [{ ...area, end: Math.min(area.end, first) }] : []),
      ...(area.end > end ? [{ ...area, first: Math.max(area.first, end) }] : []),
    ])
    const flags = log.slot(seq, VMA.flags)
    const areas = log.slot(seq, VMA.present) === 1 ? [...rest, { first, end, flags, seq }] : rest
    this.#areas.set(mm, areas)
    this.#changed.set(mm, seq)
  }

  isKnown(mm: number): boolean {
    return this.#areas.has(mm)
  }

  changedSince(mm: number, seq: number): boolean {
    return (this.#changed.get(mm) ?? NEVER) > seq
  }

  /** Why an access is none that the process may make; empty where it may. */
  missing(mm: number, address: bigint, flags: number): string {
    const area = this.#at(mm, address)
    if (area === undefined) return 'has nothing there'
    const lacks = NEEDS.flatMap(([bit, right, word]) =>
      (flags & bit) !== 0 && (area.flags & right) === 0 ? [word] : [],
    )
    return lacks.length === 0 ? '' : `has no right to ${lacks.join(', ')} there`
  }

  /** The record that says what is at an address; `NEVER` for none. */
  recordOf(mm: number, address: bigint): number {
    return this.#at(mm, address)?.seq ?? NEVER
  }

  #at(mm: number, address: bigint): Area | undefined {
    const page = Number(address >> PAGE_SHIFT)
    return this.#areas.get(mm)?.find(({ first, end }) => page >= first && page < end)
  }
}
