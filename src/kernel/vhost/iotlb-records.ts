import { ACCESS, type AccessNumber } from '../../hw/virtio/ring-memory.ts'
import { KIND } from '../../trace/event.ts'
import type { Stage } from '../../trace/stage.ts'

const USE = KIND['iotlb.use']
const MISS = KIND['iotlb.miss']
const REFUSE = KIND['iotlb.refuse']

/** Records of what queues do with an IOTLB; addresses in lanes, high first. */
export class IotlbRecords {
  readonly #stage: Stage

  constructor(stage: Stage) {
    this.#stage = stage
  }

  use(
    iotlb: number,
    map: number,
    hi: number,
    lo: number,
    uaHi: number,
    uaLo: number,
    bytes: number,
    access: AccessNumber,
    part: number,
  ): void {
    const { log, cause, line } = this.#stage
    const write = access === ACCESS.WRITE ? 1 : 0
    log.append(USE, cause, iotlb, map, lo, hi, uaLo, uaHi, bytes, write, part, line)
  }

  miss(iotlb: number, queue: number, hi: number, lo: number, access: number): void {
    const { log, cause, line } = this.#stage
    log.append(MISS, cause, iotlb, queue, lo, hi, access, line)
  }

  refuse(iotlb: number, queue: number, hi: number, lo: number, access: number, code: number): void {
    const { log, cause } = this.#stage
    log.append(REFUSE, cause, iotlb, queue, lo, hi, access, code)
  }
}
