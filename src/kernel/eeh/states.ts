/** State bits of a PE as the kernel keeps it (Linux v6.1 arch/powerpc/include/asm/eeh.h, EEH_PE_*). */
export const EEH_PE = Object.freeze({
  ISOLATED: 1,
  RECOVERING: 2,
  /** Configuration space is not accessed. */
  CFG_BLOCKED: 4,
  RESET: 8,
  /** Kept although its devices are unplugged. */
  KEEP: 0x100,
  /** Configuration space must be blocked while the PE is isolated. */
  CFG_RESTRICTED: 0x200,
  /** Given up for good. */
  REMOVED: 0x400,
})

/** Types of a PE (EEH_PE_PHB and so on). */
export const EEH_TYPE = Object.freeze({ INVALID: 1, PHB: 2, DEVICE: 4, BUS: 8, VF: 16 })

/** What the PCI core says of the way to a device (pci_channel_state_t). */
export const CHANNEL = Object.freeze({ NORMAL: 1, FROZEN: 2, PERM_FAILURE: 3 })

/** Freezes within `FREEZE_WINDOW_SECONDS` that a PE survives (eeh_max_freezes). */
export const FREEZES_MAX = 5
export const FREEZE_WINDOW_SECONDS = 3600
/** Reads of an isolated PE after which the kernel warns of a driver that loops (EEH_MAX_FAILS). */
export const IGNORED_READS_WARNING = 2_100_000
export const RESET_ATTEMPTS = 3

/** Milliseconds (PCI_BUS_RESET_WAIT_MSEC, EEH_STATE_MIN_WAIT_TIME, EEH_PE_RST_HOLD_TIME, EEH_PE_RST_SETTLE_TIME). */
export const STATE_WAIT_MAX_MS = 300_000
export const STATE_WAIT_MS = 1000
export const RESET_HOLD_MS = 250
export const RESET_SETTLE_MS = 1800
/** Sleep of the kernel before it plugs devices in again. */
export const REPLUG_MS = 5000

/** Devices, vendor << 16 | device, whose frozen PE is reset when it changes its owner (eeh_reset_ids). */
export const RESET_IDS: readonly number[] = [0x19a2_0710, 0x10df_e220, 0x14e4_1657]
/** Devices whose PE has EEH_PE_CFG_RESTRICTED (pnv_eeh_probe). */
export const RESTRICTED_IDS: readonly number[] = [0x14e4_1656, 0x14e4_1657, 0x14e4_168a, 0x14e4_168e]

/** What a driver can answer while its device is recovered, in the order in which answers outweigh each other. */
export const ANSWERS = [
  'NONE',
  'NO_AER_DRIVER',
  'RECOVERED',
  'CAN_RECOVER',
  'DISCONNECT',
  'NEED_RESET',
] as const
export type EehAnswer = (typeof ANSWERS)[number]

/** The answer that counts (pci_ers_merge_result). */
export const heavier = (a: number, b: number): number => Math.max(a, b)
export const answerIndex = (answer: EehAnswer): number => ANSWERS.indexOf(answer)
