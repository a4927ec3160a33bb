import { hex } from '../../../bits/u64.ts'
import { type Q35Description, sourceOf, type VtdDescription, vtdShapeOf } from '../../q35/description.ts'
import { VTD_DEVICE_NAMES, VTD_RAM_BYTES, type VtdDeviceName, vtdPlaceRefusal } from '../vtd-step.ts'
import {
  PLAIN_VTD_UNIT,
  VTD_UNIT_MODES,
  type VtdUnitOptions,
  vtdCapabilities,
  vtdUnitRefusal,
} from '../vtd-unit-options.ts'
import { type LeftOut, ofMachine } from './plan.ts'

const EITHER = [false, true] as const

/** Every unit that options can ask for, those first that are nearest to a plain one. */
function* units(): Generator<VtdUnitOptions> {
  for (const mode of VTD_UNIT_MODES)
    for (const addressBits of [39, 48] as const)
      for (const hasFirstLevel1G of [true, false])
        for (const hasPassThrough of [true, false])
          for (const hasCachingMode of EITHER)
            for (const hasDeviceTlb of EITHER)
              for (const hasInterruptRemapping of EITHER)
                for (const hasSnoopControl of EITHER)
                  for (const hasPageRequests of EITHER)
                    yield {
                      ...{ mode, addressBits, hasCachingMode, hasDeviceTlb, hasPassThrough },
                      ...{ hasInterruptRemapping, hasSnoopControl, hasFirstLevel1G, hasPageRequests },
                    }
}

/** The options with which that QEMU has the described unit, or why there are none. */
export function vtdUnitOf(iommu: VtdDescription, version: string): VtdUnitOptions | string {
  const { cap, ecap, hostAddressBits } = vtdShapeOf(iommu)
  let why: string | undefined
  for (const unit of units()) {
    const has = vtdCapabilities(unit, version)
    if (unit.addressBits !== hostAddressBits || has.cap !== cap || has.ecap !== ecap) continue
    const refusal = vtdUnitRefusal(unit, version)
    if (refusal === undefined) return unit
    why ??= refusal
  }
  const registers = `CAP ${hex(cap)}, ECAP ${hex(ecap)} and addresses of ${hostAddressBits} bits`
  return why ?? `no options give the unit of QEMU ${version} ${registers}`
}

/** What the peer has of a scenario's machine. */
export interface Q35PeerMachine {
  readonly unit: VtdUnitOptions
  /** Devices of the scenario that the peer has, with what it calls them and their source-ids. */
  readonly devices: ReadonlyMap<string, { readonly called: VtdDeviceName; readonly source: number }>
  /** What it does not have. Empty where its answers are comparable. */
  readonly faults: readonly LeftOut[]
}

/** The machine of the peer for a scenario: its unit and its devices, as far as that QEMU can have them. */
export function q35PeerMachine(machine: Q35Description, version: string): Q35PeerMachine {
  const faults: LeftOut[] = []
  const say = (field: string, why: string) => faults.push(ofMachine(field, why))
  const { iommu, virtio, devices, ramBytes } = machine
  if (ramBytes !== BigInt(VTD_RAM_BYTES)) say('ram', `the peer has ${VTD_RAM_BYTES >> 20} MiB of memory`)
  if (iommu.driver !== 'none') say('iommu', 'the peer has no kernel that drives the unit: driver: none')
  const unit = vtdUnitOf(iommu, version)
  if (typeof unit === 'string') say('iommu', unit)
  if (virtio.length > 0) say('virtio', 'the peer has no virtio devices')
  const there = new Map<string, { readonly called: VtdDeviceName; readonly source: number }>()
  for (const [i, device] of devices.entries()) {
    const source = sourceOf(device)
    const called = VTD_DEVICE_NAMES[there.size]
    const why =
      device.kind !== 'edu'
        ? "the devices of the peer are QEMU's edu"
        : device.dmaMask !== 0xffff_ffff_ffff_ffffn
          ? 'the devices of the peer form every address'
          : vtdPlaceRefusal(source)
    if (why === undefined && called !== undefined) there.set(device.name, { called, source })
    else {
      const [path, what] = [['machine', 'devices', i] as const, `device ${device.name}`]
      faults.push({ path, what, why: why ?? `the peer has ${VTD_DEVICE_NAMES.length} devices` })
    }
  }
  return { unit: typeof unit === 'string' ? PLAIN_VTD_UNIT : unit, devices: there, faults }
}
