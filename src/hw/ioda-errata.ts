import { declareErrata } from '../bits/errata.ts'

/** Where the kernel of a bare-metal POWER host does not keep its PHBs as it should. */
export const IODA_ERRATA = declareErrata([
  {
    id: 'unlinked-window',
    title: 'a window whose link to its table has no memory is programmed all the same',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '4.2' }],
    wrong:
      'Nobody looks at the answer of pnv_pci_link_table_and_group. Without the link the PE uses a table that does not know it: no kill of entries reaches its TCE cache, and a table of the kernel is forgotten with its reference when the PE is handed out.',
    right: 'set_window answers -ENOMEM, and the window does nothing.',
    source:
      'Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda.c, pnv_pci_ioda2_set_window, pnv_ioda2_take_ownership; pci-ioda-tce.c, pnv_pci_link_table_and_group; the same since v4.2. References of tables are counted since v4.12',
    evidence: 'source',
    scenario: 'scenarios/errata/unlinked-window.yaml',
    finding: 'stale-tce',
  },
  {
    id: 'bypass-stays-on',
    title: 'a PE without a default table is handed out with its bypass window',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '6.4' }],
    wrong:
      'pnv_ioda2_take_ownership takes a PE that knows no table in window 0 for one that it has handed out already: it answers 0 and changes nothing. Where the link to the default table had no memory the PE knows none either, and the process gets it with the window that reaches all memory of the host.',
    right: 'The bypass window is taken away whatever table there is.',
    source:
      'Linux v6.12 arch/powerpc/platforms/powernv/pci-ioda.c, pnv_ioda2_take_ownership, pnv_pci_ioda2_setup_default_config; since "powerpc/iommu: Add iommu_ops to report capabilities and allow blocking domains" (v6.4)',
    evidence: 'source',
    scenario: 'scenarios/errata/bypass-stays-on.yaml',
    finding: 'foreign-memory',
  },
  {
    id: 'phb3-endless-kill',
    title: 'to kill no entries from the first one on never ends on a PHB3',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.4' }],
    wrong:
      'The last entry of a kill is first + count - 1: for none from entry 0 on that is the highest number there is, and the stores to the kill register go round for ever. A mapping or unmapping of 0 bytes at bus address 0 does so, and so does a mapping there that fails at its first page. Before Linux 5.18 a guest of KVM does so with a hypercall for 0 pages (B2).',
    right: 'Nothing is stored.',
    source:
      'Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda.c, pnv_pci_phb3_tce_invalidate; drivers/vfio/vfio_iommu_spapr_tce.c, tce_iommu_build_v2, tce_iommu_clear; v5.17 arch/powerpc/kvm/book3s_64_vio.c and book3s_64_vio_hv.c, kvmppc_h_stuff_tce, kvmppc_h_put_tce_indirect. Before 5.4 every kill is of one entry',
    evidence: 'source',
    scenario: 'scenarios/errata/phb3-endless-kill.yaml',
    finding: 'stopped',
  },
])
