import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import type { Segments } from '../../hw/virtio/segments.ts'
import { type SharedMemory, WINDOW_BYTES } from './descriptors.ts'
import { Fault } from './faults.ts'

const TWO_32 = 0x1_0000_0000
const TWO_64 = 1n << 64n

/** What a front end says of a region of guest memory. */
export interface RegionSetup {
  readonly gpa: bigint
  readonly bytes: bigint
  /** Where the front end has it. */
  readonly ua: bigint
  /** Where it starts in its file. */
  readonly fileOffset: bigint
}

/** A region of guest memory that is mapped. */
export class Region {
  readonly setup: RegionSetup
  readonly bytes: number
  readonly memory: SharedMemory
  readonly #fileOffset: number
  readonly #gpaHi: number
  readonly #gpaLo: number
  readonly #uaHi: number
  readonly #uaLo: number

  constructor(setup: RegionSetup, memory: SharedMemory) {
    this.setup = setup
    this.memory = memory
    this.bytes = Number(setup.bytes)
    this.#fileOffset = Number(setup.fileOffset)
    this.#gpaHi = hiOf(setup.gpa) >>> 0
    this.#gpaLo = loOf(setup.gpa) >>> 0
    this.#uaHi = hiOf(setup.ua) >>> 0
    this.#uaLo = loOf(setup.ua) >>> 0
  }

  /** Bytes from the start of the region to a guest address, or below 0; exact for what is inside. */
  offsetOfGpa(hi: number, lo: number): number {
    return ((hi >>> 0) - this.#gpaHi) * TWO_32 + ((lo >>> 0) - this.#gpaLo)
  }

  /** The same for an address of the front end. */
  offsetOfUa(hi: number, lo: number): number {
    return ((hi >>> 0) - this.#uaHi) * TWO_32 + ((lo >>> 0) - this.#uaLo)
  }

  /** Adds bytes of the region, which must be inside of it. */
  addTo(into: Segments, offset: number, bytes: number): void {
    let at = this.#fileOffset + offset
    let left = bytes
    while (left > 0) {
      const inside = at % WINDOW_BYTES
      const part = Math.min(left, WINDOW_BYTES - inside)
      into.addView(this.memory.window((at - inside) / WINDOW_BYTES), inside, part)
      at += part
      left -= part
    }
  }
}

/** Why a region cannot be beside others, whatever its file holds. */
export function regionFault(region: RegionSetup, others: readonly RegionSetup[]): Fault | undefined {
  const { gpa, bytes, ua, fileOffset } = region
  const isBehindEnd = gpa + bytes > TWO_64 || ua + bytes > TWO_64 || fileOffset + bytes > TWO_64
  if (bytes === 0n || isBehindEnd) return new Fault('region-empty', words(region))
  const meets = (a: bigint, b: bigint, other: RegionSetup): boolean => a < b + other.bytes && b < a + bytes
  const met = others.find((o) => meets(gpa, o.gpa, o) || meets(ua, o.ua, o))
  return met === undefined ? undefined : new Fault('region-overlap', `${words(region)} and ${words(met)}`)
}

const words = ({ gpa, bytes }: RegionSetup): string =>
  `0x${bytes.toString(16)} bytes at 0x${gpa.toString(16)}`

/** The regions of guest memory. Both kinds of address are found in them; what they map is closed with them. */
export class GuestRegions {
  #regions: readonly Region[] = []
  #last: Region | undefined

  get all(): readonly Region[] {
    return this.#regions
  }

  get setups(): readonly RegionSetup[] {
    return this.#regions.map(({ setup }) => setup)
  }

  add(region: Region): void {
    this.#regions = [...this.#regions, region]
  }

  /** Takes a region out, and closes it. */
  remove(region: Region): void {
    this.#regions = this.#regions.filter((r) => r !== region)
    this.#last = undefined
    region.memory.close()
  }

  clear(): void {
    for (const region of this.#regions) region.memory.close()
    this.#regions = []
    this.#last = undefined
  }

  /** The region that holds a guest address. */
  ofGpa(hi: number, lo: number): Region | undefined {
    const last = this.#last
    if (last !== undefined && isInside(last.offsetOfGpa(hi, lo), last)) return last
    const found = this.#regions.find((r) => isInside(r.offsetOfGpa(hi, lo), r))
    if (found !== undefined) this.#last = found
    return found
  }

  /** The region that holds an address of the front end. */
  ofUa(hi: number, lo: number): Region | undefined {
    const last = this.#last
    if (last !== undefined && isInside(last.offsetOfUa(hi, lo), last)) return last
    const found = this.#regions.find((r) => isInside(r.offsetOfUa(hi, lo), r))
    if (found !== undefined) this.#last = found
    return found
  }

  /** The guest address of an address of the front end. */
  gpaOf(ua: bigint): bigint | undefined {
    const region = this.ofUa(hiOf(ua), loOf(ua))
    return region === undefined ? undefined : region.setup.gpa + (ua - region.setup.ua)
  }

  /** Adds [hi:lo, + bytes) of the guest to `into`; false, and no word about `into`, where not all of it is memory. */
  addGuest(hi: number, lo: number, bytes: number, into: Segments): boolean {
    return this.#add(hi, lo, bytes, into, true)
  }

  /** The same for an address of the front end. */
  addUser(hi: number, lo: number, bytes: number, into: Segments): boolean {
    return this.#add(hi, lo, bytes, into, false)
  }

  #add(hi: number, lo: number, bytes: number, into: Segments, isGuest: boolean): boolean {
    for (let done = 0; done < bytes && !into.isFull; ) {
      const region = isGuest ? this.ofGpa(hi, lo) : this.ofUa(hi, lo)
      if (region === undefined) return false
      const offset = isGuest ? region.offsetOfGpa(hi, lo) : region.offsetOfUa(hi, lo)
      const part = Math.min(bytes - done, region.bytes - offset)
      region.addTo(into, offset, part)
      done += part
      if (done === bytes) return true
      const next = wordOf(hi, lo) + BigInt(part)
      if (next >= TWO_64) return false
      hi = hiOf(next)
      lo = loOf(next)
    }
    return true
  }
}

const isInside = (offset: number, region: Region): boolean => offset >= 0 && offset < region.bytes
