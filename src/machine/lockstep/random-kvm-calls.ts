import type { Prng } from '../../bits/prng.ts'
import { U64_MAX } from '../../bits/u64.ts'
import { TCE_HCALL_R3 } from '../../kernel/tce-hcalls.ts'
import type { BelievedWindow, Draft } from './random-draft.ts'
import { AREAS, type DriverCalls } from './random-driver-calls.ts'
import { type BelievedTable, DEFAULT_WINDOW, GUEST_RAM, SLOT_GPAS, TABLES_MAX } from './random-guest.ts'

const PAGE = 0x1_0000n
const FIRST_LIOBN = 0x8000_0000n
const { H_PUT_TCE, H_GET_TCE, H_STUFF_TCE, H_PUT_TCE_INDIRECT } = TCE_HCALL_R3
const H_NUMBERS = [H_PUT_TCE, H_GET_TCE, H_STUFF_TCE, H_PUT_TCE_INDIRECT] as const
/** Extensions of KVM: about TCEs, of other architectures, and VMs with capabilities. */
const EXTENSIONS = [12, 63, 64, 83, 94, 95, 98, 104, 125, 126, 134, 142] as const
/** Entries of the largest table: its list of pages must be had in one piece. */
const ENTRIES_MAX = 1n << 22n
const VMS_MAX = 3

/** Writes calls that make, change and close what KVM has: VMs, slots, tables, its VFIO device. */
export class KvmCalls {
  readonly #draft: Draft
  readonly #driver: DriverCalls
  readonly #prng: Prng

  constructor(draft: Draft, driver: DriverCalls) {
    this.#draft = draft
    this.#driver = driver
    this.#prng = draft.prng
  }

  // --- what most scripts begin with ---

