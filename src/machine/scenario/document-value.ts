import { sizeText } from '../schema/number-text.ts'

/** A value of a scenario file: maps keep the order of their keys. */
export type DocumentValue =
  | string
  | number
  | bigint
  | boolean
  | readonly DocumentValue[]
  | { readonly [key: string]: DocumentValue }
/** A map of a scenario file. */
export type DocumentMap = Record<string, DocumentValue>

/** Keys with a value; the others are left out of a file. */
export const present = (keys: Readonly<Record<string, DocumentValue | undefined>>): DocumentMap =>
  Object.fromEntries(Object.entries(keys).filter((e): e is [string, DocumentValue] => e[1] !== undefined))

/** Nothing where a value is what it is without being said. */
export const unless = <T>(value: T, initial: T): T | undefined => (value === initial ? undefined : value)

/** Bytes with their unit where they have one. */
export function amount(bytes: bigint): DocumentValue {
  const written = sizeText(bytes)
  if (written.endsWith('B')) return written
  return bytes <= Number.MAX_SAFE_INTEGER ? Number(bytes) : bytes
}

/** Whether two lists have the same entries. */
export const sameList = <T>(a: readonly T[], b: readonly T[]): boolean =>
  a.length === b.length && a.every((v, i) => v === b[i])
