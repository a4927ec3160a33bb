import { assert } from '../../bits/errors.ts'
import type { Chain } from './chain.ts'
import { deviceFault, faultOf } from './device-faults.ts'
import type { ChainServer } from './queue-run.ts'
import { RING, RING_ANSWERS, type RingAnswerDecl } from './ring-rules.ts'
import type { Segments } from './segments.ts'
import type { SplitRing } from './split-ring.ts'

/** The header in front of a frame, both ways, where buffers are not merged (virtio 1.2, Network Device). */
export const NET_HEADER_BYTES = 12
/** Where the header says in how many buffers a frame lies. */
const BUFFER_COUNT_OFFSET = 10

const READABLE = deviceFault('net-receive-readable')
const WRITABLE = deviceFault('net-transmit-writable')
const SHORT = deviceFault('net-header-short')

/** Where the frames of a driver go. */
export interface NetPort {
  /** A frame of `bytes` bytes: `frame` holds it, without its header, until this returns. */
  transmit(frame: Segments, bytes: number): void
}

/** Serves the transmit queue of a network device without offloads: headers are passed over. */
export class NetTransmitter implements ChainServer {
  readonly #port: NetPort

  constructor(port: NetPort) {
    this.#port = port
  }

  serve({ readable, writable }: Chain): number {
    if (writable.bytes > 0) return WRITABLE
    if (readable.bytes <= NET_HEADER_BYTES) return SHORT
    readable.drop(NET_HEADER_BYTES)
    this.#port.transmit(readable, readable.bytes)
    return 0
  }
}

/**
 * What became of a frame that came in: `delivered`; `no-buffer` the driver has made none available, and is asked
 * to say when it does; `too-long` for the buffer, which stays available; `pending` a translation is missing, try
 * the frame again; `failed` the driver broke a rule, and the queue stops.
 */
export type ReceiveEnd = 'delivered' | 'no-buffer' | 'too-long' | 'pending' | 'failed'

/** Fills the receive queue of a network device: a header of zeros (one buffer) and the frame. Made once a queue. */
export class NetReceiver {
  readonly ring: SplitRing
  /** Of the last frame: whether the driver wants an interrupt, and the rule where it failed. */
  wantsCall = false
  fault = ''
  /** Where it failed: what vhost inside Linux says. */
  errno = 0
  readonly #chain: Chain
  /** All zeros but for the number of buffers, which is 1. */
  readonly #header = new Uint8Array(NET_HEADER_BYTES)

  constructor(ring: SplitRing) {
    this.ring = ring
    this.#chain = ring.newChain()
    this.#header[BUFFER_COUNT_OFFSET] = 1
  }

  /**
   * @param countsBuffers whether to write the number of buffers, the last 2 bytes of the header: a tap behind the vhost
   *   of some kernels leaves them as they were (as seen on Linux 6.1.192 and 6.12.95)
   */
  receive(frame: Uint8Array, countsBuffers = true): ReceiveEnd {
    this.wantsCall = false
    this.fault = ''
    this.errno = 0
    const began = this.ring.begin()
    if (began !== RING.taken) return this.#end(began)
    this.ring.disableNotify()
    let answer = this.ring.next(this.#chain)
    // Once: a driver that moves its index to and fro gets no second look.
    if (answer === RING.empty) {
      if (!this.ring.enableNotify()) return 'no-buffer'
      this.ring.disableNotify()
      answer = this.ring.next(this.#chain)
    }
    return answer === RING.taken ? this.#fill(frame, countsBuffers) : this.#end(answer)
  }

  #fill(frame: Uint8Array, countsBuffers: boolean): ReceiveEnd {
    const { ring } = this
    const { head, readable, writable } = this.#chain
    const bytes = NET_HEADER_BYTES + frame.length
    if (readable.bytes > 0 || writable.bytes < bytes) {
      ring.giveBack(1)
      if (readable.bytes > 0) return this.#fail(faultOf(READABLE))
      return writable.bytes < NET_HEADER_BYTES ? this.#fail(faultOf(SHORT)) : 'too-long'
    }
    writable.write(0, this.#header, 0, countsBuffers ? NET_HEADER_BYTES : BUFFER_COUNT_OFFSET)
    writable.write(NET_HEADER_BYTES, frame, 0, frame.length)
    ring.use(head, bytes)
    ring.publish()
    this.wantsCall = ring.wantsCall()
    return 'delivered'
  }

  #end(answer: number): ReceiveEnd {
    if (answer === RING.pending) return 'pending'
    if (answer === RING.empty) return 'no-buffer'
    return this.#fail(RING_ANSWERS[answer])
  }

  #fail(fault: RingAnswerDecl | undefined): ReceiveEnd {
    assert(fault !== undefined, 'a fault of a driver has a rule')
    this.fault = fault.rule
    this.errno = fault.errno
    return 'failed'
  }
}
