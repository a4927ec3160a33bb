import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import { VTD_REGISTERS } from '../../hw/vtd/register-format.ts'
import type { VtdUnit } from '../../hw/vtd/vtd-unit.ts'
import type { UnitPort } from '../../kernel/intel-iommu/unit-port.ts'

const AT = {
  version: VTD_REGISTERS.VER.offset,
  cap: VTD_REGISTERS.CAP.offset,
  ecap: VTD_REGISTERS.ECAP.offset,
  command: VTD_REGISTERS.GCMD.offset,
  status: VTD_REGISTERS.GSTS.offset,
  root: VTD_REGISTERS.RTADDR.offset,
  faults: VTD_REGISTERS.FSTS.offset,
  head: VTD_REGISTERS.IQH.offset,
  tail: VTD_REGISTERS.IQT.offset,
  queue: VTD_REGISTERS.IQA.offset,
} as const
const { TE, SRTP, QIE } = { TE: 1n << 31n, SRTP: 1n << 30n, QIE: 1n << 26n }
const IQE = 1n << 4n
/** QEMU 7.2, with widths of 39 and 48 bits. (hw/i386/intel_iommu.c, vtd_init) */
const CAP = { 39: 0x00d2_008c_2226_0206n, 48: 0x00d2_008c_222f_0606n } as const
const ECAP = 0xf0_0f4an
const CM = 1n << 7n
const DT = 1n << 2n
const SC = 1n << 7n
const PAGE_SHIFT = 12n

// Cells of the state: two for each word.
const STATUS = 0
const ROOT = 2
const QUEUE = 4
const TAIL = 6
const CELLS = 8

/** The registers of a unit in legacy mode that a driver uses: commands, root table, queue. */
export class UnitRegistersPort implements UnitPort {
  readonly name: string
  readonly memory: VtdUnit['options']['memory']
  readonly #unit: VtdUnit
  readonly #isCaching: boolean
  readonly #state: Cells
  #unknown: string | undefined

  constructor(unit: VtdUnit, isCaching: boolean, journal: Journal) {
    this.name = unit.options.name
    this.memory = unit.options.memory
    this.#unit = unit
    this.#isCaching = isCaching
    this.#state = new Cells(journal, keyOf('registers', unit.options.name), CELLS)
  }

  takeUnknown(): string | undefined {
    const why = this.#unknown
    this.#unknown = undefined
    return why
  }

  mmioRead(offset: number): bigint {
    const { options, head, isStopped } = this.#unit
    switch (offset) {
      case AT.version:
        return 0x10n
      case AT.cap:
        return CAP[options.addressBits === 39 ? 39 : 48] | (this.#isCaching ? CM : 0n)
      case AT.ecap:
        return ECAP | (options.hasDeviceTlb ? DT : 0n) | (options.hasSnoopControl ? SC : 0n)
      case AT.status:
        return this.#word(STATUS)
      case AT.faults:
        return isStopped ? IQE : 0n
      case AT.head:
        return BigInt(head)
      case AT.tail:
        return this.#word(TAIL)
      default:
        return 0n
    }
  }

  mmioWrite(offset: number, _bytes: 4 | 8, value: bigint): void {
    if (offset === AT.command) this.#command(value)
    else if (offset === AT.root) this.#set(ROOT, value)
    else if (offset === AT.queue) this.#set(QUEUE, value)
    else if (offset === AT.tail) this.#runQueue(value)
    else if (offset === AT.faults && (value & IQE) !== 0n) this.#unit.clearError()
  }

  #command(value: bigint): void {
    const before = this.#word(STATUS)
    const started = value & ~before
    const queue = this.#word(QUEUE) >> PAGE_SHIFT
    if ((started & QIE) !== 0n) this.#unit.setQueue(queue << PAGE_SHIFT, 0)
    if ((started & TE) !== 0n) this.#unit.enable(Number(this.#word(ROOT) >> PAGE_SHIFT))
    if ((before & TE & ~value) !== 0n) this.#unknown = 'translation that is switched off again'
    this.#set(STATUS, (value & (TE | QIE)) | ((before | value) & SRTP))
  }

  #runQueue(value: bigint): void {
    this.#set(TAIL, value)
    if ((this.#word(STATUS) & QIE) === 0n) return
    const end = this.#unit.setTail(Number(value))
    if (typeof end !== 'string') this.#unknown = end.why
    else if (end === 'stopped') this.#unknown = 'a queue that has stopped'
  }

  #word(cell: number): bigint {
    return wordOf(this.#state.get(cell + 1), this.#state.get(cell))
  }

  #set(cell: number, value: bigint): void {
    this.#state.set(cell, loOf(value))
    this.#state.set(cell + 1, hiOf(value))
  }
}
