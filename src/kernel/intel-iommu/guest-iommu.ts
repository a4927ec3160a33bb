import type { RuleOf } from '../../bits/call.ts'
import { Held } from '../../bits/held.ts'
import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { floorLog2, hiOf, loOf, swap32 } from '../../bits/u64.ts'
import { encode } from '../../bits/word.ts'
import { CONTEXT_ENTRY_HI, CONTEXT_ENTRY_LO, ROOT_ENTRY } from '../../hw/vtd/tables/format.ts'
import type { DescriptorEnd, VtdUnit } from '../../hw/vtd/vtd-unit.ts'
import type { Stage } from '../../trace/stage.ts'
import { type Outcome, unknown } from '../outcome.ts'
import type {
  IOMMU_ATTACH,
  IOMMU_DETACH,
  IOMMU_FLUSH_DEVICE_TLB,
  IOMMU_FLUSH_PAGES,
  IOMMU_MAP,
  IOMMU_SUBMIT,
  IOMMU_UNMAP,
} from './calls.ts'
import {
  contextDescriptor,
  type Descriptor,
  deviceTlbDescriptor,
  domainDescriptor,
  pagesDescriptor,
  waitDescriptor,
} from './descriptors.ts'
import { DomainTables } from './domain-tables.ts'
import { TablePool } from './table-pages.ts'

const PAGE_SHIFT = 12n
const PAGE_MASK = (1n << PAGE_SHIFT) - 1n
const ENTRY_BYTES = 16
const DESCRIPTOR_BYTES = 16
/** The queue has one page. */
const QUEUE_BYTES = 4096
/** 2^52 pages: all of a device-TLB. */
const ALL_ORDER = 52
/** Longest range that one call maps or takes back, as log2 of its pages: 1 TiB. */
const PAGES_MAX = 2 ** 28

/** A device as its driver knows it. */
export interface GuestDevice {
  readonly name: string
  /** What else records call it: what serves it in the kernel of the host. */
  readonly otherNames: readonly string[]
  readonly source: number
  /** It has the ATS capability. */
  readonly offersAts: boolean
  /** The guest writes its ATS control register. */
  setAts(on: boolean): void
}

interface Attached {
  readonly device: GuestDevice
  readonly domain: number
  readonly hasAts: boolean
}

export interface GuestIommuOptions {
  readonly unit: VtdUnit
  /** CAP.CM: also what is not present may be cached. */
  readonly isCaching: boolean
  /** Pages of guest memory for tables, the queue and its statuses. */
  readonly area: { readonly first: number; readonly pages: number }
  readonly devices: readonly GuestDevice[]
}

/** A range of bus addresses in 4 KiB pages. */
interface PageSpan {
  readonly first: number
  readonly end: number
}

/** DomainTables by the number of their domain. */
type Domains = ReadonlyMap<number, DomainTables>

/**
 * The guest's driver of a VT-d unit, as far as steps ask for it: it writes tables and descriptors into guest memory and
 * waits for the unit. When it flushes what is up to the steps. (Linux v6.1 drivers/iommu/intel)
 */
export class GuestIommu {
  readonly #options: GuestIommuOptions
  readonly #stage: Stage
  readonly #pool: TablePool
  readonly #domains: Held<Domains>
  readonly #attached: Held<readonly Attached[]>
  readonly #tail: Cells
  readonly #root: number
  readonly #queue: number
  readonly #statuses: number

