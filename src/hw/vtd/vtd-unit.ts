import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { hiOf, hiOfNumber, loOf, loOfNumber, numberOf, pageOf, wordOf } from '../../bits/u64.ts'
import type { BusMemory } from '../../memory/ports.ts'
import { FLUSH_SCOPE, NONE } from '../../trace/event-codes.ts'
import type { Stage } from '../../trace/stage.ts'
import type { Life } from '../life.ts'
import { ContextTables, TRANSLATION_TYPE } from './context-tables.ts'
import { VTD_FAULT } from './faults.ts'
import { type Invalidation, type IovaRange, readDescriptor, type UnknownDescriptor } from './invalidation.ts'
import { SecondLevelTables, SL_READ, SL_WRITE } from './second-level.ts'

export const VTD_PAGE_SHIFT = 12
const PAGE_SHIFT = BigInt(VTD_PAGE_SHIFT)
/** Bus addresses that are interrupts, as 4 KiB pages. */
const INTERRUPT_FIRST = 0xfee00
const INTERRUPT_LAST = 0xfeeff
/** A flush of context entries that names no single device. */
export const EVERY_SOURCE = 0xffff_ffff
const DESCRIPTOR_BYTES = 16
const QUEUE_PAGE_BYTES = 4096
const WAIT_BYTES = 4
/** Scopes of `domain.flush`. */

/** What a unit is made as. */
export interface VtdOptions {
  readonly name: string
  readonly memory: BusMemory
  /** Width of bus addresses: 39 (3 levels) or 48 (3 and 4 levels). */
  readonly addressBits: number
  /** Width of the host addresses in its tables. */
  readonly hostAddressBits: number
  /** ECAP.DT: devices may have a TLB of their own. */
  readonly hasDeviceTlb: boolean
  /** ECAP.SC. */
  readonly hasSnoopControl: boolean
  readonly hasPassThrough: boolean
}

/** What takes something from caches. */
export type Flush = Exclude<Invalidation, { what: 'wait' }>

/** Who is told what software has the unit forget, before the unit goes on to the next descriptor. */
export interface InvalidationWatcher {
  invalidated(what: Flush): void
}

/** How a descriptor ended: carried out, refused, not reached any more, or not known. */
export type DescriptorEnd = 'done' | 'refused' | 'stopped' | UnknownDescriptor

// Cells of the state.
const ROOT_LO = 0
const ROOT_HI = 1
const ENABLED = 2
const QUEUE_LO = 3
const QUEUE_HI = 4
const QUEUE_BYTES = 5
const HEAD = 6
const STOPPED = 7
const CELLS = 8

/**
 * A DMA remapping unit of VT-d in legacy mode: root, context and second-level tables in memory, and an invalidation
 * queue of 128-bit descriptors. It keeps no caches of its own, so that a translation is what the tables say now.
 * Registers, faults, interrupts and scalable mode are not here.
 *
 * `translate` leaves what it found in `target`, `perm` and `pages`.
 */
export class VtdUnit {
  readonly options: VtdOptions
  /** Told of each invalidation. */
  watcher: InvalidationWatcher | undefined
  readonly contexts: ContextTables
  readonly tables: SecondLevelTables
  /** Why a descriptor was refused last. */
  why = ''
  readonly #stage: Stage
  readonly #life: Life
  readonly #state: Cells
  readonly #line = new Uint8Array(DESCRIPTOR_BYTES)
  readonly #view = new DataView(this.#line.buffer)

  constructor(options: VtdOptions, parts: { stage: Stage; journal: Journal; life: Life }) {
    this.options = options
    this.#stage = parts.stage
    this.#life = parts.life
    this.#state = new Cells(parts.journal, keyOf('vtd', options.name), CELLS)
    this.contexts = new ContextTables({ ...options, levels: options.addressBits === 39 ? [3] : [3, 4] })
    this.tables = new SecondLevelTables(options)
  }

  /** Whether requests are translated (GSTS.TES). */
  get isEnabled(): boolean {
    return this.#state.get(ENABLED) !== 0
  }

  /** An invalid descriptor has stopped the queue (FSTS.IQE). */
  get isStopped(): boolean {
    return this.#state.get(STOPPED) !== 0
  }

  /** Byte offset of the descriptor that is next (IQH). */
  get head(): number {
    return this.#state.get(HEAD)
  }

  /** Software sets the root table, a 4 KiB page, and switches translation on. */
  enable(rootTable: number): void {
    this.#state.set(ROOT_LO, loOfNumber(rootTable))
    this.#state.set(ROOT_HI, hiOfNumber(rootTable))
    this.#state.set(ENABLED, 1)
  }

  /** Software sets the queue: address of 2^order pages of descriptors; the head is at 0 (IQA, QIE). */
  setQueue(address: bigint, order: number): void {
    this.#state.set(QUEUE_LO, loOf(address))
    this.#state.set(QUEUE_HI, hiOf(address))
    this.#state.set(QUEUE_BYTES, QUEUE_PAGE_BYTES << order)
    this.#state.set(HEAD, 0)
  }

  /** Software clears the error of a descriptor: with the next tail the queue goes on at its head. */
  clearError(): void {
    this.#state.set(STOPPED, 0)
  }

