import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { type HardwareTable, processOf } from './hardware-tables.ts'
import type { HostRuleId } from './host-rules.ts'
import { ListedChecker } from './listed-checker.ts'
import { NO_RECORD } from './lives.ts'
import { counted } from './words.ts'

const RULE = 'table-reference-leak'
const FREE = slotMap('mm.free')
const END = slotMap('run.end')

/**
 * Judges `table-reference-leak`: a hardware table with references although no window of a PE leads to it and its
 * maker is gone. That of a process is judged when nobody holds its address space any more, which is after its
 * files were closed; one of the kernel at the end of the run, and at a settled end every other too.
 */
export class TableReferenceLeak extends ListedChecker {
  readonly rules: readonly HostRuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = ['mm.free', 'run.end']

  see(log: RecordLog, seq: number): void {
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
