import { Held } from '../../bits/held.ts'
import { Cells, keyOf } from '../../bits/state.ts'
import { ContextEntries, type ExtendedPasids, RID2PASID } from './context-entries.ts'
import { ALL_ORDER, GRANULARITY } from './descriptors.ts'
import type { DomainTables } from './domain-tables.ts'
import type { DriverCore } from './driver-core.ts'
import { EntryWriter } from './entry-writer.ts'
import type { FlushedDevice } from './flusher.ts'
import type { GuestDevice } from './guest-device.ts'
import { directoryOf, PasidTable } from './pasid-table.ts'

/** The domain-id of PASIDs that pass through (FLPT_DEFAULT_DID); no domain has it in scalable mode. */
export const PASS_THROUGH_DOMAIN = 1
const DEPTH_MOST = 32

/** A device behind a domain. */
export interface Attached {
  readonly device: GuestDevice
  readonly domain: number
  /** Through the page tables of the domain, or past them. */
  readonly isIdentity: boolean
  /** It has ATS, and the driver uses it where it can be. */
  readonly takesAts: boolean
  readonly hasAts: boolean
  readonly hasRequests: boolean
  readonly hasPasid: boolean
}

/** A PASID of a device behind a domain. */
interface AttachedPasid {
  readonly source: number
  readonly pasid: number
  readonly domain: number
}

type Flags = Pick<Attached, 'hasAts' | 'hasPasid' | 'hasRequests'>
type Directories = ReadonlyMap<number, PasidTable>

/**
 * Which device, and which of its PASIDs, is behind which domain: the entries that say so, and what is flushed when they
 * change. (Linux v6.1 drivers/iommu/intel/iommu.c, dmar_domain_attach_device, domain_context_clear_one; pasid.c)
 */
export class Attachments {
  readonly #core: DriverCore
  readonly #writer: EntryWriter
  readonly #list: Held<readonly Attached[]>
  readonly #pasids: Held<readonly AttachedPasid[]>
  readonly #directories: Held<Directories>
  readonly #contexts: ContextEntries
  readonly #root: Cells

