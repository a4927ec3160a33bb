import type { PseriesScript } from './pseries-step.ts'

/** Something that runs scripts on a pseries machine: QEMU, or the model. */
export interface PseriesScriptPeer {
  /** What it is, in one line. */
  readonly title: string
  /**
   * Runs a script on a machine that is as after its start. One answer a step: undefined where the step has none.
   * Scripts that are handed in together run one after the other.
   */
  run(script: PseriesScript): Promise<readonly (string | undefined)[]>
}

/** What a hypercall answers. */
export const hcallAnswer = (code: number | bigint, r4: bigint): string => `${code} r4=0x${r4.toString(16)}`
/** What an RTAS call answers: its status and the cells that it wrote. */
export const rtasAnswer = (status: number | bigint, outs: readonly (number | bigint)[]): string =>
  [String(status), ...outs.map((out) => `0x${out.toString(16)}`)].join(' ')
