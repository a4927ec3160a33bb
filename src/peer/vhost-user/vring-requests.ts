import { hasFeature, VIRTIO_F } from '../../hw/virtio/features.ts'
import { TRANSPORT_FEATURES } from '../../reader/vhost-user-format.ts'
import { payloadOf, readField, readNumber } from './codec.ts'
import type { DescriptorPort } from './descriptors.ts'
import { Fault } from './faults.ts'
import type { GuestRegions } from './guest-regions.ts'
import type { SessionWatcher } from './session-watcher.ts'
import type { Vring, VringAddresses } from './vring.ts'

const ENTRIES_MAX = 32_768
/** Bit of a notifier word: no descriptor comes with it. */
const NO_DESCRIPTOR = 0x100n
/** Chains that a queue is served before the next one has its turn, and messages theirs. */
const CHAINS_A_RUN = 64

interface VringOwner {
  readonly queues: readonly Vring[]
  readonly regions: GuestRegions
  readonly features: bigint
}

/** Requests about queues, and their service. */
export class VringRequests {
  /** What a driver broke. */
  onFault: (fault: Fault) => void = () => undefined
  readonly #owner: VringOwner
  readonly #descriptors: DescriptorPort
  readonly #watcher: SessionWatcher

  constructor(owner: VringOwner, descriptors: DescriptorPort, watcher: SessionWatcher) {
    this.#owner = owner
    this.#descriptors = descriptors
    this.#watcher = watcher
  }

  setEntries(payload: Uint8Array): Fault | undefined {
    const vring = this.#stopped(payload)
    if (vring instanceof Fault) return vring
    const entries = readNumber('vringState', payload, 'num')
    const isPower = entries > 0 && entries <= ENTRIES_MAX && (entries & (entries - 1)) === 0
    if (!isPower) return new Fault('ring-entries', String(entries))
    vring.entries = entries
    return undefined
  }

  setBase(payload: Uint8Array): Fault | undefined {
    const vring = this.#stopped(payload)
    if (vring instanceof Fault) return vring
    const base = readNumber('vringState', payload, 'num')
    if (base > 0xffff) return new Fault('ring-base', String(base))
    vring.ring.base = base
    return undefined
  }

  setAddresses(payload: Uint8Array): Fault | undefined {
    const vring = this.#vring(readNumber('vringAddr', payload, 'index'))
    if (vring instanceof Fault) return vring
    const at = (field: 'desc' | 'avail' | 'used'): bigint => readField('vringAddr', payload, field)
    const given = { desc: at('desc'), avail: at('avail'), used: at('used') }
    if (readNumber('vringAddr', payload, 'flags') !== 0) return new Fault('ring-flags')
    if (given.desc % 16n !== 0n || given.avail % 2n !== 0n || given.used % 4n !== 0n) {
      return new Fault('ring-unaligned', words(given))
    }
    const addresses = this.#hasIotlb ? given : this.#guestAddresses(given)
    if (addresses === undefined) return new Fault('ring-outside-memory', words(given))
    const { addresses: before } = vring
    const isSame = (['desc', 'avail', 'used'] as const).every((part) => before?.[part] === addresses[part])
    if (!isSame && vring.isRunning) return new Fault('queue-runs', `queue ${vring.index}`)
    vring.addresses = addresses
    return undefined
  }

  getBase(payload: Uint8Array): Uint8Array | Fault {
    const vring = this.#vring(readNumber('vringState', payload, 'index'))
    if (vring instanceof Fault) return vring
    this.stop(vring)
    return payloadOf('vringState', { index: vring.index, num: vring.ring.base })
  }

