import type { Readable, Writable } from 'node:stream'
import { IommulatorError } from '../bits/errors.ts'

/** Bytes of a line that is not at its end; the longest answer is a batch of records. */
const LINE_BYTES_MAX = 16 * 1024 * 1024
/** What a message shows of an answer. */
const SHOWN_CHARACTERS = 200

export interface QtestOptions {
  readonly input: Writable
  readonly output: Readable
  /** How long nothing may be answered while a command waits. */
  readonly answerMs: number
}

interface Waiting {
  readonly command: string
  readonly done: (answer: string) => void
  readonly failed: (error: Error) => void
}

const hex = (value: number | bigint): string => `0x${value.toString(16)}`

/**
 * QEMU's qtest protocol: a command a line, and an answer a line in the same order. Commands may be handed in without
 * waiting for answers; those of one turn go out together. (QEMU 7.2 softmmu/qtest.c)
 *
 * Words are in the byte order of the machine: big endian on pseries. Base64 carries bytes. Whoever has the streams
 * closes it where they end.
 *
 * @example
 * const qtest = new Qtest({ input: child.stdin, output: child.stdout, answerMs: 10_000 })
 * await qtest.readWord(0x100000) // 0n
 */
export class Qtest {
  readonly #input: Writable
  readonly #answerMs: number
  readonly #waiting: Waiting[] = []
  /** Waiting commands that were answered, at the front of the list. */
  #answered = 0
  #out: string[] = []
  readonly #pieces: string[] = []
  #heldBytes = 0
  #gone: string | undefined
  #timer: NodeJS.Timeout | undefined

  constructor({ input, output, answerMs }: QtestOptions) {
    this.#input = input
    this.#answerMs = answerMs
    output.setEncoding('latin1')
    output.on('data', (piece: string) => this.#take(piece))
  }

  /**
   * Sends a command and gives what stands behind the OK of its answer.
   *
   * @throws IommulatorError ERR_PEER where QEMU refuses it, does not answer in time, or goes away
   */
  command(text: string): Promise<string> {
    return new Promise((done, failed) => {
      if (this.#gone !== undefined) {
        failed(lost(this.#gone))
        return
      }
      this.#waiting.push({ command: text, done, failed })
      this.#timer ??= setTimeout(
        () => this.close(`no answer within ${this.#answerMs / 1000} s`),
        this.#answerMs,
      )
      if (this.#out.length === 0) queueMicrotask(() => this.#flush())
      this.#out.push(text)
    })
  }

  writeWord(address: number, value: bigint): Promise<string> {
    return this.command(`writeq ${hex(address)} ${hex(value)}`)
  }

  async readWord(address: number): Promise<bigint> {
    const text = await this.command(`readq ${hex(address)}`)
    if (/^0x[0-9a-f]{1,16}$/.test(text)) return BigInt(text)
    throw this.#strange(`readq ${hex(address)}`, text)
  }

  write(address: number, data: Uint8Array): Promise<string> {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.length)
    return this.command(`b64write ${hex(address)} ${hex(bytes.length)} ${bytes.toString('base64')}`)
  }

  async read(address: number, bytes: number): Promise<Buffer> {
    const text = await this.command(`b64read ${hex(address)} ${hex(bytes)}`)
    const data = Buffer.from(text, 'base64')
    if (data.length === bytes) return data
    throw this.#strange(`b64read ${hex(address)} ${hex(bytes)}`, text)
  }

  /** Sets a stretch of memory to zeros. */
  clear(address: number, bytes: number): Promise<string> {
    return this.command(`memset ${hex(address)} ${hex(bytes)} 0x0`)
  }

  /** The other side is gone: nothing is answered any more. */
  close(why: string): void {
    this.#gone ??= why
    clearTimeout(this.#timer)
    const error = lost(this.#gone)
    const waiting = this.#waiting.splice(0).slice(this.#answered)
    this.#answered = 0
    for (const { failed } of waiting) failed(error)
  }

  #strange(command: string, answer: string): IommulatorError {
    const error = new IommulatorError(
      'ERR_PEER',
      `the peer answered ${JSON.stringify(answer.slice(0, SHOWN_CHARACTERS))} to ${command}`,
    )
    this.close(error.message)
    return error
  }

  #flush(): void {
    const text = `${this.#out.join('\n')}\n`
    this.#out = []
    if (this.#gone === undefined) this.#input.write(text, 'latin1')
  }

  #take(piece: string): void {
    if (this.#gone !== undefined) return
    this.#pieces.push(piece)
    this.#heldBytes += piece.length
    if (!piece.includes('\n')) {
      if (this.#heldBytes > LINE_BYTES_MAX) this.close(`it said more than ${LINE_BYTES_MAX} bytes in a line`)
      return
    }
    const lines = this.#pieces.join('').split('\n')
    const rest = lines.pop() ?? ''
    this.#pieces.length = 0
    this.#pieces.push(rest)
    this.#heldBytes = rest.length
    for (const line of lines) this.#answer(line)
    this.#timer?.refresh()
    if (this.#answered < this.#waiting.length) return
    this.#waiting.length = 0
    this.#answered = 0
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #answer(line: string): void {
    // Interrupts are told when they come.
    if (line.startsWith('IRQ ')) return
    const waiting = this.#waiting[this.#answered]
    if (waiting === undefined) {
      this.close(`it said ${JSON.stringify(line.slice(0, SHOWN_CHARACTERS))} without being asked`)
      return
    }
    this.#answered++
    if (line === 'OK' || line.startsWith('OK ')) waiting.done(line.slice(3))
    else waiting.failed(this.#strange(waiting.command.slice(0, SHOWN_CHARACTERS), line))
  }
}

const lost = (why: string): IommulatorError => new IommulatorError('ERR_PEER', `the peer is lost: ${why}`)
