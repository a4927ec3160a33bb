import type { Profile } from '../../bits/errata.ts'

/** Which deviations the calls have: read once. */
export interface HcallErrata {
  /** X14 */
  readonly looksAtFirstPage: boolean
  /** X2 */
  readonly mapsPoison: boolean
  /** B3 */
  readonly killsBehind: boolean
  /** B4 */
  readonly clearsFirst: boolean
  /** B5 */
  readonly checksAsItGoes: boolean
  /** B6 */
  readonly leavesLock: boolean
  /** B13 */
  readonly clearsMissingPages: boolean
  /** What is wrong with a TCE is answered to the guest. */
  readonly blamesGuest: boolean
  /** Of a TCE only the low bits are looked at. */
  readonly looksAtLowBits: boolean
  /** Hash guests enter real mode first, and virtual mode does all again where that answers H_TOO_HARD. */
  readonly hasRealMode: boolean
  /** Real mode answers as it did before Linux 4.20. */
  readonly hasOldRealMode: boolean
  /** Real mode finds every page of a table of a guest. */
  readonly hasWholeTables: boolean
  /** Refusals of hardware tables are not all passed on: not modelled. */
  readonly ignoresErrors: boolean
}

const realMode = ({ has }: Profile, isPower9: boolean): boolean =>
  has('real-mode-handlers') && (!isPower9 || has('power9-real-mode'))

export const hcallErrata = (profile: Profile, isPower9: boolean): HcallErrata =>
  errataOf(profile, realMode(profile, isPower9))

const errataOf = ({ has }: Profile, hasRealMode: boolean): HcallErrata => ({
  looksAtFirstPage: has('X14'),
  mapsPoison: has('X2'),
  killsBehind: has('B2') && has('B3'),
  clearsFirst: has('B4'),
  checksAsItGoes: has('B5'),
  leavesLock: has('B6'),
  clearsMissingPages: has('B13'),
  blamesGuest: has('early-tce-checks'),
  looksAtLowBits: has('unchecked-tces'),
  hasRealMode,
  hasOldRealMode: hasRealMode && (has('errors-ignored') || has('unchecked-tces')),
  hasWholeTables: has('whole-guest-tables'),
  ignoresErrors: has('errors-ignored'),
})
