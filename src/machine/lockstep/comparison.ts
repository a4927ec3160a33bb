import type { Unjudged } from '../replay/result.ts'
import type { AgentScript } from './agent-script.ts'
import {
  type Compared,
  type CompareOptions,
  differenceKind,
  judgeTranscript,
  type SmallestDifference,
  smallest,
} from './compare.ts'
import type { ScriptPeer } from './script-peer.ts'

export interface ComparisonOptions extends CompareOptions {
  /** Different differences after which it ends. */
  readonly differencesMax: number
  /** Told after each script. */
  readonly onProgress?: (so: {
    readonly scripts: number
    readonly commands: number
    readonly equal: number
  }) => void
  /** Told what the peer wrote, script by script. */
  readonly onTranscript?: (transcript: string) => void
  /** Told before a script is made smaller, which takes its time. */
  readonly onDifference?: (kind: string, script: string) => void
}

/** What scripts gave on a peer and on the model. Plain data. */
export interface Comparison {
  readonly scripts: number
  readonly commands: number
  readonly equal: number
  readonly unjudged: number
  /** Commands behind one that ended the process. */
  readonly notRun: number
  readonly reasons: readonly Omit<Unjudged, 'firstLine'>[]
  /** The first of each kind. */
  readonly differences: readonly SmallestDifference[]
  /** Kinds of differences that did not show again in the same script on its own. */
  readonly passing: readonly string[]
}

/** Scripts that are on their way to the peer while one is judged. */
const AHEAD = 4

class Counting {
  scripts = 0
  commands = 0
  equal = 0
  unjudged = 0
  notRun = 0
  readonly reasons = new Map<string, number>()
  readonly differences: SmallestDifference[] = []
  readonly passing: string[] = []
  readonly kinds = new Set<string>()

  add({ script, equal, unjudged, notRun, reasons }: Compared): void {
    this.scripts++
    this.commands += script.commands.length
    this.equal += equal
    this.unjudged += unjudged
    this.notRun += notRun
    for (const { why, count } of reasons) this.reasons.set(why, (this.reasons.get(why) ?? 0) + count)
  }

  result(): Comparison {
    const { scripts, commands, equal, unjudged, notRun, differences, passing } = this
    const reasons = [...this.reasons].map(([why, count]) => ({ why, count }))
    return { scripts, commands, equal, unjudged, notRun, reasons, differences, passing }
  }
}

/**
 * Runs scripts on a peer and on the model and compares answer by answer. The first difference of each kind is made as
 * small as it can be.
 *
 * @param scripts taken one by one, and no further than needed
 * @throws whatever the peer does
 * @example
 * const { equal, differences } = await compareAll(peer, scripts, { differencesMax: 1 })
 */
export async function compareAll(
  peer: ScriptPeer,
  scripts: Iterable<AgentScript>,
  options: ComparisonOptions,
): Promise<Comparison> {
  const counting = new Counting()
  const source = scripts[Symbol.iterator]()
  const running: { readonly script: AgentScript; readonly answered: Promise<string> }[] = []
  const fill = (): void => {
    while (running.length < AHEAD) {
      const { done, value: script } = source.next()
      if (done === true) return
      const answered = peer.run(script)
      // Whoever waits for it sees the error; nobody may.
      answered.catch(() => undefined)
      running.push({ script, answered })
    }
  }
  for (fill(); running.length > 0; fill()) {
    const { script, answered } = running.shift() as (typeof running)[number]
    const transcript = await answered
    options.onTranscript?.(transcript)
    const compared = judgeTranscript(peer.head, script, transcript, options)
    counting.add(compared)
    options.onProgress?.(counting)
    const [first] = compared.differences
    if (first === undefined || counting.kinds.has(differenceKind(first))) continue
    const kind = differenceKind(first)
    counting.kinds.add(kind)
    options.onDifference?.(kind, script.name)
    const small = await smallest(peer, compared, options)
    if (small === undefined) counting.passing.push(kind)
    else counting.differences.push(small)
    if (counting.kinds.size >= options.differencesMax) break
  }
  return counting.result()
}

/** Whether nothing differed. */
export const isEqual = ({ differences, passing }: Comparison): boolean =>
  differences.length === 0 && passing.length === 0
