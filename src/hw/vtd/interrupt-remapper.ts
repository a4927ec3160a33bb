import { Cells, keyOf } from '../../bits/state.ts'
import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import { get, maskOf } from '../../bits/word.ts'
import { INTERRUPT_START } from '../../memory/interrupt-range.ts'
import { type BlockedRequest, FAULT_ACCESS } from './fault-log.ts'
import { FAULT, isQualified } from './fault-reasons.ts'
import { NO_PASID } from './ports.ts'
import { IRTA } from './register-format.ts'
import { IRT_ENTRY_HI, IRT_ENTRY_LO } from './tables/format.ts'
import type { UnitCore } from './unit-core.ts'

/** Bits of the address of an interrupt request. */
const REMAPPABLE = 0x10
const SHV = 0x8
const ENTRY_BYTES = 16
const SUBHANDLE_MASK = 0xffff
const INDEX_SHIFT = 16
/** Bits of the function number that do not count, by SQ. */
const SOURCE_MASKS = [0xffff, 0xfffb, 0xfff9, 0xfff8] as const
const VERIFY = { NOTHING: 0, SOURCE: 1, BUS: 2 } as const

// Cells of the state: the table as it was taken.
const BASE_LO = 0
const BASE_HI = 1
const ENTRIES = 2
const EIME = 3

/** What interrupts need of their unit. */
export interface InterruptParts {
  readonly core: UnitCore
  /** GSTS.IRES and CFIS. */
  readonly isOn: () => boolean
  readonly allowsCompatibility: () => boolean
  readonly block: (blocked: BlockedRequest, isSilent: boolean) => void
}

/**
 * Interrupt requests of devices: writes to the interrupt addresses, which the interrupt remapping table turns into other
 * messages, or blocks. Entries are read at every request. (VT-d manual, Interrupt Remapping)
 */
export class InterruptRemapper {
  readonly #parts: InterruptParts
  readonly #core: UnitCore
  readonly #table: Cells
  readonly #bytes = new Uint8Array(ENTRY_BYTES)
  readonly #view = new DataView(this.#bytes.buffer)
  readonly #isQemu: boolean
  readonly #hostBits: bigint

  constructor(parts: InterruptParts) {
    const { features, journal, name, has } = parts.core
    this.#parts = parts
    this.#core = parts.core
    this.#table = new Cells(journal, keyOf('vtd-interrupts', name), 4)
    this.#isQemu = has('D18')
    this.#hostBits = has('D96') ? (1n << BigInt(features.hostAddressBits)) - 1n : -1n
  }

  /** GCMD.SIRTP: IRTA is taken. */
  setTable(): void {
    const raw = this.#core.file.get('IRTA')
    const base = raw & ~0xfffn & this.#hostBits
    this.#table.set(BASE_LO, loOf(base))
    this.#table.set(BASE_HI, hiOf(base))
    this.#table.set(ENTRIES, 2 ** (Number(get(IRTA, raw, 'S')) + 1))
    this.#table.set(EIME, Number(get(IRTA, raw, 'EIME')))
  }

