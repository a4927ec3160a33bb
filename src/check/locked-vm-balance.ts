import { U64_MAX, wordOf } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import { LiveRegions, regionText } from './live-regions.ts'
import { NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'
import { counted } from './words.ts'

const RULE = 'locked-vm-balance'
const LOCKED = slotMap('mm.locked')
const FREE = slotMap('mm.free')

/** The account of one process. */
interface Account {
  total: bigint
  /** Records of charges that were not given back, by the pages charged. */
  readonly charges: Map<number, number[]>
  /** Registered regions of ordinary memory, by their pages. */
  readonly regions: Map<number, number>
  /** False once something was given back that was not charged as one: from there on nobody knows for what. */
  isItemised: boolean
}

interface Fault {
  readonly process: number
  readonly message: string
  readonly seqs: readonly number[]
}

/** Judges `locked-vm-balance` for each process, at each change and at the end of its address space. */
export class LockedVmBalance extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = ['mm.locked', 'mm.free', 'region.new', 'region.put']
  readonly #accounts = new Map<number, Account>()
  readonly #regions = new LiveRegions()

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['mm.locked']) this.#seeChange(log, seq)
    else if (kind === KIND['mm.free']) this.#seeFreed(log, seq)
    else this.#seeRegion(log, seq)
  }

  #seeChange(log: RecordLog, seq: number): void {
    const process = log.slot(seq, LOCKED.process)
    const delta = log.slot(seq, LOCKED.delta)
    const account = this.#accountOf(process)
    const before = account.total
    account.total = wordOf(log.slot(seq, LOCKED.total + 1), log.slot(seq, LOCKED.total))
    const name = log.names.word(process)
    if (account.total !== ((before + BigInt(delta)) & U64_MAX)) {
      const message = `locked_vm of ${name} was ${before} pages, and is ${account.total} after a change of ${delta}`
      this.#report(log, { process, message, seqs: [seq] })
    } else if (delta < 0 && BigInt(-delta) > before) {
      const message = `${counted(-delta, 'page')} of ${name} were given back, with ${before} charged`
      this.#report(log, { process, message, seqs: [seq] })
    }
    if (delta > 0) this.#charge(account, delta, seq)
    else this.#giveBack(log, seq, account)
  }

  #charge({ charges }: Account, pages: number, seq: number): void {
    const list = charges.get(pages)
    if (list === undefined) charges.set(pages, [seq])
    else list.push(seq)
  }

  #giveBack(log: RecordLog, seq: number, account: Account): void {
    const pages = -log.slot(seq, LOCKED.delta)
    const list = account.charges.get(pages) ?? []
    const charge = list.pop()
    if (charge === undefined) account.isItemised = false
    if (!account.isItemised || list.length >= (account.regions.get(pages) ?? 0)) return
    const process = log.slot(seq, LOCKED.process)
    const message = `${counted(pages, 'page')} of ${log.names.word(process)} were given back, with a region of as many still registered`
    this.#report(log, { process, message, seqs: [charge as number, seq] })
  }

  #seeRegion(log: RecordLog, seq: number): void {
    const region = this.#regions.take(log, seq)
    if (region.isDevice) return
    const { process, pages } = region
    const account = this.#accountOf(process)
    const others = account.regions.get(pages) ?? 0
    if (log.kindNumberOf(seq) === KIND['region.new']) {
      account.regions.set(pages, others + 1)
      if (!account.isItemised) this.list.skipped++
      else if ((account.charges.get(pages)?.length ?? 0) <= others)
        this.#report(log, { process, message: `${regionText(log, region)} was not charged`, seqs: [seq] })
    } else if (region.used === 0) account.regions.set(pages, Math.max(0, others - 1))
  }

  #seeFreed(log: RecordLog, seq: number): void {
    const process = log.slot(seq, FREE.process)
    const account = this.#accounts.get(process)
    if (account === undefined) return
    this.#accounts.delete(process)
    if (account.total === 0n) return
    const left = [...account.charges.values()].flat().sort((a, b) => a - b)
    const name = log.names.word(process)
    const message = `locked_vm of ${name} is ${account.total} pages with its address space gone`
    this.#report(log, { process, message, seqs: [...left.slice(0, 8), seq] })
  }

  #accountOf(process: number): Account {
    let account = this.#accounts.get(process)
    if (account === undefined) {
      account = { total: 0n, charges: new Map(), regions: new Map(), isItemised: true }
      this.#accounts.set(process, account)
    }
    return account
  }

  #report(log: RecordLog, { process, message, seqs }: Fault): void {
    const by = seqs[0] ?? NO_RECORD
    const key = { rule: RULE, window: process, entry: 0, by, ended: seqs.at(-1) ?? NO_RECORD }
    if (this.list.again(key)) return
    this.list.add({ rule: RULE, message, because: because(this.scene(log), ...seqs), inferred: false })
  }
}
