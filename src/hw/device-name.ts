import { IommulatorError } from '../bits/errors.ts'
import { didYouMean } from '../bits/suggest.ts'

/**
 * The device that a step names.
 *
 * @throws IommulatorError ERR_OPERATION where none has the name
 */
export function named<T>(name: string, devices: ReadonlyMap<string, T>): T {
  if (devices.has(name)) return devices.get(name) as T
  const known = [...devices.keys()]
  throw new IommulatorError(
    'ERR_OPERATION',
    `no device is called "${name}"${didYouMean(name, known)}; known: ${known.join(', ') || 'none'}`,
    { field: 'device' },
  )
}
