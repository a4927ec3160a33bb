import { bytesText } from '../../check/words.ts'
import type { TableRequest } from '../../table/ioda-geometry.ts'
import {
  backingShift,
  DEFAULT_WINDOW,
  type FitRequest,
  PHB_PAGE_SHIFTS,
  type TableCost,
  TCE32_BYTES,
  tableVerdict,
} from './fit-request.ts'
import { type PagePlan, windowPlans } from './window-plan.ts'

/** Windows that a PE has. */
const WINDOWS_MAX = 2
/** Bus address of the second window. */
const SECOND_START = 1n << 59n

/** One call of the set-up, what it charges, and its answer by the rule that gives it. */
export interface FitStep {
  readonly call: string
  readonly about: string
  /** The charge with the numbers put in; empty where nothing is charged. */
  readonly formula: string
  /** Host pages that the call asks for. */
  readonly pages: number
  /** Host pages that are locked after it. */
  readonly lockedPages: number
  readonly code: string
  readonly rule: string
  /** Why it is refused, with numbers; empty where it is not. */
  readonly why: string
}

/** A window that was made. */
export interface FitWindow extends TableCost {
  readonly name: string
  readonly start: bigint
  readonly windowBytes: number
  readonly pageBytes: number
  readonly levels: number
  /** RAM as it is backed can be mapped with pages of this window. */
  readonly canMap: boolean
}

export interface FitResult {
  readonly request: FitRequest
  readonly steps: readonly FitStep[]
  readonly windows: readonly FitWindow[]
  readonly plans: readonly PagePlan[]
  /** Host pages that are locked in the end. */
  readonly lockedPages: number
  /** RLIMIT_MEMLOCK in host pages; undefined where no limit is given or CAP_IPC_LOCK lifts it. */
  readonly limitPages: number | undefined
  /** No call is refused. */
  readonly fits: boolean
}

interface Verdict {
  readonly code: string
  readonly rule: string
  readonly why: string
}

/** The call that makes a window, how its step and the window are called, and the rule of its limit. */
interface Making {
  readonly call: string
  readonly about: string
  readonly name: string
  readonly limitRule: string
}

const DONE: Verdict = { code: 'OK', rule: 'done', why: '' }
const pageText = (pageShift: number): string => bytesText(2 ** pageShift)

/** Makes the calls of a set-up one after another, as the kernel would, on counters only. */
class SetUp {
  readonly steps: FitStep[] = []
  readonly windows: FitWindow[] = []
  readonly limitPages: number | undefined
  locked = 0
  readonly #request: FitRequest
  readonly #hostBytes: number
  #defaultPending: boolean
  #isEnabled = false

  constructor(request: FitRequest) {
    this.#request = request
    this.#hostBytes = 2 ** request.hostPageShift
    this.#defaultPending = request.keepsDefault
    const { memlockBytes, hasIpcLock } = request
    if (memlockBytes !== undefined && !hasIpcLock)
      this.limitPages = Math.floor(memlockBytes / this.#hostBytes)
  }

  /** account_locked_vm: charges all of it, or nothing. */
  #charge(pages: number, rule: string): Verdict {
    const total = this.locked + pages
    const limit = this.limitPages
    if (limit !== undefined && total > limit) {
      return {
        code: 'ENOMEM',
        rule,
        why: `${this.locked} + ${pages} = ${total} pages, the limit is ${limit}`,
      }
    }
    this.locked = total
    return DONE
  }

