import type { Profile } from '../../bits/errata.ts'
import { CachedTranslator } from './cached-translator.ts'
import type { EntryNumbers } from './caches/entry-numbers.ts'
import { NO_PAGES } from './caches/pass-through-hold.ts'
import { NO_CACHES, type Translation, type VtdRequest } from './ports.ts'
import { TranslationEngine } from './tables/engine.ts'
import { Reasons } from './tables/reasons.ts'
import type { UnitCore } from './unit-core.ts'
import type { UnitTranslator } from './unit-translator.ts'

/** What a unit remembers of its tables. */
export interface UnitTablesOptions {
  /** Shared by all that keep translations in a machine. */
  readonly numbers?: EntryNumbers
  /** Entries of the IOTLB; no bound where it is left out. */
  readonly iotlbEntries?: number
  /** Whether tables are remembered beside translations. */
  readonly keepsTables?: boolean
}

/** The tables of a unit in memory, behind its caches. */
export class UnitTables extends CachedTranslator<TranslationEngine> implements UnitTranslator {
  readonly #core: UnitCore
  readonly #reasons: Reasons
  /** Every request is one of a user. */
  readonly #isForUsers: boolean
  /** Finds entries in memory, whatever the caches have (D113). */
  readonly #finder: TranslationEngine | undefined

  constructor(core: UnitCore, profile: Profile, options: UnitTablesOptions = {}) {
    const { name, stage, journal, features, memory, has } = core
    super({
      ...options,
      ...{ name, stage, journal, profile },
      isCaching: features.isCachingMode,
      hasFirstLevel: features.hasFirstLevel,
      addressBits: Math.min(features.maxAddressBits, features.hostAddressBits),
      engine: (ports) => new TranslationEngine({ memory, features, has, ...ports }),
    })
    this.#core = core
    this.#reasons = new Reasons(features, has)
    this.#isForUsers = has('D99')
    const ports = { caches: NO_CACHES, pages: NO_PAGES }
    this.#finder = has('D113') ? new TranslationEngine({ memory, features, has, ...ports }) : undefined
  }

  protected override get finder(): TranslationEngine {
    return this.#finder ?? this.engine
  }

  override translate(request: VtdRequest): Translation {
    const { engine } = this
    const { isPrivileged } = request
    if (this.#isForUsers) request.isPrivileged = false
    const translation = super.translate(request)
    request.isPrivileged = isPrivileged
    if (engine.unmodelled !== '') {
      this.#core.unmodelled(engine.unmodelled)
      engine.unmodelled = ''
    }
    if (engine.halt !== '') {
      this.#core.life.die(engine.halt)
      engine.halt = ''
    }
    return translation
  }

  override findContext(source: number): number {
    // QEMU finds fault with the entry of requests without a PASID as if it were of the context (D113).
    const { finder } = this
    const fault =
      super.findContext(source) ||
      (this.#finder === undefined ? 0 : super.findPasid(source, finder.context.ridPasid))
    return fault === 0 ? 0 : this.#reasons.codeOf(fault)
  }

  silences(pasid: number): boolean {
    return this.finder.silences(pasid)
  }

  nextEntry(): number {
    return this.numbers.next()
  }
}
