import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import type { RuleOf } from '../../src/bits/call.ts'
import {
  IOMMU_ATTACH,
  IOMMU_DETACH,
  IOMMU_FLUSH_ALL,
  IOMMU_FLUSH_CONTEXT,
  IOMMU_FLUSH_DEVICE_TLB,
  IOMMU_FLUSH_DOMAIN,
  IOMMU_FLUSH_PAGES,
  IOMMU_MAP,
  IOMMU_SUBMIT,
  IOMMU_UNMAP,
} from '../../src/kernel/intel-iommu/calls.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { Machine } from '../../src/machine/machine.ts'
import type { Q35Input } from '../../src/machine/q35/description.ts'
import type { MachineEvent } from '../../src/trace/event.ts'
import { eventsOfLog } from '../support/events.ts'
import { testRules } from '../support/rule-table.ts'
import { CAP, driverWorld } from '../support/vtd-driver.ts'

type Args = Readonly<Record<string, Value>>

function iommuMachine(input: Omit<Q35Input, 'kind'> = {}, journal = false) {
  const machine = createMachine(
    describeMachine({
      profile: 'intended',
      iommu: { deviceIotlb: true },
      virtio: [{ name: 'net0', hasAts: true }, { name: 'net1' }],
      ...input,
      kind: 'q35',
    }),
    { journal },
  )
  const iommu = (call: string, args: Args = {}): Answer => machine.perform({ verb: 'iommu', call, args })
  return { machine, iommu }
}

/** With a domain 5 that has 16 pages at 0x100000 for device net0, and ATS on there. */
function attached(input: Omit<Q35Input, 'kind'> = {}) {
  const made = iommuMachine(input)
  made.iommu('attach', { device: 'net0', domain: 5n })
  made.iommu('map', { domain: 5n, iova: 0x10_0000n, gpa: 0x20_0000n, bytes: 0x1_0000n })
  return made
}

const domainEvents = ({ log }: Machine): MachineEvent[] => eventsOfLog(log, 'domain.')

/** What descriptors of the queue asked for since the driver had started the unit, with their waits. */
const flushes = (machine: Machine) => {
  const events = eventsOfLog(machine.log, '')
  return events
    .slice(events.findIndex((e) => e.kind === 'call.enter' && e.call.startsWith('iommu ')))
    .flatMap((e): unknown[] => {
      if (e.kind === 'domain.flush') return [[e.scope, e.domain, e.source, e.iova, e.bytes]]
      return e.kind === 'domain.wait' ? ['wait'] : []
    })
}

const two = (...inputs: (() => Answer)[]) => inputs.map((run) => run())
/** As many table pages as the machine itself needs, and some. */
const fewPages = (pages: bigint) => ({ tables: { gpa: 0x100_0000n, bytes: pages << 12n } })

describe('iommu attach', () => {
  testRules(IOMMU_ATTACH, {
    'device-unknown': () => [iommuMachine().iommu('attach', { device: 'net7', domain: 0n })],
    'domain-reserved': () => [
      iommuMachine().iommu('attach', { device: 'net0', domain: 0n }),
      attached().iommu('attach', { device: 'net0', domain: 0n }),
    ],
    'beyond-domains': () => [
      driverWorld({ cap: CAP.qemu & ~6n }).iommu('attach', { device: 'dev0', domain: 16n }),
      driverWorld({ cap: CAP.qemu & ~6n }).iommu('attach', { device: 'dev0', domain: 0xffffn }),
    ],
    attached: () => [attached().iommu('attach', { device: 'net0', domain: 6n })],
    'no-table-page': () =>
      two(
        () => iommuMachine(fewPages(3n)).iommu('attach', { device: 'net0', domain: 5n }),
        () => iommuMachine(fewPages(4n)).iommu('attach', { device: 'net0', domain: 5n }),
      ),
    done: () => [
      iommuMachine(fewPages(5n)).iommu('attach', { device: 'net0', domain: 5n }),
      attached().iommu('attach', { device: 'net1', domain: 5n }),
      attached().iommu('attach', { device: 'net1', domain: 0xffffn }),
    ],
  } satisfies Record<RuleOf<typeof IOMMU_ATTACH>, () => Answer[]>)

  it.each([
    [true, true, {}, true],
    [true, true, { ats: false }, false],
    [true, false, {}, false],
    [false, true, {}, false],
  ])('device-iotlb %s, ATS of the device %s, %o: ATS %s', (deviceIotlb, hasAts, args, ats) => {
    const virtio = [{ name: 'net0', hasAts }]
    const { machine, iommu } = iommuMachine({ iommu: { deviceIotlb }, virtio })
    expect(iommu('attach', { device: 'net0', domain: 5n, ...args }).outputs).toEqual({ ats })
    expect(eventsOfLog(machine.log, 'domain.attach')).toMatchObject([
      { kind: 'domain.attach', device: 'net0', source: 0x100, domain: 5, ats: ats ? 1 : 0 },
      { kind: 'domain.attach', device: 'vhost-net0', source: 0x100, domain: 5, ats: ats ? 1 : 0 },
    ])
  })

  it('a caching unit is made to look again, under domain 0', () => {
    const { machine, iommu } = iommuMachine({ iommu: { cachingMode: true } })
    iommu('attach', { device: 'net0', domain: 5n })
    expect(flushes(machine)).toEqual([[5, 0, 0x100, 0n, 0n], 'wait', [2, 5, 0, 0n, 0n], 'wait'])
  })
})

