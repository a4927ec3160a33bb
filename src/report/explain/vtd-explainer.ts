import { hex } from '../../bits/u64.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import {
  FAULT_4_6,
  FAULT_5_4,
  FAULT_5_14,
  FAULT_5_15,
  FAULT_JOINED,
  FAULT_OLD,
  FAULT_SEGMENT,
  IR_FAULT_4_6,
  IR_FAULT_5_14,
  IR_FAULT_JOINED,
  IR_FAULT_OLD,
  IR_FAULT_SEGMENT,
  IR_REASON_OLD,
  REASON_OLD,
  STATUS,
  SUPPRESSED,
  VTD_LINES,
  XEN_FAULT,
  XEN_FAULT_REG,
  XEN_REASON,
  XEN_REASON_4_2,
  XEN_SUPPRESSED,
} from '../../reader/kernel-log/vtd-lines.ts'
import { QUEUE_HEAD, QUEUE_PRIOR } from '../../reader/kernel-log/vtd-queue-lines.ts'
import {
  ALREADY_SET,
  FIRMWARE_BUG,
  IDENTITY_MAP,
  INCONSISTENT,
  RESERVED_MEMORY,
  UNIT,
  UNIT_OLD,
  WIDTH,
} from '../../reader/kernel-log/vtd-setup-lines.ts'
import type { FamilyExplainer, FaultGroup, FaultLog } from './fault-log.ts'
import { shortDevice } from './machine-facts.ts'
import { explainBothWays } from './vtd-both-ways.ts'
import { VtdDump } from './vtd-dump.ts'
import { faultWords, identified, interruptWords, lostFault, pageTopic } from './vtd-fault-words.ts'
import { tableOf, type VtdKnowledge } from './vtd-knowledge.ts'
import { pageRequestFault, queueFault } from './vtd-queue-words.ts'

/** No PASID, as Linux 5.4 to 5.13 print it. */
const NO_PASID = 0xffff_ffffn
/** A first line and its second stand together; other processors may print a line or two in between. */
const LINES_BETWEEN_MAX = 4
const PAGE_SHIFT = 12n
/**
 * What Linux counts as suppressed: dmar_fault() asks its limiter for the status line, for each record, and once more
 * at the end of the records. (Linux v6.1 drivers/iommu/intel/dmar.c; recorded consoles against their traces.)
 */
const MESSAGES_OF_FAULT =
  'an interrupt with one fault counts as three of them, so about a third as many faults left no line'
/** Bits of the fault status register that say that requests were blocked. (VT-d manual, FSTS: PFO, PPF.) */
const FAULT_BITS = 0x3n
const ALL_ONES = 0xffff_ffffn
const TABLES = ['first-level', 'second-level', 'page-tables']

interface DmaLine {
  readonly device: string
  readonly access: 'read' | 'write'
  readonly pasid: number | undefined
  readonly address: bigint
}

/** A first line that waits for the second. */
type Pending =
  | { readonly kind: 'dma'; readonly line: FoundLine; readonly dma: DmaLine }
  | { readonly kind: 'interrupt'; readonly line: FoundLine; readonly device: string; readonly index: bigint }

const ACCESS = /^DMA (Read|Write)(?: PASID 0x([0-9a-f]+))?/

function dmaLine(access: string, device: string, address: bigint, pasid?: bigint): DmaLine {
  const [, direction, ownPasid] = ACCESS.exec(access) ?? []
  const given = ownPasid === undefined ? pasid : BigInt(`0x${ownPasid}`)
  return {
    device: shortDevice(device),
    access: direction === 'Read' ? 'read' : 'write',
    pasid: given === undefined || given === NO_PASID ? undefined : Number(given),
    address,
  }
}

/**
 * Explains what the drivers of VT-d units print: Linux of every era, Xen. The era of each line tells how its reason is
 * read: decimal before Linux 5.14, hexadecimal since, and always hexadecimal of Xen.
 */
export class VtdExplainer implements FamilyExplainer {
  readonly family = VTD_LINES.id
  readonly #knowledge: VtdKnowledge
  readonly #dump = new VtdDump()
  #pending: Pending | undefined
  /** The last DMA fault: what a dump of tables is of. */
  #last: { readonly dma: DmaLine; readonly code: number | undefined; readonly group: FaultGroup } | undefined
  #lastQueue: FaultGroup | undefined
  /** The first line that says that there are faults. */
  #faultsSaid: FoundLine | undefined
  /** A line names one. */
  #hasFault = false