  constructor(options: GuestIommuOptions, parts: { readonly stage: Stage; readonly journal: Journal }) {
    const { unit, area } = options
    const { stage, journal } = parts
    this.#options = options
    this.#stage = stage
    this.#pool = new TablePool(unit.options.memory, area, journal)
    this.#domains = new Held<Domains>(journal, 'domains', new Map(), (d) => keyOf(...d.keys()))
    this.#attached = new Held<readonly Attached[]>(journal, 'attached', [], (list) =>
      keyOf(...list.map((a) => `${a.device.name} ${a.domain} ${a.hasAts}`)),
    )
    this.#tail = new Cells(journal, keyOf('queue tail', unit.options.name), 1)
    this.#root = this.#pool.take()
    this.#queue = this.#pool.take()
    this.#statuses = this.#pool.take()
    unit.setQueue(BigInt(this.#queue) << PAGE_SHIFT, 0)
    unit.enable(this.#root)
  }

  device(name: string): GuestDevice | undefined {
    return this.#options.devices.find((d) => d.name === name)
  }

  attachmentOf(device: GuestDevice): Attached | undefined {
    return this.#attached.value.find((a) => a.device === device)
  }

  hasDomain(domain: number): boolean {
    return this.#domains.value.has(domain)
  }

  attach(device: GuestDevice, domain: number, wantsAts: boolean): Outcome<RuleOf<typeof IOMMU_ATTACH>> {
    const { unit, isCaching } = this.#options
    if (domain === 0) return 'domain-reserved'
    if (this.attachmentOf(device) !== undefined) return 'attached'
    const tables = this.#tablesOf(domain)
    const context = this.#contextTable(device.source)
    if (tables === undefined || context < 0) return 'no-table-page'
    const hasAts = wantsAts && device.offersAts && unit.options.hasDeviceTlb
    const hi = encode(CONTEXT_ENTRY_HI, { DID: BigInt(domain), AW: BigInt(tables.levels - 2) })
    const lo = encode(CONTEXT_ENTRY_LO, { P: 1n, T: hasAts ? 1n : 0n, SLPTPTR: BigInt(tables.root) })
    this.#storeEntry(context, device.source & 0xff, lo, hi)
    this.#attached.set([...this.#attached.value, { device, domain, hasAts }])
    this.#record(device, domain, hasAts)
    // A caching unit remembers what was not there under domain 0.
    if (isCaching) this.#flush(contextDescriptor(0, device.source), domainDescriptor(domain))
    if (hasAts) device.setAts(true)
    return 'done'
  }

  detach(device: GuestDevice): Outcome<RuleOf<typeof IOMMU_DETACH>> {
    const attached = this.attachmentOf(device)
    if (attached === undefined) return 'not-attached'
    if (attached.hasAts) device.setAts(false)
    this.#storeEntry(this.#contextTable(device.source), device.source & 0xff, 0n, 0n)
    this.#attached.set(this.#attached.value.filter((a) => a !== attached))
    this.#record(device, 0, false)
    const { domain } = attached
    return this.#flush(contextDescriptor(domain, device.source), domainDescriptor(domain))
  }

  map(
    domain: number,
    at: { readonly iova: bigint; readonly gpa: bigint; readonly bytes: bigint },
    perm: number,
    owner: string,
  ): Outcome<RuleOf<typeof IOMMU_MAP>> {
    const { unit, isCaching } = this.#options
    const tables = this.#domains.value.get(domain)
    const { iova, gpa, bytes } = at
    if (tables === undefined) return 'domain-unknown'
    if ((gpa & PAGE_MASK) !== 0n || !isAligned(iova, bytes)) return 'unaligned'
    const span = this.#spanOf(tables, iova, bytes)
    if (span === undefined || gpa + bytes > 1n << BigInt(unit.options.hostAddressBits)) return 'beyond-width'
    if (tables.isMapped(span.first, span.end)) return 'mapped'
    const isWhole = tables.map(span.first, span.end, Number(gpa >> PAGE_SHIFT), perm)
    this.#recordMaps(domain, tables, span, perm)
    this.#own(gpa, bytes, owner)
    if (!isWhole) return 'no-table-page'
    if (!isCaching) return 'done'
    return this.#flush(pagesDescriptor(domain, span.first, span.end) ?? domainDescriptor(domain))
  }

  unmap(domain: number, iova: bigint, bytes: bigint, owner: string): Outcome<RuleOf<typeof IOMMU_UNMAP>> {
    const tables = this.#domains.value.get(domain)
    if (tables === undefined) return 'domain-unknown'
    if (!isAligned(iova, bytes)) return 'unaligned'
    const span = this.#spanOf(tables, iova, bytes)
    if (span === undefined) return 'beyond-width'
    const gone = this.#runsOf(tables, span)
    if (gone.length === 0) return 'not-mapped'
    tables.unmap(span.first, span.end)
    const { log, cause } = this.#stage
    for (const { first, pages, target } of gone) {
      const at = { iova: BigInt(first) << PAGE_SHIFT, bytes: BigInt(pages) << PAGE_SHIFT }
      log.emit('domain.unmap', cause, { domain, ...at, how: 0 })
      this.#own(BigInt(target) << PAGE_SHIFT, at.bytes, owner)
    }
    return 'done'
  }

  flushPages(domain: number, iova: bigint, bytes: bigint): Outcome<RuleOf<typeof IOMMU_FLUSH_PAGES>> {
    const tables = this.#domains.value.get(domain)
    if (tables === undefined) return 'domain-unknown'
    if (!isAligned(iova, bytes)) return 'unaligned'
    const span = this.#spanOf(tables, iova, bytes)
    if (span === undefined) return 'beyond-width'
    const descriptor = pagesDescriptor(domain, span.first, span.end)
    if (descriptor !== undefined) return this.#flush(descriptor)
    const end = this.#flush(domainDescriptor(domain))
    return end === 'done' ? 'too-many' : end
  }

  flushDeviceTlb(
    device: GuestDevice,
    iova: bigint,
    bytes: bigint,
  ): Outcome<RuleOf<typeof IOMMU_FLUSH_DEVICE_TLB>> {
    const attached = this.attachmentOf(device)
    if (attached === undefined) return 'not-attached'
    const order = bytes === 0n && iova === 0n ? ALL_ORDER : floorLog2(bytes) - Number(PAGE_SHIFT)
    const isBlock = order >= 0 && (order === ALL_ORDER || bytes === 1n << (BigInt(order) + PAGE_SHIFT))
    if (!isBlock || (iova & (bytes - 1n)) !== 0n) return 'no-block'
    if (!attached.hasAts) return 'ats-off'
    return this.#flush(deviceTlbDescriptor(device.source, iova, order))
  }

  /** Descriptors are put on the queue with a wait behind them, and the unit carries them out. */
  flush(...descriptors: readonly Descriptor[]): Outcome<'done'> {
    return this.#flush(...descriptors)
  }

  submit(descriptor: Descriptor): Outcome<RuleOf<typeof IOMMU_SUBMIT>> {
    const { unit } = this.#options
    const end = this.#queueUp([descriptor])
    if (end === 'done') return 'done'
    if (end !== 'refused') return this.#notDone(end)
    // Only the first descriptor of a submission is looked at: the wait takes its place, and runs with the next one.
    this.#storeEntry(this.#queue, unit.head / DESCRIPTOR_BYTES, ...this.#waitAt(unit.head))
    unit.clearError()
    return 'refused'
  }

  #flush(...descriptors: readonly Descriptor[]): Outcome<'done'> {
    const end = this.#queueUp(descriptors)
    return end === 'done' ? 'done' : this.#notDone(end)
  }

  #notDone(end: Exclude<DescriptorEnd, 'done'>): Outcome<never> {
    return unknown(typeof end === 'string' ? `a descriptor of the driver is ${end}` : end.why)
  }

