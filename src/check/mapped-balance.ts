import { numberOf } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import { NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'
import { counted } from './words.ts'

const RULE = 'mapped-balance'
const SET = slotMap('hw.set')
const MAP = slotMap('region.map')
const PIN = slotMap('mm.pin')
const REGION = slotMap('region.new')
const PERM = 3

/**
 * Judges `mapped-balance`: in each call, the mappings that regions count against the entries of hardware tables that
 * came and went. Entries of a v1 container stand for pins instead: those that no registration explains.
 */
export class MappedBalance extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = [
    'hw.set',
    'region.map',
    'region.new',
    'region.put',
    'mm.pin',
    'memory.corrupt',
    'call.return',
  ]
  /** Of the call that runs: entries that live now and did not, mappings counted, pins, pages of whole regions. */
  #entries = 0
  #mappings = 0
  #pins = 0
  #pages = 0
  /** An entry outside its table: what was there is not known. */
  #isOutside = false
  #lastSet = NO_RECORD
  #lastMap = NO_RECORD

  see(log: RecordLog, seq: number): void {
    switch (log.kindNumberOf(seq)) {
      case KIND['hw.set']:
        this.#set(log, seq)
        return
      case KIND['region.map']:
        this.#mappings += log.slot(seq, MAP.delta)
        this.#lastMap = seq
        return
      case KIND['mm.pin']:
        this.#pins +=
          log.slot(seq, PIN.delta) * numberOf(log.slot(seq, PIN.count + 1), log.slot(seq, PIN.count))
        return
      case KIND['memory.corrupt']:
        this.#isOutside = true
        return
      case KIND['region.new']:
        if (log.slot(seq, REGION.device) === 0) this.#pages += pagesOf(log, seq)
        return
      case KIND['region.put']:
        if (log.slot(seq, REGION.used) === 0) this.#pages -= pagesOf(log, seq)
        return
      default:
        this.#returned(log, seq)
    }
  }

  #set(log: RecordLog, seq: number): void {
    const count = numberOf(log.slot(seq, SET.count + 1), log.slot(seq, SET.count))
    if ((log.slot(seq, SET.before) & PERM) !== 0) this.#entries -= count
    if ((log.slot(seq, SET.tce) & PERM) !== 0) this.#entries += count
    this.#lastSet = seq
  }

  #returned(log: RecordLog, seq: number): void {
    const [entries, mappings] = [this.#entries, this.#mappings]
    const pinned = this.#pins - this.#pages
    const isOutside = this.#isOutside
    const [lastMap, lastSet] = [this.#lastMap, this.#lastSet]
    this.#isOutside = false
    this.#entries = 0
    this.#mappings = 0
    this.#pins = 0
    this.#pages = 0
    this.#lastSet = NO_RECORD
    this.#lastMap = NO_RECORD
    if (isOutside || mappings === entries || entries - mappings === pinned) return
    const seqs = [lastMap, lastSet].filter((s) => s !== NO_RECORD && log.has(s))
    const key = { rule: RULE, window: -1, entry: mappings - entries, by: seqs[0] ?? seq, ended: seq }
    if (this.list.again(key)) return
    const message = `regions count ${changed(mappings, 'mapping')}, and hardware tables hold ${changed(entries, 'live entry', 'live entries')}`
    const chain = because(this.scene(log), ...seqs.sort((a, b) => a - b), seq)
    this.list.add({ rule: RULE, message, because: chain, inferred: false })
  }
}

const pagesOf = (log: RecordLog, seq: number): number =>
  numberOf(log.slot(seq, REGION.pages + 1), log.slot(seq, REGION.pages))

const changed = (n: number, one: string, many = `${one}s`): string =>
  n === 0 ? `as many ${many} as before` : `${counted(Math.abs(n), one, many)} ${n > 0 ? 'more' : 'less'}`
