import { Prng } from '../../src/bits/prng.ts'
import { Journal } from '../../src/bits/state.ts'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { Judge } from '../../src/check/judge.ts'
import { Life } from '../../src/hw/life.ts'
import { PRESETS } from '../../src/hw/vtd/capabilities.ts'
import { NO_PASID, newRequest, PERM } from '../../src/hw/vtd/ports.ts'
import { RemappingUnit } from '../../src/hw/vtd/remapping-unit.ts'
import { TableWatch } from '../../src/hw/vtd/table-watch.ts'
import { AtsClient } from '../../src/hw/vtd-devices/ats-client.ts'
import type { WriteWatcher } from '../../src/memory/ports.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'
import { FlatMemory } from './flat-memory.ts'

/** Tables of which kind the spaces of a run have: second-level without PASIDs, or behind PASID entries, or first-level ones. */
export type TableKind = 'legacy' | 'second' | 'first'

export interface LegalVtdOptions {
  readonly seed: number
  readonly kind: TableKind
  readonly isCaching?: boolean
  readonly hasAts?: boolean
  /** Errata of the unit. */
  readonly errata?: readonly string[]
}

/** An invalidation, and what it is for: leaving out one of a name must be found. */
interface Needed {
  readonly name: string
  readonly words: readonly [bigint, bigint]
}

/** What an operation did to tables, what has to be forgotten for it, and what comes behind that. */
interface Change {
  readonly name: string
  readonly needed: readonly Needed[]
  readonly after?: () => void
  /** Reaches everything that the change was about. */
  readonly probe: () => void
}

interface Mapping {
  readonly target: number
  readonly perm: number
  readonly pages: number
}

/** An address space: page tables, and what they map by first page. */
interface Space {
  readonly domain: number
  root: number
  /** Tables by level and first page of what they stand for. */
  tables: Map<string, number>
  readonly mapped: Map<number, Mapping>
}

/** A place where a space can be: a device, and the PASID of its requests (0: none). */
interface Seat {
  readonly source: number
  readonly pasid: number
  space: Space | undefined
}

const [PAGE, WORD] = [4096, 8]
const QUEUE = 0x1000
const STATUS = 0x2000
const ROOTS = [0x3000, 0x4000] as const
const FIRST_TABLE = 0x10
const TABLES = 0x180
const DATA_PAGES = 64
const FIRST_DATA = 0x1000
/** Where large pages lead. */
const FIRST_LARGE = 0x4000
const ATS_SOURCE = 0x20
const SOURCES = [0x18, ATS_SOURCE, 0x109] as const
const PASIDS = [0, 1, 2] as const
/** 4 KiB pages of bus addresses; pages of 2 MiB. */
const SMALL = [0x4_0000, 0x4_0001, 0x4_0007, 0x4_01ff, 0x4_0200, 0x4_0203, 0x8_0000, 0x8_0001] as const
const LARGE = [0x6_0000, 0x6_0200, 0x9_0000] as const
const LARGE_PAGES = 512
/** Of all page tables: the unit can walk 4 and 5 (AW 2 and 3). */
const LEVELS = 4
const [CACHING, PT_WAIT] = [1n << 7n, 2n]
const TTM_SCALABLE = 1n << 10n
const GCMD = { TE: 1n << 31n, SRTP: 1n << 30n, QIE: 1n << 26n } as const

class WatchedMemory extends FlatMemory {
  watcher: WriteWatcher | undefined

  override writePage(page: number, offset: number, from: Uint8Array, at: number, bytes: number): boolean {
    const isWatched = this.watcher?.watches(page) === true
    if (isWatched) this.watcher?.willWrite(page, offset, bytes)
    const isDone = super.writePage(page, offset, from, at, bytes)
    if (isWatched && isDone) this.watcher?.wrote(page, offset, bytes)
    return isDone
  }
}

/**
 * A driver that edits tables of a VT-d unit at random, and has it forget exactly what each change needs; devices use the
 * spaces meanwhile. What devices see is compared with a map of what is mapped, and every record is judged.
 */
