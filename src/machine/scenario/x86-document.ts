import { completeX86, X86_DEFAULTS, type X86Description } from '../x86/description.ts'
import { amount, type DocumentMap, present, unless } from './document-value.ts'
import { busDeviceDocument } from './q35-document.ts'

/** An x86 machine without a hypervisor as the plain value that a scenario file holds. */
export function x86Document(m: X86Description): DocumentMap {
  const initial = X86_DEFAULTS.iommu
  const iommu = present({
    name: unless(m.iommu.name, initial.name),
    preset: unless(m.iommu.preset, initial.preset),
    cap: m.iommu.cap,
    ecap: m.iommu.ecap,
    hostAddressBits: m.iommu.hostAddressBits,
    driver: unless(m.iommu.driver, initial.driver),
  })
  const usual = completeX86({ kind: 'x86', ramBytes: m.ramBytes }).tables
  const isUsual = m.tables.gpa === usual.gpa && m.tables.bytes === usual.bytes
  return present({
    kind: m.kind,
    profile: m.profile,
    ram: amount(m.ramBytes),
    cpus: unless(m.cpus, X86_DEFAULTS.cpus),
    tables: isUsual ? undefined : { gpa: m.tables.gpa, bytes: amount(m.tables.bytes) },
    iommu: Object.keys(iommu).length === 0 ? undefined : iommu,
    devices: m.devices.length === 0 ? undefined : m.devices.map(busDeviceDocument),
    processes: m.processes.length === 0 ? undefined : m.processes.map(({ name }) => ({ name })),
  })
}
