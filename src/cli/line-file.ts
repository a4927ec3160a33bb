import { OutputFile } from './output-file.ts'

const BUFFER_CHARACTERS = 65_536

/** A file of lines that come one by one, and many: written in pieces. */
export class LineFile {
  readonly #file: OutputFile
  #pieces: string[] = []
  #characters = 0

  private constructor(file: OutputFile) {
    this.#file = file
  }

  /** @throws IommulatorError ERR_OUTPUT where it cannot be written */
  static open(name: string): LineFile {
    return new LineFile(OutputFile.open(name))
  }

  /** @throws IommulatorError ERR_OUTPUT where it cannot be written */
  write(line: string): void {
    this.#pieces.push(line)
    this.#characters += line.length
    if (this.#characters >= BUFFER_CHARACTERS) this.flush()
  }

  /** Writes what was held back. */
  flush(): void {
    if (this.#pieces.length === 0) return
    this.#file.write(this.#pieces.join(''))
    this.#pieces = []
    this.#characters = 0
  }

  close(): void {
    this.flush()
    this.#file.close()
  }
}