describe('iommu detach', () => {
  testRules(IOMMU_DETACH, {
    'device-unknown': () => [iommuMachine().iommu('detach', { device: 'net7' })],
    'not-attached': () => [attached().iommu('detach', { device: 'net1' })],
    done: () => [attached().iommu('detach', { device: 'net0' })],
  } satisfies Record<RuleOf<typeof IOMMU_DETACH>, () => Answer[]>)

  it('flushes the entry, then the domain', () => {
    const { machine, iommu } = attached()
    iommu('detach', { device: 'net0' })
    expect(flushes(machine)).toEqual([[5, 5, 0x100, 0n, 0n], 'wait', [2, 5, 0, 0n, 0n], 'wait'])
    expect(iommu('attach', { device: 'net0', domain: 6n }).rule).toBe('done')
  })
})

const MAP = { domain: 5n, iova: 0x20_0000n, gpa: 0x30_0000n, bytes: 0x1000n }

describe('iommu map', () => {
  const map = (args: Args, input = {}) => attached(input).iommu('map', { ...MAP, ...args })
  testRules(IOMMU_MAP, {
    'domain-unknown': () => [map({ domain: 6n, bytes: 0n }), map({ domain: 0n })],
    unaligned: () => [
      map({ iova: 0x20_0800n }),
      map({ gpa: 0x30_0001n }),
      map({ bytes: 0x800n }),
      map({ bytes: 0n }),
      map({ iova: (1n << 39n) + 1n }),
    ],
    'beyond-width': () => [
      map({ iova: 1n << 39n }),
      map({ iova: (1n << 39n) - 0x1000n, bytes: 0x2000n }),
      map({ gpa: (1n << 39n) - 0x1000n, bytes: 0x2000n }),
      map({ iova: 0x10_0000n, gpa: 1n << 39n }),
    ],
    mapped: () => [
      map({ iova: 0x10_f000n }),
      map({ iova: 0xf_f000n, bytes: 0x2000n }),
      map({ iova: 0n, bytes: 1n << 30n, gpa: 0n }),
    ],
    'no-table-page': () => [
      attached(fewPages(7n)).iommu('map', { ...MAP, iova: 0x4000_0000n }),
      attached(fewPages(8n)).iommu('map', { ...MAP, iova: 0x4000_0000n }),
    ],
    done: () => [
      map({}),
      map({ dir: 'read', owner: 'buffer' }),
      attached(fewPages(9n)).iommu('map', { ...MAP, iova: 0x4000_0000n }),
      map({ iova: 0x4000_0000n, gpa: 0x4000_0000n, bytes: 1n << 30n }),
    ],
  } satisfies Record<RuleOf<typeof IOMMU_MAP>, () => Answer[]>)

  it('leaves a record of the range, and of whom it belongs to', () => {
    const { machine, iommu } = attached()
    iommu('map', { ...MAP, dir: 'read', owner: 'packet' })
    const isOfHost = (e: MachineEvent) => e.kind === 'page.own' && e.space === 'hpa'
    const events = eventsOfLog(machine.log, '').filter((e) => !isOfHost(e) && e.kind !== 'vtd.table')
    expect(events.slice(events.findLastIndex((e) => e.kind === 'call.enter'))).toMatchObject([
      { kind: 'call.enter', call: 'iommu map' },
      { kind: 'domain.map', domain: 5, iova: 0x20_0000n, bytes: 0x1000n, gpa: 0x30_0000n, perm: 1, how: 0 },
      { kind: 'page.own', space: 'gpa', first: 0x300, count: 1, owner: 'packet' },
      { kind: 'call.return', rule: 'done' },
    ])
  })

  it('a caching unit is made to look at the pages again, and only then', () => {
    const input = { iommu: { cachingMode: true } }
    const { machine, iommu } = attached(input)
    const before = flushes(machine).length
    iommu('map', { ...MAP, bytes: 0x3000n })
    expect(flushes(machine).slice(before)).toEqual([[3, 5, 0, 0x20_0000n, 0x4000n], 'wait'])
    expect(flushes(attached().machine)).toEqual([])
  })
})

