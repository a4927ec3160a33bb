import type { RuleOf } from '../../bits/call.ts'
import type { VIRTIO_OFFER, VIRTIO_SEND } from './virtio-calls.ts'
import { VirtioDriver, type VirtioDriverParts } from './virtio-driver.ts'

const RECEIVE = 0
const TRANSMIT = 1
const QUEUES = 2

/** The driver of a virtio network device in its guest. */
export class VirtioNetDriver extends VirtioDriver {
  constructor(parts: VirtioDriverParts) {
    super(parts, QUEUES)
  }

  send(address: bigint, bytes: number): RuleOf<typeof VIRTIO_SEND> {
    return this.add(TRANSMIT, [{ address, bytes, isWritten: false }])
  }

  offer(address: bigint, bytes: number): RuleOf<typeof VIRTIO_OFFER> {
    return this.add(RECEIVE, [{ address, bytes, isWritten: true }])
  }
}