  setKick(payload: Uint8Array, fds: number[]): Fault | undefined {
    const vring = this.#notified(payload, fds)
    if (vring instanceof Fault) return vring
    const fd = fds[0]
    if (fd === undefined) return new Fault('kick-by-polling', `queue ${vring.index}`)
    if (this.#descriptors.kindOf(fd) !== 'event')
      return new Fault('not-an-event', `kick of queue ${vring.index}`)
    this.#dropKick(vring)
    if (!this.#descriptors.watch(fd, () => this.#kicked(vring))) {
      return new Fault('not-an-event', `kick of queue ${vring.index}`)
    }
    vring.kickFd = fd
    fds[0] = -1
    return undefined
  }

  setEvent(payload: Uint8Array, fds: number[], which: 'callFd' | 'errFd'): Fault | undefined {
    const vring = this.#notified(payload, fds)
    if (vring instanceof Fault) return vring
    const fd = fds[0]
    if (fd !== undefined && this.#descriptors.kindOf(fd) !== 'event') {
      return new Fault('not-an-event', `queue ${vring.index}`)
    }
    if (vring[which] >= 0) this.#descriptors.close(vring[which])
    vring[which] = fd ?? -1
    if (fd !== undefined) fds[0] = -1
    return undefined
  }

  enable(payload: Uint8Array): Fault | undefined {
    const vring = this.#vring(readNumber('vringState', payload, 'index'))
    if (vring instanceof Fault) return vring
    vring.isEnabled = readNumber('vringState', payload, 'num') !== 0
    return undefined
  }

  /** A ring stops where it is: it starts with a kick, after it has been given one anew. */
  stop(vring: Vring): void {
    this.#dropKick(vring)
    if (vring.state === 'stopped') return
    vring.stop()
    this.#watcher.onQueue(vring)
  }

  /** Serves queues that have work, each for a while; true where there is more. */
  run(): boolean {
    let isMore = false
    for (const vring of this.#owner.queues)
      if (vring.hasWork && vring.isServed && this.#serve(vring)) isMore = true
    return isMore
  }

  close(): void {
    for (const vring of this.#owner.queues) {
      this.#dropKick(vring)
      for (const which of ['callFd', 'errFd'] as const) {
        if (vring[which] >= 0) this.#descriptors.close(vring[which])
        vring[which] = -1
      }
      vring.stop()
    }
  }

  get #hasIotlb(): boolean {
    return hasFeature(this.#owner.features, TRANSPORT_FEATURES.ACCESS_PLATFORM)
  }

  #vring(index: number): Vring | Fault {
    return this.#owner.queues[index] ?? new Fault('queue-unknown', String(index))
  }

  #stopped(payload: Uint8Array): Vring | Fault {
    const vring = this.#vring(readNumber('vringState', payload, 'index'))
    if (vring instanceof Fault || !vring.isRunning) return vring
    return new Fault('queue-runs', `queue ${vring.index}`)
  }

  /** The queue of a notifier, where the word and the descriptors fit together. */
  #notified(payload: Uint8Array, fds: readonly number[]): Vring | Fault {
    const word = readField('notifier', payload, 'value')
    const vring = this.#vring(Number(word & 0xffn))
    if (vring instanceof Fault) return vring
    const wanted = (word & NO_DESCRIPTOR) === 0n ? 1 : 0
    return fds.length === wanted ? vring : new Fault('descriptors-count', `${fds.length}, not ${wanted}`)
  }

  #guestAddresses({ desc, avail, used }: VringAddresses): VringAddresses | undefined {
    const { regions } = this.#owner
    const [d, a, u] = [regions.gpaOf(desc), regions.gpaOf(avail), regions.gpaOf(used)]
    return d === undefined || a === undefined || u === undefined ? undefined : { desc: d, avail: a, used: u }
  }

  #dropKick(vring: Vring): void {
    if (vring.kickFd < 0) return
    this.#descriptors.forget(vring.kickFd)
    this.#descriptors.close(vring.kickFd)
    vring.kickFd = -1
    vring.hasWork = false
  }

  #kicked(vring: Vring): void {
    vring.hasWork = true
    if (vring.state !== 'stopped' && vring.state !== 'starved') return
    if (
      vring.state === 'stopped' &&
      !vring.start(hasFeature(this.#owner.features, VIRTIO_F.RING_EVENT_IDX))
    ) {
      this.#fail(vring, 'not-set-up')
      return
    }
    vring.state = 'runs'
    this.#watcher.onQueue(vring)
  }

  #serve(vring: Vring): boolean {
    this.#watcher.onRun(false)
    const end = vring.go(CHAINS_A_RUN)
    this.#watcher.onRun(true)
    if (vring.wantsCall && vring.callFd >= 0) this.#descriptors.signal(vring.callFd)
    vring.hasWork = end === 'more'
    if (end === 'pending') this.#watcher.onQueue(vring)
    else if (end === 'failed') this.#fail(vring, vring.fault)
    return end === 'more'
  }

  #fail(vring: Vring, rule: string): void {
    vring.fail(rule)
    this.#watcher.onQueue(vring)
    if (vring.errFd >= 0) this.#descriptors.signal(vring.errFd)
    this.onFault(new Fault('queue-broken', `queue ${vring.index}: ${rule}`))
  }
}

const words = ({ desc, avail, used }: VringAddresses): string =>
  [desc, avail, used].map((a) => `0x${a.toString(16)}`).join(', ')
