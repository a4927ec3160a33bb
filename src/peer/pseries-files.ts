import { constants } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { IommulatorError } from '../bits/errors.ts'
import { type Environment, isThere, peerCache, programOnPath } from './programs.ts'

/** What the peer with QEMU's own hypercalls is started from. */
export interface PseriesFiles {
  readonly qemu: string
  /** Ends QEMU when this program is killed; undefined where it is not installed. */
  readonly setpriv: string | undefined
  /** The mailbox firmware. */
  readonly firmware: string
}

const QEMU = 'qemu-system-ppc64'
const SETUP = fileURLToPath(new URL('../../peers/pseries/setup.sh', import.meta.url))

/**
 * Finds QEMU and the mailbox firmware.
 *
 * @throws IommulatorError ERR_PEER where one is missing; the message names the command that gets it
 */
export function findPseriesFiles(env: Environment = process.env): PseriesFiles {
  const how = `get everything that is needed with: sudo sh ${SETUP}`
  const qemu = programOnPath(env, QEMU)
  if (qemu === undefined) throw new IommulatorError('ERR_PEER', `${QEMU} is not installed; ${how}`)
  const firmware = join(peerCache(env, 'pseries'), 'mailbox.bin')
  if (!isThere(firmware, constants.R_OK)) {
    throw new IommulatorError('ERR_PEER', `there is no ${firmware}; ${how}`)
  }
  return { qemu, setpriv: programOnPath(env, 'setpriv'), firmware }
}
