import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { check, type Goal, type LoopCase } from './case.ts'
import { type Floors, type LoopCost, output } from './floors.ts'
import { medianOf } from './stopwatch.ts'

export interface HarnessOptions {
  readonly floors: Floors | undefined
  readonly pairs: number
  /** The operations of a pass are divided by 2^this. */
  readonly shrink: number
  readonly progress: (text: string) => void
}

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** One line of the table. */
export interface CaseResult {
  readonly id: string
  readonly operation: string
  readonly ns: number
  readonly peer: string
  readonly peerNs: number
  /** Cost by the peer's cost, of each pair. */
  readonly ratio: Spread
  readonly goal: string
  /** null where there is no goal, or nothing to hold the case against. */
  readonly met: boolean | null
  readonly bytesPerOperation: number | null
  /** Cost in units of the calibration loop of the same process: what a regression gate compares. */
  readonly calibrated: number | null
}

interface ChildCost extends LoopCost {
  readonly calibrationNs: number
}

/** Young generation of the process that measures allocation, in MiB: not collected within a pass. */
const YOUNG_MIB = 256
const CHILD = join(fileURLToPath(new URL('.', import.meta.url)), 'child.js')

export function spreadOf(values: readonly number[]): Spread {
  return { median: medianOf(values), min: Math.min(...values), max: Math.max(...values) }
}

/** `<= 2.5x`, `<= 10 ns`, ... */
export function goalText(goal: Goal | undefined): string {
  if (goal === undefined) return ''
  if ('ratioMax' in goal) return `<=${Number(goal.ratioMax.toFixed(2))}x`
  if ('nsMax' in goal) return `<=${goal.nsMax} ns`
  if ('mbPerSecondMin' in goal) return `>=${goal.mbPerSecondMin} MB/s`
  return `>=${goal.operationsPerSecondMin / 1e6} M/s`
}

function isMet(goal: Goal | undefined, ns: number, ratio: number, hasPeer: boolean): boolean | null {
  if (goal === undefined) return null
  if ('nsMax' in goal) return ns <= goal.nsMax
  if ('operationsPerSecondMin' in goal) return 1e9 / ns >= goal.operationsPerSecondMin
  if ('ratioMax' in goal) return hasPeer ? ratio <= goal.ratioMax : null
  return null
}

const child = <T>(flags: readonly string[], args: readonly string[]): T =>
  JSON.parse(output(process.execPath, [...flags, CHILD, ...args])) as T

/** Runs a case against its peer: alternated pairs of fresh processes, then one that measures allocation. */
export function runLoopCase(loop: LoopCase, options: HarnessOptions): CaseResult {
  const { floors, shrink, progress } = options
  const pairs = Math.min(options.pairs, loop.pairsMax ?? options.pairs)
  const operations = Math.max(1, loop.operations >> shrink)
  const { peer } = loop
  const hasPeer = !('floor' in peer) || floors?.has(String(peer.floor[0])) === true
  const ours = () => child<ChildCost>([], [loop.id, 'ours', `${operations}`])
  const theirs = (): LoopCost => {
    if (!('floor' in peer) || floors === undefined || !hasPeer)
      return child<ChildCost>([], [loop.id, 'peer', `${operations}`])
    const [name = '', ...numbers] = peer.floor
    return floors.loop(String(name), operations, numbers)
  }
  const own: ChildCost[] = []
  const other: LoopCost[] = []
  for (let pair = 0; pair < pairs; pair++) {
    progress(`${loop.id}: pair ${pair + 1} of ${pairs}`)
    if (pair % 2 === 0) own.push(ours())
    other.push(theirs())
    if (pair % 2 === 1) own.push(ours())
    if ('floor' in peer && peer.sameSum && hasPeer)
      check(own[pair]?.sum === other[pair]?.sum, `${loop.id}: both sides reach the same sum`)
  }
  const flags = ['--expose-gc', `--min-semi-space-size=${YOUNG_MIB}`, `--max-semi-space-size=${YOUNG_MIB}`]
  const { bytes } = child<{ bytes: number }>(flags, [loop.id, 'allocation', `${operations}`])
  const ns = medianOf(own.map((c) => c.ns))
  const ratio = spreadOf(own.map((c, i) => c.ns / (other[i] as LoopCost).ns))
  return {
    id: loop.id,
    operation: loop.operation,
    ns,
    peer: hasPeer ? peer.label : 'JS loop',
    peerNs: medianOf(other.map((c) => c.ns)),
    ratio,
    goal: goalText(loop.goal),
    met: isMet(loop.goal, ns, ratio.median, hasPeer),
    bytesPerOperation: bytes,
    calibrated: medianOf(own.map((c) => c.ns / c.calibrationNs)),
  }
}
