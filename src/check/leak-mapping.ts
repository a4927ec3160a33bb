import { hex } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { busAddress } from './describe.ts'
import { because } from './evidence.ts'
import { jointRuns } from './joint-runs.ts'
import { ListedChecker } from './listed-checker.ts'
import { INFERRED, LIVE, type LifeRun, NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'
import type { WindowShadow } from './window-shadow.ts'
import { bytesText } from './words.ts'

const RULE = 'leak-mapping'
const GRANT = slotMap('dma.grant')
const REMOVE = slotMap('device.remove')
const END = slotMap('run.end')

interface Leak {
  readonly window: WindowShadow
  readonly first: number
  readonly count: number
  readonly tce: LifeRun | undefined
  readonly grant: LifeRun | undefined
}

const isLive = (run: LifeRun | undefined): boolean => run !== undefined && (run.state & LIVE) !== 0

/**
 * Judges `leak-mapping`: what is still mapped or granted when a driver has ended, or at the end of a settled
 * run. A direct window maps memory as a whole and leaks nothing. Without either record it cannot judge.
 */
export class LeakMapping extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = ['device.remove', 'run.end']
  #canJudge = false

  get missing(): readonly EventKind[] {
    return this.#canJudge ? [] : ['device.remove']
  }

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    const isEnd = kind === KIND['run.end']
    if (isEnd && log.slot(seq, END.settled) !== 1) return
    this.#canJudge = true
    const device = isEnd ? undefined : log.slot(seq, REMOVE.device)
    for (const window of this.windows.all()) {
      if (!window.isDirect) for (const leak of this.#leaks(log, window, device)) this.#report(log, seq, leak)
    }
  }

  /** What is live in a window, or what was granted to one device (an interned name) and is live. */
  *#leaks(log: RecordLog, window: WindowShadow, device: number | undefined): Generator<Leak> {
    for (const { first, count, parts } of jointRuns([window.tce, window.grants])) {
      const [tce, grant] = parts
      if (!isLive(tce) && !isLive(grant)) continue
      if (device !== undefined) {
        if (grant === undefined) continue
        if (!log.has(grant.begun)) {
          this.list.skipped += count
          continue
        }
        if (log.slot(grant.begun, GRANT.device) !== device) continue
      }
      yield { window, first, count, tce, grant }
    }
  }

  #report(log: RecordLog, seq: number, leak: Leak): void {
    const { window, first, count, tce, grant } = leak
    const grantedBy = grant?.begun ?? NO_RECORD
    const mappedBy = isLive(tce) ? (tce?.begun ?? NO_RECORD) : NO_RECORD
    const by = grantedBy === NO_RECORD ? mappedBy : grantedBy
    const key = { rule: RULE, window: window.number, entry: first, by, ended: NO_RECORD }
    if (this.list.isKnown(key) || this.list.again(key)) return
    const extent = `bus address ${hex(busAddress(window, first))} + ${bytesText(count * 2 ** window.pageShift)}`
    const message = `${extent} is still ${stateOf(leak)}${driverText(log, grantedBy)}`
    const revokedBy = isLive(grant) ? NO_RECORD : (grant?.ended ?? NO_RECORD)
    const chain = because(this.scene(log), mappedBy, grantedBy, revokedBy, seq)
    const inferred = ((tce?.state ?? 0) & INFERRED) !== 0
    this.list.add({ rule: RULE, message, because: chain, inferred })
  }
}

function stateOf({ tce, grant }: Leak): string {
  if (grant === undefined) return 'mapped'
  if (!isLive(grant)) return 'mapped, though its grant was taken back'
  return isLive(tce) ? 'mapped and granted' : 'granted'
}

function driverText(log: RecordLog, grantedBy: number): string {
  if (grantedBy === NO_RECORD || !log.has(grantedBy)) return ''
  const device = log.names.word(log.slot(grantedBy, GRANT.device))
  return device === '' ? '' : `; the driver of ${device} has ended`
}
