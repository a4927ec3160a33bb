import { hiOf, loOf } from '../../bits/u64.ts'
import { FDS_MAX, HEADER_BYTES, HEADER_FLAGS, PAYLOAD_BYTES_MAX } from '../../reader/vhost-user-format.ts'
import { type Header, readHeader } from './codec.ts'
import type { Channel, ChannelListener } from './descriptors.ts'
import { Fault } from './faults.ts'
import { C, errnoName, type Libc } from './libc.ts'
import { Mapping } from './mapping.ts'
import type { Poller } from './poller.ts'

// Where the parts of a call of recvmsg stand in a page: struct msghdr, struct iovec, control data, bytes.
const PAGE_BYTES = 8192
const IOVEC_AT = 64
const CONTROL_AT = 128
const BYTES_AT = 2048
/** struct cmsghdr, and the most descriptors that the kernel puts into one message (SCM_MAX_FD, 253). */
const CMSG_BYTES = 16
const CONTROL_BYTES = CMSG_BYTES + 256 * 4
/** Messages that are taken before other descriptors have their turn. */
const MESSAGES_A_TURN = 64

/** What is wrong with a header, in the order of the checks. */
export function headerFault({ flags, payloadBytes }: Header, isReply: boolean): Fault | undefined {
  if ((flags & HEADER_FLAGS.VERSION_MASK) !== HEADER_FLAGS.VERSION) {
    return new Fault('message-version', `flags 0x${flags.toString(16)}`)
  }
  if (((flags & HEADER_FLAGS.REPLY) !== 0) !== isReply) {
    return isReply ? new Fault('back-end-answer', 'no reply') : new Fault('message-is-reply')
  }
  if (payloadBytes > PAYLOAD_BYTES_MAX) return new Fault('payload-too-long', String(payloadBytes))
  return undefined
}

/**
 * Messages of a stream socket with their descriptors, one after the other. It owns the socket, and what came with a
 * message that is not complete.
 *
 * @example
 * const stream = new MessageStream(libc, poller, fd, { takesReplies: false, onMessage, onEnd })
 * stream.send(bytes)
 * stream.close()
 */
export class MessageStream implements Channel {
  readonly #libc: Libc
  readonly #poller: Poller
  readonly #fd: number
  readonly #listener: ChannelListener
  readonly #page: Mapping
  readonly #bytes: Uint8Array
  readonly #view: DataView
  /** Of the message that is being read: the bytes that are there, its header once that is complete, its descriptors. */
  #here = 0
  #header: Header | undefined
  #fds: number[] = []
  #isOpen = true

  constructor(libc: Libc, poller: Poller, fd: number, listener: ChannelListener) {
    this.#libc = libc
    this.#poller = poller
    this.#fd = fd
    this.#listener = listener
    this.#page = Mapping.ofProcess(libc, PAGE_BYTES)
    this.#bytes = this.#page.window(0)
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, PAGE_BYTES)
  }

  /** Begins to listen; false where the socket cannot be waited for. */
  listen(): boolean {
    return this.#poller.watch(this.#fd, () => this.#read())
  }

  /** Gives the socket back: it is not closed here. */
  release(): void {
    this.#isOpen = false
    this.#page.close()
  }

  send(bytes: Uint8Array): boolean {
    if (!this.#isOpen) return false
    // All or nothing: what does not fit into the buffer of a socket was not read for a long time.
    return this.#libc.send(this.#fd, bytes, C.MSG_DONTWAIT | C.MSG_NOSIGNAL) === bytes.length
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#poller.forget(this.#fd)
    for (const fd of this.#fds) this.#libc.close(fd)
    this.#libc.close(this.#fd)
    this.#page.close()
  }

  #read(): void {
    for (let messages = 0; messages < MESSAGES_A_TURN && this.#isOpen; ) {
      const got = this.#receive(this.#wanted - this.#here)
      if (got === -C.EAGAIN || got === -C.EINTR) return
      if (got <= 0) {
        const isBroken = this.#here > 0 || this.#fds.length > 0
        this.#end(isBroken ? new Fault('ends-in-message', got < 0 ? errnoName(got) : '') : undefined)
        return
      }
      this.#here += got
      const fault = this.#fds.length > FDS_MAX ? tooMany(this.#fds.length) : this.#advance()
      if (fault !== undefined) this.#end(fault)
      else if (this.#here === 0) messages++
    }
  }

  /** Bytes of the message, as far as it is known. */
  get #wanted(): number {
    return HEADER_BYTES + (this.#header?.payloadBytes ?? 0)
  }

  /** Looks at what has come; hands a complete message on. */
  #advance(): Fault | undefined {
    if (this.#here < HEADER_BYTES) return undefined
    const message = this.#bytes.subarray(BYTES_AT, BYTES_AT + this.#here)
    if (this.#header === undefined) {
      const header = readHeader(message)
      const fault = headerFault(header, this.#listener.takesReplies)
      if (fault !== undefined) return fault
      this.#header = header
    }
    const header = this.#header
    if (this.#here < this.#wanted) return undefined
    const fds = this.#fds
    this.#here = 0
    this.#header = undefined
    this.#fds = []
    this.#listener.onMessage({ header, payload: message.slice(HEADER_BYTES), fds })
    return undefined
  }

  #end(fault: Fault | undefined): void {
    this.close()
    this.#listener.onEnd(fault)
  }

  /** Receives up to so many bytes behind those that are there, and the descriptors that come with them. */
  #receive(most: number): number {
    const view = this.#view
    const { address } = this.#page
    // msg_name, msg_namelen, msg_iov, msg_iovlen, msg_control, msg_controllen, msg_flags.
    view.setBigUint64(0, 0n, true)
    view.setBigUint64(8, 0n, true)
    this.#setPointer(16, address + BigInt(IOVEC_AT))
    view.setBigUint64(24, 1n, true)
    this.#setPointer(32, address + BigInt(CONTROL_AT))
    view.setBigUint64(40, BigInt(CONTROL_BYTES), true)
    view.setUint32(48, 0, true)
    this.#setPointer(IOVEC_AT, address + BigInt(BYTES_AT + this.#here))
    view.setBigUint64(IOVEC_AT + 8, BigInt(most), true)
    const got = this.#libc.recvmsg(this.#fd, address, C.MSG_DONTWAIT | C.MSG_CMSG_CLOEXEC)
    if (got >= 0) this.#takeDescriptors(Number(view.getBigUint64(40, true)))
    if (got > 0 && (view.getUint32(48, true) & C.MSG_CTRUNC) !== 0) {
      this.#end(new Fault('descriptors-lost'))
      return -C.EAGAIN
    }
    return got
  }

  #takeDescriptors(controlBytes: number): void {
    const view = this.#view
    for (let at = CONTROL_AT; at + CMSG_BYTES <= CONTROL_AT + controlBytes; ) {
      const bytes = Number(view.getBigUint64(at, true))
      if (bytes < CMSG_BYTES) return
      const isRights =
        view.getInt32(at + 8, true) === C.SOL_SOCKET && view.getInt32(at + 12, true) === C.SCM_RIGHTS
      for (let from = at + CMSG_BYTES; isRights && from + 4 <= at + bytes; from += 4) {
        this.#fds.push(view.getInt32(from, true))
      }
      at += (bytes + 7) & ~7
    }
  }

  #setPointer(at: number, value: bigint): void {
    this.#view.setInt32(at, loOf(value), true)
    this.#view.setInt32(at + 4, hiOf(value), true)
  }
}

const tooMany = (count: number): Fault => new Fault('descriptors-count', `${count}, at most ${FDS_MAX}`)
