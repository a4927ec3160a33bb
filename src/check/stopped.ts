import { type EventKind, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import { NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'

const DEAD = slotMap('dead')
const RULE = 'stopped'

/** Judges `stopped`: software of the machine that stopped for good. Each reason is one finding. */
export class Stopped extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = ['dead']

  see(log: RecordLog, seq: number): void {
    const why = log.slot(seq, DEAD.why)
    const key = { rule: RULE, window: log.slot(seq, DEAD.layer), entry: why, by: NO_RECORD, ended: NO_RECORD }
    if (this.list.again(key)) return
    const layer = log.names.word(log.slot(seq, DEAD.layer))
    const message = `${layer} stopped: ${log.names.word(why)}`
    const cause = log.causeOf(seq)
    const chain = because(this.scene(log), ...(cause === NO_RECORD ? [] : [cause]), seq)
    this.list.add({ rule: RULE, message, because: chain, inferred: false, layer })
  }
}
