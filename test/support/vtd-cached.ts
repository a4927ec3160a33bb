import { resolveProfile } from '../../src/bits/errata.ts'
import { Journal } from '../../src/bits/state.ts'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { CachedTranslator } from '../../src/hw/vtd/cached-translator.ts'
import { faultNameOf } from '../../src/hw/vtd/fault-reasons.ts'
import { newRequest, type VtdInvalidation, type VtdRequest } from '../../src/hw/vtd/ports.ts'
import { TranslationEngine } from '../../src/hw/vtd/tables/engine.ts'
import type { TableFeatures } from '../../src/hw/vtd/tables/features.ts'
import type { MachineEvent } from '../../src/trace/event.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'
import { invalidation } from './vtd-invalidation.ts'
import { ALL_FEATURES, AT, SOURCE, type TableWorld } from './vtd-tables.ts'

export interface CachedWorldOptions {
  readonly features?: Partial<TableFeatures>
  readonly errata?: readonly string[]
  readonly isCaching?: boolean
  readonly keepsTables?: boolean
  readonly iotlbEntries?: number
  /** TTM. */
  readonly mode?: number
}

/** The caches of a unit in front of the tables of a world, switched on. */
export function cachedWorld(world: TableWorld, options: CachedWorldOptions = {}) {
  const { errata = [], isCaching = false, mode = 0, features, ...rest } = options
  const { memory } = world
  const journal = new Journal()
  journal.on = true
  const log = new RecordLog({ keepRecords: 1 << 14 })
  const stage = new Stage(log)
  const profile = { ...resolveProfile([], 'intended'), has: (id: string) => errata.includes(id) }
  const translator = new CachedTranslator({
    ...{ name: 'vtd0', stage, journal, profile, isCaching, addressBits: 39 },
    ...rest,
    engine: (ports) =>
      new TranslationEngine({
        memory,
        features: { ...ALL_FEATURES, ...features },
        has: profile.has,
        ...ports,
      }),
  })
  translator.setRoot({ page: AT.ROOT / 4096, mode, isEnabled: true })
  let seen = log.length
  return {
    ...world,
    journal,
    log,
    stage,
    translator,
    /** The name of the fault of a request, or `page:shift:perm` in hexadecimal. */
    short: (address: bigint, request: Partial<VtdRequest> = {}): string => {
      const whole = { ...newRequest(), source: SOURCE, hi: hiOf(address), lo: loOf(address), ...request }
      const { fault, page, shift, perm, isSilent } = translator.translate(whole)
      if (fault !== 0) return `${faultNameOf(fault)}${isSilent ? ' silent' : ''}`
      return `${page.toString(16)}:${shift}:${perm}`
    },
    forget: (said: Parameters<typeof invalidation>[0]): void => {
      translator.invalidate(invalidation(said) as VtdInvalidation)
    },
    /** Kinds of the records since the last time. */
    kinds: (): string[] => {
      const kinds: string[] = []
      for (; seen < log.length; seen++) kinds.push(log.read(seen).event.kind)
      return kinds
    },
    /** The records of a kind so far. */
    records: <K extends MachineEvent['kind']>(kind: K): Extract<MachineEvent, { kind: K }>[] => {
      const found: Extract<MachineEvent, { kind: K }>[] = []
      for (let seq = log.firstKept; seq < log.length; seq++) {
        const { event } = log.read(seq)
        if (event.kind === kind) found.push(event as Extract<MachineEvent, { kind: K }>)
      }
      return found
    },
  }
}
