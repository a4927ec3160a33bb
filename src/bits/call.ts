import { type CodeFamily, type CodeOf, codeNumber } from './codes.ts'
import { IommulatorError } from './errors.ts'

/**
 * What an argument or result is, in operations and files.
 * `u8` to `u64` and `count` are numbers (bigint inside, `0x...` strings in files, `count` up to 2^53);
 * `name` a word (device, process, handle); `bytes` a text or `hex:` and hexadecimal digits; `words` a list of
 * u64; `segments` a scatter list of {address, bytes}; `flag` true or false; `choice` one of `choices`.
 */
export type ArgType =
  | 'u8'
  | 'u16'
  | 'u32'
  | 'u64'
  | 'count'
  | 'name'
  | 'bytes'
  | 'words'
  | 'segments'
  | 'flag'
  | 'choice'

/** An argument or result of a call, as the interface carries it. */
export interface ArgDecl {
  readonly type: ArgType
  readonly doc: string
  /** May be left out; `initial` is then taken (0, '' or nothing where that is missing too). */
  readonly optional?: boolean
  readonly initial?: bigint | number | string | boolean
  readonly choices?: readonly string[]
}

/** Where an operation finds a call. */
export type Verb =
  | 'hcall'
  | 'rtas'
  | 'ioctl'
  | 'mmio'
  | 'mem'
  | 'dma'
  | 'proc'
  | 'vmm'
  | 'driver'
  | 'vhost'
  | 'iommu'
  | 'virtio'
  | 'ats'
  | 'pri'
  | 'sys'
  | 'cpu'
  | 'svm'
  | 'sva'
  | 'task'
  | 'tick'
export const VERBS: readonly Verb[] = [
  'hcall',
  'rtas',
  'ioctl',
  'mmio',
  'mem',
  'dma',
  'proc',
  'vmm',
  'driver',
  'vhost',
  'iommu',
  'virtio',
  'ats',
  'pri',
  'sys',
  'cpu',
  'svm',
  'sva',
  'task',
  'tick',
]

/**
 * One way in which a call can end: the rule that decides it, the code that the caller sees, and when.
 * Stands at its place in the order of the checks: an input that meets two rules is answered by the first.
 */
export interface AnswerDecl<C extends string = string> {
  readonly rule: string
  readonly code: C
  readonly when: string
}

/**
 * A call of an interface: number, arguments, and its answers in the order of the checks.
 * One declaration feeds the handler, the decoder, the reference, the scenario schema and the tests.
 */
export interface CallDecl<
  A extends readonly AnswerDecl[] = readonly AnswerDecl[],
  N extends string = string,
  G extends string = string,
> {
  readonly name: N
  readonly verb: Verb
  /** Which code family its answers are in. */
  readonly family: CodeFamily
  /** Who answers: `qemu`, `kvm`, `guest`, ... */
  readonly layer: string
  /** Hypercall opcode, RTAS token, ioctl number. */
  readonly nr?: number
  readonly args: Readonly<Record<G, ArgDecl>>
  readonly outputs?: Readonly<Record<string, ArgDecl>>
  readonly answers: A
  /** Kernel or QEMU version and file, or manual and section title. */
  readonly source: string
  readonly doc: string
}

/** The names of the rules of a call. A misspelt one does not compile. */
export type RuleOf<D extends { readonly answers: readonly AnswerDecl[] }> = D['answers'][number]['rule']

/**
 * Declares a call. Each rule may stand once; each code must be one of its family.
 *
 * @throws IommulatorError ERR_DECLARATION
 */
export function declareCall<
  const F extends CodeFamily,
  const N extends string,
  const G extends string,
  const A extends readonly AnswerDecl<CodeOf<F>>[],
>(d: CallDecl<A, N, G> & { readonly family: F }): CallDecl<A, N, G> & { readonly family: F } {
  const seen = new Set<string>()
  for (const { rule, code } of d.answers) {
    if (seen.has(rule)) throw new IommulatorError('ERR_DECLARATION', `${d.name}: rule ${rule} stands twice`)
    seen.add(rule)
    codeNumber(d.family, code)
  }
  Object.freeze(d)
  return d
}

/**
 * The place of each rule in a call's list of answers. Handlers on the hot path return this number:
 * `decl.answers[n]` has the words, `codesOf(decl)[n]` the code.
 *
 * @example
 * const R = rulesOf(H_PUT_TCE)
 * if (table === undefined) return R['liobn-unknown']
 */
export function rulesOf<D extends CallDecl>(d: D): Readonly<Record<RuleOf<D>, number>> {
  const out = {} as Record<RuleOf<D>, number>
  d.answers.forEach((answer, index) => {
    out[answer.rule as RuleOf<D>] = index
  })
  return Object.freeze(out)
}

/** The numeric code of each answer, by its place. */
export function codesOf(d: CallDecl): Int32Array {
  return Int32Array.from(d.answers, (answer) => codeNumber(d.family, answer.code))
}

/** The opcode, token or ioctl number of a call that has one. */
export function callNumber(d: CallDecl): number {
  if (d.nr === undefined) throw new IommulatorError('ERR_DECLARATION', `${d.name} has no number`)
  return d.nr
}
