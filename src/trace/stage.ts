import { type CallDecl, codesOf, type Verb } from '../bits/call.ts'
import { KIND } from './event.ts'
import type { RecordLog } from './record-log.ts'

const ENTER = KIND['call.enter']
const RETURN = KIND['call.return']

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

/** Verbs whose calls have names that mean little alone: records name them with their verb. */
const NAMED_WITH_VERB: readonly Verb[] = [
  'ats',
  'cpu',
  'dma',
  'iommu',
  'mem',
  'mmio',
  'pri',
  'sva',
  'svm',
  'sys',
  'task',
  'tick',
  'vhost',
  'virtio',
  'vmm',
]

/** A call as records and reports name it: `H_PUT_TCE`, `dma read`. */
export const callName = ({ verb, name }: CallDecl): string =>
  NAMED_WITH_VERB.includes(verb) ? `${verb} ${name}` : name

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
      name: names.intern(callName(decl)),
      layer: names.intern(decl.layer),
      rules: Int32Array.from(decl.answers, (a) => names.intern(a.rule)),
      codes: codesOf(decl),
    }
  }

  /** Records that a call begins; four arguments in lanes (low, high). Answers the cause before it: give it to `leave`. */
  enter(tags: CallTags, a0 = 0, a0Hi = 0, a1 = 0, a1Hi = 0, a2 = 0, a2Hi = 0, a3 = 0, a3Hi = 0): number {
    const before = this.cause
    if (!this.log.on) return before
    const { log } = this
    const at = log.begin(ENTER, before)
    const { lanes } = log
    lanes[at] = tags.name
    lanes[at + 1] = this.line | 0
    lanes[at + 2] = this.by
    lanes[at + 3] = a0 | 0
    lanes[at + 4] = a0Hi | 0
    lanes[at + 5] = a1 | 0
    lanes[at + 6] = a1Hi | 0
    lanes[at + 7] = a2 | 0
    lanes[at + 8] = a2Hi | 0
    lanes[at + 9] = a3 | 0
    lanes[at + 10] = a3Hi | 0
    this.cause = log.commit(ENTER)
    return before
  }

  /** Records the answer at a place of the declaration, and its output in lanes. Answers that place. */
  leave(tags: CallTags, before: number, index: number, out = 0, outHi = 0): number {
    if (!this.log.on) return index
    const { log } = this
    const at = log.begin(RETURN, this.cause)
    const { lanes } = log
    lanes[at] = tags.name
    lanes[at + 1] = tags.layer
    lanes[at + 2] = tags.codes[index] as number
    lanes[at + 3] = tags.rules[index] as number
    lanes[at + 4] = out | 0
    lanes[at + 5] = outHi | 0
    log.commit(RETURN)
    this.cause = before
    return index
  }
}
