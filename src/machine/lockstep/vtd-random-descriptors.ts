import type { Prng } from '../../bits/prng.ts'
import { RANDOM_DOMAINS, RANDOM_PASIDS } from './vtd-random-layout.ts'
import { VTD_AREAS } from './vtd-state.ts'
import { VTD_DEVICES } from './vtd-step.ts'

/** A descriptor of the invalidation queue, of two words or of four. */
export type Descriptor = readonly bigint[]

const SOURCES = [...Object.values(VTD_DEVICES), 0x0008, 0x0200] as const
/** Bits of an address that lead a status write nowhere else than to its page, or away from everything. */
const HARMLESS = 0xffff_ffff_ffc0_0f80n

/** Writes descriptors, and the parts that registers have in common with them. */
export class VtdDescriptorWriter {
  readonly #prng: Prng
  /** Whose translations are to be hit mostly. */
  aim = { domain: 0, source: 0, pasid: 0, iova: 0n }

  constructor(prng: Prng) {
    this.#prng = prng
  }

  domain(): bigint {
    return BigInt(this.#prng.oneIn(3) ? this.#prng.below(RANDOM_DOMAINS) : this.aim.domain)
  }

  source(): bigint {
    return BigInt(this.#prng.oneIn(3) ? this.#prng.pick(SOURCES) : this.aim.source)
  }

  #pasid(): bigint {
    return BigInt(this.#prng.oneIn(3) ? this.#prng.pick(RANDOM_PASIDS) : this.aim.pasid)
  }

  order(): bigint {
    return BigInt(this.#prng.pick([0, 0, 0, 1, 2, 3, 4, 7, 8, 9, 12, 18]))
  }

  /** Its page, or one near it. */
  page(): bigint {
    const near = this.#prng.oneIn(3) ? BigInt(this.#prng.below(16)) << 12n : 0n
    return (this.aim.iova ^ near) & ~0xfffn
  }

  good(): Descriptor {
    const at = this.#prng.below(20)
    if (at < 4) {
      const mask = BigInt(this.#prng.below(4)) << 48n
      const scope = BigInt(1 + this.#prng.below(3)) << 4n
      return [1n | scope | (this.domain() << 16n) | (this.source() << 32n) | mask, 0n]
    }
    if (at < 13) return this.iotlb()
    if (at < 14) return [3n | (this.source() << 32n), this.page() | (this.#prng.oneIn(2) ? 1n : 0n)]
    if (at < 15) return [4n | (this.#prng.oneIn(2) ? 0x10n : 0n) | (BigInt(this.#prng.below(16)) << 27n), 0n]
    const pasid = this.#pasid() << 32n
    if (at < 17) return [7n | (this.#prng.pick([0n, 1n, 3n]) << 4n) | (this.domain() << 16n) | pasid, 0n]
    const isPage = this.#prng.oneIn(2)
    const leafOnly = this.#prng.oneIn(3) ? 0x40n : 0n
    return [
      6n | (isPage ? 0x30n : 0x20n) | (this.domain() << 16n) | pasid,
      isPage ? this.page() | leafOnly | this.order() : 0n,
    ]
  }

  iotlb(): Descriptor {
    const scope = this.#prng.pick([1n, 2n, 2n, 3n, 3n, 3n]) << 4n
    const drains = BigInt(this.#prng.below(4)) << 6n
    const high = scope === 0x30n ? this.page() | (this.#prng.oneIn(3) ? 0x40n : 0n) | this.order() : 0n
    return [2n | scope | drains | (this.domain() << 16n), high]
  }

  wait(): Descriptor {
    if (this.#prng.oneIn(6)) return [5n | 0x10n, 0n]
    const place = BigInt(VTD_AREAS.status.gpa + this.#prng.below(8) * 4)
    const fence = this.#prng.oneIn(3) ? 0x40n : 0n
    return [5n | 0x20n | fence | (BigInt(this.#prng.int32() >>> 0) << 32n), place]
  }

  /** One that some units refuse, if not all. */
  bad(): Descriptor {
    const bit = 1n << BigInt(this.#prng.below(64))
    const [low = 0n, high = 0n] = this.#prng.oneIn(3) ? this.wait() : this.good()
    const at = this.#prng.below(11)
    if (at < 3) return [low ^ (bit & ~0x3fn), high]
    if (at < 5) return [low, high ^ (bit & HARMLESS)]
    if (at < 6) return [low, high, bit, 0n]
    if (at < 8) return [this.#prng.pick([0n, 8n, 9n, 10n, 15n, 5n, 0x45n, 0x202n]), 0n]
    if (at < 9) return [2n | (3n << 4n) | (this.domain() << 16n), this.page() | 19n]
    if (at < 10) return [5n | 0x20n | 0x80n, BigInt(VTD_AREAS.status.gpa)]
    return [5n | 0x20n, 0x8000_0000n]
  }
}
