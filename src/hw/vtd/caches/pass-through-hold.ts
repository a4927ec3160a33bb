import { Cells, type Journal, keyOf } from '../../../bits/state.ts'
import { FAULT } from '../fault-reasons.ts'
import {
  NO_PASID,
  newRequest,
  newTranslation,
  type PasidEntry,
  type Translation,
  type VtdInvalidation,
  type VtdRequest,
} from '../ports.ts'
import { FUNCTION_MASKS } from './context-cache.ts'
import type { PageCache } from './engine.ts'

const IS_KNOWN = 1
const IS_DIRECT = 2
/** A PASID entry is remembered (D103): the lanes behind the flags say which. */
const HAS_ENTRY = 4

/** Lanes of a source-id: flags, then of the entry that is remembered its domain, its first word, and what else is decoded. */
const FLAGS = 0
const DOMAIN = 1
const FIRST_LO = 2
const FIRST_HI = 3
const ROOT_LO = 4
const REST = 5
const LANES = 8
const ROOT_HI_SHIFT = 12

/** For an engine that shall not walk page tables: whatever would need them is refused. */
export const NO_PAGES: PageCache = Object.freeze({ loadPage: () => FAULT.BEYOND_WIDTH })

/**
 * Which devices QEMU passes by its unit: decided from memory at certain moments, and held until the next (D28).
 *
 * Since 11.0 an invalidation of the PASID cache is such a moment too (D103). For it the PASID entry of each device is
 * remembered, and compared with memory: what is as it was decides nothing. An entry that differs is not remembered
 * instead; only one that is bad makes room. A unit with first-level tables does as much with every invalidation of
 * context entries, and when the root table is set or translation enabled. (QEMU 7.2 hw/i386/intel_iommu.c,
 * vtd_switch_address_space; 11.0 vtd_pasid_cache_sync_locked, vtd_replay_pasid_bindings_all)
 */
export class PassThroughHold {
  readonly #read: (request: VtdRequest, into: Translation) => void
  readonly #request = newRequest()
  readonly #found = newTranslation()
  /** Of each source-id. */
  readonly #state: Cells
  readonly #pasid: () => PasidEntry
  /** Erratum D103; of a unit with first-level tables at other moments too. */
  readonly #remembers: boolean
  readonly #replays: boolean

  /**
   * @param read answers a request by memory alone
   * @param pasid the PASID entry that it has read
   */
  constructor(
    read: (request: VtdRequest, into: Translation) => void,
    pasid: () => PasidEntry,
    journal: Journal,
    {
      name,
      remembers,
      replays,
    }: { readonly name: string; readonly remembers: boolean; readonly replays: boolean },
  ) {
    this.#read = read
    this.#pasid = pasid
    this.#remembers = remembers
    this.#replays = remembers && replays
    this.#state = new Cells(journal, keyOf('vtd-pass-through', name), 256 * LANES)
  }

