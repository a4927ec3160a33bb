import type { Work } from './case.ts'

const WARM_UP_PASSES = 2
const TIMED_PASSES = 7
/** Allocation is measured over at least so many operations, or as many passes as are enough. */
const ALLOCATION_OPERATIONS = 1_000_000
/** Passes that are enough where an operation takes long. */
const ALLOCATION_PASSES_MOST = 256

export const medianOf = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

export interface Timing {
  readonly ns: number
  /** Of the first pass. */
  readonly sum: number
  /** All other sums: so that no engine may leave a pass out. */
  readonly sink: number
}

/** Processor time of this process: what it waits for others does not count. */
function cpuNs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) * 1000
}

/** Two passes warm up, seven are timed; the median counts. */
export function timeWork(work: Work): Timing {
  work.prepare?.()
  const sum = work.pass()
  let sink = 0
  for (let i = 1; i < WARM_UP_PASSES; i++) {
    work.prepare?.()
    sink = (sink + work.pass()) | 0
  }
  const passes: number[] = []
  for (let i = 0; i < TIMED_PASSES; i++) {
    work.prepare?.()
    const from = cpuNs()
    sink = (sink + work.pass()) | 0
    passes.push((cpuNs() - from) / work.operations)
  }
  return { ns: medianOf(passes), sum, sink }
}

/**
 * Bytes that an operation leaves on the heap, in a process started with `--expose-gc` and a young generation so
 * large that it is not collected within a pass.
 */
export function allocationOf(work: Work): number {
  const collect = (globalThis as { gc?: () => void }).gc
  if (collect === undefined) throw new Error('allocation is measured in a process with --expose-gc')
  for (let i = 0; i < WARM_UP_PASSES + TIMED_PASSES; i++) {
    work.prepare?.()
    work.pass()
  }
  collect()
  let bytes = 0
  let operations = 0
  for (let n = 0; n < ALLOCATION_PASSES_MOST && operations < ALLOCATION_OPERATIONS; n++) {
    work.prepare?.()
    const before = heldBytes()
    work.pass()
    bytes += Math.max(0, heldBytes() - before)
    operations += work.operations
  }
  return bytes / operations
}

function heldBytes(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}
