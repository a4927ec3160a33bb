import { declareErrata } from '../../bits/errata.ts'

/** Where the kernel's error handling of PCI changed. */
export const EEH_ERRATA = declareErrata([
  {
    id: 'eeh-type-in-core',
    title: 'the type of an error to inject is checked before its function',
    kind: 'change',
    family: 'linux',
    versions: [{ since: '4.1', until: '6.12' }],
    wrong: 'VFIO_EEH_PE_INJECT_ERR looks at the type first, and answers -EINVAL for one that is not known.',
    right: 'The platform looks at the type, after the function; PowerNV answers -ERANGE.',
    source:
      'Linux v6.1 arch/powerpc/kernel/eeh.c, eeh_pe_inject_err; since “powerpc/pseries/eeh: Fix pseries_eeh_err_inject” in the platform',
    evidence: 'inferred',
    scenario: 'scenarios/errata/eeh-type-in-core.yaml',
  },
])
