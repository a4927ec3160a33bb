import { VTD_REGISTERS, type VtdRegister } from '../../src/hw/vtd/register-format.ts'
import type { UnitPort } from '../../src/kernel/intel-iommu/unit-port.ts'
import { FlatMemory } from './flat-memory.ts'

const TE = 1n << 31n
const SRTP = 1n << 30n
const WBF = 1n << 27n
const QIE = 1n << 26n
const BUSY = 1n << 63n
const F = 1n << 31n
const WAIT = 5n

/** What the fake does with the next descriptors. */
export interface FakeWays {
  /** Refuses descriptors with this lower word (IQE). */
  refuse?: bigint
  /** So many device-TLB invalidations are lost: a time-out (ITE) each. */
  lost?: number
  /** A completion that nobody asked for comes with the next descriptor (ICE). */
  unasked?: boolean
  /** Device-TLB invalidations take so many rounds of polling. */
  late?: number
  /** No command is ever done. */
  deaf?: boolean
  /** Records of faults that are there: upper and lower word. */
  records?: readonly (readonly [hi: bigint, lo: bigint])[]
}

/**
 * Registers and queue of a unit, as little as a driver needs: it translates nothing, and keeps what it was told. A
 * descriptor is kept as its words; everything but waits is kept in `done`, in order, with what the driver wrote.
 */
export class FakeVtdUnit implements UnitPort {
  readonly name = 'vtd0'
  readonly memory: FlatMemory
  readonly ways: FakeWays = {}
  /** Writes and reads as `NAME=value` and `NAME`, waits as `wait`, descriptors as their words. */
  readonly bus: string[] = []
  readonly done: (readonly bigint[])[] = []
  /** What the unit sees in memory when it is told to invalidate. */
  seen: ((words: readonly bigint[]) => void) | undefined
  readonly #words = new Map<number, bigint>()
  readonly #names = new Map<number, string>()
  readonly #iotlb: number
  readonly #fault: number
  #pending = 0

  constructor(cap: bigint, ecap: bigint, memoryBytes = 1 << 24) {
    this.memory = new FlatMemory(memoryBytes)
    this.#words.set(VTD_REGISTERS.VER.offset, 0x10n)
    this.#words.set(VTD_REGISTERS.CAP.offset, cap)
    this.#words.set(VTD_REGISTERS.ECAP.offset, ecap)
    this.#iotlb = Number((ecap >> 8n) & 0x3ffn) * 16
    this.#fault = Number((cap >> 24n) & 0x3ffn) * 16
    for (const [name, { offset, from }] of Object.entries<VtdRegister>(VTD_REGISTERS)) {
      const base = from === 'IRO' ? this.#iotlb : from === 'FRO' ? this.#fault : 0
      this.#names.set(base + offset, name)
    }
  }

  /** What happened on the bus since the last time. */
  take(): string[] {
    return this.bus.splice(0)
  }

  reg(name: keyof typeof VTD_REGISTERS): bigint {
    return this.#words.get(VTD_REGISTERS[name].offset) ?? 0n
  }

  setReg(name: keyof typeof VTD_REGISTERS, value: bigint): void {
    this.#words.set(VTD_REGISTERS[name].offset, value)
  }

