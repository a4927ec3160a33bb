import type { Paint } from '../report/text.ts'

/** Where a command's words go: tests give their own, the program gives the process's streams. */
export interface Io {
  /** Results: a text with its newlines. */
  out(text: string): void
  /** Talk: notes, progress, errors. */
  err(text: string): void
  /** Redraws one line of progress on a terminal; nothing elsewhere. */
  progress(line: string): void
  /** Whether progress is seen: where it is not, commands that run for long say a line at times. */
  readonly isLive: boolean
  /** `--quiet`: no progress, no lines in its place. */
  readonly isQuiet: boolean
  /**
   * What the next interruption from the keyboard (or SIGTERM) does, instead of ending the program; the one after it ends
   * it. Answers how to take that back.
   */
  onInterrupt(act: () => void): () => void
  readonly paint: Paint
  /** Standard input, for `-`. */
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean }
  /** Milliseconds since the program started: for progress and rates on stderr only, never in results. */
  elapsedMs(): number
}
