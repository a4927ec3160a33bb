import type { DeviceTlbEnd, DeviceTlbPort, PageResponse, VtdInvalidation } from '../vtd/ports.ts'

/** A device as its unit reaches it. */
export interface InvalidatedDevice {
  invalidate(what: VtdInvalidation): DeviceTlbEnd
  respond(response: PageResponse): void
}

/** The devices behind a unit, by source-id: where its invalidation requests and page responses go. */
export class DeviceTlbs implements DeviceTlbPort {
  readonly #devices = new Map<number, InvalidatedDevice>()

  add(source: number, device: InvalidatedDevice): void {
    this.#devices.set(source, device)
  }

  invalidate(what: VtdInvalidation): DeviceTlbEnd {
    return this.#devices.get(what.source)?.invalidate(what) ?? 'no-device'
  }

  /** A response to a device that is not there vanishes. */
  respond(response: PageResponse): void {
    this.#devices.get(response.source)?.respond(response)
  }
}

/** A device of QEMU whose TLB is somewhere else: it is told by other ways, and is done at once. */
export const HEARD_ELSEWHERE: InvalidatedDevice = Object.freeze({
  invalidate: () => 'done' as const,
  respond: () => {},
})
