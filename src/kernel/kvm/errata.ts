import { declareErrata } from '../../bits/errata.ts'

const VIRTUAL = 'arch/powerpc/kvm/book3s_64_vio.c'
const REAL = 'arch/powerpc/kvm/book3s_64_vio_hv.c'
/** The fix of B1 to B4. */
const FIX = '26a62b750a4e (v5.18); releases of stable series may have it earlier'

/** Where KVM of some kernels does not do what its interface promises, and where the interface changed. */
export const KVM_ERRATA = declareErrata([
  {
    id: 'B1',
    title: 'a failed hypercall clears entries by the number of the guest',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '4.18', until: '5.18' }],
    wrong:
      'Where a guest page of several hardware pages cannot be mapped, one entry is cleared whose number counts pages of the guest: another entry of the table, or memory far outside of it.',
    right: 'The entries of all hardware pages of the guest page are cleared.',
    source: `Linux v5.17 ${VIRTUAL}, kvmppc_clear_tce; ${REAL}, kvmppc_rm_clear_tce; since ca1fc489cfa0 (v4.18), fixed by ${FIX}`,
    evidence: 'source',
    scenario: 'scenarios/errata/b1-clears-by-guest-number.yaml',
  },
  {
    id: 'B2',
    title: 'TCE caches forget pages by the number of the guest',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.4', until: '5.18' }],
    wrong:
      'After a hypercall the TCE caches are told numbers that count pages of the guest: where those are larger than the pages of the hardware, the entries that changed stay cached.',
    right: 'The caches are told the hardware pages of every guest page that changed.',
    source: `Linux v5.17 ${VIRTUAL}, kvmppc_h_put_tce, kvmppc_h_put_tce_indirect; since 01b7d128b5a1 (v5.4), fixed by ${FIX}`,
    evidence: 'source',
    scenario: 'scenarios/errata/b2-kills-by-guest-number.yaml',
  },
  {
    id: 'B7',
    title: 'a guest window must have the exact form of the hardware table',
    kind: 'change',
    family: 'linux',
    versions: [{ since: '4.12', until: '4.19' }],
    wrong:
      'The guest window is rounded up to whole system pages of entries, and a hardware table backs it only where it is exactly as long.',
    right: 'The guest window is as long as it was asked for, and the hardware table may be longer.',
    source: `Linux v4.18 ${VIRTUAL}, kvm_spapr_tce_attach_iommu_group; changed by 76346cd93a5e (v4.19)`,
    evidence: 'source',
    scenario: 'scenarios/errata/b7-exact-window.yaml',
  },
  {
    id: 'B9',
    title: 'TCE caches are told of every hardware entry by itself',
    kind: 'quirk',
    family: 'linux',
    versions: [{ until: '5.4' }],
    wrong: 'One kill for each hardware entry that is swapped.',
    right: 'One kill for all hardware entries of a guest page.',
    source: `Linux v5.3 ${VIRTUAL}, kvmppc_tce_iommu_do_map; changed by 01b7d128b5a1 (v5.4)`,
    evidence: 'source',
    scenario: 'scenarios/errata/b9-kill-for-each-entry.yaml',
  },
  {
    id: 'X5',
    title: 'clearing after a failed hypercall forgets counts, user addresses and caches',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '4.20' }],
    wrong:
      'Hardware pages that were mapped before one failed are cleared, but their region keeps the counts, the table keeps their user addresses, and no cache is told: the region can never be unregistered.',
    right: 'They are taken back as an unmap does.',
    source: `Linux v6.1 ${VIRTUAL}, kvmppc_clear_tce; since c20577014f85 (v4.20)`,
    evidence: 'source',
    scenario: 'scenarios/errata/x5-clear-keeps-counts.yaml',
  },
  {
    id: 'equal-page-sizes',
    title: 'pages of the guest must be those of the hardware',
    kind: 'change',
    family: 'linux',
    versions: [{ since: '4.12', until: '4.18' }],
    wrong: 'A hardware table backs a guest window only where their page sizes are equal.',
    right: 'The pages of the hardware may be smaller.',
    source: `Linux v4.12 ${VIRTUAL}, kvm_spapr_tce_attach_iommu_group; changed by ca1fc489cfa0 (v4.18)`,
    evidence: 'source',
    scenario: 'scenarios/errata/equal-page-sizes.yaml',
  },
])
