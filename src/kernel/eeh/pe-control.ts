import { ERRNO_CODES } from '../../bits/codes.ts'
import { PE_GOES, PE_RESET, PE_STATE, STOP } from '../../hw/pe-firmware.ts'
import { EEH_OPTION, EEH_PE_STATE } from '../eeh-port.ts'
import { NO_ANSWER } from '../ports.ts'
import type { EehPe } from './eeh-pe.ts'
import { EEH_PE, RESET_ATTEMPTS } from './states.ts'

const { OK, EIO } = ERRNO_CODES
const { UNAVAILABLE, NOT_SUPPORT, MMIO_ACTIVE, MMIO_ENABLED, DMA_ACTIVE, DMA_ENABLED, RESET_ACTIVE } =
  PE_STATE
const ACTIVE = MMIO_ACTIVE | DMA_ACTIVE
/** Which bits say that a thaw has done its work. */
const DONE_BITS: Readonly<Record<number, number>> = {
  [EEH_OPTION.THAW_MMIO]: MMIO_ACTIVE | MMIO_ENABLED,
  [EEH_OPTION.THAW_DMA]: DMA_ACTIVE,
}
const STOP_OF: Readonly<Record<number, number>> = {
  [EEH_OPTION.THAW_MMIO]: STOP.MMIO,
  [EEH_OPTION.THAW_DMA]: STOP.DMA,
}

export const isActive = (state: number): boolean => (state & ACTIVE) === ACTIVE

/**
 * The state of a PE as PowerNV tells it to the rest of the kernel. Asking is not without effect: a PE that is found
 * frozen is isolated from then on. While a full reset goes on the answer is that all is well.
 * (Linux v6.1 arch/powerpc/platforms/powernv/eeh-powernv.c, pnv_eeh_get_state)
 */
export function stateOf(pe: EehPe): number {
  if (!pe.isPhb && pe.is(EEH_PE.RESET)) return PE_GOES
  const state = pe.firmware.state()
  const isStopped = (state & (NOT_SUPPORT | UNAVAILABLE | ACTIVE)) === 0
  if (isStopped && !pe.is(EEH_PE.ISOLATED)) pe.isolate()
  return state
}

/** What eeh_pe_get_state makes of it for whoever has the PE. */
export function ownersStateOf(pe: EehPe): number {
  const isHostBusy = pe.parent?.is(EEH_PE.ISOLATED | EEH_PE.RECOVERING) ?? false
  if (isHostBusy && !pe.is(EEH_PE.REMOVED)) return EEH_PE_STATE.UNAVAIL
  const state = stateOf(pe)
  if ((state & RESET_ACTIVE) !== 0) return EEH_PE_STATE.RESET
  const [hasMmio, hasDma] = [(state & MMIO_ENABLED) !== 0, (state & DMA_ENABLED) !== 0]
  if (hasMmio && hasDma) return EEH_PE_STATE.NORMAL
  if (hasMmio) return EEH_PE_STATE.STOPPED_DMA
  return hasDma ? EEH_PE_STATE.UNAVAIL : EEH_PE_STATE.STOPPED_IO_DMA
}

/** Whether a thaw (`EEH_OPTION`) is asked of firmware at all: not where nothing is stopped, nor on lost hardware. */
export function needsThaw(pe: EehPe, option: number): boolean {
  const state = stateOf(pe)
  return state !== NOT_SUPPORT && (state & (DONE_BITS[option] ?? 0)) === 0
}

/** Asks for a thaw. What firmware answers does not count: the state afterwards does. */
export const requestThaw = (pe: EehPe, option: number): number =>
  pe.firmware.clearFreeze(STOP_OF[option] ?? STOP.BOTH)

/** Whether a thaw that was asked for has worked: 0, -EIO, or NO_ANSWER where firmware wants to be asked later. */
export function thawResult(pe: EehPe, option: number): number {
  const state = stateOf(pe)
  if (state === UNAVAILABLE) return NO_ANSWER
  return (state & (DONE_BITS[option] ?? 0)) === 0 ? EIO : OK
}

/** eeh_pci_enable without time to wait. */
export function thaw(pe: EehPe, option: number): number {
  if (!needsThaw(pe, option)) return OK
  requestThaw(pe, option)
  return thawResult(pe, option)
}

/** eeh_unfreeze_pe. */
export function unfreeze(pe: EehPe): number {
  const mmio = thaw(pe, EEH_OPTION.THAW_MMIO)
  return mmio === OK ? thaw(pe, EEH_OPTION.THAW_DMA) : mmio
}

/** eeh_pe_reset: asserts a reset (`PE_RESET`), or ends it and gets the devices of the PE going. */
export function resetPe(pe: EehPe, kind: number, withPassed: boolean): number {
  if (kind !== PE_RESET.DEACTIVATE) {
    // Frozen first: what software does to devices in reset must not be an error of its own.
    pe.firmware.setFreeze()
    pe.mark(EEH_PE.CFG_BLOCKED)
    return pe.firmware.reset(kind)
  }
  const ended = pe.firmware.reset(kind)
  pe.clear(EEH_PE.CFG_BLOCKED, withPassed)
  if (ended !== OK) return ended
  const code = withPassed || !pe.isPassed ? unfreeze(pe) : OK
  if (code === OK) pe.clear(EEH_PE.ISOLATED, withPassed)
  return code
}

/** Thaws a PE and those below it for good (eeh_clear_pe_frozen_state). */
export function clearFrozenState(root: EehPe, withPassed: boolean): number {
  for (const pe of root.tree()) {
    if (!withPassed && pe.isPassed) continue
    let code: number = EIO
    for (let i = 0; i < RESET_ATTEMPTS && code !== OK; i++) code = unfreeze(pe)
    if (code !== OK) return code === NO_ANSWER ? NO_ANSWER : EIO
  }
  root.clear(EEH_PE.ISOLATED, withPassed)
  return OK
}

/** Passed-through PEs that a reset above them has thawed are frozen again (eeh_pe_refreeze_passed). */
export function refreezePassed(root: EehPe): void {
  for (const pe of root.tree()) {
    if (pe.isPassed && (stateOf(pe) & (MMIO_ACTIVE | MMIO_ENABLED)) !== 0) pe.firmware.setFreeze()
  }
}

/** A full reset in one go, with those who pass it through (eeh_pe_reset_and_recover). */
function resetAndRecover(pe: EehPe): number {
  if (pe.is(EEH_PE.RECOVERING)) return OK
  pe.mark(EEH_PE.RECOVERING)
  pe.mark(EEH_PE.RESET | EEH_PE.CFG_BLOCKED)
  let code: number = EIO
  for (let i = 0; i < RESET_ATTEMPTS && code !== OK; i++) {
    code = resetPe(pe, PE_RESET.HOT, true)
    if (code === OK) code = resetPe(pe, PE_RESET.DEACTIVATE, true)
  }
  pe.clear(EEH_PE.RESET | EEH_PE.CFG_BLOCKED)
  if (code === OK) code = clearFrozenState(pe, true)
  pe.clear(EEH_PE.RECOVERING)
  return code
}

/** A PE changes its owner: a frozen one is thawed, or reset where its device asks for that (eeh_pe_change_owner). */
export function changeOwner(pe: EehPe): number {
  const state = stateOf(pe)
  if (state === NOT_SUPPORT || isActive(state)) return OK
  if (pe.needsReset) return resetAndRecover(pe)
  const code = unfreeze(pe)
  if (code === OK) pe.clear(EEH_PE.ISOLATED)
  return code
}
