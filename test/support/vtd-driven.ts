import type { Answer, Value } from '../../src/bits/answer.ts'
import { Journal } from '../../src/bits/state.ts'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { Life } from '../../src/hw/life.ts'
import {
  ADDRESS_TYPE,
  type DeviceTlbEnd,
  NO_PASID,
  newRequest,
  PERM,
  type VtdInvalidation,
} from '../../src/hw/vtd/ports.ts'
import { RemappingUnit } from '../../src/hw/vtd/remapping-unit.ts'
import type { GuestDevice } from '../../src/kernel/intel-iommu/guest-device.ts'
import { iommuHandlers } from '../../src/kernel/intel-iommu/handlers.ts'
import type { UnitPort } from '../../src/kernel/intel-iommu/unit-port.ts'
import { VtdDriver } from '../../src/kernel/intel-iommu/vtd-driver.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'
import { FlatMemory } from './flat-memory.ts'

const FIRST_PAGE = 0x100
const PAGES = 0x300

/** A device that keeps translations, as long as it is told nothing and ATS is on. */
class Device implements GuestDevice {
  readonly otherNames: readonly string[] = []
  readonly capabilities = { pasids: 0x100 }
  readonly name: string
  readonly source: number
  readonly offersAts: boolean
  hasAts = false
  /** Pages of memory by PASID and page; what may be done there. */
  readonly tlb = new Map<string, { readonly page: number; readonly perm: number }>()

  constructor(name: string, source: number, offersAts: boolean) {
    this.name = name
    this.source = source
    this.offersAts = offersAts
  }

  setAts(on: boolean): void {
    this.hasAts = on
    this.tlb.clear()
  }

  setPasid(): void {}

  forget({ address, order, pasid }: VtdInvalidation): DeviceTlbEnd {
    const first = Number(address >> 12n)
    for (const key of [...this.tlb.keys()]) {
      const [of, page = 0] = key.split(' ').map(Number)
      const isCovered = order >= 52 || Math.floor(page / 2 ** order) === Math.floor(first / 2 ** order)
      if (of === pasid && isCovered) this.tlb.delete(key)
    }
    return 'done'
  }
}

/** A driver and a whole unit over one memory, and two devices: dev0 with ATS, dev1 without. */
export function drivenWorld(options: { cap: bigint; ecap: bigint; scalable: boolean }) {
  const memory = new FlatMemory((FIRST_PAGE + PAGES) * 4096)
  const journal = new Journal()
  const log = new RecordLog({ keepRecords: 1 })
  const stage = new Stage(log)
  const life = new Life(stage, journal)
  const profile = { name: 'intended', ids: [], has: () => false }
  const unit = new RemappingUnit(
    { name: 'vtd0', memory, cap: options.cap, ecap: options.ecap, hostAddressBits: 39 },
    { stage, journal, life, profile },
  )
  const devices = [new Device('dev0', 0x0018, true), new Device('dev1', 0x0420, false)]
  unit.deviceTlbs = {
    invalidate: (what) => devices.find((d) => d.source === what.source)?.forget(what) ?? 'no-device',
    respond: () => undefined,
  }
  const port: UnitPort = {
    name: 'vtd0',
    memory,
    mmioRead: (offset, bytes) => unit.mmioRead(offset, bytes),
    mmioWrite: (offset, bytes, value) => unit.mmioWrite(offset, bytes, value),
  }
  const guest = new Life(stage, journal, 'guest')
  const area = { first: FIRST_PAGE, pages: PAGES }
  const driver = new VtdDriver(
    { port, hostAddressBits: 39, area, wantsScalable: options.scalable },
    { stage, journal, life: guest, profile },
    devices,
  )
  const handlers = iommuHandlers(driver, { stage, lives: [life, guest] })
  const iommu = (call: string, args: Readonly<Record<string, Value>> = {}): Answer => {
    const handler = handlers.find((h) => h.decl.name === call)
    if (handler === undefined) throw new Error(`no call ${call}`)
    const initial = Object.entries(handler.decl.args).flatMap(([name, { initial }]) =>
      initial === undefined ? [] : [[name, initial] as const],
    )
    return handler.run({ ...Object.fromEntries(initial), ...args })
  }
  const request = newRequest()
  const ask = (source: number, pasid: number, page: number, need: number, type: number) => {
    const address = BigInt(page) << 12n
    Object.assign(request, { source, pasid, need, hi: hiOf(address), lo: loOf(address), addressType: type })
    return (
      unit.translate(request) === 0 &&
      (type === ADDRESS_TYPE.TRANSLATION_REQUEST || unit.translation.perm !== 0)
    )
  }
  /** The 4 KiB page that a DMA of a device reaches; -1 where it is blocked. */
  const dma = (device: Device, page: number, isWrite: boolean, pasid = NO_PASID): number => {
    const need = isWrite ? PERM.WRITE : PERM.READ
    if (device.hasAts) {
      const key = `${pasid} ${page}`
      if (!device.tlb.has(key)) {
        const isKnown = ask(device.source, pasid, page, need, ADDRESS_TYPE.TRANSLATION_REQUEST)
        const { page: target, perm } = unit.translation
        if (isKnown && perm !== 0) device.tlb.set(key, { page: target, perm })
      }
      const known = device.tlb.get(key)
      return known !== undefined && (known.perm & need) === need ? known.page : -1
    }
    return ask(device.source, pasid, page, need, ADDRESS_TYPE.UNTRANSLATED) ? unit.translation.page : -1
  }
  return { unit, driver, iommu, devices, dma, life, guest }
}
