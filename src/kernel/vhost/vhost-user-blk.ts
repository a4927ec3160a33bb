import { ERRNO_CODES } from '../../bits/codes.ts'
import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import { MemoryBlockStore } from '../../hw/virtio/block-store.ts'
import { QueueRun } from '../../hw/virtio/queue-run.ts'
import {
  type AccessNumber,
  RING_PART,
  type RingMemory,
  type RingPartNumber,
} from '../../hw/virtio/ring-memory.ts'
import { RING } from '../../hw/virtio/ring-rules.ts'
import { SplitRing } from '../../hw/virtio/split-ring.ts'
import { VirtioBlk } from '../../hw/virtio/virtio-blk.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import { IOTLB_MESSAGE } from '../../trace/event-codes.ts'
import type { Stage } from '../../trace/stage.ts'
import type { DriverQueue, IotlbMiss, IotlbSink } from '../ports.ts'
import { DeviceTables, type MemoryRegion } from './device-tables.ts'
import { IotlbRecords } from './iotlb-records.ts'
import type { IotlbMessage } from './messages.ts'
import { QueueStates } from './queue-states.ts'
import { VhostUserMemory } from './vhost-user-memory.ts'

const { EAGAIN, EFAULT } = ERRNO_CODES
/** Maps that the IOTLB keeps: as many as vhost of the kernel, where nobody says otherwise. */
const IOTLB_ENTRIES = 2048
/** Sectors of the disk: 64 KiB, all zeros at first. */
const DISK_SECTORS = 128
/** Misses are for pages of 4 KiB, whatever the IOMMU's are. */
const PAGE_SHIFT = 12n
/** Chains of a run. */
const BUDGET = 1024
/** Runs until a queue is taken for one that never ends. */
const RUNS_MAX = 2 ** 14

interface State {
  /** The queue has a ring, and it is the device's to work on. */
  readonly isOn: boolean
  /** The used ring has been looked at. */
  readonly isBegun: boolean
  /** The address that the queue waits for. */
  readonly awaited: bigint | null
  /** What the front end has not read. */
  readonly asked: readonly IotlbMiss[]
}

const OFF: State = { isOn: false, isBegun: false, awaited: null, asked: [] }
const hashOf = ({ isOn, isBegun, awaited, asked }: State): number =>
  keyOf(
    Number(isOn) | (Number(isBegun) << 1),
    ...(awaited === null ? [] : [hiOf(awaited), loOf(awaited)]),
    ...asked.flatMap(({ iova, access }) => [hiOf(iova), loOf(iova), access]),
  )

export interface VhostUserBlkParts {
  readonly stage: Stage
  readonly journal: Journal
  /** How records name it. */
  readonly name: string
  /** The process that is the front end: who sends its messages. */
  readonly frontEnd: string
  readonly mm: AddressSpace
  readonly ram: readonly MemoryRegion[]
  /** The number of the next IOTLB, and of the next container of maps, of all in the run. */
  readonly nextIotlb: () => number
  readonly nextContainer: () => number
  readonly onUnknown: (why: string) => void
}

/**
 * A process beside QEMU that serves a virtio disk by the vhost-user protocol, with an IOTLB of its own. Its front end
 * fills it and takes maps back by the messages that vhost of the kernel has as well, and waits for the answer to each.
 * Nobody in the kernel knows of it.
 *
 * It behaves as the back end of this project does: one miss at a time for a page, tried again after an UPDATE of what the
 * queue waits for, or with the next kick. The disk has one queue and 64 KiB.
 * (vhost-user protocol, IOMMU support; QEMU 7.2 hw/virtio/vhost-user.c, vhost_user_send_device_iotlb_msg, slave_read)
 */
export class VhostUserBlk implements IotlbSink {
  readonly name: string
  readonly queues = 1
  readonly memory: RingMemory
  readonly store: MemoryBlockStore
  /** The front end comes to read what is asked. */
  onReadable: () => void = () => undefined
  readonly #parts: VhostUserBlkParts
  readonly #tables: DeviceTables
  readonly #records: IotlbRecords
  readonly #ring: SplitRing
  readonly #run: QueueRun
  readonly #states: QueueStates
  readonly #state: Held<State>
  #isWorking = false
  #hasWork = false
  /** What the last miss was for. */
  #missedPart: RingPartNumber = RING_PART.BUFFER

  constructor(parts: VhostUserBlkParts) {
    const { stage, journal, name, mm, ram, nextIotlb, nextContainer, onUnknown } = parts
    this.name = name
    this.#parts = parts
    this.#records = new IotlbRecords(stage)
    const shape = { name, limit: IOTLB_ENTRIES, splitsFullRange: true }
    this.#tables = new DeviceTables({ stage, journal, ...shape, nextIotlb, nextContainer })
    this.memory = new VhostUserMemory({
      stage,
      tables: this.#tables,
      regions: ram,
      mm,
      miss: (hi, lo, access, part) => this.#miss(hi, lo, access, part),
      onUnknown,
    })
    this.#ring = new SplitRing({ memory: this.memory, queue: 0, journal, name: `${name} queue 0` })
    this.store = new MemoryBlockStore(name, DISK_SECTORS, journal)
    const disk = new VirtioBlk({ name, store: this.store, journal })
    disk.negotiate(disk.features)
    this.#run = new QueueRun(this.#ring, disk)
    this.#states = new QueueStates({ stage, journal, device: name, queue: 0 })
    this.#state = new Held<State>(journal, name, OFF, hashOf)
  }

