import type { CallDecl } from '../bits/call.ts'
import type { Erratum } from '../bits/errata.ts'
import { bit, bits, type Word, word } from '../bits/word.ts'
import { RULES } from '../check/rules.ts'
import { DEVICE_CALLS } from '../hw/edu-calls.ts'
import { EDU_WORDS } from '../hw/edu-registers.ts'
import { HW_ERRATA } from '../hw/errata.ts'
import { IODA_ERRATA } from '../hw/ioda-errata.ts'
import { TVE } from '../hw/ioda-tve.ts'
import { KILL_WORDS } from '../hw/tce-kills.ts'
import { VIRTIO_BLK_FEATURES } from '../hw/virtio/features.ts'
import { VIRTQ_DESC } from '../hw/virtio/ring-layout.ts'
import { VTD_DESCRIPTOR_WORDS } from '../hw/vtd/descriptor-format.ts'
import { VTD_REGISTER_WORDS } from '../hw/vtd/register-format.ts'
import { VTD_TABLE_WORDS } from '../hw/vtd/tables/format.ts'
import { UNIT_ERRATA } from '../hw/vtd/unit-errata.ts'
import { ENDPOINT_CALLS } from '../hw/vtd-devices/endpoint-calls.ts'
import { EEH_CALLS } from '../kernel/eeh/calls.ts'
import { EEH_ERRATA } from '../kernel/eeh/errata.ts'
import { GUEST_CALLS } from '../kernel/guest/calls.ts'
import { GUEST_ERRATA } from '../kernel/guest/errata.ts'
import { VIRTIO_CALLS } from '../kernel/guest/virtio-calls.ts'
import { IOMMU_CALLS } from '../kernel/intel-iommu/calls.ts'
import { INTEL_IOMMU_ERRATA } from '../kernel/intel-iommu/errata.ts'
import { SVA_CALLS } from '../kernel/intel-iommu/sva/calls.ts'
import { SVA_ERRATA } from '../kernel/intel-iommu/sva/sva-errata.ts'
import { SVM_CALLS } from '../kernel/intel-iommu/svm/calls.ts'
import { SVM_ERRATA } from '../kernel/intel-iommu/svm-errata.ts'
import { KVM_CALLS } from '../kernel/kvm/calls.ts'
import { KVM_ERRATA } from '../kernel/kvm/errata.ts'
import { PREREG_ERRATA } from '../kernel/prereg/errata.ts'
import { CPU_CALLS } from '../kernel/process/cpu-calls.ts'
import { SYS_CALLS } from '../kernel/process/sys-calls.ts'
import { QEMU_CALLS } from '../kernel/qemu/calls.ts'
import { QEMU_ERRATA } from '../kernel/qemu/errata.ts'
import { VTD_ERRATA } from '../kernel/qemu/vtd-errata.ts'
import { TASK_CALLS } from '../kernel/step-calls.ts'
import { VFIO_CALLS } from '../kernel/vfio/calls.ts'
import { VFIO_ERRATA } from '../kernel/vfio/errata.ts'
import { VHOST_CALLS } from '../kernel/vhost/calls.ts'
import { VHOST_ERRATA } from '../kernel/vhost/errata.ts'
import { MEM_CALLS } from '../memory/mem-calls.ts'
import { PROC_CALLS } from '../memory/proc-calls.ts'
import { LOG_FORMATS as READER_FORMATS } from '../reader/detect.ts'
import type { LogFormat } from '../reader/log-format.ts'
import { TCE } from '../table/tce-entry.ts'
import type { Catalogue } from './scenario/catalogue.ts'
import { TICK_ADVANCE } from './tick-calls.ts'

/** How QEMU's pseries numbers its TCE tables. */
const LIOBN = word('LIOBN', 32, 'QEMU 7.2 include/hw/pci-host/spapr.h', {
  PCI: bit(31, 'ro', 'Set: a window of a PHB. Clear: a VIO device, and the whole word is its reg.'),
  PHB: bits(30, 8, 'ro', 'Index of the PHB.'),
  WINDOW: bits(7, 0, 'ro', 'Window of the PHB: 0 the default one, 1 the other.'),
})

/** Page sizes as ibm,query-pe-dma-window tells them: not in order of size. */
const DDW_PAGE_SIZES = word('DDW_PAGE_SIZES', 32, 'LoPAR, ibm,query-pe-dma-window', {
  P4K: bit(0, 'ro', '4 KiB pages.'),
  P64K: bit(1, 'ro', '64 KiB pages.'),
  P16M: bit(2, 'ro', '16 MiB pages.'),
  P32M: bit(3, 'ro', '32 MiB pages.'),
  P64M: bit(4, 'ro', '64 MiB pages.'),
  P128M: bit(5, 'ro', '128 MiB pages.'),
  P256M: bit(6, 'ro', '256 MiB pages.'),
  P16G: bit(7, 'ro', '16 GiB pages.'),
  P2M: bit(8, 'ro', '2 MiB pages.'),
})

/** How RTAS calls name a device of a PHB. */
const CFG_ADDR = word('CFG_ADDR', 32, 'LoPAR, PCI configuration address format', {
  BUS: bits(23, 16, 'ro', 'Bus.'),
  DEVICE: bits(15, 11, 'ro', 'Device.'),
  FUNCTION: bits(10, 8, 'ro', 'Function.'),
  REGISTER: bits(7, 0, 'ro', 'Register; 0 in the calls for DMA windows.'),
})

/** Every word that the model declares. */
export const WORDS: readonly Word[] = [
  TCE,
  LIOBN,
  CFG_ADDR,
  DDW_PAGE_SIZES,
  TVE,
  ...KILL_WORDS,
  ...EDU_WORDS,
  ...VTD_REGISTER_WORDS,
  ...VTD_DESCRIPTOR_WORDS,
  ...VTD_TABLE_WORDS,
  VIRTQ_DESC,
  VIRTIO_BLK_FEATURES,
]

/** Every call that the model answers. */
export const CALLS: readonly CallDecl[] = [
  ...QEMU_CALLS,
  ...GUEST_CALLS,
  ...VIRTIO_CALLS,
  ...VFIO_CALLS,
  ...EEH_CALLS,
  ...KVM_CALLS,
  ...VHOST_CALLS,
  ...DEVICE_CALLS,
  ...ENDPOINT_CALLS,
  ...MEM_CALLS,
  ...PROC_CALLS,
  ...IOMMU_CALLS,
  ...SVA_CALLS,
  ...SYS_CALLS,
  ...TASK_CALLS,
  ...CPU_CALLS,
  ...SVM_CALLS,
  TICK_ADVANCE,
]

/** Every deviation that the model knows. */
export const ERRATA: readonly Erratum[] = [
  ...QEMU_ERRATA,
  ...VTD_ERRATA,
  ...UNIT_ERRATA,
  ...INTEL_IOMMU_ERRATA,
  ...SVA_ERRATA,
  ...SVM_ERRATA,
  ...GUEST_ERRATA,
  ...VFIO_ERRATA,
  ...PREREG_ERRATA,
  ...KVM_ERRATA,
  ...VHOST_ERRATA,
  ...HW_ERRATA,
  ...IODA_ERRATA,
  ...EEH_ERRATA,
]

/** Every log format that can be read. */
export const LOG_FORMATS: readonly LogFormat[] = READER_FORMATS

/** What a scenario may name. */
export const CATALOGUE: Catalogue = { calls: CALLS, rules: RULES, errata: ERRATA }
