import { declareLineFamily, kernelLine } from './line-format.ts'

/** A process may not lock so much. */
export const VFIO_MEMLOCK = kernelLine('vfio-memlock', 'RLIMIT_MEMLOCK ({bytes:sd}) exceeded', {
  heads: ['vfio_pin_pages_remote: ', 'vfio_pin_pages: ', ''],
  era: 'Linux 3.6 on',
  doc: 'A mapping would pin more memory than the process may lock: RLIMIT_MEMLOCK in bytes. The mapping fails with ENOMEM, and what it had pinned is given back.',
  example: '[  812.345678] vfio_pin_pages_remote: RLIMIT_MEMLOCK (67108864) exceeded',
})

/** The same of a page that a mediated device pins. */
export const VFIO_MEMLOCK_TASK = kernelLine(
  'vfio-memlock-task',
  'Task {task:text} ({pid:d}) RLIMIT_MEMLOCK ({bytes:sd}) exceeded',
  {
    heads: ['vfio_pin_page_external: '],
    era: 'Linux 4.11 on',
    doc: 'A mediated device pins guest memory page by page, and the process may lock no more.',
    example:
      '[  812.345678] vfio_pin_page_external: Task qemu-system-x86 (4711) RLIMIT_MEMLOCK (1073741824) exceeded',
  },
)

/** Interrupts of devices cannot be kept apart. */
export const VFIO_UNSAFE = kernelLine('vfio-unsafe', 'No interrupt remapping {more:text}', {
  heads: ['vfio_iommu_type1_attach_group: '],
  era: 'Linux 3.6 on',
  doc: 'The group is refused with EPERM: without interrupt remapping a device could write any interrupt.',
  example:
    '[  812.345678] vfio_iommu_type1_attach_group: No interrupt remapping support.  Use the module param "allow_unsafe_interrupts" to enable VFIO IOMMU support on this platform',
})

const NUMBERS = '({container:word}, 0x{iova:x}, 0x{bytes:x}'

/** QEMU could not map. */
export const QEMU_DMA_MAP = kernelLine(
  'qemu-dma-map',
  `{before:text}_dma_map${NUMBERS}, {address:word}) = {errno:sd} ({why:text})`,
  {
    era: 'QEMU 1.3 on',
    doc: 'The kernel refused a mapping that QEMU asked for: bus address, bytes, address in QEMU, and the error.',
    example:
      'qemu-system-aarch64: -device vfio-pci,host=01:00.0: vfio 0000:01:00.0: failed to setup container for group 11: memory listener initialization failed: Region mach-virt.ram: vfio_dma_map(0x55de3c2a97f0, 0x40000000, 0x100000000, 0x7f8fcbe00000) = -22 (Invalid argument)',
  },
)

/** QEMU could not unmap. */
export const QEMU_DMA_UNMAP = kernelLine(
  'qemu-dma-unmap',
  `{before:text}_dma_unmap${NUMBERS}) = {errno:sd} ({why:text})`,
  {
    era: 'QEMU 1.3 on',
    doc: 'The kernel refused to take a mapping away.',
    example:
      'qemu-system-x86_64: vfio_dma_unmap(0x55de3c2a97f0, 0xfffff000, 0x1000) = -22 (Invalid argument)',
  },
)

/** The same fault, said where it happened. */
export const QEMU_MAP_FAILED = kernelLine('qemu-map-failed', 'VFIO_MAP_DMA failed: {why:text}', {
  era: 'QEMU to 8.2',
  doc: 'The ioctl failed. The line with the addresses follows where the caller has one.',
  example: '2020-08-22T08:21:12.663319Z qemu-system-x86_64: VFIO_MAP_DMA failed: Cannot allocate memory',
})

/** The same with a number, as older versions print it. */
export const QEMU_MAP_ERRNO = kernelLine('qemu-map-errno', 'VFIO_MAP_DMA: {errno:sd}', {
  era: 'older QEMU: 2.9, say',
  doc: 'The ioctl failed with this error. The line with the addresses follows where the caller has one.',
  example: 'qemu-system-x86_64: VFIO_MAP_DMA: -14',
})
export const QEMU_MAP_ERRNO_OPTION = kernelLine(
  'qemu-map-errno-option',
  '{option:text}: VFIO_MAP_DMA: {errno:sd}',
  {
    era: 'older QEMU: 2.9, say',
    doc: 'The ioctl failed with this error while QEMU starts with the device.',
    example: 'qemu-system-x86_64: -device vfio-pci,host=0000:41:10.1,bootindex=-1: VFIO_MAP_DMA: -22',
  },
)

/** With the option that asked for the device. */
export const QEMU_MAP_FAILED_OPTION = kernelLine(
  'qemu-map-failed-option',
  '{option:text}: VFIO_MAP_DMA failed: {why:text}',
  {
    era: 'QEMU to 8.2',
    doc: 'The ioctl failed while QEMU starts with the device.',
    example:
      '2020-08-22T08:21:12.663319Z qemu-system-x86_64: -device vfio-pci,host=0000:03:10.2,id=hostdev0,bus=pci.6,addr=0x0: VFIO_MAP_DMA failed: Cannot allocate memory',
  },
)

/** A group does not get an IOMMU. */
export const QEMU_SET_IOMMU = kernelLine(
  'qemu-set-iommu',
  '{before:text}ailed to set iommu for container: {why:text}',
  {
    era: 'QEMU 1.3 on',
    doc: 'The kernel does not put the group under an IOMMU of VFIO (VFIO_SET_IOMMU): its log says why. Newer versions begin with a capital letter.',
    example:
      'qemu-system-x86_64: -device vfio-pci,host=03:00.0: vfio 0000:03:00.0: failed to setup container for group 12: Failed to set iommu for container: Operation not permitted',
  },
)