  /** It listens at its socket before QEMU comes. */
  open(): void {}

  /** The features of the driver give it a new IOTLB; then QEMU listens, and the queue is set up. */
  start(queues: readonly DriverQueue[], listen: () => void): void {
    this.#tables.beginIotlb()
    this.#state.set(OFF)
    listen()
    const queue = queues.find(({ index }) => index === 0)
    if (queue === undefined) return
    this.#ring.base = 0
    this.#ring.setUp({ ...queue, hasEventIndex: false })
    this.#state.set({ ...OFF, isOn: true })
  }

  /** The queue may run. */
  connect(): void {
    this.kick()
  }

  /** The queue stops; its IOTLB stays until the next start. */
  stop(_queues: readonly DriverQueue[], unlisten: () => void): void {
    this.#state.set(OFF)
    this.#states.become('stopped')
    unlisten()
  }

  /** QEMU has gone, and with the socket all that it set up. */
  ended(): void {
    this.#state.set(OFF)
    this.#states.become('stopped')
    this.#tables.clear(null)
  }

  kick(): void {
    if (!this.#state.value.isOn) return
    this.#hasWork = true
    this.#drain()
  }

  /** The kernel has no way to it: a process with a socket is neither a descriptor nor a device that it knows of. */
  forget(): void {}

  update(iova: bigint, bytes: bigint, ua: bigint, perm: number): number {
    return this.#take({ version: 2, type: IOTLB_MESSAGE.UPDATE, iova, bytes, ua, perm })
  }

  invalidate(iova: bigint, bytes: bigint): number {
    return this.#take({ version: 2, type: IOTLB_MESSAGE.INVALIDATE, iova, bytes, ua: 0n, perm: 0 })
  }

  nextMiss(): IotlbMiss | undefined {
    const state = this.#state.value
    const [first, ...asked] = state.asked
    if (first !== undefined) this.#state.set({ ...state, asked })
    return first
  }

  #take(message: IotlbMessage): number {
    const { stage, frontEnd } = this.#parts
    const before = stage.cause
    const { type, iova, bytes, ua, perm } = message
    const fields = { device: this.name, from: frontEnd, type, iova, bytes, ua, perm, code: 0 }
    stage.cause = stage.log.emit('vhost.message', before, fields)
    if (type === IOTLB_MESSAGE.INVALIDATE) this.#tables.invalidate(message)
    else {
      this.#tables.fill(message)
      this.#wake(iova, bytes)
    }
    stage.cause = before
    return 0
  }

  #wake(iova: bigint, bytes: bigint): void {
    const state = this.#state.value
    const { awaited } = state
    if (awaited === null || awaited < iova || awaited >= iova + bytes) return
    this.#state.set({ ...state, awaited: null })
    this.#states.become('woken')
    this.kick()
  }

  #miss(hi: number, lo: number, access: AccessNumber, part: RingPartNumber): void {
    const { stage } = this.#parts
    const state = this.#state.value
    const iova = wordOf(hi, lo)
    this.#missedPart = part
    const isKnown = state.asked.some(
      (a) => a.access === access && a.iova >> PAGE_SHIFT === iova >> PAGE_SHIFT,
    )
    this.#records.miss(this.#tables.number, 0, hi, lo, access)
    this.#state.set({
      ...state,
      // A step that moves bytes by itself waits on its own.
      awaited: this.#isWorking ? iova : state.awaited,
      asked: isKnown ? state.asked : [...state.asked, { iova, access }],
    })
    if (isKnown) return
    const type = IOTLB_MESSAGE.MISS
    const fields = {
      device: this.name,
      from: this.name,
      type,
      iova,
      bytes: 0n,
      ua: 0n,
      perm: access,
      code: 0,
    }
    stage.log.emit('vhost.message', stage.cause, fields)
  }

  /** Runs the queue as far as it comes, and lets the front end answer in between. */
  #drain(): void {
    if (this.#isWorking) return
    this.#isWorking = true
    let runs = 0
    while (this.#hasWork) {
      this.#hasWork = false
      if (++runs > RUNS_MAX) {
        this.#parts.onUnknown('a queue of a vhost-user device that never ends')
        break
      }
      this.#go()
      if (this.#state.value.asked.length > 0) this.onReadable()
    }
    this.#hasWork = false
    this.#isWorking = false
  }

  #go(): void {
    const state = this.#state.value
    // A driver that broke a rule has to set the queue up anew.
    if (!state.isOn || this.#states.value === 'failed') return
    this.#states.become('runs')
    if (!state.isBegun) {
      const began = this.#ring.start()
      if (began === RING.pending) this.#states.become('waits', EAGAIN)
      else if (began !== RING.taken) this.#fail(EFAULT)
      if (began !== RING.taken) return
      this.#state.set({ ...this.#state.value, isBegun: true })
    }
    const end = this.#run.go(BUDGET)
    if (end === 'more') this.#hasWork = true
    else if (end === 'pending') {
      this.#states.become('waits', EAGAIN)
      // If nobody answers, the next kick tries again: so the driver must know that kicks are wanted.
      if (this.#missedPart === RING_PART.BUFFER) this.#ring.enableNotify()
    } else if (end === 'failed') this.#fail(this.#run.errno)
  }

  #fail(errno: number): void {
    this.#states.become('failed', errno === 0 ? EFAULT : errno)
  }
}
