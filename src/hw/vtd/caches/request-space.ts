import { ADDRESS_TYPE, NO_PASID, PERM, PGTT, TABLE_MODE, type TableMode, type VtdRequest } from '../ports.ts'
import {
  C_DOMAIN,
  C_FAULT_MASK,
  C_FLAGS,
  C_HAS_DEVICE_TLB,
  C_HAS_PASID,
  C_IS_RID_PRIVILEGED,
  C_PASIDS,
  C_RID_PASID,
  C_RID_ROW,
  C_SPACE,
} from './context-cache.ts'
import type { Engine } from './engine.ts'
import {
  P_DOMAIN,
  P_FAULT_MASK,
  P_FLAGS,
  P_HAS_EXECUTE,
  P_HAS_SECOND_ACCESSED_DIRTY,
  P_HAS_SUPERVISOR,
  P_SPACE,
} from './pasid-cache.ts'
import type { UnitCaches } from './unit-caches.ts'

/** Of context entries: types that pass requests without a PASID through. */
const isDirectType = (type: number): boolean => type === 2 || type === 4 || type === 5

/**
 * Where in the IOTLB a request is looked for: by its context and PASID entries, as the caches have them or as the engine
 * has found them. What else follows from these entries is left in the fields.
 */
export class RequestSpace {
  mode: TableMode = TABLE_MODE.LEGACY
  /** The PASID that the request is translated through. */
  pasid = NO_PASID
  /** Entries of privileged requests are others than those of users. */
  isPrivileged = false
  isSecondLevel = false
  /** It is passed through. */
  isDirect = false
  /** The page tables have dirty bits, as far as is known. */
  hasDirty = false
  readonly #caches: UnitCaches
  readonly #engine: Engine
  readonly #looksInIotlbFirst: boolean

  /** @param looksInIotlbFirst erratum D35 */
  constructor(caches: UnitCaches, engine: Engine, looksInIotlbFirst: boolean) {
    this.#caches = caches
    this.#engine = engine
    this.#looksInIotlbFirst = looksInIotlbFirst
  }

  /**
   * The space for an ordinary request whose entries are in the caches and allow it; 0 for all others, which the engine
   * looks at.
   */
  ofCaches(request: VtdRequest): number {
    const { source, pasid } = request
    const { contexts, iotlb } = this.#caches
    const { mode } = this
    if (request.addressType === ADDRESS_TYPE.TRANSLATED) return 0
    if (iotlb.isBySource && this.#isIotlbFirst(mode, pasid)) {
      this.pasid = mode === TABLE_MODE.SCALABLE && pasid === NO_PASID ? 0 : pasid
      this.isPrivileged = false
      this.isDirect = false
      return iotlb.space(source, this.pasid, false)
    }
    const row = contexts.find(source, pasid)
    if (row === 0) return 0
    const { data } = contexts.rows
    const flags = data[row + C_FLAGS] as number
    if ((flags & C_FAULT_MASK) !== 0 || contexts.modeOf(row) !== mode) return 0
    if (request.addressType !== ADDRESS_TYPE.UNTRANSLATED && (flags & C_HAS_DEVICE_TLB) === 0) return 0
    if (mode === TABLE_MODE.SCALABLE || pasid !== NO_PASID) {
      return mode === TABLE_MODE.LEGACY ? 0 : this.#ofPasid(request, row)
    }
    this.pasid = NO_PASID
    this.isPrivileged = false
    this.isSecondLevel = true
    this.hasDirty = false
    this.isDirect = isDirectType(contexts.typeOf(row))
    const known = data[row + C_SPACE] as number
    if (known !== 0) return known
    const space = this.#space(source, data[row + C_DOMAIN] as number)
    contexts.rows.set(row + C_SPACE, space)
    return space
  }

  /** The space of the request that the engine has found the entries of. */
  ofEngine({ source, pasid, isPrivileged }: VtdRequest): number {
    const { context, pasid: entry } = this.#engine
    const hasEntry = this.mode === TABLE_MODE.SCALABLE || pasid !== NO_PASID
    if (!hasEntry) this.pasid = NO_PASID
    else this.pasid = pasid === NO_PASID ? context.ridPasid : pasid
    this.isDirect = hasEntry ? entry.type === PGTT.PASS_THROUGH : isDirectType(context.type)
    this.isSecondLevel = !hasEntry || entry.type === PGTT.SECOND_LEVEL
    this.hasDirty = !this.isSecondLevel || (hasEntry && entry.hasSecondAccessedDirty)
    const asked = pasid === NO_PASID ? context.isRidPrivileged : isPrivileged
    this.isPrivileged = asked && !this.isSecondLevel && !this.isDirect
    return this.#space(source, hasEntry ? entry.domain : context.domain)
  }

  /** A request that is translated through a PASID entry; `row` is that of its context entry. */
  #ofPasid({ source, pasid, isPrivileged, need }: VtdRequest, row: number): number {
    const { contexts, pasids } = this.#caches
    const { data } = contexts.rows
    const flags = data[row + C_FLAGS] as number
    let entry = 0
    if (pasid === NO_PASID) {
      this.pasid = data[row + C_RID_PASID] as number
      this.isPrivileged = (flags & C_IS_RID_PRIVILEGED) !== 0
      entry = data[row + C_RID_ROW] as number
      if (entry === 0 || !pasids.isGood(entry, source)) {
        entry = pasids.find(source, this.pasid)
        contexts.rows.set(row + C_RID_ROW, entry)
      }
    } else {
      if ((flags & C_HAS_PASID) === 0 || pasid >= (data[row + C_PASIDS] as number)) return 0
      this.pasid = pasid
      this.isPrivileged = isPrivileged
      entry = pasids.find(source, pasid)
    }
    if (entry === 0) return 0
    const what = pasids.rows.data[entry + P_FLAGS] as number
    if ((what & P_FAULT_MASK) !== 0) return 0
    if (this.isPrivileged && (what & P_HAS_SUPERVISOR) === 0) return 0
    if ((need & PERM.EXECUTE) !== 0 && (what & P_HAS_EXECUTE) === 0) return 0
    const type = pasids.typeOf(entry)
    this.isSecondLevel = type === PGTT.SECOND_LEVEL
    this.isDirect = type === PGTT.PASS_THROUGH
    this.hasDirty = !this.isSecondLevel || (what & P_HAS_SECOND_ACCESSED_DIRTY) !== 0
    if (this.isSecondLevel || this.isDirect) this.isPrivileged = false
    const known = pasids.rows.data[entry + P_SPACE] as number
    if (known !== 0) return known
    const space = this.#space(source, pasids.rows.get(entry + P_DOMAIN))
    pasids.rows.set(entry + P_SPACE, space)
    return space
  }

  /** The second level is tagged with its domain alone. */
  #space(source: number, domain: number): number {
    const { iotlb } = this.#caches
    if (iotlb.isBySource) return iotlb.space(source, this.pasid, false)
    return this.isSecondLevel ? iotlb.space(domain, NO_PASID, false) : iotlb.space(domain, this.pasid, true)
  }

  /** QEMU looks into the IOTLB before anything else, unless it needs RID_PASID for that; from 11.1 on always. */
  #isIotlbFirst(mode: TableMode, pasid: number): boolean {
    return this.#looksInIotlbFirst || (mode === TABLE_MODE.SCALABLE) !== (pasid === NO_PASID)
  }
}
