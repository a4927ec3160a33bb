import { hiOf, loOf } from '../../src/bits/u64.ts'
import { messageOf, payloadOf, readField, readHeader } from '../../src/peer/vhost-user/codec.ts'
import type { Message } from '../../src/peer/vhost-user/descriptors.ts'
import { C, type Libc } from '../../src/peer/vhost-user/libc.ts'
import { connectUnix } from '../../src/peer/vhost-user/listener.ts'
import { Mapping } from '../../src/peer/vhost-user/mapping.ts'
import { MessageStream } from '../../src/peer/vhost-user/message-stream.ts'
import { Poller } from '../../src/peer/vhost-user/poller.ts'
import {
  FRONT_END_REQUESTS,
  type FrontEndRequest,
  HEADER_FLAGS,
  REPLY_FLAGS,
} from '../../src/reader/vhost-user-format.ts'
import { IOTLB_MESSAGE } from '../../src/trace/event-codes.ts'

/** Sends bytes with descriptors. */
export function sendWith(libc: Libc, fd: number, bytes: Uint8Array, fds: readonly number[]): number {
  const page = Mapping.ofProcess(libc, 8192)
  const data = page.window(0)
  const view = new DataView(data.buffer, data.byteOffset, 8192)
  const pointer = (at: number, value: bigint): void => {
    view.setInt32(at, loOf(value), true)
    view.setInt32(at + 4, hiOf(value), true)
  }
  const control = fds.length === 0 ? 0 : 16 + fds.length * 4
  pointer(16, page.address + 64n)
  view.setBigUint64(24, 1n, true)
  if (control > 0) pointer(32, page.address + 128n)
  view.setBigUint64(40, BigInt(control), true)
  pointer(64, page.address + 2048n)
  view.setBigUint64(72, BigInt(bytes.length), true)
  view.setBigUint64(128, BigInt(control), true)
  view.setInt32(136, C.SOL_SOCKET, true)
  view.setInt32(140, C.SCM_RIGHTS, true)
  fds.forEach((sent, i) => {
    view.setInt32(144 + i * 4, sent, true)
  })
  data.set(bytes, 2048)
  const result = libc.sendmsg(fd, page.address, C.MSG_NOSIGNAL)
  page.close()
  return result
}

/** Memory of a guest: a file in memory that both sides map. */
export class GuestRam {
  readonly fd: number
  readonly bytes: Uint8Array
  readonly #libc: Libc
  readonly #mapping: Mapping

  constructor(libc: Libc, bytes: number) {
    this.#libc = libc
    this.fd = libc.memfd('guest', C.MFD_CLOEXEC)
    libc.fallocate(this.fd, 0, 0, bytes)
    this.#mapping = Mapping.ofFile(libc, this.fd, bytes) as Mapping
    this.bytes = this.#mapping.window(0)
  }

  load(address: number, into: Uint8Array, at: number, bytes: number): void {
    into.set(this.bytes.subarray(address, address + bytes), at)
  }

  store(address: number, from: Uint8Array, at: number, bytes: number): void {
    this.bytes.set(from.subarray(at, at + bytes), address)
  }

  close(): void {
    this.#mapping.close()
    this.#libc.close(this.fd)
  }
}

/** What a front end knows of a translation: null where there is none. */
export type Translate = (iova: bigint, access: number) => bigint | null

const PAGE = 4096n

/**
 * A front end for tests: sends requests as QEMU does, keeps the replies apart from what the back end asks, and answers
 * misses from `translate`, an UPDATE before each answer.
 */
export class FrontEnd {
  readonly libc: Libc
  /** Messages of the back end on its own channel. */
  readonly asked: Message[] = []
  translate: Translate = () => null
  /** Whether misses are answered as they come. */
  answersMisses = true
  isClosed = false
  readonly poller: Poller
  readonly #fd: number
  readonly #stream: MessageStream
  readonly #waiting: ((message: Message | undefined) => void)[] = []
  readonly #running: Promise<void>
  #backFd = -1
  #back: MessageStream | undefined
  #answered: Promise<void> = Promise.resolve()
  readonly #events: number[] = []

