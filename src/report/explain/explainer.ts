import {
  type FoundLine,
  KernelLogReader,
  type KernelLogSummary,
} from '../../reader/kernel-log/kernel-log-reader.ts'
import type { LineFamily } from '../../reader/kernel-log/line-format.ts'
import { type FamilyExplainer, FaultLog } from './fault-log.ts'
import { RepeatedLines } from './repeated-lines.ts'

/** Lines of a family that no template took. */
export interface Unexplained {
  readonly family: string
  readonly lines: number
  readonly firstLine: number
  /** The first of them, cut. */
  readonly example: string
}

/** All that is known of a log. */
export interface Explanation {
  readonly log: KernelLogSummary & {
    /** Lines that stand in the log a second time, with the same stamp: counted once. */
    readonly repeated: number
    readonly unexplained: readonly Unexplained[]
  }
  readonly faults: FaultLog
  readonly families: readonly LineFamily[]
  /** Hosts that the log names. */
  readonly hosts: readonly string[]
}

const EXAMPLE_LETTERS = 160

/**
 * Explains the log of a kernel while it is read.
 *
 * @example
 * const explainer = new LogExplainer(LINE_FAMILIES, [new VtdExplainer(reasons)])
 * for await (const piece of input) explainer.push(piece)
 * const { log, faults } = explainer.end()
 */
export class LogExplainer {
  readonly faults = new FaultLog()
  readonly #families: readonly LineFamily[]
  readonly #explainers = new Map<string, FamilyExplainer>()
  readonly #reader: KernelLogReader
  readonly #repeated = new RepeatedLines()
  readonly #unexplained = new Map<
    string,
    { family: string; lines: number; firstLine: number; example: string }
  >()

  constructor(families: readonly LineFamily[], explainers: readonly FamilyExplainer[]) {
    this.#families = families
    for (const explainer of explainers) this.#explainers.set(explainer.family, explainer)
    this.#reader = new KernelLogReader(families, {
      found: (line) => this.#found(line),
      unexplained: (family, line, text) => this.#miss(family, line, text),
    })
  }

  push(piece: Uint8Array): void {
    this.#reader.push(piece)
  }

  /** What is known so far: a log that grows is told of again and again. */
  get explanation(): Explanation {
    return {
      log: {
        ...this.#reader.summary,
        repeated: this.#repeated.count,
        unexplained: [...this.#unexplained.values()],
      },
      faults: this.faults,
      families: this.#families,
      hosts: this.#reader.hosts,
    }
  }

  end(): Explanation {
    this.#reader.end()
    for (const explainer of this.#explainers.values()) explainer.end?.(this.faults)
    return this.explanation
  }

  #found(line: FoundLine): void {
    if (this.#repeated.isRepeated(line)) return
    this.#explainers.get(line.family.id)?.take(line, this.faults)
  }

  #miss(family: LineFamily, line: number, text: string): void {
    const known = this.#unexplained.get(family.id)
    if (known !== undefined) {
      known.lines++
      return
    }
    const example = text.slice(0, EXAMPLE_LETTERS)
    this.#unexplained.set(family.id, { family: family.id, lines: 1, firstLine: line, example })
  }
}
