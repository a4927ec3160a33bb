import { assert, IommulatorError } from '../../bits/errors.ts'
import type { Cells } from '../../bits/state.ts'
import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import { maskOf, type Word } from '../../bits/word.ts'
import type { VtdFeatures } from './capabilities.ts'
import {
  FSTS_OLD,
  PQH_128,
  PQT_128,
  PRS_OLD,
  VTD_REGISTERS,
  type VtdRegister,
  type VtdRegisterName,
} from './register-format.ts'

/** Bytes from one fault recording register to the next. */
const FRCD_BYTES = 16
const LANE_BYTES = 4

/** Which registers a unit has only with a capability. Those not named are always there. */
const NEEDS: Partial<Record<VtdRegisterName, (features: VtdFeatures) => boolean>> = {
  AFLOG: (f) => f.hasFaultLog,
  PMEN: (f) => f.hasProtectedRegions,
  PLMBASE: (f) => f.hasProtectedRegions,
  PLMLIMIT: (f) => f.hasProtectedRegions,
  PHMBASE: (f) => f.hasProtectedRegions,
  PHMLIMIT: (f) => f.hasProtectedRegions,
  IQH: (f) => f.hasQueue,
  IQT: (f) => f.hasQueue,
  IQA: (f) => f.hasQueue,
  ICS: (f) => f.hasQueue,
  IECTL: (f) => f.hasQueue,
  IEDATA: (f) => f.hasQueue,
  IEADDR: (f) => f.hasQueue,
  IEUADDR: (f) => f.hasQueue && f.hasExtendedInterrupts,
  IQERCD: (f) => f.hasQueue,
  FEUADDR: (f) => f.hasExtendedInterrupts,
  IRTA: (f) => f.hasInterruptRemapping,
  PQH: (f) => f.hasPageRequests,
  PQT: (f) => f.hasPageRequests,
  PQA: (f) => f.hasPageRequests,
  PRS: (f) => f.hasPageRequests,
  PECTL: (f) => f.hasPageRequests,
  PEDATA: (f) => f.hasPageRequests,
  PEADDR: (f) => f.hasPageRequests,
  PEUADDR: (f) => f.hasPageRequests && f.hasExtendedInterrupts,
  VCMD: (f) => f.hasVirtualCommands,
  VCRSP: (f) => f.hasVirtualCommands,
  VCCAP: (f) => f.hasVirtualCommands,
}

/** How a unit differs from what is declared: registers that it has or lacks, and other reset values and masks. */
export interface RegisterQuirks {
  readonly there?: readonly VtdRegisterName[]
  readonly missing?: readonly VtdRegisterName[]
  readonly resets?: Partial<Record<VtdRegisterName, bigint>>
  /** Bits that software may write besides those declared. */
  readonly writable?: Partial<Record<VtdRegisterName, bigint>>
}

/** A register of a unit. */
interface Place {
  readonly name: VtdRegisterName
  readonly offset: number
  /** Of its lower lane. */
  readonly cell: number
  readonly lanes: 1 | 2
}

/**
 * The registers of a unit with the access rules of their fields, in lanes of 32 bits: a 64-bit register is two, and an
 * access of 8 bytes touches two lanes, whichever registers they belong to.
 *
 * `load` and `store` are what software does, `get` and `set` what the unit itself does. Where no register is, reads
 * give 0 and writes vanish.
 *
 * @example
 * const file = new RegisterFile(features, {}, cells)
 * file.store(0x20, 0x1000) // lower half of RTADDR
 */
export class RegisterFile {
  readonly #cells: Cells
  readonly #places: Place[] = []
  /** By name; of FRCD the first one. */
  readonly #first = new Map<VtdRegisterName, Place>()
  /** Cell of each lane of the register space, and the register there; -1 for none. */
  readonly #cellAt: Int32Array
  readonly #placeAt: Int32Array
  readonly #writable: Int32Array
  readonly #clears: Int32Array
  readonly #shown: Int32Array

