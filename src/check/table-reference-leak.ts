import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { type HardwareTable, processOf } from './hardware-tables.ts'
import { ListedChecker } from './listed-checker.ts'
import { NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'
import { counted } from './words.ts'

const RULE = 'table-reference-leak'
const FREE = slotMap('mm.free')
const END = slotMap('run.end')

/**
 * Judges `table-reference-leak`: a hardware table with references although no window of a PE leads to it and its
 * maker is gone. That of a process is judged when nobody holds its address space any more, which is after its
 * files were closed; one of the kernel when the call returns in which the last PE gave it up, unless somebody else
 * holds it; at the end of the run those that are left, of processes if the end is settled.
 */
export class TableReferenceLeak extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = ['hw.window', 'call.return', 'mm.free', 'run.end']
  /** Tables of the kernel that may have lost their last window. */
  #unlinked: HardwareTable[] = []

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['hw.window']) this.#program(log, seq)
    else if (kind !== KIND['call.return']) this.#end(log, seq)
    else if (this.#unlinked.length > 0) this.#returned(log, seq)
  }

  #program(log: RecordLog, seq: number): void {
    const table = this.windows.programmed(log, seq)?.hardware?.table
    if (table?.isKernels === true) this.#unlinked.push(table)
  }

  #returned(log: RecordLog, seq: number): void {
    const tables = this.#unlinked
    this.#unlinked = []
    for (const table of tables) {
      const isHeld = [...table.holders.values()].some((n) => n > 0)
      if (table.windows.length === 0 && table.references > 0 && !isHeld) this.#report(log, seq, table)
    }
  }

  #end(log: RecordLog, seq: number): void {
    const isEnd = log.kindNumberOf(seq) === KIND['run.end']
    const isSettled = isEnd && log.slot(seq, END.settled) === 1
    const process = isEnd ? '' : log.names.word(log.slot(seq, FREE.process))
    for (const table of this.windows.hardware.all()) {
      if (table.windows.length > 0) continue
      const isOver = isEnd
        ? isSettled || table.isKernels
        : !table.isKernels && madeFor(log, table) === process
      if (isOver) this.#report(log, seq, table)
    }
  }

  #report(log: RecordLog, seq: number, table: HardwareTable): void {
    const { number, references, madeBy, referredBy, unlinkedBy } = table
    const key = { rule: RULE, window: number, entry: 0, by: madeBy, ended: NO_RECORD }
    if (this.list.isKnown(key) || this.list.again(key)) return
    const maker = table.isKernels ? 'the kernel' : madeFor(log, table) || 'a process'
    const message =
      `hardware table ${number} of ${maker} is never freed: no PE uses it, and ` +
      `${counted(references, 'reference is', 'references are')} left, ${holdersText(log, table)}`
    const chain = because(this.scene(log), madeBy, referredBy, unlinkedBy, seq)
    this.list.add({ rule: RULE, message, because: chain, inferred: false })
  }
}

const madeFor = (log: RecordLog, { maker }: HardwareTable): string => processOf(log, maker)

/** Whose references are left; who made the table has the one that is nobody else's. */
function holdersText(log: RecordLog, { holders, references }: HardwareTable): string {
  const left = [...holders].filter(([, n]) => n > 0)
  const others = left.reduce((sum, [, n]) => sum + n, 0)
  const words = left.map(([holder, n]) => `${n} of ${log.names.word(holder)}`)
  if (references > others) words.unshift('that of who made it')
  return words.join(', ')
}
