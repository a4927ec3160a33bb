import { hex, wordOf } from '../../../bits/u64.ts'
import { NONE } from '../../../trace/event-codes.ts'
import type { SeenContexts } from './seen-contexts.ts'
import type { SeenPages } from './seen-pages.ts'
import type { ShownFault, VtdRecords } from './vtd-records.ts'
import type { VtdTally } from './vtd-tally.ts'

/** F of a fault recording register, in its highest 32 bits. */
const F = 1 << 31
/** T1: the request was a read. */
const T1 = 1 << 30
/** PP, in the low half of the high 64 bits. */
const PP = 1 << 31
const PFO = 1

/** Fault reasons of legacy mode, which QEMU uses in scalable mode as well, and those of its first-level walk. */
const REASON = { ROOT: 1, CONTEXT: 2, WIDTH: 4, WRITE: 5, READ: 6 } as const
/** A walk met an entry that does not allow the access. */
const REFUSED: ReadonlySet<number> = new Set([REASON.WRITE, REASON.READ, 0x71, 0x79, 0x85, 0x86])

/** Rights of a page, by the bits of its entry. */
const PERMISSIONS = ['nothing', 'reads only', 'writes only', 'reads and writes'] as const

const ENDS = {
  RECORDED: 'recorded',
  COMPRESSED: 'not recorded: one of the same device is',
  OVERFLOW: 'not recorded: the register is taken, and the unit says so (PFO)',
  SILENT: 'silent: the context entry, or that of the PASID, has FPD',
  UNKNOWN: 'the log does not show whether it was recorded',
} as const

/** A line of the trace that led to a fault, and what it says. */
export interface FaultStep {
  readonly line: number
  readonly text: string
}

/** A fault of the trace: what led to it, and what became of it. */
export interface FaultStory extends ShownFault {
  /** The trace shows the reason; otherwise nothing in it speaks against one. */
  readonly isShown: boolean
  /** Why, in words; empty where the trace speaks against the fault. */
  readonly why: string
  /** What the reason rests on, by line. */
  readonly steps: readonly FaultStep[]
  /** Whether it reached a fault recording register, in words. */
  readonly end: string
  readonly isRecorded: boolean
}

/** What the parts below read of the other lines. */
interface FaultParts {
  readonly tally: VtdTally
  readonly records: VtdRecords
  readonly contexts: SeenContexts
  readonly pages: SeenPages
  /** Told of each fault when it is known what became of it. */
  readonly onFault?: ((story: FaultStory) => void) | undefined
}

type Because = { readonly isShown: boolean; readonly why: string; readonly steps: readonly FaultStep[] }
const shown = (why: string, ...steps: FaultStep[]): Because => ({ isShown: true, why, steps })
const inferred = (why: string, ...steps: FaultStep[]): Because => ({ isShown: false, why, steps })
const CONTRADICTED: Because = { isShown: false, why: '', steps: [] }

/**
 * Judges the lines about faults: whether what the log shows leads to each, and what becomes of it in the one fault
 * recording register of QEMU's intel-iommu. That is taken while its F bit is set: another fault of the same source-id is
 * then dropped, one of another sets PFO, and with PFO set all are dropped.
 */
export class FaultLines {
  readonly #parts: FaultParts
  /** F of the register, where it is known; PFO likewise. */
  #isTaken: boolean | undefined
  #taker = 0
  #hasOverflow: boolean | undefined
  #hasRecords = false
  #hasRegisters = false
  /** The last fault: the model expects that a line says that it is recorded, or does not. */
  #last: ShownFault | undefined
  #because = CONTRADICTED
  #isExpected = false

  constructor(parts: FaultParts) {
    this.#parts = parts
  }

