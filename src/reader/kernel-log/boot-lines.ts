import { declareLineFamily, kernelLine, type LineFamily } from './line-format.ts'

export const LINUX_VERSION = kernelLine('boot-version', 'Linux version {version:word} {more:long}', {
  era: 'Linux',
  doc: 'The kernel that printed the log.',
  example:
    '[    0.000000] Linux version 6.1.0-50-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0)',
})
export const COMMAND_LINE = kernelLine('boot-command-line', 'ommand line: {line:long}', {
  heads: ['C', 'Kernel c'],
  era: 'Linux',
  doc: 'What the boot loader gave to the kernel.',
  example: '[    0.000000] Command line: console=ttyS0 quiet intel_iommu=on iommu.strict=1',
})
export const MEMORY_MAP = kernelLine('boot-e820', 'BIOS-e820: [mem 0x{first:x}-0x{last:x}] {type:text}', {
  era: 'Linux on x86',
  doc: 'Physical memory as the firmware describes it.',
  example: '[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000001ffdefff] usable',
})
export const ZONE = kernelLine('boot-zone', '[mem 0x{first:x}-0x{last:x}]', {
  heads: ['  DMA      ', '  DMA32    ', '  Normal   ', 'DMA      ', 'DMA32    ', 'Normal   '],
  era: 'Linux',
  doc: 'A zone of memory that the kernel uses: from its first page to its last.',
  example: '[    0.028181]   DMA32    [mem 0x0000000001000000-0x000000001ffdcfff]',
})
export const PCI_DEVICE = kernelLine(
  'boot-pci',
  'pci {device:sbdf}: [{id:word}] type {type:word} class {class:text}',
  {
    era: 'Linux',
    doc: 'A PCI device was found.',
    example: '[    0.500000] pci 0000:00:04.0: [1234:11e8] type 00 class 0x00ff00',
  },
)
export const IOMMU_GROUP = kernelLine(
  'boot-group',
  '{driver:word} {device:sbdf}: Adding to iommu group {group:d}',
  {
    era: 'Linux 5.4 on',
    doc: 'A device came under an IOMMU.',
    example: '[    0.930210] pci 0000:00:04.0: Adding to iommu group 4',
  },
)
export const IOMMU_GROUP_OLD = kernelLine(
  'boot-group-old',
  'iommu: Adding device {device:sbdf} to group {group:d}',
  {
    era: 'Linux to 5.3',
    doc: 'A device came under an IOMMU.',
    example: '[    0.930210] iommu: Adding device 0000:00:04.0 to group 4',
  },
)

/** What any kernel says of its machine: it explains faults of every family. */
export const BOOT_LINES: LineFamily = declareLineFamily({
  id: 'boot',
  title: 'Linux at boot',
  source: 'Linux init/main.c, arch/x86/kernel/e820.c, drivers/pci/probe.c, drivers/iommu/iommu.c (6.1)',
  isModelled: true,
  mentions: [],
  templates: [LINUX_VERSION, COMMAND_LINE, MEMORY_MAP, ZONE, PCI_DEVICE, IOMMU_GROUP, IOMMU_GROUP_OLD],
})
