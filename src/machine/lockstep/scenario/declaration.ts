import type { CallDecl, Verb } from '../../../bits/call.ts'
import type { MachineDescription } from '../../description.ts'
import { CALLS } from '../../registry.ts'

/** Hypercalls have two declarations: QEMU's, and the kernel's. */
const OTHER_LAYER: Readonly<Record<MachineDescription['kind'], string>> = {
  powernv: 'qemu',
  pseries: 'kvm',
  q35: 'kvm',
  x86: 'kvm',
}

/** The declaration of a call on a kind of machine. */
export const declarationOf = (
  kind: MachineDescription['kind'],
  verb: Verb,
  call: string,
): CallDecl | undefined =>
  CALLS.find((d) => d.verb === verb && d.name === call && d.layer !== OTHER_LAYER[kind])
