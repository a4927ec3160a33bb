import { declareLineFamily, kernelLine } from './line-format.ts'

/** A kernel before this one left translation switched on. */
export const CAUSE_LEFT_ON = kernelLine(
  'cause-left-on',
  'Translation was enabled for {unit:word} but we are not in kdump mode',
  {
    heads: ['DMAR: '],
    era: 'Linux 4.5 on',
    doc: 'Firmware or a kernel before (kexec) left the unit switched on: this kernel switches it off and begins anew. Devices that still run then use addresses of the tables before.',
    example: '[    0.931600] DMAR: Translation was enabled for dmar0 but we are not in kdump mode',
  },
)

/** Tables of the kernel before are used on. */
export const CAUSE_COPIED = kernelLine(
  'cause-copied',
  'Copied translation tables from previous kernel for {unit:word}',
  {
    heads: ['DMAR: '],
    era: 'Linux 4.2 on',
    doc: 'A crash kernel goes on with the tables of the kernel that crashed, until each device has a driver.',
    example: '[    0.931600] DMAR: Copied translation tables from previous kernel for dmar0',
  },
)

/** They could not be read. */
export const CAUSE_NOT_COPIED = kernelLine(
  'cause-not-copied',
  'Failed to copy translation tables from previous kernel for {unit:word}',
  {
    heads: ['DMAR: '],
    era: 'Linux 4.2 on',
    doc: 'A crash kernel could not go on with the tables of the kernel that crashed: devices that still run fault.',
    example: '[    0.931600] DMAR: Failed to copy translation tables from previous kernel for dmar0',
  },
)

/** A device goes, or its driver changes hands. */
export const CAUSE_REMOVED = kernelLine(
  'cause-removed',
  '{driver:word} {device:sbdf}: Removing from iommu group {group:d}',
  {
    era: 'Linux 5.4 on',
    doc: 'A device is taken from under its IOMMU: it was removed, or its bus is scanned anew.',
    example: '[ 4000.100000] pci 0000:01:00.0: Removing from iommu group 14',
  },
)

/** VFIO has a device. */
export const CAUSE_VFIO = kernelLine('cause-vfio', 'vfio-pci {device:sbdf}: {what:text}', {
  era: 'Linux 3.6 on',
  doc: 'The driver of VFIO says something of a device: the device is given to a program, or was.',
  example: '[  120.500000] vfio-pci 0000:01:00.0: enabling device (0400 -> 0403)',
})

/** What a device is refused for: its memory of the firmware needs a mapping of its own. */
export const CAUSE_RMRR_TEXT =
  'Device is ineligible for IOMMU domain attach due to platform RMRR requirement.'
export const CAUSE_DIRECT_TEXT = 'Firmware has requested this device have a 1:1 IOMMU mapping'

/** The same of a driver of VFIO that has another name. */
export const CAUSE_RMRR = kernelLine(
  'cause-rmrr',
  `{driver:word} {device:sbdf}: {tag:text}${CAUSE_RMRR_TEXT}{more:text}`,
  {
    era: 'Linux 3.17-6.5',
    doc: 'The device may not be given to a program: the firmware uses memory by it (RMRR). EPERM.',
    example:
      '[  120.500000] mlx5_vfio_pci 0000:03:00.0: DMAR: Device is ineligible for IOMMU domain attach due to platform RMRR requirement.  Contact your platform vendor.',
  },
)
export const CAUSE_DIRECT = kernelLine(
  'cause-direct',
  `{driver:word} {device:sbdf}: ${CAUSE_DIRECT_TEXT}{more:text}`,
  {
    era: 'Linux 6.6 on',
    doc: 'The device may not be given to a program: the firmware wants memory of it mapped one to one. EINVAL.',
    example:
      '[  120.500000] mlx5_vfio_pci 0000:03:00.0: Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping. Contact your platform vendor.',
  },
)

/** CONFIG_DMA_API_DEBUG found a driver wrong. */
export const CAUSE_DMA_DEBUG = kernelLine(
  'cause-dma-debug',
  'DMA-API: {driver:word} {device:word}: {what:text} [device address=0x{address:x}]{more:text}',
  {
    era: 'Linux 4.20 on, CONFIG_DMA_API_DEBUG',
    doc: 'A driver uses the DMA API wrongly: it frees what it has not mapped, or with another size, or maps what may not be mapped.',
    example:
      '[   33.200000] DMA-API: nvme 0000:05:00.0: device driver tries to free DMA memory it has not allocated [device address=0x00000000fff00000] [size=4096 bytes]',
  },
)

/** An error of the link, or of a device. */
export const CAUSE_AER = kernelLine('cause-aer', 'pcieport {port:sbdf}: AER: {what:text}', {
  era: 'Linux 4.20 on',
  doc: 'A port got an error message of PCI Express: of itself, or of a device behind it, which the line names.',
  example:
    '[  200.700000] pcieport 0000:00:1c.0: AER: Uncorrectable (Non-Fatal) error received: 0000:01:00.0',
})

/** Lines that are no faults of an IOMMU, and that lead to some. */
export const CAUSE_LINES = declareLineFamily({
  id: 'linux',
  title: 'Linux, what may lead to faults',
  source:
    'Linux v6.1 drivers/iommu/intel/iommu.c, drivers/iommu/iommu.c, kernel/dma/debug.c, drivers/pci/pcie/aer.c, drivers/vfio/pci; drivers/iommu/iommu.c (6.6 on)',
  isModelled: true,
  mentions: [],
  templates: [
    CAUSE_LEFT_ON,
    CAUSE_COPIED,
    CAUSE_NOT_COPIED,
    CAUSE_REMOVED,
    CAUSE_VFIO,
    CAUSE_RMRR,
    CAUSE_DIRECT,
    CAUSE_DMA_DEBUG,
    CAUSE_AER,
  ],
})
