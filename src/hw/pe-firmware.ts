/** State of a PE as firmware tells it, one bit each (Linux v6.1 arch/powerpc/include/asm/eeh.h, EEH_STATE_*). */
export const PE_STATE = Object.freeze({
  /** Not now; ask again later. */
  UNAVAILABLE: 1,
  /** Never again. */
  NOT_SUPPORT: 2,
  RESET_ACTIVE: 4,
  MMIO_ACTIVE: 8,
  DMA_ACTIVE: 0x10,
  MMIO_ENABLED: 0x20,
  DMA_ENABLED: 0x40,
})

const MMIO_GOES = PE_STATE.MMIO_ACTIVE | PE_STATE.MMIO_ENABLED
const DMA_GOES = PE_STATE.DMA_ACTIVE | PE_STATE.DMA_ENABLED
/** A PE that nothing stops. */
export const PE_GOES = MMIO_GOES | DMA_GOES

/** The two stop states of a PE, which latch together and go one by one. */
export const STOP = Object.freeze({ MMIO: 1, DMA: 2, BOTH: 3 })

/** What firmware says of a PE with these stop states. */
export const stateOfStops = (stops: number): number =>
  ((stops & STOP.MMIO) === 0 ? MMIO_GOES : 0) | ((stops & STOP.DMA) === 0 ? DMA_GOES : 0)

/** Resets of a PE (EEH_RESET_*). */
export const PE_RESET = Object.freeze({ DEACTIVATE: 0, HOT: 1, FUNDAMENTAL: 3 })

/** A PE, or the PHB above it, as firmware offers it to a kernel. Where a call can fail it answers 0 or -EIO. */
export interface PeFirmware {
  /** Interned name of the PHB, and number of the PE: what records say. */
  readonly unit: number
  readonly pe: number
  /** Bits of `PE_STATE`. */
  state(): number
  /** Clears stop states (`STOP`). */
  clearFreeze(stops: number): number
  /** Latches both stop states. */
  setFreeze(): number
  /** Asserts a reset, or takes it back (`PE_RESET`). */
  reset(kind: number): number
}
