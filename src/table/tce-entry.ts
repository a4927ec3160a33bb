import { bit, bits, word } from '../bits/word.ts'

/** One translation control entry of a PCI window. Bits are numbered from the least significant one. */
export const TCE = word('TCE', 64, 'LoPAR, TCE definition; Linux v6.1 arch/powerpc/include/asm/tce.h', {
  READ: bit(0, 'rw', 'The device may read the page.'),
  WRITE: bit(1, 'rw', 'The device may write the page.'),
  RPN: bits(
    63,
    12,
    'rw',
    'Real page number in units of 4 KiB; bits below the IOMMU page size do not take part in a translation.',
  ),
})

/** log2 of the bytes of an entry. */
export const TCE_BYTES_SHIFT = 3
export const TCE_BYTES = 1 << TCE_BYTES_SHIFT
/** Entries that one H_PUT_TCE_INDIRECT list can hold. */
export const TCE_LIST_MAX = 512
/** Alignment that a TCE list must have. */
export const TCE_LIST_BYTES = 4096

export const TCE_READ = 1
export const TCE_WRITE = 2
/** Both permission bits of the lower lane. */
export const TCE_PERM = TCE_READ | TCE_WRITE