  constructor(knowledge: VtdKnowledge) {
    this.#knowledge = knowledge
  }

  take(line: FoundLine, log: FaultLog): void {
    if (this.#pending !== undefined && line.line > this.#pending.line.line + LINES_BETWEEN_MAX)
      this.#giveUp(log)
    if (this.#oneLine(line, log) || this.#twoLines(line, log) || this.#interrupt(line, log)) return
    if (this.#status(line, log) || this.#setup(line, log) || this.#queue(line, log)) return
    const last = this.#last
    if (last === undefined) return
    const { code } = last
    const table = code === undefined ? undefined : tableOf(this.#knowledge.reason(code))
    const isByTables = table !== undefined && TABLES.includes(table)
    const end = this.#dump.take(line, { access: last.dma.access, isByTables })
    if (end !== undefined) log.explain(last.group, end)
  }

  end(log: FaultLog): void {
    this.#giveUp(log)
    if (this.#faultsSaid !== undefined && !this.#hasFault) log.fault(lostFault(this.#faultsSaid))
    explainBothWays(log)
  }

  /** A fault that one line tells. Answers whether it is one. */
  #oneLine(line: FoundLine, log: FaultLog): boolean {
    const hexadecimal =
      valuesOf(FAULT_5_15, line) ?? valuesOf(FAULT_5_14, line) ?? valuesOf(FAULT_SEGMENT, line)
    if (hexadecimal !== undefined) {
      const { access, device, address, reason, text } = hexadecimal
      this.#dma(line, dmaLine(access, device, address), Number(reason), text, log)
      return true
    }
    const middle = valuesOf(FAULT_5_4, line)
    if (middle !== undefined) {
      const { access, device, address, pasid, reason, text } = middle
      this.#dma(line, dmaLine(access, device, address, pasid), reason, text, log)
      return true
    }
    const early = valuesOf(FAULT_4_6, line) ?? valuesOf(FAULT_JOINED, line)
    if (early === undefined) return false
    this.#dma(line, dmaLine(early.access, early.device, early.address), early.reason, early.text, log)
    return true
  }

  #twoLines(line: FoundLine, log: FaultLog): boolean {
    const first = valuesOf(FAULT_OLD, line) ?? valuesOf(XEN_FAULT_REG, line) ?? valuesOf(XEN_FAULT, line)
    if (first !== undefined) {
      this.#giveUp(log)
      this.#pending = { kind: 'dma', line, dma: dmaLine(first.access, first.device, first.address) }
      return true
    }
    const decimal = valuesOf(REASON_OLD, line)
    const xen = valuesOf(XEN_REASON, line) ?? valuesOf(XEN_REASON_4_2, line)
    const code = decimal?.reason ?? (xen === undefined ? undefined : Number(xen.reason))
    if (code === undefined) return false
    const text = decimal?.text ?? xen?.text ?? ''
    const pending = this.#pending
    this.#pending = undefined
    if (pending?.kind === 'dma') this.#dma(pending.line, pending.dma, code, text, log)
    else this.#orphan(line, code, log)
    return true
  }

  #interrupt(line: FoundLine, log: FaultLog): boolean {
    const hexadecimal = valuesOf(IR_FAULT_5_14, line) ?? valuesOf(IR_FAULT_SEGMENT, line)
    const decimal = valuesOf(IR_FAULT_4_6, line) ?? valuesOf(IR_FAULT_JOINED, line)
    const whole = hexadecimal ?? decimal
    if (whole !== undefined) {
      this.#blocked(line, whole.device, whole.index, Number(whole.reason), whole.text, log)
      return true
    }
    const first = valuesOf(IR_FAULT_OLD, line)
    if (first !== undefined) {
      this.#giveUp(log)
      this.#pending = { kind: 'interrupt', line, device: first.device, index: first.index }
      return true
    }
    const second = valuesOf(IR_REASON_OLD, line)
    if (second === undefined) return false
    const pending = this.#pending
    this.#pending = undefined
    if (pending?.kind === 'interrupt')
      this.#blocked(pending.line, pending.device, pending.index, second.reason, second.text, log)
    else this.#orphan(line, second.reason, log)
    return true
  }

  #dma(line: FoundLine, dma: DmaLine, code: number | undefined, text: string, log: FaultLog): void {
    const { device, access, pasid, address } = dma
    this.#hasFault = true
    const group = log.fault({
      key: `dma ${device} ${access} ${pasid ?? '-'} ${code ?? '?'}`,
      line,
      address,
      describe: () => faultWords({ ...dma, code, text, era: line.template.era }, log, this.#knowledge),
      identify: () => identified(device, [address], log),
    })
    this.#last = group === undefined ? undefined : { dma, code, group }
  }

  #blocked(
    line: FoundLine,
    device: string,
    index: bigint,
    code: number | undefined,
    text: string,
    log: FaultLog,
  ): void {
    const about = { device, index, code, text, era: line.template.era }
    this.#hasFault = true
    log.fault({
      key: `interrupt ${shortDevice(device)} ${index} ${code ?? '?'}`,
      line,
      describe: () => interruptWords(about, log, this.#knowledge),
      identify: () => identified(shortDevice(device), [], log),
    })
  }

  /** A second line without a first: the device and the address are lost. */
  #orphan(line: FoundLine, code: number, log: FaultLog): void {
    const reason = this.#knowledge.reason(code)
    this.#hasFault = true
    log.fault({
      key: `orphan ${code}`,
      line,
      describe: () => ({
        kind: reason?.mode === 'interrupt' ? 'interrupt' : 'dma',
        title: 'a request was blocked; the line that names the device is missing',
        fields: { reason: code, reasonName: reason?.name ?? null, condition: reason?.condition ?? null },
        rows: [['reason', `0x${code.toString(16).padStart(2, '0')} ${reason?.kernelText ?? ''}`.trimEnd()]],
        because: [],
        checks: [
          'find the whole log (journalctl -k, the serial console): the line before names device and address',
        ],
      }),
    })
  }

  /** What waits for its second line has none. */
  #giveUp(log: FaultLog): void {
    const pending = this.#pending
    this.#pending = undefined
    if (pending?.kind === 'dma') this.#dma(pending.line, pending.dma, undefined, '', log)
    else if (pending !== undefined)
      this.#blocked(pending.line, pending.device, pending.index, undefined, '', log)
  }

