import {
  type PhbDescription,
  PSERIES_DEFAULTS,
  type PseriesDescription,
  ramEnd,
} from '../pseries/description.ts'
import { deviceDocument } from './device-document.ts'
import { amount, type DocumentMap, type DocumentValue, present, sameList, unless } from './document-value.ts'
import { virtioDocument } from './virtio-schema.ts'

function ramDocument({ ram }: PseriesDescription): DocumentValue {
  const [first, ...others] = ram
  const isPlain = first?.gpa === 0n && first.owner === PSERIES_DEFAULTS.owner && others.length === 0
  if (isPlain) return amount(first.bytes)
  return ram.map((r) => ({ gpa: r.gpa, bytes: amount(r.bytes), owner: r.owner }))
}

function phbDocument(phb: PhbDescription, at: number): DocumentMap {
  const sizes = phb.pageShifts.map((shift) => amount(1n << BigInt(shift)))
  return present({
    name: phb.name,
    index: unless(phb.index, at),
    buid: unless(phb.buid, PSERIES_DEFAULTS.buid + BigInt(phb.index)),
    pageSizes: sameList(phb.pageShifts, PSERIES_DEFAULTS.pageShifts) ? undefined : sizes,
    ddw: unless(phb.ddw, phb.bare === undefined && PSERIES_DEFAULTS.ddw),
    maxWindowEntries: unless(phb.maxWindowEntries, PSERIES_DEFAULTS.maxWindowEntries),
    listener: unless(phb.listener, PSERIES_DEFAULTS.listener),
    bare: phb.bare && { gpa: phb.bare.gpa, bytes: amount(phb.bare.bytes) },
    devices: phb.devices.length === 0 ? undefined : phb.devices.map(deviceDocument),
    virtio: virtioDocument(phb.virtio),
  })
}

/** A pseries machine as the plain value that a scenario file holds. */
export function pseriesDocument(m: PseriesDescription): DocumentMap {
  const vio = m.vio.map((v) => {
    const window = unless(v.windowBytes, PSERIES_DEFAULTS.vioWindowBytes)
    return present({
      name: v.name,
      reg: BigInt(v.reg),
      window: window === undefined ? undefined : amount(window),
    })
  })
  return present({
    kind: m.kind,
    profile: m.profile,
    ram: ramDocument(m),
    maxRam: m.maxRamBytes === ramEnd(m.ram) ? undefined : amount(m.maxRamBytes),
    pmemory: unless(m.hasPmemory, false),
    pageShift: m.pageShift,
    hostPageShift: unless(m.hostPageShift, PSERIES_DEFAULTS.hostPageShift),
    cpus: unless(m.cpus, PSERIES_DEFAULTS.cpus),
    hypertas: sameList(m.hypertas, PSERIES_DEFAULTS.hypertas) ? undefined : m.hypertas,
    bootOptions: m.bootOptions.length === 0 ? undefined : m.bootOptions,
    phbs: m.phbs.map(phbDocument),
    vio: vio.length === 0 ? undefined : vio,
  })
}
