import { hex, pageOf, wordOf } from '../../../bits/u64.ts'
import type { SeenContexts } from './seen-contexts.ts'
import type { SeenEntry, SeenIotlb } from './seen-iotlb.ts'
import type { SeenPages } from './seen-pages.ts'
import type { VtdRecords } from './vtd-records.ts'
import { EXPLAINED, type VtdTally } from './vtd-tally.ts'

const PAGE_SHIFT = 12
/** Bits of a page number in the high lane of a table entry: addresses end below 2^52. */
const ADDRESS_HI = 0xf_ffff

/** What the lines before a translation say of it. */
const SAID = {
  NOTHING: 0,
  WALK: 1,
  HIT: 2,
  PASS_THROUGH: 3,
  /** An entry that the log did not see coming, as it began later or has lost lines. */
  LEARNED: 4,
  /** An entry that cannot be there: that is told already. */
  WRONG: 5,
} as const

/** What was said of a source-id, and not yet used. */
interface Said {
  what: number
  page: number
  entry: SeenEntry | undefined
}

/** A line about an entry of the IOTLB; words in lanes. One object is used again. */
export interface ShownEntry {
  source: number
  domain: number
  iovaHi: number
  iovaLo: number
  slpteHi: number
  slpteLo: number
  line: number
}

/** A line about a translation. One object is used again. */
export interface ShownTranslation {
  source: number
  iovaHi: number
  iovaLo: number
  gpaHi: number
  gpaLo: number
  /** Bytes of the page, less 1. */
  maskHi: number
  maskLo: number
  line: number
}

interface TranslationParts {
  readonly tally: VtdTally
  readonly records: VtdRecords
  readonly contexts: SeenContexts
  readonly iotlb: SeenIotlb
  readonly pages: SeenPages
}

/**
 * Judges the translations that a trace shows. QEMU prints that the IOTLB has an entry, or that a walk has made one, or that
 * the device is passed through; and then the translation itself. Each must follow from the line before it, and an entry
 * that is used must have been put there, and not been taken since.
 */
export class TranslationLines {
  /** Translation is on; undefined where the log has not said so. */
  isEnabled: boolean | undefined
  readonly #parts: TranslationParts
  readonly #said = new Map<number, Said>()
  /** The log has lines that explain translations. */
  #hasCauses = false

  constructor(parts: TranslationParts) {
    this.#parts = parts
  }

  /** The IOTLB has an entry. */
  hit(shown: ShownEntry): void {
    const { iotlb } = this.#parts
    const page = pageOf(shown.iovaHi, shown.iovaLo, PAGE_SHIFT)
    const entry = iotlb.find(shown.source, page)
    if (entry !== undefined && isSame(entry, shown)) {
      this.#say(shown.source, SAID.HIT, page, entry)
      return
    }
    const what = iotlb.isComplete ? SAID.WRONG : SAID.LEARNED
    if (what === SAID.WRONG) this.#wrongHit(shown, page, entry)
    this.#say(shown.source, what, page, this.#fill(shown, page))
  }

  /** A walk found a translation, which goes into the IOTLB. */
  update(shown: ShownEntry): void {
    const { source, domain, line } = shown
    const page = pageOf(shown.iovaHi, shown.iovaLo, PAGE_SHIFT)
    const { contexts, records } = this.#parts
    if (contexts.belongs(source, domain) !== undefined) {
      const context = contexts.find(source)
      records.attach(source, domain, context !== undefined && contexts.hasDeviceTlb(context), line)
    }
    this.#say(source, SAID.WALK, page, this.#fill(shown, page))
  }

  /** QEMU found the IOTLB full and has emptied it, for the entry that it puts there next. */
  overflowed(): void {
    const { iotlb } = this.#parts
    iotlb.clear(0)
    for (const said of this.#said.values()) {
      if (said.what !== SAID.WALK || said.entry === undefined) continue
      said.entry = iotlb.fill({ ...said.entry })
    }
  }

  passThrough(source: number, iovaHi: number, iovaLo: number): void {
    this.#say(source, SAID.PASS_THROUGH, pageOf(iovaHi, iovaLo, PAGE_SHIFT), undefined)
  }

  translated(shown: ShownTranslation): void {
    const { source } = shown
    const page = pageOf(shown.iovaHi, shown.iovaLo, PAGE_SHIFT)
    const target = pageOf(shown.gpaHi, shown.gpaLo, PAGE_SHIFT)
    const pages = pageOf(shown.maskHi, shown.maskLo, PAGE_SHIFT) + 1
    const said = this.#said.get(source)
    const what = said?.what ?? SAID.NOTHING
    let entry = said?.entry
    if (said !== undefined) {
      said.what = SAID.NOTHING
      said.entry = undefined
      if (what !== SAID.NOTHING && !fits(said.page, entry, page, pages, target)) {
        this.#unexplained(shown, entry, true)
        return
      }
    }
    if (what === SAID.NOTHING) {
      // A thread of QEMU may have printed its line between the two of another.
      entry = this.#parts.iotlb.find(source, page)
      if (entry !== undefined && !fits(page, entry, page, pages, target)) entry = undefined
    }
    this.#count(what, shown, entry, page === target)
    if (entry !== undefined && entry.pages === 0) this.#measure(entry, pages, shown.line)
    this.#parts.records.translate(shown, entry === undefined ? 3 : entry.slpteLo & 3, entry?.number ?? 0)
  }

