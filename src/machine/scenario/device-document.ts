import { DEVICE_KINDS, type DeviceKind } from '../description-parts.ts'
import { type DocumentMap, present, unless } from './document-value.ts'

/** A device in a slot as the plain value that a scenario file holds. */
export const deviceDocument = (d: {
  readonly name: string
  readonly kind: DeviceKind
  readonly slot: number
  readonly function: number
  readonly dmaMask: bigint
}): DocumentMap =>
  present({
    name: d.name,
    kind: d.kind,
    slot: d.slot,
    function: unless(d.function, 0),
    dmaMask: unless(d.dmaMask, DEVICE_KINDS[d.kind].dmaMask),
  })
