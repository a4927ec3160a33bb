import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

/** Floors from the ground up. A floor may import itself and those it lists, nothing else. */
export const FLOORS: Readonly<Record<string, readonly string[]>> = {
  bits: [],
  trace: ['bits'],
  memory: ['bits', 'trace'],
  table: ['bits', 'trace', 'memory'],
  check: ['bits', 'trace', 'memory'],
  reader: ['bits', 'trace', 'memory'],
  hw: ['bits', 'trace', 'memory', 'table'],
  report: ['bits', 'trace', 'memory', 'table', 'check', 'reader'],
  kernel: ['bits', 'trace', 'memory', 'table', 'hw'],
  machine: ['bits', 'trace', 'memory', 'table', 'check', 'reader', 'hw', 'report', 'kernel'],
  peer: ['bits', 'trace', 'memory', 'table', 'check', 'reader', 'hw', 'report', 'kernel', 'machine'],
  cli: ['bits', 'trace', 'memory', 'table', 'check', 'reader', 'hw', 'report', 'kernel', 'machine', 'peer'],
  scripts: [
    'bits',
    'trace',
    'memory',
    'table',
    'check',
    'reader',
    'hw',
    'report',
    'kernel',
    'machine',
    'peer',
    'cli',
  ],
}

/** The only floors that may know Node and npm packages: the rest runs in a browser worker. */
const EDGES = ['peer', 'cli', 'scripts']

export interface SourceFile {
  readonly path: string
  readonly text: string
}

export const sourcesBelow = (dir: string): SourceFile[] =>
  readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((f) => f.endsWith('.ts'))
    .sort()
    .map((f) => ({ path: join(dir, f), text: readFileSync(join(dir, f), 'utf8') }))

/** Folders of the kernel floor: each knows the files of the floor itself (its ports), and no other folder. */
const kernelFolderOf = (path: string): string | undefined => {
  const [floor, folder, file] = relative('src', path).split('/')
  return floor === 'kernel' && file !== undefined ? folder : undefined
}

const floorOf = (path: string): string => {
  const [first = '', ...rest] = relative('src', path).split('/')
  return rest.length === 0 ? 'root' : first
}

/** Import and export statements, bare imports, and dynamic ones; words in comments and texts are none. */
const IMPORT =
  /^\s*(?:import|export)\s[^;'"`]*?from\s*'([^']+)'|^\s*import\s*'([^']+)'|\bimport\(\s*'([^']+)'/gm

/** Every import that goes up, sideways, or out of the model: one sentence each. */
export function floorViolations(files: readonly SourceFile[]): string[] {
  const bad: string[] = []
  for (const { path, text } of files) {
    const from = floorOf(path)
    if (from === 'root') continue
    if (FLOORS[from] === undefined) bad.push(`${path}: ${from} is no floor`)
    for (const [, named, bare, dynamic] of text.matchAll(IMPORT)) {
      const target = named ?? bare ?? dynamic ?? ''
      if (!target.startsWith('.')) {
        if (!EDGES.includes(from)) bad.push(`${path}: ${from} must not import '${target}'`)
        continue
      }
      const reached = join(dirname(path), target)
      const to = floorOf(reached)
      const [folder, other] = [kernelFolderOf(path), kernelFolderOf(reached)]
      if (folder !== undefined && other !== undefined && folder !== other) {
        bad.push(`${path}: kernel/${folder} must not import kernel/${other}`)
      }
      if (to !== from && !FLOORS[from]?.includes(to)) bad.push(`${path}: ${from} must not import ${to}`)
    }
  }
  return bad
}
