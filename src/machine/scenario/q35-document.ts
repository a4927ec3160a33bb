import {
  completeQ35,
  Q35_DEFAULTS,
  type Q35Description,
  type VtdDeviceDescription,
} from '../q35/description.ts'
import { amount, type DocumentMap, present, unless } from './document-value.ts'

/** An x86 machine as the plain value that a scenario file holds. */
export function q35Document(m: Q35Description): DocumentMap {
  const { name, preset, awBits, cachingMode, deviceIotlb, snoopControl, driver } = m.iommu
  const initial = Q35_DEFAULTS.iommu
  const iommu = present({
    name: unless(name, initial.name),
    preset,
    awBits: unless(awBits, initial.awBits),
    cachingMode: unless(cachingMode, initial.cachingMode),
    deviceIotlb: unless(deviceIotlb, initial.deviceIotlb),
    snoopControl: unless(snoopControl, initial.snoopControl),
    cap: m.iommu.cap,
    ecap: m.iommu.ecap,
    hostAddressBits: m.iommu.hostAddressBits,
    driver: unless(driver, initial.driver),
  })
  const usual = completeQ35({ kind: 'q35', ramBytes: m.ramBytes }).tables
  const isUsual = m.tables.gpa === usual.gpa && m.tables.bytes === usual.bytes
  return present({
    kind: m.kind,
    profile: m.profile,
    ram: amount(m.ramBytes),
    cpus: unless(m.cpus, Q35_DEFAULTS.cpus),
    tables: isUsual ? undefined : { gpa: m.tables.gpa, bytes: amount(m.tables.bytes) },
    iotlbEntries: unless(m.iotlbEntries, Q35_DEFAULTS.iotlbEntries),
    iommu: Object.keys(iommu).length === 0 ? undefined : iommu,
    virtio: m.virtio.map((d) =>
      present({
        name: d.name,
        bus: d.bus,
        slot: unless(d.slot, 0),
        function: unless(d.function, 0),
        ats: unless(d.hasAts, false),
      }),
    ),
    devices: m.devices.length === 0 ? undefined : m.devices.map(busDeviceDocument),
  })
}

/** A device with a DMA engine of its own, as a scenario file holds it. */
export function busDeviceDocument(d: VtdDeviceDescription): DocumentMap {
  const isEndpoint = d.kind === 'endpoint'
  const { device } = Q35_DEFAULTS
  return present({
    name: d.name,
    kind: d.kind,
    bus: unless(d.bus, 0),
    slot: d.slot,
    function: unless(d.function, 0),
    dmaMask: unless(d.dmaMask, device.dmaMask),
    ats: unless(d.hasAts, isEndpoint),
    tlbEntries: d.tlbEntries,
    pageRequests: unless(d.pageRequests, isEndpoint ? device.pageRequests : 0),
    pasidBits: unless(d.pasidBits, isEndpoint ? device.pasidBits : 0),
    execute: unless(d.canExecute, isEndpoint),
    privileged: unless(d.canBePrivileged, isEndpoint),
    sharesGroup: unless(d.sharesGroup, false),
  })
}
