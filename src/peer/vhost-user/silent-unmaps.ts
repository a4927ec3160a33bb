import { wordOf } from '../../bits/u64.ts'
import { NONE } from '../../trace/event-codes.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import { GivenBack } from './given-back.ts'
import type { RegionSetup } from './guest-regions.ts'

/** The one that the device is in, as far as its back end can say; and the unit that it belongs to. */
const DOMAIN = 0
const UNIT = "the guest's IOMMU"
/** Of `domain.unmap`: a use shows it. */
const INFERRED = 1
const SCOPE_PAGES = 3

/**
 * Records unmaps that the guest must have made and nobody told the back end of, so that the checkers judge the maps that
 * it still has: where a buffer is at a bus page whose last buffer was given back (`GivenBack`), the driver has unmapped
 * the old one, and the flush is done, before it uses the address again.
 */
export class SilentUnmaps {
  readonly #log: RecordLog
  readonly #device: string
  readonly #givenBack = new GivenBack()
  readonly #slots: RegionSetup[] = []

  constructor(log: RecordLog, device: string) {
    this.#log = log
    this.#device = device
  }

  /** A region of guest memory comes or goes. */
  region(setup: RegionSetup, isThere: boolean): void {
    const known = this.#slots.findIndex(({ gpa }) => gpa === setup.gpa)
    if (known >= 0) this.#slots.splice(known, 1)
    if (isThere) this.#slots.push(setup)
  }

  /** The device has a new IOTLB. */
  renew(): void {
    this.#givenBack.renew()
    const place = { device: this.#device, source: 0, domain: DOMAIN, ats: 0 }
    this.#log.emit('domain.attach', null, place)
  }

  filled(iova: bigint, last: bigint, ua: bigint): void {
    const slot = this.#slots.find((one) => ua >= one.ua && ua < one.ua + one.bytes)
    this.#givenBack.filled(iova, last, slot && slot.gpa + (ua - slot.ua))
  }

  invalidated(iova: bigint, last: bigint): void {
    this.#givenBack.invalidated(iova, last)
  }

  /** The buffers of a request follow. */
  begin(): void {
    this.#givenBack.begin()
  }

  /** A buffer of the request, in one map; before the record of its use. @param line of the message log */
  reach(hi: number, lo: number, bytes: number, line: number): void {
    if (!this.#givenBack.reach(hi, lo, bytes)) return
    const pages = { domain: DOMAIN, iova: wordOf(hi, lo), bytes: BigInt(bytes) }
    const cause = this.#log.emit('domain.unmap', null, { ...pages, how: INFERRED })
    this.#log.emit('domain.flush', cause, {
      ...{ unit: UNIT, scope: SCOPE_PAGES, source: 0, pasid: NONE, hint: 0 },
      ...pages,
      line,
    })
    this.#log.emit('domain.wait', cause, { unit: UNIT, line })
  }

  /** The request was answered: its buffers are the driver's again. */
  answered(): void {
    this.#givenBack.answered()
  }
}
