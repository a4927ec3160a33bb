import { closeSync, constants, fstatSync, ftruncateSync, openSync, writeFileSync } from 'node:fs'
import { IommulatorError } from '../bits/errors.ts'

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such folder',
  ENOTDIR: 'there is no such folder',
  EISDIR: 'it is a directory',
  EACCES: 'its permissions do not allow it',
  ENOSPC: 'no space is left',
}

/** A file that a long run writes as it goes. */
export class OutputFile {
  readonly #name: string
  readonly #fd: number
  #isFresh = true

  private constructor(name: string, fd: number) {
    this.#name = name
    this.#fd = fd
  }

  /**
   * Opens a file before the work that fills it; what it held stays until the first text is written.
   *
   * @throws IommulatorError ERR_OUTPUT where it cannot be written
   */
  static open(name: string): OutputFile {
    const fd = guarded(name, () => openSync(name, constants.O_WRONLY | constants.O_CREAT, 0o666))
    return new OutputFile(name, fd)
  }

  /** @throws IommulatorError ERR_OUTPUT where it cannot be written */
  write(text: string): void {
    guarded(this.#name, () => {
      // A pipe or a terminal has nothing to cut off.
      if (this.#isFresh && fstatSync(this.#fd).isFile()) ftruncateSync(this.#fd)
      this.#isFresh = false
      writeFileSync(this.#fd, text)
    })
  }

  close(): void {
    closeSync(this.#fd)
  }
}

function guarded<T>(name: string, act: () => T): T {
  try {
    return act()
  } catch (error) {
    const { code = '', message = String(error) } = error as NodeJS.ErrnoException
    const why = `cannot write ${name}: ${REASONS[code] ?? message}`
    throw new IommulatorError('ERR_OUTPUT', why, { file: name }, error)
  }
}