  #step(call: string, about: string, verdict: Verdict, charge = { formula: '', pages: 0 }): void {
    this.steps.push({ call, about, ...charge, lockedPages: this.locked, ...verdict })
  }

  register(): void {
    const { ramBytes } = this.#request
    const formula = `${bytesText(ramBytes)} / ${bytesText(this.#hostBytes)}`
    const isAligned = ramBytes % this.#hostBytes === 0
    const pages = isAligned ? ramBytes / this.#hostBytes : 0
    const verdict = isAligned
      ? this.#charge(pages, 'limit')
      : { code: 'EINVAL', rule: 'unaligned', why: `${ramBytes} is no multiple of ${this.#hostBytes}` }
    this.#isEnabled ||= verdict === DONE
    this.#step('REGISTER_MEMORY', 'RAM, once', verdict, { formula, pages })
  }

  /** v1: the 32-bit window is charged as a whole, whatever is mapped in it. */
  enable(about: string): boolean {
    const pages = TCE32_BYTES / this.#hostBytes
    const formula = `${bytesText(TCE32_BYTES)} / ${bytesText(this.#hostBytes)}`
    const verdict = this.#charge(pages, 'limit')
    this.#step('ENABLE', about, verdict, { formula, pages })
    return verdict === DONE
  }

  /**
   * Makes the default window if it is still to be made (in v1, by each container): the first call that needs a
   * window does so, and is refused where that fails.
   */
  makeDefault(call: string, about: string): boolean {
    if (this.#request.version === 'v2' && !this.#defaultPending) return true
    const made = this.#make(
      { call, about, name: 'default', limitRule: 'default-window-limit' },
      DEFAULT_WINDOW,
    )
    this.#defaultPending = !made
    return made
  }

  create(request: TableRequest, name: string): void {
    if (!this.makeDefault('TCE_CREATE', `default, before ${name}`)) return
    const { pageShift } = request
    const shifts: readonly number[] = PHB_PAGE_SHIFTS[this.#request.phb]
    if (this.windows.length === WINDOWS_MAX) {
      const why = `a PE has ${WINDOWS_MAX} windows, and both are there`
      this.#step('TCE_CREATE', name, { code: 'ENOSPC', rule: 'no-free-window', why })
    } else if (!shifts.includes(pageShift)) {
      const why = `no pages of ${pageText(pageShift)}: ${this.#request.phb} has ${shifts.map(pageText).join(', ')}`
      this.#step('TCE_CREATE', name, { code: 'EINVAL', rule: 'page-size-unknown', why })
    } else this.#make({ call: 'TCE_CREATE', about: name, name, limitRule: 'limit' }, request)
  }

  #make({ call, about, name, limitRule }: Making, request: TableRequest): boolean {
    const made = tableVerdict(request, this.#request.hostPageShift)
    if (made.rule === 'bad-geometry') {
      const why = 'the window is no power of two, or levels is not 1 to 5'
      this.#step(call, about, { code: made.code, rule: made.rule, why })
      return false
    }
    const bytes = made.rule === 'done' ? made.cost.chargedBytes : made.chargedBytes
    const charge = {
      formula: this.#chargeText(bytes, made.rule === 'done' ? made.cost.entries : 0),
      pages: Math.floor(bytes / this.#hostBytes),
    }
    const charged = this.#charge(charge.pages, limitRule)
    if (charged !== DONE || made.rule === 'done') this.#step(call, about, charged, charge)
    else {
      const reason =
        made.rule === 'no-memory'
          ? `the first level takes ${bytesText(made.firstBytes)} in one piece, there are 16 MiB at most`
          : 'the levels and the IOMMU page translate 55 bits or more together'
      const why = `${reason}; the charge is not given back`
      this.#step(call, about, { code: made.code, rule: made.rule, why }, charge)
    }
    if (charged !== DONE || made.rule !== 'done') return false
    this.#addWindow(name, request, made.cost)
    return true
  }

  #addWindow(name: string, { pageShift, levels, windowBytes }: TableRequest, cost: TableCost): void {
    // Containers of v1 have a window each, all alike: one of them stands for all.
    if (this.windows.some((w) => w.name === name)) return
    this.windows.push({
      name,
      start: this.windows.length === 0 ? 0n : SECOND_START,
      windowBytes: Number(windowBytes),
      pageBytes: 2 ** pageShift,
      levels,
      ...cost,
      canMap: pageShift <= backingShift(this.#request),
    })
  }

  /** Both trees, their leaves and the levels above; what is not even leaves shows as one number. */
  #chargeText(bytes: number, entries: number): string {
    const tree = bytes / 2
    const above = tree - entries * 8
    const parts =
      entries === 0 || above < 0 ? `${tree}` : above === 0 ? `${entries} x 8` : `(${entries} x 8 + ${above})`
    return `2 x ${parts} / ${this.#hostBytes}`
  }

  /** Maps RAM into each window. */
  map(): void {
    const backing = backingShift(this.#request)
    for (const { name, pageBytes, canMap } of this.windows) {
      const verdict: Verdict = !this.#isEnabled
        ? { code: 'EPERM', rule: 'not-enabled', why: 'nothing is registered' }
        : canMap
          ? DONE
          : {
              code: 'EINVAL',
              rule: 'not-registered',
              why: `the IOMMU page is ${bytesText(pageBytes)}, RAM is backed by ${pageText(backing)}`,
            }
      this.#step('MAP_DMA', `RAM into ${name}`, verdict)
    }
  }

  /** v2 only: the default window goes before it is made. */
  removeDefault(): void {
    this.#step('TCE_REMOVE', 'default window', { code: 'OK', rule: 'cancelled', why: '' })
  }

  /** v1: windows are what they are. */
  refuse(call: string, about: string): void {
    const why = 'a container of v1 has its 32-bit window and no other'
    this.#step(call, about, { code: 'ENOTTY', rule: 'not-v2', why })
  }
}

/** One container of v1 for each group, as a container of v1 takes one group of a PHB that makes windows. */
function setUpV1(setUp: SetUp, request: FitRequest): void {
  for (let i = 0; i < request.groups; i++) {
    const about = request.groups === 1 ? '' : `container ${i + 1}, `
    if (setUp.enable(`${about}32-bit window`)) setUp.makeDefault('MAP_DMA', `${about}table of the window`)
  }
  if (!request.keepsDefault) setUp.refuse('TCE_REMOVE', 'default window')
  request.windows.forEach((_, i) => {
    setUp.refuse('TCE_CREATE', `window ${i + 1}`)
  })
}

function setUpV2(setUp: SetUp, request: FitRequest): void {
  setUp.register()
  if (!request.keepsDefault) setUp.removeDefault()
  request.windows.forEach((w, i) => {
    setUp.create(w, `window ${i + 1}`)
  })
  if (request.windows.length === 0) setUp.makeDefault('MAP_DMA', 'default, before RAM')
  setUp.map()
}

/**
 * Whether the memory, windows and devices of a virtual machine fit: every call of the set-up with its charge to
 * locked_vm and its answer, the windows with their tables, and what windows would hold all RAM.
 *
 * The counter is that of one process that holds nothing else. Containers of v1 are those of Linux 6.4 and later,
 * where the first mapping makes a table and charges it.
 * (Linux v6.1 and v6.12 drivers/vfio/vfio_iommu_spapr_tce.c, arch/powerpc/mm/book3s64/iommu_api.c)
 */
export function fit(request: FitRequest): FitResult {
  const setUp = new SetUp(request)
  if (request.version === 'v1') setUpV1(setUp, request)
  else setUpV2(setUp, request)
  const { steps, windows, locked, limitPages } = setUp
  const plans = windowPlans(request, limitPages)
  return {
    request,
    steps,
    windows,
    plans,
    lockedPages: locked,
    limitPages,
    fits: steps.every((s) => s.code === 'OK'),
  }
}
