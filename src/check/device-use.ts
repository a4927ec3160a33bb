import { hex, pageOf, wordOf } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { busAddress, requestOf } from './describe.ts'
import { because } from './evidence.ts'
import { type CheckerOptions, ListedChecker } from './listed-checker.ts'
import { EVER, INFERRED, LIVE, type Lives, NO_RECORD, UNKNOWN } from './lives.ts'
import type { RuleId } from './rules.ts'
import type { Use, Uses, UseWatcher } from './uses.ts'
import type { WindowShadow } from './window-shadow.ts'
import { directionText } from './words.ts'

const T = slotMap('dma.translate')
const MISS = slotMap('dma.miss')
const SEEN = slotMap('tce.seen')

/** Closed windows that are remembered, so that a use of one can name what closed it. */
const CLOSED_KEPT = 8
const NO_WINDOW = -1
/** A `tce.seen` with one of these verdicts shows that the shadow did not know the entry. */
const CONTRADICTS = 2
const TEACHES = 3

interface Closed {
  readonly window: WindowShadow
  readonly closedBy: number
}

/**
 * Judges every translation that a device uses or tries: `use-after-unmap` and `dma-not-granted`.
 *
 * In a window with grants the grant decides; in one without (a log of a real machine) the live entry is the
 * grant. A use that was refused although it was granted is no fault of the device: `allocator-drift` has it.
 */
export class DeviceUse extends ListedChecker implements UseWatcher {
  readonly rules: readonly RuleId[] = ['use-after-unmap', 'dma-not-granted']
  readonly kinds: readonly EventKind[] = ['dma.miss', 'tce.seen', 'window.close']
  readonly #closed: Closed[] = []
  readonly #uses: Uses
  #found = NO_RECORD

  constructor(options: CheckerOptions) {
    super(options)
    this.#uses = options.uses
    options.uses.watch(this)
  }

  override get skipped(): number {
    return this.list.skipped + this.#uses.stray
  }

  used(use: Use): void {
    const { window, entry, need } = use
    const lives = window.grants ?? window.tce
    lives.loadAt(entry)
    const { state } = lives
    if ((state & UNKNOWN) !== 0) this.list.skipped++
    else if ((state & LIVE) === 0) {
      if ((state & EVER) === 0) this.#notGranted(use)
      else this.#afterUnmap(use, lives)
    } else if ((need & ~state & 3) !== 0) this.#wrongDirection(use, lives)
    else if (lives === window.tce) this.list.skipped++
  }

  #afterUnmap(use: Use, lives: Lives): void {
    const { log, seq, window, isAllowed } = use
    const { begun, ended, state } = lives
    const rule = 'use-after-unmap'
    if (this.#again(use, rule, begun, ended)) return
    const bus = busText(use)
    const message = isAllowed
      ? `${who(use)} used ${bus} after it was taken back, and reached memory ${memoryText(use)}`
      : `${who(use)} touched ${bus} after its unmap; the IOMMU refused it`
    const chain = because(this.scene(log), begun, ended, this.#liveBy(use), window.directBy, seq)
    this.list.add({ rule, message, because: chain, inferred: (state & INFERRED) !== 0 })
  }

  #notGranted(use: Use): void {
    const { log, seq, window, isAllowed } = use
    const rule = 'dma-not-granted'
    const mappedBy = this.#liveBy(use)
    if (this.#again(use, rule, mappedBy, NO_RECORD)) return
    const how = window.grants === undefined ? 'which was never mapped' : 'which nobody granted'
    const message = isAllowed
      ? `${who(use)} reached memory ${memoryText(use)} at ${busText(use)}, ${how}`
      : `${who(use)} tried ${busText(use)}, ${how}; the IOMMU refused it`
    const chain = because(this.scene(log), mappedBy, window.directBy, seq)
    this.list.add({ rule, message, because: chain, inferred: false })
  }

  #wrongDirection(use: Use, lives: Lives): void {
    const { log, seq, need, isAllowed } = use
    const { begun, state } = lives
    const rule = 'dma-not-granted'
    if (this.#again(use, rule, begun, NO_RECORD)) return
    const end = isAllowed ? `and reached memory ${memoryText(use)}` : 'and the IOMMU refused it'
    const given = `granted to ${directionText(state)} only`
    const message = `${who(use)} went to ${directionText(need)} ${busText(use)}, ${given}, ${end}`
    const chain = because(this.scene(log), begun, seq)
    this.list.add({ rule, message, because: chain, inferred: (state & INFERRED) !== 0 })
  }

  /** In a window with grants: the record that made the entry live all the same. */
  #liveBy({ window, entry }: Use): number {
    if (window.grants === undefined) return NO_RECORD
    window.tce.loadAt(entry)
    return (window.tce.state & LIVE) === 0 ? NO_RECORD : window.tce.begun
  }

  #again(use: Use, rule: RuleId, by: number, ended: number): boolean {
    this.#found = use.seq
    const outcome = use.need * 2 + (use.isAllowed ? 1 : 0)
    return this.list.again({ rule, window: use.window.number, entry: use.entry, by, ended, outcome })
  }

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['dma.miss']) this.#missed(log, seq)
    else if (kind === KIND['window.close']) {
      const window = this.windows.find(log.slot(seq, 0) >>> 0)
      if (window === undefined) return
      this.#closed.push({ window, closedBy: seq })
      if (this.#closed.length > CLOSED_KEPT) this.#closed.shift()
    } else if (this.#found === seq - 1) {
      const verdict = log.slot(seq, SEEN.verdict)
      if (verdict === CONTRADICTS || verdict === TEACHES) this.list.retract()
    }
  }

  /** A bus address in no window: perhaps in one that is gone. */
  #missed(log: RecordLog, seq: number): void {
    const [hi, lo] = [log.slot(seq, MISS.iova + 1), log.slot(seq, MISS.iova)]
    const iova = wordOf(hi, lo)
    const name = requestOf(log, seq)?.device || 'a device'
    const unit = log.slot(seq, MISS.unit)
    const page = pageOf(hi, lo, 12)
    for (let i = this.#closed.length - 1; i >= 0; i--) {
      const { window, closedBy } = this.#closed[i] as Closed
      const offset = BigInt.asUintN(64, iova - window.busOffset) >> BigInt(window.pageShift)
      if (window.unit !== unit || offset >= BigInt(window.entries)) continue
      const lives = window.grants ?? window.tce
      lives.loadAt(Number(offset))
      if ((lives.state & LIVE) === 0) break
      const by = lives.begun
      const rule = 'use-after-unmap'
      if (this.list.again({ rule, window: window.number, entry: Number(offset), by, ended: closedBy })) return
      const message = `${name} touched bus address ${hex(iova)} after its window was closed`
      const chain = because({ log, windows: { find: () => window } }, by, closedBy, seq)
      this.list.add({ rule, message, because: chain, inferred: (lives.state & INFERRED) !== 0 })
      return
    }
    const rule = 'dma-not-granted'
    if (this.list.again({ rule, window: NO_WINDOW, entry: page, by: unit, ended: NO_RECORD })) return
    const message = `${name} tried bus address ${hex(iova)}, which is in no window`
    this.list.add({ rule, message, because: because(this.scene(log), seq), inferred: false })
  }
}

const who = ({ log, seq }: Use): string => requestOf(log, seq)?.device || 'a device'
const busText = ({ window, entry }: Use): string => `bus address ${hex(busAddress(window, entry))}`
const memoryText = ({ log, seq }: Use): string => hex(wordOf(log.slot(seq, T.gpa + 1), log.slot(seq, T.gpa)))
