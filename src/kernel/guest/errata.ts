import { declareErrata } from '../../bits/errata.ts'

/** Where the guest kernel of some versions does not do what its interface promises. */
export const GUEST_ERRATA = declareErrata([
  {
    id: 'B11',
    title: 'buffers are cut at IOMMU pages that are larger than system pages',
    kind: 'defect',
    family: 'linux',
    versions: [{ until: '6.1.30' }, { since: '6.2', until: '6.3.4' }],
    wrong:
      'dma_alloc_coherent and dma_free_coherent divide the length by the IOMMU page and forget the rest: a buffer smaller than an IOMMU page gets no entry and the call fails with a warning, a longer one is mapped in part. The handle is that of the IOMMU page, not that of the buffer in it; dma_map_sg keeps only the offset in the system page.',
    right:
      'The length is rounded up to IOMMU pages, and the handle carries the offset of the buffer in its IOMMU page.',
    source:
      'Linux v6.1 arch/powerpc/kernel/iommu.c, iommu_alloc_coherent; fixed by 096339ab84f3 (v6.4, v6.1.30); 3c0468d4451e (v5.13-rc1) had it first and was reverted by 59cc84c802eb before v5.13',
    evidence: 'source',
    scenario: 'scenarios/errata/b11-coherent-rounding.yaml',
    finding: 'dma-not-granted',
  },
  {
    id: 'X11',
    title: 'errors of the hypervisor are hidden from drivers',
    kind: 'defect',
    family: 'linux',
    versions: [{}],
    wrong:
      'Any error but H_NOT_ENOUGH_RESOURCES is logged, and the mapping reported as made: the driver gets a bus address without an entry.',
    right: 'The mapping fails, and its slots are free again.',
    source:
      'Linux v6.1 arch/powerpc/platforms/pseries/iommu.c, tce_build_pSeriesLP, tce_buildmulti_pSeriesLP',
    evidence: 'source',
    scenario: 'scenarios/errata/x11-hidden-hcall-error.yaml',
    finding: 'allocator-drift',
  },
  {
    id: 'X12',
    title: 'the last IOMMU page of a memory range is left out of a direct window',
    kind: 'quirk',
    family: 'linux',
    versions: [{ since: '2.6.39' }],
    wrong:
      'A range that ends inside an IOMMU page is mapped up to that page only; one that is shorter than an IOMMU page asks for 0 entries.',
    right: 'Every IOMMU page that the range touches is mapped.',
    source:
      'Linux v6.1 arch/powerpc/platforms/pseries/iommu.c, tce_setrange_multi_pSeriesLP, tce_clearrange_multi_pSeriesLP',
    evidence: 'source',
    scenario: 'scenarios/errata/x12-partial-last-page.yaml',
  },
  {
    id: 'X13',
    title: 'memory that comes is mapped one to one into windows that are allocated from',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.15', until: '6.5' }],
    wrong:
      'Onlining memory writes its entries into every window that the kernel made, over live mappings of dynamic ones; offlining clears them there.',
    right: 'Only direct windows follow memory, and only memory below the announced maximum.',
    source:
      'Linux v6.1 arch/powerpc/platforms/pseries/iommu.c, iommu_mem_notifier; dynamic windows since 381ceda88c4c (v5.15), direct ones only since d61cd13e732c (v6.5), the maximum since 6aa989ab2bd0 (v6.15)',
    evidence: 'source',
    scenario: 'scenarios/errata/x13-online-into-dynamic.yaml',
    finding: 'double-map',
  },
  {
    id: 'X15',
    title: 'the default window is removed without being cleared',
    kind: 'quirk',
    family: 'linux',
    versions: [{ since: '5.10' }],
    wrong:
      'The 20 bytes of ibm,dma-window are read as the 24 bytes of a window that the kernel made: page size and length are other numbers, shifts go beyond 64 bits, and as POWER shifts, H_STUFF_TCE is asked to clear 0 pages.',
    right: 'All entries of the default window are cleared before it is removed.',
    source:
      'Linux v6.1 arch/powerpc/platforms/pseries/iommu.c, remove_dma_window, clean_dma_window; since 8c0d51592f6f (v5.10)',
    evidence: 'inferred',
    scenario: 'scenarios/errata/x15-default-window-not-cleared.yaml',
  },
  {
    id: 'X16',
    title: 'a device counts as direct although its window could not be made',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.15.140' }],
    wrong:
      'Where making or filling the window fails after it was decided to be direct, the device gets direct operations with offset 0: memory addresses go out as bus addresses of the default window. A further mask, of this device or of another, finds the failure and uses the table, so that only drivers that set no coherent mask afterwards see it.',
    right: 'The device uses its IOMMU table.',
    source:
      'Linux v6.1 arch/powerpc/platforms/pseries/iommu.c, enable_ddw; since fb4ee2b30cd0 (v5.16, v5.15.140)',
    evidence: 'source',
    scenario: 'scenarios/errata/x16-direct-after-failure.yaml',
    finding: 'dma-not-granted',
  },
  {
    id: 'X17',
    title: 'the undo of refused entries is incomplete',
    kind: 'defect',
    family: 'linux',
    versions: [{}],
    wrong:
      'Where the hypervisor refuses the entries of an element of a list, the slots of that element stay taken for ever. Where it refuses the first batch, the undo asks H_STUFF_TCE to clear 0 pages.',
    right: 'The slots of the element are free again, and nothing is asked where nothing was set.',
    source:
      'Linux v6.1 arch/powerpc/kernel/iommu.c, ppc_iommu_map_sg; arch/powerpc/platforms/pseries/iommu.c, tce_buildmulti_pSeriesLP',
    evidence: 'source',
    scenario: 'scenarios/errata/x17-slots-stay-taken.yaml',
    finding: 'allocator-drift',
  },
  {
    id: 'zero-length-first',
    title: 'a list whose first element is empty is never unmapped',
    kind: 'defect',
    family: 'linux',
    versions: [{}],
    wrong:
      'The empty element keeps the first place of the mapped list with 0 bytes; dma_unmap_sg stops at 0 bytes, so it takes nothing back.',
    right: 'The first place is that of the first element that holds something.',
    source: 'Linux v6.1 arch/powerpc/kernel/iommu.c, ppc_iommu_map_sg, ppc_iommu_unmap_sg',
    evidence: 'source',
    scenario: 'scenarios/errata/zero-length-first-element.yaml',
    finding: 'leak-mapping',
  },
  {
    id: 'mask-below-window',
    title: 'a device gets addresses of a window that its mask does not reach',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.15' }],
    wrong:
      'Where a table lies wholly above a mask, the limit of the search wraps at 64 bits and the search succeeds: a device with a 32-bit coherent mask gets coherent memory at an address that it cuts off. So does a search of an empty pool, as a window of five IOMMU pages or less may have them: entries behind the window are given out.',
    right: 'Nothing in the window is in reach: the allocation fails. There is nothing in an empty pool.',
    source:
      'Linux v6.1 arch/powerpc/kernel/iommu.c, iommu_range_alloc; reachable with the dynamic windows of 381ceda88c4c (v5.15)',
    evidence: 'source',
    scenario: 'scenarios/errata/mask-below-window.yaml',
    finding: 'dma-not-granted',
  },
  {
    id: 'ddw-known-direct',
    title: 'a large dynamic window is taken for a direct one the second time',
    kind: 'defect',
    family: 'linux',
    versions: [
      { since: '5.15', until: '6.5.13' },
      { since: '6.6', until: '6.6.3' },
    ],
    wrong:
      'A window that is known and as large as memory counts as direct, also where it is allocated from: for the coherent mask of the device that it was made for, and for every further function of the endpoint. Their addresses lead to other buffers or nowhere.',
    right: 'A known window is direct only where memory was mapped into it.',
    source:
      'Linux v6.1 arch/powerpc/platforms/pseries/iommu.c, enable_ddw; fixed by 3bf983e4e93c (v6.7, v6.6.3, v6.5.13; not in 6.1.192)',
    evidence: 'source',
    scenario: 'scenarios/errata/ddw-known-direct.yaml',
    finding: 'dma-not-granted',
  },
  {
    id: 'stuff-at-once',
    title: 'a table is cleared with one call, however long it is',
    kind: 'quirk',
    family: 'linux',
    versions: [{ until: '5.15.116' }, { since: '5.16', until: '6.1.33' }, { since: '6.2', until: '6.3.7' }],
    wrong:
      'H_STUFF_TCE is asked for all entries of a table or of a mapping at once, more than the 512 that PAPR allows; firmware that holds to that refuses, and the entries stay.',
    right: 'Each call clears up to 512 entries.',
    source:
      'Linux v6.1 arch/powerpc/platforms/pseries/iommu.c, tce_freemulti_pSeriesLP; fixed by 9d2ccf00bddc (v6.4, v6.3.7, v6.1.33, v5.15.116)',
    evidence: 'source',
    scenario: 'scenarios/errata/stuff-at-once.yaml',
  },
  {
    id: 'sg-offset-twice',
    title: 'the end of memory counts as beyond the limit of direct access',
    kind: 'quirk',
    family: 'linux',
    versions: [{ since: '5.11' }],
    wrong:
      'Where direct access has a limit, the offset of an element in its system page is added twice before its end is compared with the limit: a list with a buffer at the end of memory goes through the table.',
    right: 'A list goes through the table where an element really ends above the limit.',
    source: 'Linux v6.1 arch/powerpc/kernel/dma-iommu.c, arch_dma_map_sg_direct; since bf6e2d562bbc (v5.11)',
    evidence: 'source',
    scenario: 'scenarios/errata/sg-offset-twice.yaml',
  },
])
