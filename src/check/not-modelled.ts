import { type EventKind, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import { NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'

const WHAT = slotMap('unmodelled').what
const RULE = 'unmodelled'

/** Judges `unmodelled`: the run met something that the model does not know. Each thing is one finding. */
export class NotModelled extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = ['unmodelled']

  see(log: RecordLog, seq: number): void {
    const what = log.slot(seq, WHAT)
    if (this.list.again({ rule: RULE, window: -1, entry: what, by: NO_RECORD, ended: NO_RECORD })) return
    const message = `not modelled: ${log.names.word(what)}`
    this.list.add({ rule: RULE, message, because: because(this.scene(log), seq), inferred: false })
  }
}
