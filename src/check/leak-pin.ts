import { hex, numberOf, pageOf } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import { type LiveRegion, LiveRegions, regionText } from './live-regions.ts'
import { NO_RECORD } from './lives.ts'
import { PinCounts } from './pin-counts.ts'
import type { RuleId } from './rules.ts'
import { counted } from './words.ts'

const RULE = 'leak-pin'
const OWN = slotMap('page.own')
const PIN = slotMap('mm.pin')
const MAP = slotMap('region.map')
const FREE = slotMap('mm.free')

/** A region that ended, until its pages are unpinned or its call returns. */
interface Ending {
  readonly region: LiveRegion
  readonly seq: number
  readonly call: number
  readonly from: number
  readonly end: number
  left: number
}

interface Fault {
  readonly process: number
  readonly message: string
  readonly seqs: readonly number[]
}

/**
 * Judges `leak-pin`: pages of a process that stay pinned when a region ends or its address space goes, and
 * mappings that go without having come. The system page is that of the host frames that were taken.
 */
export class LeakPin extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = [
    'page.own',
    'mm.pin',
    'mm.free',
    'region.new',
    'region.get',
    'region.put',
    'region.map',
    'call.return',
  ]
  readonly #regions = new LiveRegions()
  readonly #pins = new Map<number, PinCounts>()
  #endings: Ending[] = []
  /** log2 of the system page, 0 while no record has shown it. */
  #pageShift = 0

  see(log: RecordLog, seq: number): void {
    switch (log.kindNumberOf(seq)) {
      case KIND['page.own']:
        if (log.names.word(log.slot(seq, OWN.space)) === 'hpa') this.#pageShift = log.slot(seq, OWN.pageShift)
        return
      case KIND['mm.pin']:
        this.#seePin(log, seq)
        return
      case KIND['mm.free']:
        this.#seeFreed(log, seq)
        return
      case KIND['call.return']:
        if (this.#endings.length > 0) this.#settle(log, (e) => e.call === log.causeOf(seq))
        return
      default:
        this.#seeRegion(log, seq)
    }
  }

  #seePin(log: RecordLog, seq: number): void {
    const count = numberOf(log.slot(seq, PIN.count + 1), log.slot(seq, PIN.count))
    if (this.#pageShift === 0) {
      this.list.skipped += count
      return
    }
    const process = log.slot(seq, PIN.process)
    const from = pageOf(log.slot(seq, PIN.ua + 1), log.slot(seq, PIN.ua), this.#pageShift)
    const end = from + count
    const pins = this.#pinsOf(process)
    if (log.slot(seq, PIN.delta) > 0) {
      pins.pin(from, end, seq)
      return
    }
    // A v1 container knows the frame and not the address: any page of the process can be meant.
    if (from === 0) pins.unpinSomewhere(count)
    const missing = from === 0 ? Math.max(0, Math.min(count, -pins.left)) : count - pins.unpin(from, end)
    if (missing > 0) {
      const place = from === 0 ? '' : ` from ${this.#at(from)} on`
      const message = `${counted(missing, 'page')} of ${log.names.word(process)}${place} were unpinned and not pinned`
      this.#report(log, { process, message, seqs: [seq] })
    }
    const ending = this.#endings.find((e) => e.region.process === process && e.from < end && from < e.end)
    if (ending === undefined) return
    ending.left -= Math.min(end, ending.end) - Math.max(from, ending.from)
    if (ending.left <= 0) this.#endings = this.#endings.filter((e) => e !== ending)
  }

  #seeRegion(log: RecordLog, seq: number): void {
    const mappedBefore = this.#regions.mappedBefore(log, seq)
    const region = this.#regions.take(log, seq)
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['region.map']) {
      if (log.slot(seq, MAP.delta) > 0 || region.mapped !== mappedBefore) return
      const message = `a mapping of ${regionText(log, region)} goes that was not counted`
      this.#report(log, { process: region.process, message, seqs: [region.begun, seq] })
    } else if (kind === KIND['region.put'] && region.used === 0 && !region.isDevice && this.#pageShift > 0) {
      const from = Number(region.ua >> BigInt(this.#pageShift))
      const { pages } = region
      this.#endings.push({ region, seq, call: log.causeOf(seq), from, end: from + pages, left: pages })
    }
  }

  /** Endings that are over now: what they left pinned is a leak. */
  #settle(log: RecordLog, isOver: (ending: Ending) => boolean): void {
    for (const { region, seq, left } of this.#endings.filter(isOver)) {
      const message = `${counted(left, 'page')} of ${regionText(log, region)} stay pinned after it ended`
      this.#report(log, { process: region.process, message, seqs: [region.begun, seq] })
    }
    this.#endings = this.#endings.filter((e) => !isOver(e))
  }

  #seeFreed(log: RecordLog, seq: number): void {
    const process = log.slot(seq, FREE.process)
    this.#settle(log, (e) => e.region.process === process)
    const pins = this.#pins.get(process)
    const first = pins?.first()
    this.#pins.delete(process)
    if (pins === undefined || first === undefined || pins.left <= 0) return
    const regions = this.#regions.of(process).map((r) => `; ${regionText(log, r)} is still registered`)
    const more = regions.length > 1 ? ` and ${counted(regions.length - 1, 'other')}` : ''
    const place = pins.isLoose ? '' : ` from ${this.#at(first.page)} on`
    const pages = pins.isLoose ? pins.left : pins.pages
    const message = `${counted(pages, 'page')} of ${log.names.word(process)}${place} stay pinned with its address space gone${regions[0] ?? ''}${more}`
    this.#report(log, { process, message, seqs: [first.record, seq] })
  }

  #pinsOf(process: number): PinCounts {
    let pins = this.#pins.get(process)
    if (pins === undefined) {
      pins = new PinCounts()
      this.#pins.set(process, pins)
    }
    return pins
  }

  #at(page: number): string {
    return hex(BigInt(page) << BigInt(this.#pageShift))
  }

  #report(log: RecordLog, { process, message, seqs }: Fault): void {
    const by = seqs[0] ?? NO_RECORD
    const key = { rule: RULE, window: process, entry: 0, by, ended: seqs.at(-1) ?? NO_RECORD }
    if (this.list.again(key)) return
    this.list.add({ rule: RULE, message, because: because(this.scene(log), ...seqs), inferred: false })
  }
}
