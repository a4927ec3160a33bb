import type { GuestMemory } from '../../memory/guest-memory.ts'
import { TCE_LIST_MAX, TCE_PERM } from '../../table/tce-entry.ts'
import type { LentPages } from './lent-pages.ts'

const PAGE_4K_SHIFT = 12
/** 4 KiB pages in 2^32 bytes. */
const PAGES_OF_4_GIB = 2 ** 20
/** Bound of the upper lanes of guest addresses that are looked at as int32 page numbers. */
const HI_MAX = 2 ** 11
const INT32_MAX = 2 ** 31 - 1

/** The TCEs of a H_PUT_TCE_INDIRECT, and their user addresses as far as they have one: two lanes each, high first. */
export class TceList {
  readonly tces = new Int32Array(TCE_LIST_MAX * 2)
  readonly uas = new Int32Array(TCE_LIST_MAX * 2)

  /**
   * Looks at the TCEs as a hypercall does before it writes any of them: whether each is aligned, in memory of the guest
   * and registered for a table of 2^pageShift bytes a page. Answers how many of the first ones are; the next one is the
   * caller's. Those with a permission have their user address then.
   */
  check(lent: LentPages, guest: GuestMemory, guestShift: number, pageShift: number, npages: number): number {
    if (guestShift > 31 || pageShift > 31) return 0
    const step = 1 << (pageShift - PAGE_4K_SHIFT)
    const mask = ((1 << guestShift) - 1) & ~TCE_PERM
    const { tces, uas } = this
    // What is known of the slot and the region: nothing yet.
    let first = 0
    let pages = 0
    let baseHi = 0
    let baseLo = 0
    let inRegion = 0
    let regionPages = 0
    let done = 0
    for (let lane = 0; done < npages; done++, lane += 2) {
      const hi = tces[lane] as number
      const lo = tces[lane + 1] as number
      if ((lo & TCE_PERM) === 0) continue
      if ((lo & mask) !== 0 || hi >>> 0 >= HI_MAX) break
      const page = (hi << 20) | (lo >>> PAGE_4K_SHIFT)
      let at = page - first
      if (at < 0 || at >= pages) {
        if (!guest.focus(page) || guest.slotFirst + guest.slotPages > INT32_MAX) break
        first = guest.slotFirst | 0
        pages = guest.slotPages | 0
        baseHi = Math.floor(guest.slotUaPage / PAGES_OF_4_GIB) | 0
        baseLo = (guest.slotUaPage % PAGES_OF_4_GIB) << PAGE_4K_SHIFT
        at = page - first
        inRegion = INT32_MAX
      }
      const uaLo = (baseLo + (at << PAGE_4K_SHIFT)) | 0
      const uaHi = (baseHi + (at >>> 20) + (uaLo >>> 0 < baseLo >>> 0 ? 1 : 0)) | 0
      if (inRegion === INT32_MAX || at + inRegion < 0 || at + inRegion + step > regionPages) {
        if (!lent.holds(uaHi, uaLo, pageShift)) break
        inRegion = lent.page - at
        regionPages = lent.regionPages
      }
      uas[lane] = uaHi
      uas[lane + 1] = uaLo
    }
    return done
  }
}
