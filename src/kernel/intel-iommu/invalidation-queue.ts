import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { hiOf, loOf, swap32 } from '../../bits/u64.ts'
import { type Descriptor, waitDescriptor } from './descriptors.ts'
import type { UnitRegisters } from './unit-registers.ts'

/** Descriptors of the queue, whatever their width. (Linux v6.1 drivers/iommu/intel/iommu.h, QI_LENGTH) */
const SLOTS = 256
/** States of a slot, as they stand in memory; a wait writes `DONE`. */
const SLOT = { FREE: 0, IN_USE: 1, DONE: 2, ABORT: 3 } as const
const FSTS = { IQE: 1n << 4n, ICE: 1n << 5n, ITE: 1n << 6n } as const
const ERRORS = FSTS.IQE | FSTS.ICE | FSTS.ITE
/** IQA: 256-bit descriptors (DW) on two pages (QS 1). */
const WIDE = 0x801n
const WORD_BYTES = 8
/** A device that never completes is retried for ever by the kernel, and so often here. */
const RETRIES_MAX = 8
const ROUNDS_MAX = 1000

// Cells of the state.
const FREE_HEAD = 0
const FREE_TAIL = 1
const FREE_COUNT = 2
const QUEUE = 3
const STATUSES = 4
const CELLS = 5

/** Where the queue and its statuses lie, as 4 KiB pages. */
export interface QueuePlace {
  readonly queue: number
  readonly statuses: number
}

/** How a submission ended: `refused` where its first descriptor was invalid (-EINVAL). */
export type SubmissionEnd = 'done' | 'refused'

type Check = 'go on' | 'retry' | 'refused'

/**
 * The invalidation queue as Linux fills it: descriptors of one submission with a wait behind them, whose status word in
 * memory the driver polls. Errors of the queue are looked at while it waits. (Linux v6.1 drivers/iommu/intel/dmar.c,
 * qi_submit_sync, qi_check_fault; include/linux/intel-iommu.h)
 */
export class InvalidationQueue {
  /** What the kernel printed since it was last asked. */
  readonly printed: string[] = []
  readonly #registers: UnitRegisters
  readonly #state: Cells
  #unknown: string | undefined

  constructor(registers: UnitRegisters, journal: Journal) {
    this.#registers = registers
    this.#state = new Cells(journal, keyOf('invalidation queue', registers.port.name), CELLS)
  }

  /** What the unit does not know of what was submitted last. */
  takeUnknown(): string | undefined {
    const why = this.#unknown
    this.#unknown = undefined
    return why
  }

  /** Pages of the queue itself. */
  get pages(): number {
    return this.#isWide ? 2 : 1
  }

  /** Where the queue and its statuses lie from now on: pages of zeros. */
  setPlace({ queue, statuses }: QueuePlace): void {
    this.#state.set(QUEUE, queue)
    this.#state.set(STATUSES, statuses)
  }

