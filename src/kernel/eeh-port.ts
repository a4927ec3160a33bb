/** Options of a PE (Linux v6.1 arch/powerpc/include/asm/eeh.h, EEH_OPT_*). */
export const EEH_OPTION = Object.freeze({ DISABLE: 0, ENABLE: 1, THAW_MMIO: 2, THAW_DMA: 3, FREEZE: 4 })

/** What eeh_pe_get_state says of a PE (EEH_PE_STATE_*): also what VFIO and RTAS hand on. */
export const EEH_PE_STATE = Object.freeze({
  NORMAL: 0,
  RESET: 1,
  STOPPED_IO_DMA: 2,
  STOPPED_DMA: 4,
  UNAVAIL: 5,
})

/** An error that somebody wants injected into a PE. */
export interface EehInjection {
  readonly type: number
  readonly func: number
  readonly address: bigint
  readonly mask: bigint
}

/**
 * The kernel's error handling of PCI as VFIO asks for it, by IOMMU group. Results are 0 or a negative errno;
 * NO_ANSWER (`ports.ts`) where the model does not know what happens.
 * (Linux v6.1 arch/powerpc/kernel/eeh.c)
 */
export interface EehPort {
  /** Whether EEH is on. PEs can be there although it is not. */
  readonly isEnabled: boolean
  /** Whether a group's devices are in a PE that EEH knows. */
  hasPe(group: number): boolean
  /** `EEH_OPTION`; 0, or -EIO. */
  setOption(group: number, option: number): number
  /** `EEH_PE_STATE`. */
  stateOf(group: number): number
  /** `PE_RESET`; 0, or -EIO. */
  reset(group: number, kind: number): number
  configure(group: number): number
  /** Whether nobody reads the configuration space of a group's devices: during a reset. */
  isBlocked(group: number): boolean
  /** -ENOENT, -EINVAL or -ERANGE; NO_ANSWER where it gets as far as firmware. */
  inject(group: number, error: EehInjection): number
  /** A device of the group is opened, or its last file is gone: the PE changes its owner. */
  opened(group: number): void
  released(group: number): void
}
