import { bit, bits, type Field, type Word, word } from '../../../bits/word.ts'

const VTD = 'Intel Virtualization Technology for Directed I/O, rev. 4.1'
/** The last revisions that have extended context entries. */
const VTD2 = 'Intel Virtualization Technology for Directed I/O, rev. 2.5'
const TABLES = `${VTD}, Translation Structure Formats`
const TABLES2 = `${VTD2}, Translation Structure Formats`
/** Linux writes these fields; what else is declared of such a word is from the manual alone. */
const SVM = 'Linux v4.9 drivers/iommu/intel-svm.c'

const rsvd = (hi: number, lo: number): Field => bits(hi, lo, 'rsvd', 'Reserved.')
const ign = (hi: number, lo: number): Field => bits(hi, lo, 'rw', 'Ignored: software may use it.')
const pointer = (doc: string): Field => bits(63, 12, 'rw', `${doc}, in units of 4 KiB.`)
const present = bit(0, 'rw', 'Present.')
const fpd = bit(1, 'rw', 'Fault processing disable. Counts in an entry that is not present too.')
const AW_DOC =
  'Address width: 1 for 39 bits and 3 levels, 2 for 48 bits and 4 levels, 3 for 57 bits and 5 levels.'

/** Legacy root entry: one for each bus. Its upper word is reserved. */
export const ROOT_ENTRY = word('VTD_ROOT_ENTRY', 64, `${TABLES}, Root Entry`, {
  CTP: pointer('Context-table pointer'),
  RSVD: rsvd(11, 1),
  P: present,
})

/** Lower half of a root entry of scalable and of extended mode: devices 0 to 15 of a bus. */
export const ROOT_ENTRY_LOWER = word('VTD_ROOT_ENTRY_LOWER', 64, `${TABLES}, Scalable-Mode Root Entry`, {
  LCTP: pointer('Lower context-table pointer'),
  RSVD: rsvd(11, 1),
  LP: bit(0, 'rw', 'The lower half is present.'),
})

/** Upper half of such a root entry: devices 16 to 31 of a bus. */
export const ROOT_ENTRY_UPPER = word('VTD_ROOT_ENTRY_UPPER', 64, `${TABLES}, Scalable-Mode Root Entry`, {
  UCTP: pointer('Upper context-table pointer'),
  RSVD: rsvd(11, 1),
  UP: bit(0, 'rw', 'The upper half is present.'),
})

/** Lower word of a legacy context entry: one for each device and function of a bus. */
export const CONTEXT_ENTRY_LO = word('VTD_CONTEXT_ENTRY_LO', 64, `${TABLES}, Context Entry`, {
  SLPTPTR: pointer('Second-level page-table pointer'),
  RSVD: rsvd(11, 4),
  T: bits(
    3,
    2,
    'rw',
    'Translation type: 0 untranslated requests through the second level, 1 requests of a device-TLB too, 2 pass-through, 3 reserved.',
  ),
  FPD: fpd,
  P: present,
})

/** Upper word of a legacy context entry. */
export const CONTEXT_ENTRY_HI = word('VTD_CONTEXT_ENTRY_HI', 64, `${TABLES}, Context Entry`, {
  RSVD: rsvd(63, 24),
  DID: bits(23, 8, 'rw', 'Domain identifier.'),
  RSVD_7: rsvd(7, 7),
  IGN: ign(6, 3),
  AW: bits(2, 0, 'rw', AW_DOC),
})

/** First word of an extended context entry. */
export const EXT_CONTEXT_ENTRY_0 = word(
  'VTD_EXT_CONTEXT_ENTRY_0',
  64,
  `${TABLES2}, Extended-Context Entry; ${SVM}`,
  {
    SLPTPTR: pointer('Second-level page-table pointer'),
    PASIDE: bit(11, 'rw', 'Requests with a PASID are translated.'),
    NESTE: bit(10, 'rw', 'Requests with a PASID are translated through the first and then the second level.'),
    PRE: bit(9, 'rw', 'Page requests are taken.'),
    DINVE: bit(8, 'rw', 'Deferred invalidation: the PASID-state table is used.'),
    EMT: bits(7, 5, 'rw', 'Extended memory type.'),
    T: bits(
      4,
      2,
      'rw',
      'Translation type: 0, 1 and 2 as in a legacy entry; 4 pass-through for requests without a PASID, the first level for those with; 5 the same with requests of a device-TLB.',
    ),
    FPD: fpd,
    P: present,
  },
)

