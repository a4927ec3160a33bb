import { featuresOf } from '../../../hw/vtd/capabilities.ts'
import { NO_CACHES, newRequest, newTranslation, PERM } from '../../../hw/vtd/ports.ts'
import { TranslationEngine } from '../../../hw/vtd/tables/engine.ts'
import { EVERY_FEATURE, type TableFeatures } from '../../../hw/vtd/tables/features.ts'
import { type EventKind, slotMap } from '../../../trace/event.ts'
import type { RecordLog, RecordSink } from '../../../trace/record-log.ts'
import type { Dump } from '../../walk/dump-memory.ts'
import type { SeenContext } from './seen-contexts.ts'
import type { SeenEntry } from './seen-iotlb.ts'

const T = slotMap('vtd.translate')
const PAGE_BYTES = 4096
const TWO_32 = 2 ** 32
/** Pages of devices that are remembered. */
const KEPT_MAX = 1 << 20
/** Registers of a dump: CAP, ECAP, and RTADDR with the mode in bits 11:10. (VT-d manual, Register Descriptions) */
const CAP = 0x08
const ECAP = 0x10
const RTADDR = 0x20
const TTM_SHIFT = 10n
const HOST_BITS_MAX = 52

/** What the tables of a stopped guest say of its trace. Plain data. */
export interface TablesResult {
  /** The last translation of each page of each device: still so, of a page that is unmapped by now, or led elsewhere by now. */
  readonly translations: {
    readonly total: number
    readonly same: number
    readonly unmapped: number
    readonly elsewhere: number
  }
  /** Entries that no flush has taken from the IOTLB: as the tables say, or not (any more). */
  readonly held: { readonly total: number; readonly same: number; readonly stale: number }
  /** Context entries that no flush has taken: as in memory, or not. */
  readonly contexts: { readonly total: number; readonly same: number; readonly other: number }
}

/** What of a replay is held against the tables. */
export interface HeldState {
  readonly entries: Iterable<SeenEntry>
  readonly contexts: Iterable<readonly [source: number, context: SeenContext]>
  readonly isScalable: boolean
}

/** The last translation of each page of each device. */
export class LastTranslations implements RecordSink {
  readonly kinds: readonly EventKind[] = ['vtd.translate']
  /** By source-id, page by page. */
  readonly bySource = new Map<number, Map<number, number>>()
  #kept = 0

  see(log: RecordLog, seq: number): void {
    if (log.slot(seq, T.fault) !== 0) return
    const pageAt = (slot: number) =>
      Math.floor(((log.slot(seq, slot + 1) >>> 0) * TWO_32 + (log.slot(seq, slot) >>> 0)) / PAGE_BYTES)
    const source = log.slot(seq, T.source)
    let pages = this.bySource.get(source)
    if (pages === undefined) {
      pages = new Map()
      this.bySource.set(source, pages)
    }
    const page = pageAt(T.iova)
    if (!pages.has(page) && ++this.#kept > KEPT_MAX) return
    pages.set(page, pageAt(T.target))
  }
}

/** Holds a replayed trace against the tables of the guest, dumped where the trace ends. */
export class TablesCheck {
  readonly #engine: TranslationEngine
  readonly #root: number
  readonly #mode: ReturnType<TranslationEngine['modeOf']>
  readonly #request = newRequest()
  readonly #found = newTranslation()

  /** @param has errata of the unit whose tables they are */
  constructor({ memory, registers }: Dump, has: (erratum: string) => boolean) {
    const rtaddr = registers.get(RTADDR) ?? 0n
    const features = featuresFor(registers)
    this.#engine = new TranslationEngine({ memory, features, caches: NO_CACHES, has })
    this.#root = Number(rtaddr >> 12n)
    this.#mode = this.#engine.modeOf(Number((rtaddr >> TTM_SHIFT) & 3n))
  }

  check(last: LastTranslations, { entries, contexts, isScalable }: HeldState): TablesResult {
    const translations = { total: 0, same: 0, unmapped: 0, elsewhere: 0 }
    for (const [source, pages] of last.bySource) {
      for (const [page, target] of pages) {
        translations.total++
        const now = this.#pageOf(source, page)
        if (now === undefined) translations.unmapped++
        else if (now === target) translations.same++
        else translations.elsewhere++
      }
    }
    const held = { total: 0, same: 0, stale: 0 }
    for (const { source, page, pages, slpteHi, slpteLo } of entries) {
      const target = (slpteHi & 0xf_ffff) * (TWO_32 / PAGE_BYTES) + (slpteLo >>> 12)
      held.total++
      if (this.#pageOf(source, page) === target - (target % Math.max(1, pages))) held.same++
      else held.stale++
    }
    const known = { total: 0, same: 0, other: 0 }
    for (const [source, context] of contexts) {
      known.total++
      if (this.#isContext(source, context, isScalable)) known.same++
      else known.other++
    }
    return { translations, held, contexts: known }
  }

  /** Page of memory that a page of a device leads to; undefined where it is not mapped for reads nor for writes. */
  #pageOf(source: number, page: number): number | undefined {
    return this.#walk(source, page, PERM.READ) ?? this.#walk(source, page, PERM.WRITE)
  }

  #walk(source: number, page: number, need: number): number | undefined {
    if (this.#mode === undefined) return undefined
    const request = this.#request
    request.source = source
    request.hi = Math.floor((page * PAGE_BYTES) / TWO_32) | 0
    request.lo = (page * PAGE_BYTES) | 0
    request.need = need
    this.#engine.translate(this.#root, this.#mode, request, this.#found)
    return this.#found.fault === 0 ? this.#found.page : undefined
  }

  #isContext(source: number, { loHi, loLo, hiLo }: SeenContext, isScalable: boolean): boolean {
    this.#walk(source, 0, PERM.READ)
    const { hi, lo, domain } = this.#engine.context
    return hi === loHi && lo === loLo && (isScalable || domain === ((hiLo >>> 8) & 0xffff))
  }
}

/** What the unit of a dump can do; anything, where the dump does not say. */
function featuresFor(registers: ReadonlyMap<number, bigint>): TableFeatures {
  const [cap, ecap] = [registers.get(CAP), registers.get(ECAP)]
  if (cap === undefined || ecap === undefined) return EVERY_FEATURE
  const features = featuresOf(cap, ecap, HOST_BITS_MAX)
  // No unit takes wider addresses of memory than of devices.
  return { ...features, hostAddressBits: Math.max(32, Math.min(HOST_BITS_MAX, features.maxAddressBits)) }
}
