import { ERRNO_CODES } from '../bits/codes.ts'
import { assert } from '../bits/errors.ts'
import { ceilLog2 } from '../bits/u64.ts'
import { MultiLevelTable } from '../table/multi-level-table.ts'
import { TCE_BYTES, TCE_BYTES_SHIFT } from '../table/tce-entry.ts'
import { type IodaPe, SEGMENT_SHIFT } from './ioda-pe.ts'
import type { IodaPhb } from './ioda-phb.ts'
import { tableTve } from './ioda-tve.ts'

const PAGE_4K_SHIFT = 12

/**
 * The one window of a PE of P7IOC: a flat table for all its segments, whose part for each segment has a TVE of its
 * own. Its IOMMU page is the smallest of the PHB: 4 KiB, as Linux has it, unless the PHB was described otherwise. The kernel makes it when the PE appears and it stays: VFIO borrows it as it is.
 * (Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda.c, pnv_pci_ioda1_setup_dma_pe)
 *
 * @returns 0, or -ENOMEM: the PE has no window then
 */
export function openSegments(phb: IodaPhb, pe: IodaPe): number {
  assert(phb.platform.hasSegments && pe.segments > 0, 'the PE has segments')
  const pageShift = phb.pageShifts[0] as number
  const segmentEntries = 2 ** (SEGMENT_SHIFT - pageShift)
  const levelBytes = segmentEntries * TCE_BYTES
  const entries = pe.segments * segmentEntries
  // The least that the allocator gives out is a page.
  const levelShift = Math.max(ceilLog2(BigInt(entries)), phb.host.pageShift - TCE_BYTES_SHIFT)
  const table = MultiLevelTable.create(phb.tables, {
    geometry: { entries, levelShift, levels: 1 },
    pageShift,
    busOffset: BigInt(pe.tce32Start),
    allocatedBytes: 0,
    hasUserView: false,
    tellsFirstOnly: true,
  })
  if (typeof table === 'number') return table
  table.link(pe)
  table.get(pe.name)
  pe.setTable(0, table)
  for (let i = 0; i < pe.segments; i++) {
    const tablePage = table.rootPage + (i * levelBytes) / 2 ** PAGE_4K_SHIFT
    const tve = tableTve({ levels: 1, tablePage, levelBytes, pageShift }, phb.pageShifts)
    assert(tve !== undefined, 'a segment has a TVE')
    pe.setTve(i, tve, table.number)
  }
  return ERRNO_CODES.OK
}
