import { KIND } from '../trace/event.ts'
import type { Stage } from '../trace/stage.ts'

const REQUEST = KIND['dma.request']
const DONE = KIND['dma.done']

/** What a request carries beside its address, where it goes to an IOMMU that has PASIDs. */
export interface RequestTags {
  /** Undefined: it has none. */
  readonly pasid: number | undefined
  readonly isPrivileged: boolean
  /** A read of instructions. */
  readonly isExecute: boolean
}

/** One request of a device, addresses in lanes; `at` is where its bytes are in `buffer`. */
export interface DmaRequest {
  /** Interned name of the device. */
  readonly device: number
  readonly hi: number
  readonly lo: number
  readonly buffer: Uint8Array
  readonly at: number
  readonly bytes: number
  readonly isWrite: boolean
  readonly tags?: RequestTags | undefined
}

/** A request begins: its record is the cause of all that follow, until `recordDone`. */
export function recordRequest(
  stage: Stage,
  device: number,
  hi: number,
  lo: number,
  bytes: number,
  isWrite: boolean,
): void {
  const { log } = stage
  if (!log.on) return
  const row = log.begin(REQUEST, stage.cause)
  const { lanes } = log
  lanes[row] = device | 0
  lanes[row + 1] = lo | 0
  lanes[row + 2] = hi | 0
  lanes[row + 3] = bytes | 0
  lanes[row + 4] = isWrite ? 1 : 0
  lanes[row + 5] = stage.line | 0
  stage.cause = log.commit(REQUEST)
}

/** The request ends, with the bytes that went through and the code that its device sees. */
export function recordDone(stage: Stage, device: number, moved: number, code: number): void {
  const { log } = stage
  if (!log.on) return
  const row = log.begin(DONE, stage.cause)
  const { lanes } = log
  lanes[row] = device | 0
  lanes[row + 1] = moved | 0
  lanes[row + 2] = code | 0
  log.commit(DONE)
}
