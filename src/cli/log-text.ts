import { IommulatorError } from '../bits/errors.ts'

/** So many bytes tell whether a file is text. */
const JUDGED_BYTES = 64 * 1024
/** And so many of a file that grows, where no more come for now. */
const IDLE_BYTES = 4096
/** Stray bytes of a serial line stay allowed, and blocks of zeros, which a crash leaves in a log: each run counts once. */
const STRAY_RUNS_MAX = 16
/** Random bytes have a run in eleven, programs more. */
const BYTES_FOR_A_RUN = 32

const ENOUGH_BYTES = { more: JUDGED_BYTES, idle: IDLE_BYTES, end: 0 } as const

const BELL = 7
const CARRIAGE_RETURN = 13
const ESCAPE = 27
const BLANK = 32
const DELETE = 127

/** Whether no log has this byte in its text. */
const isStray = (byte: number): boolean =>
  byte === DELETE || (byte < BLANK && byte !== ESCAPE && (byte < BELL || byte > CARRIAGE_RETURN))

/** Marks of UTF-16 at the start of a file, as PowerShell and iconv write them. */
const ENCODINGS = [
  [0xff, 0xfe, 'utf-16le'],
  [0xfe, 0xff, 'utf-16be'],
] as const

/**
 * The bytes of a log as UTF-8, which may come as UTF-16 with its mark; and whether it is a log at all: a program or a
 * picture has no fault, and to say so would mislead.
 *
 * @example
 * const text = new LogText('boot.txt')
 * for await (const piece of input.pieces()) explainer.push(text.utf8(piece))
 * text.judge(() => understood, 'end')
 */
export class LogText {
  readonly #name: string
  readonly #encoder = new TextEncoder()
  #first: Uint8Array | undefined = new Uint8Array(0)
  #decoder: InstanceType<typeof TextDecoder> | undefined
  #bytes = 0
  #runs = 0
  #isStray = false
  #isJudged = false

  constructor(name: string) {
    this.#name = name
  }

  utf8(piece: Uint8Array): Uint8Array {
    let bytes = piece
    if (this.#first !== undefined) {
      bytes = this.#first.length === 0 ? piece : Buffer.concat([this.#first, piece])
      if (bytes.length < 2) {
        this.#first = bytes.slice()
        return new Uint8Array(0)
      }
      this.#first = undefined
      const [a, b] = bytes
      const label = ENCODINGS.find(([first, second]) => a === first && b === second)?.[2]
      if (label !== undefined) this.#decoder = new TextDecoder(label)
    }
    if (this.#decoder !== undefined)
      bytes = this.#encoder.encode(this.#decoder.decode(bytes, { stream: true }))
    this.#count(bytes)
    return bytes
  }

  /** What was held back because it is so short. */
  rest(): Uint8Array {
    const first = this.#first ?? new Uint8Array(0)
    this.#first = undefined
    return first
  }

  /**
   * Called after a piece, while no more come, and at the end.
   *
   * @param understood answers how many lines were understood so far
   * @throws IommulatorError ERR_INPUT where none was, and what was read is no text
   */
  judge(understood: () => number, state: 'more' | 'idle' | 'end'): void {
    if (this.#isJudged || this.#bytes < ENOUGH_BYTES[state]) return
    this.#isJudged = true
    if (understood() > 0 || this.#runs <= STRAY_RUNS_MAX || this.#runs * BYTES_FOR_A_RUN < this.#bytes) return
    const what = `${this.#name} is no log: its first ${this.#bytes} bytes are no text (a log in UTF-16 needs its mark, or iconv -f UTF-16LE -t UTF-8)`
    throw new IommulatorError('ERR_INPUT', what, { file: this.#name })
  }

  #count(bytes: Uint8Array): void {
    const end = Math.min(bytes.length, JUDGED_BYTES - this.#bytes)
    for (let i = 0; i < end; i++) {
      const stray = isStray(bytes[i] as number)
      if (stray && !this.#isStray) this.#runs++
      this.#isStray = stray
    }
    if (end > 0) this.#bytes += end
  }
}
