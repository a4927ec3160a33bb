import { ERRNO_CODES } from '../bits/codes.ts'
import { Cells, keyOf } from '../bits/state.ts'
import { hiOf, loOf, U64_MAX, wordOf } from '../bits/u64.ts'
import { KIND } from '../trace/event.ts'
import type { Host } from './host.ts'

/** What a task may lock: its RLIMIT_MEMLOCK, and whether CAP_IPC_LOCK frees it from that. */
export interface Task {
  /** In bytes; `U64_MAX` is no limit. */
  readonly memlockBytes: bigint
  readonly hasIpcLock: boolean
}

export const LOCKED_VM_WARNING = 'account_locked_vm: more pages given back than are locked'

/** Pages of one `mm.locked` record: its delta has 31 bits. */
const RECORD_PAGES_MAX = 2 ** 30

/**
 * The locked_vm counter of an address space, in host pages (Linux v6.1 mm/util.c, __account_locked_vm).
 *
 * The limit is that of the task that calls, the counter that of the address space it is asked to charge; the
 * two need not belong together. The counter is a 64-bit word and wraps: giving back more than was taken
 * is done, and warned of once.
 */
export class LockedVm {
  readonly #host: Host
  readonly #cells: Cells
  readonly #process: number

  /** @param process whose counter it is, in records and in the hash */
  constructor(host: Host, process: string) {
    this.#host = host
    this.#cells = new Cells(host.journal, keyOf('locked_vm', process), 2)
    this.#process = host.stage.log.names.intern(process)
  }

  /** Locked pages. */
  get pages(): bigint {
    return wordOf(this.#cells.get(1), this.#cells.get(0))
  }

  /** Charges pages. 0, or -ENOMEM where they would pass the caller's limit; nothing is charged then. */
  add(pages: number, task: Task): number {
    if (pages === 0) return ERRNO_CODES.OK
    const total = BigInt.asUintN(64, this.pages + BigInt(pages))
    if (!task.hasIpcLock && total > task.memlockBytes >> BigInt(this.#host.pageShift))
      return ERRNO_CODES.ENOMEM
    this.#move(pages, 1)
    return ERRNO_CODES.OK
  }

  /** Gives pages back. Answers the warnings that the kernel printed. */
  sub(pages: number): readonly string[] {
    if (pages === 0) return []
    const warns = BigInt(pages) > this.pages && this.#host.warnOnce(LOCKED_VM_WARNING)
    this.#move(pages, -1)
    return warns ? [LOCKED_VM_WARNING] : []
  }

  #move(pages: number, sign: 1 | -1): void {
    const { log, cause } = this.#host.stage
    for (let left = pages; left > 0; ) {
      const delta = Math.min(left, RECORD_PAGES_MAX) * sign
      const total = (this.pages + BigInt(delta)) & U64_MAX
      this.#cells.set(0, loOf(total))
      this.#cells.set(1, hiOf(total))
      log.append(KIND['mm.locked'], cause, this.#process, delta, loOf(total), hiOf(total))
      left -= Math.min(left, RECORD_PAGES_MAX)
    }
  }
}
