import type { Clock } from '../../bits/clock.ts'
import { U64_MAX } from '../../bits/u64.ts'
import type { BusMaster } from '../../hw/bus-master.ts'
import { Edu } from '../../hw/edu.ts'
import type { Life } from '../../hw/life.ts'
import type { DeviceTlbs } from '../../hw/vtd-devices/device-tlbs.ts'
import { Endpoint } from '../../hw/vtd-devices/endpoint.ts'
import type { VtdUnitPort } from '../../hw/vtd-devices/unit-port.ts'
import { VtdDmaSpace } from '../../hw/vtd-devices/vtd-dma-space.ts'
import type { GuestDevice } from '../../kernel/intel-iommu/guest-device.ts'
import type { BusMemory } from '../../memory/ports.ts'
import type { Machine } from '../machine.ts'
import { sourceOf, type VtdDeviceDescription } from './description.ts'

/** What devices with engines of their own stand on. */
export interface DeviceParts {
  readonly machine: Machine
  readonly unit: VtdUnitPort
  readonly memory: BusMemory
  readonly tlbs: DeviceTlbs
  readonly clock: Clock
  readonly life: Life
}

/** A device, as those who use it know it. */
export interface WiredDevice {
  readonly master: BusMaster & { elapse(): void }
  /** Undefined where it has neither ATS nor PRI nor PASIDs. */
  readonly endpoint: Endpoint | undefined
  readonly guest: GuestDevice
}

/** A device of the description, below its unit. */
export function wireDevice(d: VtdDeviceDescription, parts: DeviceParts): WiredDevice {
  const { machine, unit, memory, tlbs, clock, life } = parts
  const { stage, journal, profile, log } = machine
  const source = sourceOf(d)
  const { name, dmaMask, sharesGroup } = d
  log.emit('device.add', null, { device: name, unit: unit.name, mask: d.kind === 'edu' ? dmaMask : U64_MAX })
  const space = new VtdDmaSpace(source, { unit, memory, stage, profile })
  const known = { name, otherNames: [], source }
  if (d.kind === 'edu') {
    const master = new Edu({ name, space, dmaMask }, { stage, journal, life, profile, clock })
    return {
      master,
      endpoint: undefined,
      guest: { ...known, offersAts: false, capabilities: { sharesGroup }, setAts: () => undefined },
    }
  }
  const endpoint = new Endpoint(
    {
      name,
      source,
      ats: d.hasAts ? { ...(d.tlbEntries !== undefined && { entries: d.tlbEntries }) } : undefined,
      pri: d.pageRequests > 0 ? { requests: d.pageRequests } : undefined,
      pasid:
        d.pasidBits > 0
          ? { bits: d.pasidBits, execute: d.canExecute, privileged: d.canBePrivileged }
          : undefined,
    },
    { unit, space, stage, journal, clock },
  )
  tlbs.add(source, endpoint)
  const guest: GuestDevice = {
    ...known,
    offersAts: d.hasAts,
    capabilities: {
      hasRequests: d.pageRequests > 0,
      pasids: d.pasidBits > 0 ? 2 ** d.pasidBits : 0,
      sharesGroup,
    },
    setAts: (on) => endpoint.setAts(on),
    setRequests: (on) => (on ? endpoint.pages?.enable() : endpoint.pages?.disable()),
    setPasid: (on) => endpoint.setPasid(on, d.canExecute, d.canBePrivileged),
  }
  return { master: endpoint, endpoint, guest }
}
