import { describe, expect, it } from 'vitest'
import { formatLine, type LogEvent } from '../../src/reader/log-format.ts'
import { QEMU_TRACE, type QemuEventName } from '../../src/reader/qemu-trace-format.ts'
import { readLog, recording } from '../log-rows.ts'

type Fields = Record<string, bigint | number | string>

/** What the example line of each event says. Lines of the spapr and vhost events stand so in real logs. */
const EXAMPLES: Record<QemuEventName, Fields> = {
  spapr_iommu_put: { liobn: 0x71000002n, ioba: 0x1000n, tce: 0x4444003n, ret: 0n },
  spapr_iommu_get: { liobn: 0x9999n, ioba: 0n, ret: -4n, tce: 0n },
  spapr_iommu_indirect: {
    liobn: 0x71000002n,
    ioba: 0xc000000n,
    tceList: 0x4b30000n,
    lastIndex: 15n,
    lastTce: 0x4b4f003n,
    ret: 0n,
  },
  spapr_iommu_stuff: { liobn: 0x71000002n, iobaEnd: 0x200000n, tce: 0n, npages: 512n, ret: 0n },
  spapr_iommu_pci_put: { liobn: 0x80000000n, ioba: 0x1000n, tce: 0x48cc001n, ret: 0n },
  spapr_iommu_pci_get: { liobn: 0x80000000n, ioba: 0x1000n, ret: 0n, tce: 0x200003n },
  spapr_iommu_pci_indirect: {
    liobn: 0x80000000n,
    ioba: 0x30000000n,
    tceList: 0x21e0000n,
    lastIndex: 15n,
    lastTce: 0x21af003n,
    ret: 0n,
  },
  spapr_iommu_pci_stuff: { liobn: 0x80000000n, iobaEnd: 0x200000n, tce: 0n, npages: 512n, ret: 0n },
  spapr_iommu_xlate: {
    liobn: 0x80000000n,
    windowOffset: 0x30001002n,
    translated: 0x21a1000n,
    perm: 3,
    mask: 0xfff,
  },
  spapr_iommu_new_table: { liobn: 0x80000000n, table: 0x5618057df0a0n, fd: -1 },
  spapr_iommu_pre_save: { liobn: 0x80000000n, entries: 0x40000, busOffset: 0n, pageShift: 12 },
  spapr_iommu_post_load: {
    liobn: 0x80000000n,
    entriesBefore: 0x40000,
    entries: 0x40000,
    busOffset: 0n,
    pageShift: 12,
  },
  spapr_iommu_ddw_query: {
    buid: 0x800000020000000n,
    configAddress: 0,
    windows: 1,
    windowBytesMax: 0x80000000n,
    pageSizes: 0x107,
  },
  spapr_iommu_ddw_create: {
    buid: 0x800000020000000n,
    configAddress: 0,
    pageBytes: 0x1000000n,
    windowBytes: 0x40000000n,
    start: 0x800000000000000n,
    liobn: 0x80000001,
  },
  spapr_iommu_ddw_remove: { liobn: 0x80000000 },
  spapr_iommu_ddw_reset: { buid: 0x800000020000000n, configAddress: 0 },
  spapr_pci_msi: { message: 'Releasing wrong config', configAddress: 0 },
  spapr_pci_msi_setup: { device: 'virtio-blk-pci', vector: 0, address: 0x40000000000n },
  spapr_pci_rtas_ibm_change_msi: { configAddress: 0, function: 4, requested: 2, irq: 4864 },
  spapr_pci_rtas_ibm_query_interrupt_source_number: { interrupt: 0, irq: 4864 },
  spapr_pci_msi_write: { address: 0n, data: 0x1301n, irq: 4865 },
  spapr_pci_lsi_set: { bus: 'pci@800000020000000', pin: 0, irq: 4608 },
  spapr_pci_msi_retry: { configAddress: 0x800, requested: 64, available: 32 },
  vfio_prereg_register: { va: 0x7fff60000000n, bytes: 0x40000000n, ret: 0 },
  vfio_prereg_unregister: { va: 0x7fff60000000n, bytes: 0x40000000n, ret: 0 },
  vfio_prereg_listener_region_add_skip: { start: 0x200080000000n, last: 0x200080000fffn },
  vfio_prereg_listener_region_del_skip: { start: 0x200080000000n, last: 0x200080000fffn },
  vfio_spapr_create_window: { pageShift: 16, levels: 1, windowBytes: 0x40000000n, start: 0x800000000000000n },
  vfio_spapr_remove_window: { start: 0n },
  vfio_spapr_group_attach: { groupFd: 31, tableFd: 27 },
  vfio_iommu_map_notify: { op: 'MAP', start: 0x1000n, last: 0x1fffn },
  vfio_listener_region_add_iommu: { start: 0n, last: 0x3fffffffn },
  vhost_iotlb_miss: { device: 0x5559a91f28a0n, step: 1 },
}

