import { lstatSync, unlinkSync } from 'node:fs'
import { IommulatorError } from '../../bits/errors.ts'
import { C, errnoName, type Libc } from './libc.ts'

/** Bytes of a path in struct sockaddr_un, with the NUL behind it. */
const PATH_BYTES_MAX = 108
const EADDRINUSE = 98
const ECONNREFUSED = 111

/** Why a socket cannot be made at a path, in words. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such folder',
  ENOTDIR: 'there is no such folder',
  EACCES: 'its permissions do not allow it',
}
const why = (result: number): string => REASONS[errnoName(result)] ?? errnoName(result)

function addressOf(path: string): Uint8Array {
  const bytes = new TextEncoder().encode(path)
  if (bytes.length === 0 || bytes.length >= PATH_BYTES_MAX) {
    const what = `the path of a socket has 1 to ${PATH_BYTES_MAX - 1} bytes, this one ${bytes.length}: ${path}`
    throw new IommulatorError('ERR_OUTPUT', what)
  }
  const address = new Uint8Array(2 + bytes.length + 1)
  address[0] = C.AF_UNIX
  address.set(bytes, 2)
  return address
}

/** A new stream socket that does not block. @throws IommulatorError ERR_PEER */
export function unixSocket(libc: Libc): number {
  const fd = libc.socket(C.AF_UNIX, C.SOCK_STREAM | C.SOCK_CLOEXEC | C.SOCK_NONBLOCK, 0)
  if (fd < 0) throw new IommulatorError('ERR_PEER', `the kernel has no socket for us: ${errnoName(fd)}`)
  return fd
}

/** Connects to a socket by its path; -errno where nobody takes it. */
export function connectUnix(libc: Libc, path: string): number {
  const fd = unixSocket(libc)
  const result = libc.connect(fd, addressOf(path))
  if (result === 0) return fd
  libc.close(fd)
  return result
}

/** A socket that waits for front ends. Its path goes with it. */
export class Listener {
  readonly path: string
  readonly fd: number
  readonly #libc: Libc
  readonly #inode: number

  private constructor(libc: Libc, path: string, fd: number) {
    this.#libc = libc
    this.path = path
    this.fd = fd
    this.#inode = lstatSync(path).ino
  }

  /** Listens at a path; a socket that nobody listens at any more is replaced. @throws IommulatorError ERR_OUTPUT */
  static listen(libc: Libc, path: string): Listener {
    const address = addressOf(path)
    const fd = unixSocket(libc)
    try {
      let result = libc.bind(fd, address)
      let what: string | undefined
      if (result === -EADDRINUSE) {
        what = whatIsAt(libc, path)
        if (what === undefined) {
          unlinkSync(path)
          result = libc.bind(fd, address)
        }
      }
      if (result >= 0) result = libc.listen(fd, 1)
      if (result < 0) {
        throw new IommulatorError('ERR_OUTPUT', `cannot listen at ${path}: ${what ?? why(result)}`)
      }
      return new Listener(libc, path, fd)
    } catch (error) {
      libc.close(fd)
      throw error
    }
  }

  /** The next connection, if one waits; else -errno. */
  accept(): number {
    return this.#libc.accept(this.fd, C.SOCK_CLOEXEC | C.SOCK_NONBLOCK)
  }

  close(): void {
    this.#libc.close(this.fd)
    try {
      // Somebody else may have put a socket of their own there.
      if (lstatSync(this.path).ino === this.#inode) unlinkSync(this.path)
    } catch {
      // It is gone already.
    }
  }
}

/**
 * What stands at a path that is taken; undefined for a socket that nobody holds any more. A socket of another type asks:
 * the kernel refuses it either way, and whoever listens there does not notice.
 */
function whatIsAt(libc: Libc, path: string): string | undefined {
  if (!lstatSync(path).isSocket()) return 'there is something at this path'
  const fd = libc.socket(C.AF_UNIX, C.SOCK_DGRAM | C.SOCK_CLOEXEC | C.SOCK_NONBLOCK, 0)
  if (fd < 0) return errnoName(fd)
  const result = libc.connect(fd, addressOf(path))
  libc.close(fd)
  return result === -ECONNREFUSED ? undefined : 'another process listens there'
}
