import { KIND } from '../../trace/event.ts'
import type { Stage } from '../../trace/stage.ts'
import type { EehDevice, EehDriver } from './eeh-device.ts'
import type { EehPe } from './eeh-pe.ts'
import { ANSWERS, answerIndex, type EehAnswer, heavier } from './states.ts'

/** Functions of a driver that EEH calls; both of the first have one place in the driver. */
export type Callback =
  | 'error_detected'
  | 'error_detected(permanent failure)'
  | 'mmio_enabled'
  | 'slot_reset'
  | 'resume'

/** What a driver answers; undefined where it has no such function, or is not asked. */
function answerTo(call: Callback, driver: EehDriver, device: EehDevice): EehAnswer | undefined {
  switch (call) {
    case 'error_detected':
    case 'error_detected(permanent failure)':
      return driver.errorDetected
    case 'mmio_enabled':
      return driver.mmioEnabled
    case 'slot_reset':
      return device.isInError ? driver.slotReset : undefined
    case 'resume':
      return device.isInError && driver.hasResume === true ? 'NONE' : undefined
  }
}

/** The devices of a PE and those below it that the host may act upon: not those that were passed through. */
function* actionable(root: EehPe): Generator<EehDevice> {
  for (const pe of root.tree()) {
    if (pe.isPassed) continue
    for (const device of pe.devices) if (device.isPresent) yield device
  }
}

export function setChannel(root: EehPe, channel: number): void {
  for (const device of actionable(root)) device.channel = channel
}

/** Calls the drivers back, and answers what they want together (a place in `ANSWERS`), given what they wanted before. */
export function report(stage: Stage, root: EehPe, call: Callback, before: number): number {
  let result = before
  for (const device of actionable(root)) {
    const { driver } = device
    if (driver === null || !device.hasHandlers) continue
    const answer = answerTo(call, driver, device)
    if (call === 'error_detected' && answer !== undefined) device.isInError = true
    const index = answerIndex(answer ?? 'NONE')
    result = heavier(result, index)
    if (answer === undefined) continue
    const { log, cause } = stage
    const names = [device.name, driver.name, call, ANSWERS[index] as string].map((n) => log.names.intern(n))
    log.append(KIND['eeh.driver'], cause, ...(names as [number, number, number, number]))
  }
  return result
}