  isDirect(source: number): boolean {
    return (this.#flags(source) & IS_DIRECT) !== 0
  }

  isKnown(source: number): boolean {
    return this.#flags(source) !== 0
  }

  /** One device is looked at. */
  decide(source: number): void {
    this.#state.ensure((source + 1) * LANES)
    this.#look(source)
    const isDirect = this.#found.isDirect && this.#found.fault === 0
    const kept = this.#flags(source) & HAS_ENTRY
    this.#state.set(source * LANES + FLAGS, IS_KNOWN | kept | (isDirect ? IS_DIRECT : 0))
  }

  /** Another root table, or translation is switched: whatever was remembered is forgotten first. */
  rootChanged(): void {
    for (let source = 0; source < this.#sources; source++) {
      if (!this.isKnown(source)) continue
      this.#forget(source)
      this.#contextInvalidated(source)
    }
  }

  /** Software has something forgotten. */
  invalidated(what: VtdInvalidation): void {
    if (what.what === 'context') this.#contextsInvalidated(what)
    else if (what.what === 'pasid-cache' && this.#remembers) {
      for (let source = 0; source < this.#sources; source++)
        if (this.isKnown(source)) this.#compare(source, what)
    }
  }

  get #sources(): number {
    return Math.floor(this.#state.length / LANES)
  }

  #flags(source: number): number {
    return this.#state.data[source * LANES + FLAGS] ?? 0
  }

  /** The devices that an invalidation of context entries names; any that names no device names all. */
  #contextsInvalidated({ scope, source, functionMask }: VtdInvalidation): void {
    if (scope !== 'fine') {
      for (let any = 0; any < this.#sources; any++) if (this.isKnown(any)) this.#contextInvalidated(any)
      return
    }
    const compared = 0xffff & ~(FUNCTION_MASKS[functionMask & 3] as number)
    for (let device = 0; device < 8; device++) {
      const named = (source & ~7) | device
      if (((named ^ source) & compared) === 0 && this.isKnown(named)) this.#contextInvalidated(named)
    }
  }

  #contextInvalidated(source: number): void {
    this.decide(source)
    if (this.#replays) this.#compare(source, EVERYTHING)
  }

  /** Compares the PASID entry of a device with the one that is remembered, where an invalidation names it. */
  #compare(
    source: number,
    { scope, domain, pasid }: Pick<VtdInvalidation, 'scope' | 'domain' | 'pasid'>,
  ): void {
    this.#look(source)
    if (this.#isBad) {
      this.#forget(source)
      this.decide(source)
      return
    }
    // Translation is off, or the tables have no PASIDs.
    if (this.#found.pasid === NO_PASID) return
    const at = source * LANES
    const entry = this.#pasid()
    const isRemembered = (this.#flags(source) & HAS_ENTRY) !== 0
    // Where no entry is remembered, only domain 0 names it.
    if (scope !== 'all' && domain !== this.#state.get(at + DOMAIN)) return
    if (scope === 'fine' && pasid !== this.#found.pasid) return
    if (!isRemembered) this.#remember(at, entry)
    else if (this.#isSame(at, entry)) return
    this.decide(source)
  }

  #remember(at: number, entry: PasidEntry): void {
    this.#state.set(at + FLAGS, (this.#state.get(at + FLAGS) as number) | HAS_ENTRY)
    this.#state.set(at + DOMAIN, entry.domain)
    this.#state.set(at + FIRST_LO, entry.lo)
    this.#state.set(at + FIRST_HI, entry.hi)
    this.#state.set(at + ROOT_LO, entry.firstRoot)
    this.#state.set(at + REST, restOf(entry))
  }

  #isSame(at: number, entry: PasidEntry): boolean {
    return (
      this.#state.get(at + DOMAIN) === entry.domain &&
      this.#state.get(at + FIRST_LO) === (entry.lo | 0) &&
      this.#state.get(at + FIRST_HI) === (entry.hi | 0) &&
      this.#state.get(at + ROOT_LO) === (entry.firstRoot | 0) &&
      this.#state.get(at + REST) === restOf(entry)
    )
  }

  #forget(source: number): void {
    const at = source * LANES
    const flags = this.#flags(source)
    this.#state.fill(0, at + DOMAIN, at + LANES)
    this.#state.set(at + FLAGS, flags & ~HAS_ENTRY)
  }

  #look(source: number): void {
    this.#request.source = source
    this.#found.fault = 0
    this.#found.pasid = NO_PASID
    this.#read(this.#request, this.#found)
  }

  /** What only lacks a walk of page tables is in order. */
  get #isBad(): boolean {
    const { fault } = this.#found
    return fault !== 0 && fault !== FAULT.BEYOND_WIDTH
  }
}

const EVERYTHING = { scope: 'all', domain: 0, pasid: 0 } as const

/** What is decoded of an entry beside its first word, its domain and the lower half of its first-level table. */
const restOf = (entry: PasidEntry): number =>
  (Math.floor(entry.firstRoot / 2 ** 32) << ROOT_HI_SHIFT) |
  (entry.firstLevels << 8) |
  FLAGS_OF.reduce((bits, name, i) => bits | (entry[name] ? 1 << i : 0), 0)

const FLAGS_OF = [
  'hasSupervisor',
  'hasExecute',
  'hasWriteProtect',
  'hasNoExecute',
  'hasSmep',
  'hasExtendedAccessed',
  'hasWalkSnoop',
] as const satisfies readonly (keyof PasidEntry)[]
