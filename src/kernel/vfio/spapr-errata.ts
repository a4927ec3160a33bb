import type { Profile } from '../../bits/errata.ts'

/** Which deviations the driver for containers has: read once. */
export interface SpaprErrata {
  readonly orphansRegions: boolean
  readonly stopsEarly: boolean
  readonly countsWrongRegion: boolean
  readonly mapsPastWindow: boolean
  readonly leaksSmallPage: boolean
  readonly keepsCharge: boolean
  readonly clearsPastWindow: boolean
  readonly unregistersPart: boolean
  readonly returns1: boolean
  readonly followsNull: boolean
  readonly usesKernelTables: boolean
  readonly isEager: boolean
  readonly killsEach: boolean
  readonly clearsOnDetach: boolean
  readonly losesMapped: boolean
}

export const spaprErrata = ({ has }: Profile): SpaprErrata => ({
  orphansRegions: has('X1'),
  stopsEarly: has('X3'),
  countsWrongRegion: has('X4'),
  mapsPastWindow: has('X6'),
  leaksSmallPage: has('X9'),
  keepsCharge: has('X10'),
  clearsPastWindow: has('X14'),
  unregistersPart: has('B10'),
  returns1: has('iova-check-returns-1'),
  followsNull: has('null-user-slot'),
  usesKernelTables: has('v1-kernel-tables'),
  isEager: has('eager-default-window'),
  killsEach: has('B9-vfio'),
  clearsOnDetach: has('detach-clears-all'),
  losesMapped: has('region-lost-at-release'),
})
