/** How a platform makes its PHB forget TCEs: by their memory address, by PE and page, or through firmware. */
export type KillWay = 'memory-register' | 'page-register' | 'firmware'

export interface IodaPlatform {
  readonly name: string
  /** log2 of the IOMMU pages that firmware tells the kernel of. */
  readonly pageShifts: readonly number[]
  readonly kill: KillWay
  /** Segments of 256 MiB shared out among the PEs, instead of windows. */
  readonly hasSegments: boolean
  /** Firmware makes a kill of pages one of the whole PE, because the chip can lose it (erratum HW560152). */
  readonly killsWholePe: boolean
}

/** IOMMU pages that a PHB of POWER9 and later takes, and that firmware kills one by one. */
const PHB4_PAGES = [12, 16, 21, 30]

/**
 * The PHBs of bare-metal POWER hosts.
 *
 * Sources: Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda.c; skiboot hw/phb3.c and hw/phb4.c (which also
 * drives the PHB5). The page sizes of PHB4 are those of a running machine.
 */
export const IODA_PLATFORMS = Object.freeze({
  P7IOC: {
    name: 'P7IOC',
    pageShifts: [12],
    kill: 'memory-register',
    hasSegments: true,
    killsWholePe: false,
  },
  PHB3: {
    name: 'PHB3',
    pageShifts: [12, 16, 24, 28],
    kill: 'page-register',
    hasSegments: false,
    killsWholePe: false,
  },
  PHB4: { name: 'PHB4', pageShifts: PHB4_PAGES, kill: 'firmware', hasSegments: false, killsWholePe: true },
  PHB5: { name: 'PHB5', pageShifts: PHB4_PAGES, kill: 'firmware', hasSegments: false, killsWholePe: true },
} satisfies Record<string, IodaPlatform>)

export type IodaPlatformName = keyof typeof IODA_PLATFORMS
