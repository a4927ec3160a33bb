import type { FileKind } from '../files.ts'

/** The type in an ioctl's number that KVM has. */
const KVMIO = 0xae
/** Where the direction stands on powerpc: no number is without one. */
const DIRECTION_SHIFT = 29

/** GET_DIRTY_LOG, SET_USER_MEMORY_REGION2, CLEAR_DIRTY_LOG, RESET_DIRTY_RINGS, attributes, guest_memfd. */
const OF_MEMORY = [0x42, 0x49, 0xc0, 0xc7, 0xd2, 0xd4]
/** IRQ_LINE, coalesced MMIO, GSI_ROUTING, IRQFD, IOEVENTFD, SIGNAL_MSI. */
const OF_INTERRUPTS = [0x61, 0x67, 0x68, 0x6a, 0x76, 0x79, 0xa5]
/** PVINFO, SMMU_INFO, hash tables, RTAS tokens, RMMU_INFO, CPU_CHAR, SVM_OFF. */
const OF_POWERPC = [0xa1, 0xa6, 0xa7, 0xaa, 0xac, 0xad, 0xae, 0xb0, 0xb1, 0xb3]
/** RUN, registers, INTERRUPT, signals, states, debugging, ENABLE_CAP, one register each. */
const OF_VCPUS = [
  0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x8b, 0x8c, 0x8d, 0x98, 0x99, 0x9b, 0xa3, 0xaa, 0xab, 0xac,
]
const GET_STATS_FD = 0xce

/**
 * Ioctls of KVM's files, by the number within KVM's type, that HV KVM on powerpc knows and the model does not. They
 * are taken for known with any structure: sizes are not looked at.
 * (Linux v6.1 and v6.12 include/uapi/linux/kvm.h, virt/kvm/kvm_main.c, arch/powerpc/kvm/powerpc.c, book3s_hv.c)
 */
const NOT_MODELLED: Readonly<Partial<Record<FileKind, readonly number[]>>> = {
  // GET_API_VERSION, GET_VCPU_MMAP_SIZE, the three of a tracer that is gone.
  kvm: [0x00, 0x04, 0x06, 0x07, 0x08],
  vm: [...OF_MEMORY, ...OF_INTERRUPTS, ...OF_POWERPC, GET_STATS_FD],
  vcpu: [...OF_VCPUS, GET_STATS_FD],
}

/** Whether a file of KVM knows an ioctl that the model does not declare. */
export const isKvmIoctl = (kind: FileKind, cmd: number): boolean =>
  cmd >>> DIRECTION_SHIFT !== 0 &&
  ((cmd >>> 8) & 0xff) === KVMIO &&
  (NOT_MODELLED[kind]?.includes(cmd & 0xff) ?? false)
