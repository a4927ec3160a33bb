import { declareLineFamily, kernelLine, type LineFamily } from './line-format.ts'
import { VTD_DUMP_LINES } from './vtd-dump-lines.ts'
import { VTD_QUEUE_LINES } from './vtd-queue-lines.ts'
import { VTD_SETUP_LINES } from './vtd-setup-lines.ts'

/** The driver's prefix over the years; old kernels print `dmar: `, some lines have none. */
const DMAR = ['DMAR: ', 'dmar: ', 'DMAR:', '']

/** A DMA fault in one line, Linux 4.6 to 5.3. The reason is decimal. */
export const FAULT_4_6 = kernelLine(
  'vtd-fault-4.6',
  '[{access:access}] Request device [{device:bdf}] fault addr {address:x} [fault reason {reason:d}] {text:text}',
  {
    heads: DMAR,
    era: 'Linux 4.6-5.3',
    doc: 'The unit blocked a DMA request. The reason is decimal.',
    example:
      '[10672.868940] DMAR: [DMA Write] Request device [00:12.0] fault addr 0 [fault reason 05] PTE Write access is not set',
  },
)

/** The same with a PASID, Linux 5.4 to 5.13; ffffffff is none. The reason is decimal. */
export const FAULT_5_4 = kernelLine(
  'vtd-fault-5.4',
  '[{access:access}] Request device [{device:bdf}] PASID {pasid:x} fault addr {address:x} [fault reason {reason:d}] {text:text}',
  {
    heads: DMAR,
    era: 'Linux 5.4-5.13',
    doc: 'The unit blocked a DMA request. PASID ffffffff is none; the reason is decimal.',
    example:
      '[  139.513963] DMAR: [DMA Read] Request device [00:02.0] PASID ffffffff fault addr 9c000000 [fault reason 06] PTE Read access is not set',
  },
)

/** Linux 5.14: a device with 0x, and the reason hexadecimal from here on. */
export const FAULT_5_14 = kernelLine(
  'vtd-fault-5.14',
  '[{access:access}] Request device [{device:bdf0x}] fault addr 0x{address:x} [fault reason 0x{reason:x}] {text:text}',
  {
    heads: DMAR,
    era: 'Linux 5.14',
    doc: 'The unit blocked a DMA request. The reason is hexadecimal.',
    example:
      '[    0.938401] kernel: DMAR: [DMA Read NO_PASID] Request device [0x00:0x02.0] fault addr 0x70a28000 [fault reason 0x0c] non-zero reserved fields in PTE',
  },
)

/** Linux 5.15 and later. The reason is hexadecimal. */
export const FAULT_5_15 = kernelLine(
  'vtd-fault-5.15',
  '[{access:access}] Request device [{device:bdf}] fault addr 0x{address:x} [fault reason 0x{reason:x}] {text:text}',
  {
    heads: DMAR,
    era: 'Linux 5.15-6.x',
    doc: 'The unit blocked a DMA request. The reason is hexadecimal.',
    example:
      '[    5.794272] DMAR: [DMA Read NO_PASID] Request device [00:04.0] fault addr 0x1000 [fault reason 0x06] PTE Read access is not set',
  },
)

/** With the segment of the unit, as the newest kernels print it. */
export const FAULT_SEGMENT = kernelLine(
  'vtd-fault-segment',
  '[{access:access}] Request device [{device:sbdf}] fault addr 0x{address:x} [fault reason 0x{reason:x}] {text:text}',
  {
    heads: DMAR,
    era: 'Linux 7.x',
    doc: 'The unit blocked a DMA request. The device is named with its segment; the reason is hexadecimal.',
    example:
      '[    5.794272] DMAR: [DMA Write PASID 0x12345] Request device [0000:03:02.0] fault addr 0x7f1234567000 [fault reason 0x59] SM: Present bit in PASID Table Entry is clear',
  },
)

/** Since 4.2 the driver's prefix stands before the text, which has its own. (Linux v4.4 drivers/iommu/dmar.c) */
const DMAR_TWICE = ['DMAR: DMAR:', 'DMAR:', 'dmar: DMAR:', 'DMAR: ', 'dmar: ']

/** The first of two lines, Linux up to 4.5. */
export const FAULT_OLD = kernelLine(
  'vtd-fault-old',
  '[{access:access}] Request device [{device:bdf}] fault addr {address:x}',
  {
    heads: DMAR_TWICE,
    era: 'Linux to 4.5',
    doc: 'The unit blocked a DMA request. Why stands in the next line.',
    example: '[    9.200000] dmar: DMAR:[DMA Write] Request device [02:00.0] fault addr ffa00000 ',
  },
)

