import { hiOf, loOf, pageOf, wordOf } from '../../bits/u64.ts'
import { isInterruptPage } from '../../memory/interrupt-range.ts'
import type { BusMemory } from '../../memory/ports.ts'
import { featuresOf, type VtdFeatures } from './capabilities.ts'
import { EarlyAnswers } from './early-answers.ts'
import { type BlockedRequest, FAULT_ACCESS, FaultLog, newBlocked } from './fault-log.ts'
import { InterruptRemapper } from './interrupt-remapper.ts'
import { Invalidator, type VtdInvalidationWatcher } from './invalidator.ts'
import { type PageRequestEnd, PageRequestQueue } from './page-requests.ts'
import { PasidStates } from './pasid-states.ts'
import {
  ADDRESS_TYPE,
  type DeviceTlbPort,
  type MsiPort,
  NO_PASID,
  newTranslation,
  type PageRequest,
  PERM,
  type Translation,
  type VtdRequest,
} from './ports.ts'
import { InvalidationQueue } from './queue/invalidation-queue.ts'
import type { VtdRegisterName } from './register-format.ts'
import { RegisterInvalidation } from './register-invalidation.ts'
import { allowsCompatibility, RootTable, remapsInterrupts, UnitControl } from './unit-control.ts'
import { UnitCore, type UnitParts } from './unit-core.ts'
import { UnitTables, type UnitTablesOptions } from './unit-tables.ts'
import type { UnitTranslator } from './unit-translator.ts'
import { VirtualCommands } from './virtual-commands.ts'

/** What a unit is made as. */
export interface RemappingUnitOptions {
  readonly name: string
  readonly memory: BusMemory
  /** VER; 1.0 where it is left out. */
  readonly version?: number
  readonly cap: bigint
  readonly ecap: bigint
  /** Width of the addresses in its tables. */
  readonly hostAddressBits: number
  /** What it remembers of its tables. */
  readonly tables?: UnitTablesOptions
  /** What it translates with, where that is not tables behind caches. */
  readonly translator?: (core: UnitCore) => UnitTranslator
}

/** EPM of PMEN. */
const EPM = 0x8000_0000 | 0
const PRS = 1
const PAGE_SHIFT = 12

/**
 * A DMA remapping unit of VT-d: what software does to its registers, what devices ask of it, and what it tells both.
 *
 * Software reaches it by `mmioRead` and `mmioWrite`, devices by `translate`, `interrupt`, `pageRequest` and
 * `invalidationDone`. Commands are over when the write that gives them returns; only what waits for a device takes longer.
 *
 * @example
 * unit.mmioWrite(0x20, 8, 0x10000n) // RTADDR
 * unit.mmioWrite(0x18, 4, 0x4000_0000n) // GCMD.SRTP
 */
export class RemappingUnit {
  readonly name: string
  readonly features: VtdFeatures
  readonly translator: UnitTranslator
  /** The root table as it was taken. */
  readonly root: RootTable
  readonly faults: FaultLog
  readonly queue: InvalidationQueue
  /** Devices with a TLB of their own. */
  deviceTlbs: DeviceTlbPort | undefined
  readonly #core: UnitCore
  readonly #invalidator: Invalidator
  readonly #control: UnitControl
  readonly #registers: RegisterInvalidation
  readonly #requests: PageRequestQueue
  readonly #interrupts: InterruptRemapper
  /** Undefined where the unit knows no deferred invalidations. */
  readonly #states: PasidStates | undefined
  readonly #commands: VirtualCommands
  /** What the write of a lane brings about, by its register: of 64-bit registers that are commands the upper one counts. */
  readonly #lowerWritten: Partial<Record<VtdRegisterName, () => void>>
  readonly #upperWritten: Partial<Record<VtdRegisterName, () => void>>
  readonly #early: EarlyAnswers
  readonly #blocked = newBlocked()
  /** What requests are while translation is off. */
  readonly #direct = newTranslation()
  #translation: Translation = this.#direct
  // Quirks.
  readonly #readsLatched: boolean
  readonly #hidesWidth: boolean
  readonly #hasPlainFaults: boolean
  readonly #losesInterruptFaults: boolean
  readonly #mindsFirst: boolean
  readonly #hasNoPasidZero: boolean

