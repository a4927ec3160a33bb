import { KIND } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'

/**
 * Whether what software changed is part of a call in steps that has not returned at `now`: it is still at it, and what
 * it has to do beside the change may be among the steps to come. Where nobody can come between the steps of a call,
 * nothing is ever open when something else happens.
 */
export function isStillAtIt(log: RecordLog, changed: number, now: number): boolean {
  const entered = callInStepsOf(log, changed)
  if (entered < 0) return false
  for (let seq = changed; seq < now; seq++) {
    if (log.kindNumberOf(seq) === KIND['call.return'] && log.causeOf(seq) === entered) return false
  }
  return true
}

/** The call in steps, by the record with which it began, that a record is an effect of; below 0 for none. */
export function callInStepsOf(log: RecordLog, seq: number): number {
  let at = seq
  while (at >= 0 && log.has(at) && log.kindNumberOf(at) !== KIND['task.step']) at = log.causeOf(at)
  return at < 0 || !log.has(at) ? -1 : log.causeOf(at)
}

/** Whether a record ends a call in steps: what `isStillAtIt` looks for. */
export function endsCallInSteps(log: RecordLog, seq: number): boolean {
  if (log.kindNumberOf(seq) !== KIND['call.return']) return false
  const entered = log.causeOf(seq)
  for (let at = seq - 1; at > entered; at--) {
    if (log.kindNumberOf(at) === KIND['task.step'] && log.causeOf(at) === entered) return true
  }
  return false
}
