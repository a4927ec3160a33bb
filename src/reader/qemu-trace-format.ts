import { declareLogFormat, logEvent } from './log-format.ts'
import { VTD_EVENTS, VTD_FIELD_DOCS } from './qemu-vtd-format.ts'

const PUT = 'liobn=0x{liobn:x64} ioba=0x{ioba:x64} tce=0x{tce:x64} ret={ret:d64}'
const GET = 'liobn=0x{liobn:x64} ioba=0x{ioba:x64} ret={ret:d64} tce=0x{tce:x64}'
const INDIRECT =
  'liobn=0x{liobn:x64} ioba=0x{ioba:x64} tcelist=0x{tceList:x64} iobaN=0x{lastIndex:x64} tceN=0x{lastTce:x64} ret={ret:d64}'
const STUFF =
  'liobn=0x{liobn:x64} ioba=0x{iobaEnd:x64} tcevalue=0x{tce:x64} npages={npages:d64} ret={ret:d64}'
const MSI_TARGET = 'addr=0x{address:x64}'
const VA_RANGE = 'va=0x{va:x64} size=0x{bytes:x64} ret={ret:d32}'
const RANGE = '0x{start:x64} - 0x{last:x64}'

const VIO = 'The LIOBN has bit 31 clear: a VIO device, or none at all.'
const PCI = 'The LIOBN has bit 31 set: a PCI host bridge.'
const PUT_DOC =
  'H_PUT_TCE was answered; ioba is what the guest passed, rounded down to the IOMMU page (as passed on a window that is not enabled).'
const GET_DOC =
  'H_GET_TCE was answered; ioba is rounded down to the IOMMU page, tce means nothing unless ret is 0.'
const INDIRECT_DOC =
  'H_PUT_TCE_INDIRECT was answered; only the last entry that was read shows, all others must be inferred. A call refused for its count, its list address or its LIOBN prints nothing.'
const STUFF_DOC =
  'H_STUFF_TCE was answered; iobaEnd is the address after the entries that were written, not the one that was passed. A call refused for its count or its LIOBN prints nothing.'

