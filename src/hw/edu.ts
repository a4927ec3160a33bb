import type { Iova } from '../bits/brand.ts'
import { rulesOf } from '../bits/call.ts'
import type { Clock } from '../bits/clock.ts'
import type { Profile } from '../bits/errata.ts'
import { RegisterBank } from '../bits/register-bank.ts'
import { Cells, type Journal, keyOf } from '../bits/state.ts'
import { hex, hiOf, loOf } from '../bits/u64.ts'
import { get, put } from '../bits/word.ts'
import type { Stage } from '../trace/stage.ts'
import type { BusMaster } from './bus-master.ts'
import { DeviceBuffer } from './device-buffer.ts'
import type { DmaPort } from './dma-port.ts'
import { DMA_FAULT } from './dma-space.ts'
import { DMA_READ, MMIO_READ, MMIO_WRITE } from './edu-calls.ts'
import {
  EDU_BAR_BYTES,
  EDU_BUFFER_BYTES,
  EDU_BUFFER_START,
  EDU_DMA_CMD,
  EDU_REGISTERS,
  EDU_STATUS,
  EDU_WIDE_OFFSET,
  type EduRegister,
} from './edu-registers.ts'
import type { Life } from './life.ts'

const READ = rulesOf(MMIO_READ)
const WRITE = rulesOf(MMIO_WRITE)
/** The two calls of the `dma` verb have the same answers. */
const DMA = rulesOf(DMA_READ)
/** The rule of a request by what was wrong with it (`DMA_FAULT`). */
export const DMA_RULE_OF_FAULT: Readonly<Record<number, number>> = {
  [DMA_FAULT.NONE]: DMA.done,
  [DMA_FAULT.OUTSIDE]: DMA['outside-windows'],
  [DMA_FAULT.REFUSED]: DMA.refused,
  [DMA_FAULT.NO_MEMORY]: DMA['no-memory'],
  [DMA_FAULT.FROZEN]: DMA['pe-frozen'],
  [DMA_FAULT.BLOCKED]: DMA['translation-fault'],
}

const IRQ_FACTORIAL = 0x1n
const IRQ_DMA = 0x100n
const BUFFER_START = BigInt(EDU_BUFFER_START)
const BUFFER_END = BUFFER_START + BigInt(EDU_BUFFER_BYTES)
const WRITE_ONLY: readonly EduRegister[] = ['IRQ_RAISE', 'IRQ_ACK']
const READ_ONLY: readonly EduRegister[] = ['ID', 'IRQ_STATUS']
const DMA_REGISTERS: readonly EduRegister[] = ['DMA_SRC', 'DMA_DST', 'DMA_COUNT', 'DMA_CMD']
/** Factorials of this and more are multiples of 2^32. */
const FACTORIAL_ZERO = 34n

export interface EduOptions {
  readonly name: string
  /** The bus that its requests go to. */
  readonly space: DmaPort
  /** Bus addresses that it can form: 28 bits unless it was told otherwise. */
  readonly dmaMask?: bigint
  /** Ticks from the start of the engine to its request; 1. (In QEMU 100 ms of virtual time.) */
  readonly delayTicks?: number
}

export interface EduParts {
  readonly stage: Stage
  readonly journal: Journal
  readonly life: Life
  readonly profile: Profile
  readonly clock: Clock
}

/**
 * A DMA engine behind registers, modelled on QEMU's teaching device: one request at a time between a buffer of
 * 4096 bytes and the bus. It never looks at how its requests went. (QEMU 7.2 hw/misc/edu.c)
 */
export class Edu implements BusMaster {
  readonly name: string
  readonly space: DmaPort
  readonly dmaMask: bigint
  readonly registers: RegisterBank<EduRegister>
  /** What it said during the last call. */
  warnings: string[] = []
  readonly #delayTicks: number
  readonly #device: number
  readonly #parts: EduParts
  readonly #buffer: DeviceBuffer
  readonly #scratch = new Uint8Array(EDU_BUFFER_BYTES)
  /** Tick at which the engine runs. */
  readonly #due: Cells
  readonly #keepsLastByte: boolean
  readonly #diesOfOverrun: boolean

