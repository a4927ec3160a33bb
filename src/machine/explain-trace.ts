import { hex } from '../bits/u64.ts'
import { counted } from '../check/words.ts'
import { FTRACE } from '../reader/ftrace-format.ts'
import { VTD_LINES } from '../reader/kernel-log/vtd-lines.ts'
import { QEMU_TRACE } from '../reader/qemu-trace-format.ts'
import type { FaultGroup, FaultLog } from '../report/explain/fault-log.ts'
import { FtraceCauses } from '../report/explain/ftrace-causes.ts'
import { FaultStories, type SeenFault } from './replay/vtd/fault-stories.ts'

/** Faults of a trace that a log does not have, of which so many are told. */
const UNLOGGED_SHOWN = 8
const DEVICE = /^(?:[0-9a-f]{4,8}:)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/
const PAGE_MASK = ~0xfffn

/** Takes a trace of the boot whose log was explained, and adds what led to each fault. */
export interface TraceCauses {
  push(bytes: Uint8Array): void
  /** The trace ends: the faults have their causes. Answers how many of them it explains. */
  end(): number
}

/** A fault of a VT-d unit as its words hold it. */
interface Wanted {
  readonly source: number
  readonly reason: number
  readonly isWrite: boolean
}

function wantedOf({ family, words }: FaultGroup): Wanted | undefined {
  if (family !== VTD_LINES.id || words.kind !== 'dma') return undefined
  const found = DEVICE.exec(words.device ?? '')
  const { reason, access } = words.fields
  if (found === null || typeof reason !== 'number') return undefined
  const [, bus = '', slot = '', fn = ''] = found
  const source = (Number.parseInt(bus, 16) << 8) | (Number.parseInt(slot, 16) << 3) | Number(fn)
  return { source, reason, isWrite: access === 'write' }
}

const isOf = (group: FaultGroup, wanted: Wanted, { first }: SeenFault): boolean =>
  first.source === wanted.source &&
  first.reason === wanted.reason &&
  first.isWrite === wanted.isWrite &&
  group.addresses.ranges.some(
    (range) =>
      (first.iova & PAGE_MASK) >= (range.first & PAGE_MASK) && (first.iova & PAGE_MASK) <= range.last,
  )

/** A trace of QEMU's intel-iommu: the faults of the log are looked for among its own, which a replay explains. */
class QemuTraceCauses implements TraceCauses {
  readonly #log: FaultLog
  readonly #stories = new FaultStories()

  constructor(log: FaultLog) {
    this.#log = log
  }

  push(bytes: Uint8Array): void {
    this.#stories.push(bytes)
  }

  end(): number {
    this.#stories.end()
    const seen = this.#stories.all()
    const logged = new Set<SeenFault>()
    let explained = 0
    let asked = 0
    for (const group of this.#log.groups) {
      const wanted = wantedOf(group)
      if (wanted === undefined) continue
      asked++
      const own = seen.filter((fault) => isOf(group, wanted, fault))
      for (const fault of own) {
        logged.add(fault)
        this.#explain(group, fault)
      }
      if (own.length > 0) explained++
    }
    if (asked > 0 && explained === 0) {
      const kinds = counted(asked, 'kind')
      this.#log.remark(
        VTD_LINES.id,
        `the trace has none of the ${kinds} of DMA fault of this log: is it of the same boot?`,
      )
    } else this.#unlogged(seen.filter((fault) => !logged.has(fault)))
    return explained
  }

  #explain(group: FaultGroup, { first, count, recorded }: SeenFault): void {
    const log = this.#log
    for (const { line, text } of first.steps)
      log.explain(group, { line: 0, text: `trace line ${line}: ${text}` })
    const often = count === 1 ? 'once' : `${count} times, of which the unit recorded ${recorded}`
    const why = first.why === '' ? 'the trace contradicts it' : first.why
    const sure = first.isShown ? '' : ' (the trace does not show more)'
    log.explain(group, {
      line: 0,
      text: `trace line ${first.line}: the request at ${hex(first.iova)} was refused, ${often}: ${why}${sure}`,
    })
  }

  /** What the unit refused, and the log has no line of: the kernel did not print it, or never saw it. */
  #unlogged(faults: readonly SeenFault[]): void {
    for (const { first, count } of faults.slice(0, UNLOGGED_SHOWN)) {
      const { source, reason, isWrite, iova, line } = first
      const device = `${two(source >> 8)}:${two((source >> 3) & 31)}.${source & 7}`
      const what = `${isWrite ? 'write' : 'read'} by ${device} at ${hex(iova)}, reason 0x${two(reason)}`
      this.#log.remark(VTD_LINES.id, `only in the trace, from its line ${line} on: ${what}, ${count} times`)
    }
    const more = faults.length - UNLOGGED_SHOWN
    if (more > 0) this.#log.remark(VTD_LINES.id, `only in the trace: ${more} more kinds of faults`)
  }
}

const two = (n: number): string => n.toString(16).padStart(2, '0')

/** Formats of traces that tell what led to faults. */
export const CAUSE_FORMATS: readonly string[] = [QEMU_TRACE.id, FTRACE.id]

/**
 * What a trace of the same boot adds to an explained log.
 *
 * @param formatId one of CAUSE_FORMATS
 * @example
 * const { faults } = explainer.end()
 * const causes = createTraceCauses('qemu-trace', faults)
 * causes.push(bytes)
 * causes.end()
 */
export const createTraceCauses = (formatId: string, log: FaultLog): TraceCauses =>
  formatId === FTRACE.id ? new FtraceCauses(log) : new QemuTraceCauses(log)
