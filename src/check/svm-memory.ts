import { hex } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import type { RuleId } from './rules.ts'
import { CachedPasids } from './svm-cached-pasids.ts'
import { NEVER } from './vtd-flushes.ts'
import { addressAt } from './vtd-words.ts'

const DEAD = 'dead-page-table'
const KEPT = 'mm-kept-alive'
const LIFETIME = 'mm-lifetime'
const USERS = slotMap('mm.users')
const NOTIFY = slotMap('mm.notify')
const TABLE = slotMap('mm.table')
const ENTRY = slotMap('svm.entry')
const BIND = slotMap('svm.bind')
const STEP = slotMap('task.step')
const PAGE_BYTES = 4096
const TOP_LEVEL = 4
const PASIDS = 2 ** 20
/** Why users change, as records name it. (Linux include/linux/sched/mm.h) */
const TAKES = 'mmget_not_zero'
const GIVES = 'mmput'

/** An address space, as its records have it. */
interface Space {
  readonly name: number
  /** Undefined while no record says. */
  users: number | undefined
  count: number
  /** The last record of both. */
  counted: number
  /** The record with which the process gave it up; `NEVER` while it has it. */
  exited: number
  /** Registered notifiers, with the record. */
  readonly notifiers: Map<number, number>
  /** Those that were told of the end. */
  readonly released: Map<number, number>
}

/** A PASID entry that is present. */
interface Entry {
  readonly seq: number
  readonly unit: number
  readonly pasid: number
  readonly mm: number
}

/** Judges the lives of address spaces that devices use: `mm-lifetime`, `mm-kept-alive` and `dead-page-table`. */
export class SvmMemory extends ListedChecker {
  readonly rules: readonly RuleId[] = [DEAD, KEPT, LIFETIME]
  readonly kinds: readonly EventKind[] = [
    'mm.users',
    'mm.notify',
    'mm.table',
    'svm.entry',
    'svm.bind',
    'svm.request',
    'vtd.pasid',
    'domain.flush',
    'domain.wait',
  ]
  readonly #spaces = new Map<number, Space>()
  /** By unit, device and PASID. */
  readonly #entries = new Map<string, Entry>()
  /** Bindings that hold, by unit, device and PASID, with their address space. */
  readonly #bindings = new Map<string, { readonly mm: number; readonly seq: number }>()
  /** Entries as units have read them. */
  readonly #cached = new CachedPasids()
  /** Users that a task has taken, with the records, by its name. */
  readonly #taken = new Map<number, readonly { readonly mm: number; readonly seq: number }[]>()
  #log: RecordLog | undefined