/** A group is not taken into a container. */
export const QEMU_SET_CONTAINER = kernelLine(
  'qemu-set-container',
  '{before:text}ailed to set group container: {why:text}',
  {
    era: 'QEMU 1.3 on',
    doc: 'The kernel does not take the group into a container of VFIO (VFIO_GROUP_SET_CONTAINER): since Linux 5.19 it takes its devices from other owners there.',
    example:
      'qemu-system-x86_64: -device vfio-pci,host=01:00.0: vfio 0000:01:00.0: failed to setup container for group 15: Failed to set group container: Invalid argument',
  },
)

/** Not all memory of a guest could be mapped. */
export const QEMU_LISTENER = kernelLine(
  'qemu-listener',
  '{before:text}memory listener initialization failed for container: {why:text}',
  {
    era: 'QEMU 2.5-4.2',
    doc: 'A mapping of the memory of the guest failed while the device was set up. Lines before it say which; newer versions say it here.',
    example:
      'qemu-system-x86_64: vfio error: 0000:03:00.0: failed to setup container for group 12: memory listener initialization failed for container: Cannot allocate memory',
  },
)

/** QEMU gives up. */
export const QEMU_GIVES_UP = kernelLine('qemu-gives-up', 'vfio: DMA mapping failed, unable to continue', {
  heads: ['hardware error: ', ''],
  era: 'QEMU 1.3 on',
  doc: 'A mapping failed after the machine had started: QEMU ends.',
  example: 'qemu: hardware error: vfio: DMA mapping failed, unable to continue',
})

/** A group with a device that someone else has. */
export const QEMU_NOT_VIABLE = kernelLine('qemu-not-viable', '{before:text}group {group:d} is not viable', {
  era: 'QEMU 1.3 on',
  doc: 'A device of the group is bound to a driver that is not one of VFIO.',
  example: 'qemu-system-x86_64: -device vfio-pci,host=01:00.0: vfio 0000:01:00.0: group 1 is not viable',
})

/** A guest maps what is no memory. */
export const QEMU_NO_MEMORY = kernelLine('qemu-no-memory', 'iommu map to non memory area {address:x}', {
  era: 'QEMU 2.x on',
  doc: 'The guest has mapped an address for a device that is no RAM of it: the mapping is skipped.',
  example: 'qemu-system-x86_64: iommu map to non memory area fed00000',
})

/** The unit cannot tell of mappings. */
export const QEMU_CACHING = kernelLine(
  'qemu-caching',
  '{before:text}device {device:word} requires caching mode{more:text}',
  {
    era: 'QEMU 8.0 on, and stable 7.2',
    doc: 'The guest has an intel-iommu without caching-mode=on: the unit is not told of new mappings, and a passed-through device cannot follow. Bus, slot and function of the guest stand with dots.',
    example:
      'qemu-system-x86_64: -device vfio-pci,host=3b:00.0: vfio 0000:3b:00.0: memory listener initialization failed: Region vtd-00.0-dmar: device 01.00.0 requires caching mode: Operation not supported',
  },
)

/** The same of all devices at once. */
export const QEMU_CACHING_ALL = kernelLine(
  'qemu-caching-all',
  'We need to set caching-mode=on for intel-iommu to enable device assignment with IOMMU protection.',
  {
    era: 'QEMU 7.2, and others',
    doc: 'QEMU ends: a device is passed through, and the intel-iommu of the guest has no caching mode.',
    example:
      'qemu-system-x86_64: We need to set caching-mode=on for intel-iommu to enable device assignment with IOMMU protection.',
  },
)
export const QEMU_CACHING_PLUG = kernelLine(
  'qemu-caching-plug',
  '{before:text}Device assignment is not allowed without enabling caching-mode=on for Intel IOMMU.',
  {
    era: 'QEMU 7.2, and others',
    doc: 'A device is to be plugged in and passed through, and the intel-iommu of the guest has no caching mode.',
    example:
      'Error: vfio 0000:3b:00.0: Failed to set vIOMMU: Device assignment is not allowed without enabling caching-mode=on for Intel IOMMU.',
  },
)

/** Lines of VFIO, of the kernel and of QEMU. */
export const VFIO_LINES = declareLineFamily({
  id: 'vfio',
  title: 'VFIO',
  source:
    'Linux v3.6-v6.12 drivers/vfio/vfio_iommu_type1.c; QEMU 1.3-10.0 hw/vfio/common.c, container.c, listener.c; texts of the programs 7.2.22, 10.0.2, 11.1.3; real logs',
  isModelled: true,
  mentions: ['RLIMIT_MEMLOCK', 'VFIO_MAP_DMA', 'vfio error', 'for container', 'container for group'],
  templates: [
    VFIO_MEMLOCK,
    VFIO_MEMLOCK_TASK,
    VFIO_UNSAFE,
    QEMU_DMA_MAP,
    QEMU_DMA_UNMAP,
    QEMU_MAP_FAILED,
    QEMU_MAP_FAILED_OPTION,
    QEMU_MAP_ERRNO,
    QEMU_MAP_ERRNO_OPTION,
    QEMU_SET_IOMMU,
    QEMU_SET_CONTAINER,
    QEMU_LISTENER,
    QEMU_GIVES_UP,
    QEMU_NOT_VIABLE,
    QEMU_NO_MEMORY,
    QEMU_CACHING,
    QEMU_CACHING_ALL,
    QEMU_CACHING_PLUG,
  ],
})
