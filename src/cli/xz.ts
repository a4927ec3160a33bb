import xz from 'xz-decompress'

/** What the decoder's error numbers mean (XZ Embedded, linux/include/linux/xz.h). */
const FAILURES: Readonly<Record<string, string>> = {
  2: 'its kind of checksum is not supported: pack it with xz --check=crc64',
  3: 'it needs more memory than there is',
  4: 'it needs more memory than is allowed',
  5: 'bytes that are no xz data follow it',
  6: 'it uses a filter or a checksum that is not supported: pack it with plain xz',
  7: 'its data is damaged',
  8: 'it ends early',
}

/** The packed bytes as the decoder wants them: asked for one piece at a time. */
function streamOf(source: AsyncIterator<Uint8Array>): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await source.next()
        if (done === true) controller.close()
        else controller.enqueue(value)
      },
    },
    { highWaterMark: 0 },
  )
}

/**
 * Unpacks xz data, streams one after another included, in bounded memory.
 *
 * @throws Error with words for people when the data is damaged, cut, or of a kind that cannot be unpacked
 */
export async function* unxz(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]()
  const reader = new xz.XzReadableStream(streamOf(iterator)).getReader()
  let isOver = false
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      if (value.length > 0) yield value
    }
    isOver = true
  } catch (error) {
    isOver = true
    const number = /error code (\d+)/.exec(String(error))?.[1]
    throw number === undefined ? error : new Error(FAILURES[number] ?? `xz error ${number}`, { cause: error })
  } finally {
    // There is one decoder for all: whoever stops early gives it back.
    if (!isOver) await reader.cancel()
    await iterator.return?.()
  }
}
