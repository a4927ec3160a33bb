import { DeviceUse } from '../../../src/check/device-use.ts'
import { ForeignMemory } from '../../../src/check/foreign-memory.ts'
import type { CheckerOptions } from '../../../src/check/listed-checker.ts'
import { OutOfTable } from '../../../src/check/out-of-table.ts'
import type { Checker, Finding } from '../../../src/check/rule.ts'
import { StaleTce } from '../../../src/check/stale-tce.ts'
import { TableReferenceLeak } from '../../../src/check/table-reference-leak.ts'
import { Uses } from '../../../src/check/uses.ts'
import { WindowShadows } from '../../../src/check/window-shadow.ts'
import type { RecordLog } from '../../../src/trace/record-log.ts'
import { dma, makePhb } from '../../support/ioda.ts'

const CHECKERS: readonly (new (options: CheckerOptions) => Checker)[] = [
  DeviceUse,
  ForeignMemory,
  OutOfTable,
  StaleTce,
  TableReferenceLeak,
]

/** The checkers of hardware tables on a log, in the order in which a judge has them. */
export function judged(log: RecordLog, maxFindings?: number) {
  const windows = new WindowShadows()
  const uses = new Uses(windows)
  const options = { windows, uses, ...(maxFindings !== undefined && { maxFindings }) }
  const checkers = CHECKERS.map((make) => new make(options))
  for (const sink of [...checkers, windows, uses]) log.subscribe(sink)
  const found = (): readonly Finding[] => {
    for (const checker of checkers) checker.finish()
    return checkers.flatMap((checker) => checker.findings)
  }
  return { windows, uses, found, rules: () => found().map((f) => f.rule) }
}

/** A PHB with PE 5, its log judged, and the calls of a process around what happens. */
export function hardwareWorld(options: Parameters<typeof makePhb>[0] = {}) {
  const m = makePhb({ platform: 'PHB3', freeze: 'none', ...options })
  const { log, stage } = m
  const judge = judged(log)
  const pe = m.phb.addPe({ pe: 5, group: 1 })
  const frames = m.host.frames
  let line = 0
  return {
    ...m,
    ...judge,
    pe,
    dma,
    /** A call of a process; what happens inside has it as its cause. */
    call<T>(name: string, inside: () => T, process = 'qemu'): T {
      const args = { a0: 0n, a1: 0n, a2: 0n, a3: 0n }
      const before = stage.cause
      const cause = before < 0 ? null : before
      stage.cause = log.emit('call.enter', cause, { call: name, line: ++line, by: `${process}:0`, ...args })
      const result = inside()
      log.emit('call.return', stage.cause, { call: name, layer: 'linux', code: 0, rule: 'done', out: 0n })
      stage.cause = before
      return result
    },
    /** A frame of a process: its number, and its first 4 KiB page. */
    frame(process = 'qemu') {
      const frame = frames.allocate(frames.owner(process))
      return { frame, page: frames.hostPage(frame) }
    },
    messages: (rule: string) =>
      judge
        .found()
        .filter((f) => f.rule === rule)
        .map((f) => f.message),
  }
}
