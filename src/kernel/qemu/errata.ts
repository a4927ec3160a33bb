import { declareErrata } from '../../bits/errata.ts'

const SPAPR_IOMMU = 'QEMU 7.2 hw/ppc/spapr_iommu.c'
const SPAPR_DDW = 'QEMU 7.2 hw/ppc/spapr_rtas_ddw.c'
const EDU = 'QEMU 7.2 hw/misc/edu.c'

/** Multi-TCE hypercalls in QEMU's own code. */
const SINCE_MULTI_TCE = [{ since: '2.3' }]
/** Dynamic DMA windows in QEMU. */
const SINCE_DDW = [{ since: '2.7' }]

/** Where QEMU's pseries machine and its edu device deviate from what their interfaces promise. */
export const QEMU_ERRATA = declareErrata([
  {
    id: 'Q1',
    title: 'IOBA rounded down',
    kind: 'quirk',
    family: 'qemu',
    versions: SINCE_MULTI_TCE,
    wrong: 'The TCE hypercalls round an IOBA down to its IOMMU page and go on.',
    right: 'An IOBA that is no multiple of the IOMMU page is refused with H_PARAMETER, as KVM does.',
    source: SPAPR_IOMMU,
    evidence: 'run',
    scenario: 'scenarios/errata/q1-ioba-rounded-down.yaml',
  },
  {
    id: 'Q2',
    title: 'H_STUFF_TCE takes permission bits',
    kind: 'quirk',
    family: 'qemu',
    versions: SINCE_MULTI_TCE,
    wrong: 'H_STUFF_TCE accepts a value with permission bits and maps one page behind many entries.',
    right: 'A value with permission bits is refused with H_PARAMETER, as KVM does.',
    source: SPAPR_IOMMU,
    evidence: 'run',
    scenario: 'scenarios/errata/q2-stuff-maps.yaml',
  },
  {
    id: 'Q3',
    title: 'zero pages refused',
    kind: 'quirk',
    family: 'qemu',
    versions: SINCE_MULTI_TCE,
    wrong: 'H_STUFF_TCE and H_PUT_TCE_INDIRECT of 0 pages answer H_PARAMETER.',
    right: 'Nothing is to be done, and that succeeds: H_SUCCESS, as KVM answers.',
    source: SPAPR_IOMMU,
    evidence: 'run',
    scenario: 'scenarios/errata/q3-zero-pages.yaml',
  },
  {
    id: 'Q4',
    title: 'TCE not checked',
    kind: 'quirk',
    family: 'qemu',
    versions: SINCE_MULTI_TCE,
    wrong:
      'A TCE is stored whatever its address is: the bits below the IOMMU page are ignored later, and a page without memory fails at the DMA.',
    right:
      'A TCE with permissions must hold an address that is a multiple of the IOMMU page, and all of that page must be guest memory; else H_PARAMETER.',
    source: SPAPR_IOMMU,
    evidence: 'run',
    scenario: 'scenarios/errata/q4-tce-unchecked.yaml',
  },
  {
    id: 'Q5',
    title: 'partial effect kept',
    kind: 'quirk',
    family: 'qemu',
    versions: SINCE_MULTI_TCE,
    wrong:
      'H_STUFF_TCE and H_PUT_TCE_INDIRECT that run over the end of the window answer H_PARAMETER with the entries before the end written.',
    right: 'A call that is refused writes nothing.',
    source: SPAPR_IOMMU,
    evidence: 'run',
    scenario: 'scenarios/errata/q5-partial-effect.yaml',
  },
  {
    id: 'Q6',
    title: 'unreadable list reads as zeros',
    kind: 'quirk',
    family: 'qemu',
    versions: SINCE_MULTI_TCE,
    wrong:
      'H_PUT_TCE_INDIRECT with a list outside guest memory writes zeros: it unmaps, and answers H_SUCCESS.',
    right: 'A list outside guest memory is refused with H_PARAMETER.',
    source: SPAPR_IOMMU,
    evidence: 'run',
    scenario: 'scenarios/errata/q6-unreadable-list.yaml',
  },
  {
    id: 'Q7',
    title: 'default-window flag sticks to its table',
    kind: 'defect',
    family: 'qemu',
    versions: [{ since: '7.1' }],
    wrong:
      'The first table of a PHB counts as the default window for ever: a dynamic window that opens there later is removed without the default one coming back, and the device has no window at all.',
    right:
      'The flag goes with the window: removing the last window, if it is not the default one, restores that.',
    source: SPAPR_DDW,
    evidence: 'run',
    scenario: 'scenarios/errata/q7-no-window-left.yaml',
    finding: 'dma-not-granted',
  },
  {
    id: 'Q8',
    title: 'two windows at one bus address',
    kind: 'defect',
    family: 'qemu',
    versions: SINCE_DDW,
    wrong:
      'A window that opens beside another one always starts at the 64-bit address, also where the other is there: the window of the second table hides the other one.',
    right: 'The new window starts at an address where no window is in the way, or the call fails.',
    source: SPAPR_DDW,
    evidence: 'run',
    scenario: 'scenarios/errata/q8-windows-overlap.yaml',
    finding: 'dma-not-granted',
  },
  {
    id: 'Q9',
    title: 'window of 2^32 entries loses the table',
    kind: 'defect',
    family: 'qemu',
    versions: SINCE_DDW,
    wrong:
      'The count of entries is cut to 32 bits, so that it is 0: the call fails, but the memory region stays. The next window of that table adds it again and QEMU aborts.',
    right: 'The call fails and leaves nothing behind.',
    source: SPAPR_DDW,
    evidence: 'run',
    scenario: 'scenarios/errata/q9-abort-by-window.yaml',
    finding: 'stopped',
  },
  {
    id: 'Q10',
    title: 'fixed answer for the largest window',
    kind: 'quirk',
    family: 'qemu',
    versions: [{ since: '7.1' }],
    wrong:
      'ibm,query-pe-dma-window says 2^31 TCEs with 5 outputs and 2^37 with 6, also when no window can open; more than 2^31 cannot be had.',
    right: 'Both forms say the entries of the largest window that can open now: 2^31, or 0 where none can.',
    source: SPAPR_DDW,
    evidence: 'run',
    scenario: 'scenarios/errata/q10-largest-window.yaml',
  },
  {
    id: 'Q11',
    title: 'edu refuses to use the last byte of its buffer',
    kind: 'quirk',
    family: 'qemu',
    versions: [{ since: '2.3', until: '9.1' }],
    wrong:
      'A request that ends at the very end of the 4096-byte buffer, or has no byte at all, counts as out of bounds.',
    right: 'A request may use all of the buffer, and may be empty.',
    source: EDU,
    evidence: 'source',
    scenario: 'scenarios/errata/q11-edu-last-byte.yaml',
    finding: 'stopped',
  },
  {
    id: 'Q12',
    title: 'edu request out of bounds ends QEMU',
    kind: 'defect',
    family: 'qemu',
    versions: [{ since: '2.3', until: '9.1' }],
    wrong: 'A request that leaves the buffer of the edu device ends QEMU with a hardware error.',
    right: 'The device does not carry the request out; nothing else happens.',
    source: EDU,
    evidence: 'source',
    scenario: 'scenarios/errata/q12-edu-abort.yaml',
    finding: 'stopped',
  },
  {
    id: 'B12',
    title: 'overwriting a live TCE sends no UNMAP',
    kind: 'defect',
    family: 'qemu',
    versions: SINCE_MULTI_TCE,
    wrong:
      'A live entry that is overwritten by another live one is announced as MAP only: a listener that hears UNMAP only (vhost) goes on using the old page.',
    right: 'The old page is announced as UNMAP, then the new one as MAP.',
    source: SPAPR_IOMMU,
    evidence: 'source',
    scenario: 'scenarios/errata/b12-overwrite-without-unmap.yaml',
    finding: 'stale-iotlb',
  },
  {
    id: 'iotlb-perm-widening',
    title: 'a miss of vhost is answered with both permissions',
    kind: 'defect',
    family: 'qemu',
    versions: [{ since: '2.9' }],
    wrong:
      'QEMU looks whether the page may be read, or written, as vhost asks, and gives it for both: a device may write a page that the IOMMU lets it read only.',
    right: 'vhost gets the permissions that the IOMMU gives.',
    source:
      'QEMU 7.2 softmmu/physmem.c, address_space_get_iotlb_entry; hw/virtio/vhost.c, vhost_device_iotlb_miss',
    evidence: 'run',
    scenario: 'scenarios/errata/iotlb-perm-widening.yaml',
    finding: 'iotlb-mismatch',
  },
])
