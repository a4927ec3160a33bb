import { type FileHandle, open } from 'node:fs/promises'
import { pipeline, Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { IommulatorError } from '../bits/errors.ts'
import { unxz } from './xz.ts'

/** Most bytes of a piece. */
const PIECE_BYTES = 256 * 1024
/** The same for what is unpacked: new memory each time, so smaller. */
const UNPACKED_BYTES = 64 * 1024

type Packing = 'plain' | 'gzip' | 'xz'

/** A file or standard input, unpacked if it is packed. */
export interface Input {
  /** The path, or `standard input`. */
  readonly name: string
  readonly packing: Packing
  /** Bytes of the file as it is, packed or not; undefined where nobody knows before the end. */
  readonly totalBytes: number | undefined
  /** Bytes of the file read so far, packed or not: with `totalBytes` the progress. */
  readonly bytesRead: number
  /**
   * The contents, in pieces of bounded length. A piece is valid until the next one is asked for.
   *
   * @throws IommulatorError ERR_INPUT where the file cannot be read or unpacked
   */
  pieces(): AsyncGenerator<Uint8Array>
}

/** How packed files begin: by this they are known, whatever they are called. */
const PACKINGS: readonly (readonly [start: readonly number[], packing: string])[] = [
  [[0x1f, 0x8b], 'gzip'],
  [[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], 'xz'],
  [[0x28, 0xb5, 0x2f, 0xfd], 'packed by zstd, which is not supported: unpack it first (zstd -dc)'],
  [[0x42, 0x5a, 0x68], 'packed by bzip2, which is not supported: unpack it first (bzip2 -dc)'],
  [[0x50, 0x4b, 0x03, 0x04], 'a zip archive, which is not supported: unpack it first (unzip -p)'],
]

/** How a file is packed, by its first bytes: `plain`, or words for a packing that is not unpacked here. */
export const packingOf = (first: Uint8Array): string =>
  PACKINGS.find(([start]) => start.every((byte, i) => first[i] === byte))?.[1] ?? 'plain'

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'there is no such file',
  EISDIR: 'it is a directory',
  EACCES: 'its permissions do not allow it',
  Z_BUF_ERROR: 'it ends early',
  Z_DATA_ERROR: 'its data is damaged',
}

function unreadable(name: string, error: unknown): IommulatorError {
  const { code = '', message = String(error) } = error as NodeJS.ErrnoException
  const detail = code === 'Z_DATA_ERROR' ? ` (${message})` : ''
  const why = `${REASONS[code] ?? message}${detail}`
  return new IommulatorError('ERR_INPUT', `cannot read ${name}: ${why}`, { file: name }, error)
}

/**
 * The bytes of a file. The next piece is read while the taker works on one, into the memory of the one before,
 * unless `isKept` says that the taker may still hold that.
 */
async function* fileBytes(handle: FileHandle, isKept: () => boolean): AsyncGenerator<Uint8Array> {
  const newRoom = () => Buffer.allocUnsafeSlow(PIECE_BYTES)
  let room = newRoom()
  let next = handle.read(room, 0, PIECE_BYTES)
  let spare = newRoom()
  try {
    for (;;) {
      const { bytesRead } = await next
      if (bytesRead === 0) return
      const piece = room.subarray(0, bytesRead)
      next = handle.read(spare, 0, PIECE_BYTES)
      next.catch(() => undefined)
      yield piece
      const done = room
      room = spare
      spare = isKept() ? newRoom() : done
    }
  } finally {
    await next.catch(() => undefined)
  }
}

async function* streamBytes(stream: NodeJS.ReadableStream): AsyncGenerator<Uint8Array> {
  for await (const chunk of stream) yield typeof chunk === 'string' ? Buffer.from(chunk) : chunk
}

/** Unpacks gzip data; members one after another are taken as one. */
async function* gunzip(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const unpacked = createGunzip({ chunkSize: UNPACKED_BYTES })
  // Errors reach whoever reads from `unpacked`.
  pipeline(Readable.from(source), unpacked, () => undefined)
  yield* unpacked
}

class OpenInput implements Input {
  readonly name: string
  readonly totalBytes: number | undefined
  packing: Packing = 'plain'
  bytesRead = 0
  /** While the packing is looked for, and by the unpackers, a piece may be held after the next one is asked for. */
  keepsPieces = true
  readonly #source: AsyncGenerator<Uint8Array>
  readonly #close: () => Promise<void>
  #first: Uint8Array = new Uint8Array(0)

  constructor(
    name: string,
    source: AsyncGenerator<Uint8Array>,
    about: { readonly totalBytes: number | undefined; readonly close: () => Promise<void> },
  ) {
    this.name = name
    this.#source = source
    this.totalBytes = about.totalBytes
    this.#close = about.close
  }

  /** Reads the first bytes and sees by them how the file is packed. */
  async sniff(): Promise<void> {
    try {
      while (this.#first.length < 8) {
        const { done, value } = await this.#source.next()
        if (done === true) break
        this.bytesRead += value.length
        this.#first = this.#first.length === 0 ? value : Buffer.concat([this.#first, value])
      }
    } catch (error) {
      await this.#close()
      throw unreadable(this.name, error)
    }
    const found = packingOf(this.#first)
    if (found === 'plain' || found === 'gzip' || found === 'xz') {
      this.packing = found
      this.keepsPieces = found !== 'plain'
      return
    }
    await this.#close()
    throw new IommulatorError('ERR_INPUT', `cannot read ${this.name}: it is ${found}`, { file: this.name })
  }

  async *pieces(): AsyncGenerator<Uint8Array> {
    try {
      if (this.packing === 'gzip') yield* gunzip(this.#packed())
      else if (this.packing === 'xz') yield* unxz(this.#packed())
      else yield* this.#packed()
    } catch (error) {
      throw unreadable(this.name, error)
    } finally {
      await this.#close()
    }
  }

  async *#packed(): AsyncGenerator<Uint8Array> {
    if (this.#first.length > 0) yield this.#first
    for await (const piece of this.#source) {
      this.bytesRead += piece.length
      yield piece
    }
  }
}

/**
 * Opens a file, or standard input for `-`. gzip and xz are known by their first bytes and unpacked on the way.
 *
 * @throws IommulatorError ERR_INPUT when there is no such file, it is a directory, or it is packed in another way
 * @example
 * const input = await openInput('guest.trace.xz', process.stdin)
 * for await (const piece of input.pieces()) reader.push(piece)
 */
export async function openInput(path: string, stdin: NodeJS.ReadableStream): Promise<Input> {
  if (path === '-') {
    const close = async () => undefined
    const input = new OpenInput('standard input', streamBytes(stdin), { totalBytes: undefined, close })
    await input.sniff()
    return input
  }
  let handle: FileHandle
  let totalBytes: number | undefined
  try {
    handle = await open(path, 'r')
  } catch (error) {
    throw unreadable(path, error)
  }
  const stat = await handle.stat()
  if (stat.isFile()) totalBytes = stat.size
  const source = fileBytes(handle, () => input.keepsPieces)
  const input: OpenInput = new OpenInput(path, source, { totalBytes, close: () => handle.close() })
  await input.sniff()
  return input
}
