import { ERRNO_CODES } from '../../bits/codes.ts'
import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import type { Chain } from '../../hw/virtio/chain.ts'
import { deviceFault } from '../../hw/virtio/device-faults.ts'
import { type ChainServer, QueueRun } from '../../hw/virtio/queue-run.ts'
import { RING } from '../../hw/virtio/ring-rules.ts'
import { SplitRing } from '../../hw/virtio/split-ring.ts'
import { NET_HEADER_BYTES, NetReceiver, type ReceiveEnd } from '../../hw/virtio/virtio-net.ts'
import type { Stage } from '../../trace/stage.ts'
import type { OpenFile } from '../files.ts'
import type { EventFd } from './event-fd.ts'
import { QueueStates } from './queue-states.ts'
import type { TapFile } from './tap-file.ts'
import type { VhostMemory } from './vhost-memory.ts'
import type { EventWaiter } from './waiters.ts'

const { EAGAIN, EPERM, EFAULT } = ERRNO_CODES

/** Number of the queue that receives; queue 1 transmits. */
export const RECEIVE_QUEUE = 0
/** Shortest frame that a tap takes (ETH_HLEN), and the longest that is modelled. */
const FRAME_BYTES_LEAST = 14
const FRAME_BYTES_MOST = 65_562
/** Chains of a run until the queue is taken for one that never ends. */
const BUDGET = 1024
const BUDGETS_MAX = 128

const WRITABLE = deviceFault('net-transmit-writable')
const SHORT = deviceFault('net-header-short')

/** What a queue needs to know of what was negotiated. */
export interface NetFeatures {
  /** VIRTIO_NET_F_MRG_RXBUF: frames may lie in several buffers. */
  readonly isMergeable: boolean
  /** VHOST_NET_F_VIRTIO_NET_HDR: the device itself deals with the header in front of a frame, not the tap. */
  readonly ownsHeader: boolean
  /** Whether a received frame says in its header in how many buffers it lies. */
  readonly countsBuffers: boolean
  /** Bytes of that header. */
  readonly headerBytes: number
}

export interface NetQueueParts {
  readonly stage: Stage
  readonly journal: Journal
  readonly device: string
  readonly number: number
  readonly memory: VhostMemory
  readonly features: () => NetFeatures
  /** The worker of the device is to run the queue. */
  readonly onWork: () => void
  readonly onUnknown: (why: string) => void
}

interface QueueFiles {
  readonly kick: OpenFile | null
  readonly call: EventFd | null
  readonly error: EventFd | null
  readonly backend: OpenFile | null
  /** Whether a frame at the tap starts the queue. */
  readonly pollsTap: boolean
}

const NO_FILES: QueueFiles = { kick: null, call: null, error: null, backend: null, pollsTap: false }
const hashOf = ({ kick, call, error, backend, pollsTap }: QueueFiles): number =>
  [kick?.number ?? 0, call === null ? 0 : 1, error === null ? 0 : 1, backend?.number ?? 0].reduce(
    (n, x) => n * 31 + x,
    Number(pollsTap),
  )

/**
 * A queue of vhost-net: its ring, the eventfds that start it and that it signals, and the tap behind it.
 *
 * It runs when it is kicked, when a frame comes (receiving), and when an answer comes that it waits for; each run goes
 * as far as it can. (Linux v6.1 drivers/vhost/net.c, handle_tx, handle_rx)
 */
export class NetQueue implements ChainServer {
  readonly number: number
  readonly memory: VhostMemory
  readonly ring: SplitRing
  readonly states: QueueStates
  readonly #parts: NetQueueParts
  readonly #files: Held<QueueFiles>
  readonly #run: QueueRun
  readonly #receiver: NetReceiver
  readonly #kicked: EventWaiter
  readonly #framed: EventWaiter