describe('iommu unmap', () => {
  const UNMAP = { domain: 5n, iova: 0x10_0000n, bytes: 0x1000n }
  const unmap = (args: Args) => attached().iommu('unmap', { ...UNMAP, ...args })
  testRules(IOMMU_UNMAP, {
    'domain-unknown': () => [unmap({ domain: 6n, bytes: 0n })],
    unaligned: () => [unmap({ iova: 0x10_0001n }), unmap({ bytes: 0n }), unmap({ iova: (1n << 40n) + 1n })],
    'beyond-width': () => [
      unmap({ iova: 1n << 39n }),
      unmap({ iova: (1n << 39n) - 0x1000n, bytes: 0x2000n }),
    ],
    'not-mapped': () => [unmap({ iova: 0x11_0000n }), unmap({ iova: 1n << 30n, bytes: 1n << 30n })],
    done: () => [unmap({}), unmap({ iova: 0n, bytes: 1n << 30n })],
  } satisfies Record<RuleOf<typeof IOMMU_UNMAP>, () => Answer[]>)

  it('says what has gone, and flushes nothing', () => {
    const { machine, iommu } = attached()
    iommu('unmap', { domain: 5n, iova: 0x10_8000n, bytes: 0x10_0000n, owner: 'free' })
    expect(domainEvents(machine).slice(-1)).toMatchObject([
      { kind: 'domain.unmap', iova: 0x10_8000n, bytes: 0x8000n, how: 0 },
    ])
    expect(eventsOfLog(machine.log, 'page.own').slice(-1)).toMatchObject([
      { first: 0x208, count: 8, owner: 'free' },
    ])
    expect(flushes(machine)).toEqual([])
  })

  it('a large page goes whole', () => {
    const { machine, iommu } = attached()
    iommu('map', { domain: 5n, iova: 0x4000_0000n, gpa: 0x60_0000n, bytes: 0x20_0000n })
    iommu('unmap', { domain: 5n, iova: 0x4000_1000n, bytes: 0x1000n })
    expect(domainEvents(machine).slice(-1)).toMatchObject([
      { kind: 'domain.unmap', iova: 0x4000_0000n, bytes: 0x20_0000n },
    ])
  })

  it('a table that is empty comes back after the next flush', () => {
    const { iommu } = attached(fewPages(8n))
    const far = (iova: bigint) => iommu('map', { ...MAP, iova, gpa: 0x30_0000n }).rule
    expect(far(0x20_0000n)).toBe('done')
    expect(far(0x40_0000n)).toBe('no-table-page')
    iommu('unmap', { domain: 5n, iova: 0x20_0000n, bytes: 0x20_0000n })
    expect(far(0x40_0000n)).toBe('no-table-page')
    iommu('flush_domain', { domain: 5n })
    expect(far(0x40_0000n)).toBe('done')
  })
})

describe('iommu flush_pages', () => {
  const FLUSH = { domain: 5n, iova: 0x10_0000n, bytes: 0x1000n }
  const flush = (args: Args) => attached().iommu('flush_pages', { ...FLUSH, ...args })
  testRules(IOMMU_FLUSH_PAGES, {
    'domain-unknown': () => [flush({ domain: 6n, bytes: 0n })],
    unaligned: () => [flush({ iova: 0x10_0001n }), flush({ bytes: 0n })],
    'beyond-width': () => [flush({ iova: 1n << 39n })],
    'too-many': () => [flush({ iova: 0n, bytes: (1n << 30n) + 0x1000n })],
    done: () => [flush({}), flush({ iova: 0n, bytes: 1n << 30n })],
  } satisfies Record<RuleOf<typeof IOMMU_FLUSH_PAGES>, () => Answer[]>)

  it.each([
    ['V15: one page', 0x100n, 1n, 0x100n, 1n],
    ['V15: aligned', 0x100n, 4n, 0x100n, 4n],
    ['V15: two that cross', 0x103n, 2n, 0x100n, 8n],
    ['V15: four that cross', 0x17fn, 4n, 0x100n, 0x100n],
    ['V15: two around 0x200', 0x1ffn, 2n, 0n, 0x400n],
    ['V15: two around 0x1000', 0xfffn, 2n, 0n, 0x2000n],
  ])('%s', (_what, pfn, pages, first, covered) => {
    const { machine, iommu } = attached()
    iommu('flush_pages', { domain: 5n, iova: pfn << 12n, bytes: pages << 12n })
    expect(flushes(machine)).toEqual([[3, 5, 0, first << 12n, covered << 12n], 'wait'])
  })
})

