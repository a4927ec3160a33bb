import { hiOf, loOf } from '../../src/bits/u64.ts'
import { encode } from '../../src/bits/word.ts'
import { faultNameOf } from '../../src/hw/vtd/fault-reasons.ts'
import {
  type ContextEntry,
  NO_CACHES,
  newRequest,
  newTranslation,
  type StructureCaches,
  TABLE_MODE,
  type VtdRequest,
} from '../../src/hw/vtd/ports.ts'
import { TranslationEngine } from '../../src/hw/vtd/tables/engine.ts'
import { EVERY_FEATURE, type TableFeatures } from '../../src/hw/vtd/tables/features.ts'
import { SM_CONTEXT_ENTRY_0, SM_CONTEXT_ENTRY_1 } from '../../src/hw/vtd/tables/format.ts'
import { FlatMemory } from './flat-memory.ts'

/** A unit that can do everything. */
export const ALL_FEATURES: TableFeatures = Object.freeze({ ...EVERY_FEATURE, hostAddressBits: 48 })

/** A unit as QEMU 7.2 has it: CAP 0x00d2008c22260206, three levels, second level only. */
export const QEMU_FEATURES: TableFeatures = Object.freeze({
  ...ALL_FEATURES,
  hostAddressBits: 39,
  maxAddressBits: 39,
  sagaw: 0b0010,
  hasFirst1G: false,
  hasFirst5: false,
  hasZeroLengthReads: false,
  hasDeviceTlb: false,
  hasSnoopControl: false,
  hasExtendedContext: false,
  hasScalableMode: false,
  hasSecondLevel: false,
  hasFirstLevel: false,
  hasNesting: false,
  hasPasid: false,
  hasPageRequests: false,
  hasRidPasid: false,
  hasRidPrivilege: false,
  hasAbortMode: false,
})

export interface TableWorldOptions {
  readonly features?: Partial<TableFeatures>
  readonly base?: TableFeatures
  readonly errata?: readonly string[]
  readonly bytes?: number
  /** Nothing is remembered where they are left out. */
  readonly caches?: StructureCaches
  /** Context entries are remembered for ever. */
  readonly keepsContexts?: boolean
}

/** Where the tables of the worlds are. */
export const AT = {
  ROOT: 0x1_0000,
  CONTEXT: 0x1_1000,
  SL: 0x1_2000,
  DIR: 0x2_0000,
  PASIDS: 0x2_1000,
  FL: 0x2_2000,
  /** Second-level tables for nested translation: one to one for the first 2 MiB. */
  IDENTITY: 0x3_0000,
} as const

/** Bus 0, device 3. */
export const SOURCE = 0x18

function contextCache(): StructureCaches {
  const kept = new Map<number, ContextEntry>()
  return {
    ...NO_CACHES,
    loadContext: (source, into) => {
      const entry = kept.get(source)
      if (entry !== undefined) Object.assign(into, entry)
      return entry !== undefined
    },
    keepContext: (source, entry) => {
      if (entry.fault === 0) kept.set(source, { ...entry })
    },
  }
}

/** An engine with tables in a small memory. */
export function tableWorld(options: TableWorldOptions = {}) {
  const memory = new FlatMemory(options.bytes ?? 1 << 21)
  const view = new DataView(memory.bytes.buffer)
  const features = { ...(options.base ?? ALL_FEATURES), ...options.features }
  const has = (id: string) => options.errata?.includes(id) === true
  const caches = options.keepsContexts === true ? contextCache() : (options.caches ?? NO_CACHES)
  const engine = new TranslationEngine({ memory, features, caches, has })
  let mode: number = TABLE_MODE.LEGACY
  let root: number = AT.ROOT
  const word = (address: number, value: bigint) => view.setBigUint64(address, BigInt.asUintN(64, value), true)
  const read = (address: number) => view.getBigUint64(address, true)
  const into = newTranslation()
  /** Translates, and answers in words: the name of the fault, or where it leads. */
  const translate = (address: bigint, request: Partial<VtdRequest> = {}) => {
    const whole = { ...newRequest(), source: SOURCE, hi: hiOf(address), lo: loOf(address), ...request }
    engine.translate(root / 4096, mode, whole, into)
    return into.fault === 0 ? { ...into } : { ...into, name: faultNameOf(into.fault) }
  }
  return {
    memory,
    engine,
    word,
    read,
    translate,
    setRoot: (toMode: number, address: number = AT.ROOT) => {
      mode = toMode
      root = address
    },
    /** The name of the fault of a request, or `page:shift:perm` in hexadecimal. */
    short: (address: bigint, request: Partial<VtdRequest> = {}): string => {
      const { fault, page, shift, perm, isSilent } = translate(address, request)
      if (fault !== 0) return `${faultNameOf(fault)}${isSilent ? ' silent' : ''}`
      return `${page.toString(16)}:${shift}:${perm}`
    },
  }
}

export type TableWorld = ReturnType<typeof tableWorld>

