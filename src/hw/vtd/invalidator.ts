import { hiOf, loOf } from '../../bits/u64.ts'
import { KIND } from '../../trace/event.ts'
import { FLUSH_SCOPE } from '../../trace/event-codes.ts'
import { EVERY, type VtdInvalidation } from './ports.ts'
import type { UnitCore } from './unit-core.ts'
import type { UnitTranslator } from './unit-translator.ts'

/** Who is told what software has the unit forget, before the unit goes on. */
export interface VtdInvalidationWatcher {
  invalidated(what: VtdInvalidation): void
}

const FLUSH = KIND['domain.flush']
/** 4 KiB pages as log2 that no range of addresses has more of. */
const WHOLE_SPACE = 52

/** Carries out what software has a unit forget, by descriptor or register. */
export class Invalidator {
  watcher: VtdInvalidationWatcher | undefined
  readonly #core: UnitCore
  readonly #translator: UnitTranslator
  readonly #name: number

  constructor(core: UnitCore, translator: UnitTranslator) {
    this.#core = core
    this.#translator = translator
    this.#name = core.stage.log.names.intern(core.name)
  }

  /** The record of it is the cause of what the caches and watchers do. Answers that record. */
  perform(what: VtdInvalidation): number {
    const { stage } = this.#core
    const before = stage.cause
    const seq = this.#record(what)
    stage.cause = seq
    this.#translator.invalidate(what)
    this.watcher?.invalidated(what)
    stage.cause = before
    return seq
  }

  #record(what: VtdInvalidation): number {
    const { log, cause, line } = this.#core.stage
    if (!log.on) return log.length
    const { scope, domain, source, pasid, iova, bytes, hint } = flushOf(what)
    const at = log.begin(FLUSH, cause)
    const { lanes } = log
    // In the order that the event declares its fields.
    lanes[at] = this.#name
    lanes[at + 1] = scope
    lanes[at + 2] = domain
    lanes[at + 3] = source
    lanes[at + 4] = pasid
    lanes[at + 5] = loOf(iova)
    lanes[at + 6] = hiOf(iova)
    lanes[at + 7] = loOf(bytes)
    lanes[at + 8] = hiOf(bytes)
    lanes[at + 9] = hint
    lanes[at + 10] = line | 0
    return log.commit(FLUSH)
  }
}

/** First byte and bytes of pages, aligned down; 0 bytes for the whole space. */
function rangeOf({ address, order }: VtdInvalidation): { iova: bigint; bytes: bigint } {
  if (order >= WHOLE_SPACE) return { iova: 0n, bytes: 0n }
  const bytes = 4096n << BigInt(order)
  return { iova: address & ~(bytes - 1n), bytes }
}

/** The fields of a `domain.flush`. */
export function flushOf(what: VtdInvalidation) {
  const { domain, source, pasid, functionMask, isLeafOnly } = what
  const none = { scope: 0, domain: 0, source: 0, pasid, iova: 0n, bytes: 0n, hint: isLeafOnly ? 1 : 0 }
  switch (what.what) {
    case 'context': {
      const isOne = what.scope === 'fine'
      return {
        ...none,
        scope: FLUSH_SCOPE.CONTEXT,
        domain: what.scope === 'all' ? EVERY : domain,
        source: isOne ? source : EVERY,
        hint: isOne ? functionMask : 0,
      }
    }
    case 'iotlb':
      if (what.scope === 'all') return { ...none, scope: FLUSH_SCOPE.ALL }
      if (what.scope === 'domain') return { ...none, scope: FLUSH_SCOPE.DOMAIN, domain }
      return { ...none, scope: FLUSH_SCOPE.PAGES, domain, ...rangeOf(what) }
    case 'device-tlb':
      return { ...none, scope: FLUSH_SCOPE.DEVICE_TLB, source, ...rangeOf(what) }
    case 'interrupt-entry':
      return { ...none, scope: FLUSH_SCOPE.INTERRUPT_ENTRY }
    case 'pasid-iotlb':
      if (what.scope === 'fine') return { ...none, scope: FLUSH_SCOPE.PASID_PAGES, domain, ...rangeOf(what) }
      return { ...none, scope: FLUSH_SCOPE.PASID, domain }
    case 'pasid-cache':
      return { ...none, scope: FLUSH_SCOPE.PASID_CACHE, domain: what.scope === 'all' ? EVERY : domain }
    case 'pasid-device-tlb':
      return { ...none, scope: FLUSH_SCOPE.PASID_DEVICE_TLB, source, ...rangeOf(what) }
  }
}
