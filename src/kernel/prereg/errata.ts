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
    source: `${SOURCE}; since 7a3a4d763837 (v5.1), in pieces of 2^21 pages`,
    evidence: 'run',
    scenario: 'scenarios/errata/partial-pin-count.yaml',
    finding: 'range-mismatch',
  },
  {
    id: 'page-shift-unchecked',
    title: 'a region backs IOMMU pages of every size',
    kind: 'quirk',
    family: 'linux',
    versions: [{ since: '4.2', until: '4.18' }],
    wrong:
      'A region knows nothing of page sizes: the address of its memory is told for IOMMU pages that are larger than the pages behind it. VFIO looks at each page itself, and answers -EPERM.',
    right: 'Such an IOMMU page has no address in the region: VFIO answers -EINVAL.',
    source:
      'Linux v4.9 arch/powerpc/mm/mmu_context_iommu.c and v6.1 arch/powerpc/mm/book3s64/iommu_api.c, mm_iommu_ua_to_hpa; changed by 76fa4975f3ed (v4.18), which later releases of older series may have',
    evidence: 'source',
    scenario: 'scenarios/errata/page-shift-unchecked.yaml',
  },
  {
    id: 'overlap-before-charge',
    title: 'overlap is looked for before memory is charged and pinned',
    kind: 'change',
    family: 'linux',
    versions: [{ since: '4.2', until: '5.1' }],
    wrong:
      'A range that overlaps a region is refused with -EINVAL before anything else, also where it passes the limit or is not mapped.',
    right:
      'The charge, the record and the pins come first, each with its own refusal; then overlap is refused.',
    source: `${SOURCE}; changed by eb9d7a62c386 (v5.1), which does not hold the list while it pins`,
    evidence: 'source',
    scenario: 'scenarios/errata/overlap-before-charge.yaml',
  },
])
