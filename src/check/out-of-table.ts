import { hex } from '../bits/u64.ts'
import type { EventKind } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import { NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'
import { counted } from './words.ts'

const RULE = 'out-of-table'

/** Judges `out-of-table`: entries written behind the last one of their window. */
export class OutOfTable extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = ['tce.set']

  see(log: RecordLog, seq: number): void {
    const update = this.windows.update(log, seq)
    if (update === undefined) return
    const { window, first, end, count, how } = update
    const outside = count - (end - first)
    if (outside <= 0) return
    const key = { rule: RULE, window: window.number, entry: first, by: window.openedBy, ended: NO_RECORD }
    if (this.list.again(key)) return
    const message =
      `${counted(outside, 'entry was', 'entries were')} written outside the table of LIOBN ${hex(window.liobn)}: ` +
      `${first} + ${count} = ${first + count}, the table has ${window.entries}`
    const chain = because(this.scene(log), window.openedBy, seq)
    this.list.add({ rule: RULE, message, because: chain, inferred: how !== 0 })
  }
}
