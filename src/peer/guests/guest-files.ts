import { constants } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { IommulatorError } from '../../bits/errors.ts'
import { type Environment, isThere, peerCache, programOnPath } from '../programs.ts'
import { GUEST_MACHINES, type GuestArchitecture } from './configurations.ts'

/** What a guest is started from. */
export interface GuestFiles {
  readonly qemu: string
  /** Ends QEMU when this program is killed; undefined where it is not installed. */
  readonly setpriv: string | undefined
  readonly kernel: string
  readonly initrd: string
}

const SETUP = fileURLToPath(new URL('../../../peers/guests/setup.sh', import.meta.url))

/**
 * Finds QEMU, the kernel and the initramfs of a guest.
 *
 * @throws IommulatorError ERR_PEER where one is missing; the message names the command that gets it
 */
export function findGuestFiles(architecture: GuestArchitecture, env: Environment = process.env): GuestFiles {
  const how = `get everything that is needed with: sudo sh ${SETUP}`
  const { qemu: name } = GUEST_MACHINES[architecture]
  const qemu = programOnPath(env, name)
  if (qemu === undefined) throw new IommulatorError('ERR_PEER', `${name} is not installed; ${how}`)
  const folder = join(peerCache(env, 'guests'), architecture)
  const setpriv = programOnPath(env, 'setpriv')
  const files = { qemu, setpriv, kernel: join(folder, 'kernel'), initrd: join(folder, 'initrd.gz') }
  for (const path of [files.kernel, files.initrd]) {
    if (!isThere(path, constants.R_OK)) throw new IommulatorError('ERR_PEER', `there is no ${path}; ${how}`)
  }
  return files
}
