import type { CallDecl } from '../bits/call.ts'
import { codesOf } from '../bits/call.ts'
import { KIND } from './event.ts'
import type { RecordLog } from './record-log.ts'

/** A declared call with the numbers that its records need: interned once, used for every call. */
export interface CallTags {
  readonly decl: CallDecl
  readonly name: number
  readonly layer: number
  /** Interned rule of each answer, by its place. */
  readonly rules: Int32Array
  /** Numeric code of each answer, by its place. */
  readonly codes: Int32Array
}

/**
 * What all units of a machine share while something happens: the record log, who acts, which line of the
 * input it comes from, and the record that is the cause of what happens now.
 *
 * Calls nest: `enter` makes the call the cause of all that follows, `leave` gives the old cause back.
 */
export class Stage {
  readonly log: RecordLog
  /** Interned `process:cpu` of the actor. */
  by = 0
  /** CPU that acts: chooses the allocator pool. */
  cpu = 0
  /** Line of the scenario or log, 0 where there is none. */
  line = 0
  /** Seq of the record that led to what happens now, -1 for none. */
  cause = -1
  /** How the values written now are known: 0 seen, 1 inferred, 2 unknown (replay of a log only). */
  how = 0

  constructor(log: RecordLog) {
    this.log = log
  }

  tag(decl: CallDecl): CallTags {
    const { names } = this.log
    return {
      decl,
      name: names.intern(decl.name),
      layer: names.intern(decl.layer),
      rules: Int32Array.from(decl.answers, (a) => names.intern(a.rule)),
      codes: codesOf(decl),
    }
  }

  /** Records that a call begins; four arguments in lanes (low, high). Answers the cause before it: give it to `leave`. */
  enter(tags: CallTags, a0 = 0, a0Hi = 0, a1 = 0, a1Hi = 0, a2 = 0, a2Hi = 0, a3 = 0, a3Hi = 0): number {
    const before = this.cause
    if (!this.log.on) return before
    this.cause = this.log.append(
      KIND['call.enter'],
      before,
      tags.name,
      this.line,
      this.by,
      a0,
      a0Hi,
      a1,
      a1Hi,
      a2,
      a2Hi,
      a3,
      a3Hi,
    )
    return before
  }

  /** Records the answer at a place of the declaration, and its output in lanes. Answers that place. */
  leave(tags: CallTags, before: number, index: number, out = 0, outHi = 0): number {
    if (!this.log.on) return index
    this.log.append(
      KIND['call.return'],
      this.cause,
      tags.name,
      tags.layer,
      tags.codes[index] as number,
      tags.rules[index] as number,
      out,
      outHi,
    )
    this.cause = before
    return index
  }
}
