import { encode, get, put } from '../../bits/word.ts'
import {
  CONTEXT_ENTRY_HI,
  CONTEXT_ENTRY_LO,
  EXT_CONTEXT_ENTRY_0,
  EXT_CONTEXT_ENTRY_1,
  EXT_CONTEXT_ENTRY_2,
  EXT_CONTEXT_ENTRY_3,
  ROOT_ENTRY,
  ROOT_ENTRY_LOWER,
  ROOT_ENTRY_UPPER,
  SM_CONTEXT_ENTRY_0,
  SM_CONTEXT_ENTRY_1,
} from '../../hw/vtd/tables/format.ts'
import type { EntryWriter } from './entry-writer.ts'
import type { TablePool } from './table-pages.ts'

/** Words of a legacy context entry, and of one of the other modes. */
const LEGACY_WORDS = 2
const WIDE_WORDS = 4
const ROOT_WORDS = 2
/** Devices and functions of the lower half of a bus, where entries are wide. */
const HALF = 0x80
/** T: what a legacy or an extended context entry translates. */
const T = { PLAIN: 0n, DEVICE_TLB: 1n, PASS_THROUGH: 2n } as const
/** T of extended entries that pass requests without a PASID through, and let others have one. */
const T_WITH_PASID = { PLAIN: 4n, DEVICE_TLB: 5n } as const
/** The PASID of requests that have none (PASID_RID2PASID). */
export const RID2PASID = 0

interface Place {
  readonly page: number
  readonly index: number
}

/** A legacy context entry, or an extended one without PASIDs. */
export interface LegacyContext {
  readonly domain: number
  /** First table of the second level, and its levels. Pass-through has none, and the most levels of the unit. */
  readonly root: number
  readonly levels: number
  readonly hasAts: boolean
  readonly isPassThrough: boolean
}

/** A scalable context entry. */
export interface ScalableContext {
  readonly directory: number
  /** PDTS: log2 of the directory entries, less 7. */
  readonly sizeCode: number
  readonly hasAts: boolean
  readonly hasPageRequests: boolean
  readonly hasPasid: boolean
}

/** What an extended context entry says of PASIDs. Pages count 4 KiB. */
export interface ExtendedPasids {
  readonly table: number
  /** PTS: log2 of the entries of the table, less 5. The driver does not cut it: above 15 it sets reserved bits. */
  readonly sizeCode: number
  /** The PASID-state table; 0 where the unit has none. */
  readonly states: number
  /** The device may have a TLB; requests for pages are taken. */
  readonly takesAts: boolean
  readonly hasPageRequests: boolean
}

export interface ContextParts {
  readonly writer: EntryWriter
  readonly pool: TablePool
  readonly isSnooped: () => boolean
  /** Entries of 32 bytes, in two tables of 128 devices a bus: scalable and extended mode. */
  readonly isWide: () => boolean
  /** Page of the root table. */
  readonly root: () => number
}

/**
 * Root and context tables as Linux writes them. A context table is made with the first device of its bus, or of its half
 * of a bus, and stays. (Linux v6.1 drivers/iommu/intel/iommu.c, iommu_context_addr, domain_context_mapping_one)
 */
export class ContextEntries {
  readonly #writer: EntryWriter
  readonly #pool: TablePool
  readonly #parts: ContextParts

  constructor(parts: ContextParts) {
    this.#writer = parts.writer
    this.#pool = parts.pool
    this.#parts = parts
  }

  /** Makes the context table of a device where there is none. False where no page is left. */
  prepare(source: number): boolean {
    return this.#placeOf(source, true) !== undefined
  }

