/** A fault reason as the model declares it. */
export interface VtdReason {
  readonly name: string
  readonly code: number
  /** The condition, as the manual numbers it: `LGN.2`, `SFL.2`. */
  readonly condition: string
  readonly mode: 'root' | 'legacy' | 'interrupt' | 'scalable'
  readonly isQualified: boolean
  readonly kernelText: string
  readonly doc: string
}

/** What the model knows of VT-d units, as far as their log lines need it. */
export interface VtdKnowledge {
  reason(code: number): VtdReason | undefined
  /** The bits of a fault status register that are set, by name. */
  status(value: number): readonly (readonly [name: string, doc: string])[]
  /** What the capability registers of a unit say, in words. */
  unit(cap: bigint, ecap: bigint): readonly string[]
}

/** Which table a walk failed at. */
export type VtdTable =
  | 'root-entry'
  | 'context-entry'
  | 'pasid-directory'
  | 'pasid-entry'
  | 'first-level'
  | 'second-level'
  | 'page-tables'
  | 'address-width'
  | 'interrupt-entry'

const BY_CONDITION: readonly (readonly [start: string, table: VtdTable])[] = [
  ['LRT', 'root-entry'],
  ['RTA', 'root-entry'],
  ['SRT', 'root-entry'],
  ['LCT', 'context-entry'],
  ['SCT', 'context-entry'],
  ['SPD', 'pasid-directory'],
  ['SPT', 'pasid-entry'],
  ['SFL', 'first-level'],
  ['LSL', 'second-level'],
  ['SSL', 'second-level'],
  ['LGN.1', 'address-width'],
  ['LGN', 'second-level'],
  ['SGN.1', 'first-level'],
  ['SGN.2', 'first-level'],
  ['SGN.4', 'address-width'],
  ['SGN.5', 'address-width'],
  ['SGN.7', 'second-level'],
  ['SGN', 'page-tables'],
  ['IR', 'interrupt-entry'],
]

/** The table of a reason; nothing where the number is no declared reason. */
export const tableOf = (reason: VtdReason | undefined): VtdTable | undefined =>
  reason === undefined ? undefined : BY_CONDITION.find(([start]) => reason.condition.startsWith(start))?.[1]

/** Where that is, for a device and its PASID. */
export function whereText(table: VtdTable, device: string, pasid: number | undefined): string {
  const bus = device.slice(0, device.lastIndexOf(':'))
  const ofPasid = pasid === undefined ? 'of requests without PASID' : `of PASID 0x${pasid.toString(16)}`
  switch (table) {
    case 'root-entry':
      return `the root entry of bus ${bus}`
    case 'context-entry':
      return `the context entry of ${device}`
    case 'pasid-directory':
      return `the PASID directory entry ${ofPasid}`
    case 'pasid-entry':
      return `the PASID table entry ${ofPasid}`
    case 'first-level':
      return 'the first-level page tables; the line does not say at which level'
    case 'second-level':
      return 'the second-level page tables; the line does not say at which level'
    case 'page-tables':
      return 'the page tables; the line does not say whether of the first or the second level'
    case 'address-width':
      return 'no table: the address itself is too large'
    case 'interrupt-entry':
      return 'the interrupt remapping table'
  }
}