  constructor(core: DriverCore) {
    this.#core = core
    this.#writer = new EntryWriter(
      core.stores,
      () => core.snoopsEntries,
      () => !core.forgets('cache-lines'),
    )
    this.#list = new Held<readonly Attached[]>(core.journal, 'attached', [], (list) =>
      keyOf(...list.map((a) => `${a.device.name} ${a.domain} ${a.hasAts} ${a.hasPasid}`)),
    )
    this.#pasids = new Held<readonly AttachedPasid[]>(core.journal, 'attached PASIDs', [], (list) =>
      keyOf(...list.map((p) => `${p.source} ${p.pasid} ${p.domain}`)),
    )
    this.#directories = new Held<Directories>(core.journal, 'PASID directories', new Map(), (d) =>
      keyOf(...d.keys()),
    )
    this.#root = new Cells(core.journal, keyOf('root table', core.options.port.name), 1)
    this.#contexts = new ContextEntries({
      writer: this.#writer,
      pool: core.pool,
      isSnooped: () => core.snoopsEntries,
      isWide: () => core.isScalable || core.isExtended,
      root: () => this.root,
    })
  }

  /** Another kernel begins: it knows no devices. */
  reset(): void {
    this.#list.set([])
    this.#pasids.set([])
    this.#directories.set(new Map())
  }

  get root(): number {
    return this.#root.get(0)
  }

  /** Entries are written below this root table from now on: a page of zeros. */
  setRoot(root: number): void {
    this.#root.set(0, root)
    this.#writer.flushPage(root)
  }

  of(device: GuestDevice): Attached | undefined {
    return this.#list.value.find((a) => a.device === device)
  }

  /** The devices of a domain that have a TLB which may hold its translations. */
  withTlb(domain: number): readonly FlushedDevice[] {
    return this.#list.value.filter((a) => a.domain === domain && a.hasAts).map((a) => this.flushed(a.device))
  }

  /** Whether a device with a source-id is attached, and has page requests on. */
  hasRequests(source: number): boolean {
    return this.#list.value.some((a) => a.device.source === source && a.hasRequests)
  }

  /** Whether a device has a domain, through page tables or past them. */
  hasDomain(domain: number): boolean {
    return this.#list.value.some((a) => a.domain === domain)
  }

  has(domain: number): boolean {
    return (
      this.#list.value.some((a) => a.domain === domain && !a.isIdentity) || this.pasidsOf(domain).length > 0
    )
  }

  /** PASIDs that are translated through a domain, each with its device. */
  pasidsOf(domain: number): readonly { readonly device: Attached; readonly pasid: number }[] {
    return this.#pasids.value.flatMap((p) => {
      const device = p.domain === domain && this.#list.value.find((a) => a.device.source === p.source)
      return device ? [{ device, pasid: p.pasid }] : []
    })
  }

  flushed({ source, capabilities = {} }: GuestDevice): FlushedDevice {
    const { physical = source, depth = DEPTH_MOST, isTwice = false } = capabilities
    const { hasThrottling } = this.#core.registers.features
    return { source, physical: hasThrottling ? physical : 0, depth, isTwice }
  }

  /** Writes the entries of a device, and switches on what it has. False where no page is left for a table. */
  attach(
    device: GuestDevice,
    how: { domain: number; tables: DomainTables | undefined; wantsAts: boolean },
  ): boolean {
    const { isScalable, isExtended, registers } = this.#core
    const { features } = registers
    const { domain, tables, wantsAts } = how
    const { capabilities = {} } = device
    const contexts = this.#contexts
    const takesAts = wantsAts && device.offersAts && features.hasDeviceTlb
    // A legacy or extended entry that passes through refuses translation requests: ATS stays off. (Linux v6.1.y
    // domain_add_dev_info; v4.9 domain_context_mapping_one)
    const isSwitched = isScalable || tables !== undefined
    const flags = this.#flagsOf(device, takesAts && isSwitched, isSwitched)
    const { hasAts, hasPasid, hasRequests } = flags
    if (!contexts.prepare(device.source)) return false
    if (isScalable) {
      const table = this.#directoryOf(device, hasPasid ? (capabilities.pasids ?? 0) : 0)
      if (table === undefined || !this.#setPasid(table, RID2PASID, domain, tables)) return false
      const shape = { directory: table.directory, sizeCode: table.sizeCode }
      contexts.setScalable(device.source, { ...shape, hasAts, hasPasid, hasPageRequests: hasRequests })
    } else {
      const shape = { root: tables?.root ?? 0, levels: tables?.levels ?? this.#core.levels }
      const context = { domain, ...shape, hasAts, isPassThrough: tables === undefined }
      if (isExtended) contexts.setExtended(device.source, context)
      else contexts.setLegacy(device.source, context)
    }
    const isIdentity = tables === undefined
    this.#list.set([...this.#list.value, { device, domain, isIdentity, takesAts, ...flags }])
    this.#record(device, domain, hasAts)
    this.#published(device.source, domain)
    this.#switchOn(device, flags)
    return true
  }

  /**
   * Lets requests of an attached device have a PASID, in extended mode: its entry says so, then the device is switched on
   * where it was not. Answers what the device has now.
   */
  enablePasids(attached: Attached, tables: Pick<ExtendedPasids, 'table' | 'sizeCode' | 'states'>): Attached {
    const { flusher } = this.#core
    const { device, domain, takesAts } = attached
    const flags = this.#flagsOf(device, takesAts, true)
    const { hasRequests } = flags
    const entry = { ...tables, takesAts, hasPageRequests: hasRequests }
    if (this.#contexts.enablePasids(device.source, entry)) {
      flusher.context(domain, device.source, GRANULARITY.FINE)
    }
    if (attached.hasPasid) return attached
    const now = { ...attached, ...flags }
    this.#list.set(this.#list.value.map((a) => (a === attached ? now : a)))
    this.#record(device, domain, flags.hasAts)
    this.#switchOn(device, flags)
    return now
  }

  #flagsOf({ capabilities = {} }: GuestDevice, hasAts: boolean, isSwitched: boolean): Flags {
    const { isScalable, isExtended, hasPageRequests, registers } = this.#core
    const { hasPasid } = registers.features
    const hasPasids = isScalable || (isExtended && isSwitched)
    return {
      hasAts,
      hasPasid: hasPasids && hasPasid && (capabilities.pasids ?? 0) > 0,
      hasRequests: hasAts && hasPageRequests && capabilities.hasRequests === true,
    }
  }

  /** A device that is given PASIDs after ATS may do anything. */
  #switchOn(device: GuestDevice, { hasAts, hasPasid, hasRequests }: Flags): void {
    if (hasPasid) device.setPasid?.(true)
    if (hasRequests) device.setRequests?.(true)
    if (hasAts) device.setAts(true)
  }

  detach(attached: Attached): void {
    const { flusher, isScalable } = this.#core
    const { device, domain, isIdentity } = attached
    for (const { pasid } of this.#pasids.value.filter((p) => p.source === device.source)) {
      this.clearPasid(attached, pasid, false)
    }
    if (isScalable) this.clearPasid(attached, RID2PASID, false)
    if (attached.hasAts) device.setAts(false)
    if (attached.hasRequests) device.setRequests?.(false)
    if (attached.hasPasid) device.setPasid?.(false)
    this.#contexts.clear(device.source)
    this.#list.set(this.#list.value.filter((a) => a !== attached))
    this.#record(device, 0, false)
    const old = isScalable && isIdentity ? PASS_THROUGH_DOMAIN : domain
    flusher.context(old, device.source, GRANULARITY.FINE)
    if (isScalable) flusher.pasidEntriesOf(old)
    flusher.domain(old)
  }

  /** The PASID directory and tables of a device that was attached in scalable mode. */
  tableOf({ source }: GuestDevice): PasidTable | undefined {
    return this.#directories.value.get(source)
  }

  /** Whether a PASID of an attached device has an entry; undefined where its directory cannot have one. */
  isPasidPresent({ device }: Attached, pasid: number): boolean | undefined {
    const table = this.#directories.value.get(device.source)
    return table === undefined || pasid >= table.pasids ? undefined : table.isPresent(pasid)
  }

  attachPasid({ device }: Attached, pasid: number, tables: DomainTables): boolean {
    const table = this.#directories.value.get(device.source)
    const { domain } = tables.shape
    if (table === undefined || !this.#setPasid(table, pasid, domain, tables)) return false
    this.#pasids.set([...this.#pasids.value, { source: device.source, pasid, domain }])
    return true
  }

  /** @param isSilent faults of the PASID are not reported from then on */
  clearPasid(attached: Attached, pasid: number, isSilent: boolean): void {
    const { flusher } = this.#core
    const { source } = attached.device
    const old = this.#directories.value.get(source)?.clear(pasid, isSilent)
    if (old === undefined) return
    this.#pasids.set(this.#pasids.value.filter((p) => p.source !== source || p.pasid !== pasid))
    flusher.pasidEntry(old.domain, pasid)
    if (old.isFlushedByPasid) flusher.pasid(old.domain, pasid)
    else flusher.domain(old.domain)
    if (!this.#core.flushesDeviceTlbs || !attached.hasAts) return
    // Once, also where the device needs what others flush twice. (Linux v6.1 pasid.c, devtlb_invalidation_with_pasid)
    const device = { ...this.flushed(attached.device), isTwice: false }
    if (pasid === RID2PASID) flusher.deviceTlb(device, 0n, ALL_ORDER)
    else flusher.pasidDeviceTlb(device, pasid, 0n, ALL_ORDER)
  }

  /** The PASID directory of a device, which it keeps; sized for the PASIDs that it may use. */
  #directoryOf({ source }: GuestDevice, pasids: number): PasidTable | undefined {
    const known = this.#directories.value.get(source)
    if (known !== undefined) return known
    const { pool, snoopsEntries } = this.#core
    const directory = pool.takeRun(directoryOf(pasids).pages, snoopsEntries)
    if (directory < 0) return undefined
    const parts = { writer: this.#writer, pool, isSnooped: () => snoopsEntries }
    const table = new PasidTable(directory, pasids, parts)
    this.#directories.set(new Map([...this.#directories.value, [source, table]]))
    return table
  }

  /** Writes the entry of a PASID; a caching unit is made to look again. */
  #setPasid(table: PasidTable, pasid: number, domain: number, tables: DomainTables | undefined): boolean {
    const { control, flusher, flushesNew, registers, levels } = this.#core
    const { hasWalkSnoop, hasSupervisor } = registers.features
    const isFirst = tables?.shape.isFirstLevel === true
    const tag = tables === undefined ? PASS_THROUGH_DOMAIN : domain
    const kind = isFirst ? 'first' : 'second'
    const isSet = table.set(pasid, {
      kind: tables === undefined ? 'pass-through' : kind,
      domain: tag,
      root: tables?.root ?? 0,
      levels: tables?.levels ?? levels,
      snoopsWalks: hasWalkSnoop,
      hasSupervisor: hasSupervisor && (tables === undefined || (!isFirst && pasid !== RID2PASID)),
    })
    if (!isSet) return false
    if (flushesNew) {
      flusher.pasidEntry(tag, pasid)
      flusher.pasid(tag, pasid)
    } else control.flushWriteBuffer()
    return true
  }

  /** A caching unit remembers what was not there under domain 0. */
  #published(source: number, domain: number): void {
    const { control, flusher, flushesNew } = this.#core
    if (flushesNew) {
      flusher.context(0, source, GRANULARITY.FINE)
      flusher.domain(domain)
    } else control.flushWriteBuffer()
  }

  #record({ name, otherNames, source }: GuestDevice, domain: number, hasAts: boolean): void {
    const { log, cause } = this.#core.stage
    for (const device of [name, ...otherNames]) {
      log.emit('domain.attach', cause, { device, source, domain, ats: hasAts ? 1 : 0 })
    }
  }
}
