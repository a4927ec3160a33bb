import { bit, bits, type Field, type Word, word } from '../../bits/word.ts'

const MANUAL = 'Intel Virtualization Technology for Directed I/O, rev. 4.1'
const SOURCE = `${MANUAL}, Register Descriptions`
const OLD = 'Intel Virtualization Technology for Directed I/O, rev. 2.x, Register Descriptions'

const register = <F extends string>(
  name: string,
  widthBits: 32 | 64,
  fields: Readonly<Record<F, Field>>,
  source = SOURCE,
): Word<F> => word(`VTD_${name}`, widthBits, source, fields)

/** Control register of an event: the three kinds of events have one each. */
const control = (name: string, what: string) =>
  register(name, 32, {
    IM: bit(31, 'rw', `Interrupt mask: ${what} are not sent. Set after reset.`),
    IP: bit(30, 'ro', 'Interrupt pending: one was not sent, because IM is set.'),
    RSVD: bits(29, 0, 'rsvd', 'Reserved.'),
  })
const data = (name: string) =>
  register(name, 32, {
    EIMD: bits(31, 16, 'rsvd', 'Reserved: data has 16 bits.'),
    IMD: bits(15, 0, 'rw', 'Data of the interrupt message.'),
  })
const address = (name: string) =>
  register(name, 32, {
    MA: bits(31, 2, 'rw', 'Address of the interrupt message, in units of 4 bytes.'),
    RSVD: bits(1, 0, 'rsvd', 'Reserved.'),
  })
const upperAddress = (name: string) =>
  register(name, 32, {
    MUA: bits(31, 0, 'rw', 'Upper half of the address of the interrupt message; reserved without ECAP.EIM.'),
  })

export const VER = register('VER', 32, {
  RSVD: bits(31, 8, 'rsvd', 'Reserved.'),
  MAX: bits(7, 4, 'ro', 'Major version.'),
  MIN: bits(3, 0, 'ro', 'Minor version.'),
})

export const CAP = register('CAP', 64, {
  ESRTPS: bit(63, 'ro', 'Setting a root table drops all caches of DMA remapping.'),
  ESIRTPS: bit(62, 'ro', 'Setting an interrupt remapping table drops the interrupt entry cache.'),
  ECMDS: bit(61, 'ro', 'Enhanced commands.'),
  FL5LP: bit(60, 'ro', 'First-level tables of 5 levels.'),
  PI: bit(59, 'ro', 'Posted interrupts.'),
  FL1GP: bit(56, 'ro', 'First-level pages of 1 GiB.'),
  DRD: bit(55, 'ro', 'An IOTLB invalidation can drain reads.'),
  DWD: bit(54, 'ro', 'An IOTLB invalidation can drain writes.'),
  MAMV: bits(53, 48, 'ro', 'Greatest address mask of a page-selective invalidation: log2 of pages.'),
  NFR: bits(47, 40, 'ro', 'Fault recording registers, less 1.'),
  PSI: bit(39, 'ro', 'Page-selective invalidation of second-level translations.'),
  SLLPS: bits(37, 34, 'ro', 'Second-level large pages: bit 0 2 MiB, bit 1 1 GiB.'),
  FRO: bits(33, 24, 'ro', 'Offset of the fault recording registers, in units of 16 bytes.'),
  ISOCH: bit(23, 'ro', 'Isochronous devices; revisions 1.x only.'),
  ZLR: bit(22, 'ro', 'Reads of no bytes are allowed on pages that may only be written.'),
  MGAW: bits(21, 16, 'ro', 'Bits of the addresses of devices, less 1.'),
  SAGAW: bits(
    12,
    8,
    'ro',
    'Second-level tables: bit 0 2 levels (obsolete), bit 1 3 levels, 39 bits, bit 2 4 levels, 48 bits, bit 3 5 levels, 57 bits.',
  ),
  CM: bit(7, 'ro', 'Caching mode: entries that are not present may be cached.'),
  PHMR: bit(6, 'ro', 'Protected high-memory region.'),
  PLMR: bit(5, 'ro', 'Protected low-memory region.'),
  RWBF: bit(4, 'ro', 'Software must flush the write buffer after it has changed an entry.'),
  AFL: bit(3, 'ro', 'Advanced fault logging.'),
  ND: bits(2, 0, 'ro', 'Domains: 2^(4 + 2 * ND).'),
})