/** hw/ppc/spapr_iommu.c and spapr_rtas_ddw.c. */
const SPAPR_IOMMU = [
  logEvent('spapr_iommu_put', PUT, {
    doc: `${PUT_DOC} ${VIO}`,
    example: 'spapr_iommu_put liobn=0x71000002 ioba=0x1000 tce=0x4444003 ret=0',
  }),
  logEvent('spapr_iommu_get', GET, {
    doc: `${GET_DOC} ${VIO}`,
    example: 'spapr_iommu_get liobn=0x9999 ioba=0x0 ret=-4 tce=0x0',
  }),
  logEvent('spapr_iommu_indirect', INDIRECT, {
    doc: `${INDIRECT_DOC} ${VIO}`,
    example:
      'spapr_iommu_indirect liobn=0x71000002 ioba=0xc000000 tcelist=0x4b30000 iobaN=0xf tceN=0x4b4f003 ret=0',
  }),
  logEvent('spapr_iommu_stuff', STUFF, {
    doc: `${STUFF_DOC} ${VIO}`,
    example: 'spapr_iommu_stuff liobn=0x71000002 ioba=0x200000 tcevalue=0x0 npages=512 ret=0',
  }),
  logEvent('spapr_iommu_pci_put', PUT, {
    doc: `${PUT_DOC} ${PCI}`,
    example: 'spapr_iommu_pci_put liobn=0x80000000 ioba=0x1000 tce=0x48cc001 ret=0',
  }),
  logEvent('spapr_iommu_pci_get', GET, {
    doc: `${GET_DOC} ${PCI}`,
    example: 'spapr_iommu_pci_get liobn=0x80000000 ioba=0x1000 ret=0 tce=0x200003',
  }),
  logEvent('spapr_iommu_pci_indirect', INDIRECT, {
    doc: `${INDIRECT_DOC} ${PCI}`,
    example:
      'spapr_iommu_pci_indirect liobn=0x80000000 ioba=0x30000000 tcelist=0x21e0000 iobaN=0xf tceN=0x21af003 ret=0',
  }),
  logEvent('spapr_iommu_pci_stuff', STUFF, {
    doc: `${STUFF_DOC} ${PCI}`,
    example: 'spapr_iommu_pci_stuff liobn=0x80000000 ioba=0x200000 tcevalue=0x0 npages=512 ret=0',
  }),
  logEvent(
    'spapr_iommu_xlate',
    'liobn=0x{liobn:x64} 0x{windowOffset:x64} -> 0x{translated:x64} perm={perm:u32} mask=0x{mask:x32}',
    {
      doc: 'A DMA was translated. The address counts from the start of the window, not of the bus. A DMA that memory refuses, and one to what is no memory, comes again for every 4 bytes; a DMA outside every window prints nothing.',
      example: 'spapr_iommu_xlate liobn=0x80000000 0x30001002 -> 0x21a1000 perm=3 mask=0xfff',
    },
  ),
  logEvent('spapr_iommu_new_table', 'liobn=0x{liobn:x64} table={table:pointer} fd={fd:d32}', {
    doc: 'A TCE table was allocated, empty, or anew with its contents where a listener came. fd is -1 for a table of QEMU itself, else the table is in KVM and its hypercalls do not show.',
    example: 'spapr_iommu_new_table liobn=0x80000000 table=0x5618057df0a0 fd=-1',
  }),
  logEvent(
    'spapr_iommu_pre_save',
    'liobn={liobn:x64} {entries:x32} bus_offset=0x{busOffset:x64} ps={pageShift:u32}',
    {
      doc: 'A table is about to be saved for migration. liobn and entries are hexadecimal although no 0x says so.',
      example: 'spapr_iommu_pre_save liobn=80000000 40000 bus_offset=0x0 ps=12',
    },
  ),
  logEvent(
    'spapr_iommu_post_load',
    'liobn={liobn:x64} {entriesBefore:x32} => 0x{entries:x32} bus_offset=0x{busOffset:x64} ps={pageShift:u32}',
    {
      doc: 'A table came in by migration. liobn and entriesBefore are hexadecimal although no 0x says so.',
      example: 'spapr_iommu_post_load liobn=80000000 40000 => 0x40000 bus_offset=0x0 ps=12',
    },
  ),
  logEvent(
    'spapr_iommu_ddw_query',
    'buid=0x{buid:x64} addr=0x{configAddress:x32}, {windows:u32} windows available, max window size=0x{windowBytesMax:x64}, mask=0x{pageSizes:x32}',
    {
      doc: 'ibm,query-pe-dma-window was answered. windowBytesMax is always 0x80000000, whatever the guest was told.',
      example:
        'spapr_iommu_ddw_query buid=0x800000020000000 addr=0x0, 1 windows available, max window size=0x80000000, mask=0x107',
    },
  ),
  logEvent(
    'spapr_iommu_ddw_create',
    'buid=0x{buid:x64} addr=0x{configAddress:x32}, page size=0x{pageBytes:x64}, requested=0x{windowBytes:x64}, start addr=0x{start:x64}, liobn=0x{liobn:x32}',
    {
      doc: 'ibm,create-pe-dma-window made a window. A refused call prints nothing.',
      example:
        'spapr_iommu_ddw_create buid=0x800000020000000 addr=0x0, page size=0x1000000, requested=0x40000000, start addr=0x800000000000000, liobn=0x80000001',
    },
  ),
  logEvent('spapr_iommu_ddw_remove', 'liobn=0x{liobn:x32}', {
    doc: 'ibm,remove-pe-dma-window removed a window.',
    example: 'spapr_iommu_ddw_remove liobn=0x80000000',
  }),
  logEvent('spapr_iommu_ddw_reset', 'buid=0x{buid:x64} addr=0x{configAddress:x32}', {
    doc: 'The windows of a host bridge were reset to the default one: by ibm,reset-pe-dma-window, or (address 0) because the last window was removed.',
    example: 'spapr_iommu_ddw_reset buid=0x800000020000000 addr=0x0',
  }),
] as const

