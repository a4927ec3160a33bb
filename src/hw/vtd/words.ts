import { bit, bits, type Word, word } from '../../bits/word.ts'

const VTD = 'Intel Virtualization Technology for Directed I/O, rev. 4.1'
const TABLES = `${VTD}, Translation Structure Formats`
const DESCRIPTORS = `${VTD}, Queued Invalidation Interface`
const TYPE_DOC = (type: number) => `Type of the descriptor: ${type}.`

/** Legacy root entry: one for each bus. Its upper word is reserved. */
export const ROOT_ENTRY = word('VTD_ROOT_ENTRY', 64, `${TABLES}, Root Entry`, {
  CTP: bits(63, 12, 'rw', 'Context-table pointer, in units of 4 KiB.'),
  RSVD: bits(11, 1, 'rsvd', 'Reserved.'),
  P: bit(0, 'rw', 'Present.'),
})

/** Lower word of a legacy context entry: one for each device and function of a bus. */
export const CONTEXT_ENTRY_LO = word('VTD_CONTEXT_ENTRY_LO', 64, `${TABLES}, Context Entry`, {
  SLPTPTR: bits(63, 12, 'rw', 'Second-level page-table pointer, in units of 4 KiB.'),
  RSVD: bits(11, 4, 'rsvd', 'Reserved.'),
  T: bits(
    3,
    2,
    'rw',
    'Translation type: 0 untranslated requests through the second level, 1 requests of a device-TLB too, 2 pass-through, 3 reserved.',
  ),
  FPD: bit(1, 'rw', 'Fault processing disable.'),
  P: bit(0, 'rw', 'Present.'),
})

/** Upper word of a legacy context entry. */
export const CONTEXT_ENTRY_HI = word('VTD_CONTEXT_ENTRY_HI', 64, `${TABLES}, Context Entry`, {
  RSVD: bits(63, 24, 'rsvd', 'Reserved.'),
  DID: bits(23, 8, 'rw', 'Domain identifier.'),
  RSVD_7: bit(7, 'rsvd', 'Reserved.'),
  IGN: bits(6, 3, 'rw', 'Ignored: software may use it.'),
  AW: bits(2, 0, 'rw', 'Address width: 1 for 39 bits and 3 levels, 2 for 48 bits and 4 levels.'),
})

/** Second-level paging entry, of any level. */
export const SL_ENTRY = word('VTD_SL_ENTRY', 64, `${TABLES}, Second-Level Paging Entries`, {
  TM: bit(62, 'rw', 'Transient mapping, in an entry that maps a page; reserved without a device-TLB.'),
  ADDR: bits(51, 12, 'rw', 'The page, or the table of the next level, in units of 4 KiB.'),
  SNP: bit(11, 'rw', 'Snoop, in an entry that maps a page; reserved without snoop control.'),
  PS: bit(7, 'rw', 'Page size: the entry maps 2 MiB (level 2) or 1 GiB (level 3).'),
  W: bit(1, 'rw', 'Write.'),
  R: bit(0, 'rw', 'Read.'),
})

/** Context-cache invalidate descriptor; its upper word is 0. */
export const CC_INV_DSC = word('VTD_CC_INV_DSC', 64, `${DESCRIPTORS}, Context-cache Invalidate Descriptor`, {
  RSVD_50: bits(63, 50, 'rsvd', 'Reserved.'),
  FM: bits(
    49,
    48,
    'rw',
    'Function mask: the upper bits of the function number that are not compared: none, 2, 2 and 1, all.',
  ),
  SID: bits(47, 32, 'rw', 'Source-id: bus, device and function.'),
  DID: bits(31, 16, 'rw', 'Domain-id.'),
  RSVD_6: bits(15, 6, 'rsvd', 'Reserved.'),
  G: bits(5, 4, 'rw', 'Granularity: 1 global, 2 domain, 3 device.'),
  TYPE: bits(3, 0, 'rw', TYPE_DOC(1)),
})

/** Lower word of an IOTLB invalidate descriptor. */
export const IOTLB_INV_DSC_LO = word(
  'VTD_IOTLB_INV_DSC_LO',
  64,
  `${DESCRIPTORS}, IOTLB Invalidate Descriptor`,
  {
    RSVD_32: bits(63, 32, 'rsvd', 'Reserved.'),
    DID: bits(31, 16, 'rw', 'Domain-id.'),
    RSVD_8: bits(15, 8, 'rsvd', 'Reserved.'),
    DR: bit(7, 'rw', 'Drain reads.'),
    DW: bit(6, 'rw', 'Drain writes.'),
    G: bits(5, 4, 'rw', 'Granularity: 1 global, 2 domain, 3 pages of a domain.'),
    TYPE: bits(3, 0, 'rw', TYPE_DOC(2)),
  },
)