export const ECAP = register('ECAP', 64, {
  RPRIVS: bit(53, 'ro', 'RID_PRIV of a context entry.'),
  ADMS: bit(52, 'ro', 'Abort-DMA mode of the root table.'),
  PMS: bit(51, 'ro', 'Performance monitoring.'),
  RPS: bit(49, 'ro', 'RID_PASID of a context entry; without it requests without PASID use PASID 0.'),
  SMPWCS: bit(48, 'ro', 'Scalable-mode walks are coherent if software asks for it (PWSNP).'),
  FLTS: bit(47, 'ro', 'First-level translation in scalable mode.'),
  SLTS: bit(46, 'ro', 'Second-level translation in scalable mode.'),
  SLADS: bit(45, 'ro', 'Accessed and dirty bits in second-level entries.'),
  VCS: bit(44, 'ro', 'Virtual commands.'),
  SMTS: bit(43, 'ro', 'Scalable mode.'),
  PDS: bit(42, 'ro', 'A wait descriptor can drain page requests.'),
  DIT: bit(41, 'ro', 'Invalidations of device-TLBs are throttled.'),
  PASID: bit(40, 'ro', 'Requests with PASID.'),
  PSS: bits(39, 35, 'ro', 'Bits of a PASID, less 1.'),
  EAFS: bit(34, 'ro', 'Extended accessed bit of first-level entries.'),
  NWFS: bit(33, 'ro', 'No-write flag of translation requests.'),
  SRS: bit(31, 'ro', 'Supervisor requests.'),
  ERS: bit(30, 'ro', 'Execute requests.'),
  PRS: bit(29, 'ro', 'Page requests.'),
  DIS: bit(27, 'ro', 'Deferred invalidation; revisions 2.x only.'),
  NEST: bit(26, 'ro', 'Nested translation.'),
  MTS: bit(25, 'ro', 'Memory types.'),
  ECS: bit(24, 'ro', 'Extended root and context entries; revisions 2.x only.'),
  MHMV: bits(23, 20, 'ro', 'Greatest handle mask of an interrupt entry cache invalidation.'),
  IRO: bits(17, 8, 'ro', 'Offset of the IOTLB registers, in units of 16 bytes.'),
  SC: bit(7, 'ro', 'Snoop control.'),
  PT: bit(6, 'ro', 'Pass-through.'),
  EIM: bit(4, 'ro', 'Extended interrupt mode.'),
  IR: bit(3, 'ro', 'Interrupt remapping.'),
  DT: bit(2, 'ro', 'Devices may have a TLB of their own.'),
  QI: bit(1, 'ro', 'Queued invalidation.'),
  C: bit(0, 'ro', 'Reads of root, context, and page tables snoop the caches of the processor.'),
})

export const GCMD = register('GCMD', 32, {
  TE: bit(31, 'wo', 'Translation enable.'),
  SRTP: bit(30, 'wo', 'Set root table pointer: RTADDR takes effect. One-shot.'),
  SFL: bit(29, 'wo', 'Set fault log. One-shot.'),
  EAFL: bit(28, 'wo', 'Enable advanced fault logging.'),
  WBF: bit(27, 'wo', 'Write buffer flush. One-shot.'),
  QIE: bit(26, 'wo', 'Queued invalidation enable.'),
  IRE: bit(25, 'wo', 'Interrupt remapping enable.'),
  SIRTP: bit(24, 'wo', 'Set interrupt remapping table pointer: IRTA takes effect. One-shot.'),
  CFI: bit(23, 'wo', 'Compatibility format interrupts pass.'),
  RSVD: bits(22, 0, 'rsvd', 'Reserved.'),
})

export const GSTS = register('GSTS', 32, {
  TES: bit(31, 'ro', 'Requests are translated.'),
  RTPS: bit(30, 'ro', 'The root table pointer is set.'),
  FLS: bit(29, 'ro', 'The fault log is set.'),
  AFLS: bit(28, 'ro', 'Advanced fault logging is on.'),
  WBFS: bit(27, 'ro', 'The write buffer is being flushed.'),
  QIES: bit(26, 'ro', 'Queued invalidation is on.'),
  IRES: bit(25, 'ro', 'Interrupts are remapped.'),
  IRTPS: bit(24, 'ro', 'The interrupt remapping table pointer is set.'),
  CFIS: bit(23, 'ro', 'Compatibility format interrupts pass.'),
  RSVD: bits(22, 0, 'rsvd', 'Reserved.'),
})