  /**
   * A device writes 4 bytes to an interrupt address. Answers whether the interrupt goes on.
   *
   * @param address the lower lane; the upper one is 0
   */
  request(source: number, address: number, data: number): boolean {
    const { msi } = this.#core
    if (!this.#parts.isOn()) {
      msi?.send(BigInt(address >>> 0), data)
      return true
    }
    if ((address & REMAPPABLE) === 0) return this.#compatible(source, address, data)
    const hasSubhandle = (address & SHV) !== 0
    const handle = ((address >>> 5) & 0x7fff) | (((address >>> 2) & 1) << 15)
    const index = handle + (hasSubhandle ? data & SUBHANDLE_MASK : 0)
    const isReserved = data >>> INDEX_SHIFT !== 0 && (hasSubhandle || !this.#isQemu)
    if (isReserved && !this.#isQemu) return this.#blocked(source, index, FAULT.IR_REQUEST_RSVD, false)
    const fault = this.#find(source, index)
    const entry = wordOf(this.#view.getInt32(4, true), this.#view.getInt32(0, true))
    const isSilent = fault !== 0 && get(IRT_ENTRY_LO, entry, 'FPD') === 1n
    if (fault !== 0) return this.#blocked(source, index, fault, isSilent)
    if (isReserved) return this.#blocked(source, index, FAULT.IR_REQUEST_RSVD, false)
    if (get(IRT_ENTRY_LO, entry, 'IM') === 1n) {
      this.#core.unmodelled('posted interrupts')
      return false
    }
    this.#deliver(entry)
    return true
  }

  #compatible(source: number, address: number, data: number): boolean {
    const isAllowed = this.#parts.allowsCompatibility() && this.#table.get(EIME) === 0
    if (!isAllowed && !this.#isQemu) return this.#blocked(source, 0, FAULT.IR_COMPATIBILITY, false)
    this.#core.msi?.send(BigInt(address >>> 0), data)
    return true
  }

  /** Reads an entry of the table: 0, or what is wrong with it. */
  #find(source: number, index: number): number {
    this.#bytes.fill(0)
    if (index >= this.#table.get(ENTRIES)) return FAULT.IR_INDEX
    const base = wordOf(this.#table.get(BASE_HI), this.#table.get(BASE_LO))
    if (!this.#core.read(base + BigInt(index * ENTRY_BYTES), this.#bytes, ENTRY_BYTES)) {
      return FAULT.IR_ENTRY_ACCESS
    }
    const lo = this.#view.getBigUint64(0, true)
    const hi = this.#view.getBigUint64(8, true)
    if (get(IRT_ENTRY_LO, lo, 'P') === 0n) return FAULT.IR_ENTRY_P
    const isReserved =
      (lo & maskOf(IRT_ENTRY_LO, 'rsvd')) !== 0n || (hi & maskOf(IRT_ENTRY_HI, 'rsvd')) !== 0n
    if (isReserved) return FAULT.IR_ENTRY_RSVD
    return isFor(hi, source, this.#isQemu) ? 0 : FAULT.IR_SOURCE
  }

  #deliver(entry: bigint): void {
    const of = (field: keyof typeof IRT_ENTRY_LO.fields) => get(IRT_ENTRY_LO, entry, field)
    const isWide = this.#table.get(EIME) !== 0
    // Without EIME the destination has 8 bits, from bit 8 on.
    const to = isWide ? of('DST') : (of('DST') >> 8n) & 0xffn
    const upper = (to >> 8n) << 40n
    const address = upper | INTERRUPT_START | ((to & 0xffn) << 12n) | (of('RH') << 3n) | (of('DM') << 2n)
    const data = of('V') | (of('DLM') << 8n) | 0x4000n | (of('TM') << 15n)
    this.#core.msi?.send(address, Number(data))
  }

  #blocked(source: number, index: number, reason: number, isSilent: boolean): false {
    const blocked: BlockedRequest = {
      source,
      pasid: NO_PASID,
      hi: index << INDEX_SHIFT,
      lo: 0,
      reason,
      access: FAULT_ACCESS.WRITE,
      addressType: 0,
      isExecute: false,
      isPrivileged: false,
      isWalk: false,
      usedPasid: NO_PASID,
    }
    this.#parts.block(blocked, isSilent && isQualified(reason))
    return false
  }
}

/** Whether an entry is for a source-id. QEMU takes the first bus for the last. */
function isFor(hi: bigint, source: number, isQemu: boolean): boolean {
  const id = Number(get(IRT_ENTRY_HI, hi, 'SID'))
  switch (Number(get(IRT_ENTRY_HI, hi, 'SVT'))) {
    case VERIFY.NOTHING:
      return true
    case VERIFY.SOURCE: {
      const mask = SOURCE_MASKS[Number(get(IRT_ENTRY_HI, hi, 'SQ'))] as number
      return (id & mask) === (source & mask)
    }
    case VERIFY.BUS: {
      const bus = source >>> 8
      const [first, last] = isQemu ? [id & 0xff, id >>> 8] : [id >>> 8, id & 0xff]
      return bus >= first && bus <= last
    }
    default:
      return false
  }
}
