import type { Prng } from '../../bits/prng.ts'
import { TCE_HCALL_R3 } from '../../kernel/tce-hcalls.ts'
import type { BelievedWindow, Draft } from './random-draft.ts'
import { AREAS, DMA_BYTES } from './random-driver-calls.ts'
import { type BelievedTable, DEFAULT_WINDOW, GUEST_RAM, SLOT_GPAS } from './random-guest.ts'

const { H_GET_TCE, H_PUT_TCE, H_STUFF_TCE, H_PUT_TCE_INDIRECT } = TCE_HCALL_R3
const READ_WRITE = 3n
const PERMISSIONS = 3n
/** Where lists of TCEs stand in the guest. */
const LISTS = [0x3_0000n, 0x3_1000n, 0x3_f000n] as const
/** A list that fills its page, and one too many. */
const LIST_MAX = 512n
/** Hardware entries that one call may write: an emulated kernel takes a microsecond or two for each. */
const WRITTEN_MAX = 0x4000n
/** A page of the guest that no VM here has. */
const NOWHERE = 0x4000_0000n
/** Entries of a dump. */
const DUMPED = 12
/** Where user space maps a page, so that what a device has read can be seen: entries from the start of the window. */
const SCRATCH_ENTRY = 0x300n

/** Writes hypercalls of the guest, looks at its tables, and what a device moves through them. */
export class Hypercalls {
  readonly #draft: Draft
  readonly #prng: Prng

  constructor(draft: Draft) {
    this.#draft = draft
    this.#prng = draft.prng
  }

