import { fstatSync, readlinkSync } from 'node:fs'
import type { Header } from './codec.ts'
import type { Fault } from './faults.ts'
import { C, type Libc } from './libc.ts'

/** What a descriptor that a front end sent is good for. */
export type DescriptorKind = 'file' | 'event' | 'socket' | 'other'

/** What can be done with descriptors, and with what they stand for: the kernel's side of a back end. */
export interface DescriptorPort {
  kindOf(fd: number): DescriptorKind
  /** Bytes of a file; 0 for what has none. */
  fileBytes(fd: number): number
  /** The first `bytes` of a file, shared; or -errno. The descriptor may be closed after it. */
  map(fd: number, bytes: number): SharedMemory | number
  /** Calls `onEvent` when the event is signalled, until `forget`. Answers false where it cannot be watched. */
  watch(fd: number, onEvent: () => void): boolean
  forget(fd: number): void
  /** Signals an event. */
  signal(fd: number): void
  close(fd: number): void
  /** Talks over a socket that the front end sent; the channel has the descriptor from now on. */
  openChannel(fd: number, listener: ChannelListener): Channel | undefined
}

/** A message as it came. Whoever takes it closes its descriptors. */
export interface Message {
  readonly header: Header
  readonly payload: Uint8Array
  readonly fds: number[]
}

/** One socket of the two. */
export interface Channel {
  /** False where the other side reads nothing, or is gone. */
  send(bytes: Uint8Array): boolean
  close(): void
}

export interface ChannelListener {
  /** Whether what comes are answers, or requests. */
  readonly takesReplies: boolean
  onMessage(message: Message): void
  /** The other side has closed it, or broke a rule; nothing comes any more. */
  onEnd(fault: Fault | undefined): void
}

/** Mapped memory. */
export interface SharedMemory {
  readonly bytes: number
  /** Bytes [n * WINDOW_BYTES, ...) of it: at most WINDOW_BYTES. Throws once it is closed. */
  window(n: number): Uint8Array
  /** Unmaps it. Nobody touches a window after that: all access goes through this object. */
  close(): void
}

/** Node's arrays end at 4 GiB, and a longer one ends the process: memory is seen in windows. */
export const WINDOW_BYTES = 2 ** 30

/** Tells the kinds of descriptors apart. */
export function kindOfDescriptor(libc: Libc, fd: number): DescriptorKind {
  try {
    const stat = fstatSync(fd)
    if (stat.isFile()) return 'file'
    if (stat.isSocket()) return isStreamSocket(libc, fd) ? 'socket' : 'other'
    return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]' ? 'event' : 'other'
  } catch {
    return 'other'
  }
}

function isStreamSocket(libc: Libc, fd: number): boolean {
  const value = new Int32Array(1)
  const is = (option: number, wanted: number): boolean =>
    libc.getsockopt(fd, C.SOL_SOCKET, option, value) === 0 && value[0] === wanted
  return is(C.SO_DOMAIN, C.AF_UNIX) && is(C.SO_TYPE, C.SOCK_STREAM)
}

/** Bytes of a file. */
export const fileBytes = (fd: number): number => {
  try {
    return fstatSync(fd).size
  } catch {
    return 0
  }
}
