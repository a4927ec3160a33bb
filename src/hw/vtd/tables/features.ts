/**
 * What a unit's tables may say, from its capability registers. Where a bit is 0 an entry that uses it is invalid, or
 * has a reserved bit set.
 */
export interface TableFeatures {
  /** Width of addresses of memory: bits of a pointer from here on are reserved. */
  readonly hostAddressBits: number
  /** CAP.MGAW: width of the addresses that devices may send. */
  readonly maxAddressBits: number
  /** CAP.SAGAW: bit n for tables of n + 2 levels. */
  readonly sagaw: number
  /** CAP.SLLPS: second-level entries that map 2 MiB, and 1 GiB. */
  readonly hasSecond2M: boolean
  readonly hasSecond1G: boolean
  /** CAP.FL1GP: first-level entries that map 1 GiB. */
  readonly hasFirst1G: boolean
  /** CAP.FL5LP: first-level tables of five levels. */
  readonly hasFirst5: boolean
  /** CAP.ZLR. */
  readonly hasZeroLengthReads: boolean
  /** ECAP.DT. */
  readonly hasDeviceTlb: boolean
  /** ECAP.PT. */
  readonly hasPassThrough: boolean
  /** ECAP.SC. */
  readonly hasSnoopControl: boolean
  /** ECAP.ECS: extended context entries of revisions 2.x. */
  readonly hasExtendedContext: boolean
  /** ECAP.SMTS, SLTS, FLTS, NEST: scalable mode, and what a PASID may be translated through there. */
  readonly hasScalableMode: boolean
  readonly hasSecondLevel: boolean
  readonly hasFirstLevel: boolean
  readonly hasNesting: boolean
  /** ECAP.PASID. */
  readonly hasPasid: boolean
  /** ECAP.PRS. */
  readonly hasPageRequests: boolean
  /** ECAP.RPS: requests without a PASID may have any, named by their context entry. Else theirs is 0. */
  readonly hasRidPasid: boolean
  /** ECAP.RPRIVS. */
  readonly hasRidPrivilege: boolean
  /** ECAP.SRS, ERS, EAFS, SLADS, SMPWCS, MTS: what a PASID table entry may switch on. */
  readonly hasSupervisor: boolean
  readonly hasExecute: boolean
  readonly hasExtendedAccessed: boolean
  readonly hasSecondAccessedDirty: boolean
  readonly hasWalkSnoop: boolean
  readonly hasMemoryTypes: boolean
  /** ECAP.ADMS: a root table in the mode that aborts every request. */
  readonly hasAbortMode: boolean
}

/** A unit that can do everything: only bits that no unit has are reserved. */
export const EVERY_FEATURE: TableFeatures = Object.freeze({
  hostAddressBits: 52,
  maxAddressBits: 57,
  sagaw: 0b1110,
  hasSecond2M: true,
  hasSecond1G: true,
  hasFirst1G: true,
  hasFirst5: true,
  hasZeroLengthReads: true,
  hasDeviceTlb: true,
  hasPassThrough: true,
  hasSnoopControl: true,
  hasExtendedContext: true,
  hasScalableMode: true,
  hasSecondLevel: true,
  hasFirstLevel: true,
  hasNesting: true,
  hasPasid: true,
  hasPageRequests: true,
  hasRidPasid: true,
  hasRidPrivilege: true,
  hasSupervisor: true,
  hasExecute: true,
  hasExtendedAccessed: true,
  hasSecondAccessedDirty: true,
  hasWalkSnoop: true,
  hasMemoryTypes: true,
  hasAbortMode: true,
})