  constructor(features: VtdFeatures, quirks: RegisterQuirks, cells: Cells) {
    this.#cells = cells
    const names = (Object.keys(VTD_REGISTERS) as VtdRegisterName[]).filter((name) => {
      if (quirks.missing?.includes(name) === true) return false
      return quirks.there?.includes(name) === true || (NEEDS[name]?.(features) ?? true)
    })
    const masks: [word: Word, extra: bigint][] = []
    for (const name of names) {
      const isRepeated = name === 'FRCD_LO' || name === 'FRCD_HI'
      for (let i = 0; i < (isRepeated ? features.faultRecords : 1); i++) {
        const word = wordOfRegister(name, features)
        const offset = offsetOf(VTD_REGISTERS[name], features) + i * FRCD_BYTES
        const lanes = word.widthBits === 64 ? 2 : 1
        const cell = masks.length * 2
        const place: Place = { name, offset, cell, lanes }
        this.#places.push(place)
        if (i === 0) this.#first.set(name, place)
        masks.push([word, quirks.writable?.[name] ?? 0n])
      }
    }
    const end = Math.max(...this.#places.map((p) => p.offset + p.lanes * LANE_BYTES))
    this.#cellAt = new Int32Array(end / LANE_BYTES).fill(-1)
    this.#placeAt = new Int32Array(end / LANE_BYTES).fill(-1)
    cells.ensure(masks.length * 2)
    this.#writable = new Int32Array(masks.length * 2)
    this.#clears = new Int32Array(masks.length * 2)
    this.#shown = new Int32Array(masks.length * 2)
    this.#places.forEach((place, i) => {
      const [word, extra] = masks[i] as [Word, bigint]
      const writable = maskOf(word, 'rw') | maskOf(word, 'wo') | extra
      const clears = maskOf(word, 'rw1c')
      const shown = ~(maskOf(word, 'wo') | (maskOf(word, 'rsvd') & ~extra))
      for (let lane = 0; lane < place.lanes; lane++) {
        const at = place.offset / LANE_BYTES + lane
        const other = this.#places[this.#placeAt[at] as number]
        if (other !== undefined) {
          const both = `${other.name} and ${place.name} at 0x${(at * LANE_BYTES).toString(16)}`
          throw new IommulatorError(
            'ERR_MACHINE',
            `the capability registers put ${both}: see FRO and NFR of CAP, IRO of ECAP`,
          )
        }
        this.#cellAt[at] = place.cell + lane
        this.#placeAt[at] = i
        const shift = BigInt(lane * 32)
        this.#writable[place.cell + lane] = loOf(writable >> shift)
        this.#clears[place.cell + lane] = loOf(clears >> shift)
        this.#shown[place.cell + lane] = loOf(shown >> shift)
      }
    })
    for (const [name, place] of this.#first) {
      const declared: VtdRegister = VTD_REGISTERS[name]
      this.#setPlace(place, quirks.resets?.[name] ?? declared.reset ?? 0n)
    }
  }

  /** Bytes from the base to the end of the last register. */
  get bytes(): number {
    return this.#cellAt.length * LANE_BYTES
  }

  has(name: VtdRegisterName): boolean {
    return this.#first.has(name)
  }

  /** Offset of a register; -1 where the unit has none of the name. */
  offsetOf(name: VtdRegisterName): number {
    return this.#first.get(name)?.offset ?? -1
  }

  /** Name of the register that a lane belongs to. */
  nameAt(offset: number): VtdRegisterName | undefined {
    return this.#places[this.#placeAt[offset >>> 2] ?? -1]?.name
  }

  /** Whether a lane is the upper half of its register. */
  isUpper(offset: number): boolean {
    const place = this.#places[this.#placeAt[offset >>> 2] ?? -1]
    return place !== undefined && offset !== place.offset
  }

  /** A software read of a lane: write-only and reserved bits show 0. */
  load(offset: number): number {
    const cell = this.#cellAt[offset >>> 2] ?? -1
    if (cell < 0) return 0
    return this.#cells.get(cell) & (this.#shown[cell] as number)
  }

  /** A software write of a lane: bits that software may not write keep their value, others clear where 1 is written. */
  store(offset: number, value: number): void {
    const cell = this.#cellAt[offset >>> 2] ?? -1
    if (cell < 0) return
    const writable = this.#writable[cell] as number
    const before = this.#cells.get(cell)
    const now = (before & ~writable) | (value & writable)
    this.#cells.set(cell, now & ~(value & (this.#clears[cell] as number)))
  }

  /** The value of a register, as the unit sees it; 0 where it has none of the name. */
  get(name: VtdRegisterName): bigint {
    const place = this.#first.get(name)
    if (place === undefined) return 0n
    return wordOf(place.lanes === 2 ? this.#cells.get(place.cell + 1) : 0, this.#cells.get(place.cell))
  }

  set(name: VtdRegisterName, value: bigint): void {
    const place = this.#first.get(name)
    if (place !== undefined) this.#setPlace(place, value)
  }

  /** The lower lane of a register. */
  lane(name: VtdRegisterName): number {
    const place = this.#first.get(name)
    return place === undefined ? 0 : this.#cells.get(place.cell)
  }

  setLane(name: VtdRegisterName, value: number): void {
    const place = this.#first.get(name)
    if (place !== undefined) this.#cells.set(place.cell, value)
  }

  /** Bits of the lower lane are set, or cleared. */
  setBits(name: VtdRegisterName, mask: number, isOn: boolean): void {
    this.setLane(name, isOn ? this.lane(name) | mask : this.lane(name) & ~mask)
  }

  /** The words of a fault recording register. */
  record(index: number): { lo: bigint; hi: bigint } {
    const lo = this.#recordCell('FRCD_LO', index)
    const hi = this.#recordCell('FRCD_HI', index)
    return {
      lo: wordOf(this.#cells.get(lo + 1), this.#cells.get(lo)),
      hi: wordOf(this.#cells.get(hi + 1), this.#cells.get(hi)),
    }
  }

  setRecord(index: number, lo: bigint, hi: bigint): void {
    this.#setCells(this.#recordCell('FRCD_LO', index), lo)
    this.#setCells(this.#recordCell('FRCD_HI', index), hi)
  }

  /** F of a fault recording register: the sign of its last lane. */
  isRecordFull(index: number): boolean {
    return this.#cells.get(this.#recordCell('FRCD_HI', index) + 1) < 0
  }

  /** SID of a fault recording register. */
  recordSource(index: number): number {
    return this.#cells.get(this.#recordCell('FRCD_HI', index)) & 0xffff
  }

  #recordCell(name: 'FRCD_LO' | 'FRCD_HI', index: number): number {
    const place = this.#first.get(name)
    assert(place !== undefined, 'a unit has fault recording registers')
    return place.cell + index * 2
  }

  #setPlace(place: Place, value: bigint): void {
    this.#cells.set(place.cell, loOf(value))
    if (place.lanes === 2) this.#cells.set(place.cell + 1, hiOf(value))
  }

  #setCells(cell: number, value: bigint): void {
    this.#cells.set(cell, loOf(value))
    this.#cells.set(cell + 1, hiOf(value))
  }
}

function offsetOf({ offset, from }: VtdRegister, features: VtdFeatures): number {
  if (from === 'FRO') return features.faultOffset + offset
  return from === 'IRO' ? features.iotlbOffset + offset : offset
}

/** Whether page requests are those of revisions 2.x: 16 bytes long, and their overflow is a fault. */
export const hasOldPageRequests = ({ hasExtendedContext, hasScalableMode }: VtdFeatures): boolean =>
  hasExtendedContext && !hasScalableMode

const OLD_WORDS: Partial<Record<VtdRegisterName, Word>> = {
  FSTS: FSTS_OLD,
  PRS: PRS_OLD,
  PQH: PQH_128,
  PQT: PQT_128,
}

function wordOfRegister(name: VtdRegisterName, features: VtdFeatures): Word {
  const old = hasOldPageRequests(features) ? OLD_WORDS[name] : undefined
  return old ?? VTD_REGISTERS[name].word
}
