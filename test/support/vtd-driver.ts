import type { Answer, Value } from '../../src/bits/answer.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import { Journal } from '../../src/bits/state.ts'
import { Life } from '../../src/hw/life.ts'
import type { DeviceCapabilities, GuestDevice } from '../../src/kernel/intel-iommu/guest-device.ts'
import { iommuHandlers } from '../../src/kernel/intel-iommu/handlers.ts'
import { VtdDriver } from '../../src/kernel/intel-iommu/vtd-driver.ts'
import { ERRATA } from '../../src/machine/registry.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'
import { FakeVtdUnit } from './fake-vtd-unit.ts'

/** Capability registers: QEMU's, and a unit that has all that the driver knows. */
export const CAP = {
  qemu: 0x00d2_008c_2226_0206n,
  /** 48 and 57 bits of both levels, pages of 1 GiB, PSI, drains. */
  modern: 0x10d2_008c_223e_0c06n | (1n << 56n) | (3n << 34n),
} as const
export const BIT = {
  /** CAP */
  RWBF: 1n << 4n,
  PLMR: 1n << 5n,
  CM: 1n << 7n,
  PSI: 1n << 39n,
  ESRTPS: 1n << 63n,
  /** ECAP */
  C: 1n,
  QI: 2n,
  DT: 4n,
  PT: 1n << 6n,
  PRS: 1n << 29n,
  PASID: 1n << 40n,
  DIT: 1n << 41n,
  PDS: 1n << 42n,
  SMTS: 1n << 43n,
  SLTS: 1n << 46n,
  FLTS: 1n << 47n,
  SMPWCS: 1n << 48n,
} as const
export const ECAP = {
  qemu: 0xf0_0f4an,
  /** Queue, coherent, device-TLBs, pass-through, scalable mode with both levels, PASIDs of 20 bits, page requests and their drain. */
  modern:
    0xf0_0f4an | 5n | (1n << 29n) | (1n << 40n) | (19n << 35n) | (3n << 42n) | (3n << 46n) | (1n << 48n),
} as const

export interface DriverWorldOptions {
  readonly cap?: bigint
  readonly ecap?: bigint
  readonly scalable?: boolean
  readonly profile?: string
  /** Pages for tables. */
  readonly pages?: number
  readonly capabilities?: DeviceCapabilities
  /** Left as it is where false. */
  readonly starts?: boolean
}

const FIRST_PAGE = 0x100

/** A driver with a fake unit, devices dev0 (0x0018, with ATS) and dev1 (0x0420), and the calls of the driver. */
export function driverWorld(options: DriverWorldOptions = {}) {
  const { cap = CAP.qemu, ecap = ECAP.qemu, scalable = false, profile = 'intended' } = options
  const unit = new FakeVtdUnit(cap, ecap)
  const journal = new Journal()
  journal.on = true
  const log = new RecordLog({ keepRecords: 1 << 14 })
  const stage = new Stage(log)
  const life = new Life(stage, journal, 'guest')
  const switched: string[] = []
  const device = (name: string, source: number, offersAts: boolean): GuestDevice => ({
    ...{ name, source, offersAts, otherNames: [] },
    ...(options.capabilities === undefined ? {} : { capabilities: options.capabilities }),
    setAts: (on) => switched.push(`${name} ATS ${on}`),
    setPasid: (on) => switched.push(`${name} PASID ${on}`),
    setRequests: (on) => switched.push(`${name} PRI ${on}`),
  })
  const driver = new VtdDriver(
    {
      port: unit,
      hostAddressBits: 48,
      area: { first: FIRST_PAGE, pages: options.pages ?? 512 },
      wantsScalable: scalable,
    },
    { stage, journal, life, profile: resolveProfile(ERRATA, profile) },
    [device('dev0', 0x0018, true), device('dev1', 0x0420, false)],
  )
  const handlers = iommuHandlers(driver, { stage, lives: [life] })
  const iommu = (call: string, args: Readonly<Record<string, Value>> = {}): Answer => {
    const handler = handlers.find((h) => h.decl.name === call)
    if (handler === undefined) throw new Error(`no call ${call}`)
    const initial = Object.entries(handler.decl.args).flatMap(([name, { initial }]) =>
      initial === undefined ? [] : [[name, initial] as const],
    )
    return handler.run({ ...Object.fromEntries(initial), ...args })
  }
  if (options.starts !== false) iommu('start')
  unit.take()
  return { unit, driver, iommu, journal, log, life, switched }
}
