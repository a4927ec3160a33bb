#!/usr/bin/env node
import { COMMANDS } from './commands/index.ts'
import { processIo } from './process-io.ts'
import { runProgram } from './program.ts'

const argv = process.argv.slice(2)
const at = argv.findIndex((word) => word === '--color' || word.startsWith('--color='))
const when = at < 0 ? 'auto' : (argv[at]?.split('=')[1] ?? argv[at + 1])
process.exitCode = await runProgram(
  argv,
  COMMANDS,
  processIo({
    color: when === 'always' || when === 'never' ? when : 'auto',
    quiet: argv.includes('--quiet') || argv.includes('-q'),
  }),
)
