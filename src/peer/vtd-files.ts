import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { IommulatorError } from '../bits/errors.ts'
import { type Environment, isThere, peerCache, programOnPath } from './programs.ts'

/** What the peer with QEMU's VT-d unit is started from. */
export interface VtdFiles {
  readonly qemu: string
  /** As QEMU names it: `7.2.22`. */
  readonly version: string
  /** Ends QEMU when this program is killed; undefined where it is not installed. */
  readonly setpriv: string | undefined
  /** The library that makes devices send PCI Express messages; undefined where nobody asks for them. */
  readonly endpoints?: string
}

const QEMU = 'qemu-system-x86_64'
/** The newest one that the set-up script gets, and the library beside it. */
const NEWEST = 'qemu-trixie'
const ENDPOINTS = 'endpoints.so'
const SETUP = fileURLToPath(new URL('../../peers/vtd/setup.sh', import.meta.url))
const HOW = `get everything that is needed with: sudo sh ${SETUP}`
const VERSION = /\bversion (\d+\.\d+\.\d+)/
const ANSWER_MS = 20_000

/**
 * Finds QEMU, and asks it for its version.
 *
 * @param path the program; the one on the path where it is undefined
 * @throws IommulatorError ERR_PEER where there is none, or it is no QEMU
 */
export async function findVtdFiles(path?: string, env: Environment = process.env): Promise<VtdFiles> {
  const qemu = path ?? programOnPath(env, QEMU)
  if (qemu === undefined) throw new IommulatorError('ERR_PEER', `${QEMU} is not installed; ${HOW}`)
  if (!isThere(qemu, constants.X_OK)) {
    throw new IommulatorError('ERR_PEER', `${qemu} is no program that can be run; ${HOW}`)
  }
  const { stdout } = await promisify(execFile)(qemu, ['--version'], { timeout: ANSWER_MS }).catch(
    (error: Error) => {
      throw new IommulatorError('ERR_PEER', `${qemu} does not start: ${error.message.trim()}`)
    },
  )
  const version = VERSION.exec(stdout)?.[1]
  if (version === undefined) {
    throw new IommulatorError('ERR_PEER', `${qemu} does not say which QEMU it is`)
  }
  return { qemu, version, setpriv: programOnPath(env, 'setpriv') }
}

/**
 * Finds a QEMU that has page requests, and the library that makes its devices send some.
 *
 * @param path the program; that of the set-up script where it is undefined
 * @throws IommulatorError ERR_PEER where one of them is missing
 */
export async function findRequestFiles(path?: string, env: Environment = process.env): Promise<VtdFiles> {
  const cache = peerCache(env, 'vtd')
  const endpoints = join(cache, ENDPOINTS)
  if (!isThere(endpoints, constants.R_OK)) {
    throw new IommulatorError('ERR_PEER', `there is no ${endpoints}; ${HOW}`)
  }
  return { ...(await findVtdFiles(path ?? join(cache, NEWEST), env)), endpoints }
}
