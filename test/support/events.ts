import type { MachineEvent } from '../../src/trace/event.ts'
import type { RecordLog } from '../../src/trace/record-log.ts'

/** Events of a log whose kind begins so, in order. */
export const eventsOfLog = (log: RecordLog, prefix: string): MachineEvent[] =>
  [...log.records()].map((r) => r.event).filter((e) => e.kind.startsWith(prefix))
