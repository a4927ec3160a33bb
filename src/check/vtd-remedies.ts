import { NONE, TABLE_MODE, VTD_CACHE } from '../trace/event-codes.ts'
import { SMALLEST } from './vtd-invalidations.ts'
import type { CachedEntry, Dependence } from './vtd-provenance.ts'
import type { Changed, Structure, VtdUnitShadow } from './vtd-unit-shadow.ts'
import { ROLE } from './vtd-words.ts'

const { SCALABLE, EXTENDED } = TABLE_MODE
const SECOND_LEVEL = 2
const PGTT_SHIFT = 6
const WORD_BYTES = 8
/** DID in the second word of a context entry of legacy and extended mode; in that of a PASID entry it is at 0. */
const DID_SHIFT = 8

const behind = (...texts: readonly string[]): string => texts.join(', then of ')

/**
 * The smallest invalidation that takes a cached translation whose word changed, or whose domain has other tables.
 * (specification of the project, what software must invalidate; VT-d manual, Guidance to Software for Invalidations)
 */
export function missingFor(unit: VtdUnitShadow, entry: CachedEntry, word: Dependence | undefined): string {
  const { abilities } = unit
  const { domain, pasid, source, tag } = entry
  if (entry.cache === VTD_CACHE.DEVICE_TLB) {
    // Of nested tables the second level says nothing of the address that the device uses.
    const isOfInput = word !== undefined && (word.role === ROLE.FIRST || tag.isByPasid !== true)
    const range = isOfInput && word.range.pages > tag.range.pages ? word.range : tag.range
    return SMALLEST.device(source, pasid, word === undefined ? undefined : range)
  }
  if (word === undefined || (word.role !== ROLE.FIRST && word.role !== ROLE.SECOND)) {
    return tag.isByPasid ? SMALLEST.pasid(domain, pasid) : SMALLEST.domain(abilities, domain)
  }
  const isLeafOnly = word === entry.from.at(-1)
  return word.role === ROLE.FIRST
    ? SMALLEST.pasidPages(abilities, domain, pasid, word.range, isLeafOnly)
    : SMALLEST.pages(abilities, domain, word.range, isLeafOnly)
}

/** What takes a context or PASID entry that changed, and what was translated under it. */
export function missingForStructure(unit: VtdUnitShadow, entry: Structure, { role }: Changed): string {
  const { abilities, mode } = unit
  const { domain, source, pasid, fault, lo } = entry
  if (role === ROLE.ROOT) {
    const all = SMALLEST.all(abilities)
    return mode === SCALABLE
      ? behind(SMALLEST.allContexts(), SMALLEST.allPasids(), all)
      : behind(SMALLEST.allContexts(), all)
  }
  if (pasid === NONE) {
    // What is not present has no domain; that of the new entry is what comes to be translated.
    if (fault !== 0)
      return behind(SMALLEST.context(0, source), SMALLEST.domain(abilities, newDomain(unit, entry)))
    if (mode === SCALABLE) return missingForScalable(unit, source)
    return behind(SMALLEST.context(domain, source), SMALLEST.domain(abilities, domain))
  }
  const own = fault === 0 ? domain : newDomain(unit, entry)
  const isSecondLevel = mode !== EXTENDED && ((lo >>> PGTT_SHIFT) & 7) === SECOND_LEVEL
  return behind(
    SMALLEST.pasidEntry(own, pasid),
    isSecondLevel ? SMALLEST.domain(abilities, own) : SMALLEST.pasid(own, pasid),
  )
}

/** A context entry of scalable mode has no domain: those of the PASIDs below it are forgotten, one by one. */
function missingForScalable({ abilities, pasids }: VtdUnitShadow, source: number): string {
  const below = [...pasids.values()].filter((entry) => entry.source === source && entry.fault === 0)
  const domains = [...new Set(below.map((entry) => entry.domain))]
  const ofDomain = (domain: number) => [SMALLEST.pasidsOfDomain(domain), SMALLEST.domain(abilities, domain)]
  return behind(SMALLEST.context(domains[0] ?? 0, source), ...domains.flatMap(ofDomain))
}

/** The domain that an entry names now, as far as it was seen to be written; else the one that was read. */
function newDomain({ words, mode }: VtdUnitShadow, { address, pasid, domain }: Structure): number {
  if (address === 0 || !words.load(address + WORD_BYTES)) return domain
  const shift = pasid === NONE && mode !== SCALABLE ? DID_SHIFT : 0
  return (words.lo >>> shift) & 0xffff
}