/** hw/ppc/spapr_pci.c: interrupts of PCI devices. */
const SPAPR_PCI = [
  logEvent('spapr_pci_msi', '{message:text} (cfg=0x{configAddress:x32})', {
    doc: 'MSIs of a device were released, or could not be.',
    example: 'spapr_pci_msi Releasing wrong config (cfg=0x0)',
  }),
  logEvent('spapr_pci_msi_setup', `dev"{device:text}" vector {vector:u32}, ${MSI_TARGET}`, {
    doc: 'A vector of a device got its address.',
    example: ['spapr_pci_msi_setup dev"virtio-blk-pci" vector 0', 'addr=0x40000000000'].join(', '),
  }),
  logEvent(
    'spapr_pci_rtas_ibm_change_msi',
    'cfgaddr 0x{configAddress:x32} func {function:u32}, requested {requested:u32}, first irq {irq:u32}',
    {
      doc: 'ibm,change-msi gave a device interrupts.',
      example: 'spapr_pci_rtas_ibm_change_msi cfgaddr 0x0 func 4, requested 2, first irq 4864',
    },
  ),
  logEvent('spapr_pci_rtas_ibm_query_interrupt_source_number', 'queries for #{interrupt:u32}, IRQ{irq:u32}', {
    doc: 'ibm,query-interrupt-source-number was answered.',
    example: 'spapr_pci_rtas_ibm_query_interrupt_source_number queries for #0, IRQ4864',
  }),
  logEvent('spapr_pci_msi_write', '@0x{address:x64}<=0x{data:x64} IRQ {irq:u32}', {
    doc: 'A device raised an MSI. The write does not go through a DMA window.',
    example: 'spapr_pci_msi_write @0x0<=0x1301 IRQ 4865',
  }),
  logEvent('spapr_pci_lsi_set', '{bus:text} PIN{pin:d32} IRQ {irq:u32}', {
    doc: 'A level interrupt line of a host bridge was set.',
    example: 'spapr_pci_lsi_set pci@800000020000000 PIN0 IRQ 4608',
  }),
  logEvent(
    'spapr_pci_msi_retry',
    'Guest device at 0x{configAddress:x32} asked {requested:u32}, have only {available:u32}',
    {
      doc: 'ibm,change-msi asked for more interrupts than there are.',
      example: 'spapr_pci_msi_retry Guest device at 0x800 asked 64, have only 32',
    },
  ),
] as const

/** hw/vfio/spapr.c and hw/vfio/common.c: what QEMU asks of the host for passed-through devices. */
const VFIO = [
  logEvent('vfio_prereg_register', VA_RANGE, {
    doc: 'Guest memory was registered with the host (VFIO_IOMMU_SPAPR_REGISTER_MEMORY).',
    example: 'vfio_prereg_register va=0x7fff60000000 size=0x40000000 ret=0',
  }),
  logEvent('vfio_prereg_unregister', VA_RANGE, {
    doc: 'Guest memory was taken back from the host (VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY).',
    example: 'vfio_prereg_unregister va=0x7fff60000000 size=0x40000000 ret=0',
  }),
  logEvent('vfio_prereg_listener_region_add_skip', RANGE, {
    doc: 'A region of guest addresses is no memory of the host and was not registered.',
    example: 'vfio_prereg_listener_region_add_skip 0x200080000000 - 0x200080000fff',
  }),
  logEvent('vfio_prereg_listener_region_del_skip', RANGE, {
    doc: 'A region that was not registered went.',
    example: 'vfio_prereg_listener_region_del_skip 0x200080000000 - 0x200080000fff',
  }),
  logEvent(
    'vfio_spapr_create_window',
    'pageshift=0x{pageShift:x32} levels={levels:u32} winsize=0x{windowBytes:x64} offset=0x{start:x64}',
    {
      doc: 'The host made a DMA window (VFIO_IOMMU_SPAPR_TCE_CREATE). pageShift is hexadecimal.',
      example: 'vfio_spapr_create_window pageshift=0x10 levels=1 winsize=0x40000000 offset=0x800000000000000',
    },
  ),
  logEvent('vfio_spapr_remove_window', 'offset=0x{start:x64}', {
    doc: 'The host removed a DMA window (VFIO_IOMMU_SPAPR_TCE_REMOVE).',
    example: 'vfio_spapr_remove_window offset=0x0',
  }),
  logEvent('vfio_spapr_group_attach', 'Attached groupfd {groupFd:d32} to liobn fd {tableFd:d32}', {
    doc: 'KVM was told that a group uses a table: from now on its hypercalls do not reach QEMU.',
    example: 'vfio_spapr_group_attach Attached groupfd 31 to liobn fd 27',
  }),
  logEvent('vfio_iommu_map_notify', 'iommu {op:text} @ 0x{start:x64} - 0x{last:x64}', {
    doc: 'QEMU maps or unmaps (op MAP, UNMAP) bus addresses for a passed-through device.',
    example: 'vfio_iommu_map_notify iommu MAP @ 0x1000 - 0x1fff',
  }),
  logEvent('vfio_listener_region_add_iommu', 'region_add [iommu] 0x{start:x64} - 0x{last:x64}', {
    doc: 'A DMA window came into the address space of a passed-through device.',
    example: 'vfio_listener_region_add_iommu region_add [iommu] 0x0 - 0x3fffffff',
  }),
] as const

