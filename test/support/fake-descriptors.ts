import {
  type Channel,
  type ChannelListener,
  type DescriptorKind,
  type DescriptorPort,
  type SharedMemory,
  WINDOW_BYTES,
} from '../../src/peer/vhost-user/descriptors.ts'

interface FakeFile {
  readonly kind: DescriptorKind
  readonly memory: Uint8Array
  /** What the file says that it has. */
  readonly bytes: number
}

const NO_MEMORY = new Uint8Array(0)
const ENOMEM = -12

/** Descriptors without a kernel: counts what is open, and fails a test that closes one twice or uses a closed one. */
export class FakeDescriptors implements DescriptorPort {
  readonly open = new Map<number, FakeFile>()
  readonly watched = new Map<number, () => void>()
  readonly signals: number[] = []
  /** What the back end sent on its own channel. */
  readonly sent: Uint8Array[] = []
  listener: ChannelListener | undefined
  /** Mapped regions that were not closed. */
  mapped = 0
  /** The kernel refuses to map, to watch, or to take what is sent. */
  refusesMaps = false
  refusesWatches = false
  refusesSends = false
  #next = 100

  make(kind: DescriptorKind, memory: Uint8Array = NO_MEMORY, bytes = memory.length): number {
    this.open.set(this.#next, { kind, memory, bytes })
    return this.#next++
  }

  kindOf(fd: number): DescriptorKind {
    return this.#file(fd).kind
  }

  fileBytes(fd: number): number {
    return this.#file(fd).bytes
  }

  map(fd: number, bytes: number): SharedMemory | number {
    const { memory } = this.#file(fd)
    if (this.refusesMaps || bytes > memory.length || bytes > WINDOW_BYTES) return ENOMEM
    this.mapped++
    let isOpen = true
    return {
      bytes,
      window: (n) => {
        if (!isOpen || n !== 0) throw new Error('memory was touched that is not mapped')
        return memory.subarray(0, bytes)
      },
      close: () => {
        if (!isOpen) throw new Error('memory was unmapped twice')
        isOpen = false
        this.mapped--
      },
    }
  }

  watch(fd: number, onEvent: () => void): boolean {
    this.#file(fd)
    if (this.refusesWatches) return false
    this.watched.set(fd, onEvent)
    return true
  }

  forget(fd: number): void {
    this.#file(fd)
    this.watched.delete(fd)
  }

  signal(fd: number): void {
    this.#file(fd)
    this.signals.push(fd)
  }

  close(fd: number): void {
    this.#file(fd)
    if (this.watched.has(fd)) throw new Error(`descriptor ${fd} was closed while it is watched`)
    this.open.delete(fd)
  }

  openChannel(fd: number, listener: ChannelListener): Channel | undefined {
    this.#file(fd)
    if (this.refusesWatches) return undefined
    this.listener = listener
    let isOpen = true
    return {
      send: (bytes) => {
        if (!isOpen || this.refusesSends) return false
        this.sent.push(bytes)
        return true
      },
      close: () => {
        if (isOpen) this.close(fd)
        isOpen = false
        if (this.listener === listener) this.listener = undefined
      },
    }
  }

  #file(fd: number): FakeFile {
    const file = this.open.get(fd)
    if (file === undefined) throw new Error(`descriptor ${fd} is not open`)
    return file
  }
}
