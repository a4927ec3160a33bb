import type { ContextEntry, PasidEntry, Translation, VtdInvalidation, VtdRequest } from './ports.ts'

/** Where a unit's root table is, as it was taken. */
export interface RootPointer {
  /** Its 4 KiB page. */
  readonly page: number
  /** TTM: bits 11:10 of RTADDR. */
  readonly mode: number
  /** GSTS.TES. */
  readonly isEnabled: boolean
}

/** What a unit translates with: tables in memory, and what it remembers of them. */
export interface UnitTranslator {
  /** A request while translation is on. One object is used again for every answer. */
  translate(request: VtdRequest): Translation
  /** The last fault came from page tables: context and PASID entries were in order. */
  readonly isWalkFault: boolean
  /** Finds the context entry of a source-id, and leaves it in `context`. Answers 0, or the fault. */
  findContext(source: number): number
  readonly context: ContextEntry
  /** Finds an entry of a PASID below that context, and leaves it in `pasid`. Answers 0, or the fault. */
  findPasid(source: number, pasid: number): number
  readonly pasid: PasidEntry
  /** Whether FPD of the directory or the entry of a PASID below that context keeps a fault from being recorded. */
  silences(pasid: number): boolean
  invalidate(what: VtdInvalidation): void
  dropAll(): void
  setRoot(root: RootPointer): void
  /** A device is behind the unit: QEMU's decides some things for those that it knows. */
  addSource(source: number): void
  /** The next number of a cached translation: the TLBs of devices take theirs from the same ones. */
  nextEntry(): number
}
