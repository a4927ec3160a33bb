/** Exit codes of every command. */
export const EXIT = {
  /** The job is done and nothing is wrong. */
  CLEAN: 0,
  /** The job is done and there are findings or divergences. */
  FINDINGS: 1,
  /** The command line cannot be understood. */
  USAGE: 2,
  /** An input cannot be read, or is not what it should be. */
  INPUT: 3,
  /** Something outside is missing (a peer, a permission). */
  ENVIRONMENT: 4,
  /** A bug of ours. */
  BUG: 5,
  /** Stopped from the keyboard. */
  INTERRUPTED: 130,
} as const