  constructor({ name, space, dmaMask, delayTicks }: EduOptions, parts: EduParts) {
    const { journal, profile, stage } = parts
    this.name = name
    this.space = space
    this.dmaMask = dmaMask ?? 0x0fff_ffffn
    this.#delayTicks = delayTicks ?? 1
    this.#device = stage.log.names.intern(name)
    this.#parts = parts
    this.registers = new RegisterBank(EDU_REGISTERS, new Cells(journal, keyOf('edu', name)))
    this.#buffer = new DeviceBuffer(journal, keyOf('edu-buffer', name), EDU_BUFFER_BYTES)
    this.#due = new Cells(journal, keyOf('edu-due', name), 1)
    this.#keepsLastByte = profile.has('Q11')
    this.#diesOfOverrun = profile.has('Q12')
  }

  get isRunning(): boolean {
    return get(EDU_DMA_CMD, this.registers.peek('DMA_CMD'), 'RUN') === 1n
  }

  /** A software read. Answers the place of the rule in `MMIO_READ`; the value is left in `value`. */
  read(offset: number, widthBytes: number): number {
    this.value = BigInt.asUintN(widthBytes * 8, -1n)
    if (this.space.isMmioStopped) return READ['pe-frozen']
    if (!isAccess(offset, widthBytes)) {
      this.value = 0n
      return READ['access-refused']
    }
    if (offset < EDU_WIDE_OFFSET && widthBytes !== 4) return READ['register-narrow']
    const name = this.registers.at(offset)
    if (name === undefined || WRITE_ONLY.includes(name)) return READ['no-register']
    this.value = BigInt.asUintN(widthBytes * 8, this.registers.read(offset))
    return READ.done
  }

  /** Result of `read`. */
  value = 0n

