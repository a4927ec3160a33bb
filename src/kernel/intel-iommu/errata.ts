import { declareErrata } from '../../bits/errata.ts'

const DRIVER = 'drivers/iommu/intel/iommu.c'

/** Where Linux's driver of a VT-d unit flushes less than the unit needs. */
export const INTEL_IOMMU_ERRATA = declareErrata([
  {
    id: 'K6-iva-zero',
    title: 'a flush of page 0 by register flushes the page before',
    kind: 'quirk',
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
