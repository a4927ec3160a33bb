import { completeQ35, Q35_DEFAULTS, type Q35Description } from '../q35/description.ts'
import { amount, type DocumentMap, present, unless } from './document-value.ts'

/** An x86 machine as the plain value that a scenario file holds. */
export function q35Document(m: Q35Description): DocumentMap {
  const { name, awBits, cachingMode, deviceIotlb, snoopControl } = m.iommu
  const initial = Q35_DEFAULTS.iommu
  const iommu = present({
    name: unless(name, initial.name),
    awBits: unless(awBits, initial.awBits),
    cachingMode: unless(cachingMode, initial.cachingMode),
    deviceIotlb: unless(deviceIotlb, initial.deviceIotlb),
    snoopControl: unless(snoopControl, initial.snoopControl),
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
  })
}
