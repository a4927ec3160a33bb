import { resolveProfile } from '../../src/bits/errata.ts'
import { Journal } from '../../src/bits/state.ts'
import { put } from '../../src/bits/word.ts'
import { Life } from '../../src/hw/life.ts'
import { PRESETS } from '../../src/hw/vtd/capabilities.ts'
import { ECAP, VTD_REGISTERS } from '../../src/hw/vtd/register-format.ts'
import { RemappingUnit } from '../../src/hw/vtd/remapping-unit.ts'
import { CpuStores } from '../../src/kernel/intel-iommu/cpu-stores.ts'
import { DomainTables } from '../../src/kernel/intel-iommu/domain-tables.ts'
import { VTD_ERRATA } from '../../src/kernel/qemu/vtd-errata.ts'
import { VtdNotifier } from '../../src/kernel/qemu/vtd-notifier.ts'
import { VtdTables } from '../../src/kernel/qemu/vtd-tables.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'
import { FlatMemory } from './flat-memory.ts'

/** Root table, context table of bus 1, and where the tables of domains begin. */
export const ROOT_TABLE = 0x10
export const CONTEXT_TABLE = 0x11
const FIRST_TABLE = 0x20
/** The page of the invalidation queue. */
const QUEUE = 0x6
const AT = {
  command: VTD_REGISTERS.GCMD.offset,
  root: VTD_REGISTERS.RTADDR.offset,
  faults: VTD_REGISTERS.FSTS.offset,
  head: VTD_REGISTERS.IQH.offset,
  tail: VTD_REGISTERS.IQT.offset,
  queue: VTD_REGISTERS.IQA.offset,
} as const
const GCMD = { TE: 1n << 31n, SRTP: 1n << 30n, QIE: 1n << 26n } as const
/** Bus 1, device 0: behind a root port. */
export const SOURCE = 0x0100
/** Where a wait descriptor writes. */
export const STATUS = 0x5000n
export const DOMAIN = 5

export interface VtdWorldOptions {
  readonly profile?: string
  readonly addressBits?: number
  readonly hasDeviceTlb?: boolean
  readonly hasSnoopControl?: boolean
  readonly followsAts?: boolean
  readonly memoryBytes?: number
}

/** A word of memory, least significant byte first. */
export function storeWord(memory: FlatMemory, address: number, word: bigint): void {
  new DataView(memory.bytes.buffer).setBigUint64(address, BigInt.asUintN(64, word), true)
}

