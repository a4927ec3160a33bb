import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import { type LiveRegion, LiveRegions, regionText } from './live-regions.ts'
import { NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'

const RULE = 'orphaned-region'
const PUT = slotMap('region.put')
const RETURN = slotMap('call.return')
const FREE = slotMap('mm.free')

/** A registration that was not given back, until the call around it answers. */
interface Refusal {
  readonly region: LiveRegion
  readonly seq: number
}

/**
 * Judges `orphaned-region`. A registration is given up by a call; where the region refuses and the call does not
 * say so, its caller believes it gone. A region that is there when its address space goes had no owner either.
 */
export class OrphanedRegion extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = [
    'region.new',
    'region.get',
    'region.put',
    'region.map',
    'call.return',
    'mm.free',
  ]
  readonly #regions = new LiveRegions()
  /** Refused registrations, by the record of the call that they are in. */
  readonly #refused = new Map<number, Refusal>()
  /** Regions that were reported, by the record that made them. */
  readonly #reported = new Set<number>()

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['call.return']) this.#judge(log, seq)
    else if (kind === KIND['mm.free']) this.#judgeFreed(log, seq)
    else {
      const region = this.#regions.take(log, seq)
      const isRefusal = kind === KIND['region.put'] && log.slot(seq, PUT.code) < 0
      const call = log.causeOf(seq)
      if (isRefusal && call !== NO_RECORD) this.#refused.set(call, { region, seq })
    }
  }

  #judge(log: RecordLog, seq: number): void {
    if (this.#refused.size === 0) return
    const refusal = this.#refused.get(log.causeOf(seq))
    if (refusal === undefined) return
    this.#refused.delete(log.causeOf(seq))
    if (log.slot(seq, RETURN.code) < 0) return
    const call = log.names.word(log.slot(seq, RETURN.call))
    const why = `${call} could not give it back and answered ${log.slot(seq, RETURN.code)}`
    this.#report(log, { region: refusal.region, why, seqs: [refusal.seq, seq] })
  }

  #judgeFreed(log: RecordLog, seq: number): void {
    for (const region of this.#regions.of(log.slot(seq, FREE.process)))
      this.#report(log, { region, why: 'its address space is gone', seqs: [seq] })
  }

  #report(
    log: RecordLog,
    found: { readonly region: LiveRegion; readonly why: string; readonly seqs: readonly number[] },
  ): void {
    const { region, why, seqs } = found
    if (this.#reported.has(region.begun)) return
    this.#reported.add(region.begun)
    const key = {
      rule: RULE,
      window: region.process,
      entry: region.region,
      by: region.begun,
      ended: NO_RECORD,
    }
    if (this.list.again(key)) return
    const message = `nobody owns ${regionText(log, region)}: ${why}`
    this.list.add({
      rule: RULE,
      message,
      because: because(this.scene(log), region.begun, ...seqs),
      inferred: false,
    })
  }
}
