import { describe, expect, it } from 'vitest'
import { MappedBalance } from '../../../src/check/mapped-balance.ts'
import { Uses } from '../../../src/check/uses.ts'
import { WindowShadows } from '../../../src/check/window-shadow.ts'
import { RecordLog } from '../../../src/trace/record-log.ts'

/** Records of calls, and what the checker says of each. */
class Calls {
  readonly log = new RecordLog()
  readonly checker: MappedBalance
  #line = 0

  constructor() {
    const windows = new WindowShadows()
    this.checker = new MappedBalance({ windows, uses: new Uses(windows) })
    this.log.subscribe(this.checker)
  }

  /** What one call adds to the findings. */
  of(inside: () => unknown): string[] {
    const before = this.checker.findings.length
    const args = { a0: 0n, a1: 0n, a2: 0n, a3: 0n }
    const enter = this.log.emit('call.enter', null, { call: 'x', line: ++this.#line, by: 'vmm:0', ...args })
    inside()
    this.log.emit('call.return', enter, { call: 'x', layer: 'kernel', code: 0, rule: 'done', out: 0n })
    return this.checker.findings.slice(before).map((f) => f.message)
  }

  set(count: number, before: bigint, tce: bigint) {
    const entries = { table: 1, entry: 0, count, before, beforeStep: 16, tce, step: 16 }
    this.log.emit('hw.set', null, entries)
  }

  map(delta: number) {
    const region = { region: 0, process: 'vmm', ua: 0n, pages: 16, used: 1 }
    this.log.emit('region.map', null, { ...region, mapped: 1, delta })
  }

  pin(count: number, delta: number) {
    this.log.emit('mm.pin', null, { process: 'vmm', ua: 0n, count, delta })
  }

  region(kind: 'region.new' | 'region.put', used: number) {
    const region = { region: 0, process: 'vmm', ua: 0n, pages: 16, used, mapped: 1 }
    if (kind === 'region.new') this.log.emit(kind, null, { ...region, pageShift: 16, device: 0 })
    else this.log.emit(kind, null, { ...region, code: 0 })
  }
}

describe('mapped-balance', () => {
  it('is kept where counts come and go with entries', () => {
    const c = new Calls()
    expect(c.of(() => [c.set(4, 0n, 3n), c.map(4)])).toEqual([])
    // Live entries that get other values: nothing comes, and what is counted is counted anew.
    expect(c.of(() => [c.set(4, 3n, 0x1_0003n), c.map(4), c.map(-4)])).toEqual([])
    expect(c.of(() => [c.set(4, 3n, 0n), c.map(-4)])).toEqual([])
    expect(c.of(() => c.set(4, 0n, 0n))).toEqual([])
  })

  it('is broken by a count too many, one too few, and one that is of another call', () => {
    const c = new Calls()
    expect(c.of(() => c.map(1))).toEqual([
      'regions count 1 mapping more, and hardware tables hold as many live entries as before',
    ])
    expect(c.of(() => c.set(2, 0n, 3n))).toEqual([
      'regions count as many mappings as before, and hardware tables hold 2 live entries more',
    ])
    expect(c.of(() => [c.set(3, 3n, 0n), c.map(-2)])).toHaveLength(1)
  })

  it('takes pins of a v1 container for its entries, and pins of a registration for none', () => {
    const c = new Calls()
    expect(c.of(() => [c.pin(2, 1), c.set(2, 0n, 3n)])).toEqual([])
    expect(c.of(() => [c.region('region.new', 1), c.pin(16, 1)])).toEqual([])
    // A process ends with both kinds of containers.
    const end = () => {
      c.set(2, 3n, 0n)
      c.pin(2, -1)
      c.set(4, 3n, 0n)
      c.map(-4)
      c.region('region.put', 0)
      c.pin(16, -1)
    }
    expect(c.of(end)).toEqual([])
    expect(c.of(() => [c.pin(1, 1), c.set(2, 0n, 3n)])).toHaveLength(1)
  })

  it('does not judge a call that wrote outside a table', () => {
    const c = new Calls()
    const outside = () => {
      c.map(2)
      c.set(1, 0n, 3n)
      const fields = { space: 'hpa', address: 0n, bytes: 8, what: 'tce', table: 1, entry: 8n }
      c.log.emit('memory.corrupt', null, fields)
    }
    expect(c.of(outside)).toEqual([])
    expect(c.of(() => c.map(1))).toHaveLength(1)
  })
})
