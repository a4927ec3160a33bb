import { basename } from 'node:path'
import { IommulatorError } from '../../bits/errors.ts'
import type { Invocation } from '../command.ts'
import { openInput } from '../input.ts'
import type { Io } from '../io.ts'
import { scenarioOf } from '../load-scenario.ts'
import { OutputFile } from '../output-file.ts'
import type { PlacedScenario } from '../yaml-scenario.ts'

/** What `connect` is asked for. */
export interface ConnectRequest {
  readonly peer: string
  readonly files: readonly string[]
  readonly random: number
  readonly seed: number
  readonly dmaEvery: number
  readonly most: number
  /** Scenarios are run as far as the peer can do them. */
  readonly isPartial: boolean
}

export const PROGRESS_MS = 200
const FILE_BYTES_MAX = 16 * 1024 * 1024

/**
 * The file that answers are written to, if any: opened before a peer starts, which takes its time.
 *
 * @throws IommulatorError ERR_OUTPUT where it cannot be written
 */
export function recordOf({ options }: Invocation): OutputFile | undefined {
  const name = options['record'] as string | undefined
  return name === undefined ? undefined : OutputFile.open(name)
}

/** A file that is given to `connect`. */
interface Given {
  readonly path: string
  readonly name: string
  readonly bytes: Buffer
}

async function read(path: string, io: Io): Promise<Given> {
  const input = await openInput(path, io.stdin)
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of input.pieces()) {
    pieces.push(Buffer.from(piece))
    bytes += piece.length
    if (bytes > FILE_BYTES_MAX) {
      const most = `${input.name}: a file of scripts has at most ${FILE_BYTES_MAX} bytes`
      throw new IommulatorError('ERR_INPUT', most)
    }
  }
  return { path, name: input.name, bytes: Buffer.concat(pieces) }
}

/** A scenario is an object of JSON, or has this key; no script and no recording has either. */
const SCENARIO = /^\s*\{|^version\s*:/m

/** A scenario with the file that it stands in. */
export interface FiledScenario extends PlacedScenario {
  readonly file: string
}

/** What the files of a call hold: scripts of the peer, or scenarios. */
export interface GivenFiles<T> {
  readonly scripts: readonly T[]
  readonly scenarios: readonly FiledScenario[]
}

/**
 * Reads all files: a scenario is known by how it looks.
 *
 * @throws IommulatorError ERR_NUMBER where scenarios stand beside other things, which are reported in another way
 */
export async function filesOf<T>(
  { files, random }: ConnectRequest,
  io: Io,
  readScripts: (text: string, name: string) => readonly T[],
): Promise<GivenFiles<T>> {
  const scripts: T[] = []
  const scenarios: FiledScenario[] = []
  for (const path of files) {
    const { name, bytes } = await read(path, io)
    const text = bytes.toString('latin1')
    if (SCENARIO.test(text)) scenarios.push({ file: name, ...scenarioOf(bytes, name) })
    else scripts.push(...readScripts(text, basename(name)))
  }
  if (scenarios.length > 0 && (scripts.length > 0 || random > 0)) {
    const what = 'scenarios are run on their own: without scripts, and without --random'
    throw new IommulatorError('ERR_NUMBER', what)
  }
  return { scripts, scenarios }
}
