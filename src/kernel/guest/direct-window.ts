import { codeName, H_CODES } from '../../bits/codes.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import { TCE_BYTES, TCE_LIST_MAX, TCE_PERM } from '../../table/tce-entry.ts'
import type { WindowProperty } from './device-tree.ts'
import { Lanes } from './lanes.ts'
import type { LparParts } from './lpar-backend.ts'

const { H_SUCCESS, H_NOT_ENOUGH_RESOURCES } = H_CODES

/** Codes of `setRange` beside those of the hypervisor: no memory for the list page. */
const NO_LIST_PAGE = -12

export interface DirectWindowParts extends LparParts {
  readonly pageShift: number
}

const mod64 = (value: bigint): bigint => BigInt.asUintN(64, value)

/** value << shift as the processor does it: seven bits of the amount count, from 64 on nothing is left. */
const shiftLeft = (value: bigint, shift: number): bigint => {
  const amount = BigInt(shift & 0x7f)
  return amount > 63n ? 0n : mod64(value << amount)
}

const shiftRight = (value: bigint, shift: number): bigint => {
  const amount = BigInt(shift & 0x7f)
  return amount > 63n ? 0n : value >> amount
}

/**
 * Windows in which memory address a has bus address base + a: fills and empties them.
 *
 * Ranges are whole system pages. An IOMMU page that a range touches is set as a whole, because an entry knows
 * nothing smaller. (Linux v6.1 arch/powerpc/platforms/pseries/iommu.c)
 */
export class DirectWindow {
  readonly #parts: DirectWindowParts
  readonly #hidesErrors: boolean
  /** X12: a last page that is touched in part is left out. */
  readonly #cutsTail: boolean
  readonly #value = new Lanes()

  constructor(parts: DirectWindowParts) {
    this.#parts = parts
    this.#hidesErrors = parts.profile.has('X11')
    this.#cutsTail = parts.profile.has('X12')
  }

  /** Lets devices at `pages` system pages from `first` on. Answers 0, or the code that stopped it. */
  setRange(first: number, pages: number, window: WindowProperty): number {
    const pageBytes = 2 ** window.pageShift
    const start = first * 2 ** this.#parts.pageShift
    const bytes = pages * 2 ** this.#parts.pageShift
    const into = start % pageBytes
    if (!this.#parts.multiTce.putIndirect) {
      const count = this.#cutsTail ? Math.floor(bytes / pageBytes) : Math.ceil((into + bytes) / pageBytes)
      return this.#setSingly(start, count, window)
    }
    const list = this.#parts.listPage()
    if (list === -1) return NO_LIST_PAGE
    const count = this.#cutsTail
      ? Math.floor((into + bytes) / pageBytes)
      : Math.ceil((into + bytes) / pageBytes)
    const { hcall, log } = this.#parts
    let done = 0
    do {
      const batch = Math.min(count - done, TCE_LIST_MAX)
      const from = start - into + done * pageBytes
      this.#fillList(list, batch, from, pageBytes)
      const bus = mod64(window.base + BigInt(from))
      const value = this.#value.putNumber(list)
      const rc = log.heard(
        hcall.putTceIndirect(0, window.liobn | 0, hiOf(bus), loOf(bus), value.hi, value.lo, 0, batch),
      )
      if (rc !== H_SUCCESS) return rc
      done += batch
    } while (done < count)
    return 0
  }

  /** Takes `pages` system pages from `first` on away from devices. Answers 0, or the code that stopped it. */
  clearRange(first: number, pages: number, window: WindowProperty): number {
    const shift = BigInt(this.#parts.pageShift)
    return this.#clear(BigInt(first) << shift, BigInt(pages) << shift, window)
  }

  /** Empties a whole window; the property may be any bytes, and is computed with as the processor would. */
  clearWindow(window: WindowProperty): number {
    const pages = shiftLeft(1n, window.windowShift - this.#parts.pageShift)
    const rc = this.#clear(0n, mod64(pages << BigInt(this.#parts.pageShift)), window)
    if (rc !== 0) this.#parts.log.warn('entries of a DMA window could not be cleared')
    return rc
  }

  #clear(start: bigint, bytes: bigint, window: WindowProperty): number {
    const pageBytes = shiftLeft(1n, window.pageShift)
    const low = mod64(pageBytes - 1n)
    const span = mod64(bytes + (start & low))
    const from = start & ~low
    const covered = this.#cutsTail ? span | low : mod64(span + low)
    const count = shiftRight(covered, window.pageShift)
    const { hcall, log } = this.#parts
    let done = 0n
    do {
      const left = count - done
      const batch = left < BigInt(TCE_LIST_MAX) ? left : BigInt(TCE_LIST_MAX)
      const bus = mod64(window.base + from + done * pageBytes)
      const rc = log.heard(hcall.stuffTce(0, window.liobn | 0, hiOf(bus), loOf(bus), 0, 0, 0, Number(batch)))
      if (rc !== H_SUCCESS) return rc
      done += batch
    } while (done < count)
    return 0
  }

  #setSingly(start: number, count: number, window: WindowProperty): number {
    const pageBytes = 2 ** window.pageShift
    const from = start - (start % pageBytes)
    for (let i = 0; i < count; i++) {
      const rc = this.#put(window, from + i * pageBytes, true)
      if (rc === H_SUCCESS) continue
      if (rc === H_NOT_ENOUGH_RESOURCES || !this.#hidesErrors) {
        for (let j = 0; j < i; j++) this.#put(window, from + j * pageBytes, false)
        return rc
      }
      this.#parts.log.warn(`H_PUT_TCE answered ${codeName('hcall', rc) ?? rc}`)
    }
    return 0
  }

  #put(window: WindowProperty, gpa: number, isSet: boolean): number {
    const bus = mod64(window.base + BigInt(gpa))
    const value = this.#value.putNumber(isSet ? gpa : 0)
    const lo = isSet ? value.lo | TCE_PERM : 0
    const { hcall, log } = this.#parts
    return log.heard(hcall.putTce(0, window.liobn | 0, hiOf(bus), loOf(bus), value.hi, lo))
  }

  #fillList(list: number, count: number, from: number, pageBytes: number): void {
    for (let i = 0; i < count; i++) {
      const value = this.#value.putNumber(from + i * pageBytes)
      this.#parts.ram.storeU64be(list + i * TCE_BYTES, value.hi, value.lo | TCE_PERM)
    }
  }
}