  constructor(options: RemappingUnitOptions, parts: UnitParts) {
    const { name, cap, ecap, hostAddressBits, memory } = options
    const features = featuresOf(cap, ecap, hostAddressBits)
    const core = new UnitCore(name, features, options.version ?? 0x10, memory, parts)
    this.name = name
    this.features = features
    this.#core = core
    const root = new RootTable(core)
    this.root = root
    this.translator = options.translator?.(core) ?? new UnitTables(core, parts.profile, options.tables)
    this.#early = new EarlyAnswers(core, this.translator)
    this.faults = new FaultLog(core)
    this.#invalidator = new Invalidator(core, this.translator)
    this.queue = new InvalidationQueue({
      core,
      faults: this.faults,
      invalidator: this.#invalidator,
      tableMode: () => root.mode,
      deviceTlbs: () => this.deviceTlbs,
    })
    this.#registers = new RegisterInvalidation(core, this.#invalidator, () => this.queue.isOn)
    const block = (blocked: BlockedRequest, isSilent: boolean) => this.#block(blocked, isSilent)
    this.#requests = new PageRequestQueue({
      core,
      faults: this.faults,
      translator: this.translator,
      tableMode: () => root.mode,
      isEnabled: () => root.isEnabled,
      block,
    })
    const states = { core, translator: this.translator, tableMode: () => root.mode }
    this.#states = features.hasDeferred ? new PasidStates(states) : undefined
    this.#interrupts = new InterruptRemapper({
      core,
      isOn: () => remapsInterrupts(core),
      allowsCompatibility: () => allowsCompatibility(core),
      block: (blocked, isSilent) => this.#blockInterrupt(blocked, isSilent),
    })
    this.#commands = new VirtualCommands(core)
    this.#control = new UnitControl(core, root, {
      faults: this.faults,
      queue: this.queue,
      invalidator: this.#invalidator,
      interrupts: this.#interrupts,
      translator: this.translator,
    })
    this.#lowerWritten = this.#lowerHooks()
    this.#upperWritten = {
      CCMD: () => this.#registers.contextWritten(),
      IOTLB: () => this.#registers.iotlbWritten(),
      FRCD_HI: () => this.faults.cleared(true),
      VCMD: () => this.#commands.written(),
    }
    this.#readsLatched = core.has('D12')
    this.#hidesWidth = core.has('D98')
    this.#hasPlainFaults = !core.has('D17')
    this.#losesInterruptFaults = core.has('D18')
    this.#mindsFirst = core.has('D100')
    this.#hasNoPasidZero = core.has('D117')
  }

  /** Whether requests are translated (GSTS.TES). */
  get isEnabled(): boolean {
    return this.root.isEnabled
  }

  /** What the last request came to: one object, used again. */
  get translation(): Translation {
    return this.#translation
  }

  /** Told of each invalidation of software, after the caches of the unit. */
  set watcher(watcher: VtdInvalidationWatcher | undefined) {
    this.#invalidator.watcher = watcher
  }

  get msi(): MsiPort | undefined {
    return this.#core.msi
  }

  set msi(port: MsiPort | undefined) {
    this.#core.msi = port
  }

  /** Bytes of its registers, from its base on. */
  get registerBytes(): number {
    return this.#core.file.bytes
  }

  /** Offset of a register; -1 where the unit has none of the name. */
  offsetOf(name: VtdRegisterName): number {
    return this.#core.file.offsetOf(name)
  }

  /** The value of a register without a read of software: bits that it does not see, too. */
  peek(name: VtdRegisterName): bigint {
    return this.#core.file.get(name)
  }

  /** Software reads 4 or 8 bytes of the registers. */
  mmioRead(offset: number, bytes: 4 | 8): bigint {
    if (this.#core.life.isDead) return 0n
    if (!this.#isAccess(offset, bytes)) return 0n
    const hi = bytes === 8 ? this.#load(offset + 4) : 0
    const value = wordOf(hi, this.#load(offset))
    this.#record(offset, bytes, value, 0)
    return value
  }

  /** Software writes 4 or 8 bytes of the registers. */
  mmioWrite(offset: number, bytes: 4 | 8, value: bigint): void {
    if (this.#core.life.isDead || !this.#isAccess(offset, bytes)) return
    const { stage, file } = this.#core
    const before = stage.cause
    stage.cause = this.#record(offset, bytes, value, 1)
    file.store(offset, loOf(value))
    if (bytes === 8) file.store(offset + 4, hiOf(value))
    this.#wrote(offset)
    if (bytes === 8 && (!this.#mindsFirst || file.isUpper(offset + 4))) this.#wrote(offset + 4)
    stage.cause = before
  }

  /** A DMA or a translation request of a device. Answers the fault reason, 0 for none; the rest is in `translation`. */
  translate(request: VtdRequest): number {
    if (request.pasid !== 0 || !this.#hasNoPasidZero) return this.#answer(request)
    request.pasid = NO_PASID
    const fault = this.#answer(request)
    request.pasid = 0
    return fault
  }

  #answer(request: VtdRequest): number {
    if (request.addressType === ADDRESS_TYPE.TRANSLATION_REQUEST && this.#early.takes(request)) {
      return this.#answerEarly(request)
    }
    if (!this.root.isEnabled) return this.#passThrough(request)
    if (this.#states !== undefined && request.pasid !== NO_PASID)
      this.#states.met(request.source, request.pasid)
    const translation = this.translator.translate(request)
    this.#translation = translation
    if (translation.fault !== 0) this.#fault(request, translation, this.translator.isWalkFault)
    return translation.fault
  }

  /** A device writes 4 bytes to the interrupt addresses. Answers whether the interrupt goes on. */
  interrupt(source: number, address: number, data: number): boolean {
    return this.#interrupts.request(source, address, data)
  }

  /** A page request message of a device. */
  pageRequest(request: PageRequest): PageRequestEnd {
    const { source, pasid } = request
    if (this.root.isEnabled && pasid !== NO_PASID) this.#states?.met(source, pasid)
    return this.#requests.request(request)
  }

  /** A device completes an invalidation that it had not completed; without one the unit has an error (ICE). */
  invalidationDone(source: number): void {
    this.queue.completed(source)
    if (this.queue.canEnd) this.#control.endQueue()
  }

  /** A device has no more work for a PASID, and forgets what it keeps of it. Answers whether it counted as one that has. */
  pasidLeft(source: number, pasid: number): boolean {
    return this.#states?.left(source, pasid) ?? false
  }

  /** The next number of a cached translation, for the TLB of a device. */
  nextEntry(): number {
    return this.translator.nextEntry()
  }

  /** Time passes: invalidations that devices never complete run into the time-out (ITE). */
  elapse(): void {
    this.queue.timeOut()
    if (this.queue.canEnd) this.#control.endQueue()
  }

  #isAccess(offset: number, bytes: number): boolean {
    if ((bytes === 4 || bytes === 8) && offset % bytes === 0) return true
    this.#core.unmodelled(`an access of ${bytes} bytes at offset 0x${offset.toString(16)} of a VT-d unit`)
    return false
  }

  #load(offset: number): number {
    const { file } = this.#core
    if (this.#readsLatched && file.nameAt(offset) === 'IQA') {
      const { base } = this.queue
      if (file.isUpper(offset)) return hiOf(base)
      return loOf(base) | (file.load(offset) & (this.#hidesWidth ? 7 : 0x807))
    }
    return file.load(offset)
  }

  #record(offset: number, bytes: number, value: bigint, write: number): number {
    const { stage, name, cause } = this.#core
    return stage.log.emit('vtd.register', cause, {
      unit: name,
      offset,
      bytes,
      value,
      write,
      line: stage.line,
    })
  }

  #lowerHooks(): Partial<Record<VtdRegisterName, () => void>> {
    const { file } = this.#core
    return {
      GCMD: () => this.#control.written(),
      FSTS: () => {
        this.faults.cleared(false)
        this.queue.errorCleared()
      },
      FECTL: () => this.faults.line.controlled(),
      PMEN: () => file.setBits('PMEN', PRS, (file.lane('PMEN') & EPM) !== 0),
      IQA: () => this.queue.addressWritten(),
      IQT: () => this.queue.tailWritten(),
      ICS: () => this.queue.eventWritten(false),
      IECTL: () => this.queue.eventWritten(true),
      PRS: () => this.#requests.eventWritten(false),
      PECTL: () => this.#requests.eventWritten(true),
    }
  }

  #wrote(offset: number): void {
    const { file } = this.#core
    const name = file.nameAt(offset)
    if (name === undefined) return
    const half = file.isUpper(offset) ? this.#upperWritten : this.#lowerWritten
    half[name]?.()
  }

  #answerEarly(request: VtdRequest): number {
    const { translation } = this.#early
    this.#translation = translation
    if (translation.fault !== 0) this.#fault(request, translation, true)
    return translation.fault
  }

  #passThrough({ hi, lo, source, pasid }: VtdRequest): number {
    const page = pageOf(hi, lo, PAGE_SHIFT)
    const direct = this.#direct
    this.#translation = direct
    direct.page = page
    direct.perm = PERM.READ | PERM.WRITE
    direct.isDirect = true
    direct.pasid = pasid
    direct.isInterrupt = isInterruptPage(page) && pasid === NO_PASID
    if (this.#isProtected(hi, lo)) {
      this.#core.unmodelled(`DMA of ${source.toString(16)} to a protected memory region`)
    }
    return 0
  }

  /** Whether an address lies in a protected memory region that is on. */
  #isProtected(hi: number, lo: number): boolean {
    const { file } = this.#core
    if ((file.lane('PMEN') & PRS) === 0) return false
    const address = wordOf(hi, lo)
    const isIn = (first: VtdRegisterName, last: VtdRegisterName) =>
      address >= file.get(first) && address <= file.get(last)
    return isIn('PLMBASE', 'PLMLIMIT') || isIn('PHMBASE', 'PHMLIMIT')
  }

  #fault(request: VtdRequest, { fault, isSilent, pasid }: Translation, isWalk: boolean): void {
    const blocked = this.#blocked
    blocked.source = request.source
    blocked.pasid = request.pasid
    blocked.hi = request.hi
    blocked.lo = request.lo
    blocked.reason = fault
    blocked.access = this.#accessOf(request)
    blocked.addressType = request.addressType
    blocked.isExecute = (request.need & PERM.EXECUTE) !== 0
    blocked.isPrivileged = request.isPrivileged
    blocked.isWalk = isWalk
    blocked.usedPasid = pasid
    this.#block(blocked, isSilent)
  }

  /** A request for a translation is a read, whatever it wants the page for. */
  #accessOf({ need, addressType }: VtdRequest): number {
    const isWrite = (need & PERM.WRITE) !== 0
    if (!this.#hasPlainFaults) return isWrite ? FAULT_ACCESS.WRITE : FAULT_ACCESS.READ
    if (!isWrite || addressType === ADDRESS_TYPE.TRANSLATION_REQUEST) return FAULT_ACCESS.READ
    return (need & PERM.READ) !== 0 ? FAULT_ACCESS.ATOMIC : FAULT_ACCESS.WRITE
  }

  #block(blocked: BlockedRequest, isSilent: boolean): void {
    if (isSilent) this.faults.say(blocked, 'fpd')
    else this.faults.record(blocked)
  }

  #blockInterrupt(blocked: BlockedRequest, isSilent: boolean): void {
    if (this.#losesInterruptFaults) this.faults.say(blocked, 'D18')
    else this.#block(blocked, isSilent)
  }
}