/** Second word of an extended context entry. */
export const EXT_CONTEXT_ENTRY_1 = word('VTD_EXT_CONTEXT_ENTRY_1', 64, `${TABLES2}, Extended-Context Entry`, {
  PAT: bits(63, 32, 'rw', 'Page attribute table.'),
  RSVD: rsvd(31, 28),
  SRE: bit(27, 'rw', 'Requests with privilege are allowed.'),
  ERE: bit(26, 'rw', 'Requests to execute are allowed.'),
  EAFE: bit(25, 'rw', 'Extended-accessed flags of first-level entries are set.'),
  SMEP: bit(24, 'rw', 'With privilege no page of the user may be executed.'),
  DID: bits(23, 8, 'rw', 'Domain identifier.'),
  EMTE: bit(7, 'rw', 'Extended memory types are used.'),
  CD: bit(6, 'rw', 'Cache disable.'),
  WPE: bit(5, 'rw', 'With privilege pages that are not writable may not be written.'),
  NXE: bit(4, 'rw', 'First-level entries may forbid to execute.'),
  PGE: bit(3, 'rw', 'First-level entries may be global.'),
  AW: bits(2, 0, 'rw', AW_DOC),
})

/** Third word of an extended context entry. */
export const EXT_CONTEXT_ENTRY_2 = word(
  'VTD_EXT_CONTEXT_ENTRY_2',
  64,
  `${TABLES2}, Extended-Context Entry; ${SVM}`,
  {
    PASIDPTR: pointer('PASID table'),
    RSVD: rsvd(11, 4),
    PTS: bits(3, 0, 'rw', 'Size of the PASID table: 2^(PTS+5) entries.'),
  },
)

/** Fourth word of an extended context entry. */
export const EXT_CONTEXT_ENTRY_3 = word(
  'VTD_EXT_CONTEXT_ENTRY_3',
  64,
  `${TABLES2}, Extended-Context Entry; ${SVM}`,
  {
    PASIDSTPTR: pointer('PASID-state table'),
    RSVD: rsvd(11, 0),
  },
)

/** Entry of a PASID table of extended mode. */
export const EXT_PASID_ENTRY = word('VTD_EXT_PASID_ENTRY', 64, `${TABLES2}, PASID Entry; ${SVM}`, {
  FLPTPTR: pointer('First-level page-table pointer'),
  SRE: bit(11, 'rw', 'Requests with privilege are allowed.'),
  RSVD: rsvd(10, 5),
  PCD: bit(4, 'rw', 'Page-level cache disable.'),
  PWT: bit(3, 'rw', 'Page-level write-through.'),
  RSVD_1: rsvd(2, 1),
  P: present,
})

/** Entry of a PASID-state table of extended mode. */
export const EXT_PASID_STATE = word('VTD_EXT_PASID_STATE', 64, `${TABLES2}, PASID-State Entry; ${SVM}`, {
  DINV: bit(63, 'rw', 'Deferred invalidate: what is cached of the PASID goes when it becomes active.'),
  RSVD: rsvd(62, 48),
  AREFCNT: bits(47, 32, 'rw', 'Active references, counted by the unit.'),
  RSVD_0: rsvd(31, 0),
})

/** First word of a scalable-mode context entry. Its third and fourth are reserved. */
export const SM_CONTEXT_ENTRY_0 = word(
  'VTD_SM_CONTEXT_ENTRY_0',
  64,
  `${TABLES}, Scalable-Mode Context Entry`,
  {
    PASIDDIRPTR: pointer('PASID directory'),
    PDTS: bits(11, 9, 'rw', 'Size of the PASID directory: 2^(PDTS+7) entries of 64 PASIDs each.'),
    RSVD: rsvd(8, 5),
    PRE: bit(4, 'rw', 'Page requests are taken.'),
    PASIDE: bit(3, 'rw', 'Requests with a PASID are taken.'),
    DTE: bit(2, 'rw', 'Translation requests and translated requests are taken.'),
    FPD: fpd,
    P: present,
  },
)

