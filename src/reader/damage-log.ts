import { excerptOf } from './line-diagnosis.ts'
import type { DamagedLine } from './log-summary.ts'

/** Counts the lines that could not be read and keeps the first of them. */
export class DamageLog {
  count = 0
  readonly first: DamagedLine[] = []
  readonly #keep: number

  constructor(keep: number) {
    this.#keep = keep
  }

  /** True while lines are kept, so that their reason is worth finding. */
  get isOpen(): boolean {
    return this.first.length < this.#keep
  }

  add(line: number, offsetBytes: number, reason: string, bytes: Uint8Array): void {
    this.count++
    if (this.isOpen) this.first.push({ line, offsetBytes, reason, excerpt: excerptOf(bytes) })
  }
}
