import { declareErrata } from '../bits/errata.ts'

const PHBS = 'QEMU 7.2 hw/pci-host/pnv_phb4.c and pnv_phb3.c'
/** The bare-metal machines with their PHBs. */
const SINCE_PNV_PHB = [{ since: '5.0' }]

/** Where host bridges of emulated bare-metal machines do not behave as the hardware does. */
export const HW_ERRATA = declareErrata([
  {
    id: 'Q13',
    title: 'no PE is ever frozen',
    kind: 'quirk',
    family: 'qemu',
    versions: SINCE_PNV_PHB,
    wrong:
      'A PHB of the powernv machines logs a DMA that meets no TCE or no permission; the PE goes on, and software sees no error. A PE that software freezes, as a reset by VFIO_EEH_PE_OP does, goes on too.',
    right:
      'The PE is frozen: registers read as all ones, and no DMA of it gets through until it is recovered.',
    source: `${PHBS}, translation of a TVE: it writes no PEST entry; Linux 6.12.95 on powernv9 (VFIO_EEH_PE_OP)`,
    evidence: 'run',
    scenario: 'scenarios/errata/q13-no-freeze.yaml',
  },
  {
    id: 'Q14',
    title: 'a PHB remembers no TCE',
    kind: 'quirk',
    family: 'qemu',
    versions: SINCE_PNV_PHB,
    wrong:
      'Each DMA reads the TCE from memory, and the TCE kill register does nothing: software that forgets a kill goes unnoticed.',
    right: 'TCEs are remembered until they are killed.',
    source: `${PHBS}, translation of a TVE; PHB_TCE_KILL`,
    evidence: 'source',
    scenario: 'scenarios/errata/q14-no-tce-cache.yaml',
  },
  {
    id: 'Q15',
    title: 'a bus address past a window begins at its start again',
    kind: 'quirk',
    family: 'qemu',
    versions: SINCE_PNV_PHB,
    wrong:
      'Of a bus address in a window only the bits count that the levels of the table tell apart: what lies past the table reads and writes the pages that its first entries map. In a window without a table only 50 bits count, and its ends do not.',
    right: 'A bus address past the table or the ends of the window leads nowhere: the DMA fails.',
    source: `${PHBS}, translation of a TVE: an index is masked, the bits above it are not looked at, nor the ends of a window without a table; Linux 6.12.95 on powernv9 (windows with a table)`,
    evidence: 'run',
    scenario: 'scenarios/errata/q15-window-wraps.yaml',
  },
  {
    id: 'Q16',
    title: 'firmware injects errors of configuration space only, and nothing comes of them',
    kind: 'quirk',
    family: 'qemu',
    versions: SINCE_PNV_PHB,
    wrong:
      'VFIO_EEH_PE_OP answers 0 to an error of configuration space, and the PE is not frozen; to any other error it answers EIO.',
    right: 'The error is armed, and the next access of its kind freezes the PE.',
    source: 'Linux 6.12.95 on powernv9 of QEMU 7.2 with its firmware: 24 errors of both types',
    evidence: 'run',
    scenario: 'scenarios/errata/q16-no-injection.yaml',
  },
])
