import type { MachineDescription } from './description.ts'
import type { Machine, MachineOptions } from './machine.ts'
import { createPowernv } from './powernv/create-powernv.ts'
import { createPseries } from './pseries/create-pseries.ts'

/**
 * Wires a machine as it is described: a guest below QEMU (`pseries`), or a bare-metal POWER host (`powernv`).
 *
 * @throws IommulatorError ERR_MACHINE where the parts do not fit together, ERR_PROFILE for an unknown profile
 */
export function createMachine(description: MachineDescription, options: MachineOptions = {}): Machine {
  return description.kind === 'powernv'
    ? createPowernv(description, options)
    : createPseries(description, options)
}