  /** What was said may not be what the next lines are about. */
  doubt(): void {
    this.#said.clear()
    this.#parts.iotlb.isComplete = false
  }

  #count(what: number, shown: ShownTranslation, entry: SeenEntry | undefined, isSelf: boolean): void {
    const { tally } = this.#parts
    if (what === SAID.WALK) tally.explain(EXPLAINED.WALK, shown.line)
    else if (what === SAID.HIT) tally.explain(EXPLAINED.HIT, shown.line)
    else if (what === SAID.PASS_THROUGH) tally.explain(EXPLAINED.PASS_THROUGH, shown.line)
    else if (what === SAID.LEARNED) tally.learned++
    else if (what === SAID.NOTHING) {
      if (entry !== undefined) tally.explain(EXPLAINED.HIT, shown.line)
      else if (isSelf && this.isEnabled === false) tally.explain(EXPLAINED.OFF, shown.line)
      else if (this.#hasCauses) this.#unexplained(shown, undefined, false)
      else tally.unjudged++
    }
  }

  #say(source: number, what: number, page: number, entry: SeenEntry | undefined): void {
    this.#hasCauses = true
    const said = this.#said.get(source)
    if (said === undefined) {
      this.#said.set(source, { what, page, entry })
      return
    }
    // The log has no lines of translations: the entry has the size that most have.
    if (said.what !== SAID.NOTHING && said.entry?.pages === 0) this.#measure(said.entry, 1, said.entry.line)
    said.what = what
    said.page = page
    said.entry = entry
  }

  #fill({ source, domain, slpteHi, slpteLo, line }: ShownEntry, page: number): SeenEntry {
    return this.#parts.iotlb.fill({ source, domain, page, slpteHi, slpteLo, line })
  }

  /** Now it shows how many pages an entry maps. */
  #measure(entry: SeenEntry, pages: number, line: number): void {
    const { iotlb, records } = this.#parts
    iotlb.measure(entry, pages)
    const { domain, page, slpteHi, slpteLo } = entry
    const mapped = pageOf(slpteHi & ADDRESS_HI, slpteLo, PAGE_SHIFT)
    const seen = { pages, target: mapped - (mapped % pages), perm: slpteLo & 3, line }
    if (this.#parts.pages.walked(domain, page, seen)) records.map(domain, page, seen)
    records.fill(entry, line)
  }

  #wrongHit(shown: ShownEntry, page: number, held: SeenEntry | undefined): void {
    const { tally, iotlb } = this.#parts
    const dropped = held === undefined ? iotlb.dropOf(shown.source, page) : undefined
    const [rule, model] =
      held !== undefined
        ? ['entry-differs', `the entry of line ${held.line} holds ${entryText(held)}`]
        : dropped !== undefined
          ? ['hit-after-flush', `the entry of line ${dropped.entry.line} was flushed by line ${dropped.line}`]
          : ['hit-without-fill', 'nothing has put it there']
    tally.diverge({
      line: shown.line,
      what: 'translation',
      call: `IOTLB hit of ${hex(shown.source)} at ${hex(wordOf(shown.iovaHi, shown.iovaLo))}`,
      log: entryText(shown),
      model,
      rule,
    })
  }

  /** @param wasSaid a line before says where it comes from: by `entry`, or as the device is passed through */
  #unexplained(shown: ShownTranslation, entry: SeenEntry | undefined, wasSaid: boolean): void {
    const said =
      entry === undefined ? 'the device is passed through' : `line ${entry.line} has ${entryText(entry)}`
    this.#parts.tally.diverge({
      line: shown.line,
      what: 'translation',
      call: `${hex(shown.source)} at ${hex(wordOf(shown.iovaHi, shown.iovaLo))}`,
      log: `${hex(wordOf(shown.gpaHi, shown.gpaLo))} mask ${hex(wordOf(shown.maskHi, shown.maskLo))}`,
      model: wasSaid ? said : 'no line says where it comes from',
      rule: wasSaid ? 'translation-differs' : 'no-cause',
    })
  }
}

const isSame = (entry: SeenEntry, shown: ShownEntry): boolean =>
  entry.slpteHi === shown.slpteHi && entry.slpteLo === shown.slpteLo && entry.domain === shown.domain

const entryText = (e: { slpteHi: number; slpteLo: number; domain: number }): string =>
  `${hex(wordOf(e.slpteHi, e.slpteLo))} of domain ${e.domain}`

/**
 * Whether a translation of `pages` pages from `page` on to `target` is what was said of page `at`: by an entry, or by none
 * where the device is passed through.
 */
function fits(
  at: number,
  entry: SeenEntry | undefined,
  page: number,
  pages: number,
  target: number,
): boolean {
  if (at < page || at >= page + pages) return false
  if (entry === undefined) return page === target && pages === 1
  if (entry.pages !== 0 && entry.pages !== pages) return false
  const mapped = pageOf(entry.slpteHi & ADDRESS_HI, entry.slpteLo, PAGE_SHIFT)
  return mapped - (mapped % pages) === target
}
