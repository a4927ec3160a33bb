import { NONE } from '../../trace/event-codes.ts'

export { STAGE, TABLE_MODE, type TableMode } from '../../trace/event-codes.ts'

/** Stands for "no PASID" in requests, caches and records: no PASID has more than 20 bits. */
export const NO_PASID = NONE
/** Stands for "more than one" where a record or an invalidation names a source-id or a domain-id. */
export const EVERY = NONE

/** What a request needs, and what a translation allows. Atomics need both. */
export const PERM = { READ: 1, WRITE: 2, EXECUTE: 4 } as const

/** AT: what kind of request it is. (VT-d manual, Fault Recording Registers) */
export const ADDRESS_TYPE = { UNTRANSLATED: 0, TRANSLATION_REQUEST: 1, TRANSLATED: 2 } as const

/** PGTT of a PASID table entry: what a PASID, or a device without one, is translated through. */
export const PGTT = { FIRST_LEVEL: 1, SECOND_LEVEL: 2, NESTED: 3, PASS_THROUGH: 4 } as const

/** A request of a device. One object is used again for every request. */
export interface VtdRequest {
  /** Bus, device and function. */
  source: number
  /** `NO_PASID` where the request has none. */
  pasid: number
  /** The address, in two lanes. */
  hi: number
  lo: number
  /** Bits of `PERM` that it needs. */
  need: number
  addressType: number
  isPrivileged: boolean
  /** A read of no bytes: allowed on pages that may only be written where the unit has ZLR. */
  isZeroLength: boolean
  /** NW of a translation request: the device does not want to write, so that no dirty bit is set. */
  isNoWrite: boolean
}

export const newRequest = (): VtdRequest => ({
  source: 0,
  pasid: NO_PASID,
  hi: 0,
  lo: 0,
  need: PERM.READ,
  addressType: ADDRESS_TYPE.UNTRANSLATED,
  isPrivileged: false,
  isZeroLength: false,
  isNoWrite: false,
})

/** What a translation says. One object is used again; page numbers count 4 KiB. */
export interface Translation {
  /** 0, or the fault reason. */
  fault: number
  /** FPD of the entries met: the fault is not recorded. */
  isSilent: boolean
  /** The 4 KiB page of memory that the address is on. */
  page: number
  /** log2 of the bytes of the page that maps it: 12, 21 or 30. */
  shift: number
  /** Bits of `PERM` that all levels together allow a request of this privilege. */
  perm: number
  domain: number
  /** The PASID that was translated through: RID_PASID for requests without one, in scalable mode. */
  pasid: number
  /** G of a first-level leaf. */
  isGlobal: boolean
  /** Through no page table: pass-through, or translation is off. */
  isDirect: boolean
  /** The request is an interrupt: what lies in memory is not reached. */
  isInterrupt: boolean
}

export const newTranslation = (): Translation => ({
  fault: 0,
  isSilent: false,
  page: 0,
  shift: 12,
  perm: 0,
  domain: 0,
  pasid: NO_PASID,
  isGlobal: false,
  isDirect: false,
  isInterrupt: false,
})

/**
 * What a context entry says, of whichever mode. Page numbers count 4 KiB. An entry that is not present, or is not
 * valid, is kept with its fault by a unit in caching mode only.
 */
export interface ContextEntry {
  /** 0, or what is wrong with it. */
  fault: number
  isSilent: boolean
  /** Where its first word is, and that of the root entry: two lanes each are too many, memory ends below 2^52. */
  address: number
  rootAddress: number
  /** Its first word, in lanes, and the lower lane of its second. */
  hi: number
  lo: number
  secondLo: number
  /** T (legacy, extended). */
  type: number
  /** Requests of a device-TLB are allowed (T, or DTE). */
  hasDeviceTlb: boolean
  /** PASIDE and PRE. */
  hasPasid: boolean
  hasPageRequests: boolean
  domain: number
  /** Second level: levels and the page of the first table. */
  levels: number
  root: number
  /** Scalable: page of the PASID directory, and PASIDs below it; RID_PASID and its privilege. */
  pasidTable: number
  pasids: number
  ridPasid: number
  isRidPrivileged: boolean
}

export const newContextEntry = (): ContextEntry => ({
  fault: 0,
  isSilent: false,
  address: 0,
  rootAddress: 0,
  hi: 0,
  lo: 0,
  secondLo: 0,
  type: 0,
  hasDeviceTlb: false,
  hasPasid: false,
  hasPageRequests: false,
  domain: 0,
  levels: 0,
  root: 0,
  pasidTable: 0,
  pasids: 0,
  ridPasid: 0,
  isRidPrivileged: false,
})

