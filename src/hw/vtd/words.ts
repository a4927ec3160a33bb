import { bit, bits, type Word, word } from '../../bits/word.ts'
import { VTD_TABLE_WORDS } from './tables/format.ts'

const VTD = 'Intel Virtualization Technology for Directed I/O, rev. 4.1'
const DESCRIPTORS = `${VTD}, Queued Invalidation Interface`
const TYPE_DOC = (type: number) => `Type of the descriptor: ${type}.`

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
  ...VTD_TABLE_WORDS,
  CC_INV_DSC,
  IOTLB_INV_DSC_LO,
  IOTLB_INV_DSC_HI,
  DEV_TLB_INV_DSC_LO,
  DEV_TLB_INV_DSC_HI,
  INV_WAIT_DSC_LO,
  INV_WAIT_DSC_HI,
]