  #status(line: FoundLine, log: FaultLog): boolean {
    const suppressed = valuesOf(SUPPRESSED, line) ?? valuesOf(XEN_SUPPRESSED, line)
    if (suppressed !== undefined) {
      const isOfFaults = line.template.id === SUPPRESSED.id
      log.suppress(line, suppressed.lines, isOfFaults ? MESSAGES_OF_FAULT : '')
      if (isOfFaults) this.#faultsSaid ??= line
      return true
    }
    const status = valuesOf(STATUS, line)
    if (status === undefined) return false
    if (status.status === ALL_ONES) {
      const text =
        'fault status 0xffffffff: the registers read as all ones, so the unit does not answer: it is switched off, or gone'
      log.note('vtd status ones', line, text)
      return true
    }
    if ((status.status & FAULT_BITS) !== 0n) this.#faultsSaid ??= line
    log.note(`vtd status ${status.status}`, line, () => {
      const set = this.#knowledge.status(Number(status.status))
      const bits = set.map(([name, doc]) => `${name}: ${doc}`).join(' ')
      return `fault status ${hex(status.status)}: ${bits || 'no bit that is known'}`
    })
    return true
  }

  #setup(line: FoundLine, log: FaultLog): boolean {
    const unit = valuesOf(UNIT, line) ?? valuesOf(UNIT_OLD, line)
    if (unit !== undefined) {
      const name = typeof unit.unit === 'number' ? `unit ${unit.unit}` : unit.unit
      const words = this.#knowledge.unit(unit.cap, unit.ecap).join(', ')
      log.fact(`vtd unit ${name}`, line, `${name}: version ${unit.major}.${unit.minor}, ${words}`, {
        unit: name,
        base: hex(unit.base),
        cap: hex(unit.cap),
        ecap: hex(unit.ecap),
      })
      return true
    }
    const region = valuesOf(RESERVED_MEMORY, line)
    if (region !== undefined) {
      const text = 'reserved by the firmware for a device (RMRR)'
      log.machine.region({ first: region.first, last: region.last, line: line.line, text, isOfDevice: true })
      return true
    }
    const identity = valuesOf(IDENTITY_MAP, line)
    if (identity !== undefined) {
      const { first, last } = identity
      const text = `mapped one to one for ${shortDevice(identity.device)} when the kernel started`
      // The first 16 MiB are of no RMRR.
      log.machine.region({ first, last, line: line.line, text, isOfDevice: first !== 0n })
      return true
    }
    const feature = valuesOf(INCONSISTENT, line)
    if (feature !== undefined) {
      const text = `the units do not all have ${feature.feature}: it is used on none of them`
      log.note(`vtd inconsistent ${feature.feature}`, line, text)
      return true
    }
    const bug = valuesOf(FIRMWARE_BUG, line)
    if (bug !== undefined) {
      log.note(`vtd firmware ${bug.text}`, line, `the firmware's table DMAR is wrong: ${bug.text}`)
      return true
    }
    return this.#mapping(line, log)
  }

  #mapping(line: FoundLine, log: FaultLog): boolean {
    const twice = valuesOf(ALREADY_SET, line)
    if (twice !== undefined) {
      const address = twice.page << PAGE_SHIFT
      const isSame = twice.old === twice.value
      log.remember(pageTopic(address), line, `page ${hex(address)} was mapped where it was mapped already`)
      log.fault({
        key: `mapped twice ${isSame}`,
        line,
        address,
        describe: () => ({
          kind: 'map',
          title: 'a page was mapped where an entry stands already',
          fields: { isSameEntry: isSame },
          rows: [
            ['entry', `${hex(twice.old)} stood at ${hex(address)}, ${hex(twice.value)} was to be written`],
            [
              'means',
              isSame
                ? 'The same mapping was made twice.'
                : 'The address was given out twice, or an older mapping was not taken away: it may be reserved memory (RMRR) that is mapped one to one.',
            ],
          ],
          because: log.machine.regionsAt(address).map(({ line: at, text }) => ({
            line: at,
            text: `${hex(address)} lies in memory that is ${text}`,
          })),
          checks: ['the trace behind the line (WARNING ... __domain_mapping) names who maps'],
        }),
      })
      return true
    }
    const width = valuesOf(WIDTH, line)
    if (width === undefined) return false
    log.fault({
      key: `width ${width.width}`,
      line,
      address: width.address,
      describe: () => ({
        kind: 'map',
        title: `a mapping beyond ${width.width} bits was refused`,
        fields: { widthBits: width.width },
        rows: [
          [
            'means',
            `The unit translates ${width.width} bits of an address; the mapping ends at ${hex(width.address)}, and ${hex((1n << BigInt(Math.min(63, width.width))) - 1n)} is the last that it can.`,
          ],
        ],
        because: [],
        checks: [
          'of a virtual machine: does it have so much memory, or a 64-bit BAR placed so high? Limit its physical address width (host-phys-bits-limit)',
        ],
      }),
    })
    return true
  }

  #queue(line: FoundLine, log: FaultLog): boolean {
    const fault = queueFault(line)
    if (fault !== undefined) {
      this.#lastQueue = log.fault({ key: fault.key, line, describe: () => fault.words })
      return true
    }
    const request = pageRequestFault(line)
    if (request !== undefined) {
      const { key, address, words } = request
      log.fault({ key, line, ...(address !== undefined && { address }), describe: () => words })
      return true
    }
    const head = valuesOf(QUEUE_HEAD, line)
    const prior = valuesOf(QUEUE_PRIOR, line)
    const descriptor = head ?? prior
    if (descriptor === undefined || this.#lastQueue === undefined) return descriptor !== undefined
    const where = head === undefined ? 'before the head' : 'at the head'
    const text = `the descriptor ${where} was ${descriptor.type}, ${hex(descriptor.qw0)} ${hex(descriptor.qw1)}`
    if (this.#lastQueue.times === 1) log.explain(this.#lastQueue, { line: line.line, text })
    return true
  }
}
