import { declareLineFamily, kernelLine } from './line-format.ts'

const AT = '{context:text}: '

/** A fault, before anybody prints it. */
export const TRACE_FAULT = kernelLine(
  'trace-fault',
  `${AT}io_page_fault: IOMMU:{driver:text} {device:word} iova=0x{iova:x} flags=0x{flags:x}`,
  {
    era: 'Linux 3.13 on',
    doc: 'A fault is reported to the handler of its domain: driver, device, bus address; flags 0 is a read, 1 a write. The VT-d driver does not report its faults here.',
    example:
      '     irq/24-AMD-Vi-48    [002] ....   978.554305: io_page_fault: IOMMU:[drvname] 0000:05:00.0 iova=0x0000000091482660 flags=0x0000',
  },
)

const RANGE = 'IOMMU: iova=0x{iova:x} - 0x{end:x}'

/** A mapping is made. */
export const TRACE_MAP = kernelLine('trace-map', `${AT}map: ${RANGE} paddr=0x{paddr:x} size={bytes:d}`, {
  era: 'Linux 5.17 on',
  doc: 'A domain maps a range; which one is not said.',
  example:
    '          insmod-103     [000] .....     2.003023: map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000002cef000 size=4096',
})

/** A mapping is taken away. */
export const TRACE_UNMAP = kernelLine(
  'trace-unmap',
  `${AT}unmap: ${RANGE} size={bytes:d} unmapped_size={unmappedBytes:d}`,
  {
    era: 'Linux 5.17 on',
    doc: 'A domain maps a range no more; the IOTLB is flushed next, or later.',
    example:
      '          <idle>-0       [000] d.h2.     2.024434: unmap: IOMMU: iova=0x00000000ffffa000 - 0x00000000ffffb000 size=4096 unmapped_size=4096',
  },
)

/** An invalidation. */
export const TRACE_SUBMIT = kernelLine(
  'trace-submit',
  `${AT}qi_submit: {kind:word} {unit:word}: 0x{qw0:x} 0x{qw1:x} 0x{qw2:x} 0x{qw3:x}`,
  {
    era: 'Linux 5.12 on',
    doc: 'A descriptor goes into the invalidation queue of a VT-d unit.',
    example:
      '          <idle>-0       [000] d.h3.     2.024614: qi_submit: iotlb_inv dmar0: 0x300f2 0xffffa000 0x0 0x0',
  },
)

/** A page request. */
export const TRACE_REQUEST = kernelLine(
  'trace-request',
  `${AT}prq_report: {device:word} seq# {sequence:d}: rid=0x{source:x} addr=0x{page:x} {access:word} pasid=0x{pasid:x} index=0x{more:text}`,
  {
    era: 'Linux 5.14 on',
    doc: 'A device asks for a page of a process. The address is printed as the number of its page.',
    example:
      '   irq/26-dmar0-prq-91     [001] .....     9.000001: prq_report: dmar0/0000:00:0a.0 seq# 1: rid=0x50 addr=0x7f001 rw--l pasid=0x1 index=0x3',
  },
)

/** A device changes its domain. */
export const TRACE_ATTACH = kernelLine(
  'trace-attach',
  `${AT}attach_device_to_domain: IOMMU: device={device:word}`,
  {
    era: 'Linux 3.13 on',
    doc: 'A device is behind the page tables of another domain from now on.',
    example:
      '          insmod-103     [000] .....     2.003000: attach_device_to_domain: IOMMU: device=0000:00:01.0',
  },
)

/** Lines of Linux's own trace that stand in a log. */
export const TRACE_LINES = declareLineFamily({
  id: 'ftrace',
  title: "Linux's trace of its IOMMU",
  source: 'Linux v6.1 include/trace/events/iommu.h, drivers/iommu/intel/trace.h',
  isModelled: true,
  mentions: [],
  templates: [TRACE_FAULT, TRACE_MAP, TRACE_UNMAP, TRACE_SUBMIT, TRACE_REQUEST, TRACE_ATTACH],
})
