import { Cells, keyOf } from '../../bits/state.ts'
import { encode, get } from '../../bits/word.ts'
import { VCMD, VCRSP } from './register-format.ts'
import type { UnitCore } from './unit-core.ts'

const COMMAND = { ALLOCATE: 1, FREE: 2 } as const
/** SC of VCRSP. */
const STATUS = { DONE: 0, REFUSED: 16 } as const
/** Where the PASID stands in operand and result, which begin at bit 8. */
const PASID_SHIFT = 8n
const WORD_SHIFT = 5

/**
 * The virtual command registers: a virtual unit hands out PASIDs of its host. The lowest one that is free is taken; 0 never is.
 *
 * (VT-d manual, Virtual Command Register)
 */
export class VirtualCommands {
  readonly #core: UnitCore
  /** A bit for each PASID that was handed out. */
  readonly #taken: Cells
  readonly #count: number

  constructor(core: UnitCore) {
    const { features, journal, name } = core
    this.#core = core
    this.#count = features.hasVirtualCommands ? 2 ** features.pasidBits : 0
    this.#taken = new Cells(journal, keyOf('vtd-virtual-pasids', name), Math.ceil(this.#count / 32))
    if (this.#count > 0) this.#mark(0, true)
  }

  /** Software wrote VCMD. */
  written(): void {
    const { file } = this.#core
    const raw = file.get('VCMD')
    const pasid = Number((get(VCMD, raw, 'OPERAND') >> PASID_SHIFT) & 0xf_ffffn)
    switch (Number(get(VCMD, raw, 'CMD'))) {
      case COMMAND.ALLOCATE:
        this.#allocate()
        break
      case COMMAND.FREE:
        this.#free(pasid)
        break
      default:
        this.#core.unmodelled(`virtual command ${get(VCMD, raw, 'CMD')}`)
    }
  }

  #allocate(): void {
    const cells = this.#taken
    for (let word = 0; word < cells.length; word++) {
      const free = ~cells.get(word)
      if (free === 0) continue
      const pasid = (word << WORD_SHIFT) + (31 - Math.clz32(free & -free))
      if (pasid >= this.#count) break
      this.#mark(pasid, true)
      this.#answer(STATUS.DONE, pasid)
      return
    }
    this.#answer(STATUS.REFUSED, 0)
  }

  #free(pasid: number): void {
    const isTaken = pasid > 0 && pasid < this.#count && this.#isTaken(pasid)
    if (isTaken) this.#mark(pasid, false)
    this.#answer(isTaken ? STATUS.DONE : STATUS.REFUSED, 0)
  }

  #answer(status: number, pasid: number): void {
    const result = { SC: BigInt(status), RSLT: BigInt(pasid) << PASID_SHIFT }
    this.#core.file.set('VCRSP', encode(VCRSP, result))
  }

  #isTaken(pasid: number): boolean {
    return ((this.#taken.get(pasid >>> WORD_SHIFT) >>> (pasid & 31)) & 1) !== 0
  }

  #mark(pasid: number, isTaken: boolean): void {
    const word = pasid >>> WORD_SHIFT
    const bit = 1 << (pasid & 31)
    const before = this.#taken.get(word)
    this.#taken.set(word, isTaken ? before | bit : before & ~bit)
  }
}
