/** Work that is set up and whose results have been checked: a loop that can be timed again and again. */
export interface Work {
  /** Operations of one pass. */
  readonly operations: number
  /** What must come before each pass, and is not timed. */
  prepare?(): void
  /** Does them, and answers a sum that all their results went into. */
  pass(): number
}

/** Makes work of a number of operations (a power of two) to a pass. Throws where its results are wrong. */
export type SetUp = (operations: number) => Work

/** What a case is held against. */
export type Peer =
  /** A floor of floors.c. With `sameSum` both sides must reach the same sum in their first pass. */
  | { readonly label: string; readonly floor: readonly (string | number)[]; readonly sameSum: boolean }
  /** The same, or similar, work in a process of its own. */
  | { readonly label: string; readonly setUp: SetUp }

/** A bound that a case must keep; the ratio is the case's cost by its peer's. */
export type Goal =
  | { readonly ratioMax: number }
  | { readonly nsMax: number }
  | { readonly operationsPerSecondMin: number }
  | { readonly mbPerSecondMin: number }

/** A loop inside one process. */
export interface LoopCase {
  readonly id: string
  /** What one operation is, in a few words. */
  readonly operation: string
  readonly operations: number
  readonly setUp: SetUp
  readonly peer: Peer
  readonly goal?: Goal
  /** Pairs that are enough, where setting up takes long. */
  readonly pairsMax?: number
}

/** Cases that share what their peer is and does. */
export interface CaseGroup {
  readonly title: string
  /** What the two sides do and what each leaves out: printed below the table. */
  readonly note: string
  readonly cases: readonly LoopCase[]
}

/** Throws where a result of a case is not what it must be: a fast wrong answer is no result. */
export function check(isRight: boolean, what: string): void {
  if (!isRight) throw new Error(`wrong result: ${what}`)
}