describe('iommu flush_domain and flush_all', () => {
  testRules(IOMMU_FLUSH_DOMAIN, {
    'domain-unknown': () => [attached().iommu('flush_domain', { domain: 6n })],
    done: () => [attached().iommu('flush_domain', { domain: 5n })],
  } satisfies Record<RuleOf<typeof IOMMU_FLUSH_DOMAIN>, () => Answer[]>)
  testRules(IOMMU_FLUSH_ALL, {
    done: () => [attached().iommu('flush_all')],
  } satisfies Record<RuleOf<typeof IOMMU_FLUSH_ALL>, () => Answer[]>)

  it('name their scope', () => {
    const { machine, iommu } = attached()
    iommu('flush_domain', { domain: 5n })
    iommu('flush_all')
    expect(flushes(machine)).toEqual([[2, 5, 0, 0n, 0n], 'wait', [1, 0, 0, 0n, 0n], 'wait'])
  })

  it('go round the queue', () => {
    const { machine, iommu } = attached()
    for (let i = 0; i < 300; i++) expect(iommu('flush_all').rule).toBe('done')
    expect(flushes(machine).filter((f) => f === 'wait')).toHaveLength(300)
  })
})

describe('iommu flush_device_tlb', () => {
  const flush = (args: Args = {}) => attached().iommu('flush_device_tlb', { device: 'net0', ...args })
  const without = (args: Args = {}) => {
    const { iommu } = attached()
    iommu('attach', { device: 'net1', domain: 5n })
    return iommu('flush_device_tlb', { device: 'net1', ...args })
  }
  testRules(IOMMU_FLUSH_DEVICE_TLB, {
    'device-unknown': () => [flush({ device: 'net7' })],
    'not-attached': () => [flush({ device: 'net1', bytes: 3n })],
    'no-block': () => [
      flush({ bytes: 0x3000n }),
      flush({ bytes: 0x800n }),
      flush({ iova: 0x1000n, bytes: 0x2000n }),
      flush({ iova: 0x1000n }),
      without({ bytes: 0x3000n }),
    ],
    'ats-off': () => [without()],
    done: () => [flush(), flush({ iova: 0x2000n, bytes: 0x2000n })],
  } satisfies Record<RuleOf<typeof IOMMU_FLUSH_DEVICE_TLB>, () => Answer[]>)

  it.each([
    [{ iova: 0x4020_0000n, bytes: 0x1000n }, 0x4020_0000n, 0x1000n],
    [{ iova: 0x4020_0000n, bytes: 0x2000n }, 0x4020_0000n, 0x2000n],
    [{ iova: 0x4020_0000n, bytes: 0x20_0000n }, 0x4020_0000n, 0x20_0000n],
    [{}, 0n, 0n],
  ])('%o', (args, iova, bytes) => {
    const { machine, iommu } = attached()
    iommu('flush_device_tlb', { device: 'net0', ...args })
    expect(flushes(machine)).toEqual([[4, 0, 0x100, iova, bytes], 'wait'])
  })
})

describe('iommu flush_context', () => {
  testRules(IOMMU_FLUSH_CONTEXT, {
    'device-unknown': () => [attached().iommu('flush_context', { device: 'net7' })],
    done: () => [
      attached().iommu('flush_context', { device: 'net0' }),
      attached().iommu('flush_context', { device: 'net1' }),
    ],
  } satisfies Record<RuleOf<typeof IOMMU_FLUSH_CONTEXT>, () => Answer[]>)
})

describe('iommu submit', () => {
  testRules(IOMMU_SUBMIT, {
    refused: () => [attached().iommu('submit', { lo: 0x5_01e2n }), attached().iommu('submit', { lo: 0x1n })],
    done: () => [
      attached().iommu('submit', { lo: 0x5_00e2n }),
      attached().iommu('submit', { lo: 0xd2n, hi: 0n }),
    ],
  } satisfies Record<RuleOf<typeof IOMMU_SUBMIT>, () => Answer[]>)

  it('the wait that takes the place of a bad descriptor runs once the error is cleared', () => {
    const { machine, iommu } = attached()
    iommu('submit', { lo: 0x5_01e2n })
    expect(flushes(machine)).toEqual(['wait', 'wait'])
    iommu('flush_domain', { domain: 5n })
    expect(flushes(machine)).toEqual(['wait', 'wait', [2, 5, 0, 0n, 0n], 'wait'])
  })
})

