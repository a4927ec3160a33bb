import { type Journal, keyOf } from '../../bits/state.ts'
import { NO_PASID, type VtdInvalidation } from '../vtd/ports.ts'

/** Pages that a translation may have, as log2 of their bytes. */
const SHIFTS = [12, 21, 30] as const
const PAGE_SHIFT = 12
/** Order of an invalidation of everything. */
const ALL_ORDER = 52

/** A translation that a device keeps. Page numbers count 4 KiB. */
export interface DeviceTlbEntry {
  /** Its number among all cached translations of a run. */
  readonly number: number
  readonly pasid: number
  /** It was asked for by a request with privilege; no other may use it. */
  readonly isPrivileged: boolean
  /** First page of bus addresses, and of memory. */
  readonly first: number
  readonly target: number
  readonly shift: number
  /** Bits of `PERM`. */
  readonly perm: number
}

const pagesOf = (shift: number): number => 2 ** (shift - PAGE_SHIFT)

const keyText = (pasid: number, isPrivileged: boolean, shift: number, first: number): string =>
  `${pasid} ${isPrivileged ? 1 : 0} ${shift} ${first}`

/**
 * The TLB of a device with ATS: translations by PASID, privilege and page. What is asked for twice is kept once, as it
 * was answered last. It loses nothing unless it is told, asked, or full; then the oldest goes.
 */
export class DeviceTlb {
  readonly #name: string
  readonly #journal: Journal
  readonly #most: number
  readonly #entries = new Map<string, DeviceTlbEntry>()

  /** @param most entries that it has room for */
  constructor(name: string, journal: Journal, most = Number.POSITIVE_INFINITY) {
    this.#name = name
    this.#journal = journal
    this.#most = most
  }

  get entries(): number {
    return this.#entries.size
  }

  find(pasid: number, isPrivileged: boolean, page: number): DeviceTlbEntry | undefined {
    for (const shift of SHIFTS) {
      const first = page - (page % pagesOf(shift))
      const found = this.#entries.get(keyText(pasid, isPrivileged, shift, first))
      if (found !== undefined) return found
    }
    return undefined
  }

  /** Keeps a translation, in place of those that it had for the page that was asked for. */
  keep(entry: DeviceTlbEntry, page: number): void {
    const { pasid, isPrivileged, first, shift } = entry
    for (let old = this.find(pasid, isPrivileged, page); old !== undefined; ) {
      this.#change(old, false)
      old = this.find(pasid, isPrivileged, page)
    }
    if (this.#entries.size >= this.#most) this.#evict()
    const key = keyText(pasid, isPrivileged, shift, first)
    const same = this.#entries.get(key)
    if (same !== undefined) this.#change(same, false)
    this.#change(entry, true)
  }

  /** Forgets what an invalidation names: with a PASID that one, or all of them; else what was asked for without any. */
  invalidate(what: VtdInvalidation): void {
    const pages = what.order >= ALL_ORDER ? Number.POSITIVE_INFINITY : 2 ** what.order
    const asked = Number(what.address >> BigInt(PAGE_SHIFT))
    const first = pages === Number.POSITIVE_INFINITY ? 0 : asked - (asked % pages)
    const everyPasid = what.what === 'pasid-device-tlb' && what.isGlobalToo
    for (const entry of [...this.#entries.values()]) {
      const isNamed = everyPasid ? entry.pasid !== NO_PASID : entry.pasid === what.pasid
      const overlaps = entry.first < first + pages && entry.first + pagesOf(entry.shift) > first
      if (isNamed && overlaps) this.#change(entry, false)
    }
  }

  /** A device may forget at any time. */
  clear(): void {
    for (const entry of [...this.#entries.values()]) this.#change(entry, false)
  }

  #evict(): void {
    let oldest: DeviceTlbEntry | undefined
    for (const entry of this.#entries.values()) {
      if (oldest === undefined || entry.number < oldest.number) oldest = entry
    }
    if (oldest !== undefined) this.#change(oldest, false)
  }

  #change(entry: DeviceTlbEntry, isThere: boolean): void {
    const { pasid, isPrivileged, shift, first, target, perm } = entry
    const key = keyText(pasid, isPrivileged, shift, first)
    const put = (on: boolean) => (on ? this.#entries.set(key, entry) : this.#entries.delete(key))
    const value = keyOf(target, perm, entry.number) | 1
    const before = isThere ? 0 : value
    this.#journal.change(keyOf('device-tlb', this.#name, key), before, isThere ? value : 0, () => {
      put(!isThere)
    })
    put(isThere)
  }
}
