import { Cells, keyOf } from '../../../bits/state.ts'
import { hiOf, loOf, wordOf } from '../../../bits/u64.ts'
import { get } from '../../../bits/word.ts'
import { EventLine } from '../event-line.ts'
import { type FaultLog, FSTS_BIT } from '../fault-log.ts'
import type { Invalidator } from '../invalidator.ts'
import { type DeviceTlbPort, type PageResponse, TABLE_MODE, type VtdInvalidation } from '../ports.ts'
import { IQA } from '../register-format.ts'
import type { UnitCore } from '../unit-core.ts'
import { DESCRIPTOR_FAULTS } from './descriptors.ts'
import { DeviceWaits, type Wait } from './device-waits.ts'
import { type UnitDescriptor, UnitDescriptors } from './unit-descriptors.ts'

/** Why the queue stops (IQERCD.IQEI), for what is no descriptor's. */
const QUEUE_ERROR = { TAIL: 1, FETCH: 2, WIDTH: 5, UNALIGNED: 6, TABLE_MODE: 7 } as const
/** Descriptors of 16 bytes in a page of 4 KiB. */
const PAGE_DESCRIPTORS = 256
const TAIL_MASK = 0x7_fff0
/** The bit of a tail that 256-bit descriptors do not have. */
const HALF = 0x10
/** log2 of the bytes of a descriptor of either width. */
const NARROW_SHIFT = 4
const WIDE_SHIFT = 5
const IWC = 1
const STATUS_BYTES = 4
/** Requests that a device has at most, where MIP is 0. */
const MIP_MOST = 32
const MIP_MASK = 0x1fn
const TYPE_WAIT = 5
const STOPPED = FSTS_BIT.IQE | FSTS_BIT.ITE

// Cells of the state.
const BASE_LO = 0
const BASE_HI = 1
/** Descriptors in the queue; 0 while it is off. */
const SIZE = 2
const WIDE = 3
/** Numbers of descriptors: the head, and the tail as it was taken. */
const HEAD = 4
const TAIL = 5
/** Type of the last descriptor that was looked at. */
const LAST_TYPE = 6
/** Software has switched the queue off, but not all is done. */
const ENDING = 7
const CELLS = 8

/** What the queue needs of its unit. */
export interface QueueParts {
  readonly core: UnitCore
  readonly faults: FaultLog
  readonly invalidator: Invalidator
  /** TTM as the unit has taken it. */
  readonly tableMode: () => number
  readonly deviceTlbs: () => DeviceTlbPort | undefined
}

/**
 * The invalidation queue of a unit: descriptors from the head to the tail are carried out when software writes the tail
 * or clears an error, until one is wrong. The head stays on that one.
 *
 * (VT-d manual, Queued Invalidation Interface)
 */
export class InvalidationQueue {
  readonly #parts: QueueParts
  readonly #core: UnitCore
  readonly #line: EventLine
  readonly #state: Cells
  readonly #waits: DeviceWaits
  readonly #narrow: UnitDescriptors
  readonly #wide: UnitDescriptors
  readonly #bytes = new Uint8Array(32)
  readonly #view = new DataView(this.#bytes.buffer)
  readonly #words: bigint[] = []
  // Quirks.
  readonly #endsOnlyAfterWait: boolean
  readonly #staysStopped: boolean
  readonly #takesTailAtWrite: boolean
  readonly #ignoresBadTail: boolean
  readonly #takesWidthAtWrite: boolean
  readonly #ignoresMode: boolean
  readonly #hostBits: bigint
  readonly #failsUnwritten: boolean
  readonly #forgivesNoDevice: boolean

