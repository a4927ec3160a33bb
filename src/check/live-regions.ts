import { hex, numberOf, wordOf } from '../bits/u64.ts'
import { KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { counted } from './words.ts'

// All records of regions begin with the same fields.
const REGION = slotMap('region.new')

/** A region as its last record shows it. */
export interface LiveRegion {
  readonly region: number
  /** Interned. */
  readonly process: number
  readonly ua: bigint
  readonly pages: number
  readonly isDevice: boolean
  readonly used: number
  readonly mapped: number
  /** Record that made it. */
  readonly begun: number
}

type Mutable = { -readonly [K in keyof LiveRegion]: LiveRegion[K] }

/** Regions that are registered, by number, from their records alone. */
export class LiveRegions {
  readonly #regions = new Map<number, Mutable>()

  /** Mappings of the region of a record before it, or -1 where the region was not known. */
  mappedBefore(log: RecordLog, seq: number): number {
    return this.#find(log, seq)?.mapped ?? -1
  }

  /** Regions of a process (interned), in the order in which they came. */
  of(process: number): LiveRegion[] {
    return [...this.#regions.values()].filter((r) => r.process === process)
  }

  /**
   * Takes a record of a region in. Answers the region as it is now, or as it was when it ended. Mappings come one
   * by one: a region that is known is changed in place.
   */
  take(log: RecordLog, seq: number): LiveRegion {
    const known = log.kindNumberOf(seq) === KIND['region.new'] ? undefined : this.#find(log, seq)
    const region = known ?? this.#add(log, seq)
    region.used = log.slot(seq, REGION.used)
    region.mapped = log.slot(seq, REGION.mapped)
    if (region.used === 0) this.#regions.delete(region.region)
    return region
  }

  #find(log: RecordLog, seq: number): Mutable | undefined {
    return this.#regions.get(log.slot(seq, REGION.region))
  }

  #add(log: RecordLog, seq: number): Mutable {
    const at = (slot: number) => log.slot(seq, slot)
    const made: Mutable = {
      region: at(REGION.region),
      process: at(REGION.process),
      ua: wordOf(at(REGION.ua + 1), at(REGION.ua)),
      pages: numberOf(at(REGION.pages + 1), at(REGION.pages)),
      isDevice: log.kindNumberOf(seq) === KIND['region.new'] && at(REGION.device) === 1,
      used: 0,
      mapped: 0,
      begun: seq,
    }
    this.#regions.set(made.region, made)
    return made
  }
}

/** A region in words, with its counts. */
export const regionText = (
  log: RecordLog,
  { region, process, ua, pages, used, mapped }: LiveRegion,
): string =>
  `region ${region}, ${counted(pages, 'page')} of ${log.names.word(process)} at ${hex(ua)} (used ${used}, mapped ${mapped})`
