/** Machines for which `peers/guests/setup.sh` has a kernel. */
export type GuestArchitecture = 'amd64' | 'ppc64el'

/** What happens to this guest with a QEMU whose defect it shows. */
export interface GuestDefect {
  /** Versions of QEMU that have it, as `--version` prints them. */
  readonly qemu: RegExp
  readonly what: string
}

/** A guest whose disk lies behind a vIOMMU: what its machine has, and how its kernel drives it. */
export interface GuestConfiguration {
  readonly name: string
  /** What it shows, in one sentence. */
  readonly title: string
  readonly architecture: GuestArchitecture
  /** For the kernel. */
  readonly kernelArguments: readonly string[]
  /** For QEMU: the vIOMMU, and what the disk is plugged into. */
  readonly machineArguments: readonly string[]
  /** For the disk, as properties of its device. */
  readonly diskProperties: readonly string[]
  readonly defect?: GuestDefect
}

const ROOT_PORT = ['-device', 'pcie-root-port,id=rp0,chassis=1,slot=1'] as const
/** A function on the root bus is a conventional one to QEMU, and has no ATS capability: `ats=on` does nothing there. */
const BEHIND_ROOT_PORT = ['bus=rp0', 'ats=on'] as const

/**
 * Every guest that is booted over the back end. Command lines are those of Linux 6.1
 * (Documentation/admin-guide/kernel-parameters.txt) and QEMU 7.2.
 */
export const GUEST_CONFIGURATIONS: readonly GuestConfiguration[] = [
  {
    name: 'amd64-strict',
    title: 'Each unmap is flushed by pages before the address is used again.',
    architecture: 'amd64',
    kernelArguments: ['intel_iommu=on', 'iommu.strict=1'],
    machineArguments: ['-device', 'intel-iommu,intremap=on'],
    diskProperties: [],
  },
  {
    name: 'amd64-lazy',
    title: 'Unmaps are flushed together, by domain; no device TLB is flushed.',
    architecture: 'amd64',
    kernelArguments: ['intel_iommu=on', 'iommu.strict=0'],
    machineArguments: ['-device', 'intel-iommu,intremap=on'],
    diskProperties: [],
    defect: {
      qemu: /^7\.2\./,
      what: 'a flush of the whole domain tells the back end nothing, so that it works on with entries of pages that are others by then',
    },
  },
  {
    name: 'amd64-caching-mode',
    title: 'The guest flushes also what becomes present.',
    architecture: 'amd64',
    kernelArguments: ['intel_iommu=on', 'iommu.strict=1'],
    machineArguments: ['-device', 'intel-iommu,intremap=on,caching-mode=on'],
    diskProperties: [],
  },
  {
    name: 'amd64-ats-strict',
    title: 'The device has a TLB of its own, which the guest flushes with each unmap.',
    architecture: 'amd64',
    kernelArguments: ['intel_iommu=on', 'iommu.strict=1'],
    machineArguments: ['-device', 'intel-iommu,intremap=on,device-iotlb=on', ...ROOT_PORT],
    diskProperties: BEHIND_ROOT_PORT,
  },
  {
    name: 'amd64-ats-lazy',
    title: 'The device has a TLB of its own, which the guest flushes as a whole.',
    architecture: 'amd64',
    kernelArguments: ['intel_iommu=on', 'iommu.strict=0'],
    machineArguments: ['-device', 'intel-iommu,intremap=on,device-iotlb=on', ...ROOT_PORT],
    diskProperties: BEHIND_ROOT_PORT,
  },
  {
    name: 'ppc64el-window-32bit',
    title: 'A window below 4 GiB, whose addresses are used again and again.',
    architecture: 'ppc64el',
    kernelArguments: ['disable_ddw'],
    machineArguments: [],
    diskProperties: [],
  },
  {
    name: 'ppc64el-ddw',
    title: 'A window over all of the memory, mapped once.',
    architecture: 'ppc64el',
    kernelArguments: [],
    machineArguments: [],
    diskProperties: [],
  },
]

/** What QEMU and the kernel of an architecture are called, and which machine they make. */
interface GuestMachine {
  readonly qemu: string
  readonly memory: string
  readonly console: string
  /** For the kernel, in every configuration. */
  readonly kernelArguments: readonly string[]
  readonly machineArguments: readonly string[]
  /** Trace events that the log readers know. */
  readonly traceEvents: readonly string[]
}

export const GUEST_MACHINES: Readonly<Record<GuestArchitecture, GuestMachine>> = {
  amd64: {
    qemu: 'qemu-system-x86_64',
    memory: '512M',
    console: 'ttyS0',
    // An emulated timer may be late on a machine that is busy with other things, and the kernel panics where it is.
    kernelArguments: ['no_timer_check'],
    // intremap needs the split interrupt controller.
    machineArguments: ['-M', 'q35,kernel-irqchip=split,memory-backend=m0', '-cpu', 'qemu64'],
    // Interrupt remapping writes a line for each interrupt.
    traceEvents: ['vtd_*', '-vtd_warn_ir*', 'vhost_*'],
  },
  ppc64el: {
    qemu: 'qemu-system-ppc64',
    memory: '1G',
    console: 'hvc0',
    kernelArguments: [],
    // Capabilities that an emulated processor does not have.
    machineArguments: [
      '-M',
      'pseries,memory-backend=m0,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off',
      '-cpu',
      'power9',
    ],
    traceEvents: ['spapr_iommu_*', 'vhost_*'],
  },
}