  mmioRead(offset: number, bytes: 4 | 8): bigint {
    this.bus.push(this.#nameOf(offset))
    const record = this.ways.records?.[(offset - this.#fault) >> 4]
    if (offset >= this.#fault && record !== undefined) {
      const word = (offset & 8) === 0 ? record[1] : record[0]
      return (offset & 4) === 0 ? BigInt.asUintN(bytes * 8, word) : word >> 32n
    }
    return BigInt.asUintN(bytes * 8, this.#words.get(offset) ?? 0n)
  }

  mmioWrite(offset: number, _bytes: 4 | 8, value: bigint): void {
    this.bus.push(`${this.#nameOf(offset)}=${value.toString(16)}`)
    if (offset === VTD_REGISTERS.GCMD.offset) this.#command(value)
    else if (offset === VTD_REGISTERS.FSTS.offset) {
      this.setReg('FSTS', this.reg('FSTS') & ~value)
      this.#run()
    } else if (offset === VTD_REGISTERS.PRS.offset) this.setReg('PRS', this.reg('PRS') & ~value)
    else if (offset >= this.#fault && value === F) {
      const at = (offset - this.#fault) >> 4
      this.ways.records = (this.ways.records ?? []).map((r, i) => (i === at ? [0n, r[1]] : r))
    } else {
      // Commands of registers are done at once, as they were asked for.
      const isIotlb = offset === this.#iotlb + 8
      const isCommand = isIotlb || offset === VTD_REGISTERS.CCMD.offset
      const granted = isIotlb ? ((value >> 60n) & 3n) << 57n : 0n
      this.#words.set(offset, isCommand && this.ways.deaf !== true ? (value & ~BUSY) | granted : value)
      if (isCommand) this.seen?.([value])
      if (offset === VTD_REGISTERS.IQT.offset) this.#run()
    }
  }

  elapse(): boolean {
    if (this.#pending === 0) return false
    this.#pending--
    if (this.#pending === 0) this.#run()
    return true
  }

  /** A word of memory, least significant byte first. */
  word(address: number): bigint {
    return new DataView(this.memory.bytes.buffer).getBigUint64(address, true)
  }

  #nameOf(offset: number): string {
    const direct = this.#names.get(offset)
    if (direct !== undefined) return direct
    return offset >= this.#fault ? `FRCD+${offset - this.#fault}` : `0x${offset.toString(16)}`
  }

  #command(value: bigint): void {
    if (this.ways.deaf === true) return
    const before = this.reg('GSTS')
    if ((value & QIE) !== 0n && (before & QIE) === 0n) this.setReg('IQH', 0n)
    this.setReg('GSTS', (value & (TE | QIE)) | ((before | value) & SRTP))
    if ((value & WBF) !== 0n) this.seen?.([])
  }

  get #width(): number {
    return (this.reg('IQA') & (1n << 11n)) === 0n ? 16 : 32
  }

  #run(): void {
    const bytes = 4096 << Number(this.reg('IQA') & 7n)
    while (this.#isRunning && this.reg('IQH') !== this.reg('IQT')) {
      const at = Number(this.reg('IQA') & ~0xfffn) + Number(this.reg('IQH'))
      const words = Array.from({ length: this.#width / 8 }, (_, i) => this.word(at + i * 8))
      if (!this.#carryOut(words)) return
      this.setReg('IQH', (this.reg('IQH') + BigInt(this.#width)) % BigInt(bytes))
    }
  }

  get #isRunning(): boolean {
    return (this.reg('GSTS') & QIE) !== 0n && (this.reg('FSTS') & 0x50n) === 0n && this.#pending === 0
  }

  /** False where the queue stops on the descriptor. */
  #carryOut(words: readonly bigint[]): boolean {
    const [lo = 0n, hi = 0n] = words
    const type = lo & 0xfn
    if (lo === this.ways.refuse) {
      this.setReg('FSTS', this.reg('FSTS') | 0x10n)
      this.setReg('IQERCD', 4n)
      return false
    }
    if (type === WAIT && (lo & 0x20n) !== 0n) {
      this.bus.push('wait')
      new DataView(this.memory.bytes.buffer).setUint32(Number(hi), Number(lo >> 32n), true)
      return true
    }
    this.bus.push(words.map((w) => w.toString(16)).join(' '))
    this.done.push(words)
    this.seen?.(words)
    if (this.ways.unasked === true) {
      this.ways.unasked = false
      this.setReg('FSTS', this.reg('FSTS') | 0x20n)
    }
    return type !== 3n && type !== 8n ? true : this.#ask(lo, words)
  }

  /** A device is asked to forget: it may be late, or not answer. All fetched until then is lost with it. */
  #ask(lo: bigint, _words: readonly bigint[]): boolean {
    if ((this.ways.lost ?? 0) > 0) {
      this.ways.lost = (this.ways.lost ?? 0) - 1
      this.setReg('FSTS', this.reg('FSTS') | 0x40n)
      this.setReg('IQERCD', ((lo >> 32n) & 0xffffn) << 32n)
      // The wait behind it was fetched and is dropped.
      this.setReg('IQH', this.reg('IQT'))
      return false
    }
    if ((this.ways.late ?? 0) > 0) {
      this.#pending = this.ways.late ?? 0
      this.ways.late = 0
    }
    return true
  }
}
