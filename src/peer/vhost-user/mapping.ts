import { fstatSync } from 'node:fs'
import { assert } from '../../bits/errors.ts'
import { type SharedMemory, WINDOW_BYTES } from './descriptors.ts'
import { C, type Libc } from './libc.ts'

const PAGE_BYTES = 4096

/**
 * Memory of a file, shared with whoever else maps it. Its arrays never leave this object for longer than an access:
 * after `close` their memory is gone, and a touch would end the process.
 */
export class Mapping implements SharedMemory {
  readonly bytes: number
  readonly #libc: Libc
  readonly #address: bigint
  readonly #mappedBytes: number
  readonly #windows: (Uint8Array | undefined)[] = []
  #isOpen = true

  private constructor(libc: Libc, address: bigint, bytes: number, mappedBytes: number) {
    this.#libc = libc
    this.#address = address
    this.bytes = bytes
    this.#mappedBytes = mappedBytes
  }

  /** Maps the first bytes of a file that has so many; -errno where the kernel does not. */
  static ofFile(libc: Libc, fd: number, bytes: number): Mapping | number {
    // Huge pages are unmapped whole; their file says how long they are.
    const unit = Math.max(PAGE_BYTES, fstatSync(fd).blksize)
    const mapped = Math.ceil(bytes / unit) * unit
    const address = libc.mmap(mapped, C.PROT_READ | C.PROT_WRITE, C.MAP_SHARED, fd)
    return address < 0n ? Number(address) : new Mapping(libc, address, bytes, mapped)
  }

  /** Memory of this process only: for the kernel's own structures. */
  static ofProcess(libc: Libc, bytes: number): Mapping {
    const address = libc.mmap(bytes, C.PROT_READ | C.PROT_WRITE, C.MAP_PRIVATE | C.MAP_ANONYMOUS, -1)
    assert(address > 0n, 'the kernel has a page for us')
    return new Mapping(libc, address, bytes, bytes)
  }

  get address(): bigint {
    assert(this.#isOpen, 'memory that is unmapped has no address')
    return this.#address
  }

  window(n: number): Uint8Array {
    assert(this.#isOpen, 'memory that is unmapped is not touched')
    return this.#windows[n] ?? this.#open(n)
  }

  #open(n: number): Uint8Array {
    const from = n * WINDOW_BYTES
    assert(from < this.bytes, 'the window is in the memory')
    const bytes = Math.min(WINDOW_BYTES, this.bytes - from)
    const made = new Uint8Array(this.#libc.view(this.#address + BigInt(from), bytes))
    this.#windows[n] = made
    return made
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#windows.length = 0
    this.#libc.munmap(this.#address, this.#mappedBytes)
  }
}