/** The tables of the vectors: root 0x10000, context 0x11000, three levels from 0x12000 on, domain 5. */
export function legacyWorld(options: TableWorldOptions = {}): TableWorld {
  const world = tableWorld({ base: QEMU_FEATURES, ...options })
  world.word(AT.ROOT, 0x1_1001n)
  world.word(0x1_1180, 0x1_2001n)
  world.word(0x1_1188, 0x501n)
  world.word(0x1_2008, 0x1_3003n)
  world.word(0x1_3008, 0x1_4003n)
  world.word(0x1_4008, 0xabc_d003n)
  return world
}

/** Words of a PASID table entry. */
export interface PasidWords {
  readonly first?: bigint
  readonly second?: bigint
  readonly third?: bigint
}

/** PASID of requests without one in the scalable worlds, and another one. */
export const RID_PASID = 7
export const PASID = 0x41

/**
 * Scalable mode: context with everything allowed, a directory whose first two entries lead to one table, entries for
 * RID_PASID and PASID.
 */
export function scalableWorld(entry: PasidWords, options: TableWorldOptions = {}): TableWorld {
  const world = tableWorld(options)
  world.setRoot(TABLE_MODE.SCALABLE)
  world.word(AT.ROOT, BigInt(AT.CONTEXT) | 1n)
  const context = encode(SM_CONTEXT_ENTRY_0, {
    PASIDDIRPTR: BigInt(AT.DIR >> 12),
    PRE: 1n,
    PASIDE: 1n,
    DTE: 1n,
    P: 1n,
  })
  world.word(AT.CONTEXT + SOURCE * 32, context)
  world.word(AT.CONTEXT + SOURCE * 32 + 8, encode(SM_CONTEXT_ENTRY_1, { RID_PASID: BigInt(RID_PASID) }))
  world.word(AT.DIR, BigInt(AT.PASIDS) | 1n)
  world.word(AT.DIR + 8, BigInt(AT.PASIDS) | 1n)
  for (const pasid of [RID_PASID, PASID % 64]) {
    const at = AT.PASIDS + pasid * 64
    world.word(at, entry.first ?? 0n)
    world.word(at + 8, entry.second ?? 0n)
    world.word(at + 16, entry.third ?? 0n)
  }
  return world
}

/** P, PGTT 2, AW 1, tables at SL; domain 5, PWSNP; SRE and ERE. */
export const SECOND_ENTRY: PasidWords = {
  first: BigInt(AT.SL) | 0x85n,
  second: 0x80_0005n,
  third: 3n,
}

/** Three levels at SL: 0x40201000 is the page 0xabcd, as in the legacy world. */
export function withSecondLevel(world: TableWorld): TableWorld {
  world.word(0x1_2008, 0x1_3007n)
  world.word(0x1_3008, 0x1_4007n)
  world.word(0x1_4008, 0xabc_d007n)
  return world
}

/** P, PGTT 1, AW 2; domain 1, PWSNP; tables at FL, with SRE, ERE and NXE. */
export const FIRST_ENTRY: PasidWords = {
  first: 0x49n,
  second: 0x80_0001n,
  third: BigInt(AT.FL) | 0x23n,
}
/** The same nested: second level of three levels at IDENTITY. */
export const NESTED_ENTRY: PasidWords = {
  ...FIRST_ENTRY,
  first: BigInt(AT.IDENTITY) | 0xc5n,
}

/** Entries of the first level, from the top down: for 0x40201234 with four levels. */
export const FL_PATH = [AT.FL, AT.FL + 0x1008, AT.FL + 0x2008, AT.FL + 0x3008] as const

/** Four levels at FL: 0x40201000 is the page 0xabcd; A is set nowhere. */
export function withFirstLevel(world: TableWorld): TableWorld {
  const [top, third, second, leaf] = FL_PATH
  world.word(top, BigInt(AT.FL) + 0x1007n)
  world.word(third, BigInt(AT.FL) + 0x2007n)
  world.word(second, BigInt(AT.FL) + 0x3007n)
  world.word(leaf, 0xabc_d007n)
  return world
}

/** Leaves of the second level of the nested worlds: of page 0 on, and the one for the page 0xabcd. */
export const SL_LEAVES = AT.IDENTITY + 0x2000

/** Second-level tables that lead the pages 0 to 511 to themselves, and the page 0xabcd to 0xbcde. */
export function withIdentity(world: TableWorld): TableWorld {
  const base = BigInt(AT.IDENTITY)
  world.word(AT.IDENTITY, base + 0x1007n)
  world.word(AT.IDENTITY + 0x1000, base + 0x2007n)
  for (let page = 0n; page < 512n; page++) world.word(SL_LEAVES + Number(page) * 8, (page << 12n) | 7n)
  world.word(AT.IDENTITY + 0x1000 + 0x55 * 8, base + 0x3007n)
  world.word(AT.IDENTITY + 0x3000 + 0x1cd * 8, 0xbcd_e007n)
  return world
}