  #queueUp(descriptors: readonly Descriptor[]): DescriptorEnd {
    let tail = this.#tail.get(0)
    for (const [lo, hi] of descriptors) {
      this.#storeEntry(this.#queue, tail / DESCRIPTOR_BYTES, lo, hi)
      tail = (tail + DESCRIPTOR_BYTES) % QUEUE_BYTES
    }
    this.#storeEntry(this.#queue, tail / DESCRIPTOR_BYTES, ...this.#waitAt(tail))
    tail = (tail + DESCRIPTOR_BYTES) % QUEUE_BYTES
    this.#tail.set(0, tail)
    const end = this.#options.unit.setTail(tail)
    if (end === 'done') this.#pool.settle()
    return end
  }

  /** Each place of the queue has a status word of its own. */
  #waitAt(offset: number): Descriptor {
    return waitDescriptor((BigInt(this.#statuses) << PAGE_SHIFT) + BigInt(offset / 4))
  }

  #tablesOf(domain: number): DomainTables | undefined {
    const known = this.#domains.value.get(domain)
    if (known !== undefined) return known
    const root = this.#pool.take()
    if (root < 0) return undefined
    const levels = this.#options.unit.options.addressBits === 39 ? 3 : 4
    const tables = new DomainTables(this.#pool, root, levels)
    this.#domains.set(new Map([...this.#domains.value, [domain, tables]]))
    return tables
  }

  /** The page of the context table of a bus; -1 where it cannot be had. */
  #contextTable(source: number): number {
    const { memory } = this.#options.unit.options
    const offset = (source >> 8) * ENTRY_BYTES
    memory.loadU64be(this.#root, offset)
    const lo = swap32(memory.wordHi)
    if ((lo & 1) !== 0) return swap32(memory.wordLo) * 2 ** 20 + (lo >>> 12)
    const page = this.#pool.take()
    if (page >= 0) {
      this.#storeEntry(this.#root, source >> 8, encode(ROOT_ENTRY, { P: 1n, CTP: BigInt(page) }), 0n)
    }
    return page
  }

  /** Two words at a place of a page, least significant byte first. */
  #storeEntry(page: number, index: number, lo: bigint, hi: bigint): void {
    const { memory } = this.#options.unit.options
    const at = index * ENTRY_BYTES
    memory.storeU64be(page, at + 8, swap32(loOf(hi)), swap32(hiOf(hi)))
    memory.storeU64be(page, at, swap32(loOf(lo)), swap32(hiOf(lo)))
  }

  #spanOf(tables: DomainTables, iova: bigint, bytes: bigint): PageSpan | undefined {
    const { addressBits } = this.#options.unit.options
    if (iova + bytes > 1n << BigInt(addressBits) || bytes >> PAGE_SHIFT > BigInt(PAGES_MAX)) return undefined
    const first = Number(iova >> PAGE_SHIFT)
    const end = first + Number(bytes >> PAGE_SHIFT)
    return end <= tables.inputPages ? { first, end } : undefined
  }

  /** What is mapped in a range, neighbours that lead to neighbours together; large pages whole. */
  #runsOf(tables: DomainTables, { first: from, end }: PageSpan) {
    const runs: { first: number; pages: number; target: number }[] = []
    const { unit } = this.#options
    unit.tables.visit(tables.root, tables.levels, from, end, (first, pages, target, perm) => {
      if (perm === 0) return
      const last = runs.at(-1)
      const isNext =
        last !== undefined && last.first + last.pages === first && last.target + last.pages === target
      if (isNext) last.pages += pages
      else runs.push({ first, pages, target })
    })
    return runs
  }

  #recordMaps(domain: number, tables: DomainTables, span: PageSpan, perm: number): void {
    const { log, cause } = this.#stage
    for (const { first, pages, target } of this.#runsOf(tables, span)) {
      const at = { iova: BigInt(first) << PAGE_SHIFT, bytes: BigInt(pages) << PAGE_SHIFT }
      log.emit('domain.map', cause, { domain, ...at, gpa: BigInt(target) << PAGE_SHIFT, perm, how: 0 })
    }
  }

  #record({ name, otherNames, source }: GuestDevice, domain: number, hasAts: boolean): void {
    const { log, cause } = this.#stage
    for (const device of [name, ...otherNames]) {
      log.emit('domain.attach', cause, { device, source, domain, ats: hasAts ? 1 : 0 })
    }
  }

  #own(gpa: bigint, bytes: bigint, owner: string): void {
    if (owner === '') return
    const { log, cause } = this.#stage
    log.emit('page.own', cause, {
      space: 'gpa',
      pageShift: Number(PAGE_SHIFT),
      first: Number(gpa >> PAGE_SHIFT),
      count: Number(bytes >> PAGE_SHIFT),
      owner,
      generation: 0,
    })
  }
}

const isAligned = (iova: bigint, bytes: bigint): boolean =>
  bytes !== 0n && ((iova | bytes) & PAGE_MASK) === 0n
