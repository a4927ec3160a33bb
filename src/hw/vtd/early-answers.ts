import { isInterrupt } from './caches/results.ts'
import { FAULT } from './fault-reasons.ts'
import { NO_PASID, newTranslation, type Translation, type VtdRequest } from './ports.ts'
import type { UnitCore } from './unit-core.ts'
import type { UnitTranslator } from './unit-translator.ts'

/**
 * Translation requests that QEMU answers before it looks at any table, and whether translation is on: those of interrupt
 * addresses are faults (D114), and privileged ones are allowed nothing (D110).
 */
export class EarlyAnswers {
  /** The answer to the last request that was one of them. */
  readonly translation: Translation = newTranslation()
  readonly #translator: UnitTranslator
  readonly #refusesInterrupts: boolean
  readonly #refusesPrivileged: boolean

  constructor({ features, has }: UnitCore, translator: UnitTranslator) {
    this.#translator = translator
    this.#refusesInterrupts = has('D114')
    this.#refusesPrivileged = has('D110') && !features.hasSupervisor
  }

  /** Whether a translation request is one of them; the answer is in `translation`. */
  takes(request: VtdRequest): boolean {
    const { translation } = this
    translation.fault = 0
    if (this.#refusesInterrupts && isInterrupt(request)) {
      translation.fault = FAULT.SM_INTERRUPT_RANGE
      translation.isSilent = this.#isSilent(request)
      translation.pasid = request.pasid
      return true
    }
    return this.#refusesPrivileged && request.isPrivileged
  }

  /** FPD of the entries of the request, as far as they can be found. */
  #isSilent({ source, pasid }: VtdRequest): boolean {
    const translator = this.#translator
    if (translator.findContext(source) !== 0) return false
    return translator.context.isSilent || translator.silences(pasid === NO_PASID ? 0 : pasid)
  }
}