/** What a PASID table entry says. Of the extended mode: PGTT is first-level, and the domain that of the context. */
export interface PasidEntry {
  fault: number
  isSilent: boolean
  address: number
  /** Where the directory entry is; 0 in extended mode. */
  directoryAddress: number
  hi: number
  lo: number
  type: number
  domain: number
  /** Second level: levels and the page of the first table. */
  levels: number
  root: number
  /** First level: the same. */
  firstLevels: number
  firstRoot: number
  /** SRE, ERE, WPE, NXE, SMEP, EAFE, SLADE, SLEE, PWSNP. */
  hasSupervisor: boolean
  hasExecute: boolean
  hasWriteProtect: boolean
  hasNoExecute: boolean
  hasSmep: boolean
  hasExtendedAccessed: boolean
  hasSecondAccessedDirty: boolean
  hasSecondExecute: boolean
  hasWalkSnoop: boolean
}

export const newPasidEntry = (): PasidEntry => ({
  fault: 0,
  isSilent: false,
  address: 0,
  directoryAddress: 0,
  hi: 0,
  lo: 0,
  type: 0,
  domain: 0,
  levels: 0,
  root: 0,
  firstLevels: 0,
  firstRoot: 0,
  hasSupervisor: false,
  hasExecute: false,
  hasWriteProtect: false,
  hasNoExecute: false,
  hasSmep: false,
  hasExtendedAccessed: false,
  hasSecondAccessedDirty: false,
  hasSecondExecute: false,
  hasWalkSnoop: false,
})

/** A table that a walk may begin at, instead of the first one. */
export interface TablePlace {
  /** Level of the table: 1 holds entries of 4 KiB pages. */
  level: number
  /** Its 4 KiB page. */
  page: number
  /** What the levels above it allow. */
  perm: number
}

/**
 * What a unit remembers of the structures in memory. An engine asks before it reads, and tells after. What is copied is
 * plain fields; nothing here allocates.
 */
export interface StructureCaches {
  /** Copies the entry of a source-id into `into`; false where it is not known. */
  loadContext(source: number, into: ContextEntry): boolean
  /** Told of what was read, good or bad; `address` is 0 where there was no entry to be read. */
  keepContext(source: number, entry: ContextEntry): void
  loadPasid(source: number, context: ContextEntry, pasid: number, into: PasidEntry): boolean
  keepPasid(source: number, context: ContextEntry, pasid: number, entry: PasidEntry): void
  /** The lowest table known for a page of the input; false where none is. `first` is the page of the first table. */
  loadTable(
    stage: number,
    domain: number,
    pasid: number,
    first: number,
    inputPage: number,
    into: TablePlace,
  ): boolean
  keepTable(
    stage: number,
    domain: number,
    pasid: number,
    first: number,
    inputPage: number,
    place: TablePlace,
  ): void
}

/** Remembers nothing: every request reads all tables. */
export const NO_CACHES: StructureCaches = Object.freeze({
  loadContext: () => false,
  keepContext: () => {},
  loadPasid: () => false,
  keepPasid: () => {},
  loadTable: () => false,
  keepTable: () => {},
})

/**
 * What software has a unit forget, of whichever descriptor or register. Fields that a kind does not have are 0, or
 * `NO_PASID`. `address` is as given: hardware aligns it down to 2^order pages.
 */
export interface VtdInvalidation {
  readonly what:
    | 'context'
    | 'iotlb'
    | 'device-tlb'
    | 'interrupt-entry'
    | 'pasid-iotlb'
    | 'pasid-cache'
    | 'pasid-device-tlb'
  /** `pasid` is all of one PASID; `fine` pages of a domain or a PASID, one device, one PASID entry, one IRTE range. */
  readonly scope: 'all' | 'domain' | 'pasid' | 'fine'
  readonly domain: number
  readonly source: number
  readonly functionMask: number
  readonly pasid: number
  readonly address: bigint
  /** log2 of the 4 KiB pages (AM); of device-TLB invalidations 52 for the whole space. Index mask of IRTEs. */
  readonly order: number
  /** IH: entries that lead to tables have not changed. */
  readonly isLeafOnly: boolean
  /** GL of revision 2.x, and granularities that include global entries. */
  readonly isGlobalToo: boolean
}

/** Where a unit sends its message-signalled interrupts. */
export interface MsiPort {
  send(address: bigint, data: number): void
}

/** How an invalidation request to a device ended: `late` completes with `elapse`, `lost` never does (ITE). */
export type DeviceTlbEnd = 'done' | 'late' | 'lost' | 'no-device'

/** Devices with a TLB of their own, as a unit meets them. */
export interface DeviceTlbPort {
  /** An invalidation request of a device-TLB. */
  invalidate(what: VtdInvalidation): DeviceTlbEnd
  /** A page group response. `code`: 0 success, 1 invalid request, 0xf failure. */
  respond(response: PageResponse): void
}

export interface PageResponse {
  readonly source: number
  readonly pasid: number
  readonly group: number
  readonly code: number
  readonly privateData: bigint
}

/** A page request message of a device. */
export interface PageRequest {
  readonly source: number
  readonly pasid: number
  /** Page address. */
  readonly address: bigint
  readonly isRead: boolean
  readonly isWrite: boolean
  readonly isExecute: boolean
  readonly isPrivileged: boolean
  readonly group: number
  /** LPIG: the last one of its group. */
  readonly isLast: boolean
  readonly privateData: bigint | undefined
}
