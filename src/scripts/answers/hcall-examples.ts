import type { Value } from '../../bits/answer.ts'
import { CLOSED_LIOBN, NOBODY_LIOBN, PAGE_BYTES, RAM_BYTES, WINDOW } from './hcall-worlds.ts'
import type { HcallName, InputFault } from './input-faults.ts'

/** A hypercall that is wrong in these ways and in no other. */
export interface HcallExample {
  readonly call: HcallName
  readonly faults: readonly InputFault[]
  readonly args: Readonly<Record<string, Value>>
  /** The list of an INDIRECT, and where it lies. */
  readonly list?: readonly bigint[]
}

const { liobn, busOffset: ioba, entries } = WINDOW
const LIST_AT = 0x20_0000n
const TCE = 0x10_0003n
const NEXT = TCE + PAGE_BYTES
const OUTSIDE = (1n << 40n) | 3n
const POISON = 1n << 40n
const UNALIGNED = TCE + 0x1000n
const END = ioba + BigInt(entries) * PAGE_BYTES
const LAST_THREE = END - 3n * PAGE_BYTES
const INSIDE = ioba + 0x1000n
const WIDE = (1n << 32n) | liobn

type Row = readonly [faults: readonly InputFault[], args: Readonly<Record<string, Value>>]
const rowsOf =
  (call: HcallName, plain: Readonly<Record<string, Value>>) =>
  ([faults, args]: Row): HcallExample => ({ call, faults, args: { ...plain, ...args } })

/** What is wrong in the same way for all calls. */
const PLACES: readonly Row[] = [
  [[], {}],
  [['liobn-unknown'], { liobn: NOBODY_LIOBN }],
  [['liobn-wide'], { liobn: WIDE }],
  [['window-closed'], { liobn: CLOSED_LIOBN }],
  [['ioba-unaligned'], { ioba: INSIDE }],
  [['ioba-below'], { ioba: ioba - PAGE_BYTES }],
  [['ioba-behind'], { ioba: END }],
]
const COUNTS: readonly Row[] = [
  [['zero-pages'], { npages: 0n }],
  [['zero-pages', 'ioba-behind'], { npages: 0n, ioba: END }],
  [['over-512'], { npages: 513n }],
  [['runs-over'], { npages: 6n, ioba: LAST_THREE }],
]

const PUTS: readonly Row[] = [
  ...PLACES,
  [['tce-unaligned'], { tce: UNALIGNED }],
  [['tce-outside'], { tce: OUTSIDE }],
  [['tce-unaligned', 'tce-outside'], { tce: OUTSIDE + 0x1000n }],
  [['poison-outside'], { tce: POISON }],
  [['ioba-unaligned', 'tce-outside'], { ioba: INSIDE, tce: OUTSIDE }],
]

const STUFFS: readonly Row[] = [
  ...PLACES,
  ...COUNTS,
  [['over-window'], { npages: BigInt(entries) + 1n }],
  [['value-permits'], { value: TCE }],
  [['runs-over', 'value-permits'], { npages: 6n, ioba: LAST_THREE, value: TCE }],
]

const list = (second: bigint): readonly bigint[] => [TCE, second, NEXT]
const INDIRECTS: readonly (Row | readonly [...Row, readonly bigint[]])[] = [
  ...PLACES,
  ...COUNTS,
  [['list-unaligned'], { list: LIST_AT + 8n }],
  [['list-outside'], { list: RAM_BYTES }],
  [['tce-unaligned'], {}, list(UNALIGNED)],
  [['tce-outside'], {}, list(OUTSIDE)],
  [['poison-outside'], {}, list(POISON)],
  [['ioba-unaligned', 'tce-outside'], { ioba: INSIDE }, list(OUTSIDE)],
]

/** One of each input, call by call. */
export const HCALL_EXAMPLES: readonly HcallExample[] = [
  ...PUTS.map(rowsOf('H_PUT_TCE', { liobn, ioba, tce: TCE })),
  ...INDIRECTS.map(([faults, args, words = list(NEXT)]) => ({
    call: 'H_PUT_TCE_INDIRECT' as const,
    faults,
    args: { liobn, ioba, list: LIST_AT, npages: 3n, ...args },
    list: words.length === 3 ? [...words, NEXT, NEXT, NEXT] : words,
  })),
  ...STUFFS.map(rowsOf('H_STUFF_TCE', { liobn, ioba, value: 0n, npages: 3n })),
  ...PLACES.map(rowsOf('H_GET_TCE', { liobn, ioba })),
]

/** Where the lists of the examples lie. */
export const EXAMPLE_LIST = LIST_AT
