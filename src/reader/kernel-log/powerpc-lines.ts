import { declareLineFamily, kernelLine } from './line-format.ts'

/** No room for a mapping. */
export const PPC_ALLOC_FAILED = kernelLine(
  'ppc-alloc-failed',
  '{driver:word} {device:word}: iommu_alloc failed, tbl {table:word} vaddr {address:x} npages {pages:d}',
  {
    era: 'Linux 3.2 on',
    doc: 'The window of a device has no run of so many free entries. A table is printed as a hash of its address since 4.15, and so is an address of one page.',
    example:
      '[ 1234.567890] lpfc 0005:01:00.0: iommu_alloc failed, tbl 00000000a3c5c1f5 vaddr c000000133b00000 npages 16',
  },
)

/** The same of older kernels, without the device. */
export const PPC_ALLOC_FAILED_OLD = kernelLine(
  'ppc-alloc-failed-old',
  'iommu_alloc failed, tbl {table:word} vaddr {address:x} npages {pages:x}',
  {
    era: 'Linux 2.6-3.1',
    doc: 'No room for a mapping. The number of pages is hexadecimal where it is one of a scatter list, decimal of a single buffer: the line does not say which.',
    example:
      'Jan 27 14:19:41 linux kernel: iommu_alloc failed, tbl c00000000263c480 vaddr c000000133b00000 npages 10',
  },
)

/** The endpoint of a line. Its number is hexadecimal; kernels of about 4.7 and before print three decimal digits. */
const PE = 'pci {bus:text}: [PE# {pe:x}]'

/** The window of an endpoint. */
export const PPC_WINDOW = kernelLine(
  'ppc-window',
  `${PE} Setting up window#{window:d} {first:x}..{last:x} pg={page:x}`,
  {
    era: 'Linux 4.2 on, PowerNV',
    doc: 'An endpoint gets a window of bus addresses: first and last address, and the size of a page in bytes, hexadecimal.',
    example: '[    0.362688] pci 0001:08     : [PE# fb] Setting up window#0 0..fffffffff pg=10000',
  },
)

/** Devices of the endpoint may go around the tables. */
export const PPC_BYPASS = kernelLine('ppc-bypass', `${PE} Enabling 64-bit DMA bypass`, {
  era: 'Linux 4.0 on, PowerNV',
  doc: 'Addresses with bit 59 set reach memory without a table: devices with 64 bits use them.',
  example: '[    0.362717] pci 0001:08     : [PE# fb] Enabling 64-bit DMA bypass',
})

/** They may no longer. */
export const PPC_NO_BYPASS = kernelLine('ppc-no-bypass', `${PE} Disabling 64-bit DMA bypass`, {
  era: 'Linux 4.0 on, PowerNV',
  doc: 'All DMA of the endpoint goes through its tables: VFIO has taken it, or its devices were removed.',
  example: '[  362.362717] pci 0001:08     : [PE# fb] Disabling 64-bit DMA bypass',
})

/** The 32-bit window, before its table is made. */
export const PPC_TABLE = kernelLine('ppc-table', `${PE} Setting up 32-bit TCE table at {first:x}..{last:x}`, {
  era: 'Linux 3.x-5.x, PowerNV',
  doc: 'Where bus addresses of 32 bits of the endpoint are; the last address is the one behind it.',
  example: '[    0.362670] pci 0001:08     : [PE# fb] Setting up 32-bit TCE table at 0..80000000',
})

/** A window failed. */
export const PPC_WINDOW_FAILED = kernelLine(
  'ppc-window-failed',
  `${PE} Failed to configure TCE table, err {error:sd}`,
  {
    era: 'Linux 3.15 on, PowerNV',
    doc: 'The firmware refuses the window that was to be set up.',
    example: '[    0.362688] pci 0001:08     : [PE# fb] Failed to configure TCE table, err -5',
  },
)

/** The device cannot reach the window. */
export const PPC_OFFSET = kernelLine(
  'ppc-offset',
  'Warning: IOMMU offset too big for device mask{more:text}',
  {
    heads: [''],
    era: 'Linux 2.6 on',
    doc: 'The window begins above all addresses that the device can use: dma_set_mask fails.',
    example: '[    1.200000] Warning: IOMMU offset too big for device mask',
  },
)

