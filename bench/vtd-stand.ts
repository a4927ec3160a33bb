import { resolveProfile } from '../src/bits/errata.ts'
import { Journal } from '../src/bits/state.ts'
import { swap32 } from '../src/bits/u64.ts'
import { Judge } from '../src/check/judge.ts'
import { Life } from '../src/hw/life.ts'
import { CachedTranslator } from '../src/hw/vtd/cached-translator.ts'
import { PRESETS } from '../src/hw/vtd/capabilities.ts'
import {
  NO_CACHES,
  newRequest,
  newTranslation,
  TABLE_MODE,
  type TableMode,
  type VtdInvalidation,
} from '../src/hw/vtd/ports.ts'
import { RemappingUnit } from '../src/hw/vtd/remapping-unit.ts'
import { TranslationEngine } from '../src/hw/vtd/tables/engine.ts'
import type { TableFeatures } from '../src/hw/vtd/tables/features.ts'
import { VtdDmaSpace } from '../src/hw/vtd-devices/vtd-dma-space.ts'
import { HostMemory } from '../src/memory/host-memory.ts'
import { KIND } from '../src/trace/event.ts'
import { RecordLog } from '../src/trace/record-log.ts'
import { Stage } from '../src/trace/stage.ts'
import { check } from './case.ts'
import type { Watching } from './cases/dma.ts'
import { placeIn } from './patterns.ts'

/** Records that are kept: a ring that a second-level cache holds. */
const KEEP_RECORDS = 1 << 15
const RAM_BYTES = 2 ** 37
const MEMORY_BYTES_MAX = 2 ** 31
/** Registers of a unit, and commands. */
const RTADDR = 0x20
const GCMD = 0x18
const SRTP = 0x4000_0000n
const TE = 0x8000_0000n
const TABLE_PAGES = 512
const LEVEL_BITS = 9
const PAGE_SHIFT = 12

/** Bus 0, device 3. */
export const SOURCE = 0x18
export const PASID = 5
export const DOMAIN = 1
/** 4 KiB page of the first address that is mapped: 4 GiB. `vtd-glib.c` has the same. */
export const FIRST_PAGE = 1 << 20

export const ROOT = 0x10
const CONTEXT = 0x11
const DIRECTORY = 0x12
const PASIDS = 0x13
const TOP = 0x20

/** A unit of a scalable generation, 48 bits and four levels. */
export const FEATURES: TableFeatures = {
  hostAddressBits: 46,
  maxAddressBits: 48,
  sagaw: 0b0100,
  hasSecond2M: true,
  hasSecond1G: true,
  hasFirst1G: true,
  hasFirst5: false,
  hasZeroLengthReads: true,
  hasDeviceTlb: true,
  hasPassThrough: true,
  hasSnoopControl: true,
  hasExtendedContext: false,
  hasScalableMode: true,
  hasSecondLevel: true,
  hasFirstLevel: true,
  hasNesting: true,
  hasPasid: true,
  hasPageRequests: true,
  hasRidPasid: false,
  hasRidPrivilege: false,
  hasSupervisor: true,
  hasExecute: true,
  hasExtendedAccessed: false,
  hasSecondAccessedDirty: true,
  hasWalkSnoop: true,
  hasMemoryTypes: false,
  hasAbortMode: false,
}

/** The page that the page number `index` of a power of two of mapped ones leads to; `vtd-glib.c` has the same. */
export const targetOf = (index: number, pages: number): number =>
  ((Math.imul(index, 40503) + 11) & (pages - 1)) + 0x10_0000

export interface VtdStandOptions {
  /** Requests have a PASID and go through the first level; else legacy mode, second level. */
  readonly hasPasid?: boolean
  readonly records?: boolean
  readonly iotlbEntries?: number
}

/** Tables of four levels in memory, and the caches of a unit in front of them. */
export class VtdStand {
  readonly log = new RecordLog({ keepRecords: KEEP_RECORDS })
  readonly stage = new Stage(this.log)
  readonly journal = new Journal()
  readonly memory = new HostMemory({ journal: this.journal, ramBytes: RAM_BYTES, maxBytes: MEMORY_BYTES_MAX })
  readonly translator: CachedTranslator<TranslationEngine>
  /** Reads memory for every request. */
  readonly engine: TranslationEngine
  readonly request = newRequest()
  readonly found = newTranslation()
  readonly mode: TableMode
  readonly #flags: number
  #next = TOP + 1

