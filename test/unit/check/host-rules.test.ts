import { describe, expect, it } from 'vitest'
import { HOST_RULES, type HostRuleId } from '../../../src/check/host-rules.ts'
import { LeakPin } from '../../../src/check/leak-pin.ts'
import type { CheckerOptions } from '../../../src/check/listed-checker.ts'
import { LockedVmBalance } from '../../../src/check/locked-vm-balance.ts'
import { MappedBalance } from '../../../src/check/mapped-balance.ts'
import { OrphanedRegion } from '../../../src/check/orphaned-region.ts'
import { OutOfTable } from '../../../src/check/out-of-table.ts'
import { RangeMismatch } from '../../../src/check/range-mismatch.ts'
import type { Checker } from '../../../src/check/rule.ts'
import { StaleTce } from '../../../src/check/stale-tce.ts'
import { TableReferenceLeak } from '../../../src/check/table-reference-leak.ts'
import { Uses } from '../../../src/check/uses.ts'
import { WindowShadows } from '../../../src/check/window-shadow.ts'
import { RecordLog } from '../../../src/trace/record-log.ts'

const CHECKERS: Record<HostRuleId, new (options: CheckerOptions) => Checker> = {
  'leak-pin': LeakPin,
  'mapped-balance': MappedBalance,
  'locked-vm-balance': LockedVmBalance,
  'orphaned-region': OrphanedRegion,
  'range-mismatch': RangeMismatch,
  'stale-tce': StaleTce,
  'table-reference-leak': TableReferenceLeak,
  'host-memory-corruption': OutOfTable,
}
const UA = 0x10_0000n

/** Records of a host with pages of 64 KiB, as they would come. */
class HostWorld {
  readonly log = new RecordLog()
  readonly checkers: readonly Checker[]
  #line = 0
  #total = 0

  constructor(ids: readonly HostRuleId[] = HOST_RULES.map((rule) => rule.id), pageShift = 16) {
    const windows = new WindowShadows()
    this.checkers = ids.map((id) => new CHECKERS[id]({ windows, uses: new Uses(windows) }))
    for (const checker of this.checkers) this.log.subscribe(checker)
    if (pageShift === 0) return
    const frames = { space: 'hpa', pageShift, first: 0, count: 8, owner: 'vmm', generation: 1 }
    this.log.emit('page.own', null, { ...frames, space: 'gpa', pageShift: 12 })
    this.log.emit('page.own', null, frames)
  }

