import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Folder of the package, wherever this file was compiled to. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder)
  return folder
}

/** What a loop costs, as the floors program and a child of ours print it. */
export interface LoopCost {
  readonly ns: number
  readonly sum: number
}

/** What a whole process cost. */
export interface ProcessCost {
  readonly wallNs: number
  readonly cpuNs: number
  readonly peakKib: number
  readonly outBytes: number
  readonly code: number
  /** The first bytes that it printed. */
  readonly head: string
}

const OUTPUT_MAX = 64 * 1024 * 1024

/** Runs a program to its end and answers what it printed. @throws where it fails */
export function output(command: string, args: readonly string[]): string {
  const done = spawnSync(command, args, { encoding: 'utf8', maxBuffer: OUTPUT_MAX })
  if (done.error !== undefined) throw done.error
  if (done.status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${done.stderr}`)
  return done.stdout
}

/** The C program of floors.c, compiled. */
export class Floors {
  readonly compiler: string
  readonly #program: string

  private constructor(program: string, compiler: string) {
    this.#program = program
    this.compiler = compiler
  }

  /** Compiles the floors; undefined where there is no compiler, or it cannot. */
  static compile(): Floors | undefined {
    const cc = process.env['CC'] ?? 'cc'
    const folder = join(packageRoot(), 'build-bench')
    mkdirSync(folder, { recursive: true })
    const program = join(folder, 'floors')
    const done = spawnSync(cc, ['-O2', '-o', program, join(packageRoot(), 'bench', 'floors.c')], {
      encoding: 'utf8',
    })
    if (done.status !== 0) return undefined
    const version = spawnSync(cc, ['--version'], { encoding: 'utf8' })
    return new Floors(program, `${(version.stdout ?? '').split('\n')[0] ?? cc}, -O2`)
  }

  loop(name: string, operations: number, numbers: readonly (string | number)[]): LoopCost {
    return JSON.parse(output(this.#program, [name, `${operations}`, ...numbers.map(String)])) as LoopCost
  }

  /** Runs another process to its end, its output into a pipe. */
  run(command: string, args: readonly string[]): ProcessCost {
    const text = output(this.#program, ['run', command, ...args])
    const end = text.indexOf('\n')
    const cost = JSON.parse(text.slice(0, end)) as ProcessCost
    return { ...cost, head: text.slice(end + 1) }
  }
}
