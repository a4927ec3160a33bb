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

/** A command line that runs in this process: what it wrote so far, and how to interrupt it. */
export interface Running {
  readonly out: string
  readonly err: string
  readonly done: Promise<Ran>
  interrupt(): void
}

/** Begins a command line in this process, without colours. */
export function runLive(argv: readonly string[], stdin = ''): Running {
  let out = ''
  let err = ''
  let interrupted: () => void = () => undefined
  const io: Io = {
    out: (text) => {
      out += text
    },
    err: (text) => {
      err += text
    },
    progress: () => undefined,
    isLive: false,
    isQuiet: false,
    onInterrupt: (act) => {
      interrupted = act
      return () => {
        interrupted = () => undefined
      }
    },
    paint: { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain },
    stdin: Readable.from([Buffer.from(stdin, 'latin1')]),
    elapsedMs: () => 0,
  }
  return {
    get out() {
      return out
    },
    get err() {
      return err
    },
    done: runProgram(argv, COMMANDS, io).then((code) => ({ code, out, err })),
    interrupt: () => interrupted(),
  }
}

/** Runs a command line in this process, without colours, and gives back all that it wrote. */
export const run = (argv: readonly string[], stdin = ''): Promise<Ran> => runLive(argv, stdin).done