  /** Any of them. */
  any(): void {
    this.#draft.choose([
      [14, () => this.#put()],
      [6, () => this.#putIndirect()],
      [7, () => this.#stuff()],
      [5, () => this.#get()],
    ])
  }

  /** A table that hypercalls reach; undefined where there is none. */
  #table(): BelievedTable | undefined {
    const { reached } = this.#draft.guest
    if (reached.length === 0) return undefined
    const backed = reached.filter(({ isBacked }) => isBacked)
    return this.#prng.pick(backed.length > 0 && !this.#prng.oneIn(4) ? backed : reached)
  }

  /** An entry: often the same few, sometimes the last ones. */
  #index({ entries, written }: BelievedTable): bigint {
    if (written.length > 0 && this.#prng.oneIn(2)) return this.#prng.pick(written).index
    if (this.#prng.oneIn(10)) return entries - 1n - BigInt(this.#prng.below(entries < 3n ? 1 : 3))
    return BigInt(this.#prng.below(entries < 12n ? Number(entries) : 12))
  }

  /** The bus address of an entry, or one that is wrong in some way, which the kernel sees before it writes. */
  #ioba({ pageShift, offset, entries }: BelievedTable, index: bigint): bigint {
    const shift = BigInt(pageShift)
    if (this.#prng.oneIn(20))
      return ((offset + index) << shift) + this.#prng.pick([1n, 0x800n, 1n << (shift - 1n)])
    if (!this.#prng.oneIn(20)) return BigInt.asUintN(64, (offset + index) << shift)
    const outside = [offset + entries, offset === 0n ? entries + 0x1000n : offset - 1n, (1n << 52n) - 1n]
    return BigInt.asUintN(64, this.#prng.pick(outside) << shift)
  }

  #liobn(table: BelievedTable | undefined): bigint {
    return table === undefined || this.#prng.oneIn(30) ? this.#prng.pick([0x99n, 0n, 1n << 63n]) : table.liobn
  }

  /** A page of the guest: mostly of its memory, sometimes of another slot, or of none. */
  #gpa(pageShift: number): bigint {
    const page = 1n << BigInt(pageShift)
    const { slots } = this.#draft.guest
    if (this.#prng.oneIn(24)) return this.#prng.pick([NOWHERE, GUEST_RAM.bytes, 1n << 50n])
    const others = slots.filter((s) => s.slot !== 0)
    if (others.length > 0 && this.#prng.oneIn(4)) {
      const { gpa, bytes } = this.#prng.pick(others)
      return gpa + page * BigInt(this.#prng.below(Math.max(1, Math.min(8, Number(bytes / page)))))
    }
    if (this.#prng.oneIn(24)) return this.#prng.pick(SLOT_GPAS)
    const pages = Number(GUEST_RAM.bytes / page)
    if (pages === 0) return 0n
    const at = this.#prng.oneIn(3) ? this.#prng.below(pages) : this.#prng.below(Math.min(pages, 8))
    return page * BigInt(at)
  }

  #tce(pageShift: number): bigint {
    let gpa = this.#gpa(pageShift)
    if (this.#prng.oneIn(24)) gpa += this.#prng.pick([4n, 0x800n, 0x1000n, 0x8000n])
    return gpa | this.#prng.pick([3n, 3n, 3n, 3n, 3n, 3n, 1n, 1n, 2n, 2n, 0n])
  }

  /**
   * A TCE of a list, of which a wrong one spoils all. One without permissions is taken for an address (X2), which must be
   * a whole page: kernels stop otherwise.
   */
  #listed(pageShift: number, isCalm: boolean): bigint {
    const pages = Number(GUEST_RAM.bytes >> BigInt(pageShift))
    const calm = (BigInt(this.#prng.below(Math.max(1, Math.min(pages, 8)))) << BigInt(pageShift)) | READ_WRITE
    const tce = isCalm && !this.#prng.oneIn(10) ? calm : this.#tce(pageShift)
    if ((tce & PERMISSIONS) !== 0n) return tce
    return this.#prng.pick([0n, this.#gpa(Math.max(16, pageShift))])
  }

  #note(table: BelievedTable, index: bigint, tce: bigint): void {
    const { written } = table
    const at = written.findIndex((w) => w.index === index)
    if (at >= 0) written.splice(at, 1)
    if ((tce & PERMISSIONS) !== 0n) written.push({ index, gpa: tce & ~0xfffn })
  }

  #put(): void {
    const table = this.#table()
    if (table === undefined) {
      this.#draft.add('hcall', { nr: H_PUT_TCE, arg1: this.#liobn(table), arg2: 0n, arg3: READ_WRITE })
      return
    }
    const index = this.#index(table)
    const tce = this.#prng.oneIn(6) ? 0n : this.#tce(table.pageShift)
    const [liobn, ioba] = [this.#liobn(table), this.#ioba(table, index)]
    this.#draft.add('hcall', { nr: H_PUT_TCE, arg1: liobn, arg2: ioba, arg3: tce })
    this.#note(table, index, tce)
  }

  /** As many pages from an index on as may be written. */
  #pages(table: BelievedTable, index: bigint, wanted: bigint): bigint {
    const { guest } = this.#draft
    const left = table.entries - index
    // Beyond the end only where the tables have entries there (X14): elsewhere the kernel writes over other memory.
    const room = this.#prng.oneIn(8) ? guest.room(table, index) : left
    const most = WRITTEN_MAX / (table.isBacked ? guest.ratio(table) : 1n)
    const least = (a: bigint, b: bigint) => (a < b ? a : b)
    return least(least(wanted, room), most < 1n ? 1n : most)
  }

  #putIndirect(): void {
    const table = this.#table()
    if (table === undefined) {
      this.#draft.add('hcall', { nr: H_PUT_TCE_INDIRECT, arg1: 0x99n, arg2: 0n, arg3: LISTS[0], arg4: 1n })
      return
    }
    const { guest } = this.#draft
    const index = this.#index(table)
    const ioba = this.#ioba(table, index)
    const list = this.#prng.pick(LISTS)
    const args = { nr: H_PUT_TCE_INDIRECT, arg1: this.#liobn(table), arg2: ioba }
    if (this.#prng.oneIn(10)) {
      const wrong = this.#prng.pick([
        { arg3: list + 8n, arg4: 1n },
        { arg3: list, arg4: LIST_MAX + 1n },
        { arg3: list, arg4: 1n << 63n },
        { arg3: NOWHERE, arg4: 2n },
        { arg3: list, arg4: 0n },
      ])
      this.#draft.add('hcall', { ...args, ...wrong })
      return
    }
    const known = guest.lists.get(list) ?? 0
    const isNew = known === 0 || !this.#prng.oneIn(3)
    const wanted = BigInt(isNew ? 1 + this.#prng.below(4) : 1 + this.#prng.below(known))
    const npages = this.#pages(table, index, wanted)
    if (isNew) {
      const isCalm = !this.#prng.oneIn(3)
      for (let i = 0n; i < npages; i++) {
        const tce = this.#listed(table.pageShift, isCalm)
        this.#draft.add('gpoke64', { gpa: list + 8n * i, value: tce })
        this.#note(table, index + i, tce)
      }
      guest.lists.set(list, Number(npages))
    }
    this.#draft.add('hcall', { ...args, arg3: list, arg4: npages })
  }

  #stuff(): void {
    const table = this.#table()
    const value = this.#prng.pick([0n, 0n, 0n, 0n, 0n, 0x30_0000n, 0x5005_0000n, 0x30_0003n])
    if (table === undefined) {
      this.#draft.add('hcall', { nr: H_STUFF_TCE, arg1: this.#liobn(table), arg2: 0n, arg3: value, arg4: 1n })
      return
    }
    const index = this.#index(table)
    const wanted = this.#prng.pick([0n, 1n, 1n, 2n, 3n, 8n, 12n, 512n, 513n, table.entries - index])
    const npages = this.#pages(table, index, wanted)
    const [liobn, ioba] = [this.#liobn(table), this.#ioba(table, index)]
    this.#draft.add('hcall', { nr: H_STUFF_TCE, arg1: liobn, arg2: ioba, arg3: value, arg4: npages })
    const { written } = table
    for (let i = written.length - 1; i >= 0; i--) {
      const at = (written[i] as (typeof written)[number]).index
      if (at >= index && at < index + npages && !this.#prng.oneIn(4)) written.splice(i, 1)
    }
  }

  #get(): void {
    const table = this.#table()
    const ioba = table === undefined ? 0n : this.#ioba(table, this.#index(table))
    this.#draft.add('hcall', { nr: H_GET_TCE, arg1: this.#liobn(table), arg2: ioba })
  }

  // --- what user space sees ---

  /** A table as its mapping shows it, or an entry that user space writes. */
  look(): void {
    const { tables } = this.#draft.guest
    const mapped = tables.filter(({ isMapped }) => isMapped)
    if (mapped.length === 0) return
    const table = this.#prng.pick(mapped)
    const index = this.#index(table)
    if (this.#prng.oneIn(5)) {
      this.#draft.add('tcepoke', { table: table.number, entry: index, tce: this.#tce(table.pageShift) })
      return
    }
    const first = this.#prng.oneIn(3) ? index : 0n
    this.#draft.add('tcedump', { table: table.number, first, entries: DUMPED })
  }

  /** All tables, at the end of a script. */
  lookAtAll(): void {
    for (const { number, isMapped } of this.#draft.guest.tables) {
      if (isMapped) this.#draft.add('tcedump', { table: number, first: 0n, entries: DUMPED })
    }
  }

  // --- what a device moves ---

  get #window(): BelievedWindow {
    return this.#draft.container?.windows[0] ?? DEFAULT_WINDOW
  }

  /** A page at which user space sees what the device has read. */
  scratch(): void {
    const window = this.#window
    const iova = window.start + (SCRATCH_ENTRY << BigInt(window.pageShift))
    const bytes = 1n << BigInt(window.pageShift)
    this.#draft.add('map', { iova, vaddr: AREAS[1].from, bytes })
    // From here on the device's buffer is known.
    this.#draft.add('dma', { direction: 'r', iova, bytes: DMA_BYTES })
  }

  /**
   * A device reads or writes where an entry is or was: what the page of the entry holds, and where it shows, tell
   * whether an old mapping is still there.
   */
  dma(): void {
    const { guest } = this.#draft
    const tables = guest.tables.filter((t) => t.isBacked)
    if (tables.length === 0) return
    const window = this.#window
    const table = this.#prng.pick(tables)
    const shift = BigInt(table.pageShift)
    const known =
      table.written.length > 0 && !this.#prng.oneIn(4) ? this.#prng.pick(table.written) : undefined
    const index = known?.index ?? this.#index(table)
    const page = 1n << shift
    const offset = this.#prng.pick([0n, 0x100n, 0x7f0n, 0xff0n, page - 0x10n, page / 2n, (page / 4n) * 3n])
    const iova = ((table.offset + index) << shift) + offset
    const gpa = (known?.gpa ?? this.#gpa(table.pageShift)) + offset
    const vaddr = guest.vaddrOf(gpa)
    const isThere = vaddr !== undefined && gpa < GUEST_RAM.bytes
    const fill = BigInt(1 + this.#prng.below(255))
    const scratch = window.start + (SCRATCH_ENTRY << BigInt(window.pageShift))
    const poke = () => isThere && this.#draft.add('poke', { vaddr, fill, bytes: DMA_BYTES })
    this.#draft.choose([
      [2, poke],
      [
        4,
        () => {
          if (this.#prng.oneIn(2)) poke()
          this.#draft.add('dma', { direction: 'r', iova, bytes: DMA_BYTES })
          this.#draft.add('dma', { direction: 'w', iova: scratch, bytes: DMA_BYTES })
          this.#draft.add('peek', { vaddr: AREAS[1].from, bytes: DMA_BYTES })
        },
      ],
      [
        4,
        () => {
          this.#draft.add('dma', { direction: 'w', iova, bytes: DMA_BYTES })
          if (isThere) this.#draft.add('peek', { vaddr, bytes: DMA_BYTES })
        },
      ],
    ])
  }
}
