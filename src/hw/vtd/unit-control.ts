import { Cells, keyOf } from '../../bits/state.ts'
import { hiOf, loOf, pageOf, wordOf } from '../../bits/u64.ts'
import { get } from '../../bits/word.ts'
import type { FaultLog } from './fault-log.ts'
import type { InterruptRemapper } from './interrupt-remapper.ts'
import type { Invalidator } from './invalidator.ts'
import type { InvalidationQueue } from './queue/invalidation-queue.ts'
import { RTADDR } from './register-format.ts'
import type { UnitCore } from './unit-core.ts'
import type { UnitTranslator } from './unit-translator.ts'

/** Bits of GCMD and GSTS. */
const BIT = {
  TE: 0x8000_0000 | 0,
  SRTP: 0x4000_0000,
  SFL: 0x2000_0000,
  EAFL: 0x1000_0000,
  QIE: 0x0400_0000,
  IRE: 0x0200_0000,
  SIRTP: 0x0100_0000,
  CFI: 0x0080_0000,
} as const
const PAGE_SHIFT = 12

// Cells of the state: the root table as it was taken.
const ROOT_LO = 0
const ROOT_HI = 1
const MODE = 2
const ENABLED = 3
const CELLS = 4

/** What the global commands set going. */
export interface ControlParts {
  readonly faults: FaultLog
  readonly queue: InvalidationQueue
  readonly invalidator: Invalidator
  readonly interrupts: InterruptRemapper
  readonly translator: UnitTranslator
}

/** The root table as a unit has taken it, and whether requests are translated by it. */
export class RootTable {
  readonly #cells: Cells
  readonly #hostBits: bigint

  constructor({ journal, name, has, features }: UnitCore) {
    this.#cells = new Cells(journal, keyOf('vtd-root-taken', name), CELLS)
    this.#hostBits = has('D96') ? (1n << BigInt(features.hostAddressBits)) - 1n : -1n
  }

  /** TTM. */
  get mode(): number {
    return this.#cells.get(MODE)
  }

  get address(): bigint {
    return wordOf(this.#cells.get(ROOT_HI), this.#cells.get(ROOT_LO))
  }

  get page(): number {
    return pageOf(this.#cells.get(ROOT_HI), this.#cells.get(ROOT_LO), PAGE_SHIFT)
  }

  /** GSTS.TES, for every request. */
  get isEnabled(): boolean {
    return this.#cells.data[ENABLED] !== 0
  }

  enable(isOn: boolean): void {
    this.#cells.set(ENABLED, isOn ? 1 : 0)
  }

  /** Takes RTADDR. */
  set(raw: bigint): void {
    const address = raw & ~0xfffn & this.#hostBits
    this.#cells.set(ROOT_LO, loOf(address))
    this.#cells.set(ROOT_HI, hiOf(address))
    this.#cells.set(MODE, Number(get(RTADDR, raw, 'TTM')))
  }
}

/**
 * The global command and status registers. A command is over when the write returns, but for the queue, which may wait
 * for a device. (VT-d manual, Global Command Register)
 */
export class UnitControl {
  readonly #core: UnitCore
  readonly #root: RootTable
  readonly #parts: ControlParts
  readonly #canTranslate: boolean
  readonly #isQemu: boolean
  readonly #setsAnyTable: boolean

  constructor(core: UnitCore, root: RootTable, parts: ControlParts) {
    const { features, has } = core
    this.#core = core
    this.#root = root
    this.#parts = parts
    this.#canTranslate = features.sagaw !== 0 || features.hasFirstLevel
    this.#isQemu = has('D10')
    this.#setsAnyTable = has('D82')
    this.#tellRoot()
  }

  /** Software wrote GCMD: levels count where they change, one-shots where they are set. */
  written(): void {
    const { file, features } = this.#core
    const value = file.lane('GCMD')
    const changed = file.lane('GSTS') ^ value
    if ((changed & BIT.TE) !== 0 && this.#canTranslate) this.#enable((value & BIT.TE) !== 0)
    if ((value & BIT.SRTP) !== 0) this.#setRoot()
    if ((changed & BIT.QIE) !== 0 && features.hasQueue) this.#switchQueue((value & BIT.QIE) !== 0)
    if ((value & BIT.SIRTP) !== 0 && (features.hasInterruptRemapping || this.#setsAnyTable)) {
      this.#parts.interrupts.setTable()
      file.setBits('GSTS', BIT.SIRTP, true)
    }
    if ((changed & BIT.IRE) !== 0) this.#setInterrupts(BIT.IRE, value)
    if (this.#isQemu) return
    // A flush of the write buffer is over at once, so that WBFS is never seen.
    if ((changed & BIT.CFI) !== 0) this.#setInterrupts(BIT.CFI, value)
    const isLogging = (value & (BIT.SFL | BIT.EAFL)) !== 0
    if (isLogging && features.hasFaultLog) this.#core.unmodelled('advanced fault logging')
  }

  /** The queue goes off, once all is done. */
  endQueue(): void {
    if (this.#parts.queue.end()) this.#core.file.setBits('GSTS', BIT.QIE, false)
  }

  #setInterrupts(bit: number, value: number): void {
    const { file, features } = this.#core
    if (features.hasInterruptRemapping) file.setBits('GSTS', bit, (value & bit) !== 0)
  }

  #switchQueue(isOn: boolean): void {
    if (!isOn) {
      this.endQueue()
      return
    }
    this.#core.file.setBits('GSTS', BIT.QIE, true)
    this.#parts.queue.begin()
  }

  #enable(isOn: boolean): void {
    this.#core.file.setBits('GSTS', BIT.TE, isOn)
    this.#root.enable(isOn)
    if (!isOn) this.#parts.faults.restart()
    this.#rooted(this.#isQemu)
  }

  #setRoot(): void {
    const { file, features } = this.#core
    this.#root.set(file.get('RTADDR'))
    file.setBits('GSTS', BIT.SRTP, true)
    this.#rooted(this.#isQemu || features.dropsCachesAtRoot)
  }

  /** Another root table, or another use of it. */
  #rooted(drops: boolean): void {
    const { stage, name, cause } = this.#core
    const { address, mode } = this.#root
    const enabled = this.#root.isEnabled ? 1 : 0
    stage.log.emit('vtd.root', cause, { unit: name, address, mode, enabled, line: stage.line })
    if (drops) this.#parts.translator.dropAll()
    this.#tellRoot()
  }

  #tellRoot(): void {
    const { page, mode } = this.#root
    this.#parts.translator.setRoot({ page, mode, isEnabled: this.#root.isEnabled })
  }
}

const isSet = ({ file }: UnitCore, bit: number): boolean => (file.lane('GSTS') & bit) !== 0

/** GSTS.IRES and CFIS: interrupts are remapped, and those in compatibility format pass. */
export const remapsInterrupts = (core: UnitCore): boolean => isSet(core, BIT.IRE)
export const allowsCompatibility = (core: UnitCore): boolean => isSet(core, BIT.CFI)
