import type { TceWindow } from '../table/tce-window.ts'

/**
 * A change behind a window, as the listeners of its IOMMU region hear it: entries [first, first + count), each
 * one event of the real interface. The first entry holds the TCE in the two lanes, each next one 2^step more
 * (all the same for step -1). The object is used again for the next change: take what you need, do not keep it.
 */
export interface IommuChange {
  readonly window: TceWindow
  readonly first: number
  readonly count: number
  readonly tceHi: number
  readonly tceLo: number
  readonly step: number
  /** True for MAP, false for UNMAP. */
  readonly isMap: boolean
}

/**
 * Who wants to know of changes behind the windows of a bus: vhost and VFIO.
 *
 * `wants` is the set of notifier flags that it registers: `device-iotlb` is the one that vhost asks for first,
 * and that sPAPR refuses (QEMU 7.2 hw/ppc/spapr_iommu.c, include/exec/memory.h).
 */
export interface IommuListener {
  readonly name: string
  readonly wants: 'map' | 'unmap' | 'both' | 'device-iotlb'
  notify(change: IommuChange): void
}
