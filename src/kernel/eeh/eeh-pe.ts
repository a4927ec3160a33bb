import { Cells, keyOf } from '../../bits/state.ts'
import type { PeFirmware } from '../../hw/pe-firmware.ts'
import type { Host } from '../../memory/host.ts'
import { KIND } from '../../trace/event.ts'
import type { EehDevice } from './eeh-device.ts'
import { CHANNEL, EEH_PE, EEH_TYPE, FREEZE_WINDOW_SECONDS, RESET_IDS, RESTRICTED_IDS } from './states.ts'

export interface EehPeOptions {
  /** How records and the state hash know it apart from others: the PHB's name and the PE's number. */
  readonly name: string
  readonly firmware: PeFirmware
  /** `EEH_TYPE`. */
  readonly type: number
  /** The PE above it; the PHB's has none. */
  readonly parent: EehPe | null
  readonly devices: readonly EehDevice[]
}

const STATE = 0
const FREEZES = 1
const SINCE = 2
const PASSED = 3
const IGNORED = 4
const FALSE_POSITIVES = 5
const TYPE = 6

/**
 * A PE as the kernel keeps it (struct eeh_pe): what it takes for its state, how often and since when it froze, and
 * how many of its devices somebody else has. PEs are a tree with the PHB on top; marks go down, and so do clears.
 * (Linux v6.1 arch/powerpc/kernel/eeh_pe.c)
 */
export class EehPe {
  readonly name: string
  readonly firmware: PeFirmware
  readonly parent: EehPe | null
  readonly devices: readonly EehDevice[]
  readonly children: EehPe[] = []
  readonly #host: Host
  readonly #cells: Cells

  constructor({ name, firmware, type, parent, devices }: EehPeOptions, host: Host) {
    this.name = name
    this.firmware = firmware
    this.parent = parent
    this.devices = devices
    this.#host = host
    this.#cells = new Cells(host.journal, keyOf('eeh-pe', name), 7)
    this.#cells.set(TYPE, type)
    if (devices.some((d) => RESTRICTED_IDS.includes(d.pciId))) this.#cells.set(STATE, EEH_PE.CFG_RESTRICTED)
    parent?.children.push(this)
  }

  get type(): number {
    return this.#cells.get(TYPE)
  }

  get isPhb(): boolean {
    return (this.type & EEH_TYPE.PHB) !== 0
  }

  /** Bits of `EEH_PE`. */
  get state(): number {
    return this.#cells.get(STATE)
  }

  is(bits: number): boolean {
    return (this.state & bits) !== 0
  }

  /** Freezes since `frozenSince`. */
  get freezes(): number {
    return this.#cells.get(FREEZES)
  }

  /** Second at which the first of the counted freezes was handled. */
  get frozenSince(): number {
    return this.#cells.get(SINCE)
  }

  /** Devices that VFIO has handed out. */
  get passed(): number {
    return this.#cells.get(PASSED)
  }

  set passed(count: number) {
    this.#cells.set(PASSED, count)
  }

  get isPassed(): boolean {
    return this.passed > 0
  }

  /** Reads of all ones that were ignored since it was isolated. */
  get ignoredReads(): number {
    return this.#cells.get(IGNORED)
  }

  ignoreRead(): number {
    this.#cells.set(IGNORED, this.ignoredReads + 1)
    return this.ignoredReads
  }

  get falsePositives(): number {
    return this.#cells.get(FALSE_POSITIVES)
  }

  noteFalsePositive(): void {
    this.#cells.set(FALSE_POSITIVES, this.falsePositives + 1)
  }

  /** Whether a change of its owner resets it where it is frozen. */
  get needsReset(): boolean {
    return this.devices.some((d) => d.isPresent && RESET_IDS.includes(d.pciId))
  }

  /** It and all PEs below it. */
  *tree(): Generator<EehPe> {
    yield this
    for (const child of this.children) yield* child.tree()
  }

  /** One more freeze is handled (eeh_pe_update_time_stamp): those of more than an hour ago do not count. */
  countFreeze(second: number): number {
    if (this.freezes <= 0) this.#cells.set(SINCE, second)
    else if (second - this.frozenSince > FREEZE_WINDOW_SECONDS) {
      this.#cells.set(SINCE, second)
      this.#cells.set(FREEZES, 0)
    }
    this.#cells.set(FREEZES, this.freezes + 1)
    return this.freezes
  }

  /** Sets bits, here and below; a PE that was given up for good keeps what it has (eeh_pe_state_mark). */
  mark(bits: number): void {
    for (const pe of this.tree()) if (!pe.is(EEH_PE.REMOVED)) pe.#become(pe.state | bits)
  }

  /** What eeh_pe_mark_isolated does. */
  isolate(): void {
    this.mark(EEH_PE.ISOLATED)
    for (const pe of this.tree()) {
      for (const device of pe.devices) if (device.isPresent) device.channel = CHANNEL.FROZEN
      if (pe.is(EEH_PE.CFG_RESTRICTED)) pe.#become(pe.state | EEH_PE.CFG_BLOCKED)
    }
  }

  /** Clears bits, here and below (eeh_pe_state_clear). */
  clear(bits: number, withPassed = true): void {
    for (const pe of this.tree()) {
      if (pe.is(EEH_PE.REMOVED) || (!withPassed && pe.isPassed)) continue
      let left = pe.state & ~bits
      if ((bits & EEH_PE.ISOLATED) !== 0) {
        pe.#cells.set(IGNORED, 0)
        for (const device of pe.devices) if (device.isPresent) device.channel = CHANNEL.NORMAL
        if ((left & EEH_PE.CFG_RESTRICTED) !== 0) left &= ~EEH_PE.CFG_BLOCKED
      }
      pe.#become(left)
    }
  }

  /** Its last device is gone for good. */
  invalidate(): void {
    this.#cells.set(TYPE, this.type | EEH_TYPE.INVALID)
  }

  #become(state: number): void {
    if (state === this.state) return
    this.#cells.set(STATE, state)
    const { log, cause } = this.#host.stage
    const { unit, pe } = this.firmware
    log.append(KIND['eeh.state'], cause, unit, pe, this.isPhb ? 1 : 0, state)
  }
}
