import {
  type Channel,
  type ChannelListener,
  type DescriptorKind,
  type DescriptorPort,
  fileBytes,
  kindOfDescriptor,
  type SharedMemory,
} from './descriptors.ts'
import { C, type Libc } from './libc.ts'
import { Mapping } from './mapping.ts'
import { MessageStream } from './message-stream.ts'
import type { Poller } from './poller.ts'

const ONE = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0)

/** Descriptors as the kernel has them. */
export class KernelDescriptors implements DescriptorPort {
  readonly #libc: Libc
  readonly #poller: Poller
  readonly #count = new Uint8Array(8)

  constructor(libc: Libc, poller: Poller) {
    this.#libc = libc
    this.#poller = poller
  }

  kindOf(fd: number): DescriptorKind {
    const kind = kindOfDescriptor(this.#libc, fd)
    // An event that is full, or was read by somebody else, must not hold us up.
    if (kind === 'event') this.#libc.fcntl(fd, C.F_SETFL, C.O_RDWR | C.O_NONBLOCK)
    return kind
  }

  fileBytes(fd: number): number {
    return fileBytes(fd)
  }

  map(fd: number, bytes: number): SharedMemory | number {
    return Mapping.ofFile(this.#libc, fd, bytes)
  }

  watch(fd: number, onEvent: () => void): boolean {
    return this.#poller.watch(fd, () => {
      if (this.#libc.read(fd, this.#count) > 0) onEvent()
    })
  }

  forget(fd: number): void {
    this.#poller.forget(fd)
  }

  signal(fd: number): void {
    this.#libc.write(fd, ONE)
  }

  close(fd: number): void {
    this.#libc.close(fd)
  }

  openChannel(fd: number, listener: ChannelListener): Channel | undefined {
    const stream = new MessageStream(this.#libc, this.#poller, fd, listener)
    if (stream.listen()) return stream
    // The caller has the descriptor still, and closes it.
    stream.release()
    return undefined
  }
}
