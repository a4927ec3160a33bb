/** Stable names of what can be wrong with what a person gives us; each is one line of `docs/reference/errors.md`. */
export const ERROR_CODES = {
  ERR_NUMBER: 'A text is not a number, or the number does not fit its width.',
  ERR_WORD_RANGE: 'A value does not fit the field it was given for.',
  ERR_DECLARATION: 'A declaration contradicts itself (overlapping fields, a rule named twice).',
  ERR_MEMORY_LIMIT: 'Modelled memory would grow past its limit.',
  ERR_ADDRESS: 'An address lies outside what the machine has.',
  ERR_PROFILE: 'A profile names a family or a version that no erratum knows.',
  ERR_MACHINE: 'A machine description cannot be wired.',
  ERR_SCENARIO: 'A scenario does not follow the schema.',
  ERR_OPERATION: 'An operation is not complete, or names something that the machine does not have.',
  ERR_LOG_FORMAT: 'A log is in none of the known formats.',
  ERR_INPUT: 'A file cannot be read or unpacked.',
  ERR_OUTPUT: 'A file cannot be written.',
  ERR_RULE: 'A rule is named that does not exist.',
  ERR_PEER: 'A peer (a real kernel or QEMU) is missing, does not start, or went away.',
  ERR_STATE_LIMIT: 'More records, marks or results were asked for than are kept.',
} as const

export type ErrorCode = keyof typeof ERROR_CODES

/** Where in the input the fault lies: file, line, column, field; whatever of it is known. */
export type Where = Readonly<Record<string, string | number | bigint>>

/**
 * Misuse of the library or bad input. Never what the modelled machine answers: that is a value.
 *
 * @example
 * throw new IommulatorError('ERR_NUMBER', 'not a number: "12x"', { field: 'ioba' })
 */
export class IommulatorError extends Error {
  readonly code: ErrorCode
  readonly where: Where

  constructor(code: ErrorCode, message: string, where: Where = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'IommulatorError'
    this.code = code
    this.where = where
  }
}

/** An invariant of the model itself. A failure is always a bug of ours, so nobody catches it. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`model bug: ${what}`)
}