  /** What makes windows of a container, as tables of guests have them behind them; the same for each. */
  windows(): () => void {
    const levels = this.#prng.pick([1, 1, 1, 2])
    const small = this.#prng.pick([0x400_0000n, 0x4000_0000n, 0x8000_0000n])
    const large = this.#prng.pick([21, 30])
    let make = () => {}
    this.#draft.choose([
      [5, () => (make = () => this.#replaceDefault(16, small, levels))],
      [3, () => (make = () => this.#replaceDefault(12, 0x1000_0000n, levels))],
      [3, () => (make = () => this.#driver.createWindow(16, small, levels))],
      [2, () => (make = () => this.#driver.mapAt(0x10_0000n, AREAS[0].from, PAGE))],
      [1, () => (make = () => this.#replaceDefault(large, 1n << 34n, 1))],
      [1, () => undefined],
    ])
    return make
  }

  #replaceDefault(pageShift: number, bytes: bigint, levels: number): void {
    this.#driver.removeWindow(0n)
    const { container } = this.#draft
    // The driver makes the default window first, and it is that one which goes.
    if (container !== undefined) container.windows.length = 0
    this.#driver.createWindow(pageShift, bytes, levels)
    if (container?.type === 7) container.windows.splice(0, Infinity, { start: 0n, bytes, pageShift, levels })
  }

  /** Memory of the guest, preregistered in full, in halves, in part, or not. */
  memory(): void {
    const { from, bytes } = GUEST_RAM
    this.#draft.add('anon', { vaddr: from, bytes })
    const half = bytes / 2n
    this.#draft.choose([
      [8, () => this.#driver.register(GUEST_RAM)],
      [2, () => this.#driver.register({ from, bytes: half })],
      [1, () => this.#driver.register({ from, bytes: 0x80_0000n })],
      [
        2,
        () => {
          this.#driver.register({ from, bytes: half })
          this.#driver.register({ from: from + half, bytes: half })
        },
      ],
      [1, () => undefined],
    ])
  }

  /** A VM with memory and a guest that makes hypercalls. */
  guest(): void {
    this.#draft.add('kvm', {})
    this.#makeVm()
    this.#ram()
    if (!this.#prng.oneIn(4)) this.#draft.add('radix', {})
    this.#makeVcpu()
    for (const nr of [H_STUFF_TCE, H_PUT_TCE_INDIRECT]) {
      if (!this.#prng.oneIn(12)) this.#draft.add('hcall_enable', { nr, on: 1 })
    }
    if (this.#prng.oneIn(3)) this.#slot()
  }

  /** Tables, and what they have behind them. */
  tables(groups: readonly number[]): void {
    const count = 1 + this.#prng.below(3)
    for (let i = 0; i < count; i++) this.#table()
    if (this.#prng.oneIn(8)) return
    this.#device()
    for (const group of groups) this.#add(group)
    const { tables } = this.#draft.guest
    for (const table of tables) {
      for (const group of groups) if (!this.#prng.oneIn(6)) this.#attach(group, table.number)
    }
  }

  /** A guest that can say nothing any more gets what it lacks: a VM, a VCPU, a table. */
  reach(): void {
    const { guest } = this.#draft
    if (guest.vm === 0) {
      this.#makeVm()
      this.#ram()
    }
    if (guest.vcpuVm !== guest.vm) {
      this.#makeVcpu()
      for (const nr of [H_STUFF_TCE, H_PUT_TCE_INDIRECT]) this.#draft.add('hcall_enable', { nr, on: 1 })
    }
    this.#table()
  }

  // --- any of them ---

  any(): void {
    const { guest, openGroups } = this.#draft
    const groups = [...openGroups]
    const group = groups.length > 0 && !this.#prng.oneIn(10) ? this.#prng.pick(groups) : 0
    const hasRoom = guest.tables.length < TABLES_MAX
    const table = this.#tableNumber()
    this.#draft.choose([
      [hasRoom ? (guest.tables.length < 3 ? 8 : 3) : 0, () => this.#table()],
      [guest.tables.length > 0 ? 4 : 0, () => this.#closeTable()],
      [guest.hasDevice ? 1 : 4, () => this.#device()],
      [guest.added.has(group) ? 1 : 5, () => this.#add(group)],
      [guest.hasDevice && table !== undefined ? 10 : 1, () => this.#attach(group, table ?? 0)],
      [2, () => this.#remove(group)],
      [4, () => this.#slot()],
      [2, () => this.#enable()],
      [1, () => this.#ask()],
      [2, () => this.#lives()],
    ])
  }

  #makeVm(): void {
    const { guest } = this.#draft
    const type = this.#prng.pick([0, 0, 0, 0, 1])
    this.#draft.add('vm', { type })
    guest.vm = ++guest.vms
    guest.slots = []
    guest.added.clear()
    guest.hasDevice = false
  }

  #ram(): void {
    this.#draft.add('ram', { bytes: GUEST_RAM.bytes, vaddr: GUEST_RAM.from })
    this.#draft.guest.slots.push({ slot: 0, gpa: 0n, bytes: GUEST_RAM.bytes, vaddr: GUEST_RAM.from })
  }

  #makeVcpu(): void {
    const { guest } = this.#draft
    this.#draft.add('vcpu', {})
    if (guest.vm !== 0) guest.vcpuVm = guest.vm
  }

  /** Files of KVM come and go. */
  #lives(): void {
    const { guest } = this.#draft
    const isNew = guest.vms < VMS_MAX
    this.#draft.choose([
      [
        isNew ? 3 : 0,
        () => {
          this.#makeVm()
          this.#ram()
          if (!this.#prng.oneIn(2)) this.reach()
        },
      ],
      [2, () => this.#makeVcpu()],
      [
        guest.vcpuVm === 0 ? 0 : 1,
        () => {
          this.#draft.add('vcpuclose', {})
          guest.vcpuVm = 0
        },
      ],
      [
        1,
        () => {
          this.#draft.add('vmclose', {})
          guest.vm = 0
        },
      ],
      [
        2,
        () => {
          this.#draft.add('vfioclose', {})
          guest.hasDevice = false
          guest.added.clear()
        },
      ],
      [1, () => this.#draft.add('vm', { type: this.#prng.pick([3, 4, 0xff]) })],
    ])
  }

  /** Slot 0 and others, where they are and where they are not. */
  #slot(): void {
    const { guest } = this.#draft
    const known = guest.slots.length > 0 && this.#prng.oneIn(3) ? this.#prng.pick(guest.slots) : undefined
    const area = this.#prng.pick([AREAS[0], AREAS[1], GUEST_RAM])
    const slot = known?.slot ?? 1 + this.#prng.below(3)
    let gpa = known?.gpa ?? this.#prng.pick(SLOT_GPAS)
    let bytes = known?.bytes ?? (area === GUEST_RAM ? 0x100_0000n : area.bytes)
    let vaddr = known?.vaddr ?? area.from
    this.#draft.choose([
      [8, () => undefined],
      // A slot that goes takes what the guest may name with it; the first one rarely.
      [known === undefined || (known.slot === 0 && !this.#prng.oneIn(4)) ? 0 : 4, () => (bytes = 0n)],
      [known === undefined ? 0 : 3, () => (gpa = this.#prng.pick(SLOT_GPAS))],
      [1, () => (gpa += this.#prng.pick([1n, 0x1000n, PAGE]))],
      [1, () => (bytes += this.#prng.pick([1n, 0x1000n, PAGE]))],
      [1, () => (vaddr = this.#prng.pick([vaddr + 0x1000n, vaddr + PAGE, 1n << 63n]))],
    ])
    const flags = this.#prng.oneIn(30) ? 4 : 0
    this.#draft.add('slot', { slot, gpa, bytes, vaddr, ...(flags > 0 && { flags }) })
    const others = guest.slots.filter((s) => s.slot !== slot)
    const isLegal = flags === 0 && (gpa | bytes | vaddr) % PAGE === 0n && vaddr < 1n << 47n
    const isFree = others.every((s) => gpa >= s.gpa + s.bytes || s.gpa >= gpa + bytes)
    const isMove = known === undefined || (known.bytes === bytes && known.vaddr === vaddr)
    if (!isLegal || guest.vm === 0) return
    if (bytes === 0n) guest.slots = others
    else if (isFree && isMove) guest.slots = [...others, { slot, gpa, bytes, vaddr }]
  }

  #enable(): void {
    const nr = this.#prng.pick([...H_NUMBERS, 0x21n])
    const on = this.#prng.pick([0, 1, 1, 1, 1, 2])
    this.#draft.add('hcall_enable', { nr, on })
    // A script whose guest says nothing to the kernel is a poor one.
    if (on === 0 && !this.#prng.oneIn(3)) this.#draft.add('hcall_enable', { nr, on: 1 })
  }

  #ask(): void {
    const extension = this.#prng.pick(EXTENSIONS)
    this.#draft.add(this.#prng.oneIn(2) ? 'kvmcap' : 'vmcap', { extension })
  }

  // --- tables ---

  #tableNumber(): number | undefined {
    const { tables, vm } = this.#draft.guest
    const own = tables.filter((t) => t.vm === vm && t.isOpen)
    if (own.length > 0 && !this.#prng.oneIn(10)) return this.#prng.pick(own).number
    return tables.length > 0 ? this.#prng.below(tables.length) : undefined
  }

  /** The shape of a table that a window can be behind, or nearly. */
  #shape(window: BelievedWindow): Pick<BelievedTable, 'pageShift' | 'offset' | 'entries'> {
    const own = window.pageShift
    const larger = this.#prng.pick([own, own, own, 16, 21, 24, 24])
    const pageShift = this.#prng.oneIn(16) ? 12 : Math.max(own, larger)
    const pages = window.bytes >> BigInt(pageShift)
    const half = pages / 2n
    const length = this.#prng.oneIn(16)
      ? 2n * pages
      : this.#prng.pick([pages, pages, pages, half, pages - 3n, pages < 0x80n ? half : 0x80n])
    const entries = length < 1n ? 1n : length > ENTRIES_MAX ? ENTRIES_MAX : length
    const offset = (window.start >> BigInt(pageShift)) + (this.#prng.oneIn(16) ? 1n : 0n)
    return { pageShift, offset, entries }
  }

  #table(): void {
    const { containers, guest, prng } = this.#draft
    if (guest.tables.length === TABLES_MAX) return
    const windows = [...containers.values()].flatMap((c) => c.windows)
    const window = windows.length > 0 && !prng.oneIn(10) ? prng.pick(windows) : DEFAULT_WINDOW
    const twin = guest.tables.length > 0 && prng.oneIn(8) ? prng.pick(guest.tables) : undefined
    const liobn = twin?.liobn ?? FIRST_LIOBN + BigInt(guest.tables.length)
    if (prng.oneIn(8)) {
      const windowBytes = prng.pick([0x1000_0000n, 0x8000_0000n, 0x10_0fffn, 0xfffn, 0n])
      this.#draft.add('tce32', { liobn, windowBytes })
      if (windowBytes >= 0x1000n) {
        this.#keep({ liobn, pageShift: 12, offset: 0n, entries: windowBytes >> 12n })
      }
      return
    }
    let shape = this.#shape(window)
    let flags = 0
    if (prng.oneIn(12)) {
      const { pageShift, offset, entries } = shape
      const wrong = prng.pick([
        { pageShift: prng.pick([0, 11, 35, 63]), offset, entries },
        { pageShift, offset, entries: prng.pick([0n, 1n << 40n]) },
        // Not with an end that wraps: the kernel makes a table without pages, which hypercalls write over other memory.
        { pageShift, offset: 0n, entries: U64_MAX },
        { pageShift, offset: 1n << 52n, entries },
        shape,
      ])
      flags = wrong === shape ? 1 : 0
      shape = wrong
      this.#draft.add('tce64', { liobn, ...shape, ...(flags > 0 && { flags }) })
      return
    }
    this.#draft.add('tce64', { liobn, ...shape })
    this.#keep({ liobn, ...shape })
  }

  /** A table that was made, where its VM has no other of that name. */
  #keep(about: Pick<BelievedTable, 'liobn' | 'pageShift' | 'offset' | 'entries'>): void {
    const { guest } = this.#draft
    const { vm } = guest
    const isTaken = guest.tables.some(
      (t) => t.vm === vm && t.liobn === about.liobn && (t.isOpen || t.isMapped),
    )
    if (vm === 0 || isTaken) return
    const number = guest.tables.length
    guest.tables.push({ ...about, number, vm, isOpen: true, isMapped: true, isBacked: false, written: [] })
  }

  #closeTable(): void {
    const table = this.#prng.pick(this.#draft.guest.tables)
    // Both, so that the table goes, half of the time.
    const isWhole = this.#prng.oneIn(2)
    if (table.isOpen || this.#prng.oneIn(4)) {
      this.#draft.add('tceclose', { table: table.number })
      table.isOpen = false
    }
    if (!isWhole || !table.isMapped) return
    this.#draft.add('tceunmap', { table: table.number })
    table.isMapped = false
  }

  // --- the VFIO device ---

  #device(): void {
    this.#draft.add('vfiodev', {})
    const { guest } = this.#draft
    if (guest.vm !== 0) guest.hasDevice = true
  }

  #add(group: number): void {
    this.#draft.add('vfioadd', { group })
    const { guest, openGroups } = this.#draft
    if (guest.hasDevice && openGroups.has(group)) guest.added.add(group)
  }

  #remove(group: number): void {
    this.#draft.add('vfiodel', { group })
    this.#draft.guest.added.delete(group)
  }

  #attach(group: number, number: number): void {
    this.#draft.add('vfiotce', { group, table: number })
    const table = this.#draft.guest.tables[number]
    if (table !== undefined) table.isBacked = true
  }
}
