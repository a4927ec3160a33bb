import type { Readable, Writable } from 'node:stream'
import { IommulatorError } from '../bits/errors.ts'

/** Bytes of one answer that are held; a script's answers are far below it. */
const HELD_BYTES_MAX = 16 * 1024 * 1024
/** What a message shows of a console that said something else than it should. */
const SHOWN_CHARACTERS = 400

export interface SerialLineOptions {
  readonly input: Writable
  readonly output: Readable
  /** Bytes that are held while nobody has taken them. */
  readonly heldBytesMax?: number
}

interface Waiting {
  readonly mark: RegExp
  readonly done: (text: string) => void
  readonly failed: (error: Error) => void
}

/**
 * The two directions of a serial console: lines go out, and text comes in, which is taken up to a mark. What comes
 * in is bounded, and every wait has its time. Whoever has the streams closes it where they end.
 *
 * @example
 * const line = new SerialLine({ input: child.stdin, output: child.stdout })
 * await line.until(/^login: /m, 60_000)
 */
export class SerialLine {
  readonly #input: Writable
  readonly #heldMax: number
  #held = ''
  #waiting: Waiting | undefined
  #gone: string | undefined

  constructor({ input, output, heldBytesMax = HELD_BYTES_MAX }: SerialLineOptions) {
    this.#input = input
    this.#heldMax = heldBytesMax
    output.setEncoding('latin1')
    output.on('data', (piece: string) => this.#take(piece))
  }

  write(text: string): void {
    if (this.#gone === undefined) this.#input.write(text, 'latin1')
  }

  /**
   * Everything up to the end of the line in which a mark stands, without carriage returns.
   *
   * @throws IommulatorError ERR_PEER where the mark does not come in time, or the other side goes away
   */
  until(mark: RegExp, milliseconds: number): Promise<string> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        // An answer that came later would be taken for the next one.
        () => this.close(`it did not answer within ${milliseconds / 1000} s`),
        milliseconds,
      )
      const settled = () => {
        clearTimeout(timer)
        this.#waiting = undefined
      }
      this.#waiting = {
        mark,
        done: (text) => {
          settled()
          resolve(text)
        },
        failed: (error) => {
          settled()
          reject(error)
        },
      }
      if (this.#gone !== undefined) this.#fail(this.#gone)
      else this.#look()
    })
  }

  /** Whether the other side is still there, as far as anybody knows. */
  get isOpen(): boolean {
    return this.#gone === undefined
  }

  /** The other side is gone: nothing is waited for any more. */
  close(why: string): void {
    this.#gone ??= why
    this.#fail(this.#gone)
  }

  #fail(why: string): void {
    const said = this.#held.trim().slice(-SHOWN_CHARACTERS)
    const last = said === '' ? 'it said nothing' : `the last that it said: ${JSON.stringify(said)}`
    this.#waiting?.failed(new IommulatorError('ERR_PEER', `the peer is lost: ${why}; ${last}`))
  }

  #take(piece: string): void {
    if (this.#gone !== undefined) return
    this.#held += piece
    if (this.#held.length > this.#heldMax) this.close(`it said more than ${this.#heldMax} bytes at once`)
    else this.#look()
  }

  #look(): void {
    const waiting = this.#waiting
    if (waiting === undefined) return
    const found = waiting.mark.exec(this.#held)
    if (found === null) return
    const end = this.#held.indexOf('\n', found.index + found[0].length)
    if (end < 0) return
    const text = this.#held.slice(0, end + 1)
    this.#held = this.#held.slice(end + 1)
    waiting.done(text.replaceAll('\r', ''))
  }
}
