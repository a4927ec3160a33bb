import { declareErrata } from '../../bits/errata.ts'

const DRIVER = 'drivers/iommu/intel/iommu.c'

/** Where Linux's driver of a VT-d unit flushes less than the unit needs. */
export const INTEL_IOMMU_ERRATA = declareErrata([
  {
    id: 'K6-unaligned-piotlb',
    title: 'a flush of first-level pages across their alignment misses the end',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.6', until: '6.10' }],
    wrong:
      'A page-selective flush of a DMA domain on the first level is one descriptor: the address is aligned down to the number of pages rounded up to a power of two, and what lies behind that block stays in the IOTLB. Two pages from 0x103 on are flushed as 0x102 and 0x103. TLBs of devices are told of as many pages around the first one, which may miss the end as well.',
    right:
      'As many aligned blocks as hold the pages are flushed, as for processes (intel_flush_svm_range_dev).',
    source: `Linux v6.1 ${DRIVER}, iommu_flush_iotlb_psi; dmar.c, qi_flush_piotlb. v6.10 has cache.c instead, which gives another block until "iommu/vt-d: Fix aligned pages in calculate_psi_aligned_address()"`,
    evidence: 'source',
    scenario: 'scenarios/errata/k6-unaligned-piotlb.yaml',
    finding: 'stale-translation',
  },
  {
    id: 'K6-caching-device-tlb',
    title: 'in caching mode a lazy flush leaves the TLBs of devices alone',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '4.14', until: '6.10' }],
    wrong:
      'A flush of a whole domain, as lazy unmapping has it, and the removal of a PASID entry send no device-TLB invalidation to a unit in caching mode: the driver takes it for granted that the host does. A device with a TLB that the host does not know keeps the translations.',
    right: 'TLBs of devices are flushed after the IOTLB, in caching mode too.',
    source: `Linux v6.1 ${DRIVER}, intel_flush_iotlb_all; pasid.c, intel_pasid_tear_down_entry. v6.10 cache.c, cache_tag_flush_all`,
    evidence: 'source',
    scenario: 'scenarios/errata/k6-caching-device-tlb.yaml',
    finding: 'stale-device-tlb',
  },
  {
    id: 'K6-iva-zero',
    title: 'a flush of page 0 by register flushes the page before',
    kind: 'defect',
    family: 'linux',
    versions: [{}],
    wrong:
      'Without an invalidation queue the address register is not written where it would be 0: one page at address 0, with tables changed too. The unit takes the address that was written last.',
    right: 'The address register is written for every page-selective flush.',
    source: `Linux v6.1 ${DRIVER}, __iommu_flush_iotlb`,
    evidence: 'source',
    scenario: 'scenarios/errata/k6-iva-zero.yaml',
    finding: 'stale-translation',
  },
])
