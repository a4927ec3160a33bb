import { hex, numberOf, wordOf } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { callsAbove } from './describe.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import { NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'
import { counted } from './words.ts'

const RULE = 'out-of-table'
const CORRUPTION = 'host-memory-corruption'
const HW_SET = KIND['hw.set']
const SET = slotMap('hw.set')
const CORRUPT = slotMap('memory.corrupt')
const ENTER = slotMap('call.enter')

/**
 * Judges `out-of-table` and `host-memory-corruption`: entries written behind the last one of their window or
 * hardware table, and those of a hardware table that would have gone to other memory of the host.
 *
 * The levels of a hardware table can have room for more entries than the table: what is written there harms
 * nobody, and is out of the table all the same.
 */
export class OutOfTable extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE, CORRUPTION]
  readonly kinds: readonly EventKind[] = ['tce.set', 'hw.set', 'memory.corrupt']

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === HW_SET) this.#hardware(log, seq)
    else if (kind === KIND['memory.corrupt']) this.#corrupted(log, seq)
    else this.#guest(log, seq)
  }

  /** One finding a call. */
  #hardware(log: RecordLog, seq: number): void {
    const lanes = log.lanesOf(seq)
    const row = log.rowOf(seq)
    const table = this.windows.hardware.find((lanes[row] as number) >>> 0)
    if (table === undefined) return
    const entry = numberOf(lanes[row + SET.entry + 1] as number, lanes[row + SET.entry] as number)
    const count = numberOf(lanes[row + SET.count + 1] as number, lanes[row + SET.count] as number)
    const { number, entries, madeBy } = table
    if (entry + count <= entries) return
    const key = { rule: RULE, window: number, entry: 0, by: madeBy, ended: log.causeOf(seq) }
    if (this.list.again(key)) return
    const message = `entry ${entry + count - 1} of hardware table ${number} was written, which has ${entries}`
    this.list.add({ rule: RULE, message, because: because(this.scene(log), madeBy, seq), inferred: false })
  }

  /** One finding a call and table. */
  #corrupted(log: RecordLog, seq: number): void {
    if (log.names.word(log.slot(seq, CORRUPT.space)) !== 'hpa') return
    const number = log.slot(seq, CORRUPT.table) >>> 0
    const table = this.windows.hardware.find(number)
    const by = table?.madeBy ?? NO_RECORD
    const key = { rule: CORRUPTION, window: number, entry: 0, by, ended: log.causeOf(seq) }
    if (this.list.again(key)) return
    const [call] = callsAbove(log, seq)
    const who = call === undefined ? 'the kernel' : log.names.word(log.slot(call, ENTER.call))
    const address = wordOf(log.slot(seq, CORRUPT.address + 1), log.slot(seq, CORRUPT.address))
    const entry = wordOf(log.slot(seq, CORRUPT.entry + 1), log.slot(seq, CORRUPT.entry))
    const what = log.names.word(log.slot(seq, CORRUPT.what))
    const has = table === undefined ? '' : `, which has ${table.entries},`
    const message =
      `${who} writes the ${what} of entry ${BigInt.asIntN(64, entry)} of hardware table ${number}${has} ` +
      `to host memory ${hex(address)}`
    this.list.add({
      rule: CORRUPTION,
      message,
      because: because(this.scene(log), by, call ?? NO_RECORD, seq),
      inferred: false,
    })
  }

  #guest(log: RecordLog, seq: number): void {
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