export class LegalVtd {
  readonly judge = new Judge()
  readonly log = new RecordLog({ keepRecords: 1 << 16 })
  /** What devices saw and should not have. */
  readonly differences: string[] = []
  /** How often something was forgotten for a reason, or done. */
  readonly counts = new Map<string, number>()
  readonly #options: LegalVtdOptions
  readonly #prng: Prng
  readonly #memory = new WatchedMemory(0x200 * PAGE)
  readonly #bytes = new Uint8Array(64)
  readonly #view = new DataView(this.#bytes.buffer)
  readonly #unit: RemappingUnit
  readonly #ats: AtsClient
  readonly #free: number[] = []
  readonly #spaces: readonly Space[]
  readonly #seats: readonly Seat[]
  readonly #isWide: boolean
  readonly #request = newRequest()
  /** Whose the data pages are; where large pages lead nobody owns anything. */
  readonly #owners = new Map<number, number>()
  #tail = 0
  #root = 0
  #owner = 0
  #isComparing = true

  constructor(options: LegalVtdOptions) {
    this.#options = options
    this.#prng = new Prng(options.seed)
    this.#isWide = options.kind !== 'legacy'
    const journal = new Journal()
    this.judge.attach(this.log)
    const stage = new Stage(this.log)
    const errata = options.errata ?? []
    const profile = { name: 'test', ids: errata, has: (id: string) => errata.includes(id) }
    const preset = PRESETS['every-feature']
    const memory = this.#memory
    this.#unit = new RemappingUnit(
      { ...preset, name: 'vtd0', memory, cap: preset.cap | (options.isCaching === true ? CACHING : 0n) },
      { stage, journal, life: new Life(stage, journal), profile },
    )
    const watch = new TableWatch({ memory, stage, journal })
    this.log.subscribe(watch)
    memory.watcher = watch
    this.#ats = new AtsClient({ name: 'ats', source: ATS_SOURCE }, this.#unit, { stage, journal })
    this.#unit.deviceTlbs = {
      invalidate: (what) => {
        if (what.source === ATS_SOURCE) this.#ats.tlb.invalidate(what)
        return 'done'
      },
      respond: () => {},
    }
    for (let page = FIRST_TABLE; page < TABLES; page++) this.#free.push(page)
    this.#seats = SOURCES.flatMap((source) =>
      (this.#isWide ? PASIDS : [0]).map((pasid) => ({ source, pasid, space: undefined })),
    )
    this.#spaces = [5, 6, 7].map((domain) => ({ domain, root: 0, tables: new Map(), mapped: new Map() }))
    this.#start()
  }

  /** One step: mostly requests of devices, else a change with all that it needs. */
  step(): void {
    if (this.#prng.below(10) < 7) this.#use()
    else this.#carryOut(this.#change())
  }

  /** A change of some name with everything reached before, one of its invalidations left out, and all reached again. False where it did not come up. */
  leaveOut(name: string): boolean {
    for (let n = 0; n < 2000; n++) {
      this.#useAll()
      const change = this.#change()
      if (!change.needed.some((needed) => needed.name === name)) {
        this.#carryOut(change)
        continue
      }
      this.#isComparing = false
      this.#carryOut({ ...change, needed: change.needed.filter((needed) => needed.name !== name) })
      change.probe()
      this.judge.finish()
      return true
    }
    return false
  }

  get isCaching(): boolean {
    return this.#options.isCaching === true
  }

  get #isFirst(): boolean {
    return this.#options.kind === 'first'
  }

  #start(): void {
    const unit = this.#unit
    unit.mmioRead(0x08, 8)
    unit.mmioRead(0x10, 8)
    for (const space of this.#spaces) space.root = this.#take(space.domain)
    for (const root of ROOTS) this.#zero(root / PAGE)
    for (const source of SOURCES) this.#describe(source)
    const mode = this.#isWide ? TTM_SCALABLE : 0n
    unit.mmioWrite(0x88, 8, 0n)
    unit.mmioWrite(0x90, 8, BigInt(QUEUE) | (this.#isWide ? 0x800n : 0n))
    unit.mmioWrite(0x18, 4, GCMD.QIE)
    unit.mmioWrite(0x20, 8, BigInt(ROOTS[0]) | mode)
    unit.mmioWrite(0x18, 4, GCMD.QIE | GCMD.SRTP)
    this.#submit(this.#everything())
    unit.mmioWrite(0x18, 4, GCMD.QIE | GCMD.TE)
  }

  /** Tables that lead to the entries of a device: in scalable mode its context entry stays. */
  #describe(source: number): void {
    const at = this.#contextAt(source)
    if (!this.#isWide) return
    const directory = this.#take(0)
    const pasids = this.#take(0)
    this.#write(directory * PAGE, BigInt(pasids * PAGE) | 1n)
    this.#directories.set(source, pasids)
    // DTE and PASIDE; 2^7 directory entries.
    this.#write(at + WORD, 0n)
    this.#write(at, BigInt(directory * PAGE) | 0xdn)
  }

  readonly #directories = new Map<number, number>()
  readonly #contextTables = new Map<string, number>()

  #contextAt(source: number): number {
    const [bus, devfn] = [source >> 8, source & 0xff]
    const isUpper = this.#isWide && devfn >= 0x80
    const key = `${bus} ${isUpper}`
    let table = this.#contextTables.get(key)
    if (table === undefined) {
      table = this.#take(0)
      this.#contextTables.set(key, table)
      for (const root of ROOTS) {
        this.#write(root + bus * 16 + (isUpper ? WORD : 0), BigInt(table * PAGE) | 1n)
      }
    }
    return table * PAGE + (this.#isWide ? (devfn & 0x7f) * 32 : devfn * 16)
  }

  #entryAt({ source, pasid }: Seat): number {
    if (!this.#isWide) return this.#contextAt(source)
    return (this.#directories.get(source) as number) * PAGE + pasid * 64
  }

  // Memory and tables.

  #take(domain: number): number {
    const page = this.#free.shift()
    if (page === undefined) throw new Error('the test has run out of tables')
    this.#zero(page)
    if (domain !== 0) this.log.emit('vtd.table', null, { unit: 'vtd0', page, state: 1, domain })
    return page
  }

  #giveBack(page: number, domain: number): void {
    this.log.emit('vtd.table', null, { unit: 'vtd0', page, state: 0, domain })
    this.#free.push(page)
  }

  #zero(page: number): void {
    this.#memory.writePage(page, 0, new Uint8Array(PAGE), 0, PAGE)
  }

  #write(address: number, word: bigint): void {
    this.#view.setBigUint64(0, BigInt.asUintN(64, word), true)
    this.#memory.writePage(Math.floor(address / PAGE), address % PAGE, this.#bytes, 0, WORD)
  }

  /** The table of a level that stands for a page, made if it is not there. */
  #tableOf(space: Space, level: number, page: number): number {
    if (level === LEVELS) return space.root
    const pages = 512 ** level
    const key = `${level} ${page - (page % pages)}`
    const known = space.tables.get(key)
    if (known !== undefined) return known
    const above = this.#tableOf(space, level + 1, page)
    const table = this.#take(space.domain)
    space.tables.set(key, table)
    this.#write(entryPlace(above, level + 1, page), BigInt(table * PAGE) | (this.#isFirst ? 7n : 3n))
    return table
  }

  #entryOf({ target, perm, pages }: Mapping): bigint {
    const rights = this.#isFirst ? 5n | BigInt(perm & PERM.WRITE) : BigInt(perm)
    return (BigInt(target) << 12n) | rights | (pages > 1 ? 0x80n : 0n)
  }

  #set(space: Space, page: number, mapping: Mapping | undefined): void {
    const level = (mapping ?? space.mapped.get(page))?.pages === LARGE_PAGES ? 2 : 1
    const table = this.#tableOf(space, level, page)
    this.#write(entryPlace(table, level, page), mapping === undefined ? 0n : this.#entryOf(mapping))
    if (mapping === undefined) space.mapped.delete(page)
    else space.mapped.set(page, mapping)
  }

  #target(): number {
    const page = FIRST_DATA + this.#prng.below(DATA_PAGES)
    this.#own(page)
    return page
  }

  /** A page gets an owner: whoever had it before has let go of it. */
  #own(page: number): void {
    const owner = `buffer ${++this.#owner}`
    this.#owners.set(page, this.#owner)
    const record = { space: 'gpa', pageShift: 12, first: page, count: 1, generation: this.#owner }
    this.log.emit('page.own', null, { ...record, owner })
  }

  // Changes.

  #change(): Change {
    const space = this.#pick(this.#spaces)
    const seat = this.#pick(this.#seats)
    switch (this.#prng.below(12)) {
      case 0:
      case 1:
      case 2:
        return this.#map(space, this.#pick(SMALL), 1)
      case 3:
        return this.#map(space, this.#pick(LARGE), LARGE_PAGES)
      case 4:
      case 5:
        return this.#unmap(space)
      case 6:
        return this.#remap(space)
      case 7:
        return this.#lower(space)
      case 8:
        return this.#raise(space)
      case 9:
        return this.#dropTable(space)
      case 10:
        return seat.space === undefined ? this.#attach(seat, space) : this.#detach(seat)
      default:
        return this.#prng.below(4) === 0 ? this.#moveRoot() : this.#destroy(space)
    }
  }

  #nothing(): Change {
    return { name: 'nothing', needed: [], probe: () => {} }
  }

  /** Where what was absent is remembered, it has to be forgotten when it comes. */
  #map(space: Space, page: number, pages: number): Change {
    if (space.mapped.has(page)) return this.#nothing()
    const perm = 1 + this.#prng.below(3)
    const target = pages === 1 ? this.#target() : FIRST_LARGE + this.#prng.below(4) * LARGE_PAGES
    // A first-level entry that may not be read there is not.
    this.#set(space, page, { target, perm: this.#isFirst ? perm | PERM.READ : perm, pages })
    // A device with ATS is not answered from what is remembered as absent.
    const name = this.#hasPlain(space) ? 'map' : 'map for ATS'
    const needed = this.isCaching && !this.#isFirst ? this.#pagesOf(space, page, pages, true, name) : []
    return { name: 'map', needed, probe: () => this.#useOf(space, page) }
  }

  #unmap(space: Space): Change {
    const page = this.#mappedOf(space)
    return page === undefined ? this.#nothing() : this.#unmapAt(space, page)
  }

  #unmapAt(space: Space, page: number): Change {
    const before = space.mapped.get(page) as Mapping
    const { target, pages } = before
    this.#set(space, page, undefined)
    return this.#takenBack(space, page, before, 'unmap', () => {
      if (pages === 1) this.#own(target)
    })
  }

  #remap(space: Space): Change {
    const page = this.#mappedOf(space)
    if (page === undefined) return this.#nothing()
    const before = space.mapped.get(page) as Mapping
    const target = before.pages === 1 ? this.#target() : FIRST_LARGE + this.#prng.below(4) * LARGE_PAGES
    if (target === before.target) return this.#nothing()
    this.#set(space, page, { ...before, target })
    return this.#takenBack(space, page, before, 'remap', () => {
      if (before.pages === 1 && !this.#isMapped(before.target)) this.#own(before.target)
    })
  }

  #lower(space: Space): Change {
    const page = this.#mappedOf(space, 3)
    if (page === undefined) return this.#nothing()
    const before = space.mapped.get(page) as Mapping
    this.#set(space, page, { ...before, perm: PERM.READ })
    return this.#takenBack(space, page, { ...before, perm: PERM.WRITE }, 'lower')
  }

  #raise(space: Space): Change {
    const page = this.#mappedOf(space, PERM.READ)
    if (page === undefined) return this.#nothing()
    const before = space.mapped.get(page) as Mapping
    this.#set(space, page, { ...before, perm: 3 })
    // A device with ATS is told what the IOTLB has: not that it is wrong, but it would not get on.
    const isKept = this.isCaching && !this.#isFirst
    const name = isKept && this.#hasPlain(space) ? 'raise' : 'more rights'
    const isNeeded = isKept || this.#options.hasAts === true
    const needed = isNeeded ? this.#pagesOf(space, page, before.pages, true, name) : []
    return { name: 'raise', needed, probe: () => this.#useOf(space, page) }
  }

  /** Whether a device without ATS is in a space. */
  #hasPlain(space: Space): boolean {
    return this.#seats.some(
      (seat) => seat.space === space && (this.#options.hasAts !== true || seat.source !== ATS_SOURCE),
    )
  }

  #takenBack(space: Space, page: number, { pages, perm }: Mapping, name: string, after?: () => void): Change {
    return {
      name,
      needed: [
        ...this.#pagesOf(space, page, pages, true, name),
        ...this.#devicesOf(space, page, pages, name),
      ],
      ...(after === undefined ? {} : { after }),
      probe: () => this.#useOf(space, page, perm),
    }
  }

  /** A leaf table that maps nothing any more goes. */
  #dropTable(space: Space): Change {
    const empty = [...space.tables].find(([key]) => {
      const [level, first] = key.split(' ').map(Number) as [number, number]
      if (level !== 1) return false
      return ![...space.mapped.keys()].some((page) => page >= first && page < first + 512)
    })
    if (empty === undefined) return this.#nothing()
    const [key, table] = empty
    const first = Number(key.split(' ')[1])
    space.tables.delete(key)
    this.#write(entryPlace(this.#tableOf(space, 2, first), 2, first), 0n)
    return {
      name: 'table',
      needed: this.#pagesOf(space, first, 512, false, 'table'),
      after: () => this.#giveBack(table, space.domain),
      probe: () => {},
    }
  }

  #attach(seat: Seat, space: Space): Change {
    const at = this.#entryAt(seat)
    const root = BigInt(space.root * PAGE)
    seat.space = space
    if (!this.#isWide) {
      this.#write(at + WORD, (BigInt(space.domain) << 8n) | 2n)
      this.#write(at, root | (seat.source === ATS_SOURCE && this.#options.hasAts === true ? 5n : 1n))
    } else {
      // PWSNP: without it accessed bits cannot be set.
      this.#write(at + WORD, BigInt(space.domain) | (1n << 23n))
      if (this.#isFirst) this.#write(at + 2 * WORD, root)
      this.#write(at, this.#isFirst ? 0x49n : root | 0x89n)
    }
    const needed: Needed[] = []
    // What is not present has no domain.
    if (this.isCaching) {
      needed.push(
        this.#isWide
          ? pasidEntry(space.domain, seat.pasid, 'attach: PASID entry')
          : contextEntry(0, seat.source, 'attach: context entry'),
      )
    }
    return { name: 'attach', needed, probe: () => this.#useOf(space) }
  }

  #detach(seat: Seat): Change {
    const space = seat.space as Space
    const at = this.#entryAt(seat)
    seat.space = undefined
    this.#write(at, 0n)
    const { domain } = space
    const rest = this.#seats.filter((other) => other.space === space)
    const needed: Needed[] = []
    if (!this.#isWide) needed.push(contextEntry(domain, seat.source, 'detach: context entry'))
    else needed.push(pasidEntry(domain, seat.pasid, 'detach: PASID entry'))
    // Others of the domain go on with what is translated.
    const isLast = this.#isFirst ? rest.every((other) => other.pasid !== seat.pasid) : rest.length === 0
    if (isLast) {
      const name = space.mapped.size > 0 ? 'detach: IOTLB' : 'detach: empty'
      needed.push(this.#isFirst ? ofPasid(domain, seat.pasid, name) : ofDomain(domain, name))
    }
    if (seat.source === ATS_SOURCE && this.#options.hasAts === true)
      needed.push(deviceTlb(seat.pasid, undefined, 'detach: device'))
    return {
      name: 'detach',
      needed,
      after: () => {
        for (let i = 1; i < (this.#isWide ? 3 : 2); i++) this.#write(at + i * WORD, 0n)
      },
      probe: () => {
        this.#useSeat(seat, space)
        // The domain gets other tables, or its tables change without this PASID, and the device comes back.
        if (rest.length === 0) this.#carryOut(this.#destroy(space))
        else for (const page of [...space.mapped.keys()]) this.#carryOut(this.#unmapAt(space, page))
        this.#carryOut(this.#attach(seat, space))
        this.#useSeat(seat, space)
      },
    }
  }

  /** A space that nobody is in gets other tables. */
  #destroy(space: Space): Change {
    if (this.#seats.some((seat) => seat.space === space)) return this.#nothing()
    for (const table of [space.root, ...space.tables.values()]) this.#giveBack(table, space.domain)
    space.tables = new Map()
    space.mapped.clear()
    space.root = this.#take(space.domain)
    return { name: 'destroy', needed: [], probe: () => {} }
  }

  /** The root table moves: what was read through the old one is to be read again. */
  #moveRoot(): Change {
    this.#root = 1 - this.#root
    const mode = this.#isWide ? TTM_SCALABLE : 0n
    this.#unit.mmioWrite(0x20, 8, BigInt(ROOTS[this.#root] as number) | mode)
    this.#unit.mmioWrite(0x18, 4, GCMD.QIE | GCMD.TE | GCMD.SRTP)
    return {
      name: 'root',
      needed: [
        {
          name: this.#seats.some((seat) => seat.space !== undefined) ? 'root: contexts' : 'root: nobody',
          words: [0x11n, 0n],
        },
      ],
      probe: () => this.#useAll(),
    }
  }

  // What has to be forgotten.

  #everything(): readonly Needed[] {
    const pasids: Needed[] = this.#isWide ? [{ name: 'start', words: [0x37n, 0n] }] : []
    return [{ name: 'start', words: [0x11n, 0n] }, ...pasids, { name: 'start', words: [0x12n, 0n] }]
  }

  /** Pages of a space in the IOTLB: of the first level by each PASID that it is behind. */
  #pagesOf(space: Space, page: number, pages: number, isLeafOnly: boolean, name: string): readonly Needed[] {
    const order = pages === 1 ? 0n : 9n
    const address = (BigInt(page) << 12n) | (isLeafOnly ? 0x40n : 0n) | order
    const { domain } = space
    if (!this.#isFirst) {
      const words = [0x32n | (BigInt(domain) << 16n), address] as const
      return this.#seats.some((seat) => seat.space === space) ? [{ name: `${name}: IOTLB`, words }] : []
    }
    const pasids = new Set(this.#seats.filter((seat) => seat.space === space).map((seat) => seat.pasid))
    return [...pasids].map((pasid) => ({
      name: `${name}: IOTLB`,
      words: [0x36n | (BigInt(domain) << 16n) | (BigInt(pasid) << 32n), address] as const,
    }))
  }

  #devicesOf(space: Space, page: number, pages: number, name: string): readonly Needed[] {
    if (this.#options.hasAts !== true) return []
    return this.#seats
      .filter((seat) => seat.space === space && seat.source === ATS_SOURCE)
      .map((seat) => deviceTlb(seat.pasid, { page, pages }, `${name}: device`))
  }

  #carryOut({ name, needed, after }: Change): void {
    this.#count(name)
    if (needed.length > 0) this.#submit(needed)
    after?.()
  }

  #submit(needed: readonly Needed[]): void {
    const bytes = this.#isWide ? 32 : 16
    const wait: readonly [bigint, bigint] = [0x25n | (PT_WAIT << 32n), BigInt(STATUS)]
    for (const { name, words } of [...needed, { name: 'wait', words: wait }]) {
      this.#count(name)
      this.#bytes.fill(0)
      words.forEach((word, i) => {
        this.#view.setBigUint64(i * WORD, word, true)
      })
      this.#memory.writePage(QUEUE / PAGE, this.#tail, this.#bytes, 0, bytes)
      this.#tail = (this.#tail + bytes) % PAGE
    }
    this.#unit.mmioWrite(0x88, 8, BigInt(this.#tail))
    if (this.#unit.peek('IQH') !== BigInt(this.#tail)) throw new Error('the queue stopped')
  }

  // Requests.

  #use(): void {
    const seat = this.#pick(this.#seats)
    const isLarge = this.#prng.below(4) === 0
    const page = isLarge ? this.#pick(LARGE) + this.#prng.below(LARGE_PAGES) : this.#pick(SMALL)
    this.#reach(seat, page, this.#prng.below(2) === 0 ? PERM.READ : PERM.WRITE, seat.space)
  }

  #useAll(): void {
    for (const seat of this.#seats) this.#useSeat(seat, seat.space)
  }

  #useSeat(seat: Seat, space: Space | undefined): void {
    const pages = space === undefined ? SMALL.slice(0, 1) : [...SMALL, ...LARGE]
    for (const page of pages) {
      this.#reach(seat, page, PERM.READ, seat.space)
      this.#reach(seat, page, PERM.WRITE, seat.space)
    }
  }

  /** Reaches a page as it was reached before, if only one way is allowed: a device with ATS asks anew for the other. */
  #useOf(space: Space, page?: number, perm = 3): void {
    const order = perm === PERM.WRITE ? [PERM.WRITE, PERM.READ] : [PERM.READ, PERM.WRITE]
    // What a device with ATS asks is looked up anew where something is remembered as absent: the others go first.
    const plain = this.#seats.filter((seat) => seat.source !== ATS_SOURCE)
    for (const seat of [...plain, ...this.#seats.filter((seat) => !plain.includes(seat))]) {
      if (seat.space !== space) continue
      if (page === undefined) this.#useSeat(seat, space)
      else for (const need of order) this.#reach(seat, page, need, space)
    }
  }

  #reach(seat: Seat, page: number, need: number, space: Space | undefined): void {
    const request = this.#request
    const { source, pasid } = seat
    const tags = { pasid: pasid === 0 ? NO_PASID : pasid, isPrivileged: false, isExecute: false }
    let got: number | undefined
    if (source === ATS_SOURCE && this.#options.hasAts === true) {
      const { entry, isAllowed } = this.#ats.pageFor(page, tags, need)
      if (entry !== undefined && isAllowed) {
        const reason = this.#ats.use(entry, page, 0, tags, need)
        got = reason === 0 ? entry.target + (page - entry.first) : undefined
      }
    } else {
      const address = BigInt(page) << 12n
      Object.assign(request, { source, pasid: tags.pasid, hi: hiOf(address), lo: loOf(address), need })
      got = this.#unit.translate(request) === 0 ? this.#unit.translation.page : undefined
    }
    this.#count(got === undefined ? 'refused' : 'reached')
    // Faults are recorded in few registers: they are for other tests.
    if (!this.#isComparing) return
    const wanted = wantedOf(space, page, need)
    if (got !== wanted)
      this.differences.push(`${source} ${pasid} ${page.toString(16)}: ${got}, not ${wanted}`)
  }

  #isMapped(target: number): boolean {
    return this.#spaces.some(({ mapped }) => [...mapped.values()].some((to) => to.target === target))
  }

  #mappedOf({ mapped }: Space, perm?: number): number | undefined {
    const pages = [...mapped].filter(([, to]) => perm === undefined || to.perm === perm)
    return pages.length === 0 ? undefined : this.#pick(pages)[0]
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#prng.below(from.length)] as T
  }

  #count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1)
  }
}

