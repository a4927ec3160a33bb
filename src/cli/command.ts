import type { Io } from './io.ts'

/** An option as the help, the parser and the shell completion need it. */
export interface OptionDecl {
  /** As commander writes it: `--from <format>`, `--json`. */
  readonly flags: string
  readonly doc: string
  readonly choices?: readonly string[]
  /** Words that completion offers where the value is open-ended. */
  readonly offer?: () => readonly string[]
}

/** A positional argument: `<log>`, `[values...]`. */
export interface PositionalDecl {
  readonly name: string
  readonly doc: string
  /** What completion offers: files, or a list of words. */
  readonly complete: 'file' | (() => Promise<readonly string[]>)
}

export interface Invocation {
  readonly positionals: readonly string[]
  /** By commander's names; a list where the flags end in `...`, which may be given more than once. */
  readonly options: Readonly<Record<string, string | boolean | readonly string[] | undefined>>
}

/** One command: all that help, completion, documentation and the parser say of it stands here. */
export interface Command {
  readonly name: string
  readonly summary: string
  readonly positionals: readonly PositionalDecl[]
  readonly options: readonly OptionDecl[]
  /** Lines of the shell with one sentence each, shown first in the help. */
  readonly examples: readonly (readonly [line: string, what: string])[]
  /** Does the job; answers an exit code of `EXIT`. */
  run(call: Invocation, io: Io): Promise<number>
}