  private constructor(libc: Libc, fd: number) {
    this.libc = libc
    this.#fd = fd
    this.poller = new Poller(libc)
    this.#stream = new MessageStream(libc, this.poller, fd, {
      takesReplies: true,
      onMessage: (message) => this.#waiting.shift()?.(message),
      onEnd: () => {
        this.isClosed = true
        for (const done of this.#waiting.splice(0)) done(undefined)
      },
    })
    this.#stream.listen()
    this.#running = this.poller.run()
  }

  static connect(libc: Libc, path: string): FrontEnd {
    const fd = connectUnix(libc, path)
    if (fd < 0) throw new Error(`cannot connect to ${path}: ${fd}`)
    return new FrontEnd(libc, fd)
  }

  /** Sends raw bytes. */
  sendRaw(bytes: Uint8Array, fds: readonly number[] = []): void {
    sendWith(this.libc, this.#fd, bytes, fds)
  }

  send(
    name: FrontEndRequest,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
    flags = 0,
  ): void {
    this.sendRaw(messageOf(FRONT_END_REQUESTS[name].nr, HEADER_FLAGS.VERSION | flags, payload), fds)
  }

  /** Sends a request that is answered, and gives the payload of the answer. */
  async ask(
    name: FrontEndRequest,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
    flags = 0,
  ): Promise<Uint8Array> {
    const answer = new Promise<Message | undefined>((done) => this.#waiting.push(done))
    this.send(name, payload, fds, flags)
    const message = await answer
    if (message === undefined) throw new Error(`${name}: the connection was closed`)
    const { header } = message
    if (header.request !== FRONT_END_REQUESTS[name].nr || header.flags !== REPLY_FLAGS) {
      throw new Error(`${name}: answered by ${header.request} with flags ${header.flags}`)
    }
    return message.payload
  }

  /** A request whose answer is a word. */
  async word(
    name: FrontEndRequest,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
  ): Promise<bigint> {
    return readField('word', await this.ask(name, payload, fds), 'value')
  }

  /** A request that must be acknowledged: 0 where it was done. */
  async done(
    name: FrontEndRequest,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
  ): Promise<bigint> {
    return readField('word', await this.ask(name, payload, fds, HEADER_FLAGS.NEED_REPLY), 'value')
  }

  update(iova: bigint, bytes: bigint, ua: bigint, perm = 3): Promise<bigint> {
    return this.done('IOTLB_MSG', payloadOf('iotlb', { iova, bytes, ua, perm, type: IOTLB_MESSAGE.UPDATE }))
  }

  invalidate(iova: bigint, bytes: bigint): Promise<bigint> {
    return this.done('IOTLB_MSG', payloadOf('iotlb', { iova, bytes, type: IOTLB_MESSAGE.INVALIDATE }))
  }

  /** The socket for what the back end asks: answers what the request is answered with. */
  async openBackChannel(): Promise<bigint> {
    const fds = new Int32Array(2)
    this.libc.socketpair(C.AF_UNIX, C.SOCK_STREAM | C.SOCK_CLOEXEC | C.SOCK_NONBLOCK, fds)
    const [ours = -1, theirs = -1] = fds
    this.#backFd = ours
    this.#back = new MessageStream(this.libc, this.poller, ours, {
      takesReplies: false,
      onMessage: (message) => {
        this.asked.push(message)
        // One after the other, as QEMU does.
        if (this.answersMisses)
          this.#answered = this.#answered.then(() => this.answer(message)).catch(() => undefined)
      },
      onEnd: () => undefined,
    })
    this.#back.listen()
    const answer = await this.done('SET_BACKEND_REQ_FD', undefined, [theirs])
    this.libc.close(theirs)
    return answer
  }

  /** Answers a miss: an UPDATE first, where there is a translation. */
  async answer(message: Message): Promise<void> {
    const iova = readField('iotlb', message.payload, 'iova')
    const page = iova & ~(PAGE - 1n)
    const ua = this.translate(page, Number(readField('iotlb', message.payload, 'perm')))
    if (ua !== null) await this.update(page, PAGE, ua)
    if (this.isClosed) return
    const reply = messageOf(
      message.header.request,
      REPLY_FLAGS,
      payloadOf('word', { value: ua === null ? 1 : 0 }),
    )
    this.answerRaw(reply)
  }

  answerRaw(bytes: Uint8Array): void {
    sendWith(this.libc, this.#backFd, bytes, [])
  }

  /** A new event; closed with the front end. */
  event(): number {
    const fd = this.libc.eventfd(0, C.EFD_CLOEXEC | C.EFD_NONBLOCK)
    this.#events.push(fd)
    return fd
  }

  signal(fd: number): void {
    this.libc.write(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0))
  }

  /** How often an event was signalled since it was asked last. */
  count(fd: number): number {
    const bytes = new Uint8Array(8)
    return this.libc.read(fd, bytes) < 0 ? 0 : readHeader(Uint8Array.of(...bytes, 0, 0, 0, 0)).request
  }

  async close(): Promise<void> {
    this.#stream.close()
    this.#back?.close()
    this.poller.stop()
    await this.#running
    this.poller.close()
    for (const fd of this.#events) this.libc.close(fd)
  }
}

/** Waits until something is so: looks again with every turn of the event loop, for five seconds at most. */
export async function until(what: string, is: () => boolean): Promise<void> {
  for (let turns = 0; !is(); turns++) {
    if (turns > 5000) throw new Error(`not within five seconds: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}
