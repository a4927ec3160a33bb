import { declareErrata } from '../../bits/errata.ts'

const SOURCE = 'Linux v6.1 arch/powerpc/mm/book3s64/iommu_api.c, mm_iommu_do_alloc'

/** Where preregistered memory of some versions does not do what its interface promises. */
export const PREREG_ERRATA = declareErrata([
  {
    id: 'X8',
    title: 'a region backs larger IOMMU pages than some of its memory does',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.1' }],
    wrong:
      'The page size of a huge page is taken for the ordinary pages behind it as well: a region that begins in huge pages and goes on in ordinary ones lets IOMMU pages of the huge size be made of its ordinary pages, which are not contiguous. VFIO looks at each page again and refuses; KVM does not.',
    right: 'A region backs IOMMU pages no larger than the smallest page in it.',
    source: `${SOURCE}; 4.19 asks for each page anew`,
    evidence: 'source',
    scenario: 'scenarios/errata/x8-region-page-shift.yaml',
    finding: 'foreign-memory',
  },
  {
    id: 'partial-pin-count',
    title: 'registering memory that is mapped in part answers a number of pages',
    kind: 'quirk',
    family: 'linux',
    versions: [{ since: '5.1' }],
    wrong:
      'Where some pages of a range were pinned before one could not be, their number is the answer of VFIO_IOMMU_SPAPR_REGISTER_MEMORY, which is not negative. Nothing stays pinned or charged, and nothing is registered.',
    right: 'The answer is -EFAULT.',
    source: `${SOURCE}; pages are counted in pieces of 2^21`,
    evidence: 'source',
    scenario: 'scenarios/errata/partial-pin-count.yaml',
  },
])