  fault(fault: ShownFault): void {
    this.settle()
    this.#because = this.#judge(fault) ?? CONTRADICTED
    this.#last = fault
    this.#isExpected = false
    if (this.#hasOverflow === true) this.#end(fault, 'overflow', ENDS.OVERFLOW)
    else if (this.#isTaken === true && this.#taker === fault.source)
      this.#end(fault, 'compressed', ENDS.COMPRESSED)
    else if (this.#isTaken === true) {
      this.#hasOverflow = true
      this.#end(fault, 'overflow', ENDS.OVERFLOW)
    } else this.#isExpected = true
  }

  /** A fault recording register is written. */
  recorded(index: number, hiHi: number, hiLo: number, address: bigint, line: number): void {
    const fault = this.#last
    const isExpected = this.#isExpected
    this.#last = undefined
    this.#hasRecords = true
    this.#parts.tally.recorded++
    const source = hiLo & 0xffff
    if (fault === undefined) {
      this.#diverge(line, index, 'no fault stands before it', 'a fault before it', 'record-without-fault')
    } else {
      if (isExpected) this.#end(fault, '', ENDS.RECORDED, index)
      // Software may have freed the register where the log has no lines of register writes.
      else if (this.#hasRegisters) {
        const model = `the register is taken by ${hex(this.#taker)}`
        this.#diverge(line, index, 'it is recorded', model, 'record-while-taken')
      }
      this.#compare(fault, index, hiHi, hiLo, address, line)
    }
    this.#isTaken = true
    this.#taker = source
    if (this.#hasOverflow === undefined) this.#hasOverflow = false
  }

  /** A fault is not reported, as FPD says so. */
  silenced(line: number): void {
    this.settle()
    this.#parts.tally.faultEnds.add(ENDS.SILENT, line)
  }

  /** Software writes to the highest 32 bits of the register: F is cleared by writing it. */
  wroteRecord(hi: number): void {
    this.settle()
    this.#hasRegisters = true
    if ((hi & F) !== 0) this.#isTaken = false
  }

  wroteStatus(value: number): void {
    this.#hasRegisters = true
    if ((value & PFO) !== 0) this.#hasOverflow = false
  }

  reset(): void {
    this.settle()
    this.#isTaken = false
    this.#hasOverflow = false
  }

  /** A line that may have changed anything is lost. */
  doubt(): void {
    this.#last = undefined
    this.#isTaken = undefined
    this.#hasOverflow = undefined
  }

  /** No line follows that belongs to the last fault. */
  settle(): void {
    const fault = this.#last
    this.#last = undefined
    if (fault === undefined || !this.#isExpected) return
    if (this.#isTaken === false && this.#hasOverflow === false && this.#hasRecords) {
      const call = faultText(fault)
      const [log, model] = ['it is not recorded', 'the register is free']
      const what = 'fault'
      this.#parts.tally.diverge({ line: fault.line, what, call, log, model, rule: 'fault-not-recorded' })
    }
    this.#end(fault, 'unknown', ENDS.UNKNOWN)
  }

  #end(fault: ShownFault, why: string, text: string, record = NONE): void {
    this.#parts.tally.faultEnds.add(text, fault.line)
    this.#parts.records.fault(fault, record, why)
    const isRecorded = text === ENDS.RECORDED
    this.#parts.onFault?.({ ...fault, ...this.#because, end: text, isRecorded })
  }

  #diverge(line: number, index: number, log: string, model: string, rule: string): void {
    this.#parts.tally.diverge({ line, what: 'record', call: `record ${index}`, log, model, rule })
  }

  #compare(
    fault: ShownFault,
    index: number,
    hiHi: number,
    hiLo: number,
    address: bigint,
    line: number,
  ): void {
    // Before 7.2.14 a fault with a PASID left all bits set.
    const isGarbled = (hiLo & PP) !== 0 && hiHi === -1
    const isRead = (hiHi & T1) !== 0
    const isSame =
      (hiLo & 0xffff) === fault.source &&
      (isGarbled || ((hiHi & 0xff) === fault.reason && isRead === !fault.isWrite)) &&
      address === (fault.iova & ~0xfffn)
    if (isSame) return
    const log = `high ${hex(wordOf(hiHi, hiLo))} low ${hex(address)}`
    this.#diverge(line, index, log, faultText(fault), 'record-differs')
  }

  #judge(fault: ShownFault): Because | undefined {
    const { tally } = this.#parts
    const because = this.#reasonOf(fault)
    if (because === undefined) return undefined
    const why = `${hex(fault.reason)}: ${because.why}`
    tally.faultReasons.add(why, fault.line)
    if (because.isShown) tally.faultsExplained++
    else tally.faultsInferred++
    return because
  }

