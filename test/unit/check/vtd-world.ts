import { FLUSH_SCOPE, NONE, VTD_CACHE } from '../../../src/trace/event-codes.ts'
import { World } from './world.ts'

export const SOURCE = 0x18
const UNIT = 'vtd'
/** Tables of domain 5: context entry, and the pages of each level. */
export const CONTEXT_AT = 0x1_1180n
export const LEAF_TABLE = 0x14
export const MIDDLE_TABLE = 0x13
export const TOP_TABLE = 0x12

interface WalkOptions {
  readonly stage?: number
  readonly source?: number
  readonly pasid?: number
  readonly tables?: Partial<Record<'t1' | 't2' | 't3' | 't4' | 't5', number>>
  readonly fault?: number
}

interface FillOptions {
  readonly cache?: number
  readonly source?: number
  readonly domain?: number
  readonly pasid?: number
  readonly shift?: number
  readonly perm?: number
}

interface UseOptions {
  readonly source?: number
  readonly pasid?: number
  readonly perm?: number
  readonly need?: number
  readonly fault?: number
}

interface FlushOptions {
  readonly domain?: number
  readonly source?: number
  readonly pasid?: number
  readonly iova?: bigint
  readonly bytes?: bigint
  readonly hint?: number
  readonly cause?: number
}

/** Records that a VT-d unit leaves, one method each; a device 00:03.0 in domain 5, in legacy mode. */
export class VtdWorld extends World {
  #entry = 0
  #register = 0

  root(options: { address?: bigint; mode?: number; enabled?: number } = {}) {
    const { address = 0x1_0000n, mode = 0, enabled = 1 } = options
    return this.log.emit('vtd.root', null, { unit: UNIT, address, mode, enabled, line: 0 })
  }

  /** Software reads CAP. */
  capabilities(value: bigint) {
    return this.register(8, value, { write: 0, bytes: 8 })
  }

  register(
    offset: number,
    value: bigint,
    options: { write?: number; bytes?: number; cause?: number | null } = {},
  ) {
    const { write = 1, bytes = 8, cause = null } = options
    this.#register = this.log.emit('vtd.register', cause, {
      unit: UNIT,
      offset,
      bytes,
      value,
      write,
      line: 0,
    })
    return this.#register
  }

  context(options: { source?: number; lo?: bigint; domain?: number; fault?: number; address?: bigint } = {}) {
    const { source = SOURCE, lo = 0x1_2001n, domain = 5, fault = 0, address = CONTEXT_AT } = options
    return this.log.emit('vtd.context', null, {
      unit: UNIT,
      source,
      rootAddress: 0x1_0000n,
      address,
      lo,
      domain,
      fault,
    })
  }

  pasidEntry(pasid: number, lo: bigint, options: { domain?: number; fault?: number } = {}) {
    const { domain = 5, fault = 0 } = options
    return this.log.emit('vtd.pasid', null, {
      unit: UNIT,
      source: SOURCE,
      pasid,
      directory: 0x2_0000n,
      address: 0x2_1000n + BigInt(pasid) * 64n,
      lo,
      domain,
      fault,
    })
  }

  walk(iova: bigint, options: WalkOptions = {}) {
    const { stage = 2, source = SOURCE, pasid = NONE, fault = 0 } = options
    const tables = options.tables ?? { t1: LEAF_TABLE, t2: MIDDLE_TABLE, t3: TOP_TABLE }
    const none = { t1: 0, t2: 0, t3: 0, t4: 0, t5: 0 }
    return this.log.emit('vtd.walk', null, {
      unit: UNIT,
      source,
      pasid,
      stage,
      iova,
      ...none,
      ...tables,
      fault,
    })
  }

  /** Answers the number of the entry. */
  fill(iova: bigint, target: bigint, options: FillOptions = {}) {
    const {
      cache = VTD_CACHE.IOTLB,
      source = SOURCE,
      domain = 5,
      pasid = NONE,
      shift = 12,
      perm = 3,
    } = options
    const entry = ++this.#entry
    this.log.emit('vtd.fill', null, {
      unit: UNIT,
      cache,
      entry,
      source,
      domain,
      pasid,
      iova,
      shift,
      target,
      perm,
    })
    return entry
  }

  translate(entry: number, iova = 0n, options: UseOptions & { target?: bigint } = {}) {
    const { source = SOURCE, pasid = NONE, perm = 3, need = 2, fault = 0, target = 0x5000n } = options
    return this.log.emit('vtd.translate', null, {
      unit: UNIT,
      source,
      pasid,
      iova,
      target,
      perm,
      need,
      fault,
      entry,
      line: 0,
    })
  }

  word(address: bigint, before: bigint, after: bigint) {
    return this.log.emit('vtd.word', null, { unit: UNIT, address, before, after, line: 0 })
  }

  flush(scope: number, options: FlushOptions = {}) {
    const { domain = 5, source = SOURCE, pasid = NONE, iova = 0n, bytes = 0n, hint = 0, cause } = options
    return this.log.emit('domain.flush', cause ?? null, {
      unit: UNIT,
      scope,
      domain,
      source,
      pasid,
      iova,
      bytes,
      hint,
      line: 0,
    })
  }

  wait() {
    return this.log.emit('domain.wait', null, { unit: UNIT, line: 0 })
  }

  /** A flush of one page of domain 5, complete. */
  flushPage(iova: bigint, hint = 0) {
    this.flush(FLUSH_SCOPE.PAGES, { iova, bytes: 0x1000n, hint })
    this.wait()
  }

  table(page: number, state: number, domain = 5) {
    return this.log.emit('vtd.table', null, { unit: UNIT, page, state, domain })
  }

  /** The unit is on, and has read the context entry of the device and walked to a page. Answers the entry. */
  cached(iova = 0x4020_1000n, target = 0x5000n) {
    this.root()
    this.context()
    this.walk(iova)
    const entry = this.fill(iova, target)
    this.translate(entry, iova, { target })
    return entry
  }
}