export const RTADDR = register('RTADDR', 64, {
  RTA: bits(63, 12, 'rw', 'Root table, in units of 4 KiB.'),
  TTM: bits(
    11,
    10,
    'rw',
    'Tables: 0 legacy, 1 scalable, 2 extended (revisions 2.x; reserved since), 3 DMA is aborted.',
  ),
  RSVD: bits(9, 0, 'rsvd', 'Reserved.'),
})

export const CCMD = register('CCMD', 64, {
  ICC: bit(63, 'rw', 'Invalidate: set by software, cleared when it is done.'),
  CIRG: bits(62, 61, 'rw', 'Requested granularity: 1 global, 2 domain, 3 device.'),
  CAIG: bits(60, 59, 'ro', 'Granularity that was carried out; 0 where the request was wrong.'),
  RSVD: bits(58, 34, 'rsvd', 'Reserved.'),
  FM: bits(33, 32, 'wo', 'Function mask: how many low bits of the function are not compared.'),
  SID: bits(31, 16, 'wo', 'Source-id.'),
  DID: bits(15, 0, 'rw', 'Domain-id.'),
})

export const FSTS = register('FSTS', 32, {
  RSVD_16: bits(31, 16, 'rsvd', 'Reserved.'),
  FRI: bits(15, 8, 'ro', 'Fault recording register that set PPF.'),
  RSVD_7: bit(7, 'rsvd', 'Reserved.'),
  ITE: bit(6, 'rw1c', 'A device did not complete an invalidation in time.'),
  ICE: bit(5, 'rw1c', 'A device completed an invalidation that nobody asked for.'),
  IQE: bit(4, 'rw1c', 'The invalidation queue stopped at its head.'),
  APF: bit(3, 'ro', 'Advanced pending fault.'),
  AFO: bit(2, 'ro', 'Advanced fault overflow.'),
  PPF: bit(1, 'ro', 'A fault recording register holds a fault.'),
  PFO: bit(0, 'rw1c', 'A fault was lost, because no register was free.'),
})

/** Of units of revisions 2.x: the overflow of the page request queue is a fault. */
export const FSTS_OLD = register(
  'FSTS_OLD',
  32,
  {
    RSVD_16: bits(31, 16, 'rsvd', 'Reserved.'),
    FRI: bits(15, 8, 'ro', 'Fault recording register that set PPF.'),
    PRO: bit(7, 'rw1c', 'A page request was lost, because the queue was full; until it is cleared all are.'),
    ITE: bit(6, 'rw1c', 'A device did not complete an invalidation in time.'),
    ICE: bit(5, 'rw1c', 'A device completed an invalidation that nobody asked for.'),
    IQE: bit(4, 'rw1c', 'The invalidation queue stopped at its head.'),
    APF: bit(3, 'ro', 'Advanced pending fault.'),
    AFO: bit(2, 'ro', 'Advanced fault overflow.'),
    PPF: bit(1, 'ro', 'A fault recording register holds a fault.'),
    PFO: bit(0, 'rw1c', 'A fault was lost, because no register was free.'),
  },
  OLD,
)

export const AFLOG = register('AFLOG', 64, {
  FLA: bits(63, 12, 'rw', 'Fault log, in units of 4 KiB.'),
  FLS: bits(11, 9, 'rw', 'Its pages as log2.'),
  RSVD: bits(8, 0, 'rsvd', 'Reserved.'),
})

export const PMEN = register('PMEN', 32, {
  EPM: bit(31, 'rw', 'Enable protected memory regions.'),
  RSVD: bits(30, 1, 'rsvd', 'Reserved.'),
  PRS: bit(0, 'ro', 'Protected memory regions are on.'),
})
/** Base and limit registers of a protected memory region: which bits they keep is up to the unit. */
const region = (name: string, widthBits: 32 | 64) =>
  register(name, widthBits, { ADDR: bits(widthBits - 1, 0, 'rw', 'Address.') })
