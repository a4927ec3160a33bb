import type { Profile } from '../../src/bits/errata.ts'
import { Journal } from '../../src/bits/state.ts'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { Life } from '../../src/hw/life.ts'
import { PRESETS, type VtdPresetName } from '../../src/hw/vtd/capabilities.ts'
import {
  type ContextEntry,
  type DeviceTlbEnd,
  NO_PASID,
  newContextEntry,
  newPasidEntry,
  newRequest,
  newTranslation,
  type PageRequest,
  type PageResponse,
  type PasidEntry,
  PERM,
  PGTT,
  type VtdInvalidation,
  type VtdRequest,
} from '../../src/hw/vtd/ports.ts'
import type { VtdRegisterName } from '../../src/hw/vtd/register-format.ts'
import { RemappingUnit } from '../../src/hw/vtd/remapping-unit.ts'
import type { RootPointer, UnitTranslator } from '../../src/hw/vtd/unit-translator.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'
import { eventsOfLog } from './events.ts'
import { FlatMemory } from './flat-memory.ts'

/** Says what a test puts in, and notes what it is told. */
export class FakeTranslator implements UnitTranslator {
  readonly translation = newTranslation()
  readonly context: ContextEntry = {
    ...newContextEntry(),
    hasPasid: true,
    pasids: 2 ** 20,
    hasPageRequests: true,
  }
  readonly pasid: PasidEntry = { ...newPasidEntry(), type: PGTT.FIRST_LEVEL, domain: 9 }
  isWalkFault = true
  contextFault = 0
  pasidFault = 0
  readonly invalidated: VtdInvalidation[] = []
  drops = 0
  root: RootPointer | undefined
  #entries = 0

  translate() {
    return this.translation
  }
  findContext() {
    return this.contextFault
  }
  findPasid() {
    return this.pasidFault
  }
  silences() {
    return this.pasid.isSilent
  }
  invalidate(what: VtdInvalidation) {
    this.invalidated.push(what)
  }
  dropAll() {
    this.drops++
  }
  setRoot(root: RootPointer) {
    this.root = root
  }
  addSource() {}
  nextEntry() {
    return ++this.#entries
  }
}

export interface UnitWorldOptions {
  readonly preset?: VtdPresetName
  readonly cap?: bigint
  readonly ecap?: bigint
  readonly version?: number
  readonly errata?: readonly string[]
  /** It reads tables in memory, instead of asking the fake. */
  readonly hasTables?: boolean
  readonly memoryBytes?: number
}

export const QUEUE = 0x2_0000
export const STATUS = 0x5_0000
const MEMORY_BYTES = 1024 * 1024
export const GCMD = {
  TE: 0x8000_0000n,
  SRTP: 0x4000_0000n,
  QIE: 0x0400_0000n,
  IRE: 0x0200_0000n,
  SIRTP: 0x0100_0000n,
  CFI: 0x0080_0000n,
} as const

/** A unit over a fake translator or over tables in memory, with the registers by name. */
export function unitWorld(options: UnitWorldOptions = {}) {
  const preset = PRESETS[options.preset ?? 'qemu']
  const journal = new Journal()
  journal.on = true
  const log = new RecordLog({ journal })
  const stage = new Stage(log)
  const life = new Life(stage, journal)
  const errata = options.errata ?? []
  const profile: Profile = { name: 'test', ids: errata, has: (id) => errata.includes(id) }
  const memory = new FlatMemory(options.memoryBytes ?? MEMORY_BYTES)
  const translator = new FakeTranslator()
  const unit = new RemappingUnit(
    {
      name: 'vtd0',
      memory,
      cap: options.cap ?? preset.cap,
      ecap: options.ecap ?? preset.ecap,
      version: options.version ?? preset.version,
      hostAddressBits: preset.hostAddressBits,
      ...(options.hasTables === true ? {} : { translator: () => translator }),
    },
    { stage, journal, life, profile },
  )
  const messages: [address: bigint, data: number][] = []
  unit.msi = { send: (address, data) => messages.push([address, data]) }
  const view = new DataView(memory.bytes.buffer)
  const bytesOf = (name: VtdRegisterName): 4 | 8 => (WIDE.includes(name) ? 8 : 4)
  const write = (name: VtdRegisterName, value: bigint) =>
    unit.mmioWrite(unit.offsetOf(name), bytesOf(name), value)
  const read = (name: VtdRegisterName) => unit.mmioRead(unit.offsetOf(name), bytesOf(name))
  let tail = 0
  return {
    unit,
    memory,
    view,
    translator,
    messages,
    journal,
    log,
    life,
    stage,
    write,
    read,
    events: (prefix: string) => eventsOfLog(log, prefix),
    /** Words at an address, least significant byte first. */
    put: (address: number, words: readonly bigint[]) =>
      words.forEach((word, i) => {
        view.setBigUint64(address + i * 8, word, true)
      }),
    /** Switches the queue on: `wide` for descriptors of 256 bits. */
    startQueue: (isWide = false, order = 0n) => {
      write('IQT', 0n)
      write('IQA', BigInt(QUEUE) | (isWide ? 0x800n : 0n) | order)
      write('GCMD', GCMD.QIE)
      tail = 0
    },
    /** Puts descriptors behind those before, and writes the tail. */
    submit: (...descriptors: readonly (readonly bigint[])[]) => {
      for (const words of descriptors) {
        words.forEach((word, i) => {
          view.setBigUint64(QUEUE + tail + i * 8, word, true)
        })
        tail += words.length * 8
      }
      write('IQT', BigInt(tail))
    },
    request: (iova: bigint, more: Partial<VtdRequest> = {}): VtdRequest => ({
      ...newRequest(),
      source: 0x18,
      hi: hiOf(iova),
      lo: loOf(iova),
      ...more,
    }),
  }
}
export type UnitWorld = ReturnType<typeof unitWorld>

const WIDE: readonly VtdRegisterName[] = [
  'CAP',
  'ECAP',
  'RTADDR',
  'CCMD',
  'AFLOG',
  'PHMBASE',
  'PHMLIMIT',
  'IQH',
  'IQT',
  'IQA',
  'IQERCD',
  'IRTA',
  'PQH',
  'PQT',
  'PQA',
  'VCMD',
  'VCRSP',
  'VCCAP',
  'IVA',
  'IOTLB',
  'FRCD_LO',
  'FRCD_HI',
]

/** A device asks, and is blocked for a reason. */
export function fault(world: UnitWorld, reason: number, iova = 0x4020_1000n, more: Partial<VtdRequest> = {}) {
  world.translator.translation.fault = reason
  world.unit.translate(world.request(iova, more))
}

/** Devices that end invalidations as a test says. */
export function devices(world: UnitWorld, end: DeviceTlbEnd = 'done') {
  const seen: VtdInvalidation[] = []
  const responses: PageResponse[] = []
  const port = { end }
  world.unit.deviceTlbs = {
    invalidate: (what) => {
      seen.push(what)
      return port.end
    },
    respond: (response) => responses.push(response),
  }
  return { seen, responses, port }
}

export const pageRequest = (more: Partial<PageRequest> = {}): PageRequest => ({
  source: 0x310,
  pasid: 5,
  address: 0x7f12_3456_7000n,
  isRead: true,
  isWrite: true,
  isExecute: false,
  isPrivileged: false,
  group: 7,
  isLast: true,
  privateData: undefined,
  ...more,
})

export { NO_PASID, PERM }
