import { hiOfNumber, loOfNumber } from '../../../bits/u64.ts'
import { KIND, slotMap } from '../../../trace/event.ts'
import { VTD_CACHE } from '../../../trace/event-codes.ts'
import type { Stage } from '../../../trace/stage.ts'
import { type ContextEntry, NO_PASID, type PasidEntry, type Translation, type VtdRequest } from '../ports.ts'
import type { WalkTrail } from './engine.ts'

const CONTEXT = slotMap('vtd.context')
const PASID = slotMap('vtd.pasid')
const WALK = slotMap('vtd.walk')
const FILL = slotMap('vtd.fill')
const TRANSLATE = slotMap('vtd.translate')
const LEVELS = [WALK.t1, WALK.t2, WALK.t3, WALK.t4, WALK.t5] as const

const PAGE_SHIFT = 12

/** What `fill` says of an entry. */
export interface Fill {
  cache: (typeof VTD_CACHE)[keyof typeof VTD_CACHE]
  entry: number
  source: number
  domain: number
  pasid: number
  /** First address, in lanes, and log2 of the bytes. */
  hi: number
  lo: number
  shift: number
  /** 4 KiB page that it leads to. */
  page: number
  perm: number
}

export const newFill = (): Fill => ({
  cache: VTD_CACHE.IOTLB,
  entry: 0,
  source: 0,
  domain: 0,
  pasid: NO_PASID,
  hi: 0,
  lo: 0,
  shift: 0,
  page: 0,
  perm: 0,
})

/** The records of a unit's translations, written in place. Nobody asks for one unless the log is on. */
export class TranslationRecords {
  readonly #stage: Stage
  readonly #unit: number

  constructor(stage: Stage, unit: string) {
    this.#stage = stage
    this.#unit = stage.log.names.intern(unit)
  }

  context(source: number, entry: ContextEntry): void {
    const { log, cause } = this.#stage
    const at = log.begin(KIND['vtd.context'], cause)
    const { lanes } = log
    lanes[at + CONTEXT.unit] = this.#unit
    lanes[at + CONTEXT.source] = source
    lanes[at + CONTEXT.rootAddress] = loOfNumber(entry.rootAddress)
    lanes[at + CONTEXT.rootAddress + 1] = hiOfNumber(entry.rootAddress)
    lanes[at + CONTEXT.address] = loOfNumber(entry.address)
    lanes[at + CONTEXT.address + 1] = hiOfNumber(entry.address)
    lanes[at + CONTEXT.lo] = entry.lo
    lanes[at + CONTEXT.lo + 1] = entry.hi
    lanes[at + CONTEXT.domain] = entry.domain
    lanes[at + CONTEXT.fault] = entry.fault
    log.commit(KIND['vtd.context'])
  }

  pasid(source: number, pasid: number, entry: PasidEntry): void {
    const { log, cause } = this.#stage
    const at = log.begin(KIND['vtd.pasid'], cause)
    const { lanes } = log
    lanes[at + PASID.unit] = this.#unit
    lanes[at + PASID.source] = source
    lanes[at + PASID.pasid] = pasid
    lanes[at + PASID.directory] = loOfNumber(entry.directoryAddress)
    lanes[at + PASID.directory + 1] = hiOfNumber(entry.directoryAddress)
    lanes[at + PASID.address] = loOfNumber(entry.address)
    lanes[at + PASID.address + 1] = hiOfNumber(entry.address)
    lanes[at + PASID.lo] = entry.lo
    lanes[at + PASID.lo + 1] = entry.hi
    lanes[at + PASID.domain] = entry.domain
    lanes[at + PASID.fault] = entry.fault
    log.commit(KIND['vtd.pasid'])
  }

  /** One record for each walk of page tables. */
  walks(source: number, pasid: number, trail: WalkTrail): void {
    const { log, cause } = this.#stage
    for (let walk = 0; walk < trail.walks; walk++) {
      const at = log.begin(KIND['vtd.walk'], cause)
      const { lanes } = log
      const page = trail.input[walk] as number
      lanes[at + WALK.unit] = this.#unit
      lanes[at + WALK.source] = source
      lanes[at + WALK.pasid] = pasid
      lanes[at + WALK.stage] = trail.stage[walk] as number
      lanes[at + WALK.iova] = page << PAGE_SHIFT
      lanes[at + WALK.iova + 1] = Math.floor(page / 0x10_0000)
      for (let level = 1; level <= LEVELS.length; level++) {
        lanes[at + (LEVELS[level - 1] as number)] = trail.table(walk, level)
      }
      lanes[at + WALK.fault] = trail.fault[walk] as number
      log.commit(KIND['vtd.walk'])
    }
  }

  fill(what: Fill): void {
    const { log, cause } = this.#stage
    const at = log.begin(KIND['vtd.fill'], cause)
    const { lanes } = log
    lanes[at + FILL.unit] = this.#unit
    lanes[at + FILL.cache] = what.cache
    lanes[at + FILL.entry] = what.entry
    lanes[at + FILL.source] = what.source
    lanes[at + FILL.domain] = what.domain
    lanes[at + FILL.pasid] = what.pasid
    lanes[at + FILL.iova] = what.lo
    lanes[at + FILL.iova + 1] = what.hi
    lanes[at + FILL.shift] = what.shift
    lanes[at + FILL.target] = what.page << PAGE_SHIFT
    lanes[at + FILL.target + 1] = Math.floor(what.page / 0x10_0000)
    lanes[at + FILL.perm] = what.perm
    log.commit(KIND['vtd.fill'])
  }

  translate(request: VtdRequest, to: Translation, entry: number): void {
    const { log, cause, line } = this.#stage
    const at = log.begin(KIND['vtd.translate'], cause)
    const { lanes } = log
    const { page } = to
    lanes[at + TRANSLATE.unit] = this.#unit
    lanes[at + TRANSLATE.source] = request.source
    lanes[at + TRANSLATE.pasid] = request.pasid
    lanes[at + TRANSLATE.iova] = request.lo
    lanes[at + TRANSLATE.iova + 1] = request.hi
    lanes[at + TRANSLATE.target] = (page << PAGE_SHIFT) | (request.lo & 0xfff)
    lanes[at + TRANSLATE.target + 1] = Math.floor(page / 0x10_0000)
    lanes[at + TRANSLATE.perm] = to.perm
    lanes[at + TRANSLATE.need] = request.need
    lanes[at + TRANSLATE.fault] = to.fault
    lanes[at + TRANSLATE.entry] = entry
    lanes[at + TRANSLATE.line] = line
    log.commit(KIND['vtd.translate'])
  }
}
