import type { CallDecl } from './call.ts'
import { CODE_FAMILIES, type CodeFamily } from './codes.ts'

/** A value that an interface hands out: 64-bit words as bigint. */
export type Value = bigint | number | string | boolean | readonly Value[] | { readonly [k: string]: Value }

/** What one layer said of an operation. */
export interface LayerAnswer {
  /** `qemu`, `kvm`, `guest`, `phb`, `model`, ... */
  readonly layer: string
  readonly family: CodeFamily
  readonly code: string
  /** The rule of the declaration that gave the code. */
  readonly rule: string
}

/**
 * What the machine answers to an operation: a value, never an exception.
 *
 * `code` and `rule` are the last layer's, which is what the caller sees; `layers` has all that had their say,
 * in order. `free` names outputs that the real thing leaves open (an address of its choice): a comparison
 * adopts them. `state` is `pending` while the answer is still to come, `dead` where the part that answers has
 * stopped, `unmodelled` where the model does not know.
 */
export interface Answer extends LayerAnswer {
  readonly state: 'done' | 'pending' | 'dead' | 'unmodelled'
  readonly outputs: Readonly<Record<string, Value>>
  readonly free: readonly string[]
  readonly warnings: readonly string[]
  readonly layers: readonly LayerAnswer[]
}

type Rest = Partial<Pick<Answer, 'outputs' | 'free' | 'warnings' | 'layers' | 'state'>>

/** An answer from a declaration and the place of a rule in it. */
export function answerOf(call: CallDecl, index: number, rest: Rest = {}): Answer {
  const said = call.answers[index]
  if (said === undefined) throw new Error(`model bug: ${call.name} has no answer ${index}`)
  const { layer, family } = call
  const { code, rule } = said
  const own: LayerAnswer = { layer, family, code, rule }
  // Field by field: a spread into a literal costs twenty times as much, and every operation ends here.
  return {
    layer,
    family,
    code,
    rule,
    state: rest.state ?? 'done',
    outputs: rest.outputs ?? {},
    free: rest.free ?? [],
    warnings: rest.warnings ?? [],
    layers: rest.layers === undefined ? [own] : [...rest.layers, own],
  }
}

/** The model does not know: said as a value, with the reason as the rule. */
export function unmodelled(why: string): Answer {
  const own: LayerAnswer = { layer: 'model', family: 'model', code: 'UNMODELLED', rule: why }
  return { ...own, state: 'unmodelled', outputs: {}, free: [], warnings: [], layers: [own] }
}

/** The part that would answer has stopped for good; the reason is the rule. */
export function dead(why: string): Answer {
  const own: LayerAnswer = { layer: 'model', family: 'model', code: 'DEAD', rule: why }
  return { ...own, state: 'dead', outputs: {}, free: [], warnings: [], layers: [own] }
}

/** The call has not ended; why is the rule. */
export function pending(why: string, outputs: Answer['outputs'] = {}): Answer {
  const own: LayerAnswer = { layer: 'model', family: 'model', code: 'PENDING', rule: why }
  return { ...own, state: 'pending', outputs, free: [], warnings: [], layers: [own] }
}

/** A unit's handler of one declared call. */
export interface CallHandler {
  readonly decl: CallDecl
  /** Arguments are complete and in range: the machine has checked them against the declaration. */
  run(args: Readonly<Record<string, Value>>): Answer
  /**
   * Of a call that is made of steps: begins it as a task, which others may come between. Answers where it has ended at
   * once, before its first step.
   */
  start?(args: Readonly<Record<string, Value>>, task: string): Answer | undefined
}

/** The number of an answer's code. */
export const answerNumber = (a: LayerAnswer): number =>
  (CODE_FAMILIES[a.family] as Readonly<Record<string, number>>)[a.code] ?? 0