  /** Hands the queue to the unit, empty, and switches it on. */
  enable(): void {
    const state = this.#state
    const registers = this.#registers
    state.set(FREE_HEAD, 0)
    state.set(FREE_TAIL, 0)
    state.set(FREE_COUNT, SLOTS)
    registers.write32('IQT', 0n)
    registers.write64('IQA', (BigInt(this.#queue) << 12n) | (this.#isWide ? WIDE : 0n))
    registers.turn('QIE', true)
  }

  /** Waits until the unit has read all of it, and switches it off, where it is on. */
  disable(): void {
    const registers = this.#registers
    if (!registers.features.hasQueue || !registers.isStatus('QIE')) return
    for (let round = 0; round < ROUNDS_MAX; round++) {
      if (registers.read32('IQT') === registers.read32('IQH')) break
      if (registers.port.elapse?.() !== true) break
    }
    registers.turn('QIE', false)
  }

  /**
   * Puts descriptors and a wait on the queue, and returns when the unit has carried them out.
   *
   * @param drains whether the wait drains page requests too (PD)
   */
  submit(descriptors: readonly Descriptor[], drains = false): SubmissionEnd {
    const { life } = this.#registers
    if (!this.#registers.isOn('QIE')) return 'done'
    for (let attempt = 0; attempt < RETRIES_MAX && !life.isDead; attempt++) {
      const end = this.#attempt(descriptors, drains)
      if (end !== 'retry') return end
    }
    life.die('the guest waits for ever: a device does not complete an invalidation')
    return 'done'
  }

  #attempt(descriptors: readonly Descriptor[], drains: boolean): SubmissionEnd | 'retry' {
    const state = this.#state
    const { life } = this.#registers
    const slots = descriptors.length + 1
    if (state.get(FREE_COUNT) < slots + 1)
      life.die('the guest waits for ever: the invalidation queue is full')
    const first = state.get(FREE_HEAD)
    const wait = (first + slots - 1) % SLOTS
    descriptors.forEach((descriptor, i) => {
      this.#put((first + i) % SLOTS, descriptor)
    })
    this.#put(wait, waitDescriptor(BigInt(this.#statusAt(wait)), drains))
    const head = (first + slots) % SLOTS
    state.set(FREE_HEAD, head)
    state.set(FREE_COUNT, state.get(FREE_COUNT) - slots)
    this.#registers.write32('IQT', BigInt(head << this.#shift))
    const end = this.#waitFor(first, wait)
    for (let i = 0; i < slots; i++) this.#mark((first + i) % SLOTS, SLOT.FREE)
    this.#reclaim()
    return end
  }

  #waitFor(first: number, wait: number): SubmissionEnd | 'retry' {
    const { life, port } = this.#registers
    for (let round = 0; this.#statusOf(wait) !== SLOT.DONE && !life.isDead; round++) {
      const check = this.#checkFault(first, wait)
      if (check !== 'go on') return check
      if (this.#statusOf(wait) === SLOT.DONE) break
      this.#unknown = port.takeUnknown?.()
      if (this.#unknown !== undefined) return 'done'
      if (port.elapse?.() !== true || round === ROUNDS_MAX) {
        life.die('the guest waits for ever: the status of an invalidation wait is not written')
      }
    }
    return 'done'
  }

  /** What the driver does about an error of the queue, while it waits for its own submission. */
  #checkFault(first: number, wait: number): Check {
    const registers = this.#registers
    if (this.#statusOf(wait) === SLOT.ABORT) return 'retry'
    const faults = registers.read32('FSTS') & ERRORS
    if (faults === 0n) return 'go on'
    this.#print(faults)
    if ((faults & FSTS.IQE) !== 0n && this.#clearBadDescriptor(first, wait)) return 'refused'
    if ((faults & FSTS.ITE) !== 0n) {
      this.#abortFetched()
      if (this.#statusOf(wait) === SLOT.ABORT) return 'retry'
    }
    if ((faults & FSTS.ICE) !== 0n) {
      registers.write32('FSTS', FSTS.ICE)
      this.printed.push('Invalidation Completion Error (ICE) cleared')
    }
    return 'go on'
  }

  /** Only the first descriptor of a submission is looked at: the wait takes its place. */
  #clearBadDescriptor(first: number, wait: number): boolean {
    const registers = this.#registers
    if (this.#slotAt('IQH') !== first) return false
    this.#put(first, this.#descriptorAt(wait))
    registers.write32('FSTS', FSTS.IQE)
    this.printed.push('Invalidation Queue Error (IQE) cleared')
    return true
  }

  /** All waits that the unit has fetched are lost with a time-out: those who poll them are told. */
  #abortFetched(): void {
    let slot = (this.#slotAt('IQH') - 1 + SLOTS) % SLOTS
    const last = (this.#slotAt('IQT') - 1 + SLOTS) % SLOTS
    this.#registers.write32('FSTS', FSTS.ITE)
    this.printed.push('Invalidation Time-out Error (ITE) cleared')
    do {
      if (this.#statusOf(slot) === SLOT.IN_USE) this.#mark(slot, SLOT.ABORT)
      slot = (slot - 1 + SLOTS) % SLOTS
    } while (slot !== last)
  }

  #reclaim(): void {
    const state = this.#state
    while (
      state.get(FREE_TAIL) !== state.get(FREE_HEAD) &&
      this.#statusOf(state.get(FREE_TAIL)) === SLOT.FREE
    ) {
      state.set(FREE_TAIL, (state.get(FREE_TAIL) + 1) % SLOTS)
      state.set(FREE_COUNT, state.get(FREE_COUNT) + 1)
    }
  }

  #print(faults: bigint): void {
    const error = this.#registers.read64('IQERCD')
    const say = (what: string, value: bigint) =>
      this.printed.push(`VT-d detected Invalidation ${what} ${value.toString(16)}`)
    if ((faults & FSTS.IQE) !== 0n) say('Queue Error: Reason', error & 0xfn)
    if ((faults & FSTS.ITE) !== 0n) say('Time-out Error: SID', (error >> 32n) & 0xffffn)
    if ((faults & FSTS.ICE) !== 0n) say('Completion Error: SID', (error >> 48n) & 0xffffn)
  }

  /** Descriptors have 256 bits where the unit knows scalable mode, whether it is used or not. */
  get #isWide(): boolean {
    return this.#registers.features.hasScalableMode
  }

  /** First pages; memory of a guest ends below 2^43 bytes, so that a cell holds them. */
  get #queue(): number {
    return this.#state.get(QUEUE)
  }

  get #statuses(): number {
    return this.#state.get(STATUSES)
  }

  get #shift(): number {
    return this.#isWide ? 5 : 4
  }

  #slotAt(register: 'IQH' | 'IQT'): number {
    return Number(this.#registers.read32(register)) >> this.#shift
  }

  /** The queue and its statuses are always snooped by the unit. */
  #put(slot: number, descriptor: Descriptor): void {
    const { memory } = this.#registers.port
    const offset = slot << this.#shift
    const words = [...descriptor, 0n, 0n].slice(0, this.#isWide ? 4 : 2)
    words.forEach((word, i) => {
      const at = offset + i * WORD_BYTES
      memory.storeU64be(this.#queue + (at >> 12), at & 0xfff, swap32(loOf(word)), swap32(hiOf(word)))
    })
    this.#mark(slot, SLOT.IN_USE)
  }

  #descriptorAt(slot: number): Descriptor {
    const { memory } = this.#registers.port
    const words = [0, 1, 2, 3].slice(0, this.#isWide ? 4 : 2).map((i) => {
      const at = (slot << this.#shift) + i * WORD_BYTES
      memory.loadU64be(this.#queue + (at >> 12), at & 0xfff)
      return (BigInt(swap32(memory.wordLo) >>> 0) << 32n) | BigInt(swap32(memory.wordHi) >>> 0)
    })
    return [words[0] ?? 0n, words[1] ?? 0n, ...words.slice(2)]
  }

  /** Address of the status word of a slot. */
  #statusAt(slot: number): number {
    return this.#statuses * 4096 + slot * 4
  }

  #statusOf(slot: number): number {
    const { memory } = this.#registers.port
    memory.loadU64be(this.#statuses, (slot * 4) & ~7)
    return swap32((slot & 1) === 0 ? memory.wordHi : memory.wordLo)
  }

  #mark(slot: number, status: number): void {
    const bytes = new Uint8Array(4)
    new DataView(bytes.buffer).setUint32(0, status, true)
    this.#registers.port.memory.writePage(this.#statuses, slot * 4, bytes, 0, 4)
  }
}
