import { encode, get } from '../../bits/word.ts'
import { PGTT } from '../../hw/vtd/ports.ts'
import { PASID_DIR_ENTRY, PASID_ENTRY_0, PASID_ENTRY_1, PASID_ENTRY_2 } from '../../hw/vtd/tables/format.ts'
import type { EntryWriter } from './entry-writer.ts'
import type { TablePool } from './table-pages.ts'

const ENTRY_WORDS = 8
const PAGE_BYTES = 4096
/** PASIDs of one directory entry, as log2. */
const TABLE_SHIFT = 6
/** Bytes of the directory: 8 for 64 PASIDs. */
const DIRECTORY_SHIFT = 3
const SMALLEST_CODE = 7
/** PASIDs there are: 20 bits. */
export const PASIDS_MAX = 2 ** 20

/** What a PASID, or a device without one, is translated through. */
export interface PasidEntryValue {
  readonly kind: 'first' | 'second' | 'pass-through'
  readonly domain: number
  /** First table, and the levels of the unit. */
  readonly root: number
  readonly levels: number
  /** Levels of first-level tables; those of the unit where left out. */
  readonly firstLevels?: number
  /** Walks of page tables snoop (ECAP.SMPWCS). */
  readonly snoopsWalks: boolean
  /** Requests with privilege are allowed. */
  readonly hasSupervisor: boolean
  /** Requests with privilege may not write what is read-only (WPE). */
  readonly isWriteProtected?: boolean
}

/** What an entry that goes had. */
export interface OldPasidEntry {
  readonly domain: number
  /** It is flushed with its PASID: first level and pass-through. */
  readonly isFlushedByPasid: boolean
}

/** How a directory is sized: the pages it takes, the PASIDs below it, and PDTS. (Linux v6.1 intel_pasid_alloc_table) */
export function directoryOf(pasids: number): { pages: number; pasids: number; sizeCode: number } {
  const bytes = Math.min(pasids, PASIDS_MAX) >> DIRECTORY_SHIFT
  let order = 0
  while (PAGE_BYTES * 2 ** order < bytes) order++
  const max = 2 ** (order + 12 + DIRECTORY_SHIFT)
  const sizeCode = Math.max(0, Math.log2(max >> TABLE_SHIFT) - SMALLEST_CODE)
  return { pages: 2 ** order, pasids: max, sizeCode }
}

/**
 * The PASID directory and tables of one device, as Linux writes them. A table is made with the first PASID that it holds.
 * (Linux v6.1 drivers/iommu/intel/pasid.c, intel_pasid_get_entry, intel_pasid_setup_*, intel_pasid_tear_down_entry)
 */
export class PasidTable {
  readonly directory: number
  readonly pasids: number
  readonly sizeCode: number
  readonly #writer: EntryWriter
  readonly #pool: TablePool
  readonly #isSnooped: () => boolean

  /** @param directory its first page, of zeros */
  constructor(
    directory: number,
    pasids: number,
    parts: { readonly writer: EntryWriter; readonly pool: TablePool; readonly isSnooped: () => boolean },
  ) {
    const shape = directoryOf(pasids)
    this.directory = directory
    this.pasids = shape.pasids
    this.sizeCode = shape.sizeCode
    this.#writer = parts.writer
    this.#pool = parts.pool
    this.#isSnooped = parts.isSnooped
    for (let page = 0; page < shape.pages; page++) this.#writer.flushPage(directory + page)
  }

  isPresent(pasid: number): boolean {
    const place = this.#placeOf(pasid, false)
    return place !== undefined && (this.#writer.read(place.page, place.index) & 1n) !== 0n
  }

  /** Writes the entry of a PASID, P last. False where no page is left for its table. */
  set(pasid: number, value: PasidEntryValue): boolean {
    const place = this.#placeOf(pasid, true)
    if (place === undefined) return false
    const { kind, domain, root, levels, firstLevels = levels, snoopsWalks, hasSupervisor } = value
    const type = { first: PGTT.FIRST_LEVEL, second: PGTT.SECOND_LEVEL, 'pass-through': PGTT.PASS_THROUGH }[
      kind
    ]
    const flag = (on: boolean) => (on ? 1n : 0n)
    this.#writer.publish(place.page, place.index, [
      encode(PASID_ENTRY_0, {
        P: 1n,
        AW: BigInt(levels - 2),
        PGTT: BigInt(type),
        SLPTPTR: kind === 'second' ? BigInt(root) : 0n,
      }),
      encode(PASID_ENTRY_1, { DID: BigInt(domain), PWSNP: flag(snoopsWalks) }),
      encode(PASID_ENTRY_2, {
        SRE: flag(hasSupervisor),
        WPE: flag(value.isWriteProtected === true),
        NXE: flag(kind === 'first'),
        FLPM: flag(kind === 'first' && firstLevels === 5),
        FLPTPTR: kind === 'first' ? BigInt(root) : 0n,
      }),
      ...new Array<bigint>(ENTRY_WORDS - 3).fill(0n),
    ])
    return true
  }

  /** Clears an entry that is present. @param isSilent faults of the PASID are not reported from then on (FPD) */
  clear(pasid: number, isSilent: boolean): OldPasidEntry | undefined {
    const place = this.#placeOf(pasid, false)
    if (place === undefined) return undefined
    const first = this.#writer.read(place.page, place.index)
    if ((first & 1n) === 0n) return undefined
    const domain = Number(get(PASID_ENTRY_1, this.#writer.read(place.page, place.index + 1), 'DID'))
    const type = Number(get(PASID_ENTRY_0, first, 'PGTT'))
    const fpd = encode(PASID_ENTRY_0, { FPD: 1n })
    this.#writer.clear(place.page, place.index, ENTRY_WORDS, isSilent ? fpd : 0n)
    return { domain, isFlushedByPasid: type === PGTT.FIRST_LEVEL || type === PGTT.PASS_THROUGH }
  }

  #placeOf(pasid: number, makes: boolean): { page: number; index: number } | undefined {
    const slot = pasid >> TABLE_SHIFT
    const page = this.directory + Math.floor(slot / 512)
    const index = (pasid % 2 ** TABLE_SHIFT) * ENTRY_WORDS
    const found = this.#writer.read(page, slot % 512)
    if ((found & 1n) !== 0n) return { page: Number(found >> 12n), index }
    const table = makes ? this.#pool.take(0, this.#isSnooped()) : -1
    if (table < 0) return undefined
    this.#writer.flushPage(table)
    this.#writer.write(page, slot % 512, encode(PASID_DIR_ENTRY, { P: 1n, SMPTBLPTR: BigInt(table) }))
    this.#writer.flush(page, slot % 512, 1)
    return { page: table, index }
  }
}