  constructor(parts: NetQueueParts) {
    const { stage, journal, device, number, memory } = parts
    const name = `${device} queue ${number}`
    this.number = number
    this.memory = memory
    this.#parts = parts
    this.ring = new SplitRing({ memory, queue: number, journal, name, asLinuxVhost: true })
    this.states = new QueueStates({ stage, journal, device, queue: number })
    this.#files = new Held(journal, `${name} files`, NO_FILES, hashOf)
    this.#run = new QueueRun(this.ring, this)
    this.#receiver = new NetReceiver(this.ring)
    this.#kicked = { signalled: () => parts.onWork() }
    this.#framed = {
      signalled: () => {
        if (this.#files.value.pollsTap) parts.onWork()
      },
    }
    this.#empty()
  }

  get isActive(): boolean {
    return this.#files.value.backend !== null
  }

  get backend(): OpenFile | null {
    return this.#files.value.backend
  }

  get kick(): EventFd | null {
    return (this.#files.value.kick?.target as EventFd | undefined) ?? null
  }

  setKick(file: OpenFile | null): void {
    const before = this.#files.value.kick
    if (file === before) return
    file?.hold()
    ;(before?.target as EventFd | undefined)?.waiters.remove(this.#kicked)
    this.#files.set({ ...this.#files.value, kick: file })
    before?.drop()
    const eventfd = file?.target as EventFd | undefined
    eventfd?.waiters.add(this.#kicked)
    if (eventfd !== undefined && eventfd.count > 0n) this.#parts.onWork()
  }

  setCall(call: EventFd | null): void {
    this.#files.set({ ...this.#files.value, call })
  }

  setError(error: EventFd | null): void {
    this.#files.set({ ...this.#files.value, error })
  }

  /**
   * Gives the queue a tap, or takes it away: false where the used ring cannot be reached, and all stays. Frames that
   * wait already, and room to send, start the queue at once.
   */
  setBackend(file: OpenFile | null): boolean {
    const before = this.#files.value.backend
    if (file === before) return true
    if (file !== null && this.ring.start() !== RING.taken) {
      // Only a translation that fails is an error to the kernel, not memory that nobody has mapped.
      if (this.memory.hasIotlb && this.memory.lastErrno !== EFAULT) this.#error()
      return false
    }
    file?.hold()
    ;(before?.target as TapFile | undefined)?.waiters.remove(this.#framed)
    const pollsTap = file !== null && this.number === RECEIVE_QUEUE
    this.#files.set({ ...this.#files.value, backend: file, pollsTap })
    before?.drop()
    if (file === null) {
      this.states.become('stopped')
      return true
    }
    this.states.become('runs')
    const tap = file.target as TapFile
    tap.waiters.add(this.#framed)
    if (this.number !== RECEIVE_QUEUE || tap.next !== undefined) this.#parts.onWork()
    return true
  }

  /** As new: no rings, no files. */
  reset(): void {
    this.setBackend(null)
    this.setKick(null)
    this.#files.set(NO_FILES)
    this.memory.forget()
    this.#empty()
  }

  /** Works as long as there is something to do. */
  run(): void {
    const file = this.#files.value.backend
    if (file === null) return
    if (this.#parts.features().headerBytes !== NET_HEADER_BYTES) {
      this.#parts.onUnknown('frames of vhost-net behind a header of 10 bytes')
      return
    }
    this.states.become('runs')
    if (this.number === RECEIVE_QUEUE) this.#receive(file.target as TapFile)
    else this.#transmit()
  }

  /** A frame of the driver leaves. */
  serve({ readable, writable }: Chain): number {
    if (writable.bytes > 0) return WRITABLE
    const { bytes } = readable
    const tap = this.#files.value.backend?.target as TapFile | undefined
    const { ownsHeader } = this.#parts.features()
    if (ownsHeader ? bytes <= NET_HEADER_BYTES : bytes < NET_HEADER_BYTES) return SHORT
    // What a tap refuses is gone, and its buffers are used.
    const frameBytes = bytes - NET_HEADER_BYTES
    if (frameBytes < FRAME_BYTES_LEAST) return 0
    if (frameBytes > FRAME_BYTES_MOST) {
      this.#parts.onUnknown('a frame of more than 64 KiB')
      return 0
    }
    const frame = new Uint8Array(frameBytes)
    readable.read(NET_HEADER_BYTES, frame, 0, frameBytes)
    tap?.send(frame)
    return 0
  }

  #transmit(): void {
    const run = this.#run
    let end = run.go(BUDGET)
    let wantsCall = run.wantsCall
    for (let i = 1; end === 'more' && i < BUDGETS_MAX; i++) {
      end = run.go(BUDGET)
      wantsCall ||= run.wantsCall
    }
    if (end === 'more') this.#parts.onUnknown('a queue that never ends')
    if (wantsCall) this.#call()
    if (end === 'pending') this.states.become('waits', EAGAIN)
    if (end === 'failed' && this.#isStuck) this.#stick()
    else if (end === 'failed') this.#fail(run.fault, run.errno)
  }

  /** Whether the chain that the run ended with is a frame without its whole header, of a device whose tap owns it. */
  get #isStuck(): boolean {
    const { readable, writable } = this.#run.chain
    const isShort = readable.bytes > 0 && readable.bytes < NET_HEADER_BYTES
    return isShort && writable.bytes === 0 && !this.#parts.features().ownsHeader
  }

  /** Gives the frame back to its ring, says nothing, and has the tap start the queue again, which always can send. */
  #stick(): void {
    this.states.become('failed', EFAULT)
    this.#parts.onUnknown('a worker that takes a frame without its whole header, over and over')
  }

  #receive(tap: TapFile): void {
    const began = this.ring.begin()
    if (began === RING.pending) this.states.become('waits', EAGAIN)
    else if (began !== RING.taken) this.#fail('ring-refused', EFAULT)
    if (began !== RING.taken) return
    this.ring.disableNotify()
    this.#poll(false)
    const receiver = this.#receiver
    const { isMergeable, countsBuffers } = this.#parts.features()
    let wantsCall = false
    for (;;) {
      const frame = tap.next
      if (frame === undefined) {
        this.#poll(true)
        break
      }
      const end = receiver.receive(frame, countsBuffers)
      if (end === 'delivered') wantsCall ||= receiver.wantsCall
      else if (end !== 'too-long' || isMergeable) {
        this.#stopReceiving(end)
        break
      }
      // A frame that does not fit is lost.
      tap.drop()
    }
    if (wantsCall) this.#call()
  }

  #stopReceiving(end: ReceiveEnd): void {
    const { fault, errno } = this.#receiver
    if (end === 'too-long') this.#parts.onUnknown('a frame that lies in several buffers')
    else if (end === 'pending') this.states.become('waits', EAGAIN)
    else if (fault === 'net-header-short')
      this.#parts.onUnknown('a buffer that is shorter than the header of a frame')
    else if (end === 'failed') this.#fail(fault, errno)
  }

  /** The driver broke a rule, or the queue may not reach what it is given: it stands until it is kicked. */
  #fail(fault: string, errno: number): void {
    // Linux has taken such a chain already.
    if (fault.startsWith('net-')) this.ring.giveBack(-1)
    const code = this.memory.lastErrno < 0 ? this.memory.lastErrno : errno
    this.states.become('failed', code)
    // A ring that a map does not allow is no error to the kernel: it asks for nothing, and says nothing.
    if (fault !== 'ring-refused' || code !== EPERM) this.#error()
    // Who reads a table says so, and who reads the ring says it again.
    if (this.ring.endsInTable) this.#error()
  }

  #call(): void {
    this.#files.value.call?.signal()
  }

  #error(): void {
    this.#files.value.error?.signal()
  }

  #poll(pollsTap: boolean): void {
    if (this.#files.value.pollsTap !== pollsTap) this.#files.set({ ...this.#files.value, pollsTap })
  }

  #empty(): void {
    this.ring.base = 0
    this.ring.setUp({ entries: 1, descriptors: 0n, available: 0n, used: 0n, hasEventIndex: false })
  }
}
