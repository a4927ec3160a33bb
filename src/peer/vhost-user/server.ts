import { Fault } from './faults.ts'
import { KernelDescriptors } from './kernel-descriptors.ts'
import { loadLibc } from './libc.ts'
import { Listener } from './listener.ts'
import { MessageStream } from './message-stream.ts'
import { Poller } from './poller.ts'
import type { ServedDevice } from './served-device.ts'
import { Session } from './session.ts'
import type { SessionWatcher } from './session-watcher.ts'

export interface ServerWatcher {
  /** A front end is there; answers who watches its session. */
  onConnect(): SessionWatcher
  /** It is gone, or broke a rule. */
  onEnd(fault: Fault | undefined): void
}

export interface ServerOptions {
  /** Path of the socket. */
  readonly socket: string
  /** A device for each connection. */
  readonly makeDevice: () => ServedDevice
  readonly watcher: ServerWatcher
  /** Ends with the first front end. */
  readonly isOnce?: boolean
  readonly iotlbLimit?: number
  readonly lingerMs?: number
}

/**
 * A vhost-user back end: listens, serves one front end at a time, and listens again when that is gone.
 *
 * @example
 * const server = await VhostUserServer.listen({ socket: '/run/disk.sock', makeDevice, watcher })
 * process.once('SIGINT', () => server.stop())
 * await server.run()
 */
export class VhostUserServer {
  readonly #options: ServerOptions
  readonly #poller: Poller
  readonly #descriptors: KernelDescriptors
  readonly #listener: Listener
  readonly #libc
  #session: Session | undefined
  #stream: MessageStream | undefined

  private constructor(options: ServerOptions, libc: Awaited<ReturnType<typeof loadLibc>>) {
    this.#options = options
    this.#libc = libc
    this.#listener = Listener.listen(libc, options.socket)
    this.#poller = new Poller(libc, { lingerMs: options.lingerMs ?? 0, work: () => this.#work() })
    this.#descriptors = new KernelDescriptors(libc, this.#poller)
  }

  /** @throws IommulatorError ERR_PEER where koffi is missing, ERR_OUTPUT where the socket cannot be made */
  static async listen(options: ServerOptions): Promise<VhostUserServer> {
    return new VhostUserServer(options, await loadLibc())
  }

  /** Maps in the IOTLB of the session that runs. */
  get entries(): number {
    return this.#session?.iotlb.entries ?? 0
  }

  /** Serves until `stop`, or until the first front end is gone where that is asked for. */
  async run(): Promise<void> {
    this.#await()
    try {
      await this.#poller.run()
    } finally {
      this.#end(undefined)
      this.#listener.close()
      this.#poller.close()
    }
  }

  /** `run` comes back; the front end sees its connection closed. */
  stop(): void {
    this.#poller.stop()
  }

  #await(): void {
    this.#poller.watch(this.#listener.fd, () => this.#accept())
  }

  #accept(): void {
    const fd = this.#listener.accept()
    if (fd < 0) return
    // One at a time: the next one waits in the queue of the socket.
    this.#poller.forget(this.#listener.fd)
    const { makeDevice, watcher, iotlbLimit } = this.#options
    const session = new Session({
      device: makeDevice(),
      descriptors: this.#descriptors,
      watcher: watcher.onConnect(),
      ...(iotlbLimit !== undefined && { iotlbLimit }),
    })
    const stream = new MessageStream(this.#libc, this.#poller, fd, {
      takesReplies: false,
      onMessage: (message) => {
        const { reply, fault } = session.take(message)
        if (fault !== undefined) this.#end(fault)
        else if (reply !== undefined && !stream.send(reply)) this.#end(new Fault('back-end-silent'))
      },
      onEnd: (fault) => this.#end(fault),
    })
    this.#session = session
    this.#stream = stream
    if (!stream.listen()) this.#end(new Fault('not-an-event', 'the connection'))
  }

  /** Queues have their turn, after all messages were answered. */
  #work(): boolean {
    const session = this.#session
    if (session === undefined) return false
    const isMore = session.fault === undefined && session.runQueues()
    if (session.fault !== undefined) this.#end(session.fault)
    return isMore
  }

  #end(fault: Fault | undefined): void {
    const session = this.#session
    if (session === undefined) return
    this.#session = undefined
    this.#stream?.close()
    this.#stream = undefined
    session.close()
    this.#options.watcher.onEnd(fault)
    if (this.#options.isOnce === true) this.#poller.stop()
    else this.#await()
  }
}