  call<T>(name: string, code: number, inside: (cause: number) => T): T {
    const args = { a0: 0n, a1: 0n, a2: 0n, a3: 0n }
    const enter = this.log.emit('call.enter', null, { call: name, line: ++this.#line, by: 'vmm:0', ...args })
    const result = inside(enter)
    this.log.emit('call.return', enter, { call: name, layer: 'kernel', code, rule: '', out: 0n })
    return result
  }

  pin(count: number, delta: number, options: { ua?: bigint; process?: string; cause?: number } = {}) {
    const { ua = UA, process = 'vmm', cause = null } = options
    return this.log.emit('mm.pin', cause, { process, ua, count, delta })
  }

  lock(delta: number, options: { total?: number; process?: string } = {}) {
    this.#total = options.total ?? this.#total + delta
    return this.log.emit('mm.locked', null, { process: options.process ?? 'vmm', delta, total: this.#total })
  }

  region(options: { region?: number; ua?: bigint; pages?: number; device?: number } = {}) {
    const { region = 0, ua = UA, pages = 4, device = 0 } = options
    const counts = { used: 1, mapped: 1, pageShift: 16, device }
    return this.log.emit('region.new', null, { region, process: 'vmm', ua, pages, ...counts })
  }

  put(
    used: number,
    mapped: number,
    options: { code?: number; cause?: number; region?: number; ua?: bigint } = {},
  ) {
    const { code = 0, cause = null, region = 0, ua = UA } = options
    const fields = { region, process: 'vmm', ua, pages: 4, used, mapped, code }
    return this.log.emit('region.put', cause, fields)
  }

  map(mapped: number, delta: number) {
    const fields = { region: 0, process: 'vmm', ua: UA, pages: 4, used: 1, mapped, delta }
    const seq = this.log.emit('region.map', null, fields)
    const [before, tce] = delta > 0 ? [0n, 3n] : [3n, 0n]
    const entries = { table: 1, entry: 0, count: Math.abs(delta), beforeStep: 16, step: 16 }
    this.log.emit('hw.set', null, { ...entries, before, tce })
    return seq
  }

  free(process = 'vmm') {
    this.log.emit('mm.exit', null, { process })
    return this.log.emit('mm.free', null, { process })
  }

  found() {
    for (const checker of this.checkers) checker.finish()
    return this.checkers.flatMap((checker) => checker.findings)
  }

  messages(rule: HostRuleId) {
    return this.found()
      .filter((f) => f.rule === rule)
      .map((f) => f.message)
  }
}

/** A region that is charged, pinned, registered, given back, unpinned and uncharged. */
function wholeLife(w: HostWorld) {
  w.call('REGISTER', 0, () => [w.lock(4), w.pin(4, 1), w.region()])
  w.call('MAP', 0, () => [w.map(2, 1), w.map(3, 1)])
  w.call('UNREGISTER', -16, (cause) => w.put(1, 3, { code: -16, cause }))
  w.call('UNMAP', 0, () => [w.map(2, -1), w.map(1, -1)])
  w.call('UNREGISTER', 0, (cause) => [w.put(0, 0, { cause }), w.lock(-4), w.pin(4, -1, { cause })])
}

describe('rules of the host', () => {
  it('each has a checker that answers to its name', () => {
    for (const { id } of HOST_RULES) expect(new HostWorld([id]).checkers[0]?.rules).toContain(id)
  })

  it('a whole life keeps them all, and can be lived again', () => {
    const w = new HostWorld()
    wholeLife(w)
    wholeLife(w)
    w.free()
    expect(w.found()).toEqual([])
  })
})

describe('leak-pin', () => {
  it('pins that are taken back at a place that is not known count for any page', () => {
    const w = new HostWorld(['leak-pin'])
    w.pin(2, 1)
    w.pin(1, 1)
    w.pin(1, -1, { ua: 0n })
    w.pin(1, -1, { ua: 0n })
    expect(w.found()).toEqual([])
    w.free()
    expect(w.messages('leak-pin')).toEqual(['1 page of vmm stay pinned with its address space gone'])
  })

  it('and all of them, or more than were there', () => {
    const w = new HostWorld(['leak-pin'])
    w.pin(2, 1)
    w.pin(2, -1, { ua: 0n })
    expect(w.found()).toEqual([])
    w.pin(3, -1, { ua: 0n })
    w.free()
    expect(w.messages('leak-pin')).toEqual(['3 pages of vmm were unpinned and not pinned'])
  })

  it('pages that stay pinned with the address space gone', () => {
    const w = new HostWorld(['leak-pin'])
    const pin = w.pin(4, 1)
    w.pin(2, -1, { ua: UA + 0x1_0000n })
    const end = w.free()
    expect(w.found()).toMatchObject([
      {
        rule: 'leak-pin',
        message: '2 pages of vmm from 0x100000 on stay pinned with its address space gone',
      },
    ])
    expect(w.found()[0]?.because.map((e) => e.seq)).toEqual([pin, end])
  })

  it('and the region that holds them, with its counts', () => {
    const w = new HostWorld(['leak-pin'])
    w.pin(4, 1)
    w.region()
    w.map(2, 1)
    w.free()
    expect(w.messages('leak-pin')).toEqual([
      '4 pages of vmm from 0x100000 on stay pinned with its address space gone; region 0, 4 pages of vmm at 0x100000 (used 1, mapped 2) is still registered',
    ])
  })

  it('a region that ends without its pages being unpinned in the call', () => {
    const w = new HostWorld(['leak-pin'])
    w.pin(4, 1)
    const begun = w.region()
    const put = w.call('UNREGISTER', 0, (cause) => {
      const seq = w.put(0, 0, { cause })
      w.pin(3, -1, { cause })
      return seq
    })
    expect(w.messages('leak-pin')).toEqual([
      '1 page of region 0, 4 pages of vmm at 0x100000 (used 0, mapped 0) stay pinned after it ended',
    ])
    expect(w.found()[0]?.because.map((e) => e.seq)).toEqual([begun, put])
  })

  it('more unpinned than pinned', () => {
    const w = new HostWorld(['leak-pin'])
    w.pin(2, 1)
    w.pin(4, -1)
    expect(w.messages('leak-pin')).toEqual(['2 pages of vmm from 0x100000 on were unpinned and not pinned'])
  })

  it('a mapping that goes without having come', () => {
    const w = new HostWorld(['leak-pin'])
    w.region()
    w.map(2, 1)
    w.map(1, -1)
    w.map(1, -1)
    expect(w.messages('leak-pin')).toEqual([
      'a mapping of region 0, 4 pages of vmm at 0x100000 (used 1, mapped 1) goes that was not counted',
    ])
  })

  it.each<[string, (w: HostWorld) => unknown]>([
    [
      'a page that is pinned twice and unpinned twice',
      (w) => [w.pin(1, 1), w.pin(3, 1), w.pin(2, -1), w.pin(1, -1), w.pin(1, -1, { ua: UA + 0x2_0000n })],
    ],
    ['pins of a process that lives', (w) => [w.pin(4, 1), w.free('other')]],
    ['pins of another process', (w) => [w.pin(4, 1, { process: 'other' }), w.free()]],
    [
      'device memory is not pinned',
      (w) => [w.region({ device: 1 }), w.call('UNREGISTER', 0, (cause) => w.put(0, 0, { cause }))],
    ],
    [
      'unpinned after the process ended, before the last holder let go',
      (w) => [
        w.pin(4, 1),
        w.log.emit('mm.exit', null, { process: 'vmm' }),
        w.pin(4, -1),
        w.log.emit('mm.free', null, { process: 'vmm' }),
      ],
    ],
  ])('kept: %s', (_what, act) => {
    const w = new HostWorld(['leak-pin'])
    act(w)
    expect(w.found()).toEqual([])
  })

  it('skips pins where no record shows the system page', () => {
    const w = new HostWorld(['leak-pin'], 0)
    w.pin(4, 1)
    w.free()
    expect([w.found(), w.checkers[0]?.skipped]).toEqual([[], 4])
  })
})

describe('locked-vm-balance', () => {
  it('a charge that is there when the address space goes, with the records of it', () => {
    const w = new HostWorld(['locked-vm-balance'])
    w.lock(4)
    const kept = w.lock(68)
    w.lock(-4)
    const end = w.free()
    expect(w.messages('locked-vm-balance')).toEqual([
      'locked_vm of vmm is 68 pages with its address space gone',
    ])
    expect(w.found()[0]?.because.map((e) => e.seq)).toEqual([kept, end])
  })

  it('a change that does not come to what it says', () => {
    const w = new HostWorld(['locked-vm-balance'])
    w.lock(4)
    w.lock(2, { total: 7 })
    expect(w.messages('locked-vm-balance')).toEqual([
      'locked_vm of vmm was 4 pages, and is 7 after a change of 2',
    ])
  })

  it('more given back than is charged', () => {
    const w = new HostWorld(['locked-vm-balance'])
    w.lock(2)
    w.log.emit('mm.locked', null, { process: 'vmm', delta: -3, total: 2 ** 64 - 1 })
    expect(w.messages('locked-vm-balance')[0]).toContain('locked_vm of vmm was 2 pages')
  })

  it('a region that is not charged', () => {
    const w = new HostWorld(['locked-vm-balance'])
    w.lock(4)
    w.region()
    w.region({ region: 1, ua: UA * 2n })
    expect(w.messages('locked-vm-balance')).toEqual([
      'region 1, 4 pages of vmm at 0x200000 (used 1, mapped 1) was not charged',
    ])
  })

  it('the charge of a region that is still registered is given back', () => {
    const w = new HostWorld(['locked-vm-balance'])
    const charge = w.lock(4)
    w.region()
    const back = w.lock(-4)
    expect(w.messages('locked-vm-balance')).toEqual([
      '4 pages of vmm were given back, with a region of as many still registered',
    ])
    expect(w.found()[0]?.because.map((e) => e.seq)).toEqual([charge, back])
  })

  it.each<[string, (w: HostWorld) => unknown]>([
    ['a table of as many pages as a region', (w) => [w.lock(4), w.region(), w.lock(4), w.lock(-4)]],
    ['a region of a device', (w) => [w.region({ device: 1 }), w.free()]],
    [
      'each process has its own',
      (w) => [w.lock(4), w.lock(3, { process: 'other', total: 3 }), w.free('third')],
    ],
    ['charges of a process that lives', (w) => w.lock(4)],
  ])('kept: %s', (_what, act) => {
    const w = new HostWorld(['locked-vm-balance'])
    act(w)
    expect(w.found()).toEqual([])
  })

  it('does not guess what a sum of several charges was for', () => {
    const w = new HostWorld(['locked-vm-balance'])
    w.lock(4)
    w.lock(3)
    w.lock(-7)
    w.region()
    expect([w.found(), w.checkers[0]?.skipped]).toEqual([[], 1])
  })
})

describe('orphaned-region', () => {
  it('X1: a put is refused, and its call answers 0', () => {
    const w = new HostWorld(['orphaned-region'])
    const begun = w.region()
    w.map(2, 1)
    const put = w.call('UNREGISTER', 0, (cause) => {
      w.log.emit('region.get', cause, { region: 0, process: 'vmm', ua: UA, pages: 4, used: 2, mapped: 2 })
      w.put(1, 2, { cause })
      return w.put(1, 2, { code: -16, cause })
    })
    expect(w.found()).toMatchObject([
      {
        rule: 'orphaned-region',
        message:
          'nobody owns region 0, 4 pages of vmm at 0x100000 (used 1, mapped 2): UNREGISTER could not give it back and answered 0',
        times: 1,
      },
    ])
    expect(w.found()[0]?.because.map((e) => [e.seq, e.line])).toEqual([
      [begun, 0],
      [put, 1],
      [put + 1, 1],
    ])
    w.free()
    expect(w.found().length).toBe(1)
  })

  it('a region that outlives its address space', () => {
    const w = new HostWorld(['orphaned-region'])
    w.region()
    w.free()
    expect(w.messages('orphaned-region')).toEqual([
      'nobody owns region 0, 4 pages of vmm at 0x100000 (used 1, mapped 1): its address space is gone',
    ])
  })

  it.each<[string, (w: HostWorld) => unknown]>([
    [
      'the caller hears of it',
      (w) => [w.region(), w.call('UNREGISTER', -16, (cause) => w.put(1, 3, { code: -16, cause }))],
    ],
    [
      'another registration is left',
      (w) => [w.region(), w.call('UNREGISTER', 0, (cause) => w.put(1, 3, { cause }))],
    ],
    [
      'the region ends',
      (w) => [w.region(), w.call('UNREGISTER', 0, (cause) => w.put(0, 0, { cause })), w.free()],
    ],
    [
      'another call answers 0 meanwhile',
      (w) => [
        w.region(),
        w.call('UNREGISTER', -16, (cause) => [w.call('MAP', 0, () => 0), w.put(1, 3, { code: -16, cause })]),
      ],
    ],
    ['a process that lives', (w) => [w.region(), w.free('other')]],
  ])('kept: %s', (_what, act) => {
    const w = new HostWorld(['orphaned-region'])
    act(w)
    expect(w.found()).toEqual([])
  })
})
