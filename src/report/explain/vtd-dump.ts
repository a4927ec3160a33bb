import { hex } from '../../bits/u64.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import {
  DUMP_ABSENT,
  DUMP_BEGIN,
  DUMP_NO_PTE,
  DUMP_NO_TABLE,
  DUMP_PASID_ENTRY,
  DUMP_PTE,
} from '../../reader/kernel-log/vtd-dump-lines.ts'
import type { Because } from './fault-log.ts'

const READ = 1n
const WRITE = 2n
const LARGE = 1n << 7n
/** PGTT of a PASID table entry: first level only. */
const FIRST_LEVEL = 1n

type Stage = 'first' | 'second'

/** What was blocked. */
export interface Blocked {
  readonly access: 'read' | 'write'
  /** Whether it was blocked for what the page tables allow, or for something else. */
  readonly isByTables: boolean
}

/** What a dump says, and where the walk in memory ended. */
export interface DumpEnd extends Because {
  /** Level of the entry at which it ended; undefined where it ended before the page tables. */
  readonly level: number | undefined
}

/**
 * Reads the tables that a kernel with CONFIG_DMAR_DEBUG prints after a fault: as memory holds them a moment later. The
 * leaf is level 1. (Linux v5.16-7.2 drivers/iommu/intel/iommu.c, dmar_fault_dump_ptes, pgtable_walk)
 */
export class VtdDump {
  #address = 0n
  #isOpen = false
  #stage: Stage = 'second'
  /** What all entries so far allow. */
  #rights = READ | WRITE
  #entry: { readonly level: number; readonly value: bigint; readonly line: number } | undefined

  /** Whether a dump of this address has begun and not ended. */
  isOpenFor(address: bigint): boolean {
    return this.#isOpen && this.#address === address
  }

  /** Takes a line of a dump; answers what it ends with. */
  take(line: FoundLine, blocked: Blocked): DumpEnd | undefined {
    const begin = valuesOf(DUMP_BEGIN, line)
    if (begin !== undefined) {
      this.#address = begin.address
      this.#isOpen = true
      this.#stage = 'second'
      this.#entry = undefined
      this.#rights = READ | WRITE
      return undefined
    }
    if (!this.#isOpen) return undefined
    const word = valuesOf(DUMP_PASID_ENTRY, line)
    if (word !== undefined) {
      if (word.index === 0) this.#stage = ((word.value >> 6n) & 7n) === FIRST_LEVEL ? 'first' : 'second'
      return undefined
    }
    const pte = valuesOf(DUMP_PTE, line)
    if (pte !== undefined) {
      this.#entry = { level: pte.level, value: pte.value, line: line.line }
      this.#rights &= pte.value
      const isLeaf = pte.level === 1 || (pte.value & LARGE) !== 0n
      return isLeaf && this.#isPresent(pte.value) ? this.#leaf(blocked) : undefined
    }
    const absent = valuesOf(DUMP_NO_TABLE, line)
    if (absent !== undefined) return this.#absent(absent.level + 1, line.line)
    const old = valuesOf(DUMP_NO_PTE, line)
    if (old !== undefined) {
      this.#isOpen = false
      const text = `in memory, the entry of level ${old.level} is not present, or maps a large page: kernels before 6.12 do not tell which`
      return { line: line.line, text, level: old.level }
    }
    const table = DUMP_ABSENT.find(({ id }) => id === line.template.id)
    if (table === undefined) return undefined
    this.#isOpen = false
    return { line: line.line, text: `in memory, the ${table.template}`, level: undefined }
  }

  #isPresent(value: bigint): boolean {
    return (value & (this.#stage === 'first' ? READ : READ | WRITE)) !== 0n
  }

  #absent(level: number, line: number): DumpEnd {
    this.#isOpen = false
    const value = this.#entry?.level === level ? ` (${hex(this.#entry.value)})` : ''
    const what = level === 1 ? 'no page is mapped' : `there is no table of level ${level - 1}`
    const text = `in memory, the ${this.#stage}-level entry of level ${level} is not present${value}: ${what}`
    return { line: this.#entry?.line ?? line, text, level }
  }

  #leaf({ access, isByTables }: Blocked): DumpEnd {
    this.#isOpen = false
    const { level, value, line } = this.#entry as { level: number; value: bigint; line: number }
    const canRead = (this.#rights & READ) !== 0n
    const canWrite = (this.#rights & WRITE) !== 0n
    const allowed =
      canRead && canWrite
        ? 'reading and writing'
        : canRead
          ? 'reading only'
          : canWrite
            ? 'writing only'
            : 'nothing'
    const isAllowed = access === 'read' ? canRead : canWrite
    const later =
      isAllowed && isByTables
        ? ': what was blocked is allowed a moment later, so it was mapped in between, or the unit used an older entry that was not invalidated'
        : ''
    const text = `in memory, the ${this.#stage}-level entries down to level ${level} (${hex(value)}) allow ${allowed}${later}`
    return { line, text, level }
  }
}
