import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import {
  QEMU_CACHING,
  QEMU_CACHING_ALL,
  QEMU_CACHING_PLUG,
  QEMU_DMA_MAP,
  QEMU_DMA_UNMAP,
  QEMU_GIVES_UP,
  QEMU_LISTENER,
  QEMU_MAP_ERRNO,
  QEMU_MAP_ERRNO_OPTION,
  QEMU_MAP_FAILED,
  QEMU_MAP_FAILED_OPTION,
  QEMU_NO_MEMORY,
  QEMU_NOT_VIABLE,
  QEMU_SET_CONTAINER,
  QEMU_SET_IOMMU,
  VFIO_LINES,
  VFIO_MEMLOCK,
  VFIO_MEMLOCK_TASK,
  VFIO_UNSAFE,
} from '../../reader/kernel-log/vfio-lines.ts'
import type { Because, FamilyExplainer, FaultLog } from './fault-log.ts'
import { bytesText } from './sizes.ts'
import {
  cachingWords,
  listenerWords,
  mapWords,
  memlockWords,
  noMemoryWords,
  setIommuWords,
  unmapWords,
  unsafeWords,
  viableWords,
} from './vfio-words.ts'

/** Errors by the words of the C library, for lines that have no number. */
const ERRNO_OF: Readonly<Record<string, number>> = {
  'Operation not permitted': -1,
  'No such file or directory': -2,
  'Cannot allocate memory': -12,
  'Permission denied': -13,
  'Bad address': -14,
  'Device or resource busy': -16,
  'File exists': -17,
  'Invalid argument': -22,
  'No space left on device': -28,
}

/** The words of an error that a line has as a number. */
const whyOf = (errno: number): string =>
  Object.entries(ERRNO_OF).find(([, number]) => number === errno)?.[0] ?? `error ${errno}`

/** A line that says that an ioctl failed, until the one with its addresses comes. */
interface Pending {
  readonly line: FoundLine
  readonly why: string
}

/** The line with the addresses follows at once, if at all. */
const PAIR_LINES_MAX = 4

/** Explains why VFIO refuses what QEMU asks of it: lines of the kernel and of QEMU. */
export class VfioExplainer implements FamilyExplainer {
  readonly family = VFIO_LINES.id
  #pending: Pending | undefined
  /** The last limit that a line of the kernel named. */
  #limitBytes: bigint | undefined

  take(line: FoundLine, log: FaultLog): void {
    if (this.#kernel(line, log)) return
    const map = valuesOf(QEMU_DMA_MAP, line)
    if (map !== undefined) {
      const pending = this.#taken(line, map.why, log)
      const said: Because[] =
        pending === undefined
          ? []
          : [{ line: pending.line.line, text: `VFIO_MAP_DMA failed: ${pending.why}` }]
      log.fault({
        key: `map ${map.errno}`,
        line,
        address: map.iova,
        describe: () => mapWords({ ...map, said, limitBytes: this.#limitBytes }, log),
      })
      return
    }
    const failed = valuesOf(QEMU_MAP_FAILED, line) ?? valuesOf(QEMU_MAP_FAILED_OPTION, line)
    const number = valuesOf(QEMU_MAP_ERRNO, line) ?? valuesOf(QEMU_MAP_ERRNO_OPTION, line)
    const why = failed?.why ?? (number === undefined ? undefined : whyOf(number.errno))
    if (why !== undefined) {
      this.end(log)
      this.#pending = { line, why }
      return
    }
    this.#other(line, log)
  }

  /** The line with the addresses never came. */
  end(log: FaultLog): void {
    const pending = this.#pending
    this.#pending = undefined
    if (pending === undefined) return
    const errno = ERRNO_OF[pending.why]
    log.fault({
      key: `map ${errno ?? pending.why}`,
      line: pending.line,
      describe: () => mapWords({ errno, why: pending.why, said: [], limitBytes: this.#limitBytes }, log),
    })
  }

  /** The pending line, if a line belongs to it; otherwise it is told of by itself. */
  #taken(line: FoundLine, why: string, log: FaultLog): Pending | undefined {
    const pending = this.#pending
    if (pending?.why === why && line.line - pending.line.line <= PAIR_LINES_MAX) {
      this.#pending = undefined
      return pending
    }
    this.end(log)
    return undefined
  }

  #kernel(line: FoundLine, log: FaultLog): boolean {
    const memlock = valuesOf(VFIO_MEMLOCK, line)
    const task = valuesOf(VFIO_MEMLOCK_TASK, line)
    const bytes = memlock?.bytes ?? task?.bytes
    if (bytes !== undefined) {
      const limit = BigInt(bytes)
      this.#limitBytes = limit
      log.remember('memlock', line, `RLIMIT_MEMLOCK of ${bytesText(limit)} was exceeded`)
      log.fault({
        key: `memlock ${bytes} ${task?.task ?? ''}`,
        line,
        describe: () => memlockWords(limit, task?.task, log),
      })
      return true
    }
    if (valuesOf(VFIO_UNSAFE, line) === undefined) return false
    log.remember('vfio', line, 'VFIO refused the group: the platform does not remap interrupts')
    log.fault({ key: 'unsafe', line, describe: unsafeWords })
    return true
  }

  #other(line: FoundLine, log: FaultLog): void {
    const unmap = valuesOf(QEMU_DMA_UNMAP, line)
    if (unmap !== undefined) {
      log.fault({
        key: `unmap ${unmap.errno}`,
        line,
        address: unmap.iova,
        describe: () => unmapWords(unmap.bytes, unmap.errno, unmap.why),
      })
      return
    }
    const viable = valuesOf(QEMU_NOT_VIABLE, line)
    if (viable !== undefined) {
      log.fault({ key: `viable ${viable.group}`, line, describe: () => viableWords(viable.group, log) })
      return
    }
    const isTaken = valuesOf(QEMU_SET_CONTAINER, line) === undefined
    const group = valuesOf(QEMU_SET_IOMMU, line) ?? valuesOf(QEMU_SET_CONTAINER, line)
    if (group !== undefined) {
      log.fault({
        key: `${line.template.id} ${group.why}`,
        line,
        describe: () => setIommuWords(group.why, isTaken, log),
      })
      return
    }
    const listener = valuesOf(QEMU_LISTENER, line)
    if (listener !== undefined) {
      this.end(log)
      log.fault({ key: `listener ${listener.why}`, line, describe: () => listenerWords(listener.why, log) })
      return
    }
    const memory = valuesOf(QEMU_NO_MEMORY, line)
    if (memory !== undefined) {
      log.fault({ key: 'no-memory', line, address: memory.address, describe: noMemoryWords })
      return
    }
    const caching = valuesOf(QEMU_CACHING, line)
    if (caching !== undefined) {
      log.fault({ key: `caching ${caching.device}`, line, describe: () => cachingWords(caching.device) })
      return
    }
    if (valuesOf(QEMU_CACHING_ALL, line) !== undefined || valuesOf(QEMU_CACHING_PLUG, line) !== undefined) {
      log.fault({ key: 'caching', line, describe: () => cachingWords(undefined) })
      return
    }
    if (valuesOf(QEMU_GIVES_UP, line) !== undefined)
      log.remember('vfio', line, 'QEMU ended: it could not map')
  }
}
