import { ERRNO_CODES } from '../../bits/codes.ts'
import { Held } from '../../bits/held.ts'
import { Cells, keyOf } from '../../bits/state.ts'
import { PE_RESET, PE_STATE } from '../../hw/pe-firmware.ts'
import type { Host } from '../../memory/host.ts'
import { KIND } from '../../trace/event.ts'
import { EEH_OPTION } from '../eeh-port.ts'
import { NO_ANSWER } from '../ports.ts'
import type { EehPe } from './eeh-pe.ts'
import {
  clearFrozenState,
  isActive,
  needsThaw,
  refreezePassed,
  requestThaw,
  resetPe,
  stateOf,
  thaw,
  thawResult,
} from './pe-control.ts'
import { report, setChannel } from './report-drivers.ts'
import {
  ANSWERS,
  answerIndex,
  CHANNEL,
  EEH_PE,
  FREEZES_MAX,
  REPLUG_MS,
  RESET_ATTEMPTS,
  RESET_HOLD_MS,
  RESET_SETTLE_MS,
  STATE_WAIT_MAX_MS,
  STATE_WAIT_MS,
} from './states.ts'

const { OK, EIO } = ERRNO_CODES
const NONE = answerIndex('NONE')
const RECOVERED = answerIndex('RECOVERED')
const CAN_RECOVER = answerIndex('CAN_RECOVER')
const DISCONNECT = answerIndex('DISCONNECT')
const NEED_RESET = answerIndex('NEED_RESET')

/** The steps, in their order; records show them by these names. */
const STEPS = [
  'idle',
  'report-error',
  'wait-for-state',
  'thaw-mmio',
  'thaw-dma',
  'assert-reset',
  'end-reset',
  'wait-after-reset',
  'clear-frozen',
  'replug',
  'report-reset',
  'resume',
  'give-up',
] as const
type Step = (typeof STEPS)[number]
const at = (step: Step): number => STEPS.indexOf(step)

const STEP = 0
const RESULT = 1
const DUE = 2
/** Milliseconds that firmware may still say that the state is not known yet. */
const WAIT_LEFT = 3
const ATTEMPT = 4
/** A thaw was asked for, and its result is awaited. */
const ASKED = 5
const RESET_CODE = 6
const UNPLUGGED = 7

export interface RecoveryParts {
  readonly host: Host
  /** Milliseconds of a tick of the machine's clock. */
  readonly tickMs: number
  readonly now: () => number
}

/**
 * The thread of the kernel that recovers PEs, one after the other, as eeh_handle_normal_event does: told of the
 * error, drivers say what they need, and by that the PE is thawed, reset, or given up. A step that has to wait ends
 * the tick; the others follow each other at once. What firmware itself takes for a reset is not counted.
 * (Linux v6.1 arch/powerpc/kernel/eeh_driver.c)
 */