describe('the machine', () => {
  it('goes back: tables, queue, domains', () => {
    const { machine, iommu } = iommuMachine({}, true)
    iommu('attach', { device: 'net0', domain: 5n })
    const [mark, hash] = [machine.journal.mark(), machine.journal.hash]
    const act = () => [
      iommu('map', MAP).rule,
      iommu('attach', { device: 'net1', domain: 7n }).rule,
      iommu('unmap', { domain: 5n, iova: 0n, bytes: 1n << 30n }).rule,
      iommu('flush_domain', { domain: 7n }).rule,
      iommu('detach', { device: 'net0' }).rule,
    ]
    expect(act()).toEqual(['done', 'done', 'done', 'done', 'done'])
    const after = machine.journal.hash
    machine.journal.rollback(mark)
    expect(machine.journal.hash).toBe(hash)
    expect(act()).toEqual(['done', 'done', 'done', 'done', 'done'])
    expect(machine.journal.hash).toBe(after)
  })

  it('goes back with vhost: its maps, QEMU`s listeners, what was written', () => {
    const { machine, iommu } = iommuMachine({ profile: 'qemu-7.2.22+linux-6.1.192' }, true)
    const dma = (call: string, args: Args) => machine.perform({ verb: 'dma', call, args })
    iommu('attach', { device: 'net0', domain: 5n, ats: false })
    iommu('map', { ...MAP, bytes: 0x4000n })
    machine.perform({ verb: 'virtio', call: 'ready', args: { device: 'net0' } })
    const [mark, hash] = [machine.journal.mark(), machine.journal.hash]
    const act = () => [
      dma('write', { device: 'net0', iova: 0x20_0ff0n, data: 'a text across two pages' }).rule,
      dma('read', { device: 'net0', iova: 0x20_0ff0n, bytes: 6n }).outputs['data'],
      iommu('flush_domain', { domain: 5n }).rule,
      iommu('unmap', { domain: 5n, iova: 0x20_1000n, bytes: 0x1000n }).rule,
      iommu('flush_domain', { domain: 5n }).rule,
      dma('write', { device: 'net0', iova: 0x20_1000n, data: 'x' }).rule,
      machine.perform({ verb: 'virtio', call: 'reset', args: { device: 'net0' } }).rule,
    ]
    const said = ['done', 'a text', 'done', 'done', 'done', 'iotlb-miss', 'done']
    expect(act()).toEqual(said)
    const after = machine.journal.hash
    machine.journal.rollback(mark)
    expect(machine.journal.hash).toBe(hash)
    expect(act()).toEqual(said)
    expect(machine.journal.hash).toBe(after)
  })

  it('keeps as many maps as it is told', () => {
    const { machine, iommu } = iommuMachine({ iotlbEntries: 2 })
    iommu('attach', { device: 'net0', domain: 5n, ats: false })
    iommu('map', { ...MAP, bytes: 0x4000n })
    machine.perform({ verb: 'virtio', call: 'ready', args: { device: 'net0' } })
    const args = { device: 'net0', iova: MAP.iova, bytes: 0x3000n }
    machine.perform({ verb: 'dma', call: 'read', args })
    expect(eventsOfLog(machine.log, 'iotlb.new')).toMatchObject([{ limit: 2 }])
    expect(eventsOfLog(machine.log, 'iotlb.evict').length).toBeGreaterThan(0)
  })

  it('nothing of it answers once QEMU has ended', () => {
    const { machine, iommu } = iommuMachine({ profile: 'qemu-7.2.22' })
    iommu('attach', { device: 'net0', domain: 5n, ats: false })
    machine.perform({ verb: 'virtio', call: 'ready', args: { device: 'net0' } })
    const whole = { lo: 0x100_0000_0003n, hi: 0x7fff_ffff_ffff_f001n }
    expect(iommu('submit', whole)).toMatchObject({ state: 'dead' })
    expect(iommu('flush_all')).toMatchObject({ state: 'dead' })
    const args = { device: 'net0', iova: 0n, data: 'x' }
    expect(machine.perform({ verb: 'dma', call: 'write', args })).toMatchObject({ state: 'dead' })
  })

  it('QEMU ends where vhost starts and the unit takes no listener (CV2)', () => {
    const { machine } = iommuMachine({ iommu: { snoopControl: true } })
    const ready = machine.perform({ verb: 'virtio', call: 'ready', args: { device: 'net0' } })
    expect(ready).toMatchObject({ state: 'dead' })
  })
})
