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
])
