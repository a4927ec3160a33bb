import { wordOf } from '../../bits/u64.ts'
import type { Word } from '../../bits/word.ts'
import { FAULT_REASONS, type FaultReason, faultNameOf } from '../../hw/vtd/fault-reasons.ts'
import {
  NO_CACHES,
  newTranslation,
  TABLE_MODE,
  type TableMode,
  type Translation,
  type VtdRequest,
} from '../../hw/vtd/ports.ts'
import { TranslationEngine } from '../../hw/vtd/tables/engine.ts'
import type { TableFeatures } from '../../hw/vtd/tables/features.ts'
import {
  CONTEXT_ENTRY_HI,
  CONTEXT_ENTRY_LO,
  EXT_CONTEXT_ENTRY_0,
  EXT_CONTEXT_ENTRY_1,
  EXT_CONTEXT_ENTRY_2,
  EXT_CONTEXT_ENTRY_3,
  EXT_PASID_ENTRY,
  FL_ENTRY,
  PASID_DIR_ENTRY,
  PASID_ENTRY_0,
  PASID_ENTRY_1,
  PASID_ENTRY_2,
  ROOT_ENTRY,
  ROOT_ENTRY_LOWER,
  ROOT_ENTRY_UPPER,
  SL_ENTRY,
  SM_CONTEXT_ENTRY_0,
  SM_CONTEXT_ENTRY_1,
} from '../../hw/vtd/tables/format.ts'
import { TABLE_WORD } from '../../hw/vtd/tables/table-memory.ts'
import type { BusMemory } from '../../memory/ports.ts'

/** What to walk for. */
export interface WalkRequest {
  readonly memory: BusMemory
  readonly features: TableFeatures
  readonly has: (erratum: string) => boolean
  /** 4 KiB page of the root table, and the mode that its address register names (TTM). */
  readonly root: number
  readonly ttm: number
  readonly request: VtdRequest
}

/** A word that was read. */
export interface WalkedWord {
  readonly address: bigint
  readonly raw: bigint
  /** Its declaration; undefined for one that is reserved as a whole. */
  readonly word: Word | undefined
  /** What entry it belongs to: `root`, `context`, `PASID directory`, `PASID`, `level 3` or `first level 3`. */
  readonly of: string
}

export interface WalkResult {
  readonly mode: TableMode | undefined
  readonly words: readonly WalkedWord[]
  readonly answer: Readonly<Translation>
  /** Why it is blocked; a number alone has no reason declared. */
  readonly reason: FaultReason | undefined
  readonly name: string
  /** What the model, or QEMU, cannot do with these tables. */
  readonly unmodelled: string
  readonly halt: string
}

const LEGACY_CONTEXT = [CONTEXT_ENTRY_LO, CONTEXT_ENTRY_HI]
const EXT_CONTEXT = [EXT_CONTEXT_ENTRY_0, EXT_CONTEXT_ENTRY_1, EXT_CONTEXT_ENTRY_2, EXT_CONTEXT_ENTRY_3]
const SM_CONTEXT = [SM_CONTEXT_ENTRY_0, SM_CONTEXT_ENTRY_1]
const PASID_WORDS = [PASID_ENTRY_0, PASID_ENTRY_1, PASID_ENTRY_2]
const LEVEL_MASK = 7

/** The declaration of a word by what it belongs to and where it lies. */
function wordOfEntry(
  what: number,
  offset: number,
  mode: TableMode | undefined,
): Pick<WalkedWord, 'word' | 'of'> {
  const isLegacy = mode === TABLE_MODE.LEGACY
  const isExtended = mode === TABLE_MODE.EXTENDED
  const index = offset >> 3
  switch (what) {
    case TABLE_WORD.ROOT: {
      const isUpper = index % 2 === 1
      if (isLegacy) return { of: 'root', word: isUpper ? undefined : ROOT_ENTRY }
      return { of: 'root', word: isUpper ? ROOT_ENTRY_UPPER : ROOT_ENTRY_LOWER }
    }
    case TABLE_WORD.CONTEXT:
      if (isLegacy) return { of: 'context', word: LEGACY_CONTEXT[index % 2] }
      return { of: 'context', word: (isExtended ? EXT_CONTEXT : SM_CONTEXT)[index % 4] }
    case TABLE_WORD.PASID_DIR:
      return { of: 'PASID directory', word: PASID_DIR_ENTRY }
    case TABLE_WORD.PASID:
      return { of: 'PASID', word: isExtended ? EXT_PASID_ENTRY : PASID_WORDS[index % 8] }
  }
  const level = what & LEVEL_MASK
  const isFirst = (what & TABLE_WORD.FIRST_LEVEL) !== 0
  return isFirst ? { of: `first level ${level}`, word: FL_ENTRY } : { of: `level ${level}`, word: SL_ENTRY }
}

/**
 * Walks the tables in memory for one request, and keeps every word that is read, in its order. A word that is read again
 * stands once, unless another came between.
 *
 * @example walkTables({ memory, features, has: () => false, root: 0x10, ttm: 0, request }).answer.page
 */
export function walkTables({ memory, features, has, root, ttm, request }: WalkRequest): WalkResult {
  const engine = new TranslationEngine({ memory, features, caches: NO_CACHES, has })
  const mode = engine.modeOf(ttm)
  const words: WalkedWord[] = []
  const seen = new Set<bigint>()
  engine.watcher = {
    read: (what, page, offset, hi, lo) => {
      const address = BigInt(page) * 4096n + BigInt(offset)
      if (what < TABLE_WORD.SECOND_LEVEL && seen.has(address)) return
      seen.add(address)
      words.push({ address, raw: wordOf(hi, lo), ...wordOfEntry(what, offset, mode) })
    },
  }
  const answer = newTranslation()
  engine.translate(root, ttm, request, answer)
  const name = faultNameOf(answer.fault)
  return {
    mode,
    words,
    answer,
    reason: name === undefined ? undefined : FAULT_REASONS[name],
    name: name ?? '',
    unmodelled: engine.unmodelled,
    halt: engine.halt,
  }
}
