/** A line that could not be read, and why. */
export interface DamagedLine {
  readonly line: number
  /** Offset of its first byte in the log. */
  readonly offsetBytes: number
  readonly reason: string
  /** Its first bytes; those that do not print are shown as \xNN. */
  readonly excerpt: string
}

/** How often an event occurred, and where first. */
export interface EventCount {
  readonly name: string
  readonly count: number
  readonly firstLine: number
}

/**
 * What a log held. Every line is one of events, unknown, damaged and empty, so those four add up to `lines`.
 */
export interface LogSummary {
  readonly lines: number
  readonly bytes: number
  /** Lines that are declared events. */
  readonly events: number
  /** The declared events that occurred, in the order in which they first did. */
  readonly declared: readonly EventCount[]
  /**
   * Events that no declaration knows, in the order in which they first occurred. Names beyond a limit are
   * counted together, last, as `OTHER_NAMES`.
   */
  readonly unknown: readonly EventCount[]
  readonly damaged: {
    readonly count: number
    /** The first ones only. */
    readonly first: readonly DamagedLine[]
  }
  readonly empty: number
  /** The last line has no line end: the log may have been cut there, and the line with it. */
  readonly truncated: boolean
}

/** Stands in a summary for the unknown event names that were too many to keep. */
export const OTHER_NAMES = '(other names)'
