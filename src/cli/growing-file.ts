import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { IommulatorError } from '../bits/errors.ts'

const PIECE_BYTES = 1 << 20

/** A file that another program writes: it may not be there yet. */
export class GrowingFile {
  readonly #path: string
  readonly #piece = new Uint8Array(PIECE_BYTES)
  #fd: number | undefined

  /** @throws IommulatorError ERR_INPUT where it is there, and cannot be read */
  constructor(path: string) {
    this.#path = path
    this.#fd = opened(path)
  }

  /** Hands over what was added since the last call; false where that is nothing. */
  read(take: (bytes: Uint8Array) => void): boolean {
    this.#fd ??= opened(this.#path)
    if (this.#fd === undefined) return false
    let isMore = false
    for (;;) {
      const got = readSync(this.#fd, this.#piece, 0, PIECE_BYTES, null)
      if (got === 0) return isMore
      isMore = true
      take(this.#piece.subarray(0, got))
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
  }
}

function opened(path: string): number | undefined {
  const refused = (why: string, error?: unknown): IommulatorError =>
    new IommulatorError('ERR_INPUT', `cannot read ${path}: ${why}`, { file: path }, error)
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    throw refused(message, error)
  }
  if (!fstatSync(fd).isDirectory()) return fd
  closeSync(fd)
  throw refused('it is a directory')
}
