import { ERRNO_CODES } from '../bits/codes.ts'
import { Cells, keyOf } from '../bits/state.ts'
import { KIND } from '../trace/event.ts'
import type { Stage } from '../trace/stage.ts'
import type { IodaPhb } from './ioda-phb.ts'
import { PE_GOES, PE_RESET, type PeFirmware, STOP, stateOfStops } from './pe-firmware.ts'

const { OK, EIO } = ERRNO_CODES
/** Cells. */
const STOPS = 0
const RESET = 1

/** What keeps a PE from its bus: two latched stop states, a reset, and the fence of its PHB. */
export class PeStops implements PeFirmware {
  readonly unit: number
  readonly pe: number
  readonly #phb: IodaPhb
  readonly #stage: Stage
  readonly #cells: Cells

  constructor(phb: IodaPhb, pe: number) {
    const { journal, stage } = phb.host
    this.unit = phb.unit
    this.pe = pe
    this.#phb = phb
    this.#stage = stage
    this.#cells = new Cells(journal, keyOf('pe-stops', phb.name, pe), 2)
  }

  /** Stop states that are latched (`STOP`). */
  get latched(): number {
    return this.#cells.get(STOPS)
  }

  /** The reset that is asserted (`PE_RESET`). */
  get resetKind(): number {
    return this.#cells.get(RESET)
  }

  /** Loads read all ones, stores are lost. */
  get isMmioStopped(): boolean {
    return (this.#cells.get(STOPS) & STOP.MMIO) !== 0 || this.#isHeld
  }

  /** Requests of its devices are refused. */
  get isDmaStopped(): boolean {
    return (this.#cells.get(STOPS) & STOP.DMA) !== 0 || this.#isHeld
  }

  /** A DMA that cannot be carried out latches both. The address in lanes. */
  freeze(hi: number, lo: number, isWrite: boolean, why: string): void {
    this.#cells.set(STOPS, STOP.BOTH)
    const { log, cause } = this.#stage
    log.append(KIND['pe.freeze'], cause, this.unit, this.pe, lo, hi, isWrite ? 1 : 0, log.names.intern(why))
    this.#phb.onError(this)
  }

  /** PHB3 and later do not tell of a reset: the PE is frozen meanwhile. (skiboot hw/phb4.c, phb4_eeh_freeze_status) */
  state(): number {
    return this.#phb.fence.isUp ? stateOfStops(STOP.BOTH) : stateOfStops(this.latched)
  }

  clearFreeze(stops: number): number {
    if (this.#phb.fence.isUp) return EIO
    const cleared = this.latched & stops
    if (cleared === 0) return OK
    this.#cells.set(STOPS, this.latched & ~cleared)
    const { log, cause } = this.#stage
    log.append(KIND['pe.thaw'], cause, this.unit, this.pe, cleared)
    return OK
  }

  setFreeze(): number {
    if (this.#phb.fence.isUp) return EIO
    if (this.latched === STOP.BOTH || !this.#phb.freezes) return OK
    this.#cells.set(STOPS, STOP.BOTH)
    const { log, cause } = this.#stage
    log.append(KIND['pe.stop'], cause, this.unit, this.pe)
    return OK
  }

  reset(kind: number): number {
    if (this.#phb.fence.isUp) return EIO
    if (kind === this.resetKind) return OK
    this.#cells.set(RESET, kind)
    const { log, cause } = this.#stage
    log.append(KIND['pe.reset'], cause, this.unit, this.pe, kind)
    return OK
  }

  /** The whole PHB was reset: nothing of it is left. */
  forget(): void {
    this.clearFreeze(STOP.BOTH)
    this.reset(PE_RESET.DEACTIVATE)
  }

  get #isHeld(): boolean {
    return this.#cells.get(RESET) !== PE_RESET.DEACTIVATE || this.#phb.fence.isUp
  }
}

/** The fence of a PHB: after an error of its own all its PEs are cut off, until it is reset as a whole. */
export class PhbFence implements PeFirmware {
  readonly unit: number
  /** The PHB itself goes by this number in records. */
  readonly pe = 0
  readonly #phb: IodaPhb
  readonly #cells: Cells

  constructor(phb: IodaPhb) {
    this.unit = phb.unit
    this.#phb = phb
    this.#cells = new Cells(phb.host.journal, keyOf('phb-fence', phb.name), 1)
  }

  get isUp(): boolean {
    return this.#cells.get(0) !== 0
  }

  /** The PHB meets an error of its own. */
  raise(): void {
    if (this.isUp) return
    this.#become(1)
    this.#phb.onError(this)
  }

  state(): number {
    return this.isUp ? 0 : PE_GOES
  }

  clearFreeze(): number {
    return this.isUp ? EIO : OK
  }

  setFreeze(): number {
    return this.isUp ? EIO : OK
  }

  /** A reset of the whole PHB takes fence and stop states away and empties its TCE cache. Its windows stay. */
  reset(kind: number): number {
    if (kind === PE_RESET.DEACTIVATE) return OK
    this.#become(0)
    this.#phb.kills.emptied()
    for (const { stops } of this.#phb.pes) stops.forget()
    return OK
  }

  #become(up: number): void {
    if (this.#cells.get(0) === up) return
    this.#cells.set(0, up)
    const { log, cause } = this.#phb.host.stage
    log.append(KIND['phb.fence'], cause, this.unit, up)
  }
}
