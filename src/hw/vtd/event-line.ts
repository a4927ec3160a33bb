import { wordOf } from '../../bits/u64.ts'
import type { VtdRegisterName } from './register-format.ts'
import type { UnitCore } from './unit-core.ts'

/** Interrupt mask and pending, of FECTL, IECTL and PECTL. */
const IM = 0x8000_0000 | 0
const IP = 0x4000_0000

/** Which event of a unit: its registers have this letter in their names. */
const LETTERS = { fault: 'F', invalidation: 'I', 'page-request': 'P' } as const
export type VtdEvent = keyof typeof LETTERS

/**
 * The registers of one event: a message-signalled interrupt that can be masked, and is then pending.
 *
 * (VT-d manual, Fault Event Control Register, and those of the other two events.)
 */
export class EventLine {
  readonly #core: UnitCore
  readonly #event: VtdEvent
  readonly #control: VtdRegisterName
  readonly #data: VtdRegisterName
  readonly #address: VtdRegisterName
  readonly #upper: VtdRegisterName
  readonly #takesUpper: boolean

  constructor(core: UnitCore, event: VtdEvent) {
    const letter = LETTERS[event]
    this.#core = core
    this.#event = event
    this.#control = `${letter}ECTL`
    this.#data = `${letter}EDATA`
    this.#address = `${letter}EADDR`
    this.#upper = `${letter}EUADDR`
    this.#takesUpper = !core.has('D83')
  }

  /** Something happened that software is to hear of. */
  raise(): void {
    const { file } = this.#core
    if ((file.lane(this.#control) & IM) === 0) {
      this.#send()
      return
    }
    file.setBits(this.#control, IP, true)
    this.#record(0)
  }

  /** Software wrote the control register: what is pending is sent once it is not masked. */
  controlled(): void {
    const { file } = this.#core
    const control = file.lane(this.#control)
    if ((control & IP) === 0 || (control & IM) !== 0) return
    file.setBits(this.#control, IP, false)
    this.#send()
  }

  /** Software has dealt with everything: nothing is pending any more. */
  settle(): void {
    this.#core.file.setBits(this.#control, IP, false)
  }

  #send(): void {
    this.#record(1)
    this.#core.msi?.send(this.#target, this.#core.file.lane(this.#data) >>> 0)
  }

  get #target(): bigint {
    const { file } = this.#core
    return wordOf(this.#takesUpper ? file.lane(this.#upper) : 0, file.lane(this.#address))
  }

  #record(sent: number): void {
    const { stage, name, file, cause } = this.#core
    const data = file.lane(this.#data) >>> 0
    stage.log.emit('vtd.event', cause, { unit: name, event: this.#event, address: this.#target, data, sent })
  }
}
