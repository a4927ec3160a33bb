/** Capabilities that are about TCEs and the guests that have them. (Linux v6.1 include/uapi/linux/kvm.h) */
export const KVM_CAP = {
  SPAPR_TCE: 63n,
  SPAPR_MULTITCE: 94n,
  ENABLE_CAP_VM: 98n,
  PPC_ENABLE_HCALL: 104n,
  SPAPR_TCE_64: 125n,
  PPC_MMU_RADIX: 134n,
  SPAPR_TCE_VFIO: 142n,
} as const

/** Type of KVM's VFIO device for KVM_CREATE_DEVICE. */
export const KVM_DEV_TYPE_VFIO = 4n
