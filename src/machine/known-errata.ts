import { resolveProfile } from '../bits/errata.ts'
import { ERRATA } from './registry.ts'

/**
 * The errata of a profile that a rule is known to find: a finding of the rule may be one of them, and then it is the
 * kernel's or QEMU's fault.
 *
 * @throws IommulatorError ERR_PROFILE
 * @example knownErrata('linux-6.12.95')('orphaned-region') // ['X1', ...]
 */
export function knownErrata(profile: string): (rule: string) => readonly string[] {
  const { has } = resolveProfile(ERRATA, profile)
  return (rule) => ERRATA.filter(({ id, finding }) => finding === rule && has(id)).map(({ id }) => id)
}
