/**
 * What the folders of this floor know of each other: interfaces, wired in `machine`. A path that is not wired
 * does not exist, and can be seen to be missing there.
 */

/**
 * The way from a guest to whoever handles its hypercalls. Arguments are 64-bit registers in two int32 lanes,
 * high first; the result is the H code (`H_CODES`). H_GET_TCE leaves its value in `r4Hi` and `r4Lo`.
 * Nothing here allocates.
 */
export interface HcallPort {
  r4Hi: number
  r4Lo: number
  putTce(
    liobnHi: number,
    liobnLo: number,
    iobaHi: number,
    iobaLo: number,
    tceHi: number,
    tceLo: number,
  ): number
  putTceIndirect(
    liobnHi: number,
    liobnLo: number,
    iobaHi: number,
    iobaLo: number,
    listHi: number,
    listLo: number,
    npagesHi: number,
    npagesLo: number,
  ): number
  stuffTce(
    liobnHi: number,
    liobnLo: number,
    iobaHi: number,
    iobaLo: number,
    valueHi: number,
    valueLo: number,
    npagesHi: number,
    npagesLo: number,
  ): number
  getTce(liobnHi: number, liobnLo: number, iobaHi: number, iobaLo: number): number
}

/** The way from a guest to RTAS: 32-bit cells in, `nret` 32-bit cells out, the status first (signed). */
export interface RtasPort {
  call(token: number, args: readonly number[], nret: number): readonly number[]
}

/** Guest memory as the guest kernel itself uses it (TCE lists, coherent buffers). Addresses are below 2^52. */
export interface GuestRam {
  /** Writes a big-endian 64-bit word given in lanes. False where there is no memory. */
  storeU64be(gpa: number, hi: number, lo: number): boolean
}

/**
 * Who wants to know of changes behind an IOMMU region: vhost and VFIO. `first` and `count` are entries of the
 * window, each entry one event of the real interface.
 */
export interface IommuListener {
  readonly name: string
  /** Whether it asked for MAP, UNMAP or both. */
  readonly wants: 'map' | 'unmap' | 'both'
  notify(event: {
    readonly window: number
    readonly first: number
    readonly count: number
    readonly tce: bigint
    readonly pageShift: number
    readonly map: boolean
  }): void
}
