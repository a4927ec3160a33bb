import { Readable } from 'node:stream'
import { COMMANDS } from '../../src/cli/commands/index.ts'
import type { Io } from '../../src/cli/io.ts'
import { runProgram } from '../../src/cli/program.ts'

const plain = (text: string): string => text

export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** Runs a command line in this process, without colours, and gives back all that it wrote. */
export async function run(argv: readonly string[], stdin = ''): Promise<Ran> {
  let out = ''
  let err = ''
  const io: Io = {
    out: (text) => {
      out += text
    },
    err: (text) => {
      err += text
    },
    progress: () => undefined,
    isLive: false,
    onInterrupt: () => () => undefined,
    paint: { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain },
    stdin: Readable.from([Buffer.from(stdin, 'latin1')]),
    elapsedMs: () => 0,
  }
  const code = await runProgram(argv, COMMANDS, io)
  return { code, out, err }
}
