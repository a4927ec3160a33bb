import { slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { NEVER } from './vtd-flushes.ts'

const PASID = slotMap('svm.pasid')
const ENTRY = slotMap('svm.entry')
const BIND = slotMap('svm.bind')
const USERS = slotMap('mm.users')
/** PASIDs have 20 bits. */
export const PASIDS = 2 ** 20

/** A device bound by a PASID, or that was (`users` 0). Names are interned. */
export interface Binding {
  readonly seq: number
  readonly unit: number
  readonly device: number
  readonly pasid: number
  readonly users: number
}

/** A PASID that is handed out. */
export interface GivenPasid {
  readonly seq: number
  readonly unit: number
  readonly pasid: number
  readonly mm: number
  /** All units share the numbers: they live as long as the address space. */
  readonly isGlobal: boolean
}

interface PresentEntry {
  readonly seq: number
  readonly unit: number
  readonly device: number
  readonly pasid: number
  /** All devices of the unit have the table. */
  readonly isShared: boolean
}

/** Who is bound by which PASID, from the records of the kernel. */
export class BindingShadow {
  readonly #bindings = new Map<number, Binding>()
  /** Of a unit, by its name and PASID. */
  readonly #given = new Map<number, GivenPasid>()
  readonly #entries = new Map<string, PresentEntry>()
  readonly #sizes = new Map<number, number>()
  /** First page tables, and the address spaces that they are of. */
  readonly #roots = new Map<number, number>()
  /** Address spaces without a structure. */
  readonly #freed = new Set<number>()
  /** When the last device was unbound from a PASID, or the PASID was given back. */
  readonly #ended = new Map<number, number>()

  get hasBindings(): boolean {
    return this.#bindings.size > 0
  }

  tables(unit: number, entries: number): void {
    if (entries === 0) this.#sizes.delete(unit)
    else this.#sizes.set(unit, entries)
  }

  /** Whether the PASID table of a unit has a place, as far as records tell. */
  fits(unit: number, pasid: number): boolean {
    return pasid < (this.#sizes.get(unit) ?? PASIDS)
  }

  pasid(log: RecordLog, seq: number): void {
    const unit = log.slot(seq, PASID.unit)
    const pasid = log.slot(seq, PASID.pasid) >>> 0
    const key = unit * PASIDS + pasid
    if (log.slot(seq, PASID.state) === 0) {
      this.#given.delete(key)
      this.#ended.set(pasid, seq)
      return
    }
    const isGlobal = log.names.word(unit) === ''
    this.#given.set(key, { seq, unit, pasid, mm: log.slot(seq, PASID.mm), isGlobal })
  }

  /** Who was given a PASID: of a unit, or of all. */
  given(log: RecordLog, unit: number, pasid: number): GivenPasid | undefined {
    return this.#given.get(unit * PASIDS + pasid) ?? this.#given.get(log.names.intern('') * PASIDS + pasid)
  }

  isOfKernel(log: RecordLog, unit: number, pasid: number): boolean {
    const given = this.given(log, unit, pasid)
    return given !== undefined && log.names.word(given.mm) === ''
  }

  bind(log: RecordLog, seq: number): void {
    const pasid = log.slot(seq, BIND.pasid) >>> 0
    const users = log.slot(seq, BIND.users)
    const source = log.slot(seq, BIND.source) >>> 0
    const [unit, device] = [log.slot(seq, BIND.unit), log.slot(seq, BIND.device)]
    this.#bindings.set(source * PASIDS + pasid, { seq, unit, device, pasid, users })
    if (users === 0) this.#ended.set(pasid, seq)
  }

  binding(source: number, pasid: number): Binding | undefined {
    return this.#bindings.get(source * PASIDS + pasid)
  }

  /** A binding by a PASID of a unit, or of all, that holds. */
  boundBy(log: RecordLog, unit: number, pasid: number): Binding | undefined {
    const isGlobal = log.names.word(unit) === ''
    return [...this.#bindings.values()].find(
      (b) => b.pasid === pasid && b.users > 0 && (isGlobal || b.unit === unit),
    )
  }

  entry(log: RecordLog, seq: number): void {
    const [unit, device] = [log.slot(seq, ENTRY.unit), log.slot(seq, ENTRY.device)]
    const pasid = log.slot(seq, ENTRY.pasid) >>> 0
    const key = `${unit} ${device} ${pasid}`
    if (log.slot(seq, ENTRY.present) === 0) this.#entries.delete(key)
    else this.#entries.set(key, { seq, unit, device, pasid, isShared: log.names.word(device) === '' })
  }

  /** Entries of a PASID that are present. */
  entriesOf(unit: number, pasid: number): readonly PresentEntry[] {
    return [...this.#entries.values()].filter((e) => e.unit === unit && e.pasid === pasid)
  }

  root(page: number, mm: number, isTable: boolean): void {
    if (isTable) this.#roots.set(page, mm)
    else this.#roots.delete(page)
  }

  ownerOf(page: number): number | undefined {
    return this.#roots.get(page)
  }

  counted(log: RecordLog, seq: number): void {
    if (log.slot(seq, USERS.count) === 0) this.#freed.add(log.slot(seq, USERS.mm))
  }

  /** PASIDs that nobody can use any more, and that are not given back. */
  idle(log: RecordLog): readonly { pasid: number; mm: string; seq: number; unbound: number }[] {
    return [...this.#given.values()]
      .filter(({ unit, pasid, mm, isGlobal }) =>
        isGlobal ? this.#freed.has(mm) : this.boundBy(log, unit, pasid) === undefined,
      )
      .map(({ pasid, mm, seq }) => {
        const ended = this.#ended.get(pasid) ?? NEVER
        return { pasid, mm: log.names.word(mm), seq, unbound: ended > seq ? ended : NEVER }
      })
  }

  /** Entries that are present though no device that has them is bound by their PASID. */
  leftEntries(): readonly { pasid: number; seq: number; ended: number }[] {
    const bindings = [...this.#bindings.values()]
    const isHeld = ({ unit, device, pasid, isShared }: PresentEntry) =>
      bindings.some(
        (b) => b.users > 0 && b.unit === unit && b.pasid === pasid && (isShared || b.device === device),
      )
    return [...this.#entries.values()]
      .filter((entry) => !isHeld(entry))
      .map(({ pasid, seq }) => ({ pasid, seq, ended: this.#ended.get(pasid) ?? NEVER }))
  }
}