/** Second word of a scalable-mode context entry. */
export const SM_CONTEXT_ENTRY_1 = word(
  'VTD_SM_CONTEXT_ENTRY_1',
  64,
  `${TABLES}, Scalable-Mode Context Entry`,
  {
    RSVD: rsvd(63, 21),
    RID_PRIV: bit(20, 'rw', 'Requests without a PASID are privileged.'),
    RID_PASID: bits(19, 0, 'rw', 'PASID of requests without one.'),
  },
)

/** Entry of a PASID directory: 64 PASIDs. */
export const PASID_DIR_ENTRY = word(
  'VTD_PASID_DIR_ENTRY',
  64,
  `${TABLES}, Scalable-Mode PASID Directory Entry`,
  {
    SMPTBLPTR: pointer('PASID table'),
    RSVD: rsvd(11, 2),
    FPD: fpd,
    P: present,
  },
)

/** First word of a PASID table entry. Words four to eight are reserved. */
export const PASID_ENTRY_0 = word('VTD_PASID_ENTRY_0', 64, `${TABLES}, Scalable-Mode PASID Table Entry`, {
  SLPTPTR: pointer('Second-level page-table pointer'),
  RSVD: rsvd(11, 10),
  SLADE: bit(9, 'rw', 'Second-level accessed and dirty flags are set.'),
  PGTT: bits(8, 6, 'rw', 'Translation: 1 first-level, 2 second-level, 3 nested, 4 pass-through.'),
  SLEE: bit(5, 'rw', 'Second-level entries may forbid to execute.'),
  AW: bits(4, 2, 'rw', AW_DOC),
  FPD: fpd,
  P: present,
})

/** Second word of a PASID table entry. */
export const PASID_ENTRY_1 = word('VTD_PASID_ENTRY_1', 64, `${TABLES}, Scalable-Mode PASID Table Entry`, {
  PAT: bits(63, 32, 'rw', 'Page attribute table.'),
  PCD: bit(31, 'rw', 'Page-level cache disable.'),
  PWT: bit(30, 'rw', 'Page-level write-through.'),
  EMT: bits(29, 27, 'rw', 'Extended memory type.'),
  EMTE: bit(26, 'rw', 'Extended memory types are used.'),
  CD: bit(25, 'rw', 'Cache disable.'),
  PGSNP: bit(24, 'rw', 'Accesses to pages snoop.'),
  PWSNP: bit(23, 'rw', 'Walks of page tables snoop.'),
  RSVD: rsvd(22, 16),
  DID: bits(15, 0, 'rw', 'Domain identifier.'),
})

/** Third word of a PASID table entry. */
export const PASID_ENTRY_2 = word('VTD_PASID_ENTRY_2', 64, `${TABLES}, Scalable-Mode PASID Table Entry`, {
  FLPTPTR: pointer('First-level page-table pointer'),
  RSVD: rsvd(11, 8),
  EAFE: bit(7, 'rw', 'Extended-accessed flags of first-level entries are set.'),
  SMEP: bit(6, 'rw', 'With privilege no page of the user may be executed.'),
  NXE: bit(5, 'rw', 'First-level entries may forbid to execute.'),
  WPE: bit(4, 'rw', 'With privilege pages that are not writable may not be written.'),
  FLPM: bits(3, 2, 'rw', 'First-level paging mode: 0 four levels, 1 five levels.'),
  ERE: bit(1, 'rw', 'Requests to execute are allowed.'),
  SRE: bit(0, 'rw', 'Requests with privilege are allowed.'),
})

/** Second-level paging entry, of any level. */
export const SL_ENTRY = word('VTD_SL_ENTRY', 64, `${TABLES}, Second-Level Paging Entries`, {
  IGN_63: ign(63, 63),
  TM: bit(62, 'rw', 'Transient mapping, in an entry that maps a page; reserved without a device-TLB.'),
  IGN_52: ign(61, 52),
  ADDR: bits(51, 12, 'rw', 'The page, or the table of the next level, in units of 4 KiB.'),
  SNP: bit(11, 'rw', 'Snoop, in an entry that maps a page; reserved without snoop control.'),
  IGN_10: ign(10, 10),
  D: bit(9, 'rw', 'Dirty, in an entry that maps a page (with SLADE).'),
  A: bit(8, 'rw', 'Accessed (with SLADE).'),
  PS: bit(7, 'rw', 'Page size: the entry maps 2 MiB (level 2) or 1 GiB (level 3).'),
  IPAT: bit(6, 'rw', 'Ignore the page attribute table, in an entry that maps a page.'),
  EMT: bits(5, 3, 'rw', 'Extended memory type, in an entry that maps a page.'),
  X: bit(2, 'rw', 'Execute (with SLEE; else ignored).'),
  W: bit(1, 'rw', 'Write.'),
  R: bit(0, 'rw', 'Read.'),
})