/** Upper word of an IOTLB invalidate descriptor. */
export const IOTLB_INV_DSC_HI = word(
  'VTD_IOTLB_INV_DSC_HI',
  64,
  `${DESCRIPTORS}, IOTLB Invalidate Descriptor`,
  {
    ADDR: bits(63, 12, 'rw', 'First page; what lies below 2^AM pages does not take part.'),
    RSVD: bits(11, 7, 'rsvd', 'Reserved.'),
    IH: bit(6, 'rw', 'Invalidation hint: only entries that map pages have changed.'),
    AM: bits(5, 0, 'rw', 'Address mask: 2^AM pages.'),
  },
)

/** Lower word of a device-TLB invalidate descriptor. */
export const DEV_TLB_INV_DSC_LO = word(
  'VTD_DEV_TLB_INV_DSC_LO',
  64,
  `${DESCRIPTORS}, Device-TLB Invalidate Descriptor`,
  {
    PFSID_HI: bits(63, 52, 'rw', 'Source-id of the physical function, bits 15 to 4.'),
    RSVD_48: bits(51, 48, 'rsvd', 'Reserved.'),
    SID: bits(47, 32, 'rw', 'Source-id of the device.'),
    RSVD_21: bits(31, 21, 'rsvd', 'Reserved.'),
    MIP: bits(20, 16, 'rw', 'Most invalidations pending in the device.'),
    PFSID_LO: bits(15, 12, 'rw', 'Source-id of the physical function, bits 3 to 0.'),
    RSVD_4: bits(11, 4, 'rsvd', 'Reserved.'),
    TYPE: bits(3, 0, 'rw', TYPE_DOC(3)),
  },
)

/** Upper word of a device-TLB invalidate descriptor. */
export const DEV_TLB_INV_DSC_HI = word(
  'VTD_DEV_TLB_INV_DSC_HI',
  64,
  `${DESCRIPTORS}, Device-TLB Invalidate Descriptor`,
  {
    ADDR: bits(63, 12, 'rw', 'The page; with S its lowest bits that are 1 say how many pages.'),
    RSVD: bits(11, 1, 'rsvd', 'Reserved.'),
    S: bit(0, 'rw', 'More than one page: 2^(n+1), where bits 12 to 11+n are 1 and bit 12+n is 0.'),
  },
)

/** Lower word of an invalidation wait descriptor. */
export const INV_WAIT_DSC_LO = word(
  'VTD_INV_WAIT_DSC_LO',
  64,
  `${DESCRIPTORS}, Invalidation Wait Descriptor`,
  {
    STATUS_DATA: bits(63, 32, 'rw', 'What SW writes.'),
    RSVD: bits(31, 8, 'rsvd', 'Reserved.'),
    PD: bit(7, 'rw', 'Page-request drain.'),
    FN: bit(6, 'rw', 'Fence: what is behind waits for what is before.'),
    SW: bit(5, 'rw', 'Status write.'),
    IF: bit(4, 'rw', 'Interrupt.'),
    TYPE: bits(3, 0, 'rw', TYPE_DOC(5)),
  },
)

/** Upper word of an invalidation wait descriptor. */
export const INV_WAIT_DSC_HI = word(
  'VTD_INV_WAIT_DSC_HI',
  64,
  `${DESCRIPTORS}, Invalidation Wait Descriptor`,
  {
    STATUS_ADDRESS: bits(63, 2, 'rw', 'Where SW writes, in units of 4 bytes.'),
    RSVD: bits(1, 0, 'rsvd', 'Reserved.'),
  },
)

/** Every word of the unit that is declared. */
export const VTD_WORDS: readonly Word[] = [
  ROOT_ENTRY,
  CONTEXT_ENTRY_LO,
  CONTEXT_ENTRY_HI,
  SL_ENTRY,
  CC_INV_DSC,
  IOTLB_INV_DSC_LO,
  IOTLB_INV_DSC_HI,
  DEV_TLB_INV_DSC_LO,
  DEV_TLB_INV_DSC_HI,
  INV_WAIT_DSC_LO,
  INV_WAIT_DSC_HI,
]