export const PLMBASE = region('PLMBASE', 32)
export const PLMLIMIT = region('PLMLIMIT', 32)
export const PHMBASE = region('PHMBASE', 64)
export const PHMLIMIT = region('PHMLIMIT', 64)

export const IQH = register('IQH', 64, {
  RSVD_19: bits(63, 19, 'rsvd', 'Reserved.'),
  QH: bits(18, 4, 'ro', 'The descriptor that is next, in units of 16 bytes; bit 4 is 0 for 256-bit ones.'),
  RSVD: bits(3, 0, 'rsvd', 'Reserved.'),
})
export const IQT = register('IQT', 64, {
  RSVD_19: bits(63, 19, 'rsvd', 'Reserved.'),
  QT: bits(18, 4, 'rw', 'Behind the last descriptor, in units of 16 bytes; bit 4 is 0 for 256-bit ones.'),
  RSVD: bits(3, 0, 'rsvd', 'Reserved.'),
})
export const IQA = register('IQA', 64, {
  IQA: bits(63, 12, 'rw', 'The invalidation queue, in units of 4 KiB.'),
  DW: bit(11, 'rw', 'Descriptors have 256 bits.'),
  RSVD: bits(10, 3, 'rsvd', 'Reserved.'),
  QS: bits(2, 0, 'rw', 'Its pages of 4 KiB as log2.'),
})
export const ICS = register('ICS', 32, {
  RSVD: bits(31, 1, 'rsvd', 'Reserved.'),
  IWC: bit(0, 'rw1c', 'A wait descriptor with IF was carried out.'),
})
export const IQERCD = register('IQERCD', 64, {
  ICESID: bits(63, 48, 'ro', 'Source-id of the device that set FSTS.ICE.'),
  ITESID: bits(47, 32, 'ro', 'Source-id of the device that set FSTS.ITE.'),
  RSVD: bits(31, 4, 'rsvd', 'Reserved.'),
  IQEI: bits(
    3,
    0,
    'ro',
    'Why the queue stopped: 1 tail, 2 descriptor not readable, 3 type, 4 reserved field, 5 width, 6 tail not aligned, 7 table mode.',
  ),
})

export const IRTA = register('IRTA', 64, {
  IRTA: bits(63, 12, 'rw', 'Interrupt remapping table, in units of 4 KiB.'),
  EIME: bit(11, 'rw', 'Destinations have 32 bits.'),
  RSVD: bits(10, 4, 'rsvd', 'Reserved.'),
  S: bits(3, 0, 'rw', 'Entries: 2^(S + 1).'),
})

export const PQH = register('PQH', 64, {
  RSVD_19: bits(63, 19, 'rsvd', 'Reserved.'),
  PQH: bits(18, 5, 'rw', 'The request that software reads next, in units of 32 bytes.'),
  RSVD: bits(4, 0, 'rsvd', 'Reserved.'),
})
export const PQT = register('PQT', 64, {
  RSVD_19: bits(63, 19, 'rsvd', 'Reserved.'),
  PQT: bits(18, 5, 'rw', 'Where the unit puts the next request, in units of 32 bytes.'),
  RSVD: bits(4, 0, 'rsvd', 'Reserved.'),
})
/** The two of units whose page requests have 16 bytes. */
export const PQH_128 = register(
  'PQH_128',
  64,
  {
    RSVD_19: bits(63, 19, 'rsvd', 'Reserved.'),
    PQH: bits(18, 4, 'rw', 'The request that software reads next, in units of 16 bytes.'),
    RSVD: bits(3, 0, 'rsvd', 'Reserved.'),
  },
  OLD,
)
export const PQT_128 = register(
  'PQT_128',
  64,
  {
    RSVD_19: bits(63, 19, 'rsvd', 'Reserved.'),
    PQT: bits(18, 4, 'rw', 'Where the unit puts the next request, in units of 16 bytes.'),
    RSVD: bits(3, 0, 'rsvd', 'Reserved.'),
  },
  OLD,
)
export const PQA = register('PQA', 64, {
  PQA: bits(63, 12, 'rw', 'The page request queue, in units of 4 KiB.'),
  RSVD: bits(11, 3, 'rsvd', 'Reserved.'),
  PQS: bits(2, 0, 'rw', 'Its pages of 4 KiB as log2.'),
})
export const PRS = register('PRS', 32, {
  RSVD: bits(31, 2, 'rsvd', 'Reserved.'),
  PRO: bit(1, 'rw1c', 'A page request was lost, because the queue was full; until it is cleared all are.'),
  PPR: bit(0, 'rw1c', 'A page request came.'),
})

