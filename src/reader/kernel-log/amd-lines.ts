import { declareLineFamily, kernelLine } from './line-format.ts'

/** An event of an AMD unit in one line, without a device before it. */
export const AMD_EVENT = kernelLine('amd-event', 'Event logged [{event:word} {details:text}]', {
  heads: ['AMD-Vi: '],
  era: 'Linux 2.6.26-6.x',
  doc: 'The unit has written an event into its log: the name, and what is known of it. Since 6.0 devices are named with their segment.',
  example:
    '[    0.971036] AMD-Vi: Event logged [IO_PAGE_FAULT device=05:00.0 domain=0x0012 address=0x00000000dff00000 flags=0x0070]',
})

/** The same behind the driver and the device: its own of a page fault, the unit of anything else. */
export const AMD_EVENT_OF = kernelLine(
  'amd-event-of',
  '{driver:word} {device:word}: AMD-Vi: Event logged [{event:word} {details:text}]',
  {
    era: 'Linux 4.12-6.x',
    doc: 'The unit has written an event into its log. The driver is the one that is bound when the line is printed. Of a page fault, and of an event of the RMP (SEV-SNP), the device is the one that asked; of any other event it is the unit.',
    example:
      '[   12.345678] nvme 0000:05:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0012 address=0xdff00000 flags=0x0070]',
  },
)

/** The first part of an event that printk has cut in two. */
export const AMD_SPLIT_HEAD = kernelLine('amd-split-head', 'AMD-Vi: Event logged [', {
  era: 'Linux 4.9-4.17',
  doc: 'The next line of the unit is the event: since Linux 4.9 printk no longer joins the two.',
  example: '[    1.578390] AMD-Vi: Event logged [',
})

/** The same with the unit before it. */
export const AMD_SPLIT_HEAD_OF = kernelLine(
  'amd-split-head-of',
  '{driver:word} {device:word}: AMD-Vi: Event logged [',
  {
    era: 'Linux 4.18-4.19',
    doc: 'The next line of the unit is the event, behind the unit as well. Page faults stand in one line.',
    example: '[    1.578390] pci 0000:00:00.2: AMD-Vi: Event logged [',
  },
)

/** Names of events; each stands in a line of its own where printk has cut the line. */
export const AMD_EVENTS = [
  'ILLEGAL_DEV_TABLE_ENTRY',
  'IO_PAGE_FAULT',
  'DEV_TAB_HARDWARE_ERROR',
  'PAGE_TAB_HARDWARE_ERROR',
  'ILLEGAL_COMMAND_ERROR',
  'COMMAND_HARDWARE_ERROR',
  'IOTLB_INV_TIMEOUT',
  'INVALID_DEVICE_REQUEST',
  'INVALID_PPR_REQUEST',
] as const

/** The second part. */
export const AMD_SPLIT = kernelLine('amd-split', 'device={details:text}]', {
  heads: AMD_EVENTS.map((event) => `${event} `),
  era: 'Linux 4.9-4.17',
  doc: 'The event whose line began before.',
  example:
    '[    1.578393] IO_PAGE_FAULT device=02:00.0 domain=0x0011 address=0x000000010000f3c0 flags=0x0030]',
})

/** The second part behind the unit, of each event but page faults, whose lines are whole. */
export const AMD_SPLIT_OF = AMD_EVENTS.filter((event) => event !== 'IO_PAGE_FAULT').map((event) =>
  kernelLine(
    `amd-split-of-${event.toLowerCase().replaceAll('_', '-')}`,
    `{driver:word} {device:word}: ${event} {details:text}]`,
    {
      era: 'Linux 4.18-4.19',
      doc: 'The event whose line began before, behind the unit.',
      example: `[    1.578393] pci 0000:00:00.2: ${event} device=02:00.0 address=0x000000010000f3c0 flags=0x0030]`,
    },
  ),
)

/** The unit ran out of room for events. */
export const AMD_OVERFLOW = kernelLine('amd-overflow', 'AMD-Vi: IOMMU event log overflow', {
  era: 'Linux 5.17-6.5',
  doc: 'The log of the unit was full: events are lost.',
  example: '[   12.345680] AMD-Vi: IOMMU event log overflow',
})

/** The same of newer kernels, and of each of the logs of a unit. */
export const AMD_RESTART = kernelLine('amd-restart', 'AMD-Vi: IOMMU {log:word} log restarting', {
  era: 'Linux 6.6 on',
  doc: 'A log of the unit was full (Event, PPR or GA), and the driver lets it go on: entries are lost.',
  example: '[13866.485412] AMD-Vi: IOMMU Event log restarting',
})

/** The command that an event was about, word by word. */
export const AMD_COMMAND = kernelLine('amd-command', 'AMD-Vi: CMD[{index:d}]: {value:x}', {
  era: 'Linux 2.6.30 on',
  doc: 'A word of the command that the event before it is about: 32 bits.',
  example: '[   12.345680] AMD-Vi: CMD[0]: 00000003',
})

/** The device table entry that an event was about. */
export const AMD_ENTRY = kernelLine('amd-entry', 'AMD-Vi: DTE[{index:d}]: {value:x}', {
  era: 'Linux 2.6.30 on',
  doc: 'A word of the device table entry that the event before it is about; older kernels print it in halves.',
  example: '[   12.345680] AMD-Vi: DTE[0]: 6090000000000003',
})

/** Invalidations do not complete. */
export const AMD_TIMEOUT = kernelLine('amd-timeout', 'AMD-Vi: Completion-Wait loop timed out', {
  era: 'Linux',
  doc: 'The unit did not complete a command within the time that the driver waits.',
  example: '[   12.345681] AMD-Vi: Completion-Wait loop timed out',
})

/** Lines that were not printed. */
export const AMD_SUPPRESSED = kernelLine(
  'amd-suppressed',
  'amd_iommu_report_page_fault: {lines:d} callbacks suppressed',
  {
    era: 'Linux 4.15-6.x',
    doc: 'So many page faults of the device were not printed: more than ten came in five seconds.',
    example: '[   17.345682] amd_iommu_report_page_fault: 215 callbacks suppressed',
  },
)

/** Lines of the driver of AMD's units. */
export const AMD_LINES = declareLineFamily({
  id: 'amd-vi',
  title: 'AMD-Vi',
  source: 'Linux v3.10-v6.12 drivers/iommu/amd/iommu.c (amd_iommu.c before 5.8); real logs',
  isModelled: false,
  mentions: ['AMD-Vi: Event logged'],
  templates: [
    AMD_EVENT,
    AMD_EVENT_OF,
    AMD_SPLIT_HEAD,
    AMD_SPLIT_HEAD_OF,
    AMD_SPLIT,
    ...AMD_SPLIT_OF,
    AMD_OVERFLOW,
    AMD_RESTART,
    AMD_COMMAND,
    AMD_ENTRY,
    AMD_TIMEOUT,
    AMD_SUPPRESSED,
  ],
})
