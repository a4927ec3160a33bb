import type { Profile } from '../../../bits/errata.ts'

/** Errata of shared virtual memory that a kernel has, read once: see `SVM_ERRATA`. */
export interface SvmQuirks {
  readonly tableSize: boolean
  readonly rawSizeCode: boolean
  readonly pprNotCleared: boolean
  readonly holdsUsers: boolean
  readonly releaseFlushesNothing: boolean
  readonly noPermCheck: boolean
  readonly takesPasid0: boolean
  readonly countsPagesInInt: boolean
  readonly encodesBelowSize: boolean
  readonly asksPageSelective: boolean
  readonly takesFirstDevice: boolean
  readonly shiftsBy16: boolean
  readonly cutsAddress: boolean
  readonly goesOnWithout: boolean
  readonly diesWithoutPasid: boolean
  readonly mixesWanted: boolean
  readonly leavesKernelRanges: boolean
  readonly leaksDevice: boolean
  readonly leavesUnaligned: boolean
  readonly leavesEntry: boolean
  readonly leavesOverflow: boolean
  readonly leaksUsers: boolean
}

export const svmQuirksOf = ({ has }: Profile): SvmQuirks => ({
  tableSize: has('svm-table-size'),
  rawSizeCode: has('svm-raw-pts'),
  pprNotCleared: has('svm-ppr-not-cleared'),
  holdsUsers: has('svm-mm-users-held'),
  releaseFlushesNothing: has('svm-release-no-clear'),
  noPermCheck: has('svm-no-perm-check'),
  takesPasid0: has('svm-pasid0'),
  countsPagesInInt: has('svm-pages-int'),
  encodesBelowSize: has('svm-dev-tlb-encoding'),
  asksPageSelective: has('svm-pgsel-cap'),
  takesFirstDevice: has('svm-stray-semicolon'),
  shiftsBy16: has('svm-page-shift'),
  cutsAddress: has('svm-addr52'),
  goesOnWithout: has('svm-null-svm'),
  diesWithoutPasid: has('svm-no-pasid'),
  mixesWanted: has('svm-rwxp'),
  leavesKernelRanges: has('svm-supervisor'),
  leaksDevice: has('svm-no-free-on-error'),
  leavesUnaligned: has('K4-unaligned-piotlb'),
  leavesEntry: has('svm-supervisor-entry-left'),
  leavesOverflow: has('svm-prq-overflow-stuck'),
  leaksUsers: has('svm-canonical-leak'),
})
