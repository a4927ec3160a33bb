import { Command as Commander, CommanderError, Option } from 'commander'
import { type ErrorCode, IommulatorError } from '../bits/errors.ts'
import { VERSION } from '../bits/version.ts'
import type { Command } from './command.ts'
import { EXIT } from './exit.ts'
import type { Io } from './io.ts'
import { ScenarioError } from './scenario-error.ts'

/** How a command is found: its words for the help at once, its code only when it runs. */
export interface CommandEntry {
  readonly name: string
  readonly summary: string
  load(): Promise<Command>
}

const FIRST_LINES = `
Examples:
  iommulator replay boot.trace.xz     replay a QEMU trace log and judge it
  iommulator run scenario.yaml        run a scenario and check what it expects
  iommulator decode tce 0x1234003     the fields of a word, by the manual's names
  iommulator help replay              everything about one command

Exit codes: 0 clean, 1 findings or divergence, 2 usage, 3 bad input, 4 environment, 5 our bug,
130 interrupted. Results go to stdout, talk to stderr. NO_COLOR and FORCE_COLOR are honoured.`

function fill(to: Commander, command: Command, done: (code: number) => void, io: Io): void {
  for (const { name, doc } of command.positionals) to.argument(name, doc)
  for (const { flags, doc, choices } of command.options) {
    const option = new Option(flags, doc)
    if (choices !== undefined) option.choices([...choices])
    to.addOption(option)
  }
  const wide = Math.max(...command.examples.map(([line]) => line.length))
  to.addHelpText(
    'after',
    `\nExamples:\n${command.examples.map(([line, what]) => `  ${line.padEnd(wide)}  ${what}`).join('\n')}`,
  )
  to.action(async (...words: unknown[]) => {
    const given = words.slice(0, command.positionals.length).flat()
    const positionals = given.filter((w): w is string => typeof w === 'string')
    done(await command.run({ positionals, options: to.opts() }, io))
  })
}

/** Errors of words on the command line, not of a file. */
const USAGE_ERRORS: readonly ErrorCode[] = ['ERR_PROFILE', 'ERR_NUMBER', 'ERR_RULE', 'ERR_WORD_RANGE']

/** Errors of what is around the program. */
const ENVIRONMENT_ERRORS: readonly ErrorCode[] = ['ERR_PEER', 'ERR_OUTPUT']

/** Says what went wrong, in one line where it can be one, and with which exit code. */
export function failure(error: unknown, io: Io): number {
  if (error instanceof ScenarioError) {
    io.err(`${error.message}\n`)
    return EXIT.INPUT
  }
  if (error instanceof IommulatorError) {
    io.err(`iommulator: ${error.message}\n`)
    if (ENVIRONMENT_ERRORS.includes(error.code)) return EXIT.ENVIRONMENT
    return USAGE_ERRORS.includes(error.code) ? EXIT.USAGE : EXIT.INPUT
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  io.err(`iommulator: this is a bug of iommulator, please report it with the input:\n${text}\n`)
  return EXIT.BUG
}

/**
 * Runs a command line (without `node` and the script) and answers the exit code. Throws nothing.
 * Only the command that is called is loaded.
 */
export async function runProgram(
  argv: readonly string[],
  entries: readonly CommandEntry[],
  io: Io,
): Promise<number> {
  let code: number = EXIT.CLEAN
  const program = new Commander('iommulator')
    .description(
      'An executable model of DMA remapping: replay, run and decode what software does around an IOMMU.',
    )
    .version(VERSION)
    .option('--color <when>', 'colours: auto, always or never', 'auto')
    .option('-q, --quiet', 'no progress')
    .addHelpText('after', FIRST_LINES)
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({ writeOut: (t) => io.out(t), writeErr: (t) => io.err(t) })
  program.helpCommand('help [command]', 'everything about one command')

  const called = argv.find((word) => entries.some((e) => e.name === word))
  try {
    for (const entry of entries) {
      const sub = program.command(entry.name).summary(entry.summary).description(entry.summary).exitOverride()
      if (entry.name !== called && !argv.includes(entry.name)) continue
      fill(sub, await entry.load(), (c) => (code = c), io)
    }
    if (argv.length === 0) {
      program.outputHelp()
      return EXIT.CLEAN
    }
    const [asked, about] = argv
    if (
      asked === 'help' &&
      about !== undefined &&
      !entries.some((e) => e.name === about) &&
      about !== 'help'
    ) {
      io.err(`error: unknown command '${about}'; iommulator help lists them\n`)
      return EXIT.USAGE
    }
    await program.parseAsync([...argv], { from: 'user' })
    return code
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.CLEAN : EXIT.USAGE
    return failure(error, io)
  }
}
