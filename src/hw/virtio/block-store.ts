import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import type { Segments } from './segments.ts'

/** Unit of every position and length of a virtio block device, whatever its block size. */
export const SECTOR_BYTES = 512

/**
 * What a block device keeps its bytes in. Positions and lengths are sectors of 512 bytes, inside the capacity:
 * the device has checked. False is an I/O error.
 *
 * `segments` have at least as many bytes as the sectors; their first bytes are meant. A store with a file reads
 * into their views as they are (`views`, `starts`, `lengths`).
 */
export interface BlockStore {
  readonly sectors: number
  /** Bytes of the store to the segments. */
  read(sector: number, sectors: number, segments: Segments): boolean
  /** Bytes of the segments to the store. */
  write(sector: number, sectors: number, segments: Segments): boolean
  /** What was written survives a loss of power once this returns. */
  flush(): boolean
  /** What the sectors hold does not matter any more. */
  discard(sector: number, sectors: number): boolean
  /** @param mayUnmap the store may give the space back */
  writeZeroes(sector: number, sectors: number, mayUnmap: boolean): boolean
}

/** A disk in memory. A discarded sector reads as zeros. */
export class MemoryBlockStore implements BlockStore {
  readonly sectors: number
  readonly #journal: Journal
  readonly #cells: Cells
  readonly #bytes: Uint8Array
  readonly #scratch = new Uint8Array(SECTOR_BYTES)
  readonly #words = new Int32Array(this.#scratch.buffer)

  constructor(name: string, sectors: number, journal: Journal) {
    this.sectors = sectors
    this.#journal = journal
    this.#cells = new Cells(journal, keyOf('block store', name), (sectors * SECTOR_BYTES) / 4)
    this.#bytes = new Uint8Array(this.#cells.data.buffer)
  }

  read(sector: number, sectors: number, segments: Segments): boolean {
    segments.write(0, this.#bytes, sector * SECTOR_BYTES, sectors * SECTOR_BYTES)
    return true
  }

  write(sector: number, sectors: number, segments: Segments): boolean {
    if (!this.#journal.on) {
      segments.read(0, this.#bytes, sector * SECTOR_BYTES, sectors * SECTOR_BYTES)
      return true
    }
    for (let i = 0; i < sectors; i++) {
      segments.read(i * SECTOR_BYTES, this.#scratch, 0, SECTOR_BYTES)
      this.#storeScratch(sector + i)
    }
    return true
  }

  flush(): boolean {
    return true
  }

  discard(sector: number, sectors: number): boolean {
    return this.writeZeroes(sector, sectors)
  }

  writeZeroes(sector: number, sectors: number): boolean {
    const words = SECTOR_BYTES / 4
    this.#cells.fill(0, sector * words, (sector + sectors) * words)
    return true
  }

  /** A copy of bytes of the disk. */
  bytesAt(at: number, bytes: number): Uint8Array {
    return this.#bytes.slice(at, at + bytes)
  }

  #storeScratch(sector: number): void {
    const first = (sector * SECTOR_BYTES) / 4
    this.#words.forEach((word, i) => {
      this.#cells.set(first + i, word)
    })
  }
}