export const PRS_OLD = register(
  'PRS_OLD',
  32,
  {
    RSVD: bits(31, 1, 'rsvd', 'Reserved.'),
    PPR: bit(0, 'rw1c', 'A page request came.'),
  },
  OLD,
)

export const FECTL = control('FECTL', 'fault events')
export const FEDATA = data('FEDATA')
export const FEADDR = address('FEADDR')
export const FEUADDR = upperAddress('FEUADDR')
export const IECTL = control('IECTL', 'invalidation completion events')
export const IEDATA = data('IEDATA')
export const IEADDR = address('IEADDR')
export const IEUADDR = upperAddress('IEUADDR')
export const PECTL = control('PECTL', 'page request events')
export const PEDATA = data('PEDATA')
export const PEADDR = address('PEADDR')
export const PEUADDR = upperAddress('PEUADDR')

export const VCMD = register('VCMD', 64, {
  OPERAND: bits(63, 8, 'rw', 'Of command 2: the PASID, from bit 16 on.'),
  CMD: bits(7, 0, 'rw', 'Command: 1 allocates a PASID, 2 frees one.'),
})
export const VCRSP = register('VCRSP', 64, {
  RSLT: bits(63, 8, 'ro', 'Of command 1: the PASID, from bit 16 on.'),
  SC: bits(7, 1, 'ro', 'How it ended: 0 well, 16 no PASID is free, or it is none that was allocated.'),
  IP: bit(0, 'ro', 'A command is being carried out.'),
})
export const VCCAP = register('VCCAP', 64, {
  RSVD: bits(63, 1, 'rsvd', 'Reserved.'),
  PAS: bit(0, 'ro', 'Commands that allocate and free PASIDs.'),
})

export const IVA = register('IVA', 64, {
  ADDR: bits(63, 12, 'wo', 'First page of a page-selective invalidation.'),
  RSVD: bits(11, 7, 'rsvd', 'Reserved.'),
  IH: bit(6, 'wo', 'Invalidation hint: only entries that map pages have changed.'),
  AM: bits(5, 0, 'wo', 'Address mask: 2^AM pages.'),
})
export const IOTLB = register('IOTLB', 64, {
  IVT: bit(63, 'rw', 'Invalidate: set by software, cleared when it is done.'),
  RSVD_62: bit(62, 'rsvd', 'Reserved.'),
  IIRG: bits(61, 60, 'rw', 'Requested granularity: 1 global, 2 domain, 3 pages of a domain (IVA).'),
  RSVD_59: bit(59, 'rsvd', 'Reserved.'),
  IAIG: bits(58, 57, 'ro', 'Granularity that was carried out; 0 where the request was wrong.'),
  RSVD_50: bits(56, 50, 'rsvd', 'Reserved.'),
  DR: bit(49, 'rw', 'Drain reads.'),
  DW: bit(48, 'rw', 'Drain writes.'),
  DID: bits(47, 32, 'rw', 'Domain-id.'),
  RSVD: bits(31, 0, 'rsvd', 'Reserved.'),
})

export const FRCD_LO = register('FRCD_LO', 64, {
  FI: bits(63, 12, 'ro', 'Page of the address; for an interrupt its index, from bit 48 on.'),
  RSVD: bits(11, 0, 'rsvd', 'Reserved.'),
})
export const FRCD_HI = register('FRCD_HI', 64, {
  F: bit(63, 'rw1c', 'The register holds a fault.'),
  T1: bit(62, 'ro', 'With T2: 0 0 write, 0 1 page request, 1 0 read, 1 1 atomic.'),
  AT: bits(61, 60, 'ro', 'The request was: 0 untranslated, 1 for a translation, 2 translated.'),
  PV: bits(59, 40, 'ro', 'PASID, where PP is set.'),
  FR: bits(39, 32, 'ro', 'Fault reason.'),
  PP: bit(31, 'ro', 'The request had a PASID.'),
  EXE: bit(30, 'ro', 'It asked to execute.'),
  PRIV: bit(29, 'ro', 'It was privileged.'),
  T2: bit(28, 'ro', 'See T1.'),
  RSVD: bits(27, 16, 'rsvd', 'Reserved.'),
  SID: bits(15, 0, 'ro', 'Source-id.'),
})

