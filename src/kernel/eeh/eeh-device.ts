import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { CHANNEL, type EehAnswer } from './states.ts'

/** The functions of a driver that EEH calls, by what they answer; one that is left out the driver does not have. */
export interface EehDriver {
  readonly name: string
  readonly errorDetected?: EehAnswer
  readonly mmioEnabled?: EehAnswer
  readonly slotReset?: EehAnswer
  readonly hasResume?: boolean
}

export interface EehDeviceOptions {
  readonly name: string
  /** Vendor << 16 | device; some devices are treated in a way of their own. */
  readonly pciId?: number
  /** The driver of the host that is bound to it; without error handlers of any kind it does not know EEH. */
  readonly driver?: EehDriver
}

const PRESENT = 0
const CHANNEL_STATE = 1
const IN_ERROR = 2
/** Its driver was bound while the PE was being recovered: it is not called back. */
const NO_HANDLER = 3

/** A PCI function as EEH keeps it (struct eeh_dev and its pci_dev). */
export class EehDevice {
  readonly name: string
  readonly pciId: number
  readonly driver: EehDriver | null
  readonly #cells: Cells

  constructor({ name, pciId = 0, driver }: EehDeviceOptions, journal: Journal) {
    this.name = name
    this.pciId = pciId
    this.driver = driver ?? null
    this.#cells = new Cells(journal, keyOf('eeh-device', name), 4)
    this.#cells.set(PRESENT, 1)
    this.#cells.set(CHANNEL_STATE, CHANNEL.NORMAL)
  }

  /** On its bus as the kernel sees it. */
  get isPresent(): boolean {
    return this.#cells.get(PRESENT) !== 0
  }

  /** `CHANNEL`. */
  get channel(): number {
    return this.#cells.get(CHANNEL_STATE)
  }

  set channel(state: number) {
    this.#cells.set(CHANNEL_STATE, state)
  }

  /** Whether its driver was told of the error. */
  get isInError(): boolean {
    return this.#cells.get(IN_ERROR) !== 0
  }

  set isInError(told: boolean) {
    this.#cells.set(IN_ERROR, told ? 1 : 0)
  }

  get hasHandlers(): boolean {
    const { driver } = this
    if (driver === null || this.#cells.get(NO_HANDLER) !== 0) return false
    const { errorDetected, mmioEnabled, slotReset, hasResume } = driver
    return (errorDetected ?? mmioEnabled ?? slotReset) !== undefined || hasResume === true
  }

  /** A driver that can have its device reset below it. */
  get survivesReset(): boolean {
    return this.driver?.errorDetected !== undefined && this.driver.slotReset !== undefined
  }

  unplug(): void {
    this.#cells.set(PRESENT, 0)
    this.isInError = false
    this.#cells.set(NO_HANDLER, 1)
  }

  plug(): void {
    this.#cells.set(PRESENT, 1)
    this.channel = CHANNEL.NORMAL
  }

  /** A recovery begins or ends: its driver is called back again. */
  handlersBack(): void {
    this.#cells.set(NO_HANDLER, 0)
  }
}
