import { IommulatorError } from '../bits/errors.ts'
import { DETECT_BYTES, type Detection, detectLogFormat } from '../reader/detect.ts'
import { type Input, openInput } from './input.ts'

/** A packed log that is held as a whole has less. */
const HELD_BYTES_MAX = 256 * 1024 * 1024

/** A log that is open: what it is shows in its first bytes, which are read before anything else. */
export class LogInput {
  readonly input: Input
  readonly head: Uint8Array
  readonly #rest: AsyncGenerator<Uint8Array>

  private constructor(input: Input, head: Uint8Array, rest: AsyncGenerator<Uint8Array>) {
    this.input = input
    this.head = head
    this.#rest = rest
  }

  /** Opens a log and reads its head. @throws IommulatorError ERR_INPUT */
  static async open(path: string, stdin: NodeJS.ReadableStream): Promise<LogInput> {
    return LogInput.#of(await openInput(path, stdin), DETECT_BYTES)
  }

  /**
   * Opens two logs that are read side by side. Only one at a time can be unpacked from xz: where both are, the smaller
   * one is held as a whole.
   *
   * @throws IommulatorError ERR_INPUT
   */
  static async openPair(paths: readonly [string, string], stdin: NodeJS.ReadableStream): Promise<LogInput[]> {
    const inputs: Input[] = []
    for (const path of paths) inputs.push(await openInput(path, stdin))
    const [first, second] = inputs as [Input, Input]
    if (first.packing !== 'xz' || second.packing !== 'xz')
      return [await LogInput.#of(first, DETECT_BYTES), await LogInput.#of(second, DETECT_BYTES)]
    const bytesOf = ({ totalBytes = Number.POSITIVE_INFINITY }: Input) => totalBytes
    const held = bytesOf(first) < bytesOf(second) ? first : second
    const smaller = await LogInput.#of(held, HELD_BYTES_MAX)
    if (smaller.head.length >= HELD_BYTES_MAX) {
      const what = `${held.name} is too large to be held while the other log is unpacked: unpack one of them first (xz -d)`
      throw new IommulatorError('ERR_INPUT', what, { file: held.name })
    }
    const larger = await LogInput.#of(held === first ? second : first, DETECT_BYTES)
    return held === first ? [smaller, larger] : [larger, smaller]
  }

  static async #of(input: Input, headBytes: number): Promise<LogInput> {
    const rest = input.pieces()
    const pieces: Uint8Array[] = []
    let bytes = 0
    while (bytes < headBytes) {
      const { done, value } = await rest.next()
      if (done === true) break
      pieces.push(value.slice())
      bytes += value.length
    }
    return new LogInput(input, Buffer.concat(pieces), rest)
  }

  /** What it is. @throws IommulatorError ERR_LOG_FORMAT, with the log's name */
  detect(): Detection {
    try {
      return detectLogFormat(this.head.subarray(0, DETECT_BYTES))
    } catch (error) {
      if (!(error instanceof IommulatorError)) throw error
      throw new IommulatorError(error.code, `${this.input.name}: ${error.message}`, error.where, error)
    }
  }

  /** It is not read on. */
  async close(): Promise<void> {
    await this.#rest.return(undefined)
  }

  /** All of it, its head first. A piece is valid until the next one is asked for. */
  async *pieces(): AsyncGenerator<Uint8Array> {
    if (this.head.length > 0) yield this.head
    yield* this.#rest
  }
}