const SECTION = '{region:text}: 0x{gpa:x64}+0x{bytes:x64} @ 0x{va:x64}'
const DEVICE_STEP = '{device:pointer}:{region:text} vrings:{on:d32}'
const MESSAGE = 'req:{request:d32} flags:0x{flags:x32}'

/** hw/virtio/vhost.c and vhost-user.c, and hw/net/vhost-user.c. */
const VHOST = [
  logEvent('vhost_iotlb_miss', '{device:pointer} step {step:d32}', {
    doc: 'A vhost device asks for a translation, or QEMU makes one of its own accord for a used ring. step: 1 it begins, 2 it is over (with or without a translation), 3 the address is no memory, 4 the answer could not be sent.',
    example: 'vhost_iotlb_miss 0x5559a91f28a0 step 1',
  }),
  logEvent('vhost_user_write', MESSAGE, {
    doc: 'A message has been sent to a vhost-user back end. Flags: 1 version, 4 a reply, 8 an answer is wanted.',
    example: 'vhost_user_write req:22 flags:0x9',
  }),
  logEvent('vhost_user_read', MESSAGE, {
    doc: 'The answer to a message has been read.',
    example: 'vhost_user_read req:22 flags:0x5',
  }),
  logEvent('vhost_user_event', 'chr: {region:text} got event: {event:d32}', {
    doc: 'The connection to a back end opens (1), closes (4) or breaks (0).',
    example: 'vhost_user_event chr: c0 got event: 1',
  }),
  logEvent(
    'vhost_user_set_mem_table_withfd',
    '{index:d32}:{region:text}: size:0x{bytes:x64} GPA:0x{gpa:x64} QVA/userspace:0x{va:x64} RB offset:0x{offset:x64}',
    {
      doc: 'A region of guest memory that the back end is given, with a file descriptor.',
      example:
        'vhost_user_set_mem_table_withfd 0:m0: size:0x20000000 GPA:0x0 QVA/userspace:0x7f3a1ffff000 RB offset:0x0',
    },
  ),
  logEvent('vhost_commit', 'Started: {on:d32} Changed: {changed:d32}', {
    doc: 'The memory map of a vhost device is settled.',
    example: 'vhost_commit Started: 0 Changed: 1',
  }),
  logEvent('vhost_section', '{region:text}', {
    doc: 'A region of the memory map is looked at.',
    example: 'vhost_section m0',
  }),
  logEvent('vhost_region_add_section', SECTION, {
    doc: 'A region of guest memory goes to a vhost device.',
    example: 'vhost_region_add_section m0: 0x0+0x20000000 @ 0x7f3a1ffff000',
  }),
  logEvent('vhost_region_add_section_aligned', SECTION, {
    doc: 'The same, widened to pages of the host.',
    example: 'vhost_region_add_section_aligned m0: 0x0+0x20000000 @ 0x7f3a1ffff000',
  }),
  logEvent(
    'vhost_region_add_section_merge',
    '{region:text}: size: 0x{bytes:x64} gpa: 0x{gpa:x64} owr: 0x{offset:x64}',
    {
      doc: 'A region is joined to the one before it.',
      example: 'vhost_region_add_section_merge m0: size: 0x20000000 gpa: 0x0 owr: 0x0',
    },
  ),
  logEvent('vhost_reject_section', '{region:text}:{reason:d32}', {
    doc: 'A region is not given to a vhost device.',
    example: 'vhost_reject_section vga.vram:3',
  }),
  logEvent('vhost_dev_start', DEVICE_STEP, {
    doc: 'A vhost device starts.',
    example: 'vhost_dev_start 0x55ac8b391e60:vhost-user-blk vrings:1',
  }),
  logEvent('vhost_dev_stop', DEVICE_STEP, {
    doc: 'A vhost device stops.',
    example: 'vhost_dev_stop 0x55ac8b391e60:vhost-user-blk vrings:1',
  }),
  logEvent('vhost_dev_cleanup', '{device:pointer}', {
    doc: 'A vhost device is given up.',
    example: 'vhost_dev_cleanup 0x55ac8b391e60',
  }),
] as const

