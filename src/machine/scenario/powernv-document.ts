import { DEVICE_KINDS } from '../description-parts.ts'
import {
  type IodaPhbDescription,
  type PeDescription,
  type PeDeviceDescription,
  POWERNV_DEFAULTS,
  type PowernvDescription,
} from '../powernv/description.ts'
import { deviceDocument } from './device-document.ts'
import { amount, type DocumentMap, present, unless } from './document-value.ts'
import { guestDocument } from './guest-document.ts'

const hostDeviceDocument = (d: PeDeviceDescription): DocumentMap => ({
  ...deviceDocument(d),
  ...present({
    pciId: unless(d.pciId, DEVICE_KINDS[d.kind].pciId),
    driver:
      d.driver &&
      present({
        name: d.driver.name,
        errorDetected: d.driver.errorDetected,
        mmioEnabled: d.driver.mmioEnabled,
        slotReset: d.driver.slotReset,
        resume: d.driver.hasResume,
      }),
  }),
})

const peDocument = (pe: PeDescription, isP7: boolean): DocumentMap =>
  present({
    pe: pe.pe,
    group: pe.group,
    bus: pe.bus,
    firstSegment: isP7 ? pe.firstSegment : undefined,
    segments: isP7 ? pe.segments : undefined,
    kernelDriver: unless(pe.hasKernelDriver, false),
    devices: pe.devices.length === 0 ? undefined : pe.devices.map(hostDeviceDocument),
  })

const phbDocument = (phb: IodaPhbDescription): DocumentMap =>
  present({
    name: phb.name,
    platform: phb.platform,
    domain: phb.domain,
    freeze: unless(phb.freeze, POWERNV_DEFAULTS.freeze),
    errorInterrupt: unless(phb.errorInterrupt, POWERNV_DEFAULTS.errorInterrupt),
    cacheEntries: phb.cacheEntries,
    pageSizes: phb.pageShifts?.map((shift) => amount(1n << BigInt(shift))),
    killsWholePe: phb.killsWholePe,
    m32Base: unless(phb.m32Base, POWERNV_DEFAULTS.m32Base),
    pes: phb.pes.map((pe) => peDocument(pe, phb.platform === 'P7IOC')),
  })

/** A POWER host as the plain value that a scenario file holds. */
export const powernvDocument = (m: PowernvDescription): DocumentMap =>
  present({
    kind: m.kind,
    profile: m.profile,
    ram: amount(m.ramBytes),
    hostPageShift: unless(m.hostPageShift, POWERNV_DEFAULTS.hostPageShift),
    cpus: unless(m.cpus, POWERNV_DEFAULTS.cpus),
    eeh: unless(m.hasEeh, POWERNV_DEFAULTS.hasEeh),
    tickMs: unless(m.tickMs, POWERNV_DEFAULTS.tickMs),
    iotlbEntries: unless(m.iotlbEntries, POWERNV_DEFAULTS.iotlbEntries),
    processes: m.processes.map((p) => {
      const memlock = unless(p.memlockBytes, POWERNV_DEFAULTS.memlockBytes)
      return present({
        name: p.name,
        memlock: memlock === undefined ? undefined : amount(memlock),
        ipcLock: unless(p.hasIpcLock, POWERNV_DEFAULTS.hasIpcLock),
      })
    }),
    phbs: m.phbs.map(phbDocument),
    guest: m.guest && guestDocument(m.guest),
    inject: m.inject && present({ ...m.inject }),
  })
