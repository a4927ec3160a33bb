import { ceilLog2 } from '../../bits/u64.ts'
import { bytesText } from '../../check/words.ts'
import {
  backingShift,
  DEFAULT_WINDOW,
  type FitRequest,
  fewestLevels,
  PHB_PAGE_SHIFTS,
  TCE32_BYTES,
  tableVerdict,
} from './fit-request.ts'

/** Entries of one H_PUT_TCE_INDIRECT. */
const LIST_ENTRIES_MAX = 512

/** A window that maps all RAM 1:1 with pages of one size: what it takes, or why it cannot be. */
export interface PagePlan {
  readonly pageBytes: number
  /** A power of two. */
  readonly windowBytes: number
  /** Entries that map RAM. */
  readonly tces: number
  /** Calls of H_PUT_TCE_INDIRECT that write them. */
  readonly indirectCalls: number
  /** The fewest that will do; 0 where none do. */
  readonly levels: number
  readonly chargedBytes: number
  /** Empty where the window is possible. */
  readonly why: string
}

interface Budget {
  /** Host pages that are charged besides the window. */
  readonly pages: number
  readonly limitPages: number | undefined
}

function planOf(request: FitRequest, pageShift: number, { pages, limitPages }: Budget): PagePlan {
  const { ramBytes, hostPageShift } = request
  const windowShift = Math.max(ceilLog2(BigInt(ramBytes)), pageShift)
  const pageBytes = 2 ** pageShift
  const tces = Math.ceil(ramBytes / pageBytes)
  const levels = fewestLevels(pageShift, 1n << BigInt(windowShift), hostPageShift) ?? 0
  const made = tableVerdict({ pageShift, windowBytes: 1n << BigInt(windowShift), levels }, hostPageShift)
  const chargedBytes = made.rule === 'done' ? made.cost.chargedBytes : 0
  const total = pages + chargedBytes / 2 ** hostPageShift
  const backing = backingShift(request)
  const why =
    made.rule !== 'done'
      ? 'no number of levels will do'
      : pageShift > backing
        ? `RAM is backed by pages of ${bytesText(2 ** backing)}`
        : limitPages !== undefined && total > limitPages
          ? `${total} pages to lock, the limit is ${limitPages}`
          : ''
  const indirectCalls = Math.ceil(tces / LIST_ENTRIES_MAX)
  return { pageBytes, windowBytes: 2 ** windowShift, tces, indirectCalls, levels, chargedBytes, why }
}

/** v1 has the 32-bit window alone. */
function planOfV1({ ramBytes, hostPageShift }: FitRequest): PagePlan {
  const pageBytes = 2 ** DEFAULT_WINDOW.pageShift
  const made = tableVerdict(DEFAULT_WINDOW, hostPageShift)
  const tces = Math.ceil(ramBytes / pageBytes)
  return {
    pageBytes,
    windowBytes: TCE32_BYTES,
    tces,
    indirectCalls: Math.ceil(tces / LIST_ENTRIES_MAX),
    levels: DEFAULT_WINDOW.levels,
    chargedBytes: made.rule === 'done' ? made.cost.chargedBytes : 0,
    why: ramBytes > TCE32_BYTES ? `the window has ${bytesText(TCE32_BYTES)}, RAM ${bytesText(ramBytes)}` : '',
  }
}

/**
 * Windows that hold all RAM, one for each page size of the PHB, from small pages to large ones. Each is judged
 * as if it were the only window that is made, beside the default one where that stays.
 */
export function windowPlans(request: FitRequest, limitPages: number | undefined): PagePlan[] {
  const { version, phb, ramBytes, hostPageShift, keepsDefault } = request
  if (version === 'v1') return [planOfV1(request)]
  const first = keepsDefault ? tableVerdict(DEFAULT_WINDOW, hostPageShift) : undefined
  const defaultBytes = first?.rule === 'done' ? first.cost.chargedBytes : 0
  const pages = Math.ceil(ramBytes / 2 ** hostPageShift) + defaultBytes / 2 ** hostPageShift
  return PHB_PAGE_SHIFTS[phb].map((shift) => planOf(request, shift, { pages, limitPages }))
}
