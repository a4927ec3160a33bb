import { declareLineFamily, kernelLine } from './line-format.ts'

/** A request of a device was not translated. */
export const QEMU_TRANSLATION = kernelLine(
  'qemu-translation',
  'vtd_iommu_translate: detected translation failure (dev={bus:x}:{slot:x}:{function:x}, iova=0x{iova:x})',
  {
    era: 'QEMU 3.0 on',
    doc: 'The emulated unit refused a request. Printed once in the life of a process, whatever follows.',
    example:
      'qemu-system-x86_64: vtd_iommu_translate: detected translation failure (dev=00:04:00, iova=0x1000)',
  },
)

/** An entry does not allow the request. */
export const QEMU_PERMISSION = kernelLine(
  'qemu-permission',
  'detected {tables:word} permission error (iova=0x{iova:x}, level=0x{level:x}, {name:word}=0x{entry:x}, write={write:d}, pasid=0x{pasid:x})',
  {
    heads: ['vtd_iova_to_slpte: ', 'vtd_iova_to_sspte: '],
    era: 'QEMU 7.2 on',
    doc: 'The walk met an entry without the right that is needed: its level and its value. An entry of 0 maps nothing. Printed once in the life of a process.',
    example:
      'qemu-system-x86_64: vtd_iova_to_slpte: detected slpte permission error (iova=0x1000, level=0x3, slpte=0x0, write=0, pasid=0xffffffff)',
  },
)

/** The same before requests had a PASID. */
export const QEMU_PERMISSION_OLD = kernelLine(
  'qemu-permission-old',
  'detected slpte permission error (iova=0x{iova:x}, level=0x{level:x}, slpte=0x{entry:x}, write={write:d})',
  {
    heads: ['vtd_iova_to_slpte: '],
    era: 'QEMU 3.0-7.1',
    doc: 'The walk met an entry without the right that is needed. Printed once in the life of a process.',
    example:
      'qemu-system-x86_64: vtd_iova_to_slpte: detected slpte permission error (iova=0x1000, level=0x3, slpte=0x0, write=0)',
  },
)

/** An address with too many bits. */
export const QEMU_OVERFLOW = kernelLine(
  'qemu-overflow',
  'detected IOVA overflow (iova=0x{iova:x},pasid=0x{pasid:x})',
  {
    heads: ['vtd_iova_to_slpte: ', 'vtd_iova_to_sspte: '],
    era: 'QEMU 3.0 on',
    doc: 'The address has more bits than the context entry allows. Printed once in the life of a process.',
    example:
      'qemu-system-x86_64: vtd_iova_to_slpte: detected IOVA overflow (iova=0x8000000000,pasid=0xffffffff)',
  },
)

/** A context entry that is no good. */
export const QEMU_CONTEXT = kernelLine(
  'qemu-context',
  'invalid context entry: hi={high:x}, lo={low:x} ({why:text})',
  {
    heads: ['vtd_dev_to_context_entry: ', 'vtd_context_entry_rsvd_bits_check: ', 'vtd_ce_type_check: '],
    era: 'QEMU 3.0 on',
    doc: 'The context entry asks for what the unit has not, or has reserved bits set. Printed once in the life of a process.',
    example:
      'qemu-system-x86_64: vtd_dev_to_context_entry: invalid context entry: hi=107, lo=102001 (level 9 not supported)',
  },
)

/** A root entry that is no good. */
export const QEMU_ROOT = kernelLine('qemu-root', 'invalid root entry: hi=0x{high:x}, lo=0x{low:x}', {
  heads: ['vtd_root_entry_rsvd_bits_check: '],
  era: 'QEMU 3.0 on',
  doc: 'The root entry has reserved bits set. Printed once in the life of a process.',
  example: 'qemu-system-x86_64: vtd_root_entry_rsvd_bits_check: invalid root entry: hi=0x0, lo=0x101801',
})

/** An invalidation that is no good. */
export const QEMU_DESCRIPTOR = kernelLine(
  'qemu-descriptor',
  '{step:word}: invalid {kind:word} desc: {words:text}',
  {
    heads: ['vtd_process_'],
    era: 'QEMU 3.0 on',
    doc: 'The unit stops its invalidation queue at a descriptor that it does not take. Printed once in the life of a process.',
    example: 'qemu-system-x86_64: vtd_process_wait_desc: invalid wait desc: hi=0, lo=5 (unknown type)',
  },
)

/** A fault that left no record. */
export const QEMU_NOT_RECORDED = kernelLine(
  'qemu-not-recorded',
  'New fault is not recorded due to {why:text}',
  {
    era: 'QEMU 3.0 on',
    doc: 'The one fault record of the unit is taken: the guest cannot see this fault. Printed once in the life of a process.',
    example: 'qemu-system-x86_64: New fault is not recorded due to compression of faults',
  },
)

/** A fault that nobody is told of. */
export const QEMU_MASKED = kernelLine('qemu-masked', 'Interrupt Mask set, irq is not generated', {
  era: 'QEMU 3.0 on',
  doc: 'A fault was recorded, and its interrupt is masked: the guest is not told. Printed once in the life of a process.',
  example: 'qemu-system-x86_64: Interrupt Mask set, irq is not generated',
})

/** Events of a trace: what stands before the rest of their names. */
const EVENT_STARTS = [
  ['vtd', '32064@1700000000.123456:vtd_dmar_fault sid 0x20 fault 6 addr 0x1000 write 0'],
  ['spapr', 'spapr_iommu_get liobn=0x80000001 ioba=0x1000 ret=0 tce=0x0'],
  ['vfio', 'vfio_listener_region_add_ram region_add [ram] 0x0 - 0x9ffff [0x7f8fcbe00000]'],
  ['vhost', 'vhost_iotlb_miss 0x55d0c1a5e2a0 step 1'],
] as const

/** Lines of a trace, by how they begin. */
export const QEMU_EVENTS = EVENT_STARTS.map(([start, example]) =>
  kernelLine(`qemu-trace-${start}`, `${start}_{event:name} {more:long}`, {
    era: 'QEMU',
    doc: 'An event of a trace of QEMU: what each means stands in the declared format of such traces.',
    example,
  }),
)

/** Lines of QEMU's intel-iommu. */
export const QEMU_LINES = declareLineFamily({
  id: 'qemu-vtd',
  title: "QEMU's intel-iommu",
  source: 'stderr of QEMU 7.2.22, 10.0.2 and 11.1.3, driven to each of these; hw/i386/trace-events',
  isModelled: true,
  mentions: [],
  templates: [
    QEMU_TRANSLATION,
    QEMU_PERMISSION,
    QEMU_PERMISSION_OLD,
    QEMU_OVERFLOW,
    QEMU_CONTEXT,
    QEMU_ROOT,
    QEMU_DESCRIPTOR,
    QEMU_NOT_RECORDED,
    QEMU_MASKED,
    ...QEMU_EVENTS,
  ],
})