export class Recovery {
  readonly #parts: RecoveryParts
  readonly #queue: Held<readonly EehPe[]>
  readonly #cells: Cells
  readonly #steps: Readonly<Record<Step, (pe: EehPe) => Step | 'waits'>> = {
    idle: () => 'report-error',
    'report-error': (pe) => this.#reportError(pe),
    'wait-for-state': (pe) => this.#waitForState(pe),
    'thaw-mmio': (pe) => this.#thawMmio(pe),
    'thaw-dma': (pe) => this.#thawDma(pe),
    'assert-reset': (pe) => this.#assertReset(pe),
    'end-reset': (pe) => this.#endReset(pe),
    'wait-after-reset': (pe) => this.#waitAfterReset(pe),
    'clear-frozen': (pe) => this.#clearFrozen(pe),
    replug: (pe) => this.#replug(pe),
    'report-reset': (pe) => this.#reportReset(pe),
    resume: (pe) => this.#resume(pe),
    'give-up': (pe) => this.#giveUp(pe),
  }

  constructor(parts: RecoveryParts) {
    const { journal } = parts.host
    this.#parts = parts
    this.#queue = new Held<readonly EehPe[]>(journal, 'eeh queue', [], (q) =>
      q.length === 0 ? 0 : keyOf(...q.map((pe) => pe.name)),
    )
    this.#cells = new Cells(journal, keyOf('eeh-recovery'), 8)
  }

  /** The PE that is being recovered, and those that wait for it. */
  get queue(): readonly EehPe[] {
    return this.#queue.value
  }

  /** The step that comes next, or that waits. */
  get step(): string {
    return STEPS[this.#cells.get(STEP)] ?? 'idle'
  }

  /** An isolated PE is to be recovered (eeh_send_failure_event). */
  send(pe: EehPe): void {
    pe.mark(EEH_PE.RECOVERING)
    this.#queue.set([...this.queue, pe])
  }

  /** Time has passed: the steps that can be taken now are taken. */
  elapse(): void {
    for (let [pe] = this.queue; pe !== undefined; [pe] = this.queue) {
      if (this.#parts.now() < this.#cells.get(DUE) >>> 0) return
      const step = STEPS[this.#cells.get(STEP)] as Step
      const next = this.#steps[step](pe)
      if (next === 'waits') return
      this.#record(pe, step)
      this.#cells.set(STEP, at(next))
      if (next === 'idle') {
        this.#cells.fill(0, 0, this.#cells.length)
        this.#queue.set(this.queue.slice(1))
      }
    }
  }

  get #result(): number {
    return this.#cells.get(RESULT)
  }

  set #result(answer: number) {
    this.#cells.set(RESULT, answer)
  }

  #record(pe: EehPe, step: Step): void {
    if (step === 'idle') return
    const { log, cause } = this.#parts.host.stage
    const { unit, pe: number } = pe.firmware
    const [name, result] = [log.names.intern(step), log.names.intern(ANSWERS[this.#result] as string)]
    log.append(KIND['eeh.step'], cause, unit, number, pe.isPhb ? 1 : 0, name, result, pe.freezes)
  }

  /** Nothing happens for so long. */
  #sleep(ms: number): void {
    this.#cells.set(DUE, (this.#parts.now() + Math.ceil(ms / this.#parts.tickMs)) | 0)
  }

  /** Firmware does not know yet: it is asked again in a second, for five minutes in all; false after that. */
  #askLater(): boolean {
    const left = this.#cells.get(WAIT_LEFT)
    if (left <= 0) return false
    this.#sleep(Math.min(STATE_WAIT_MS, left))
    this.#cells.set(WAIT_LEFT, left - STATE_WAIT_MS)
    return true
  }

  #beginWait(): void {
    this.#cells.set(WAIT_LEFT, STATE_WAIT_MAX_MS)
  }

  #reportError(pe: EehPe): Step {
    const { host, now, tickMs } = this.#parts
    this.#result = NONE
    if (
      ![...pe.tree()].some((p) => p.devices.some((d) => d.isPresent && d.channel !== CHANNEL.PERM_FAILURE))
    ) {
      pe.clear(EEH_PE.RECOVERING)
      return 'idle'
    }
    for (const p of pe.tree()) for (const device of p.devices) device.handlersBack()
    if (pe.countFreeze(Math.floor((now() * tickMs) / 1000)) > FREEZES_MAX) return 'give-up'
    setChannel(pe, CHANNEL.FROZEN)
    this.#result = report(host.stage, pe, 'error_detected', this.#result)
    if (this.#result === DISCONNECT) return 'give-up'
    // A fence goes with a reset of the PHB only.
    if (pe.isPhb && this.#result !== NONE) this.#result = NEED_RESET
    this.#beginWait()
    return 'wait-for-state'
  }

  #waitForState(pe: EehPe): Step | 'waits' {
    const state = stateOf(pe)
    if (state === PE_STATE.UNAVAILABLE) return this.#askLater() ? 'waits' : 'give-up'
    if (state === PE_STATE.NOT_SUPPORT) return 'give-up'
    if (this.#result === CAN_RECOVER) {
      this.#beginWait()
      return 'thaw-mmio'
    }
    if (this.#result === NONE || this.#result === NEED_RESET) return 'assert-reset'
    return this.#result === RECOVERED ? 'resume' : 'give-up'
  }

  /** A thaw with time to wait for it. */
  #thaw(pe: EehPe, option: number): number | 'waits' {
    if (this.#cells.get(ASKED) === 0) {
      if (!needsThaw(pe, option)) return OK
      requestThaw(pe, option)
      this.#cells.set(ASKED, 1)
    }
    const code = thawResult(pe, option)
    if (code === NO_ANSWER && this.#askLater()) return 'waits'
    this.#cells.set(ASKED, 0)
    return code === OK ? OK : EIO
  }

  #thawMmio(pe: EehPe): Step | 'waits' {
    const code = this.#thaw(pe, EEH_OPTION.THAW_MMIO)
    if (code === 'waits') return 'waits'
    if (code !== OK) return 'give-up'
    this.#result = report(this.#parts.host.stage, pe, 'mmio_enabled', this.#result)
    this.#beginWait()
    if (this.#result === CAN_RECOVER) return 'thaw-dma'
    return this.#result === NEED_RESET ? 'assert-reset' : 'give-up'
  }

  #thawDma(pe: EehPe): Step | 'waits' {
    const code = this.#thaw(pe, EEH_OPTION.THAW_DMA)
    if (code === 'waits') return 'waits'
    if (code !== OK) return 'give-up'
    pe.clear(EEH_PE.ISOLATED)
    this.#result = RECOVERED
    return 'resume'
  }

  #assertReset(pe: EehPe): Step {
    if (this.#cells.get(ATTEMPT) === 0) {
      pe.mark(EEH_PE.KEEP)
      this.#unplugUnaware(pe)
      pe.mark(EEH_PE.RESET | EEH_PE.CFG_BLOCKED)
    }
    this.#cells.set(ATTEMPT, this.#cells.get(ATTEMPT) + 1)
    if (resetPe(pe, PE_RESET.HOT, false) !== OK) return this.#afterAttempt(EIO)
    this.#sleep(RESET_HOLD_MS)
    return 'end-reset'
  }

  /** Devices whose driver cannot have them reset go; all of them where no driver could. */
  #unplugUnaware(pe: EehPe): void {
    const isPartial = this.#result === NEED_RESET
    let unplugged = 0
    for (const p of pe.tree()) {
      if (p.isPassed) continue
      for (const device of p.devices) {
        if (!device.isPresent || (isPartial && device.survivesReset)) continue
        device.unplug()
        unplugged++
      }
    }
    this.#cells.set(UNPLUGGED, isPartial ? unplugged : 1)
  }

  #endReset(pe: EehPe): Step {
    if (resetPe(pe, PE_RESET.DEACTIVATE, false) !== OK) return this.#afterAttempt(EIO)
    this.#sleep(RESET_SETTLE_MS)
    this.#beginWait()
    return 'wait-after-reset'
  }

  #waitAfterReset(pe: EehPe): Step | 'waits' {
    const state = stateOf(pe)
    if (state === PE_STATE.UNAVAILABLE && this.#askLater()) return 'waits'
    return isActive(state) ? this.#resetOver(OK) : this.#afterAttempt(OK)
  }

  /** One of three attempts has not brought the PE back. */
  #afterAttempt(code: number): Step {
    return this.#cells.get(ATTEMPT) < RESET_ATTEMPTS ? 'assert-reset' : this.#resetOver(code)
  }

  #resetOver(code: number): Step {
    this.#cells.set(RESET_CODE, code)
    this.#beginWait()
    return 'clear-frozen'
  }

  #clearFrozen(pe: EehPe): Step | 'waits' {
    if (this.#cells.get(ATTEMPT) > 0) {
      refreezePassed(pe)
      pe.clear(EEH_PE.RESET | EEH_PE.CFG_BLOCKED)
      this.#cells.set(ATTEMPT, 0)
    }
    if (this.#cells.get(RESET_CODE) !== OK) return 'give-up'
    const code = clearFrozenState(pe, false)
    if (code === NO_ANSWER && this.#askLater()) return 'waits'
    if (code !== OK) return 'give-up'
    if (this.#cells.get(UNPLUGGED) > 0) this.#sleep(REPLUG_MS)
    return 'replug'
  }

  #replug(pe: EehPe): Step {
    for (const p of pe.tree()) {
      for (const device of p.devices) if (!device.isPresent) device.plug()
    }
    pe.clear(EEH_PE.KEEP)
    return this.#result === NEED_RESET ? 'report-reset' : 'resume'
  }

  #reportReset(pe: EehPe): Step {
    setChannel(pe, CHANNEL.NORMAL)
    this.#result = report(this.#parts.host.stage, pe, 'slot_reset', NONE)
    return this.#result === NONE || this.#result === RECOVERED ? 'resume' : 'give-up'
  }

  #resume(pe: EehPe): Step {
    setChannel(pe, CHANNEL.NORMAL)
    report(this.#parts.host.stage, pe, 'resume', NONE)
    for (const p of pe.tree()) {
      for (const device of p.devices) {
        device.handlersBack()
        device.isInError = false
      }
    }
    pe.clear(EEH_PE.RECOVERING)
    return 'idle'
  }

  #giveUp(pe: EehPe): Step {
    // The drivers need their registers to come to rest.
    if (!pe.isPhb) thaw(pe, EEH_OPTION.THAW_MMIO)
    report(this.#parts.host.stage, pe, 'error_detected(permanent failure)', NONE)
    setChannel(pe, CHANNEL.PERM_FAILURE)
    pe.mark(EEH_PE.REMOVED)
    for (const p of pe.tree()) {
      for (const device of p.devices) device.unplug()
      p.invalidate()
    }
    return 'idle'
  }
}
