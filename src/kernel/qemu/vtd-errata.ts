import { declareErrata } from '../../bits/errata.ts'

const VTD = 'hw/i386/intel_iommu.c'

/** Where QEMU's intel-iommu, and vhost behind it, do not pass on what the guest has taken back. */
export const VTD_ERRATA = declareErrata([
  {
    id: 'VD1',
    title: 'a flush of a domain reaches nobody',
    kind: 'defect',
    family: 'qemu',
    versions: [{ since: '3.0', until: '8.0' }],
    wrong:
      'A global or domain-selective flush of the IOTLB walks the page tables, and a listener that hears UNMAP is told only of pages that an earlier such walk had found mapped. What was mapped and taken back between two flushes stays in the IOTLB of vhost.',
    right: 'A listener that hears no MAP is told that all of its bus addresses are gone.',
    source: `QEMU 7.2 ${VTD}, vtd_sync_shadow_page_table; commit "intel-iommu: send UNMAP notifications for domain or global inv desc" (8.0). Run on 7.2.22 and 10.0.2 with a guest in lazy mode`,
    evidence: 'run',
    scenario: 'scenarios/errata/vd1-domain-flush-unheard.yaml',
    finding: 'stale-iotlb',
  },
  {
    id: 'VD2',
    title: 'vhost listens to the device-TLB alone, whether the guest uses it or not',
    kind: 'defect',
    family: 'qemu',
    versions: [
      { since: '6.0', until: '7.2.5' },
      { since: '8.0', until: '8.0.4' },
    ],
    wrong:
      'vhost asks for DEVIOTLB_UNMAP first and takes UNMAP only where the vIOMMU refuses. A guest that never switches ATS on sends no device-TLB invalidation, so that no invalidation reaches vhost at all.',
    right: 'vhost hears DEVIOTLB_UNMAP while ATS is on in the device, and else UNMAP.',
    source:
      'QEMU 7.2 hw/virtio/vhost.c, vhost_iommu_region_add; commit "vhost: register and change IOMMU flag depending on Device-TLB state" (8.1; in 7.2.5 and 8.0.4)',
    evidence: 'source',
    scenario: 'scenarios/errata/vd2-device-tlb-only.yaml',
    finding: 'stale-iotlb',
  },
  {
    id: 'VD3',
    title: 'a vIOMMU without a device-TLB takes listeners to it',
    kind: 'defect',
    family: 'qemu',
    versions: [{ since: '6.0', until: '7.2.1' }],
    wrong:
      'intel-iommu accepts a notifier for DEVIOTLB_UNMAP also without device-iotlb=on, where no guest ever sends a device-TLB invalidation.',
    right: 'The notifier is refused, and vhost takes another.',
    source: `QEMU 7.2.0 ${VTD}, vtd_iommu_notify_flag_changed; commit "intel-iommu: fail DEVIOTLB_UNMAP without dt mode" (8.0; in 7.2.1)`,
    evidence: 'source',
    scenario: 'scenarios/errata/vd3-device-tlb-not-there.yaml',
    finding: 'stale-iotlb',
  },
  {
    id: 'VD4',
    title: 'an invalidation across the end of a section ends QEMU',
    kind: 'defect',
    family: 'qemu',
    versions: [{ since: '4.1', until: '10.2' }],
    wrong:
      'An invalidation that overlaps an end of the section of an UNMAP notifier fails an assertion, wanted or not: a flush of the whole device-TLB while ATS is off, or of pages with an address mask that reaches the interrupt addresses.',
    right: 'The range is cropped to the section.',
    source:
      'QEMU 7.2 softmmu/memory.c, memory_region_notify_iommu_one; commit "memory: Adjust event ranges to fit within notifier boundaries" (10.2)',
    evidence: 'source',
    scenario: 'scenarios/errata/vd4-section-end.yaml',
    finding: 'stopped',
  },
  {
    id: 'VD5',
    title: 'a flush of pages begins at its address as given',
    kind: 'defect',
    family: 'qemu',
    versions: [{ since: '3.0' }],
    wrong:
      'A page-selective flush of 2^AM pages reaches listeners as that many pages from the given address on, also where that is no multiple of them: pages before it in their block are not told.',
    right: 'The address is aligned down to the number of pages.',
    source: `QEMU 7.2 ${VTD}, vtd_iotlb_page_invalidate_notify`,
    evidence: 'source',
    scenario: 'scenarios/errata/vd5-unaligned-flush.yaml',
    finding: 'stale-iotlb',
  },
])
