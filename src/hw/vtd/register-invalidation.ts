import { get, put } from '../../bits/word.ts'
import type { Invalidator } from './invalidator.ts'
import { NO_PASID, type VtdInvalidation } from './ports.ts'
import { CCMD, IOTLB, IVA } from './register-format.ts'
import type { UnitCore } from './unit-core.ts'

/** From this major version on a unit has no invalidation by registers. */
const QUEUE_ONLY_VERSION = 6
const PAGE_SHIFT = 12n
/** Granularities of both registers. */
const GLOBAL = 1
const DOMAIN = 2
const FINE = 3

const NO_FIELDS = {
  domain: 0,
  source: 0,
  functionMask: 0,
  pasid: NO_PASID,
  address: 0n,
  order: 0,
  isLeafOnly: false,
  isGlobalToo: false,
} as const

/** Invalidation by registers: CCMD for the context cache, IVA and IOTLB for translations. */
export class RegisterInvalidation {
  readonly #core: UnitCore
  readonly #invalidator: Invalidator
  readonly #isQueueOn: () => boolean
  readonly #hangs: boolean
  readonly #widensDomain: boolean

  constructor(core: UnitCore, invalidator: Invalidator, isQueueOn: () => boolean) {
    this.#core = core
    this.#invalidator = invalidator
    this.#isQueueOn = isQueueOn
    this.#hangs = core.has('D9')
    this.#widensDomain = core.has('D7')
  }

  /** Software wrote the upper half of CCMD. */
  contextWritten(): void {
    const { file } = this.#core
    const raw = file.get('CCMD')
    if (get(CCMD, raw, 'ICC') === 0n || !this.#isAllowed()) return
    const done = this.#context(raw)
    file.set('CCMD', put(CCMD, put(CCMD, raw, 'ICC', 0n), 'CAIG', BigInt(done)))
  }

  /** Software wrote the upper half of IOTLB. */
  iotlbWritten(): void {
    const { file } = this.#core
    const raw = file.get('IOTLB')
    if (get(IOTLB, raw, 'IVT') === 0n || !this.#isAllowed()) return
    const done = this.#iotlb(raw)
    file.set('IOTLB', put(IOTLB, put(IOTLB, raw, 'IVT', 0n), 'IAIG', BigInt(done)))
  }

  /** Software must not use the registers while the queue is on; what a unit does then no source tells. */
  #isAllowed(): boolean {
    const { file } = this.#core
    if (this.#isQueueOn()) {
      if (!this.#hangs) this.#core.unmodelled('invalidation by registers while the queue is on')
      return false
    }
    if (file.lane('VER') >>> 4 < QUEUE_ONLY_VERSION) return true
    this.#core.unmodelled('invalidation by registers in a unit of version 6')
    return false
  }

  /** Answers the granularity that was carried out; 0 for a wrong request. */
  #context(raw: bigint): number {
    const of = (field: keyof typeof CCMD.fields) => Number(get(CCMD, raw, field))
    const granularity = of('CIRG')
    if (granularity === 0) return 0
    const scope = granularity === GLOBAL ? 'all' : granularity === DOMAIN ? 'domain' : 'fine'
    const isFine = scope === 'fine'
    this.#perform({
      what: 'context',
      scope,
      domain: scope === 'all' ? 0 : of('DID'),
      source: isFine ? of('SID') : 0,
      functionMask: isFine ? of('FM') : 0,
    })
    return scope === 'domain' && this.#widensDomain ? GLOBAL : granularity
  }

  #iotlb(raw: bigint): number {
    const { features, file } = this.#core
    const granularity = Number(get(IOTLB, raw, 'IIRG'))
    const domain = Number(get(IOTLB, raw, 'DID'))
    if (granularity === 0) return 0
    if (granularity === GLOBAL) {
      this.#perform({ what: 'iotlb', scope: 'all' })
      return GLOBAL
    }
    if (granularity === FINE && features.hasPageSelective) {
      const iva = file.get('IVA')
      const order = Number(get(IVA, iva, 'AM'))
      if (order > features.maxOrder) return 0
      const address = get(IVA, iva, 'ADDR') << PAGE_SHIFT
      this.#perform({
        what: 'iotlb',
        scope: 'fine',
        domain,
        address,
        order,
        isLeafOnly: get(IVA, iva, 'IH') === 1n,
      })
      return FINE
    }
    this.#perform({ what: 'iotlb', scope: 'domain', domain })
    return DOMAIN
  }

  #perform(what: Partial<VtdInvalidation> & Pick<VtdInvalidation, 'what' | 'scope'>): void {
    this.#invalidator.perform({ ...NO_FIELDS, ...what })
  }
}
