import { Held } from '../../bits/held.ts'
import { keyOf } from '../../bits/state.ts'
import { get, put } from '../../bits/word.ts'
import { TABLE_MODE, type VtdInvalidation } from './ports.ts'
import { EXT_CONTEXT_ENTRY_3, EXT_PASID_STATE } from './tables/format.ts'
import type { UnitCore } from './unit-core.ts'
import type { UnitTranslator } from './unit-translator.ts'

/** DINVE of the first word of an extended context entry. */
const DINVE = 1 << 8
const WORD_BYTES = 8
/** The fourth word of a context entry. */
const STATES_AT = 24n
const PAGE_SHIFT = 12n

export interface PasidStateParts {
  readonly core: UnitCore
  readonly translator: UnitTranslator
  /** Which tables the root table leads to. */
  readonly tableMode: () => number
}

/**
 * The PASID-state table of revisions 2.x: how many devices use a PASID, and whether software has put off an invalidation
 * of it. With the first request a device makes the PASID active; what was put off is done then: all that caches have of
 * the PASID goes. (VT-d manual, rev. 2.x, PASID-State Table Entry; that requests make a PASID active is the model's:
 * real devices say when they begin and end)
 */
export class PasidStates {
  readonly #parts: PasidStateParts
  readonly #active: Held<ReadonlySet<string>>
  readonly #bytes = new Uint8Array(WORD_BYTES)
  readonly #view = new DataView(this.#bytes.buffer)

  constructor(parts: PasidStateParts) {
    this.#parts = parts
    const { journal, name } = parts.core
    this.#active = new Held<ReadonlySet<string>>(journal, `active PASIDs of ${name}`, new Set(), (set) =>
      keyOf(...[...set].sort()),
    )
  }

  /** A device makes a request with a PASID. */
  met(source: number, pasid: number): void {
    if (this.#parts.tableMode() !== TABLE_MODE.EXTENDED) return
    const key = `${source} ${pasid}`
    if (this.#active.value.has(key)) return
    const at = this.#placeOf(source, pasid)
    if (at === undefined) return
    this.#active.set(new Set([...this.#active.value, key]))
    const state = this.#load(at)
    const count = get(EXT_PASID_STATE, state, 'AREFCNT') + 1n
    const isDeferred = get(EXT_PASID_STATE, state, 'DINV') === 1n
    this.#store(at, put(EXT_PASID_STATE, put(EXT_PASID_STATE, state, 'AREFCNT', count), 'DINV', 0n))
    if (isDeferred) this.#forget(pasid)
  }

  /** A device uses a PASID no more. Answers whether it did. */
  left(source: number, pasid: number): boolean {
    const key = `${source} ${pasid}`
    if (!this.#active.value.has(key)) return false
    this.#active.set(new Set([...this.#active.value].filter((k) => k !== key)))
    const at = this.#placeOf(source, pasid)
    if (at === undefined) return true
    const state = this.#load(at)
    const count = get(EXT_PASID_STATE, state, 'AREFCNT')
    this.#store(at, put(EXT_PASID_STATE, state, 'AREFCNT', count === 0n ? 0n : count - 1n))
    return true
  }

  /** Where the state of a PASID is; undefined where the device has none. */
  #placeOf(source: number, pasid: number): bigint | undefined {
    const { core, translator } = this.#parts
    if (translator.findContext(source) !== 0) return undefined
    const { lo, address, pasids } = translator.context
    if ((lo & DINVE) === 0 || pasid >= pasids) return undefined
    if (!core.read(BigInt(address) + STATES_AT, this.#bytes, WORD_BYTES)) return undefined
    const table = get(EXT_CONTEXT_ENTRY_3, this.#view.getBigUint64(0, true), 'PASIDSTPTR')
    return (table << PAGE_SHIFT) + BigInt(pasid * WORD_BYTES)
  }

  #load(at: bigint): bigint {
    return this.#parts.core.read(at, this.#bytes, WORD_BYTES) ? this.#view.getBigUint64(0, true) : 0n
  }

  #store(at: bigint, state: bigint): void {
    this.#view.setBigUint64(0, state, true)
    this.#parts.core.write(at, this.#bytes, WORD_BYTES)
  }

  #forget(pasid: number): void {
    const { translator } = this.#parts
    const { domain } = translator.context
    const gone: Omit<VtdInvalidation, 'what' | 'scope'> = {
      ...{ domain, source: 0, functionMask: 0, pasid, address: 0n, order: 0 },
      isLeafOnly: false,
      isGlobalToo: false,
    }
    translator.invalidate({ ...gone, what: 'pasid-cache', scope: 'fine' })
    translator.invalidate({ ...gone, what: 'pasid-iotlb', scope: 'pasid' })
  }
}
