/** What stands before the event in a line of a trace log: a time stamp, a task, or nothing. */
export interface LinePrefix {
  /** Microseconds of the prefix that was read last; -1 where it has none. */
  readonly timeUs: number
  /** Byte that stands right behind the name of an event: a space, or a colon that a space follows. */
  readonly nameEnd: number
  /** Whether a line that begins with a byte may have the prefix; one that may not begins with its event. */
  begins(first: number): boolean
  /** Where the event begins in the line at `at`; -1 if what stands there is no prefix. */
  skip(bytes: Uint8Array, at: number): number
  /** Whether a line that begins with a byte is none of the log's: a heading. */
  isComment(first: number): boolean
  /** Why the line at `at` has no event. @param from where it should begin, -1 where there is no prefix */
  whyNone(bytes: Uint8Array, at: number, from: number): string
}
