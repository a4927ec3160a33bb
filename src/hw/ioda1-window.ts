import { ERRNO_CODES } from '../bits/codes.ts'
import { assert } from '../bits/errors.ts'
import { ceilLog2 } from '../bits/u64.ts'
import { MultiLevelTable } from '../table/multi-level-table.ts'
import { TCE_BYTES } from '../table/tce-entry.ts'
import { type IodaPe, SEGMENT_SHIFT } from './ioda-pe.ts'
import type { IodaPhb } from './ioda-phb.ts'
import { tableTve } from './ioda-tve.ts'

const PAGE_SHIFT = 12
const SEGMENT_ENTRIES = 2 ** (SEGMENT_SHIFT - PAGE_SHIFT)
const SEGMENT_TABLE_BYTES = SEGMENT_ENTRIES * TCE_BYTES

/**
 * The one window of a PE of P7IOC: a flat table of 4 KiB pages for all its segments, whose part for each segment
 * has a TVE of its own. The kernel makes it when the PE appears and it stays: VFIO borrows it as it is.
 * (Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda.c, pnv_pci_ioda1_setup_dma_pe)
 *
 * @returns 0, or -ENOMEM: the PE has no window then
 */
export function openSegments(phb: IodaPhb, pe: IodaPe): number {
  assert(phb.platform.hasSegments && pe.segments > 0, 'the PE has segments')
  const entries = pe.segments * SEGMENT_ENTRIES
  const table = MultiLevelTable.create(phb.tables, {
    geometry: { entries, levelShift: ceilLog2(BigInt(entries)), levels: 1 },
    pageShift: PAGE_SHIFT,
    busOffset: BigInt(pe.tce32Start),
    allocatedBytes: 0,
    hasUserView: false,
    tellsFirstOnly: true,
  })
  if (typeof table === 'number') return table
  table.link(pe)
  table.get()
  pe.setTable(0, table)
  for (let i = 0; i < pe.segments; i++) {
    const tablePage = table.rootPage + (i * SEGMENT_TABLE_BYTES) / 2 ** PAGE_SHIFT
    const part = { levels: 1, tablePage, levelBytes: SEGMENT_TABLE_BYTES, pageShift: PAGE_SHIFT }
    const tve = tableTve(part, phb.platform.pageShifts)
    assert(tve !== undefined, 'a segment of 4 KiB pages has a TVE')
    pe.setTve(i, tve, table.number)
  }
  return ERRNO_CODES.OK
}