/** The same behind the device. */
export const PPC_OFFSET_OF = kernelLine(
  'ppc-offset-of',
  '{driver:word} {device:word}: Warning: IOMMU offset too big for device mask',
  {
    era: 'Linux 2.6.36 on',
    doc: 'The window begins above all addresses that the device can use.',
    example: '[    1.200000] ipr 0001:01:00.0: Warning: IOMMU offset too big for device mask',
  },
)

/** How far direct DMA reaches. */
export const PPC_LIMITED = kernelLine(
  'ppc-limited',
  '{driver:word} {device:word}: iommu: 64-bit OK but direct DMA is limited by {limit:x}',
  {
    era: 'Linux 5.11 on',
    doc: 'A direct window maps memory up to the limit only; what lies beyond is mapped page by page.',
    example:
      '[    2.215898] nvme 0121:50:00.0: iommu: 64-bit OK but direct DMA is limited by 800000200000000',
  },
)

/** The hypervisor refuses an entry. */
export const PPC_PUT_FAILED = kernelLine(
  'ppc-put-failed',
  'pSeriesLP: plpar_tce_{call:word} failed{more:text}',
  {
    heads: ['tce_build_', 'tce_buildmulti_', 'tce_free_', 'tce_freemulti_'],
    era: 'Linux 2.6 on, pseries',
    doc: 'A hypercall that writes entries of a TCE table failed; the window follows, and an entry or how many, a line each. A list of entries goes by H_PUT_TCE_INDIRECT, though the line says plpar_tce_put.',
    example: '[   41.000000] tce_build_pSeriesLP: plpar_tce_put failed. rc=-4',
  },
)

/** A window of a pseries guest is made. */
export const PPC_CREATED = kernelLine(
  'ppc-created',
  '{driver:word} {device:sbdf}: ibm,create-pe-dma-window({token:x}) {config:x} {buidHigh:x} {buidLow:x} {pageShift:x} {windowShift:x} returned {status:sd} (liobn = 0x{liobn:x} starting addr = {high:x} {low:x})',
  {
    era: 'Linux 3.2 on, pseries',
    doc: 'A dynamic window is asked for: page and window size as powers of two, hexadecimal; status, number and first bus address in two halves.',
    example:
      '[    1.663337] virtio-pci 0000:00:00.0: ibm,create-pe-dma-window(2027) 0 8000000 20000000 18 1e returned 0 (liobn = 0x80000001 starting addr = 8000000 0)',
  },
)

/** What windows there could be. */
export const PPC_QUERIED = kernelLine(
  'ppc-queried',
  '{driver:word} {device:sbdf}: ibm,query-pe-dma-windows({token:x}) {config:x} {buidHigh:x} {buidLow:x} returned {answer:text}',
  {
    era: 'Linux 3.2 on, pseries',
    doc: 'How many more windows the host bridge can have, the largest run of entries, and the page sizes as a mask.',
    example:
      '[    1.659569] virtio-pci 0000:00:00.0: ibm,query-pe-dma-windows(2026) 0 8000000 20000000 returned 0, lb=2000000000 ps=107 wn=1',
  },
)

/** Dynamic windows are switched off. */
export const PPC_DISABLED = kernelLine('ppc-no-ddw', 'ppc iommu: disabling ddw.', {
  era: 'Linux 3.2 on, pseries',
  doc: 'disable_ddw stands on the command line: only the default window is used.',
  example: '[    0.000000] ppc iommu: disabling ddw.',
})

/** Lines of DMA windows and tables on POWER. */
export const POWERPC_LINES = declareLineFamily({
  id: 'powerpc-dma',
  title: 'DMA of POWER',
  source:
    'Linux v2.6-v6.1 arch/powerpc/kernel/iommu.c, dma-iommu.c, platforms/powernv/pci-ioda.c, platforms/pseries/iommu.c; real logs',
  isModelled: true,
  mentions: ['iommu_alloc failed', 'plpar_tce_'],
  templates: [
    PPC_ALLOC_FAILED,
    PPC_ALLOC_FAILED_OLD,
    PPC_WINDOW,
    PPC_BYPASS,
    PPC_NO_BYPASS,
    PPC_TABLE,
    PPC_WINDOW_FAILED,
    PPC_OFFSET,
    PPC_OFFSET_OF,
    PPC_LIMITED,
    PPC_PUT_FAILED,
    PPC_CREATED,
    PPC_QUERIED,
    PPC_DISABLED,
  ],
})