  constructor({ hasPasid = false, records = false, iotlbEntries }: VtdStandOptions = {}) {
    const { memory, stage, journal, log } = this
    // As in a scenario: what happens comes from a line. And the ring of records is full.
    stage.line = 1
    for (let i = 0; i < 2 * KEEP_RECORDS; i++) log.append(KIND['memory.write'], -1)
    log.on = records
    const { has } = resolveProfile([], 'intended')
    const base = { memory, features: FEATURES, has }
    this.engine = new TranslationEngine({ ...base, caches: NO_CACHES })
    this.translator = new CachedTranslator({
      ...{ name: 'vtd0', stage, journal, profile: resolveProfile([], 'intended') },
      isCaching: false,
      addressBits: FEATURES.hostAddressBits,
      ...(iotlbEntries !== undefined && { iotlbEntries }),
      engine: (ports) => new TranslationEngine({ ...base, ...ports }),
    })
    this.mode = hasPasid ? TABLE_MODE.SCALABLE : TABLE_MODE.LEGACY
    // Second level: R and W. First level: P, R/W, U/S, A and D.
    this.#flags = hasPasid ? 0x67 : 3
    this.request.source = SOURCE
    if (hasPasid) {
      this.request.pasid = PASID
      this.#word(ROOT, 0, CONTEXT * 4096 + 1)
      this.#word(CONTEXT, SOURCE * 32, DIRECTORY * 4096 + 0x8 + 1)
      this.#word(DIRECTORY, 0, PASIDS * 4096 + 1)
      // P, AW 2, PGTT 1; domain, PWSNP; tables.
      this.#word(PASIDS, PASID * 64, 0x49)
      this.#word(PASIDS, PASID * 64 + 8, 0x80_0000 + DOMAIN)
      this.#word(PASIDS, PASID * 64 + 16, TOP * 4096)
    } else {
      this.#word(ROOT, 0, CONTEXT * 4096 + 1)
      this.#word(CONTEXT, SOURCE * 16, TOP * 4096 + 1)
      this.#word(CONTEXT, SOURCE * 16 + 8, (DOMAIN << 8) | 2)
    }
    this.translator.setRoot({ page: ROOT, mode: this.mode, isEnabled: true })
  }

  /** Maps so many pages from FIRST_PAGE on. */
  map(pages: number): void {
    for (let index = 0; index < pages; index++) {
      const page = FIRST_PAGE + index
      let table = TOP
      for (let level = 4; level > 1; level--) table = this.#tableBelow(table, page, level)
      const target = targetOf(index, pages)
      this.memory.storeU64be(
        table,
        (page % TABLE_PAGES) * 8,
        swap32((target << PAGE_SHIFT) | this.#flags),
        swap32(target >>> 20),
      )
    }
  }

  /** One request through the caches: the page it leads to, or -1. */
  translate(hi: number, lo: number): number {
    const { request } = this
    request.hi = hi
    request.lo = lo
    const { fault, page } = this.translator.translate(request)
    return fault === 0 ? page : -1
  }

  /** The same by memory alone. */
  walk(hi: number, lo: number): number {
    const { request, found } = this
    request.hi = hi
    request.lo = lo
    this.engine.translate(ROOT, this.mode, request, found)
    return found.fault === 0 ? found.page : -1
  }

  /** Every page leads where it is mapped to. */
  checkAll(pages: number, way: 'cached' | 'walk'): void {
    for (let index = 0; index < pages; index++) {
      const page = FIRST_PAGE + index
      const [hi, lo] = [page >>> 20, page << PAGE_SHIFT]
      const to = way === 'walk' ? this.walk(hi, lo) : this.translate(hi, lo)
      check(to === targetOf(index, pages), 'a page leads where it is mapped to')
    }
  }

  #tableBelow(table: number, page: number, level: number): number {
    const at = (Math.floor(page / 2 ** (LEVEL_BITS * (level - 1))) % TABLE_PAGES) * 8
    this.memory.loadU64be(table, at)
    const known = swap32(this.memory.wordHi) >>> PAGE_SHIFT
    if (known !== 0) return known
    this.#word(table, at, this.#next * 4096 + this.#flags)
    return this.#next++
  }

  #word(page: number, offset: number, value: number): void {
    this.memory.storeU64be(page, offset, swap32(value | 0), swap32(Math.floor(value / 2 ** 32) | 0))
  }
}

/**
 * A whole unit in front of the same tables, programmed by its registers, and the bus behind which a device sits. Each page
 * begins with its number.
 */
export class VtdDmaStand extends VtdStand {
  readonly unit: RemappingUnit
  readonly space: VtdDmaSpace
  readonly judge = new Judge()

  constructor(watching: Watching, pages: number) {
    super({ records: true })
    const { stage, journal, memory, log } = this
    if (watching === 'checkers') this.judge.attach(log)
    const profile = resolveProfile([], 'intended')
    const life = new Life(stage, journal)
    const { cap, ecap } = PRESETS['qemu-48']
    this.unit = new RemappingUnit(
      { name: 'vtd0', memory, cap, ecap, hostAddressBits: FEATURES.hostAddressBits },
      { stage, journal, life, profile },
    )
    this.map(pages)
    for (let index = 0; index < pages; index++)
      memory.storeU64be(targetOf(index, pages), placeIn(index), index, ~index)
    this.unit.mmioWrite(RTADDR, 8, BigInt(ROOT) << 12n)
    this.unit.mmioWrite(GCMD, 4, SRTP)
    this.unit.mmioWrite(GCMD, 4, TE)
    this.space = new VtdDmaSpace(SOURCE, { unit: this.unit, memory, stage })
    log.on = watching !== 'bare'
  }
}

/** Lanes of the addresses of pages, by the index of each. */
export function addressesOf(at: ArrayLike<number>): { hi: Int32Array; lo: Int32Array } {
  const hi = new Int32Array(at.length)
  const lo = new Int32Array(at.length)
  for (let i = 0; i < at.length; i++) {
    const page = FIRST_PAGE + (at[i] as number)
    hi[i] = page >>> 20
    lo[i] = (page << PAGE_SHIFT) | ((i << 3) & 0xff8)
  }
  return { hi, lo }
}

export const NOTHING: VtdInvalidation = {
  what: 'iotlb',
  scope: 'all',
  domain: 0,
  source: 0,
  functionMask: 0,
  pasid: 0xffff_ffff,
  address: 0n,
  order: 0,
  isLeafOnly: true,
  isGlobalToo: true,
}
