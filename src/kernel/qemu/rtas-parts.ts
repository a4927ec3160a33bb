import type { ArgDecl } from '../../bits/call.ts'

/** What declarations of RTAS calls are made of. */

export const cfgAddr: ArgDecl = {
  type: 'u32',
  doc: 'Configuration address of the device; QEMU does not look at it.',
  optional: true,
  initial: 0n,
}
export const buid: ArgDecl = { type: 'u64', doc: 'Bus unit id of the PHB: two cells, the upper one first.' }
export const nargs = (count: bigint): ArgDecl => ({
  type: 'u32',
  doc: 'Count of argument cells that the caller says it passes.',
  optional: true,
  initial: count,
})
export const nret = (count: bigint): ArgDecl => ({
  type: 'u32',
  doc: 'Count of cells for results that the caller says it has, the status included.',
  optional: true,
  initial: count,
})

export const BUID_UNKNOWN = {
  rule: 'buid-unknown',
  code: 'RTAS_OUT_PARAM_ERROR',
  when: 'No PHB has the bus unit id.',
} as const

/** How many cells a caller says it passes and has room for. */
export interface Counts {
  readonly nargs: number
  readonly nret: number
}
