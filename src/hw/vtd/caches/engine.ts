import type {
  ContextEntry,
  PasidEntry,
  StructureCaches,
  TableMode,
  Translation,
  VtdRequest,
} from '../ports.ts'

/** The walks of page tables that an engine made for its last request, in the order of their ends. */
export interface WalkTrail {
  /** Whether it is kept at all. */
  on: boolean
  readonly walks: number
  /** Of each walk: `STAGE`, the 4 KiB page it was for, the fault it met (0 for none). */
  readonly stage: ArrayLike<number>
  readonly input: ArrayLike<number>
  readonly fault: ArrayLike<number>
  /** The 4 KiB page of the table of a level (1 to 5) of a walk; 0 where none was read. */
  table(walk: number, level: number): number
}

/** What `loadPage` answers where page tables have to be walked. */
export const NOT_KEPT = -1

/** Translations that are kept: asked when context and PASID entry are known, before page tables are walked. */
export interface PageCache {
  /** The fault reason, 0 where `into` has the translation, or `NOT_KEPT`. */
  loadPage(request: VtdRequest, into: Translation): number
}

/** What an engine asks before it reads. */
export interface EnginePorts {
  readonly caches: StructureCaches
  readonly pages: PageCache
}

/** What reads the structures in memory, as the caches in front of it meet it. */
export interface Engine {
  readonly trail: WalkTrail
  /** The entries that the last request was translated by. */
  readonly context: ContextEntry
  readonly pasid: PasidEntry
  /** What TTM of the root table address stands for; undefined where it is reserved. */
  modeOf(ttm: number): TableMode | undefined
  translate(root: number, ttm: number, request: VtdRequest, into: Translation): void
  /** The context entry of a source-id alone, left in `context`; then an entry of a PASID below it. 0, or the fault. */
  findContext(root: number, mode: TableMode, source: number): number
  findPasid(source: number, mode: TableMode, pasid: number): number
}