  /** A software write. Answers the place of the rule in `MMIO_WRITE`. */
  write(offset: number, widthBytes: number, value: bigint): number {
    if (this.space.isMmioStopped) return WRITE['pe-frozen']
    if (!isAccess(offset, widthBytes)) return WRITE['access-refused']
    if (offset < EDU_WIDE_OFFSET && widthBytes !== 4) return WRITE['register-narrow']
    const name = this.registers.at(offset)
    if (name === undefined || READ_ONLY.includes(name)) return WRITE['no-register']
    const isDma = DMA_REGISTERS.includes(name)
    if (name === 'DMA_CMD' && get(EDU_DMA_CMD, value, 'RUN') === 0n) return WRITE['not-started']
    if (isDma && this.isRunning) return WRITE['engine-busy']
    if (name === 'FACTORIAL' && this.#isComputing) return WRITE['computing']
    this.#take(name, offset, value)
    return WRITE.done
  }

  /** Time has passed: the factorial is ready, and the engine runs its request if that is due. */
  elapse(): void {
    if (this.#parts.life.isDead) return
    if (this.#isComputing) this.#finishFactorial()
    if (this.isRunning && this.#parts.clock.tick >= this.#due.get(0) >>> 0) this.#runEngine()
  }

  /**
   * One request programmed and run at once. Answers the place of the rule in `DMA_READ` and `DMA_WRITE`; after
   * a read the bytes are in the buffer.
   *
   * @param at where in the buffer
   * @param data what the buffer holds first (writes)
   */
  transfer(iova: Iova, bytes: number, isWrite: boolean, at: number, data?: Uint8Array): number {
    if (this.isRunning) return DMA['engine-busy']
    const { registers } = this
    const inBuffer = BUFFER_START + BigInt(at)
    if (data !== undefined && this.#fits(inBuffer, BigInt(data.length)))
      this.#buffer.store(at, data, data.length)
    registers.poke(isWrite ? 'DMA_SRC' : 'DMA_DST', inBuffer)
    registers.poke(isWrite ? 'DMA_DST' : 'DMA_SRC', iova)
    registers.poke('DMA_COUNT', BigInt(bytes))
    const run = put(EDU_DMA_CMD, 0n, 'RUN', 1n)
    registers.poke('DMA_CMD', put(EDU_DMA_CMD, run, 'TO_MEMORY', isWrite ? 1n : 0n))
    return this.#runEngine()
  }

  /** Bytes that the last request moved. */
  get moved(): number {
    return this.space.moved
  }

  get reason(): number {
    return this.space.reason ?? 0
  }

  /** A copy of bytes of the buffer. */
  bufferAt(at: number, bytes: number): Uint8Array {
    return this.#buffer.slice(at, bytes)
  }

  get #isComputing(): boolean {
    return get(EDU_STATUS, this.registers.peek('STATUS'), 'COMPUTING') === 1n
  }

  /** What a register does with a value that it takes. */
  #take(name: EduRegister, offset: number, value: bigint): void {
    const { registers } = this
    registers.write(offset, value)
    const irq = registers.peek('IRQ_STATUS')
    if (name === 'LIVENESS') registers.poke('LIVENESS', ~value)
    if (name === 'IRQ_RAISE') registers.poke('IRQ_STATUS', irq | value)
    if (name === 'IRQ_ACK') registers.poke('IRQ_STATUS', irq & ~value)
    if (name === 'FACTORIAL') {
      registers.poke('STATUS', put(EDU_STATUS, registers.peek('STATUS'), 'COMPUTING', 1n))
    }
    if (name === 'DMA_CMD') this.#due.set(0, (this.#parts.clock.tick + this.#delayTicks) | 0)
  }

  #finishFactorial(): void {
    const { registers } = this
    const n = registers.peek('FACTORIAL')
    let product = n >= FACTORIAL_ZERO ? 0n : 1n
    if (product !== 0n) for (let i = n; i > 0n; i--) product *= i
    registers.poke('FACTORIAL', product)
    const status = registers.peek('STATUS')
    registers.poke('STATUS', put(EDU_STATUS, status, 'COMPUTING', 0n))
    if (get(EDU_STATUS, status, 'IRQFACT') === 1n) {
      registers.poke('IRQ_STATUS', registers.peek('IRQ_STATUS') | IRQ_FACTORIAL)
    }
  }

  #runEngine(): number {
    const { registers } = this
    const cmd = registers.peek('DMA_CMD')
    const isWrite = get(EDU_DMA_CMD, cmd, 'TO_MEMORY') === 1n
    const inBuffer = registers.peek(isWrite ? 'DMA_SRC' : 'DMA_DST')
    const bytes = registers.peek('DMA_COUNT')
    let rule = DMA['buffer-overrun']
    this.space.moved = 0
    if (this.#fits(inBuffer, bytes)) {
      const iova = this.#clamp(registers.peek(isWrite ? 'DMA_DST' : 'DMA_SRC'))
      rule = this.#move(iova, Number(bytes), isWrite, Number(inBuffer - BUFFER_START))
    } else if (this.#diesOfOverrun) {
      this.#parts.life.die('edu-dma-out-of-bounds')
      return rule
    }
    registers.poke('DMA_CMD', put(EDU_DMA_CMD, cmd, 'RUN', 0n))
    if (get(EDU_DMA_CMD, cmd, 'IRQ') === 1n) {
      registers.poke('IRQ_STATUS', registers.peek('IRQ_STATUS') | IRQ_DMA)
    }
    return rule
  }

  #move(iova: bigint, bytes: number, isWrite: boolean, at: number): number {
    const scratch = this.#scratch
    if (isWrite) this.#buffer.load(at, bytes, scratch)
    this.space.request({
      device: this.#device,
      hi: hiOf(iova),
      lo: loOf(iova),
      buffer: scratch,
      at: 0,
      bytes,
      isWrite,
    })
    if (!isWrite) this.#buffer.store(at, scratch, bytes)
    return DMA_RULE_OF_FAULT[this.space.fault] as number
  }

  /** Whether the device thinks that the request stays in its buffer. */
  #fits(start: bigint, bytes: bigint): boolean {
    const end = BigInt.asUintN(64, start + bytes)
    if (start < BUFFER_START || end < start) return false
    return this.#keepsLastByte ? bytes > 0n && end < BUFFER_END : end <= BUFFER_END
  }

  #clamp(iova: bigint): bigint {
    const clamped = iova & this.dmaMask
    if (clamped !== iova) {
      const text = `${this.name}: DMA address ${hex(iova)} is cut to ${hex(clamped)}`
      this.warnings.push(text)
      const { log, cause } = this.#parts.stage
      log.emit('warning', cause < 0 ? null : cause, { layer: 'qemu', text })
    }
    return clamped
  }
}

function isAccess(offset: number, widthBytes: number): boolean {
  if (widthBytes !== 4 && widthBytes !== 8) return false
  return offset % widthBytes === 0 && offset + widthBytes <= EDU_BAR_BYTES
}