  /** Finds the context entry of a source-id: 0, or the fault. What it says is in `contexts`. */
  find(source: number): number {
    return this.contexts.find(numberOf(this.#state.get(ROOT_HI), this.#state.get(ROOT_LO)), source)
  }

  /** Bits of the addresses that the tables of the context found last translate. */
  get inputBits(): number {
    return Math.min(VTD_PAGE_SHIFT + 9 * this.contexts.levels, this.options.addressBits)
  }

  /**
   * Walks the tables for a request without PASID, at the bus address in two lanes. Answers 0, or the fault.
   *
   * The whole of a large page counts where the address it leads to is compared with the interrupt range.
   */
  translate(source: number, hi: number, lo: number, isWrite: boolean): number {
    const fault = this.find(source)
    if (fault !== 0) return fault
    const { tables, contexts } = this
    const page = pageOf(hi, lo, VTD_PAGE_SHIFT)
    if (contexts.type === TRANSLATION_TYPE.PASS_THROUGH) {
      tables.target = page
      tables.pages = 1
      tables.perm = SL_READ | SL_WRITE
      return 0
    }
    if (page >= 2 ** (this.inputBits - VTD_PAGE_SHIFT)) return VTD_FAULT.ADDRESS_BEYOND_MGAW
    const wrong = tables.translate(contexts.root, contexts.levels, page, isWrite ? SL_WRITE : SL_READ)
    if (wrong !== 0) return wrong
    const first = tables.target - (tables.target % tables.pages)
    const isInterrupt = first <= INTERRUPT_LAST && first + tables.pages > INTERRUPT_FIRST
    return isInterrupt ? VTD_FAULT.INTERRUPT_RANGE : 0
  }

  /** One descriptor is carried out: two words as in memory. */
  submit(lo: bigint, hi: bigint): DescriptorEnd {
    if (this.isStopped) return 'stopped'
    const what = readDescriptor(lo, hi)
    if (what.what === 'unmodelled') return what
    if (what.what === 'refused') {
      this.why = what.why
      this.#state.set(STOPPED, 1)
      return 'refused'
    }
    if (what.what === 'wait') return this.#wait(what.address, what.data)
    const before = this.#stage.cause
    this.#recordFlush(what)
    this.watcher?.invalidated(what)
    this.#stage.cause = before
    return 'done'
  }

  /**
   * Software writes the tail: descriptors from the head on are carried out, until one that is not. The head stays on that.
   */
  setTail(tail: number): DescriptorEnd {
    const bytes = this.#state.get(QUEUE_BYTES)
    if (bytes === 0) return { what: 'unmodelled', why: 'a tail before the queue is set' }
    if (this.isStopped) return 'stopped'
    if (tail >= bytes || tail % DESCRIPTOR_BYTES !== 0) {
      this.why = 'the tail is no place of the queue'
      this.#state.set(STOPPED, 1)
      return 'refused'
    }
    while (this.head !== tail) {
      const end = this.#fetch()
      if (end !== 'done' || this.#life.isDead) return end
      this.#state.set(HEAD, (this.head + DESCRIPTOR_BYTES) % bytes)
    }
    return 'done'
  }

  #fetch(): DescriptorEnd {
    const address = wordOf(this.#state.get(QUEUE_HI), this.#state.get(QUEUE_LO)) + BigInt(this.head)
    const page = Number(address >> PAGE_SHIFT)
    const { memory } = this.options
    const offset = Number(address & 0xfffn)
    if (!memory.isRam(page) || !memory.readPage(page, offset, this.#line, 0, DESCRIPTOR_BYTES)) {
      this.why = 'the descriptor is not in memory'
      this.#state.set(STOPPED, 1)
      return 'refused'
    }
    return this.submit(this.#view.getBigUint64(0, true), this.#view.getBigUint64(8, true))
  }

  /** All descriptors before are done by now: the status is written, and software goes on. */
  #wait(address: bigint, data: number): DescriptorEnd {
    const { memory, name } = this.options
    const page = Number(address >> PAGE_SHIFT)
    this.#view.setUint32(0, data, true)
    if (!memory.isRam(page) || !memory.writePage(page, Number(address & 0xfffn), this.#line, 0, WAIT_BYTES)) {
      return { what: 'unmodelled', why: 'a wait status that is not in memory' }
    }
    const { log, cause, line } = this.#stage
    log.emit('domain.wait', cause < 0 ? null : cause, { unit: name, line })
    return 'done'
  }

  /** The record of a flush is the cause of what its watchers do. */
  #recordFlush(what: Flush): void {
    const { log, cause, line } = this.#stage
    if (!log.on) return
    const record = {
      unit: this.options.name,
      domain: 0,
      source: 0,
      pasid: NONE,
      iova: 0n,
      bytes: 0n,
      hint: 0,
      line,
    }
    this.#stage.cause = log.emit('domain.flush', cause < 0 ? null : cause, { ...record, ...flushOf(what) })
  }
}

/** Bytes of a range; 0 for the whole space. */
const bytesOf = ({ iova, last }: IovaRange): bigint => BigInt.asUintN(64, last - iova + 1n)

function flushOf(what: Flush) {
  if (what.what === 'device-tlb') {
    const { source, range } = what
    return { scope: FLUSH_SCOPE.DEVICE_TLB, source, iova: range.iova, bytes: bytesOf(range) }
  }
  if (what.what === 'context') {
    const domain = what.scope === 'all' ? 0 : what.domain
    return {
      scope: FLUSH_SCOPE.CONTEXT,
      domain,
      source: what.scope === 'device' ? what.source : EVERY_SOURCE,
    }
  }
  if (what.scope === 'all') return { scope: FLUSH_SCOPE.ALL }
  if (what.scope === 'domain') return { scope: FLUSH_SCOPE.DOMAIN, domain: what.domain }
  const bytes = 1n << (PAGE_SHIFT + BigInt(what.addressMask))
  const iova = what.address & ~(bytes - 1n)
  return { scope: FLUSH_SCOPE.PAGES, domain: what.domain, iova, bytes }
}
