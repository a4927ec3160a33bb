import type { PseriesScript } from './pseries-step.ts'
import type { ScriptPeer } from './script-comparison.ts'

/** Something that runs scripts on a pseries machine: QEMU, or the model. */
export type PseriesScriptPeer = ScriptPeer<PseriesScript>

/** What a hypercall answers. */
export const hcallAnswer = (code: number | bigint, r4: bigint): string => `${code} r4=0x${r4.toString(16)}`
/** What an RTAS call answers: its status and the cells that it wrote. */
export const rtasAnswer = (status: number | bigint, outs: readonly (number | bigint)[]): string =>
  [String(status), ...outs.map((out) => `0x${out.toString(16)}`)].join(' ')
