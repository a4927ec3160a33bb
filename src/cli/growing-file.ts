import { closeSync, openSync, readSync } from 'node:fs'

const PIECE_BYTES = 1 << 20

/** A file that another program writes: it may not be there yet. */
export class GrowingFile {
  readonly #path: string
  readonly #piece = new Uint8Array(PIECE_BYTES)
  #fd: number | undefined

  constructor(path: string) {
    this.#path = path
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
  try {
    return openSync(path, 'r')
  } catch {
    return undefined
  }
}