  /** What leads to a fault; nothing where the log speaks against it. */
  #reasonOf(fault: ShownFault): Because | undefined {
    const { contexts } = this.#parts
    const { source, reason } = fault
    if (reason === REASON.ROOT) {
      const absent = contexts.absentRootSince(source >>> 8)
      const why = 'the bus of the device has no root entry'
      if (absent !== undefined) return shown(why, { line: absent, text: 'the root entry is not present' })
      return this.#unlessHeld(fault, 'the log does not show the root entry')
    }
    if (reason === REASON.CONTEXT) {
      const absent = contexts.absentSince(source)
      const why = 'the device has no context entry'
      if (absent !== undefined) return shown(why, { line: absent, text: 'the context entry is not present' })
      return this.#unlessHeld(fault, 'the log does not show the context entry')
    }
    if (reason === REASON.WIDTH) {
      const width = contexts.widthOf(source)
      if (width === undefined) return inferred('the log does not show how wide addresses are')
      if (fault.iova >= 1n << BigInt(width)) return shown(`the address has more than ${width} bits`)
      this.#contradict(fault, `the context entry has addresses of ${width} bits`, 'address-within-width')
      return undefined
    }
    if (REFUSED.has(reason)) return this.#refused(fault)
    return inferred('the log does not show what is in the tables')
  }

  /** A context entry is read again only where the unit holds none. */
  #unlessHeld(fault: ShownFault, why: string): Because | undefined {
    const held = this.#parts.contexts.find(fault.source)
    if (held === undefined) return inferred(why)
    this.#contradict(fault, `the context entry of line ${held.line} is still held`, 'context-held')
    return undefined
  }

  #refused(fault: ShownFault): Because {
    const { contexts, pages } = this.#parts
    const domain = contexts.domainOf(fault.source)
    const steps = this.#contextSteps(fault.source, domain)
    // A device whose domain no line names has had no translation: nothing is known to be mapped for it.
    const page = Number(fault.iova >> 12n)
    const story = domain === undefined ? undefined : pages.storyOf(domain, page)
    if (story === undefined)
      return shown('nothing was ever seen mapped there', ...steps, ...this.#neighbour(domain, page))
    const need = fault.isWrite ? 2 : 1
    const { line, perm } = story.page
    const walked = { line, text: `a walk found the page mapped for ${PERMISSIONS[perm & 3]}` }
    if ((perm & need) === 0) return shown('the page is mapped without this right', ...steps, walked)
    if (story.flushLine > 0) {
      const flushed = { line: story.flushLine, text: 'an invalidation names the page' }
      return shown('the page was flushed since it was seen mapped', ...steps, walked, flushed)
    }
    return inferred('the page was seen mapped, and no flush says that it is gone', ...steps, walked)
  }

  #contextSteps(source: number, domain: number | undefined): FaultStep[] {
    const line = this.#parts.contexts.find(source)?.line
    if (line === undefined || this.#parts.onFault === undefined) return []
    const read = 'the context entry of the device was read'
    if (domain === undefined) return [{ line, text: read }]
    const empty = this.#parts.pages.hasSeen(domain) ? '' : ', in which no page was ever seen mapped'
    return [{ line, text: `${read}: domain ${domain}${empty}` }]
  }

  /** A buffer that ends right before the page, or begins right behind it. */
  #neighbour(domain: number | undefined, page: number): FaultStep[] {
    const { pages, onFault } = this.#parts
    if (domain === undefined || onFault === undefined) return []
    const before = pages.storyOf(domain, page - 1)
    if (before !== undefined) return [{ line: before.page.line, text: 'the page before it was seen mapped' }]
    const behind = pages.storyOf(domain, page + 1)
    return behind === undefined
      ? []
      : [{ line: behind.page.line, text: 'the page behind it was seen mapped' }]
  }

  #contradict(fault: ShownFault, model: string, rule: string): void {
    const log = `fault ${hex(fault.reason)}`
    this.#parts.tally.diverge({
      line: fault.line,
      what: 'fault',
      call: faultText(fault),
      log,
      model,
      rule,
    })
  }
}

const faultText = ({ source, reason, iova, isWrite }: ShownFault): string =>
  `fault ${hex(reason)} of ${hex(source)}, ${isWrite ? 'write' : 'read'} at ${hex(iova)}`
