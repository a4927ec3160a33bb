import { LINE_SLOTS, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { callsAbove, describe, type Scene } from './describe.ts'
import { NO_RECORD } from './lives.ts'
import type { Evidence } from './rule.ts'

const RETURN = slotMap('call.return')

/** Records that are looked at, at most, for the answer that explains a mapping that is not there. */
const LOOK_AROUND = 4096
const CAUSES_MAX = 64

/**
 * Line of the input that a record comes from: its own, that of the nearest cause that has one, or the one noted beside it; else 0. Of a
 * record that is no longer kept it may be a few lines off.
 */
export function lineOf(log: RecordLog, seq: number): number {
  let at = seq
  for (let n = 0; n < CAUSES_MAX && at >= 0 && log.has(at); n++) {
    const slot = LINE_SLOTS[log.kindNumberOf(at)] ?? -1
    const line = slot < 0 ? 0 : log.slot(at, slot) >>> 0
    if (line !== 0) return line
    at = log.causeOf(at)
  }
  return log.has(seq) && log.noteOf(seq) !== 0 ? log.noteOf(seq) : log.lineNear(at)
}

/** A record as evidence, in the words of `describe` or in others. */
export const evidence = (scene: Scene, seq: number, text = describe(scene, seq)): Evidence => ({
  seq,
  line: lineOf(scene.log, seq),
  text,
})

/** Records as evidence, in order and each once; NO_RECORD is left out. */
export const because = (scene: Scene, ...seqs: readonly number[]): Evidence[] =>
  [...new Set(seqs)]
    .filter((seq) => seq !== NO_RECORD)
    .sort((a, b) => a - b)
    .map((seq) => evidence(scene, seq))

/** The refused answer nearest to a record inside the outermost call around it, before it if there is one; or NO_RECORD. */
export function refusalNear(log: RecordLog, seq: number): number {
  const calls = callsAbove(log, seq)
  const root = calls[calls.length - 1]
  if (root === undefined) return NO_RECORD
  const isRefusal = (at: number) => log.kindOf(at) === 'call.return' && log.slot(at, RETURN.code) !== 0
  for (let at = seq - 1; at > Math.max(root, seq - LOOK_AROUND); at--) if (isRefusal(at)) return at
  const end = Math.min(log.length, seq + LOOK_AROUND)
  for (let at = seq + 1; at < end; at++) {
    if (isRefusal(at)) return at
    if (log.kindOf(at) === 'call.return' && log.causeOf(at) === root) return NO_RECORD
  }
  return NO_RECORD
}