/** Both lines as one: something that carried the log made a blank of the newline. */
export const FAULT_JOINED = kernelLine(
  'vtd-fault-joined',
  '[{access:access}] Request device [{device:bdf}] fault addr {address:x}{gap:blank}DMAR:[fault reason {reason:d}] {text:text}',
  {
    heads: DMAR_TWICE,
    era: 'Linux to 4.5',
    doc: 'The unit blocked a DMA request, and why: the two lines of the kernel as one. The reason is decimal.',
    example:
      'dmar: DMAR:[DMA Read] Request device [01:00.0] fault addr 37ae5000 DMAR:[fault reason 02] Present bit in context entry is clear ',
  },
)

/** The second line of it. The reason is decimal. */
export const REASON_OLD = kernelLine('vtd-reason-old', '[fault reason {reason:d}] {text:text}', {
  heads: ['DMAR:', 'dmar: DMAR:', 'DMAR: ', 'dmar: '],
  era: 'Linux to 4.5',
  doc: 'Why the unit blocked the request of the line before. The reason is decimal.',
  example: 'DMAR:[fault reason 05] PTE Write access is not set',
})

/** An interrupt request that was blocked, in two lines; the double bracket is real. */
export const IR_FAULT_OLD = kernelLine(
  'vtd-ir-fault-old',
  'INTR-REMAP: Request device [[{device:bdf}] fault index {index:x}',
  {
    heads: ['DMAR: ', 'dmar: ', ''],
    era: 'Linux to 4.5',
    doc: 'The unit blocked an interrupt request. Why stands in the next line.',
    example: '[    3.100000] INTR-REMAP: Request device [[f0:1f.0] fault index 26',
  },
)
export const IR_REASON_OLD = kernelLine(
  'vtd-ir-reason-old',
  'INTR-REMAP:[fault reason {reason:d}] {text:text}',
  {
    heads: ['', 'dmar: '],
    era: 'Linux to 4.5',
    doc: 'Why the unit blocked the interrupt request of the line before. The reason is decimal.',
    example: 'INTR-REMAP:[fault reason 34] Present field in the IRTE entry is clear',
  },
)

/** Both lines as one. */
export const IR_FAULT_JOINED = kernelLine(
  'vtd-ir-fault-joined',
  'INTR-REMAP: Request device [[{device:bdf}] fault index {index:x}{gap:blank}INTR-REMAP:[fault reason {reason:d}] {text:text}',
  {
    heads: ['DMAR: ', 'dmar: ', ''],
    era: 'Linux to 4.5',
    doc: 'The unit blocked an interrupt request, and why: the two lines of the kernel as one. The reason is decimal.',
    example:
      'DMAR: INTR-REMAP: Request device [[f0:1f.0] fault index 0 INTR-REMAP:[fault reason 37] Blocked a compatibility format interrupt request',
  },
)
export const IR_FAULT_4_6 = kernelLine(
  'vtd-ir-fault-4.6',
  '[INTR-REMAP] Request device [{device:bdf}] fault index {index:x} [fault reason {reason:d}] {text:text}',
  {
    heads: DMAR,
    era: 'Linux 4.6-5.13',
    doc: 'The unit blocked an interrupt request. The reason is decimal.',
    example:
      '[    3.100000] DMAR: [INTR-REMAP] Request device [f0:1f.0] fault index 26 [fault reason 34] Present field in the IRTE entry is clear',
  },
)
export const IR_FAULT_5_14 = kernelLine(
  'vtd-ir-fault-5.14',
  '[INTR-REMAP] Request device [{device:bdf}] fault index 0x{index:x} [fault reason 0x{reason:x}] {text:text}',
  {
    heads: DMAR,
    era: 'Linux 5.14-6.x',
    doc: 'The unit blocked an interrupt request. The reason is hexadecimal.',
    example:
      '[    3.100000] DMAR: [INTR-REMAP] Request device [f0:1f.0] fault index 0x26 [fault reason 0x22] Present field in the IRTE entry is clear',
  },
)
export const IR_FAULT_SEGMENT = kernelLine(
  'vtd-ir-fault-segment',
  '[INTR-REMAP] Request device [{device:sbdf}] fault index 0x{index:x} [fault reason 0x{reason:x}] {text:text}',
  {
    heads: DMAR,
    era: 'Linux 7.x',
    doc: 'The unit blocked an interrupt request. The device is named with its segment; the reason is hexadecimal.',
    example:
      '[    3.100000] DMAR: [INTR-REMAP] Request device [0000:f0:1f.0] fault index 0x26 [fault reason 0x22] Present field in the IRTE entry is clear',
  },
)

