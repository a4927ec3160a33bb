import type { MachineDescription } from './description.ts'
import type { Machine, MachineOptions } from './machine.ts'
import { createPowernv } from './powernv/create-powernv.ts'
import { createPseries } from './pseries/create-pseries.ts'
import { createQ35 } from './q35/create-q35.ts'
import { createX86 } from './x86/create-x86.ts'

/**
 * Wires a machine as it is described: a guest below QEMU (`pseries`, `q35`), or hardware without a hypervisor (`powernv`, `x86`).
 *
 * @throws IommulatorError ERR_MACHINE where the parts do not fit together, ERR_PROFILE for an unknown profile
 */
export function createMachine(description: MachineDescription, options: MachineOptions = {}): Machine {
  if (description.kind === 'q35') return createQ35(description, options)
  if (description.kind === 'x86') return createX86(description, options)
  return description.kind === 'powernv'
    ? createPowernv(description, options)
    : createPseries(description, options)
}