/** Counts of `awk '{ print $1 }' | sort | uniq -c` on each recording. */
const COUNTS: Record<string, Record<string, number>> = {
  'ppc-32bit': {
    spapr_iommu_new_table: 1,
    spapr_iommu_pci_indirect: 51,
    spapr_iommu_pci_put: 318,
    spapr_iommu_pci_stuff: 864,
    spapr_iommu_xlate: 1193,
    spapr_pci_lsi_set: 46,
    spapr_pci_msi: 4,
    spapr_pci_msi_setup: 5,
    spapr_pci_msi_write: 44,
    spapr_pci_rtas_ibm_change_msi: 3,
    spapr_pci_rtas_ibm_query_interrupt_source_number: 5,
  },
  'ppc-ddw-default': {
    spapr_iommu_ddw_create: 1,
    spapr_iommu_ddw_query: 1,
    spapr_iommu_new_table: 2,
    spapr_iommu_pci_indirect: 3,
    spapr_iommu_pci_put: 266,
    spapr_iommu_pci_stuff: 778,
    spapr_iommu_xlate: 541,
    spapr_pci_lsi_set: 48,
    spapr_pci_msi: 4,
    spapr_pci_msi_setup: 5,
    spapr_pci_msi_write: 46,
    spapr_pci_rtas_ibm_change_msi: 3,
    spapr_pci_rtas_ibm_query_interrupt_source_number: 5,
  },
  'ppc-ddw-64k': {
    spapr_iommu_ddw_create: 1,
    spapr_iommu_ddw_query: 1,
    spapr_iommu_new_table: 2,
    spapr_iommu_pci_indirect: 34,
    spapr_iommu_pci_put: 264,
    spapr_iommu_pci_stuff: 776,
    spapr_iommu_xlate: 537,
    spapr_pci_lsi_set: 44,
    spapr_pci_msi: 4,
    spapr_pci_msi_setup: 5,
    spapr_pci_msi_write: 46,
    spapr_pci_rtas_ibm_change_msi: 3,
    spapr_pci_rtas_ibm_query_interrupt_source_number: 5,
  },
  'ppc-ddw-4k': {
    spapr_iommu_ddw_create: 1,
    spapr_iommu_ddw_query: 1,
    spapr_iommu_new_table: 2,
    spapr_iommu_pci_indirect: 512,
    spapr_iommu_pci_stuff: 512,
    spapr_iommu_xlate: 571,
    spapr_pci_lsi_set: 4,
    spapr_pci_msi: 1,
    spapr_pci_msi_setup: 2,
    spapr_pci_msi_write: 14,
    spapr_pci_rtas_ibm_change_msi: 1,
    spapr_pci_rtas_ibm_query_interrupt_source_number: 2,
  },
  'ppc-ftrace': {
    spapr_iommu_new_table: 1,
    spapr_iommu_pci_indirect: 20,
    spapr_iommu_pci_put: 42,
    spapr_iommu_pci_stuff: 573,
    spapr_iommu_xlate: 571,
    spapr_pci_lsi_set: 4,
    spapr_pci_msi: 1,
    spapr_pci_msi_setup: 2,
    spapr_pci_msi_write: 14,
    spapr_pci_rtas_ibm_change_msi: 1,
    spapr_pci_rtas_ibm_query_interrupt_source_number: 2,
  },
  'vh-ppc-32bit': {
    spapr_iommu_new_table: 2,
    spapr_iommu_pci_indirect: 20,
    spapr_iommu_pci_put: 28,
    spapr_iommu_pci_stuff: 559,
    spapr_iommu_xlate: 382,
    vhost_iotlb_miss: 762,
    vhost_user_read: 768,
    vhost_user_write: 781,
  },
  'vh-ppc-ddw': {
    spapr_iommu_ddw_create: 1,
    spapr_iommu_ddw_query: 1,
    spapr_iommu_new_table: 4,
    spapr_iommu_pci_indirect: 1,
    spapr_iommu_pci_stuff: 512,
    spapr_iommu_xlate: 4,
    vhost_iotlb_miss: 6,
    vhost_user_read: 10,
    vhost_user_write: 23,
  },
  'qtest-ppc': {
    spapr_iommu_ddw_create: 9,
    spapr_iommu_ddw_query: 6,
    spapr_iommu_ddw_remove: 1,
    spapr_iommu_ddw_reset: 10,
    spapr_iommu_get: 1,
    spapr_iommu_new_table: 20,
    spapr_iommu_pci_get: 14,
    spapr_iommu_pci_indirect: 5,
    spapr_iommu_pci_put: 5584,
    spapr_iommu_pci_stuff: 4,
    spapr_iommu_put: 2,
    spapr_iommu_xlate: 28,
  },
}

