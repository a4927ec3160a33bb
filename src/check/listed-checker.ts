import type { EventKind } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import type { Scene } from './describe.ts'
import { FindingList } from './finding-list.ts'
import type { Checker, Finding } from './rule.ts'
import type { RuleId } from './rules.ts'
import type { Uses } from './uses.ts'
import type { WindowShadows } from './window-shadow.ts'

/** What checkers share: the shadow, which shows the state before the record that is seen, and the sight of all uses. */
export interface CheckerOptions {
  readonly windows: WindowShadows
  readonly uses: Uses
  readonly maxFindings?: number
}

/** A checker that reads the shared shadow and keeps its findings in a list. */
export abstract class ListedChecker implements Checker {
  abstract readonly rules: readonly RuleId[]
  abstract readonly kinds: readonly EventKind[]
  protected readonly windows: WindowShadows
  protected readonly list: FindingList

  constructor(options: CheckerOptions) {
    this.windows = options.windows
    this.list = new FindingList(options.maxFindings)
  }

  get findings(): readonly Finding[] {
    return this.list.found
  }

  get dropped(): number {
    return this.list.dropped
  }

  get skipped(): number {
    return this.list.skipped
  }

  abstract see(log: RecordLog, seq: number): void

  finish(): void {}

  protected scene(log: RecordLog): Scene {
    return { log, windows: this.windows }
  }
}