const entryPlace = (table: number, level: number, page: number): number =>
  table * PAGE + (Math.floor(page / 512 ** (level - 1)) % 512) * WORD

/** The page of memory that a request should reach; undefined where it should be refused. */
function wantedOf(space: Space | undefined, page: number, need: number): number | undefined {
  const large = page - (page % LARGE_PAGES)
  const at = space?.mapped.has(page) === true ? page : large
  const mapping = space?.mapped.get(at)
  if (mapping === undefined || page >= at + mapping.pages || (mapping.perm & need) === 0) return undefined
  return mapping.target + (page - at)
}

const contextEntry = (domain: number, source: number, name: string): Needed => ({
  name,
  words: [0x31n | (BigInt(domain) << 16n) | (BigInt(source) << 32n), 0n],
})
const pasidEntry = (domain: number, pasid: number, name: string): Needed => ({
  name,
  words: [0x17n | (BigInt(domain) << 16n) | (BigInt(pasid) << 32n), 0n],
})
const ofDomain = (domain: number, name: string): Needed => ({
  name,
  words: [0x22n | (BigInt(domain) << 16n), 0n],
})
const ofPasid = (domain: number, pasid: number, name: string): Needed => ({
  name,
  words: [0x26n | (BigInt(domain) << 16n) | (BigInt(pasid) << 32n), 0n],
})

/** Pages of the TLB of the device with ATS, or all of it. */
function deviceTlb(pasid: number, range: { page: number; pages: number } | undefined, name: string): Needed {
  const size = pasid === 0 ? 1n : 0x800n
  const address =
    range === undefined
      ? 0x7fff_ffff_ffff_f000n | size
      : range.pages === 1
        ? BigInt(range.page) << 12n
        : (BigInt(range.page) << 12n) | 0xf_f000n | size
  const source = BigInt(ATS_SOURCE)
  const lo = pasid === 0 ? 3n | (source << 32n) : 8n | (source << 16n) | (BigInt(pasid) << 32n)
  return { name, words: [lo, address] }
}