/** What QEMU prints of a machine's DMA, by its own trace events (the log back end). */
export const QEMU_TRACE = declareLogFormat(
  {
    id: 'qemu-trace',
    title: 'QEMU trace log',
    source:
      'QEMU 7.2, hw/ppc/trace-events, hw/vfio/trace-events, hw/virtio/trace-events, hw/net/trace-events, hw/i386/trace-events',
  },
  [...SPAPR_IOMMU, ...SPAPR_PCI, ...VFIO, ...VHOST, ...VTD_EVENTS],
  {
    ...VTD_FIELD_DOCS,
    address: 'Address that is written or read, or of a table.',
    available: 'Interrupts that there are.',
    buid: 'Number of the PCI host bridge.',
    bus: 'Number of the bus, or name of the PCI host bridge.',
    busOffset: 'Bus address of the first byte of the window.',
    bytes: 'Bytes of the range or access.',
    changed: '1 where something changed.',
    configAddress: 'Configuration address of the device: bus and function, shifted left by 8.',
    data: 'Data that is written.',
    device: 'Type of the device, or its address in QEMU.',
    entries: 'Entries of the table or queue.',
    entriesBefore: 'Entries of the table before the load.',
    event: 'What happened to the connection.',
    fd: 'File descriptor of the table in KVM, -1 for none.',
    flags: 'Flags of the message.',
    function: 'Function of the device, or of ibm,change-msi.',
    groupFd: 'File descriptor of the VFIO group.',
    interrupt: 'Which interrupt of the device.',
    ioba: 'Bus address.',
    iobaEnd: 'Bus address after the last entry that was written.',
    irq: 'Interrupt number.',
    last: 'Last byte of the range.',
    lastIndex:
      'Index in the list of the last entry that was written; where the call failed at entry k > 0 it is k - 1.',
    lastTce: 'The last TCE that was read from the list.',
    levels: 'Levels of the host table.',
    liobn: 'Logical I/O bus number: names the table.',
    mask: 'IOMMU page size - 1; of spapr_iommu_xlate cut to 32 bits, and all ones where nothing was translated.',
    message: 'What happened, or why.',
    npages: 'Entries that were to be written.',
    op: 'MAP or UNMAP.',
    pageBytes: 'IOMMU page size.',
    pageShift: 'log2 of the IOMMU page size.',
    pageSizes: 'Page sizes as the guest is told them: 1 4K, 2 64K, 4 16M, 8 32M, 0x100 2M.',
    perm: 'What the entry allows: 1 read, 2 write, 3 both, 0 nothing.',
    pin: 'Interrupt pin, 0 for INTA.',
    reason: 'Why it is not given.',
    region: 'Name of the memory region, of the connection or of the device.',
    request: 'Number of the message.',
    requested: 'Interrupts that were asked for.',
    ret: 'The answer: 0, or the negative code of the hypercall or ioctl.',
    start: 'First byte of the range, or bus address of the window.',
    step: 'How far the miss has come.',
    table: 'Address of the table in QEMU.',
    tableFd: 'File descriptor of the TCE table.',
    tce: 'Translation control entry.',
    tceList: 'Guest physical address of the list.',
    translated: 'Guest physical address of the page.',
    va: 'Address in QEMU.',
    vector: 'Number of the vector.',
    windowBytes: 'Bytes of the window.',
    windowBytesMax: 'Largest window, as printed.',
    windowOffset: 'Address from the start of the window.',
    windows: 'Windows that can still be made.',
  },
)

export type QemuEventName = keyof typeof QEMU_TRACE.number