describe('QEMU trace lines', () => {
  it.each(QEMU_TRACE.events.map((event: LogEvent) => [event.name, event] as const))('%s', (name, event) => {
    const fields = EXAMPLES[name as QemuEventName]
    const { rows, summary } = readLog([`${event.example}\n`])
    expect(summary).toMatchObject({ lines: 1, events: 1, damaged: { count: 0 } })
    expect(rows).toEqual([{ name, line: 1, offsetBytes: 0, timeUs: -1, fields }])
    expect(formatLine(event, fields as never)).toBe(event.example)
  })
})

describe('recordings', () => {
  it.each(Object.keys(COUNTS))('%s: every line is an event, and the line that it came from', async (name) => {
    const bytes = await recording(name)
    const { rows, summary } = readLog([bytes])
    const lines = Buffer.from(bytes).toString('latin1').split('\n').slice(0, -1)
    const counted = Object.fromEntries(
      [...summary.declared, ...summary.unknown].map((c) => [c.name, c.count]),
    )
    expect(counted).toEqual(COUNTS[name])
    expect(summary.unknown.map((c) => c.name).filter((n) => !n.startsWith('vhost_user_'))).toEqual([])
    expect(summary).toMatchObject({
      lines: lines.length,
      bytes: bytes.length,
      events: rows.length,
      damaged: { count: 0, first: [] },
      empty: 0,
      truncated: false,
    })
    // What was read, printed again, is what was read.
    for (const row of rows) {
      const event = QEMU_TRACE.events[QEMU_TRACE.number[row.name as QemuEventName]] as LogEvent
      expect(formatLine(event, row.fields as never)).toBe(lines[row.line - 1])
    }
  })

  it('hold every spapr event but these', async () => {
    const seen = new Set(Object.values(COUNTS).flatMap((c) => Object.keys(c)))
    const missing = QEMU_TRACE.events.map((e) => e.name).filter((n) => n.startsWith('spapr_') && !seen.has(n))
    expect(missing).toEqual([
      'spapr_iommu_indirect',
      'spapr_iommu_stuff',
      'spapr_iommu_pre_save',
      'spapr_iommu_post_load',
      'spapr_pci_msi_retry',
    ])
  })
})
