import { Judge, type JudgeOptions } from '../../../src/check/judge.ts'
import type { Finding } from '../../../src/check/rule.ts'
import { LedgerCounter } from '../../../src/report/ledger.ts'
import { RecordLog } from '../../../src/trace/record-log.ts'

/** Records as a machine would leave them, one method each, with all checkers listening. */
export class World {
  readonly log: RecordLog
  readonly judge: Judge
  readonly counter: LedgerCounter
  line = 0

  constructor(options: JudgeOptions & { keepRecords?: number } = {}) {
    this.log = new RecordLog(options.keepRecords === undefined ? {} : { keepRecords: options.keepRecords })
    this.judge = new Judge(options)
    this.judge.attach(this.log)
    this.counter = new LedgerCounter(this.judge)
    this.counter.attach(this.log)
  }

  /** A window of 4 KiB pages, 64 entries, at bus address 0. */
  open(
    shape: Partial<{
      window: number
      liobn: number
      pageShift: number
      busOffset: bigint
      entries: number
      unit: string
    }> = {},
  ) {
    const full = {
      window: 1,
      liobn: 0x8000_0000,
      pageShift: 12,
      busOffset: 0n,
      entries: 64,
      unit: 'phb0',
      ...shape,
    }
    return this.log.emit('window.open', null, full)
  }

  close(window = 1) {
    return this.log.emit('window.close', null, { window, liobn: 0x8000_0000, why: 'reset' })
  }

  /** A call on a line of its own; what happens inside has it as its cause. */
  call<T>(name: string, inside: (cause: number) => T, code = 0, cause: number | null = null): T {
    this.line++
    const enter = this.log.emit('call.enter', cause, {
      call: name,
      line: this.line,
      by: 'guest:0',
      a0: 0n,
      a1: 0n,
      a2: 0n,
      a3: 0n,
    })
    const result = inside(enter)
    this.log.emit('call.return', enter, {
      call: name,
      layer: 'qemu',
      code,
      rule: code === 0 ? 'done' : 'refused',
      out: 0n,
    })
    return result
  }

  set(
    e: { first: number; count?: number; tce: bigint; step?: number; how?: number; window?: number },
    cause: number | null = null,
  ) {
    return this.log.emit('tce.set', cause, { window: 1, count: 1, step: -1, how: 0, ...e })
  }

  /** H_PUT_TCE or H_PUT_TCE_INDIRECT of contiguous memory. */
  map(
    first: number,
    tce: bigint,
    options: { count?: number; step?: number; how?: number; window?: number } = {},
  ) {
    const { count = 1, step = count > 1 ? 12 : -1 } = options
    return this.call(count > 1 ? 'H_PUT_TCE_INDIRECT' : 'H_PUT_TCE', (c) =>
      this.set({ first, tce, ...options, count, step }, c),
    )
  }

  /** H_STUFF_TCE of 0. */
  clear(first: number, count = 1, window = 1) {
    return this.call('H_STUFF_TCE', (c) => this.set({ first, count, tce: 0n, window }, c))
  }

  grant(
    first: number,
    options: Partial<{
      count: number
      gpa: bigint
      bytes: number
      dir: number
      owner: string
      device: string
      window: number
    }> = {},
    cause: number | null = null,
  ) {
    const { count = 1, gpa = 0n, bytes = count * 4096, ...rest } = options
    const grant = {
      window: 1,
      first,
      count,
      gpa: Number(gpa),
      bytes,
      dir: 3,
      owner: 'nic',
      device: 'nic',
      ...rest,
    }
    return this.log.emit('dma.grant', cause, { ...grant, gpa })
  }

  revoke(first: number, count = 1, window = 1, cause: number | null = null) {
    return this.log.emit('dma.revoke', cause, { window, first, count, device: 'nic' })
  }

  take(first: number, count = 1, pool = 0, window = 1, cause: number | null = null) {
    return this.log.emit('alloc.take', cause, { window, first, count, pool })
  }

  free(first: number, count = 1, window = 1, cause: number | null = null) {
    return this.log.emit('alloc.free', cause, { window, first, count })
  }

  own(first: number, count: number, owner: string, options: { pageShift?: number; space?: string } = {}) {
    const { pageShift = 12, space = 'gpa' } = options
    return this.log.emit('page.own', null, { space, pageShift, first, count, owner, generation: 0 })
  }

  ram(gpa: bigint, bytes: bigint, present = 1, owner = 'partition:a') {
    return this.log.emit('memory.slot', null, { gpa, bytes, ua: 0n, owner, present })
  }

  direct(offset = 0n, device = 'nic') {
    return this.log.emit('dma.direct', null, { device, offset, limit: 0n })
  }

  request(device: string, iova: bigint, write = 0, line = 0) {
    return this.log.emit('dma.request', null, { device, iova, bytes: 4, write, line })
  }

  /** A translation; `allowed` as the entry's permission says unless it is given. */
  use(
    entry: number,
    options: Partial<{
      gpa: bigint
      perm: number
      need: number
      allowed: number
      line: number
      window: number
      cause: number
    }> = {},
  ) {
    const { gpa = 0x5000n, need = 1, perm = 3, line = 0, window = 1, cause = null } = options
    const allowed = options.allowed ?? ((perm & need) === need && perm !== 0 ? 1 : 0)
    const address = BigInt(entry) << 12n
    return this.log.emit('dma.translate', cause, { window, entry, address, gpa, perm, need, allowed, line })
  }

  refused(
    entry: number,
    options: Partial<{ need: number; line: number; window: number; cause: number }> = {},
  ) {
    return this.use(entry, { ...options, perm: 0, gpa: 0n, allowed: 0 })
  }

  remove(device = 'nic') {
    return this.log.emit('device.remove', null, { device })
  }

  end(settled = 0) {
    return this.log.emit('run.end', null, { settled })
  }

  /** Findings so far, after the checkers have been told that nothing more comes. */
  found(): readonly Finding[] {
    this.judge.finish()
    return this.judge.findings
  }

  rules(): readonly string[] {
    return this.found().map((f) => f.rule)
  }

  messages(rule: string): readonly string[] {
    return this.found()
      .filter((f) => f.rule === rule)
      .map((f) => f.message)
  }
}