/** Xen, first of two lines. */
export const XEN_FAULT_REG = kernelLine(
  'vtd-xen-fault-reg',
  '[VT-D]DMAR:[{access:access}] Request device [{device:sbdf}] fault addr {address:x}, iommu reg = {register:x}',
  {
    era: 'Xen to 4.13',
    doc: 'The unit blocked a DMA request. Why stands in the next line.',
    example:
      '(XEN) [VT-D]DMAR:[DMA Read] Request device [0000:00:02.0] fault addr 8e43c000, iommu reg = ffff82c00021d000',
  },
)
export const XEN_FAULT = kernelLine(
  'vtd-xen-fault',
  '[VT-D]DMAR:[{access:access}] Request device [{device:sbdf}] fault addr {address:x}',
  {
    era: 'Xen',
    doc: 'The unit blocked a DMA request. Why stands in the next line.',
    example: '(XEN) [VT-D]DMAR:[DMA Write] Request device [0000:65:00.0] fault addr 1200000000',
  },
)
/** Its second line; Xen prints the reason in hexadecimal. */
export const XEN_REASON = kernelLine('vtd-xen-reason', '[VT-D]DMAR: reason {reason:x} - {text:text}', {
  era: 'Xen',
  doc: 'Why the unit blocked the request of the line before. The reason is hexadecimal.',
  example: '(XEN) [VT-D]DMAR: reason 06 - PTE Read access is not set',
})
export const XEN_REASON_4_2 = kernelLine(
  'vtd-xen-reason-4.2',
  'DMAR:[fault reason {reason:x}h] {text:text}',
  {
    heads: ['', '[VT-D]'],
    era: 'Xen to 4.5',
    doc: 'Why the unit blocked the request of the line before. The reason is hexadecimal, with an h.',
    example: '(XEN) DMAR:[fault reason 06h] PTE Read access is not set',
  },
)

/** What the fault status register held. */
export const STATUS = kernelLine('vtd-status', 'DRHD: handling fault status reg {status:x}', {
  heads: DMAR,
  era: 'Linux',
  doc: 'The fault interrupt of a unit came; the register is hexadecimal.',
  example: '[    5.793582] DMAR: DRHD: handling fault status reg 2',
})

/** The kernel prints at most ten of these lines in five seconds. */
export const SUPPRESSED = kernelLine('vtd-suppressed', 'dmar_fault: {lines:d} callbacks suppressed', {
  era: 'Linux 4.6 on',
  doc: 'Lines of the fault interrupt that were not printed, because there were too many: faults and status lines alike.',
  example: '[   10.953461] dmar_fault: 5 callbacks suppressed',
})

/** Xen does not print more than ten lines a second or so; which lines those were it does not say. */
export const XEN_SUPPRESSED = kernelLine('vtd-xen-suppressed', 'printk: {lines:d} messages suppressed.', {
  era: 'Xen',
  doc: 'Lines of Xen, of any kind, that were not printed because there were too many.',
  example: '(XEN) printk: 26235 messages suppressed.',
})

/** All lines of the driver of VT-d units, and of Xen's. */
export const VTD_LINES: LineFamily = declareLineFamily({
  id: 'vtd',
  title: 'Intel VT-d',
  source:
    'Linux drivers/iommu/dmar.c and intel-iommu.c (3.6, 4.1, 4.4, 5.2), drivers/iommu/intel (5.10, 5.15, 6.3, 7.2); ' +
    'Xen xen/drivers/passthrough/vtd/iommu.c (4.2) and logs of later versions',
  isModelled: true,
  mentions: ['DMAR:', 'DMAR-IR:', 'dmar:', 'INTR-REMAP', '[VT-D]', 'Request device [', '[fault reason '],
  templates: [
    FAULT_5_15,
    FAULT_5_4,
    FAULT_4_6,
    FAULT_5_14,
    FAULT_SEGMENT,
    FAULT_OLD,
    REASON_OLD,
    FAULT_JOINED,
    STATUS,
    SUPPRESSED,
    IR_FAULT_5_14,
    IR_FAULT_4_6,
    IR_FAULT_SEGMENT,
    IR_FAULT_OLD,
    IR_REASON_OLD,
    IR_FAULT_JOINED,
    XEN_FAULT_REG,
    XEN_FAULT,
    XEN_REASON,
    XEN_REASON_4_2,
    XEN_SUPPRESSED,
    ...VTD_DUMP_LINES,
    ...VTD_QUEUE_LINES,
    ...VTD_SETUP_LINES,
  ],
})
