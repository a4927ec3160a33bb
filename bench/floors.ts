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

/** Names of loops that begin so are those of vtd-glib.c. */
const GLIB = 'vtd-glib '

/** The C programs floors.c and, where GLib is there (`bench/vtd-setup.sh`), vtd-glib.c, compiled. */
export class Floors {
  readonly compiler: string
  readonly #program: string
  readonly #glib: string | undefined

  private constructor(program: string, glib: string | undefined, compiler: string) {
    this.#program = program
    this.#glib = glib
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
    return new Floors(program, compileGlib(cc, folder), `${(version.stdout ?? '').split('\n')[0] ?? cc}, -O2`)
  }

  /** Whether it has a loop of that name. */
  has(name: string): boolean {
    return this.#glib !== undefined || !name.startsWith(GLIB)
  }

  loop(name: string, operations: number, numbers: readonly (string | number)[]): LoopCost {
    const isGlib = name.startsWith(GLIB)
    const program = isGlib ? (this.#glib ?? '') : this.#program
    const args = [isGlib ? name.slice(GLIB.length) : name, `${operations}`, ...numbers.map(String)]
    return JSON.parse(output(program, args)) as LoopCost
  }

  /** Runs another process to its end, its output into a pipe. */
  run(command: string, args: readonly string[]): ProcessCost {
    const text = output(this.#program, ['run', command, ...args])
    const end = text.indexOf('\n')
    const cost = JSON.parse(text.slice(0, end)) as ProcessCost
    return { ...cost, head: text.slice(end + 1) }
  }
}

function compileGlib(cc: string, folder: string): string | undefined {
  const pkgConfig = process.env['PKG_CONFIG'] ?? 'pkg-config'
  const flags = spawnSync(pkgConfig, ['--cflags', '--libs', 'glib-2.0'], { encoding: 'utf8' })
  if (flags.status !== 0) return undefined
  const program = join(folder, 'vtd-glib')
  const source = join(packageRoot(), 'bench', 'vtd-glib.c')
  const args = ['-O2', '-o', program, source, ...flags.stdout.trim().split(/\s+/)]
  return spawnSync(cc, args, { encoding: 'utf8' }).status === 0 ? program : undefined
}
