import { accessSync, constants } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'

export type Environment = Readonly<Record<string, string | undefined>>

/** How a peer is started. */
export interface PeerProgram {
  readonly command: string
  readonly args: readonly string[]
  /** What its environment has beside that of this program. */
  readonly env?: Environment
  /** File descriptor 3 of it is a line to this program. */
  readonly hasChannel?: boolean
}

/** Whether a file may be used so: a mode of `fs.access`. */
export function isThere(path: string, mode: number): boolean {
  try {
    accessSync(path, mode)
    return true
  } catch {
    return false
  }
}

/** The first program of that name on the path. */
export function programOnPath(env: Environment, name: string): string | undefined {
  const folders = (env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '')
  return folders.map((folder) => join(folder, name)).find((path) => isThere(path, constants.X_OK))
}

/** Where the set-up script of a peer keeps what it made. */
export const peerCache = (env: Environment, peer: string): string =>
  join(env['XDG_CACHE_HOME'] || join(env['HOME'] ?? homedir(), '.cache'), 'iommulator', `${peer}-peer`)

/**
 * A program that Linux ends with whoever started it, also where that is killed.
 *
 * @param setpriv setpriv of util-linux; the program runs without where it is undefined
 */
export const endsWithUs = (setpriv: string | undefined, program: PeerProgram): PeerProgram =>
  setpriv === undefined
    ? program
    : { ...program, command: setpriv, args: ['--pdeathsig', 'KILL', '--', program.command, ...program.args] }
