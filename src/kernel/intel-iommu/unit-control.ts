import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import { get } from '../../bits/word.ts'
import { TABLE_MODE, type TableMode } from '../../hw/vtd/ports.ts'
import { FSTS } from '../../hw/vtd/register-format.ts'
import { INTERRUPT_START } from '../../memory/interrupt-range.ts'
import type { CpuStores } from './cpu-stores.ts'
import { GRANULARITY } from './descriptors.ts'
import type { Duty } from './duties.ts'
import type { Flusher } from './flusher.ts'
import type { UnitRegisters } from './unit-registers.ts'

/** Where the message of an event goes, and its data: processor 0, a vector for each kind. */
const MESSAGE = { ADDRESS: INTERRUPT_START, FAULT: 0x21n } as const
/** Vector of the page request event. */
export const REQUEST_VECTOR = 0x22
/** Pages of the page request queue, as log2. (Linux v6.1 drivers/iommu/intel/svm.h, PRQ_ORDER) */
export const REQUEST_QUEUE_ORDER = 4
const TTM_SHIFT = 10n
/** What PFO, PPF and PRO are written with once the records are read. */
const FSTS_DONE = 0x83n
const PRO = 0x80n

/** Registers of fault events that a suspended unit forgets. */
type Saved = readonly [control: bigint, data: bigint, address: bigint, upper: bigint]

/** A fault recording register as the driver read it. */
export interface FaultRecord {
  readonly lo: bigint
  readonly hi: bigint
}

/**
 * How Linux starts a unit, stops it, and has it sleep: the order of registers and flushes.
 * (Linux v6.1 drivers/iommu/intel/dmar.c, dmar_enable_qi; iommu.c, init_dmars, iommu_suspend, init_iommu_hw)
 */
export class UnitControl {
  readonly #registers: UnitRegisters
  readonly #flusher: Flusher
  readonly #stores: CpuStores
  readonly #forgets: (duty: Duty) => boolean
  /** svm-faults-leave-overflow */
  readonly #leavesOverflow: boolean
  readonly #saved: Held<Saved | undefined>

  constructor(
    parts: { readonly registers: UnitRegisters; readonly flusher: Flusher; readonly stores: CpuStores },
    journal: Journal,
    forgets: (duty: Duty) => boolean,
    leavesOverflow: boolean,
  ) {
    this.#leavesOverflow = leavesOverflow
    this.#registers = parts.registers
    this.#flusher = parts.flusher
    this.#stores = parts.stores
    this.#forgets = forgets
    this.#saved = new Held<Saved | undefined>(
      journal,
      `${parts.registers.port.name} asleep`,
      undefined,
      (s) => (s === undefined ? 0 : keyOf(...s.map(String))),
    )
  }

  get isSuspended(): boolean {
    return this.#saved.value !== undefined
  }

  /** What firmware or an earlier kernel left is cleared: fault records, the queue, translation. Then the queue is on. */
  prepare(): void {
    const registers = this.#registers
    this.readFaults()
    this.#flusher.queue.disable()
    if (registers.features.hasQueue) this.#flusher.queue.enable()
    if (registers.isStatus('TE')) registers.turn('TE', false)
  }

  /** The root table is set, all caches know nothing of what was before. */
  setRoot(root: number, mode: TableMode): void {
    const registers = this.#registers
    this.flushWriteBuffer()
    registers.write64('RTADDR', (BigInt(root) << 12n) | (BigInt(mode) << TTM_SHIFT))
    registers.command('SRTP')
    if (registers.features.dropsCachesAtRoot || this.#forgets('root-caches')) return
    this.#flusher.context(0, 0, GRANULARITY.GLOBAL)
    if (mode === TABLE_MODE.SCALABLE) this.#flusher.everyPasidEntry()
    this.#flusher.everything()
  }

  /** The page request queue, and its event: switched on before the unit has requests. */
  enableRequests(queue: number, order = REQUEST_QUEUE_ORDER): void {
    const registers = this.#registers
    this.#enableEvent('PE', BigInt(REQUEST_VECTOR))
    registers.write64('PQH', 0n)
    registers.write64('PQT', 0n)
    registers.write64('PQA', (BigInt(queue) << 12n) | BigInt(order))
  }

  enableFaults(): void {
    this.#enableEvent('FE', MESSAGE.FAULT)
  }

  enable(): void {
    this.#registers.turn('TE', true)
    this.#registers.disableProtectedRegions()
  }

  /** Before the machine restarts: protected regions of the firmware are off, and so is translation. */
  shutDown(): void {
    this.#registers.disableProtectedRegions()
    this.#registers.turn('TE', false)
  }

  suspend(): void {
    const registers = this.#registers
    this.#flusher.context(0, 0, GRANULARITY.GLOBAL)
    this.#flusher.everything()
    registers.turn('TE', false)
    const saved = (['FECTL', 'FEDATA', 'FEADDR', 'FEUADDR'] as const).map((name) => registers.read32(name))
    this.#saved.set(saved as unknown as Saved)
  }

  resume(root: number, mode: TableMode): void {
    const registers = this.#registers
    const [control = 0n, data = 0n, address = 0n, upper = 0n] = this.#saved.value ?? []
    if (registers.features.hasQueue) {
      this.#flusher.queue.disable()
      this.#flusher.queue.enable()
    }
    this.setRoot(root, mode)
    this.enable()
    registers.write32('FECTL', control)
    registers.write32('FEDATA', data)
    registers.write32('FEADDR', address)
    registers.write32('FEUADDR', upper)
    this.#saved.set(undefined)
  }

  /** After an entry that was not present was written, for a unit that does not cache such. */
  flushWriteBuffer(): void {
    if (!this.#registers.features.needsWriteBufferFlush || this.#forgets('write-buffer')) return
    this.#stores.drain()
    this.#registers.command('WBF')
  }

  /**
   * The fault handler: reads the records from FRI on and clears each. Without PPF nothing is read or cleared.
   * (Linux v6.1 drivers/iommu/intel/dmar.c, dmar_fault)
   */
  readFaults(): readonly FaultRecord[] {
    const registers = this.#registers
    const { faultRecords } = registers.features
    const records: FaultRecord[] = []
    const status = registers.read32('FSTS')
    if (get(FSTS, status, 'PPF') === 0n) return records
    let at = Number(get(FSTS, status, 'FRI'))
    // Behind the last full one it looks at one that is clear.
    for (let i = 0; i <= faultRecords; i++) {
      const record = registers.takeRecord(at)
      if (record === undefined) break
      records.push(record)
      at = (at + 1) % faultRecords
    }
    registers.write32('FSTS', this.#leavesOverflow ? FSTS_DONE & ~PRO : FSTS_DONE)
    return records
  }

  /** Data, address, upper address, and then the mask is taken off. */
  #enableEvent(kind: 'FE' | 'PE', data: bigint): void {
    const registers = this.#registers
    registers.write32(`${kind}DATA`, data)
    registers.write32(`${kind}ADDR`, MESSAGE.ADDRESS)
    registers.write32(`${kind}UADDR`, 0n)
    registers.write32(`${kind}CTL`, 0n)
    registers.read32(`${kind}CTL`)
  }
}
