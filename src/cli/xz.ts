import { crc32 } from 'node:zlib'
import xz from 'xz-decompress'

const FOOTER_BYTES = 12
const NOTHING = new Uint8Array(0)
const MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]

/** What the decoder's error numbers mean (XZ Embedded, xz.h, enum xz_ret). */
const FAILURES: Readonly<Record<string, string>> = {
  2: 'its kind of checksum is not supported: pack it with xz --check=crc64',
  3: 'it needs more memory than there is',
  4: 'it needs more memory than is allowed',
  5: 'it is no xz data',
  6: 'it uses a filter that is not supported: pack it with plain xz',
  7: 'its data is damaged',
  8: 'it ends early',
}

/** The packed bytes, given to the decoder piece by piece; keeps the last piece, in which a stream ends. */
class Feed {
  isAtEnd = false
  readonly #source: AsyncIterator<Uint8Array>
  /** Bytes that come before anything new from the source. */
  #back: Uint8Array = NOTHING
  /** The end of the piece before the last one, and the last one. */
  #seen: Uint8Array = NOTHING

  constructor(source: AsyncIterator<Uint8Array>) {
    this.#source = source
  }

  /** The next packed bytes; undefined after the last. */
  async #next(): Promise<Uint8Array | undefined> {
    const back = this.#back
    this.#back = NOTHING
    const piece = back.length > 0 ? back : await this.#read()
    if (piece === undefined) this.isAtEnd = true
    else this.#seen = Buffer.concat([this.#seen.subarray(1 - FOOTER_BYTES), piece])
    return piece
  }

  async #read(): Promise<Uint8Array | undefined> {
    for (;;) {
      const { done, value } = await this.#source.next()
      if (done === true) return undefined
      if (value.length > 0) return value
    }
  }

  stream(): ReadableStream<Uint8Array> {
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          const piece = await this.#next()
          if (piece === undefined) controller.close()
          else controller.enqueue(piece)
        },
      },
      { highWaterMark: 0 },
    )
  }

  /**
   * After a stream has ended: steps behind its footer and the padding that may follow. Answers whether
   * another stream begins there. The decoder does not say where it stopped, but the footer has a checksum.
   */
  async hasAnother(): Promise<boolean> {
    const seen = Buffer.from(this.#seen)
    let end = FOOTER_BYTES
    while (end < seen.length && !isFooter(seen.subarray(end - FOOTER_BYTES, end))) end++
    let rest: Uint8Array = seen.subarray(end)
    while (rest.every((byte) => byte === 0)) {
      const piece = await this.#read()
      if (piece === undefined) return false
      rest = piece
    }
    rest = rest.subarray(rest.findIndex((byte) => byte !== 0))
    while (rest.length < MAGIC.length) {
      const piece = await this.#read()
      if (piece === undefined) break
      rest = Buffer.concat([rest, piece])
    }
    if (!MAGIC.every((byte, i) => rest[i] === byte)) throw new Error('bytes that are no xz data follow it')
    this.#back = rest
    this.#seen = NOTHING
    return true
  }
}

const isFooter = (bytes: Buffer): boolean =>
  bytes[10] === 0x59 && bytes[11] === 0x5a && crc32(bytes.subarray(4, 10)) === bytes.readUInt32LE(0)

/**
 * Unpacks xz data, streams one after another included, in bounded memory.
 *
 * @throws Error with words for people when the data is damaged, cut, or of a kind that cannot be unpacked
 */
export async function* unxz(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]()
  const feed = new Feed(iterator)
  try {
    do yield* oneStream(feed)
    while (await feed.hasAnother())
  } finally {
    await iterator.return?.()
  }
}

async function* oneStream(feed: Feed): AsyncGenerator<Uint8Array> {
  const reader = new xz.XzReadableStream(feed.stream()).getReader()
  let ended = false
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      if (value.length > 0) yield value
    }
    ended = true
  } catch (error) {
    ended = true
    const number = /error code (\d+)/.exec(String(error))?.[1] ?? ''
    throw new Error(feed.isAtEnd ? 'it ends early' : (FAILURES[number] ?? String(error)), { cause: error })
  } finally {
    // Whoever stops early gives the decoder back: there is one for all.
    if (!ended) await reader.cancel()
  }
}
