import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { hiOf, loOf, U64_MAX, wordOf } from '../../bits/u64.ts'
import type { Life } from '../../hw/life.ts'
import { featuresOf, type VtdFeatures } from '../../hw/vtd/capabilities.ts'
import { VTD_REGISTERS, type VtdRegister, type VtdRegisterName } from '../../hw/vtd/register-format.ts'
import type { UnitPort } from './unit-port.ts'

/** Bits of GCMD; those of GSTS that say it is done are the same. */
const COMMAND = { TE: 1n << 31n, SRTP: 1n << 30n, WBF: 1n << 27n, QIE: 1n << 26n, IRE: 1n << 25n } as const
/** PMEN: enable, and whether they are on. */
const EPM = 1n << 31n
const PRS = 1n
/** F of a fault recording register, in the upper half of its upper word. */
const F = 1n << 31n

/** Rounds of polling; only a unit that needs time takes more than one. */
const ROUNDS_MAX = 1000
/** What the kernel says before it stops. (Linux v6.1 drivers/iommu/intel/iommu.h, IOMMU_WAIT_OP) */
const MALFUNCTION = 'the guest panics: DMAR hardware is malfunctioning'
const RECORD_BYTES = 16

/**
 * The registers of a unit as Linux uses them: the commands that stay on are kept in a shadow, one command is given at a
 * time, and each is polled for until the unit says that it is done. A unit that never does ends the guest.
 */
export class UnitRegisters {
  readonly port: UnitPort
  readonly life: Life
  readonly #shadow: Cells
  readonly #hostAddressBits: number
  #features: VtdFeatures

  /** @param hostAddressBits width of the addresses of memory, which no register tells */
  constructor(
    port: UnitPort,
    hostAddressBits: number,
    parts: { readonly journal: Journal; readonly life: Life },
  ) {
    this.port = port
    this.life = parts.life
    this.#hostAddressBits = hostAddressBits
    this.#shadow = new Cells(parts.journal, keyOf('gcmd', port.name), 2)
    this.#features = featuresOf(0n, 0n, hostAddressBits)
  }

  /** Reads what the unit can do, and what is on. False where there is none: both registers are all ones. */
  probe(): boolean {
    const [cap, ecap] = [this.read64('CAP'), this.read64('ECAP')]
    this.#features = featuresOf(cap, ecap, this.#hostAddressBits)
    if (cap === U64_MAX && ecap === U64_MAX) return false
    this.read32('VER')
    this.#keep(this.read32('GSTS') & (COMMAND.TE | COMMAND.QIE | COMMAND.IRE))
    return true
  }

  get features(): VtdFeatures {
    return this.#features
  }

  read32(name: VtdRegisterName): bigint {
    return this.life.isDead ? 0n : this.port.mmioRead(this.#offsetOf(name), 4)
  }

  read64(name: VtdRegisterName): bigint {
    return this.life.isDead ? 0n : this.port.mmioRead(this.#offsetOf(name), 8)
  }

  write32(name: VtdRegisterName, value: bigint): void {
    if (!this.life.isDead) this.port.mmioWrite(this.#offsetOf(name), 4, value)
  }

  write64(name: VtdRegisterName, value: bigint): void {
    if (!this.life.isDead) this.port.mmioWrite(this.#offsetOf(name), 8, value)
  }

  /** A fault recording register: its upper word, and the lower one; undefined where it holds no fault. Then it is cleared. */
  takeRecord(record: number): { readonly lo: bigint; readonly hi: bigint } | undefined {
    const at = this.#offsetOf('FRCD_HI', record)
    if (this.life.isDead) return undefined
    const top = this.port.mmioRead(at + 4, 4)
    if (top >> 31n === 0n) return undefined
    const hi = (top << 32n) | this.port.mmioRead(at, 4)
    const lo = this.port.mmioRead(this.#offsetOf('FRCD_LO', record), 8)
    this.port.mmioWrite(at + 4, 4, F)
    return { lo, hi }
  }

  /** Whether a command that stays on is on, as the driver knows it. */
  isOn(command: 'TE' | 'QIE'): boolean {
    return (this.#gcmd & COMMAND[command]) !== 0n
  }

  /** Whether the unit says that something is on. */
  isStatus(command: 'TE' | 'QIE'): boolean {
    return (this.read32('GSTS') & COMMAND[command]) !== 0n
  }

  /** Gives a command that stays on, and waits until the unit has done it. */
  turn(command: 'TE' | 'QIE', on: boolean): void {
    const bit = COMMAND[command]
    this.#keep(on ? this.#gcmd | bit : this.#gcmd & ~bit)
    this.write32('GCMD', this.#gcmd)
    this.poll32('GSTS', (status) => ((status & bit) !== 0n) === on)
  }

  /** Latches the root table (SRTP), or flushes the write buffer (WBF), which is done when its bit has gone. */
  command(command: 'SRTP' | 'WBF'): void {
    const bit = COMMAND[command]
    this.write32('GCMD', this.#gcmd | bit)
    this.poll32('GSTS', (status) => ((status & bit) !== 0n) === (command === 'SRTP'))
  }

  /** Protected memory regions of the firmware are switched off, where the unit has them. */
  disableProtectedRegions(): void {
    if (!this.#features.hasProtectedRegions) return
    this.write32('PMEN', this.read32('PMEN') & ~EPM)
    this.poll32('PMEN', (status) => (status & PRS) === 0n)
  }

  poll32(name: VtdRegisterName, isDone: (value: bigint) => boolean): bigint {
    return this.#poll(() => this.read32(name), isDone)
  }

  poll64(name: VtdRegisterName, isDone: (value: bigint) => boolean): bigint {
    return this.#poll(() => this.read64(name), isDone)
  }

  #poll(read: () => bigint, isDone: (value: bigint) => boolean): bigint {
    for (let round = 0; round < ROUNDS_MAX && !this.life.isDead; round++) {
      const value = read()
      if (isDone(value)) return value
      if (this.port.elapse?.() !== true) break
    }
    this.life.die(MALFUNCTION)
    return 0n
  }

  #offsetOf(name: VtdRegisterName, record = 0): number {
    const { offset, from }: VtdRegister = VTD_REGISTERS[name]
    if (from === 'IRO') return this.#features.iotlbOffset + offset
    if (from === 'FRO') return this.#features.faultOffset + offset + record * RECORD_BYTES
    return offset
  }

  get #gcmd(): bigint {
    return wordOf(this.#shadow.get(1), this.#shadow.get(0))
  }

  #keep(value: bigint): void {
    this.#shadow.set(0, loOf(value))
    this.#shadow.set(1, hiOf(value))
  }
}
