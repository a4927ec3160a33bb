import type { Erratum } from '../../bits/errata.ts'
import type { MachineInput } from '../description.ts'
import { type Infer, tagged } from '../schema/schema.ts'
import { powernvInput, powernvSchema } from './powernv-schema.ts'
import { pseriesInput, pseriesSchema } from './pseries-schema.ts'
import { q35Input, q35Schema } from './q35-schema.ts'
import { x86Input, x86Schema } from './x86-schema.ts'

/** The machine of a scenario file; everything has a default, also its kind. */
export const machineSchema = (errata: readonly Erratum[]) =>
  tagged('the machine', {
    key: 'kind',
    keyWhat: 'kind of machine',
    cases: {
      pseries: pseriesSchema(errata),
      powernv: powernvSchema(errata),
      q35: q35Schema(errata),
      x86: x86Schema(errata),
    },
  })

type MachineDocument = Infer<ReturnType<typeof machineSchema>>

/** The description that a checked machine document stands for. */
export function machineInput(doc: MachineDocument): MachineInput {
  if (doc.kind === 'q35') return q35Input(doc)
  if (doc.kind === 'x86') return x86Input(doc)
  return doc.kind === 'powernv' ? powernvInput(doc) : pseriesInput(doc)
}
