import { rulesOf } from '../../bits/call.ts'
import type { Profile } from '../../bits/errata.ts'
import { hiOf, loOf, numberOf, wordOf } from '../../bits/u64.ts'
import type { Life } from '../../hw/life.ts'
import type { LiobnMap } from '../../hw/liobn-map.ts'
import type { SpaprPhb } from '../../hw/spapr-phb.ts'
import type { SpaprTceTable } from '../../hw/spapr-tce-table.ts'
import { KIND } from '../../trace/event.ts'
import type { CallTags, Stage } from '../../trace/stage.ts'
import { type EehBackend, NO_ANSWER, type RtasPort } from '../ports.ts'
import {
  CREATE_PE_DMA_WINDOW,
  QUERY_PE_DMA_WINDOW,
  REMOVE_PE_DMA_WINDOW,
  RESET_PE_DMA_WINDOW,
  RTAS_UNKNOWN,
} from './calls.ts'
import { eehRtas } from './eeh-rtas.ts'
import type { Counts } from './rtas-parts.ts'

const QUERY = rulesOf(QUERY_PE_DMA_WINDOW)
const CREATE = rulesOf(CREATE_PE_DMA_WINDOW)
const REMOVE = rulesOf(REMOVE_PE_DMA_WINDOW)
const RESET = rulesOf(RESET_PE_DMA_WINDOW)
const UNKNOWN = rulesOf(RTAS_UNKNOWN)

/** Entries of the largest window: a count of 32 bits, and windows are powers of two. */
const LARGEST_SHIFT = 31
const LARGEST_ENTRIES = 2 ** LARGEST_SHIFT
/** What QEMU says of the largest window in an answer of 6 cells. */
const CLAIMED_SHIFT = 37
const WORD_BITS = 64
/** In place of a rule: the model does not know what happens. */
const NOT_KNOWN = -1
const LONG_SHIFT = 'a shift by 64 bits or more in C'

export interface RtasParts {
  readonly stage: Stage
  readonly life: Life
  readonly profile: Profile
  readonly liobns: LiobnMap
  readonly phbs: readonly SpaprPhb[]
  /** The VFIO group that a PHB has; left out, none has one. */
  readonly eehOf?: (phb: SpaprPhb) => EehBackend | null
}

/**
 * The RTAS calls for dynamic DMA windows and for errors of PCI, as QEMU handles them.
 *
 * `rule` is the place of the last answer in its declaration, `outs` the cells after the status. The order of
 * the checks is part of the interface. (QEMU 7.2 hw/ppc/spapr_rtas_ddw.c)
 */
export class SpaprRtas implements RtasPort {
  /** Place of the last answer in the declaration of its call. */
  rule = 0
  /** Cells that the last call wrote after its status. */
  outs: readonly number[] = []
  /** Why the last call got no answer though the machine lives; empty otherwise. */
  notKnown = ''
  readonly #parts: RtasParts
  readonly #calls = new Map<
    number,
    { tags: CallTags; run: (args: readonly number[], counts: Counts) => number }
  >()
  readonly #unknown: CallTags
  readonly #placesBlindly: boolean
  readonly #losesTable: boolean
  readonly #claimsFixed: boolean

