import type { SeenCall, SeenWindow, SeenWrite } from './answer-taker.ts'

/** What can be wrong with the input of a TCE hypercall, or unusual; in the words of the page. */
export const INPUT_FAULTS = {
  'not-enabled': 'the call is not switched on',
  'liobn-unknown': 'no such LIOBN',
  'liobn-wide': 'a LIOBN of more than 32 bits',
  'window-closed': 'a LIOBN without a window',
  'zero-pages': 'no pages',
  'over-512': 'more than 512 pages',
  'over-window': 'more pages than the window has',
  'list-unaligned': 'a list that is not aligned',
  'list-outside': 'a list outside memory',
  'ioba-unaligned': 'an IOBA inside a page',
  'ioba-below': 'an IOBA below the window',
  'ioba-behind': 'an IOBA behind the window',
  'runs-over': 'pages past the end',
  'tce-unaligned': 'a TCE that is not aligned',
  'tce-outside': 'a TCE outside memory',
  'poison-outside': 'an address outside memory without permissions',
  'value-permits': 'a value with permissions',
  hardware: 'hardware tables that refuse',
} as const
export type InputFault = keyof typeof INPUT_FAULTS

/** A range of guest memory. */
export interface GuestMemory {
  readonly gpa: bigint
  readonly bytes: bigint
}

/** A recorded hypercall with what its answer rests on beside the arguments. */
export interface HcallInput extends SeenCall {
  /** All memory of the guest; undefined where the recording does not show it. */
  readonly memory: readonly GuestMemory[] | undefined
}

const isMemory = (memory: readonly GuestMemory[], from: bigint, bytes = 1n): boolean =>
  memory.some((m) => from >= m.gpa && from + bytes <= m.gpa + m.bytes)

const TCE_PERM = 3n
const LIST_MASK = 0xfffn
const LIST_MAX = 512n
const WORD_BYTES = 8n

const H_CALLS = ['H_PUT_TCE', 'H_PUT_TCE_INDIRECT', 'H_STUFF_TCE', 'H_GET_TCE'] as const
export type HcallName = (typeof H_CALLS)[number]
export const isHcallName = (name: string): name is HcallName => (H_CALLS as readonly string[]).includes(name)

function* faultsOfTce(
  tce: bigint,
  { pageShift }: SeenWindow,
  memory: readonly GuestMemory[],
): Generator<InputFault> {
  const isOutside = !isMemory(memory, tce & ~TCE_PERM)
  if ((tce & TCE_PERM) === 0n) {
    if (isOutside) yield 'poison-outside'
    return
  }
  if ((tce & ~TCE_PERM & ((1n << BigInt(pageShift)) - 1n)) !== 0n) yield 'tce-unaligned'
  if (isOutside) yield 'tce-outside'
}

/** The TCEs that a call wrote. */
const writtenTces = (wrote: readonly SeenWrite[]): bigint[] =>
  wrote.flatMap(({ tce, count, step }) =>
    Array.from({ length: Math.min(count, Number(LIST_MAX)) }, (_, i) =>
      step < 0 ? tce : tce + (BigInt(i) << BigInt(step)),
    ),
  )

function* faultsOfPlace(ioba: bigint, npages: bigint, window: SeenWindow): Generator<InputFault> {
  const shift = BigInt(window.pageShift)
  const entries = BigInt(window.entries)
  if (ioba % (1n << shift) !== 0n) yield 'ioba-unaligned'
  const first = (ioba - window.busOffset) >> shift
  if (first < 0n) yield 'ioba-below'
  else if (first >= entries) yield 'ioba-behind'
  else if (first + npages > entries) yield 'runs-over'
}

/** What the kernel found of a list that records do not show. */
const OF_RULE: Readonly<Record<string, InputFault>> = {
  'tce-unaligned': 'tce-unaligned',
  'tce-outside-ram': 'tce-outside',
  'poison-outside-ram': 'poison-outside',
}

function* faultsOfList(
  input: HcallInput,
  window: SeenWindow,
  memory: readonly GuestMemory[],
): Generator<InputFault> {
  const [, , list, npages] = input.args
  if ((list & LIST_MASK) !== 0n) yield 'list-unaligned'
  if (!isMemory(memory, list, npages * WORD_BYTES)) yield 'list-outside'
  else if (input.layer === 'kvm') {
    const fault = OF_RULE[input.rule]
    if (fault !== undefined) yield fault
  } else for (const tce of writtenTces(input.wrote)) yield* faultsOfTce(tce, window, memory)
}

function* foundFaults(input: HcallInput): Generator<InputFault> {
  const { call, args, rule, window, memory } = input
  const [liobn, ioba, third, fourth] = args
  if (rule === 'not-enabled') yield 'not-enabled'
  if (liobn >> 32n !== 0n) yield 'liobn-wide'
  else if (rule === 'liobn-unknown') yield 'liobn-unknown'
  const isFound = window !== undefined && rule !== 'liobn-unknown'
  const hasCount = call === 'H_PUT_TCE_INDIRECT' || call === 'H_STUFF_TCE'
  const npages = hasCount ? fourth : 1n
  if (npages === 0n) yield 'zero-pages'
  if (!isFound) {
    if (rule !== 'liobn-unknown') yield 'window-closed'
    return
  }
  const isOverWindow = call === 'H_STUFF_TCE' && npages > BigInt(window.entries)
  if (isOverWindow) yield 'over-window'
  else if (npages > LIST_MAX) yield 'over-512'
  yield* faultsOfPlace(ioba, isOverWindow ? 1n : npages, window)
  if (memory === undefined) return
  if (call === 'H_PUT_TCE') yield* faultsOfTce(third, window, memory)
  if (call === 'H_PUT_TCE_INDIRECT') yield* faultsOfList(input, window, memory)
  if (call === 'H_STUFF_TCE' && (third & TCE_PERM) !== 0n) yield 'value-permits'
  if (rule === 'not-registered' || rule === 'table-refused') yield 'hardware'
}

const ORDER = Object.keys(INPUT_FAULTS) as InputFault[]

/**
 * All that is wrong with a recorded hypercall, in the order of `INPUT_FAULTS`; nothing where it is a plain one. The
 * TCEs of a list count as far as the call came to them.
 */
export function inputFaults(input: HcallInput): InputFault[] {
  const found = new Set(foundFaults(input))
  return ORDER.filter((fault) => found.has(fault))
}