/** First-level paging entry, of any level: as the page tables of x86-64 processors. */
export const FL_ENTRY = word('VTD_FL_ENTRY', 64, `${TABLES}, First-Level Paging Entries`, {
  XD: bit(63, 'rw', 'Execute disable (with NXE; else reserved).'),
  IGN_52: ign(62, 52),
  ADDR: bits(
    51,
    12,
    'rw',
    'The page, or the table of the next level, in units of 4 KiB; bit 12 of a large page is PAT.',
  ),
  IGN_11: ign(11, 11),
  EA: bit(10, 'rw', 'Extended-accessed (with EAFE).'),
  IGN_9: ign(9, 9),
  G: bit(8, 'rw', 'Global, in an entry that maps a page.'),
  PS: bit(7, 'rw', 'Page size: the entry maps 2 MiB (level 2) or 1 GiB (level 3). PAT in level 1.'),
  D: bit(6, 'rw', 'Dirty, in an entry that maps a page.'),
  A: bit(5, 'rw', 'Accessed.'),
  PCD: bit(4, 'rw', 'Page-level cache disable.'),
  PWT: bit(3, 'rw', 'Page-level write-through.'),
  US: bit(2, 'rw', 'The user may access it.'),
  RW: bit(1, 'rw', 'Write.'),
  P: present,
})

/** Lower word of an interrupt remapping table entry. */
export const IRT_ENTRY_LO = word('VTD_IRT_ENTRY_LO', 64, `${VTD}, Interrupt Remapping Table Entry`, {
  DST: bits(63, 32, 'rw', 'Destination.'),
  RSVD_24: rsvd(31, 24),
  V: bits(23, 16, 'rw', 'Vector.'),
  IM: bit(15, 'rw', 'Mode: 0 remapped, 1 posted.'),
  RSVD_12: rsvd(14, 12),
  AVAIL: ign(11, 8),
  DLM: bits(7, 5, 'rw', 'Delivery mode.'),
  TM: bit(4, 'rw', 'Trigger mode.'),
  RH: bit(3, 'rw', 'Redirection hint.'),
  DM: bit(2, 'rw', 'Destination mode.'),
  FPD: fpd,
  P: present,
})

/** Upper word of an interrupt remapping table entry. */
export const IRT_ENTRY_HI = word('VTD_IRT_ENTRY_HI', 64, `${VTD}, Interrupt Remapping Table Entry`, {
  RSVD: rsvd(63, 20),
  SVT: bits(19, 18, 'rw', 'What is verified: 0 nothing, 1 the source-id by SQ, 2 a range of buses.'),
  SQ: bits(17, 16, 'rw', 'Bits of the function number that do not count: none, 2, 2 and 1, all.'),
  SID: bits(15, 0, 'rw', 'Source-id, or the first and the last bus.'),
})

/** Every word of a table that a unit reads. */
export const VTD_TABLE_WORDS: readonly Word[] = [
  ROOT_ENTRY,
  ROOT_ENTRY_LOWER,
  ROOT_ENTRY_UPPER,
  CONTEXT_ENTRY_LO,
  CONTEXT_ENTRY_HI,
  EXT_CONTEXT_ENTRY_0,
  EXT_CONTEXT_ENTRY_1,
  EXT_CONTEXT_ENTRY_2,
  EXT_CONTEXT_ENTRY_3,
  EXT_PASID_ENTRY,
  EXT_PASID_STATE,
  SM_CONTEXT_ENTRY_0,
  SM_CONTEXT_ENTRY_1,
  PASID_DIR_ENTRY,
  PASID_ENTRY_0,
  PASID_ENTRY_1,
  PASID_ENTRY_2,
  SL_ENTRY,
  FL_ENTRY,
  IRT_ENTRY_LO,
  IRT_ENTRY_HI,
]
