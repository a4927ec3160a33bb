import { slotMap } from '../trace/event.ts'
import { FLUSH_SCOPE, NONE } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'

const PASID = slotMap('vtd.pasid')
const FLUSH = slotMap('domain.flush')
const WAIT = slotMap('domain.wait')

/** An entry that leads to an address space, as a unit has read it. Names are interned. */
export interface CachedPasid {
  readonly seq: number
  readonly unit: number
  readonly pasid: number
  readonly domain: number
  readonly mm: number
  /** Told to forget it, and not yet known to have. */
  isFlushed: boolean
}

/** Entries of PASIDs that units may still have in their PASID-caches. */
export class CachedPasids {
  /** By unit, device and PASID. */
  readonly #entries = new Map<string, CachedPasid>()

  /** A unit reads an entry. @param mmOf whose page tables it leads to; undefined for nobody's */
  read(log: RecordLog, seq: number, mmOf: (unit: number, pasid: number) => number | undefined): void {
    const [unit, pasid] = [log.slot(seq, PASID.unit), log.slot(seq, PASID.pasid) >>> 0]
    const key = `${unit} ${log.slot(seq, PASID.source)} ${pasid}`
    const mm = log.slot(seq, PASID.fault) === 0 ? mmOf(unit, pasid) : undefined
    if (mm === undefined) this.#entries.delete(key)
    else {
      const domain = log.slot(seq, PASID.domain) >>> 0
      this.#entries.set(key, { seq, unit, pasid, domain, mm, isFlushed: false })
    }
  }

  flush(log: RecordLog, seq: number): void {
    if (this.#entries.size === 0 || log.slot(seq, FLUSH.scope) !== FLUSH_SCOPE.PASID_CACHE) return
    const unit = log.slot(seq, FLUSH.unit)
    const domain = log.slot(seq, FLUSH.domain) >>> 0
    const pasid = log.slot(seq, FLUSH.pasid) >>> 0
    for (const entry of this.#entries.values()) {
      if (entry.unit !== unit || (domain !== NONE && domain !== entry.domain)) continue
      if (pasid === NONE || pasid === entry.pasid) entry.isFlushed = true
    }
  }

  /** All that the unit was told is done. */
  wait(log: RecordLog, seq: number): void {
    if (this.#entries.size === 0) return
    const unit = log.slot(seq, WAIT.unit)
    for (const [key, entry] of this.#entries) {
      if (entry.isFlushed && entry.unit === unit) this.#entries.delete(key)
    }
  }

  of(mm: number): readonly CachedPasid[] {
    return this.#entries.size === 0 ? [] : [...this.#entries.values()].filter((e) => e.mm === mm)
  }
}