  see(log: RecordLog, seq: number): void {
    this.#log = log
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['vtd.pasid']) this.#cached.read(log, seq, (unit, pasid) => this.#mmOf(unit, pasid))
    else if (kind === KIND['domain.flush']) this.#cached.flush(log, seq)
    else if (kind === KIND['domain.wait']) this.#cached.wait(log, seq)
    else if (kind === KIND['svm.request']) this.#requested(log, seq)
    else if (kind === KIND['mm.users']) this.#counted(log, seq)
    else if (kind === KIND['mm.notify']) this.#notified(log, seq)
    else if (kind === KIND['mm.table']) this.#table(log, seq)
    else if (kind === KIND['svm.entry']) this.#entry(log, seq)
    else this.#bound(log, seq)
  }

  override finish(): void {
    const log = this.#log
    if (log === undefined) return
    for (const space of this.#spaces.values()) {
      const users = space.users ?? 0
      if (space.exited === NEVER || users === 0) continue
      const held = [...this.#bindings.values()].filter(({ mm }) => mm === space.name)
      if (held.length === 0) continue
      const message = `${log.names.word(space.name)} still has ${users} user(s) though its process has ended, and a device is bound to it: nothing of it is given back`
      this.#found(log, KEPT, space.name, { message, seqs: [held[0]?.seq ?? NEVER, space.exited] })
    }
  }

  /** A page request is handled: what the task has taken for it is given back. */
  #requested(log: RecordLog, seq: number): void {
    const task = taskOf(log, seq)
    for (const { mm, seq: taken } of this.#taken.get(task) ?? []) {
      const message = `a page request is answered, and keeps a user of ${log.names.word(mm)}, which was taken for it: nobody gives it back`
      this.#found(log, LIFETIME, mm, { message, seqs: [taken, seq] })
    }
    this.#taken.delete(task)
  }

  #spaceOf(mm: number): Space {
    let space = this.#spaces.get(mm)
    if (space === undefined) {
      space = {
        name: mm,
        users: undefined,
        count: 0,
        counted: NEVER,
        exited: NEVER,
        notifiers: new Map(),
        released: new Map(),
      }
      this.#spaces.set(mm, space)
    }
    return space
  }

  #counted(log: RecordLog, seq: number): void {
    const space = this.#spaceOf(log.slot(seq, USERS.mm))
    const before = { users: space.users, count: space.count, counted: space.counted }
    // Below zero shows as a negative lane.
    const users = log.slot(seq, USERS.users)
    const count = log.slot(seq, USERS.count)
    Object.assign(space, { users, count, counted: seq })
    const why = log.names.word(log.slot(seq, USERS.why))
    if (why === 'exit') space.exited = seq
    this.#take(log, seq, why)
    const name = log.names.word(space.name)
    const wrong = (message: string) =>
      this.#found(log, LIFETIME, space.name, { message, seqs: [before.counted, seq] })
    if (users < 0 || count < 0) wrong(`${name} is given back more often than it was taken`)
    else if (before.users === 0 && users > 0) wrong(`${name} gets a user again, though it had none any more`)
    else if (before.users !== undefined && before.count === 0)
      wrong(`the structure of ${name} is used after it was freed`)
    else if (users > 0 && count === 0)
      wrong(`the structure of ${name} is freed while the address space is used`)
    if (count !== 0) return
    for (const entry of this.#entriesOf(space.name)) {
      const message = `${name} is freed while ${entryText(entry)} leads to its page tables`
      this.#dead(log, entry, { message, seqs: [entry.seq, seq] })
    }
  }

  /** A task takes a user of an address space, or gives one back. */
  #take(log: RecordLog, seq: number, why: string): void {
    if (why !== TAKES && why !== GIVES) return
    const task = taskOf(log, seq)
    if (task === NEVER) return
    const mm = log.slot(seq, USERS.mm)
    const taken = this.#taken.get(task) ?? []
    if (why === TAKES) this.#taken.set(task, [...taken, { mm, seq }])
    else {
      const last = taken.findLast((t) => t.mm === mm)
      this.#taken.set(
        task,
        taken.filter((t) => t !== last),
      )
    }
  }

  #notified(log: RecordLog, seq: number): void {
    const space = this.#spaceOf(log.slot(seq, NOTIFY.mm))
    const notifier = log.slot(seq, NOTIFY.notifier)
    const call = log.names.word(log.slot(seq, NOTIFY.call))
    const word = () => `${log.names.word(notifier)} of ${log.names.word(space.name)}`
    if (call === 'register') {
      space.notifiers.set(notifier, seq)
      space.released.delete(notifier)
      if (space.users !== 0) return
      const message = `${word()} is registered though the address space has no user any more: it is never told of the end`
      this.#found(log, LIFETIME, space.name, { message, seqs: [space.counted, seq] })
    } else if (call === 'unregister') {
      space.notifiers.delete(notifier)
    } else if (call === 'release' && space.notifiers.has(notifier)) {
      // One that leaves is told as well, and the end may meet it there.
      const told = space.released.get(notifier)
      space.released.set(notifier, seq)
      if (told === undefined) return
      const message = `${word()} is told of the end twice`
      this.#found(log, LIFETIME, space.name, { message, seqs: [told, seq] })
    }
  }

  /** A page table is given back. Of an address space that lives others may be, behind what `unmap` flushes; not the first one. */
  #table(log: RecordLog, seq: number): void {
    if (log.slot(seq, TABLE.state) === 1) return
    const space = this.#spaceOf(log.slot(seq, TABLE.mm))
    const page = addressAt(log, seq, TABLE.page)
    const isTop = log.slot(seq, TABLE.level) === TOP_LEVEL
    if (space.users !== 0 && !isTop) return
    const name = log.names.word(space.name)
    for (const [notifier, registered] of space.notifiers) {
      if (space.released.has(notifier)) continue
      const message = `page tables of ${name} are given back before ${log.names.word(notifier)} is told of the end`
      this.#found(log, LIFETIME, space.name, { message, seqs: [registered, space.counted, seq] })
    }
    for (const cached of this.#cached.of(space.name)) {
      const unit = log.names.word(cached.unit)
      const message = `the page table of ${name} at ${hex(page * PAGE_BYTES)} is given back while ${unit} still remembers ${entryText(cached)}, which leads there`
      this.#dead(log, cached, { message, seqs: [cached.seq, space.counted, seq] })
    }
    for (const entry of this.#entriesOf(space.name)) {
      const message = `the page table of ${name} at ${hex(page * PAGE_BYTES)} is given back while ${entryText(entry)} leads there`
      this.#dead(log, entry, { message, seqs: [entry.seq, space.counted, seq] })
    }
  }

  #entry(log: RecordLog, seq: number): void {
    const pasid = log.slot(seq, ENTRY.pasid) >>> 0
    const key = `${log.slot(seq, ENTRY.unit)} ${log.slot(seq, ENTRY.device)} ${pasid}`
    if (log.slot(seq, ENTRY.present) === 0) {
      this.#entries.delete(key)
      return
    }
    const mm = log.slot(seq, ENTRY.mm)
    if (log.names.word(mm) === '') return
    const entry = { seq, unit: log.slot(seq, ENTRY.unit), pasid, mm }
    this.#entries.set(key, entry)
    const space = this.#spaces.get(mm)
    if (space?.users !== 0) return
    const message = `${entryText(entry)} is pointed to the page tables of ${log.names.word(mm)}, which has no user any more`
    this.#dead(log, entry, { message, seqs: [space.counted, seq] })
  }

  #bound(log: RecordLog, seq: number): void {
    const pasid = log.slot(seq, BIND.pasid) >>> 0
    const key = `${log.slot(seq, BIND.unit)} ${log.slot(seq, BIND.device)} ${pasid}`
    if (log.slot(seq, BIND.users) === 0) this.#bindings.delete(key)
    else this.#bindings.set(key, { mm: log.slot(seq, BIND.mm), seq })
  }

  /** Whose page tables a unit finds behind a PASID. */
  #mmOf(unit: number, pasid: number): number | undefined {
    return [...this.#entries.values()].find((e) => e.unit === unit && e.pasid === pasid)?.mm
  }

  #entriesOf(mm: number): readonly Entry[] {
    return [...this.#entries.values()].filter((entry) => entry.mm === mm)
  }

  /** Each entry is told once, with the first page that goes. */
  #dead(
    log: RecordLog,
    entry: Omit<Entry, 'unit'>,
    what: { message: string; seqs: readonly number[] },
  ): void {
    this.#found(log, DEAD, entry.mm * PASIDS + entry.pasid, what, entry.seq)
  }

  #found(
    log: RecordLog,
    rule: RuleId,
    entry: number,
    { message, seqs }: { message: string; seqs: readonly number[] },
    by = NEVER,
  ): void {
    if (this.list.again({ rule, window: -1, entry, by, ended: NEVER })) return
    this.list.add({ rule, message, because: because(this.scene(log), ...seqs), inferred: false })
  }
}

const entryText = ({ pasid }: Pick<Entry, 'pasid'>): string => `the entry of PASID ${hex(pasid)}`

/** The task that left a record, by its step; `NEVER` where none did. */
function taskOf(log: RecordLog, seq: number): number {
  const cause = log.causeOf(seq)
  if (cause < 0 || !log.has(cause) || log.kindNumberOf(cause) !== KIND['task.step']) return NEVER
  return log.slot(cause, STEP.task)
}
