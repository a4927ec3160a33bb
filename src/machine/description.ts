import { IommulatorError } from '../bits/errors.ts'
import type { DescriptionConflict } from './description-parts.ts'
import {
  completePowernv,
  type PowernvDescription,
  type PowernvInput,
  powernvConflicts,
} from './powernv/description.ts'
import {
  completePseries,
  type PseriesDescription,
  type PseriesInput,
  pseriesConflicts,
} from './pseries/description.ts'
import { completeQ35, type Q35Description, type Q35Input, q35Conflicts } from './q35/description.ts'
import { completeX86, type X86Description, type X86Input, x86Conflicts } from './x86/description.ts'

/** Everything that is fixed about a machine before its first operation. Plain data, complete: defaults are applied. */
export type MachineDescription = PseriesDescription | PowernvDescription | Q35Description | X86Description

/** A description as a person writes it: what is left out is the default. Without a kind it is a pseries. */
export type MachineInput = PseriesInput | PowernvInput | Q35Input | X86Input

/** A description with its defaults, not yet checked for conflicts. */
export function completeMachine(given?: PseriesInput): PseriesDescription
export function completeMachine(given: PowernvInput): PowernvDescription
export function completeMachine(given: Q35Input): Q35Description
export function completeMachine(given: X86Input): X86Description
export function completeMachine(given: MachineInput): MachineDescription
export function completeMachine(given: MachineInput = {}): MachineDescription {
  if (given.kind === 'q35') return completeQ35(given)
  if (given.kind === 'x86') return completeX86(given)
  return given.kind === 'powernv' ? completePowernv(given) : completePseries(given)
}

/** All conflicts of a complete description: what two of its parts claim, and what cannot stand together. */
export function machineConflicts(machine: MachineDescription): DescriptionConflict[] {
  if (machine.kind === 'q35') return q35Conflicts(machine)
  if (machine.kind === 'x86') return x86Conflicts(machine)
  return machine.kind === 'powernv' ? powernvConflicts(machine) : pseriesConflicts(machine)
}

/**
 * A complete machine description: what is left out is QEMU 7.2's default (kind `pseries`), or that of a POWER9 host
 * (kind `powernv`), that of an x86 guest with a VT-d unit (kind `q35`), or an x86
 * machine without a hypervisor (kind `x86`).
 *
 * @throws IommulatorError ERR_MACHINE where two parts claim the same name, number, address or memory
 * @example describeMachine({ ram: 1n << 32n, phbs: [{ devices: [{ name: 'edu0', kind: 'edu', slot: 4 }] }] })
 * @example describeMachine({ kind: 'powernv', phbs: [{ pes: [{ devices: [{ name: 'edu0', kind: 'edu' }] }] }] })
 * @example describeMachine({ kind: 'q35', iommu: { deviceIotlb: true }, virtio: [{ name: 'net0', hasAts: true }] })
 */
export function describeMachine(given?: PseriesInput): PseriesDescription
export function describeMachine(given: PowernvInput): PowernvDescription
export function describeMachine(given: Q35Input): Q35Description
export function describeMachine(given: X86Input): X86Description
export function describeMachine(given: MachineInput): MachineDescription
export function describeMachine(given: MachineInput = {}): MachineDescription {
  const machine = completeMachine(given)
  const [first] = machineConflicts(machine)
  if (first !== undefined) {
    throw new IommulatorError('ERR_MACHINE', first.message, { field: first.path.join('.') })
  }
  return machine
}