  constructor(parts: QueueParts) {
    const { core } = parts
    const { features, name, journal, has } = core
    this.#parts = parts
    this.#core = core
    this.#line = new EventLine(core, 'invalidation')
    this.#state = new Cells(journal, keyOf('vtd-queue', name), CELLS)
    this.#waits = new DeviceWaits(journal, name)
    const rules = {
      ...features,
      layout: features.hasScalableMode ? 'scalable' : features.hasExtendedContext ? 'extended' : 'legacy',
    } as const
    this.#narrow = new UnitDescriptors({ ...rules, width: 2 }, has)
    this.#wide = new UnitDescriptors({ ...rules, width: 4 }, has)
    this.#endsOnlyAfterWait = has('D11')
    this.#staysStopped = has('D14')
    this.#ignoresBadTail = has('D91')
    this.#takesTailAtWrite = has('D91') || has('D92')
    this.#takesWidthAtWrite = has('D93')
    this.#ignoresMode = has('D94')
    this.#failsUnwritten = has('D95')
    this.#forgivesNoDevice = has('D15')
    this.#hostBits = has('D96') ? (1n << BigInt(features.hostAddressBits)) - 1n : -1n
  }

  get isOn(): boolean {
    return this.#state.get(SIZE) !== 0
  }

  /** Invalidations that devices have not completed are under way. */
  get isWaiting(): boolean {
    return !this.#waits.isEmpty
  }