  constructor(parts: RtasParts) {
    const { stage, profile } = parts
    this.#parts = parts
    this.#unknown = stage.tag(RTAS_UNKNOWN)
    this.#placesBlindly = profile.has('Q8')
    this.#losesTable = profile.has('Q9')
    this.#claimsFixed = profile.has('Q10')
    const add = (decl: CallTags['decl'], run: (args: readonly number[], counts: Counts) => number) =>
      this.#calls.set(decl.nr as number, { tags: stage.tag(decl), run })
    add(QUERY_PE_DMA_WINDOW, (args, counts) => this.#query(args, counts))
    add(CREATE_PE_DMA_WINDOW, (args, counts) => this.#create(args, counts))
    add(REMOVE_PE_DMA_WINDOW, (args, counts) => this.#remove(args, counts))
    add(RESET_PE_DMA_WINDOW, (args, counts) => this.#reset(args, counts))
    const eeh = eehRtas({
      phbOf: (args) => this.#phbOf(args),
      backendOf: (phb) => parts.eehOf?.(phb) ?? null,
      handOut: (cells) => {
        this.outs = cells
      },
      doNotKnow: (why) => this.#doNotKnow(why),
    })
    for (const [decl, run] of eeh) add(decl, run)
  }

  call(token: number, args: readonly number[], nret: number): readonly number[] {
    return this.counted(token, args, { nargs: args.length, nret })
  }

  /** A call whose caller states its counts of cells itself, right or wrong. */
  counted(token: number, args: readonly number[], counts: Counts): readonly number[] {
    const { stage, life } = this.#parts
    this.outs = []
    this.notKnown = ''
    if (life.isDead) return [NO_ANSWER]
    const known = this.#calls.get(token)
    const tags = known?.tags ?? this.#unknown
    const [a0 = 0, a1 = 0, a2 = 0, a3 = 0, a4 = 0] = args
    const before =
      known === undefined
        ? stage.enter(tags, token | 0)
        : stage.enter(tags, a0 | 0, 0, a2 | 0, a1 | 0, a3 | 0, 0, a4 | 0, 0)
    this.rule = known?.run(args, counts) ?? UNKNOWN['token-unknown']
    if (this.rule === NOT_KNOWN) {
      stage.log.append(KIND.unmodelled, stage.cause, stage.log.names.intern(this.notKnown), stage.line)
    }
    if (life.isDead || this.rule === NOT_KNOWN) {
      stage.cause = before
      return [NO_ANSWER]
    }
    stage.leave(tags, before, this.rule, (this.outs[0] ?? 0) | 0)
    return [tags.codes[this.rule] as number, ...this.outs]
  }

  #query(args: readonly number[], { nargs, nret }: Counts): number {
    if (nargs !== 3 || (nret !== 5 && nret !== 6)) return QUERY['count-wrong']
    const phb = this.#phbOf(args)
    if (phb === undefined) return QUERY['buid-unknown']
    if (!phb.hasDdw) return QUERY['ddw-off']
    const left = phb.tables.length - phb.openWindows
    const largest = left === 0 ? 0 : phb.maxWindowEntries
    const cells = this.#claimsFixed ? [1 << (CLAIMED_SHIFT - 32), 0] : [0, largest]
    const cell = this.#claimsFixed ? LARGEST_ENTRIES : largest
    this.outs = [left, ...(nret === 6 ? cells : [cell]), phb.pageSizeMask, 0]
    return QUERY.done
  }

  #create(args: readonly number[], { nargs, nret }: Counts): number {
    if (nargs !== 5 || nret !== 4) return CREATE['count-wrong']
    const phb = this.#phbOf(args)
    if (phb === undefined) return CREATE['buid-unknown']
    if (!phb.hasDdw) return CREATE['ddw-off']
    const [pageShift, windowShift] = [(args[3] ?? 0) >>> 0, (args[4] ?? 0) >>> 0]
    if (this.#losesTable && pageShift >= WORD_BITS) return this.#doNotKnow(LONG_SHIFT)
    if (!phb.pageShifts.includes(pageShift)) return CREATE['page-size-refused']
    if (windowShift < pageShift) return CREATE['window-below-page']
    const table = phb.freeTable
    if (table === undefined) return CREATE['windows-exhausted']
    if (this.#losesTable && windowShift - pageShift >= WORD_BITS) return this.#doNotKnow(LONG_SHIFT)
    if (windowShift - pageShift > LARGEST_SHIFT) {
      if (this.#losesTable) return this.#createOversized(table)
      return CREATE['too-large']
    }
    if (windowShift >= WORD_BITS) {
      return this.#losesTable ? this.#doNotKnow('a window of 2^64 bytes') : CREATE['too-large']
    }
    if (2 ** (windowShift - pageShift) > phb.maxWindowEntries) return CREATE['too-large']
    const busOffset = this.#placeFor(phb, 1n << BigInt(windowShift))
    if (busOffset === undefined) return CREATE['bus-address-taken']
    table.open({ pageShift, busOffset, entries: 2 ** (windowShift - pageShift), isKnownEmpty: true })
    this.outs = [table.liobn, hiOf(busOffset) >>> 0, loOf(busOffset) >>> 0]
    return CREATE.done
  }

  /** Q9: the enable meets what an earlier one left, or leaves something itself. */
  #createOversized(table: SpaprTceTable): number {
    if (table.isPoisoned) this.#parts.life.die('memory-region-added-twice')
    table.poison()
    return CREATE['too-large']
  }

  #remove(args: readonly number[], { nargs, nret }: Counts): number {
    if (nargs !== 1 || nret !== 1) return REMOVE['count-wrong']
    const table = this.#parts.liobns.find(0, args[0] ?? 0)
    if (table === undefined) return REMOVE['liobn-unknown']
    const phb = this.#parts.phbs.find((p) => p.tables.includes(table))
    if (phb === undefined) return REMOVE['not-a-phb']
    if (!phb.hasDdw) return REMOVE['ddw-off']
    if (table.window === null) return REMOVE['window-closed']
    const wasDefault = table.isDefault
    table.close(REMOVE_PE_DMA_WINDOW.name)
    if (phb.openWindows > 0 || wasDefault) return REMOVE.done
    phb.reset(REMOVE_PE_DMA_WINDOW.name)
    return REMOVE['default-restored']
  }

  #reset(args: readonly number[], { nargs, nret }: Counts): number {
    if (nargs !== 3 || nret !== 1) return RESET['count-wrong']
    const phb = this.#phbOf(args)
    if (phb === undefined) return RESET['buid-unknown']
    if (!phb.hasDdw) return RESET['ddw-off']
    phb.reset(RESET_PE_DMA_WINDOW.name)
    return RESET.done
  }

  #phbOf(args: readonly number[]): SpaprPhb | undefined {
    const buid = wordOf((args[1] ?? 0) | 0, (args[2] ?? 0) | 0)
    return this.#parts.phbs.find((phb) => phb.buid === buid)
  }

  /** Where a window of so many bytes starts; undefined where another one is in the way everywhere. */
  #placeFor(phb: SpaprPhb, bytes: bigint): bigint | undefined {
    if (phb.openWindows === 0) return phb.defaultBusOffset
    if (this.#placesBlindly) return phb.dma64BusOffset
    return [phb.dma64BusOffset, phb.defaultBusOffset].find((start) =>
      phb.tables.every(({ window }) => {
        if (window === null) return true
        const end = window.busOffset + (BigInt(window.entries) << BigInt(window.pageShift))
        return end <= start || start + bytes <= window.busOffset
      }),
    )
  }

  #doNotKnow(why: string): number {
    this.notKnown = why
    return NOT_KNOWN
  }
}

/** TCEs of the largest window in the cells of a query's answer. */
export const largestOf = (outs: readonly number[]): bigint =>
  outs.length === 5 ? BigInt(numberOf((outs[1] ?? 0) | 0, (outs[2] ?? 0) | 0)) : BigInt(outs[1] ?? 0)
