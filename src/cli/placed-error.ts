import { IommulatorError } from '../bits/errors.ts'

/** Does something with a scenario; an error of one of its steps is told with its place in the file. */
export function withPlace<T>(path: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (!(error instanceof IommulatorError) || error.where['line'] === undefined) throw error
    throw new IommulatorError(
      error.code,
      `${path}:${error.where['line']}: ${error.message}`,
      error.where,
      error,
    )
  }
}