/** A unit with one device, its tables in a small memory, and what a listener of the device hears. */
export function vtdWorld(options: VtdWorldOptions = {}) {
  const { profile = 'intended', addressBits = 39, hasDeviceTlb = true, ...rest } = options
  const memory = new FlatMemory(rest.memoryBytes ?? 1 << 20)
  const journal = new Journal()
  journal.on = true
  const log = new RecordLog({ keepRecords: 1 << 14 })
  const stage = new Stage(log)
  const life = new Life(stage, journal)
  const errata = resolveProfile(VTD_ERRATA, profile)
  // QEMU takes device-TLB descriptors also where its unit has no such thing.
  const takesAny = profile.startsWith('qemu-7') ? 'D13' : profile.startsWith('qemu-') ? 'D88' : ''
  const resolved = { ...errata, has: (id: string) => id === takesAny || errata.has(id) }
  const preset = addressBits === 39 ? PRESETS.qemu : PRESETS['qemu-48']
  const bit = (on: boolean) => (on ? 1n : 0n)
  const withDt = put(ECAP, preset.ecap, 'DT', bit(hasDeviceTlb))
  const ecap = put(ECAP, withDt, 'SC', bit(rest.hasSnoopControl ?? false))
  const unit = new RemappingUnit(
    { name: 'vtd0', memory, ...preset, ecap },
    { stage, journal, life, profile: resolved },
  )
  unit.deviceTlbs = { invalidate: () => 'done', respond: () => {} }
  const source = { memory, features: unit.features, profile: resolved, root: unit.root }
  const qemuTables = new VtdTables(source)
  const notifier = new VtdNotifier('vtd0', qemuTables, { stage, journal, life, profile: resolved })
  unit.watcher = notifier
  let tail = 0
  /** A descriptor goes through the queue: whether the unit carried it out, or refused it. */
  const submit = (lo: bigint, hi: bigint): 'done' | 'refused' => {
    storeWord(memory, QUEUE * 4096 + tail, lo)
    storeWord(memory, QUEUE * 4096 + tail + 8, hi)
    const at = tail
    tail = (tail + 16) % 4096
    unit.mmioWrite(AT.tail, 8, BigInt(tail))
    if (unit.mmioRead(AT.head, 8) === BigInt(tail)) return 'done'
    // The next one takes its place.
    tail = at
    unit.mmioWrite(AT.tail, 8, BigInt(tail))
    unit.mmioWrite(AT.faults, 4, 0x10n)
    return 'refused'
  }
  const device = notifier.addDevice({ name: 'net0', source: SOURCE, followsAts: rest.followsAts ?? true })
  const heard: [iova: bigint, bytes: bigint][] = []
  // Written by the wait descriptor only: what is heard before finds it 0.
  const early: number[] = []
  const listener = {
    unmapped(iova: bigint, last: bigint) {
      heard.push([iova, last - iova + 1n])
      early.push(memory.bytes[Number(STATUS)] as number)
    },
  }
  let next = FIRST_TABLE
  const pages = { stores: new CpuStores(memory, journal), take: () => next++, give: () => undefined }
  const tables = new DomainTables(pages, next++, {
    domain: DOMAIN,
    isFirstLevel: false,
    levels: addressBits === 39 ? 3 : 4,
    largestLevel: 3,
    isSnooped: true,
    flushesLines: () => true,
    tableGone: () => undefined,
  })
  storeWord(memory, ROOT_TABLE * 4096 + (SOURCE >> 8) * 16, (BigInt(CONTEXT_TABLE) << 12n) | 1n)
  /** The context entry of the device. */
  const attach = (domain = DOMAIN, type = 0) => {
    const at = CONTEXT_TABLE * 4096 + (SOURCE & 0xff) * 16
    storeWord(memory, at, (BigInt(tables.root) << 12n) | BigInt(type << 2) | 1n)
    storeWord(memory, at + 8, (BigInt(domain) << 8n) | (addressBits === 39 ? 1n : 2n))
  }
  const detach = () => storeWord(memory, CONTEXT_TABLE * 4096 + (SOURCE & 0xff) * 16, 0n)
  const setRoot = (page: number) => {
    unit.mmioWrite(AT.root, 8, BigInt(page) << 12n)
    unit.mmioWrite(AT.command, 4, GCMD.QIE | GCMD.SRTP)
  }
  unit.mmioWrite(AT.queue, 8, BigInt(QUEUE) << 12n)
  setRoot(ROOT_TABLE)
  unit.mmioWrite(AT.command, 4, GCMD.QIE | GCMD.TE)
  attach()
  return {
    memory,
    journal,
    log,
    life,
    unit,
    submit,
    qemuTables,
    notifier,
    device,
    listener,
    tables,
    attach,
    setRoot,
    detach,
    early,
    /** What was heard since the last time. */
    take: () => heard.splice(0),
    map: (iova: bigint, target: bigint, count = 1, perm = 3) => {
      const page = Number(iova >> 12n)
      tables.map(page, page + count, Number(target >> 12n), perm)
    },
    unmap: (iova: bigint, count = 1) => {
      const page = Number(iova >> 12n)
      tables.unmap(page, page + count)
    },
    wait: () => submit(0x0000_0002_0000_0025n, STATUS),
    status: () => memory.bytes[Number(STATUS)] as number,
  }
}

/** Descriptors by what they ask for. */
export const DSC = {
  contextAll: [0x11n, 0n],
  contextDevice: [0x31n | (BigInt(SOURCE) << 32n), 0n],
  iotlbAll: [0xd2n, 0n],
  iotlbDomain: [0xe2n | (BigInt(DOMAIN) << 16n), 0n],
  pages: (address: bigint, addressMask = 0) =>
    [0xf2n | (BigInt(DOMAIN) << 16n), address | BigInt(addressMask)] as const,
  deviceTlb: (hi: bigint) => [0x3n | (BigInt(SOURCE) << 32n), hi] as const,
} as const
