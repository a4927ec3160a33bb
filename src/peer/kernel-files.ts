import { constants } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { IommulatorError } from '../bits/errors.ts'
import { type Environment, isThere, peerCache, programOnPath } from './programs.ts'

/** What the kernel peer is started from. */
export interface KernelFiles {
  readonly qemu: string
  /** Ends QEMU when this program is killed; undefined where it is not installed. */
  readonly setpriv: string | undefined
  readonly kernel: string
  readonly initrd: string
}

const QEMU = 'qemu-system-ppc64'
const SETUP = fileURLToPath(new URL('../../peers/kernel/setup.sh', import.meta.url))

/** Where the set-up script keeps what it made. */
export const kernelCache = (env: Environment): string => peerCache(env, 'kernel')

/**
 * Finds QEMU, the kernel and its initramfs.
 *
 * @throws IommulatorError ERR_PEER where one is missing; the message names the command that gets it
 */
export function findKernelFiles(env: Environment = process.env): KernelFiles {
  const how = `get everything that is needed with: sudo sh ${SETUP}`
  const qemu = programOnPath(env, QEMU)
  if (qemu === undefined) throw new IommulatorError('ERR_PEER', `${QEMU} is not installed; ${how}`)
  const cache = kernelCache(env)
  const setpriv = programOnPath(env, 'setpriv')
  const files = { qemu, setpriv, kernel: join(cache, 'vmlinux'), initrd: join(cache, 'initrd.gz') }
  for (const path of [files.kernel, files.initrd]) {
    if (!isThere(path, constants.R_OK)) throw new IommulatorError('ERR_PEER', `there is no ${path}; ${how}`)
  }
  return files
}
