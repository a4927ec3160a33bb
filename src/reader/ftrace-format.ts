import { declareLogFormat, logEvent } from './log-format.ts'

const RANGE = 'IOMMU: iova=0x{iova:x64z} - 0x{end:x64z}'
const REQUEST =
  '{device:text} seq# {sequence:u32}: rid=0x{source:x32} addr=0x{page:x64} {access:rwxpl} pasid=0x{pasid:x32} index=0x{group:x32}'

/** Linux include/trace/events/iommu.h, v6.1. */
const IOMMU = [
  logEvent('map', `${RANGE} paddr=0x{paddr:x64z} size={bytes:d64}`, {
    head: 'map: ',
    doc: 'A domain maps a range. Neither the domain nor a device is named. The entries are written by now; with caching mode they are flushed next.',
    example: 'map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000002cef000 size=4096',
  }),
  logEvent('unmap', `${RANGE} size={bytes:d64} unmapped_size={unmappedBytes:d64}`, {
    head: 'unmap: ',
    doc: 'A domain maps a range no more. The IOTLB is flushed next (strict), or later, before the range is used again (lazy).',
    example: 'unmap: IOMMU: iova=0x00000000ffff0000 - 0x00000000ffff1000 size=4096 unmapped_size=4096',
  }),
  logEvent('attach_device_to_domain', 'IOMMU: device={device:text}', {
    head: 'attach_device_to_domain: ',
    doc: 'A device is behind the page tables of a domain from now on.',
    example: 'attach_device_to_domain: IOMMU: device=0000:00:01.0',
  }),
  logEvent('detach_device_from_domain', 'IOMMU: device={device:text}', {
    head: 'detach_device_from_domain: ',
    doc: 'A device is behind the page tables of no domain.',
    example: 'detach_device_from_domain: IOMMU: device=0000:00:01.0',
  }),
  logEvent('add_device_to_group', 'IOMMU: groupID={iommuGroup:d32} device={device:text}', {
    head: 'add_device_to_group: ',
    doc: 'A device is found, and the devices that it cannot be told from.',
    example: 'add_device_to_group: IOMMU: groupID=1 device=0000:00:01.0',
  }),
  logEvent('remove_device_from_group', 'IOMMU: groupID={iommuGroup:d32} device={device:text}', {
    head: 'remove_device_from_group: ',
    doc: 'A device goes.',
    example: 'remove_device_from_group: IOMMU: groupID=1 device=0000:00:01.0',
  }),
] as const

/** Linux drivers/iommu/intel/trace.h, v6.1, with decode_prq_descriptor of iommu.h. */
const INTEL = [
  logEvent('qi_submit', '{kind:text} dmar{unit:u32}: 0x{qw0:x64} 0x{qw1:x64} 0x{qw2:x64} 0x{qw3:x64}', {
    head: 'qi_submit: ',
    doc: 'A descriptor is about to be put into the invalidation queue; the wait descriptor behind it has no line. A submission that is tried again has its line again.',
    example: 'qi_submit: iotlb_inv dmar0: 0x300f2 0xfffee000 0x0 0x0',
  }),
  logEvent('prq_report', REQUEST, {
    head: 'prq_report: ',
    doc: 'A page request is handled. The address is printed as the number of its page; device is the unit and the device.',
    example: 'prq_report: dmar0/0000:00:0a.0 seq# 1: rid=0x50 addr=0x7f001 rw--l pasid=0x1 index=0x3',
  }),
  logEvent('prq_report_private', `${REQUEST} private=0x{privateLo:x64}/0x{privateHi:x64}`, {
    head: 'prq_report: ',
    doc: 'The same of a request with private data. A line end stands in the text, so an empty line follows.',
    example:
      'prq_report: dmar0/0000:00:0a.0 seq# 2: rid=0x50 addr=0x7f001 r---l pasid=0x1 index=0x3 private=0x1/0x2',
  }),
] as const

/** What a Linux guest or host traces of its IOMMU: lines of `trace` or `trace_pipe` below /sys/kernel/tracing. */
export const FTRACE = declareLogFormat(
  {
    id: 'linux-ftrace',
    title: "Linux's trace of its IOMMU",
    source: 'Linux v6.1 include/trace/events/iommu.h, drivers/iommu/intel/trace.h',
  },
  [...IOMMU, ...INTEL],
  {
    access: 'What the page is wanted for.',
    bytes: 'Length of the range.',
    device: 'The device.',
    end: 'Bus address behind the range.',
    group: 'Page request group.',
    iommuGroup: 'Number of the IOMMU group.',
    iova: 'First bus address.',
    kind: 'Kind of the descriptor: cc_inv, iotlb_inv, dev_tlb_inv, iec_inv, p_iotlb_inv, pc_inv, p_dev_tlb_inv, page_grp_resp.',
    paddr: 'First physical address.',
    page: 'Number of the 4 KiB page.',
    pasid: 'PASID.',
    privateHi: 'Private data, second word.',
    privateLo: 'Private data, first word.',
    qw0: 'First word of the descriptor.',
    qw1: 'Second word.',
    qw2: 'Third word, of a queue of 256-bit descriptors.',
    qw3: 'Fourth word.',
    sequence: 'Number of the request.',
    source: 'Source: bus << 8 | slot << 3 | function.',
    unit: 'Number of the unit.',
    unmappedBytes: 'Bytes that were mapped.',
  },
)