  /** The queue as it was taken: its address. 0 before. */
  get base(): bigint {
    return wordOf(this.#state.get(BASE_HI), this.#state.get(BASE_LO))
  }

  /** GCMD.QIE became 1: IQA is taken. */
  begin(): void {
    const { file } = this.#core
    const raw = file.get('IQA')
    const base = raw & ~0xfffn & this.#hostBits
    this.#state.set(BASE_LO, loOf(base))
    this.#state.set(BASE_HI, hiOf(base))
    if (!this.#takesWidthAtWrite) this.#state.set(WIDE, Number(get(IQA, raw, 'DW')))
    const descriptors = PAGE_DESCRIPTORS << Number(get(IQA, raw, 'QS'))
    this.#state.set(SIZE, this.#isWide ? descriptors / 2 : descriptors)
    this.#state.set(ENDING, 0)
    if (!this.#takesTailAtWrite) this.tailWritten()
    else if (this.#state.get(TAIL) !== 0) this.run()
  }

  /** GCMD.QIE became 0. Answers whether the queue is off. */
  end(): boolean {
    const isIdle = this.#state.get(HEAD) === this.#state.get(TAIL)
    if (this.#endsOnlyAfterWait && (!isIdle || this.#state.get(LAST_TYPE) !== TYPE_WAIT)) return false
    if (!this.#waits.isEmpty) {
      this.#state.set(ENDING, 1)
      return false
    }
    this.#state.set(SIZE, 0)
    this.#setHead(0)
    this.#state.set(ENDING, 0)
    return true
  }

  /** What was not done when software switched the queue off is done: answers whether it is off now. */
  get canEnd(): boolean {
    return this.#state.get(ENDING) !== 0 && this.#waits.isEmpty
  }

  /** Software wrote IQA. */
  addressWritten(): void {
    if (!this.#takesWidthAtWrite) return
    const isWide = get(IQA, this.#core.file.get('IQA'), 'DW') === 1n && this.#core.features.hasScalableMode
    this.#state.set(WIDE, isWide ? 1 : 0)
  }

  /** Software wrote IQT. */
  tailWritten(): void {
    const { file } = this.#core
    const tail = file.lane('IQT') & TAIL_MASK
    if (this.#isWide && (tail & HALF) !== 0) {
      this.#tailUnaligned(tail)
      return
    }
    this.#state.set(TAIL, tail >>> this.#shift)
    if (this.isOn) this.run()
  }

  #tailUnaligned(tail: number): void {
    if (this.#takesTailAtWrite) {
      if (!this.#ignoresBadTail) this.#refuse(QUEUE_ERROR.UNALIGNED)
    } else if (this.isOn) {
      // The bit is no part of the tail, which counts once the error is cleared.
      this.#core.file.setLane('IQT', tail & ~HALF)
      this.#state.set(TAIL, tail >>> WIDE_SHIFT)
      this.#refuse(QUEUE_ERROR.UNALIGNED)
    }
  }

  /** Software cleared errors. */
  errorCleared(): void {
    if (this.#core.file.lane('FSTS') & FSTS_BIT.IQE) return
    const known = this.#core.file.get('IQERCD')
    this.#core.file.set('IQERCD', known & ~0xfn)
    if (!this.#staysStopped) this.run()
  }

  /** A device completes an invalidation that was late. */
  completed(source: number): void {
    const { file } = this.#core
    if (!this.#waits.complete(source)) {
      const known = file.get('IQERCD')
      file.set('IQERCD', (known & 0xffff_ffff_ffffn) | (BigInt(source) << 48n))
      this.#parts.faults.raise(FSTS_BIT.ICE)
      return
    }
    this.#finishWaits()
    this.run()
  }

  /** Time passes: devices that never complete an invalidation run into the time-out of the unit. */
  timeOut(): void {
    const { file } = this.#core
    const source = this.#waits.timeOut()
    if (source < 0) return
    const known = file.get('IQERCD')
    file.set('IQERCD', (known & ~0xffff_0000_0000n) | (BigInt(source) << 32n))
    this.#parts.faults.raise(FSTS_BIT.ITE)
  }

  /** Carries out descriptors up to the tail. */
  run(): void {
    const { file, life } = this.#core
    while (this.isOn && !life.isDead && (file.lane('FSTS') & STOPPED) === 0) {
      const wrong = this.#wrongState()
      if (wrong !== 0) {
        this.#refuse(wrong)
        return
      }
      const head = this.#state.get(HEAD)
      if (head === this.#state.get(TAIL) || this.#waits.isFenced) return
      if (!this.#step(head)) return
      const next = head + 1
      this.#setHead(next === this.#state.get(SIZE) ? 0 : next)
    }
  }

  get #isWide(): boolean {
    return this.#state.get(WIDE) !== 0
  }

  /** log2 of the bytes of a descriptor. */
  get #shift(): number {
    return this.#isWide ? WIDE_SHIFT : NARROW_SHIFT
  }

  #setHead(head: number): void {
    this.#state.set(HEAD, head)
    this.#core.file.setLane('IQH', (head << this.#shift) & TAIL_MASK)
  }

  /** What keeps the queue from any descriptor; 0 for nothing. */
  #wrongState(): number {
    const tail = this.#state.get(TAIL)
    if (tail >= this.#state.get(SIZE)) return QUEUE_ERROR.TAIL
    const isIdle = this.#state.get(HEAD) === tail
    return isIdle || this.#ignoresMode ? 0 : this.#wrongMode(this.#isWide)
  }

  /** The width of the descriptors must be one that the unit has, and that its tables ask for. */
  #wrongMode(isWide: boolean): number {
    const { features } = this.#core
    const mode = this.#parts.tableMode()
    if (isWide && !features.hasScalableMode && !features.hasAbortMode) return QUEUE_ERROR.WIDTH
    if (mode === TABLE_MODE.EXTENDED && !features.hasExtendedContext) return QUEUE_ERROR.TABLE_MODE
    if (mode !== TABLE_MODE.SCALABLE) return 0
    if (!features.hasScalableMode) return QUEUE_ERROR.TABLE_MODE
    return isWide ? 0 : QUEUE_ERROR.WIDTH
  }

  /** The descriptor at the head. Answers whether the head goes on. */
  #step(head: number): boolean {
    const isWide = this.#isWide
    const bytes = 1 << this.#shift
    const words = this.#words
    if (!this.#core.read(this.base + BigInt(head * bytes), this.#bytes, bytes)) {
      this.#state.set(LAST_TYPE, 0)
      this.#refuse(QUEUE_ERROR.FETCH)
      return false
    }
    words.length = bytes / 8
    for (let i = 0; i < words.length; i++) words[i] = this.#view.getBigUint64(i * 8, true)
    this.#state.set(LAST_TYPE, Number((words[0] as bigint) & 0xfn))
    const found = (isWide ? this.#wide : this.#narrow).read(words)
    if (typeof found === 'string') {
      this.#refuse(DESCRIPTOR_FAULTS[found].error, words)
      return false
    }
    return this.#perform(found)
  }

  #perform(found: Exclude<UnitDescriptor, string>): boolean {
    switch (found.kind) {
      case 'nothing':
        return true
      case 'dies':
        this.#core.life.die('an invalidation wait descriptor with SW and IF')
        return false
      case 'wait':
        return this.#waits.add(found) ? this.#finish(found) : true
      case 'respond':
        this.#respond(found.response)
        return true
      case 'invalidate':
        return this.#invalidate(found.what)
    }
  }

  /** False where the device has as many requests pending as it can have: the queue goes on when it completes one. */
  #invalidate(what: VtdInvalidation): boolean {
    const isDevice = what.what === 'device-tlb' || what.what === 'pasid-device-tlb'
    if (!isDevice) {
      this.#parts.invalidator.perform(what)
      return true
    }
    const first = this.#words[0] as bigint
    const mip = Number((first >> (what.what === 'device-tlb' ? 16n : 4n)) & MIP_MASK) || MIP_MOST
    if (this.#waits.countOf(what.source) >= mip) return false
    const { stage } = this.#core
    const before = stage.cause
    stage.cause = this.#parts.invalidator.perform(what)
    const end = this.#parts.deviceTlbs()?.invalidate(what) ?? 'no-device'
    stage.cause = before
    if (end === 'no-device' && this.#forgivesNoDevice) return true
    this.#waits.sent(what.source, end)
    return true
  }

  #respond(response: PageResponse): void {
    const { stage, name, cause } = this.#core
    const { source, pasid, group, code } = response
    const fields = { unit: name, source, pasid, group, code, line: stage.line }
    const before = stage.cause
    stage.cause = stage.log.emit('vtd.response', cause, fields)
    this.#parts.deviceTlbs()?.respond(response)
    stage.cause = before
  }

  /** Everything before it is done: the status is written, then software is interrupted. False where that stops the queue. */
  #finish(wait: Wait): boolean {
    const { stage, name, cause, file } = this.#core
    if (wait.writesStatus && !this.#writeStatus(wait)) {
      if (this.#failsUnwritten) {
        this.#refuse(DESCRIPTOR_FAULTS.reserved.error, this.#words)
        return false
      }
      this.#core.unmodelled('the status of an invalidation wait descriptor that is not in memory')
    }
    stage.log.emit('domain.wait', cause, { unit: name, line: stage.line })
    if (wait.interrupts && (file.lane('ICS') & IWC) === 0) {
      file.setBits('ICS', IWC, true)
      this.#line.raise()
    }
    return true
  }

  #writeStatus({ address, data }: Wait): boolean {
    this.#view.setUint32(0, data, true)
    return this.#core.write(address, this.#bytes, STATUS_BYTES)
  }

  #finishWaits(): void {
    for (let wait = this.#waits.takeReady(); wait !== undefined; wait = this.#waits.takeReady()) {
      this.#finish(wait)
    }
  }

  /** The queue stops at its head. */
  #refuse(error: number, words: readonly bigint[] = []): void {
    const { file, stage, name, cause } = this.#core
    const known = file.get('IQERCD')
    file.set('IQERCD', (known & ~0xfn) | BigInt(error))
    const offset = this.#state.get(HEAD) << this.#shift
    const [lo = 0n, hi = 0n] = words
    stage.log.emit('vtd.refuse', cause, { unit: name, reason: error, offset, lo, hi, line: stage.line })
    this.#parts.faults.raise(FSTS_BIT.IQE)
  }

  /** Software wrote ICS or IECTL. */
  eventWritten(isControl: boolean): void {
    if (isControl) this.#line.controlled()
    else if ((this.#core.file.lane('ICS') & IWC) === 0) this.#line.settle()
  }
}