  setLegacy(source: number, context: LegacyContext): void {
    const { domain, root, levels, hasAts, isPassThrough } = context
    const plain = hasAts ? T.DEVICE_TLB : T.PLAIN
    this.#publish(source, [
      encode(CONTEXT_ENTRY_LO, {
        P: 1n,
        T: isPassThrough ? T.PASS_THROUGH : plain,
        SLPTPTR: BigInt(isPassThrough ? 0 : root),
      }),
      encode(CONTEXT_ENTRY_HI, { DID: BigInt(domain), AW: BigInt(levels - 2) }),
    ])
  }

  setScalable(source: number, context: ScalableContext): void {
    const flag = (on: boolean) => (on ? 1n : 0n)
    this.#publish(source, [
      encode(SM_CONTEXT_ENTRY_0, {
        P: 1n,
        DTE: flag(context.hasAts),
        PASIDE: flag(context.hasPasid),
        PRE: flag(context.hasPageRequests),
        PDTS: BigInt(context.sizeCode),
        PASIDDIRPTR: BigInt(context.directory),
      }),
      encode(SM_CONTEXT_ENTRY_1, { RID_PASID: BigInt(RID2PASID) }),
      0n,
      0n,
    ])
  }

  setExtended(source: number, { domain, root, levels, hasAts, isPassThrough }: LegacyContext): void {
    const plain = hasAts ? T.DEVICE_TLB : T.PLAIN
    this.#publish(source, [
      encode(EXT_CONTEXT_ENTRY_0, {
        P: 1n,
        T: isPassThrough ? T.PASS_THROUGH : plain,
        SLPTPTR: BigInt(isPassThrough ? 0 : root),
      }),
      encode(EXT_CONTEXT_ENTRY_1, { DID: BigInt(domain), AW: BigInt(levels - 2) }),
      0n,
      0n,
    ])
  }

  /**
   * Lets requests have a PASID, by an extended entry that is present: the tables first, the word with PASIDE last. False
   * where it has been so. An entry that passes through would block them, whatever PASIDE says: its type changes.
   * (Linux v4.9 drivers/iommu/intel-iommu.c, intel_iommu_enable_pasid)
   */
  enablePasids(source: number, pasids: ExtendedPasids): boolean {
    const place = this.#placeOf(source, false)
    if (place === undefined) return false
    const { page, index } = place
    let first = this.#writer.read(page, index)
    if (get(EXT_CONTEXT_ENTRY_0, first, 'PASIDE') === 1n) return false
    if (pasids.states !== 0) {
      const states = encode(EXT_CONTEXT_ENTRY_3, { PASIDSTPTR: BigInt(pasids.states) })
      this.#writer.write(page, index + 3, states)
    }
    const table = encode(EXT_CONTEXT_ENTRY_2, { PASIDPTR: BigInt(pasids.table) })
    this.#writer.write(page, index + 2, table | BigInt(pasids.sizeCode))
    this.#writer.flush(page, index, WIDE_WORDS)
    if (get(EXT_CONTEXT_ENTRY_0, first, 'T') === T.PASS_THROUGH) {
      const type = pasids.takesAts ? T_WITH_PASID.DEVICE_TLB : T_WITH_PASID.PLAIN
      first = put(EXT_CONTEXT_ENTRY_0, first, 'T', type)
    }
    const flags = {
      PASIDE: 1n,
      DINVE: pasids.states === 0 ? 0n : 1n,
      PRE: pasids.hasPageRequests ? 1n : 0n,
    }
    this.#writer.write(page, index, first | encode(EXT_CONTEXT_ENTRY_0, flags))
    this.#writer.flush(page, index, WIDE_WORDS)
    return true
  }

  clear(source: number): void {
    const place = this.#placeOf(source, false)
    if (place !== undefined) this.#writer.clear(place.page, place.index, this.#words)
  }

  #publish(source: number, words: readonly bigint[]): void {
    const place = this.#placeOf(source, true)
    if (place !== undefined) this.#writer.publish(place.page, place.index, words)
  }

  get #words(): number {
    return this.#parts.isWide() ? WIDE_WORDS : LEGACY_WORDS
  }

  #placeOf(source: number, makes: boolean): Place | undefined {
    const devfn = source & 0xff
    const isUpper = this.#parts.isWide() && devfn >= HALF
    const at = (source >> 8) * ROOT_WORDS + (isUpper ? 1 : 0)
    const index = (this.#parts.isWide() ? devfn % HALF : devfn) * this.#words
    const found = this.#writer.read(this.#parts.root(), at)
    if ((found & 1n) !== 0n) return { page: Number(found >> 12n), index }
    const page = makes ? this.#pool.take(0, this.#parts.isSnooped()) : -1
    if (page < 0) return undefined
    this.#writer.flushPage(page)
    this.#writer.write(this.#parts.root(), at, this.#rootEntry(page, isUpper))
    this.#writer.flush(this.#parts.root(), at, 1)
    return { page, index }
  }

  #rootEntry(page: number, isUpper: boolean): bigint {
    const table = BigInt(page)
    if (!this.#parts.isWide()) return encode(ROOT_ENTRY, { P: 1n, CTP: table })
    if (isUpper) return encode(ROOT_ENTRY_UPPER, { UP: 1n, UCTP: table })
    return encode(ROOT_ENTRY_LOWER, { LP: 1n, LCTP: table })
  }
}