/** Where a register lies: at a fixed offset, or behind an offset that CAP.FRO or ECAP.IRO names. */
export interface VtdRegister {
  readonly offset: number
  readonly from?: 'FRO' | 'IRO'
  readonly word: Word
  readonly reset?: bigint
}

/** IM after reset. */
const MASKED = 0x8000_0000n

/** The registers by the names of the manual. FRCD is there once for each of CAP.NFR + 1, 16 bytes apart. */
export const VTD_REGISTERS = Object.freeze({
  VER: { offset: 0x00, word: VER },
  CAP: { offset: 0x08, word: CAP },
  ECAP: { offset: 0x10, word: ECAP },
  GCMD: { offset: 0x18, word: GCMD },
  GSTS: { offset: 0x1c, word: GSTS },
  RTADDR: { offset: 0x20, word: RTADDR },
  CCMD: { offset: 0x28, word: CCMD },
  FSTS: { offset: 0x34, word: FSTS },
  FECTL: { offset: 0x38, word: FECTL, reset: MASKED },
  FEDATA: { offset: 0x3c, word: FEDATA },
  FEADDR: { offset: 0x40, word: FEADDR },
  FEUADDR: { offset: 0x44, word: FEUADDR },
  AFLOG: { offset: 0x58, word: AFLOG },
  PMEN: { offset: 0x64, word: PMEN },
  PLMBASE: { offset: 0x68, word: PLMBASE },
  PLMLIMIT: { offset: 0x6c, word: PLMLIMIT },
  PHMBASE: { offset: 0x70, word: PHMBASE },
  PHMLIMIT: { offset: 0x78, word: PHMLIMIT },
  IQH: { offset: 0x80, word: IQH },
  IQT: { offset: 0x88, word: IQT },
  IQA: { offset: 0x90, word: IQA },
  ICS: { offset: 0x9c, word: ICS },
  IECTL: { offset: 0xa0, word: IECTL, reset: MASKED },
  IEDATA: { offset: 0xa4, word: IEDATA },
  IEADDR: { offset: 0xa8, word: IEADDR },
  IEUADDR: { offset: 0xac, word: IEUADDR },
  IQERCD: { offset: 0xb0, word: IQERCD },
  IRTA: { offset: 0xb8, word: IRTA },
  PQH: { offset: 0xc0, word: PQH },
  PQT: { offset: 0xc8, word: PQT },
  PQA: { offset: 0xd0, word: PQA },
  PRS: { offset: 0xdc, word: PRS },
  PECTL: { offset: 0xe0, word: PECTL, reset: MASKED },
  PEDATA: { offset: 0xe4, word: PEDATA },
  PEADDR: { offset: 0xe8, word: PEADDR },
  PEUADDR: { offset: 0xec, word: PEUADDR },
  VCMD: { offset: 0xe00, word: VCMD },
  VCRSP: { offset: 0xe10, word: VCRSP },
  VCCAP: { offset: 0xe30, word: VCCAP },
  IVA: { offset: 0x0, from: 'IRO', word: IVA },
  IOTLB: { offset: 0x8, from: 'IRO', word: IOTLB },
  FRCD_LO: { offset: 0x0, from: 'FRO', word: FRCD_LO },
  FRCD_HI: { offset: 0x8, from: 'FRO', word: FRCD_HI },
} satisfies Record<string, VtdRegister>)
export type VtdRegisterName = keyof typeof VTD_REGISTERS

/** All words of the registers, for decoders and the reference. */
export const VTD_REGISTER_WORDS: readonly Word[] = Object.freeze([
  ...Object.values(VTD_REGISTERS).map((r) => r.word),
  FSTS_OLD,
  PRS_OLD,
  PQH_128,
  PQT_128,
])
