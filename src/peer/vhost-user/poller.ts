import { IommulatorError } from '../../bits/errors.ts'
import { C, EPOLL_EVENT, errnoName, type Libc } from './libc.ts'

const EVENTS_MAX = 64

export interface PollerOptions {
  /**
   * After an event the next one is waited for on this thread, for so long: that takes 3 us instead of 80, but the
   * process does nothing else meanwhile. 0 where front end and back end share a process.
   */
  readonly lingerMs?: number
  /** Is called after every batch of events; true where it has more to do, so that nothing is waited for. */
  readonly work?: () => boolean
}

/**
 * Waits for many descriptors at once, on one thread of the pool, and calls who watches them.
 *
 * @example
 * const poller = new Poller(await loadLibc())
 * poller.watch(fd, () => take(fd))
 * await poller.run() // until `stop`
 * poller.close()
 */
export class Poller {
  readonly #libc: Libc
  readonly #lingerMs: number
  readonly #work: () => boolean
  readonly #epoll: number
  readonly #wake: number
  readonly #events = new Uint8Array(EPOLL_EVENT.bytes * EVENTS_MAX)
  readonly #view = new DataView(this.#events.buffer)
  /** Who watches, by a number that is never used again: an event that was under way for another is dropped. */
  readonly #watchers = new Map<number, () => void>()
  readonly #numbers = new Map<number, number>()
  #next = 1
  #isStopped = false
  #isWaiting = false
  readonly #onExit = () => this.#wakeUp()

  /** @throws IommulatorError ERR_PEER where the process has no descriptors left */
  constructor(libc: Libc, options: PollerOptions = {}) {
    this.#libc = libc
    this.#lingerMs = options.lingerMs ?? 0
    this.#work = options.work ?? (() => false)
    this.#epoll = made(libc.epollCreate(C.EPOLL_CLOEXEC))
    this.#wake = made(libc.eventfd(0, C.EFD_CLOEXEC | C.EFD_NONBLOCK))
    this.watch(this.#wake, () => this.#libc.read(this.#wake, new Uint8Array(8)))
    // A thread that waits for ever would hold the process at its end.
    process.once('exit', this.#onExit)
  }

  /** Calls `onReady` whenever there is something to read. Answers false where the descriptor cannot be waited for. */
  watch(fd: number, onReady: () => void): boolean {
    const number = this.#next++
    const event = new Uint8Array(EPOLL_EVENT.bytes)
    const view = new DataView(event.buffer)
    view.setUint32(0, C.EPOLLIN, true)
    view.setUint32(EPOLL_EVENT.dataAt, number, true)
    if (this.#libc.epollCtl(this.#epoll, C.EPOLL_CTL_ADD, fd, event) < 0) return false
    this.#watchers.set(number, onReady)
    this.#numbers.set(fd, number)
    return true
  }

  /** Before a descriptor is closed. */
  forget(fd: number): void {
    const number = this.#numbers.get(fd)
    if (number === undefined) return
    this.#numbers.delete(fd)
    this.#watchers.delete(number)
    this.#libc.epollCtl(this.#epoll, C.EPOLL_CTL_DEL, fd, new Uint8Array(EPOLL_EVENT.bytes))
  }

  /** Calls watchers until `stop`, and comes back then. What a watcher throws ends it. */
  async run(): Promise<void> {
    let isBusy = false
    let isMore = false
    while (!this.#isStopped) {
      const ready: number = isBusy
        ? this.#libc.epollWait(this.#epoll, this.#events, isMore ? 0 : this.#lingerMs)
        : await this.#wait()
      if (ready > 0) this.#call(ready)
      isMore = !this.#isStopped && this.#work()
      // Timers and signals have their turn between any two.
      if (isBusy) await new Promise((resolve) => setImmediate(resolve))
      isBusy = ready > 0 || isMore
    }
  }

  /** `run` comes back as soon as it can. */
  stop(): void {
    this.#isStopped = true
    this.#wakeUp()
  }

  /** Gives its descriptors back; `run` has come back, or was never called. */
  close(): void {
    process.off('exit', this.#onExit)
    this.#libc.close(this.#wake)
    this.#libc.close(this.#epoll)
  }

  async #wait(): Promise<number> {
    this.#isWaiting = true
    const ready = await this.#libc.epollWaitAsync(this.#epoll, this.#events, -1)
    this.#isWaiting = false
    return ready
  }

  #wakeUp(): void {
    if (this.#isWaiting) this.#libc.write(this.#wake, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0))
  }

  #call(ready: number): void {
    for (let i = 0; i < ready && !this.#isStopped; i++) {
      const number = this.#view.getUint32(i * EPOLL_EVENT.bytes + EPOLL_EVENT.dataAt, true)
      this.#watchers.get(number)?.()
    }
  }
}

function made(fd: number): number {
  if (fd < 0) throw new IommulatorError('ERR_PEER', `the kernel has no event for us: ${errnoName(fd)}`)
  return fd
}
