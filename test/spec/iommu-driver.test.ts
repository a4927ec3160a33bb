import { describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import type { RuleOf } from '../../src/bits/call.ts'
import {
  IOMMU_ATTACH_PASID,
  IOMMU_DETACH_PASID,
  IOMMU_FAULTS,
  IOMMU_FLUSH_QUEUE,
  IOMMU_FORGET,
  IOMMU_PAGE_REQUESTS,
  IOMMU_RESUME,
  IOMMU_START,
  IOMMU_STOP,
  IOMMU_SUSPEND,
} from '../../src/kernel/intel-iommu/calls.ts'
import { testRules } from '../support/rule-table.ts'
import { BIT, CAP, type DriverWorldOptions, driverWorld, ECAP } from '../support/vtd-driver.ts'

const ALL_ONES = (1n << 64n) - 1n
const off = (options: DriverWorldOptions = {}) => driverWorld({ ...options, starts: false })
const asleep = () => {
  const world = driverWorld()
  world.iommu('suspend')
  return world
}

describe('iommu start', () => {
  testRules(IOMMU_START, {
    on: () => [driverWorld().iommu('start'), asleep().iommu('start')],
    'no-unit': () => [off({ cap: ALL_ONES, ecap: ALL_ONES, pages: 1 }).iommu('start')],
    ignored: () => [off({ cap: CAP.qemu & ~0x200n, pages: 1 }).iommu('start')],
    'no-table-page': () => [off({ pages: 2 }).iommu('start'), off({ ...SCALABLE, pages: 16 }).iommu('start')],
    done: () => [
      off({ pages: 3 }).iommu('start'),
      off({ cap: ALL_ONES & ~(3n << 24n), ecap: ECAP.qemu }).iommu('start'),
      off(SCALABLE).iommu('start'),
    ],
  } satisfies Record<RuleOf<typeof IOMMU_START>, () => Answer[]>)

  it('nothing is asked of a unit that is off', () => {
    const { iommu, unit } = off()
    expect(iommu('flush_all')).toMatchObject({ state: 'unmodelled' })
    expect(iommu('attach', { device: 'dev0', domain: 5n })).toMatchObject({ state: 'unmodelled' })
    expect(unit.take()).toEqual([])
  })
})

const SCALABLE = { cap: CAP.modern, ecap: ECAP.modern, scalable: true } as const

describe('iommu stop, suspend, resume', () => {
  testRules(IOMMU_STOP, {
    off: () => [off().iommu('stop'), asleep().iommu('stop')],
    done: () => [driverWorld().iommu('stop')],
  } satisfies Record<RuleOf<typeof IOMMU_STOP>, () => Answer[]>)
  testRules(IOMMU_SUSPEND, {
    off: () => [off().iommu('suspend'), asleep().iommu('suspend')],
    done: () => [driverWorld().iommu('suspend')],
  } satisfies Record<RuleOf<typeof IOMMU_SUSPEND>, () => Answer[]>)
  testRules(IOMMU_RESUME, {
    'not-asleep': () => [off().iommu('resume'), driverWorld().iommu('resume')],
    done: () => [asleep().iommu('resume')],
  } satisfies Record<RuleOf<typeof IOMMU_RESUME>, () => Answer[]>)

  it('what starts a unit again knows nothing of what was', () => {
    const { iommu } = driverWorld()
    iommu('attach', { device: 'dev0', domain: 5n })
    iommu('stop')
    expect(iommu('start').rule).toBe('done')
    expect(iommu('flush_domain', { domain: 5n }).rule).toBe('domain-unknown')
    expect(iommu('attach', { device: 'dev0', domain: 6n }).rule).toBe('done')
  })

  it('a unit that wakes has the domains that it had', () => {
    const { iommu } = asleep()
    iommu('resume')
    expect(iommu('attach', { device: 'dev0', domain: 5n }).rule).toBe('done')
    iommu('suspend')
    iommu('resume')
    expect(iommu('attach', { device: 'dev0', domain: 5n }).rule).toBe('attached')
  })
})

describe('iommu forget', () => {
  testRules(IOMMU_FORGET, {
    done: () => [
      driverWorld().iommu('forget', { duty: 'iotlb' }),
      off().iommu('forget', { duty: 'cache-lines', on: false }),
    ],
  } satisfies Record<RuleOf<typeof IOMMU_FORGET>, () => Answer[]>)
})

/** V5 and V28: a write fault of 00:03.0 at 0x40201000, reason 5. */
const RECORD = [0x8000_0005_0000_0018n, 0x4020_1000n] as const

describe('iommu faults', () => {
  const withFault = () => {
    const world = driverWorld()
    world.unit.ways.records = [RECORD]
    world.unit.setReg('FSTS', 2n)
    return world
  }
  testRules(IOMMU_FAULTS, {
    none: () => [driverWorld().iommu('faults')],
    done: () => [withFault().iommu('faults')],
  } satisfies Record<RuleOf<typeof IOMMU_FAULTS>, () => Answer[]>)

  it('reads the upper word, its halves, then the lower one, and clears F, then FSTS', () => {
    const { iommu, unit } = withFault()
    expect(iommu('faults').outputs).toEqual({ records: [0x4020_1000n, RECORD[0]] })
    expect(unit.take()).toEqual([
      'FSTS',
      'FRCD+12',
      'FRCD_HI',
      'FRCD_LO',
      'FRCD+12=80000000',
      'FRCD+12',
      'FSTS=83',
    ])
  })

  it('without PPF clears nothing, not even an overflow', () => {
    const { iommu, unit } = driverWorld()
    unit.setReg('FSTS', 1n)
    expect(iommu('faults')).toMatchObject({ rule: 'none', outputs: { records: [] } })
    expect(unit.take()).toEqual(['FSTS'])
  })

  it('begins at FRI and goes round', () => {
    const { iommu, unit } = driverWorld({ cap: CAP.qemu | (3n << 40n) })
    const at = (sid: bigint) => [(1n << 63n) | (6n << 32n) | sid, sid << 12n] as const
    unit.ways.records = [at(1n), [0n, 0n], at(3n), at(4n)]
    unit.setReg('FSTS', 0x202n)
    expect(iommu('faults').outputs['records']).toEqual(
      [3n, 4n, 1n].flatMap((sid) => [sid << 12n, (1n << 63n) | (6n << 32n) | sid]),
    )
  })
})

describe('iommu flush_queue', () => {
  const world = () => {
    const made = driverWorld({ ecap: ECAP.qemu | BIT.DT })
    made.iommu('attach', { device: 'dev0', domain: 5n })
    made.iommu('map', { domain: 5n, iova: 0x10_0000n, gpa: 0x20_0000n, bytes: 1n << 21n })
    return made
  }
  const lazy = (made: ReturnType<typeof world>, page = 0n) =>
    made.iommu('unmap', { domain: 5n, iova: 0x10_0000n + (page << 12n), bytes: 0x1000n, flush: 'lazy' })
  testRules(IOMMU_FLUSH_QUEUE, {
    'domain-unknown': () => [world().iommu('flush_queue', { domain: 6n })],
    empty: () => [world().iommu('flush_queue', { domain: 5n })],
    done: () => {
      const made = world()
      lazy(made)
      return [made.iommu('flush_queue', { domain: 5n })]
    },
  } satisfies Record<RuleOf<typeof IOMMU_FLUSH_QUEUE>, () => Answer[]>)

  it('flushes the domain, then the TLBs of its devices, and once', () => {
    const made = world()
    made.unit.take()
    lazy(made)
    expect(made.unit.take()).toEqual([])
    made.iommu('flush_queue', { domain: 5n })
    expect(made.unit.done.slice(-2)).toEqual([
      [0x500e2n, 0n],
      [0x18_0000_0003n, 0x7fff_ffff_ffff_f001n],
    ])
    expect(made.iommu('flush_queue', { domain: 5n }).rule).toBe('empty')
  })

  it('255 wait; the next one flushes them first', () => {
    const made = world()
    made.unit.take()
    for (let page = 0n; page < 255n; page++) expect(lazy(made, page).rule).toBe('done')
    expect(made.unit.done.length).toBe(2)
    lazy(made, 255n)
    expect(made.unit.done.length).toBe(4)
    expect(made.iommu('flush_queue', { domain: 5n }).rule).toBe('done')
  })
})

describe('iommu attach_pasid and detach_pasid', () => {
  const capabilities = { pasids: 0x100 }
  const world = (options: DriverWorldOptions = {}) => {
    const made = driverWorld({ ...SCALABLE, capabilities, ...options })
    made.iommu('attach', { device: 'dev0', domain: 5n })
    return made
  }
  const attach = (args: Record<string, bigint | string>, options: DriverWorldOptions = {}) =>
    world(options).iommu('attach_pasid', { device: 'dev0', pasid: 7n, domain: 5n, ...args })
  const bound = () => {
    const made = world()
    made.iommu('attach_pasid', { device: 'dev0', pasid: 7n, domain: 5n })
    return made
  }
  testRules(IOMMU_ATTACH_PASID, {
    'device-unknown': () => [attach({ device: 'dev7', domain: 6n })],
    'not-attached': () => [attach({ device: 'dev1', domain: 6n })],
    'domain-unknown': () => [attach({ domain: 6n }), attach({ domain: 6n }, { capabilities: {} })],
    'no-pasids': () => [
      attach({ pasid: 0x8000n }, { capabilities: {} }),
      attach({}, { scalable: false }),
      attach({}, { ecap: ECAP.modern & ~BIT.PASID }),
    ],
    // The directory has one page, so that 32768 PASIDs fit. Root, queue and statuses are 4 pages, the entries of dev0 4.
    'no-entry': () => [
      attach({ pasid: 0x8000n }),
      attach({ pasid: 0x40n }, { pages: 8, ecap: ECAP.modern & ~BIT.PRS }),
    ],
    present: () => [
      attach({ pasid: 0n }),
      bound().iommu('attach_pasid', { device: 'dev0', pasid: 7n, domain: 5n }),
    ],
    done: () => [
      attach({}),
      attach({ pasid: 0x7fffn }),
      attach({ pasid: 0x40n }, { pages: 9, ecap: ECAP.modern & ~BIT.PRS }),
    ],
  } satisfies Record<RuleOf<typeof IOMMU_ATTACH_PASID>, () => Answer[]>)

  const detach = (args: Record<string, bigint | string | boolean>) =>
    bound().iommu('detach_pasid', { device: 'dev0', pasid: 7n, ...args })
  testRules(IOMMU_DETACH_PASID, {
    'device-unknown': () => [detach({ device: 'dev7' })],
    'not-attached': () => [detach({ device: 'dev1' })],
    'not-present': () => [
      detach({ pasid: 8n }),
      detach({ pasid: 0n }),
      detach({ pasid: 0x8000n }),
      detach({ pasid: 0x4000n, silent: true }),
    ],
    done: () => [detach({}), detach({ silent: true })],
  } satisfies Record<RuleOf<typeof IOMMU_DETACH_PASID>, () => Answer[]>)
})

/** V22: a request for reading and writing of 03:02.0, PASID 5, the last of group 7. */
const REQUEST = [0x0000_0005_0310_0101n, 0x0000_7f12_3456_703fn] as const
const RDR = 1n
const LPIG = 4n
const PDP = 1n << 9n

describe('iommu page_requests', () => {
  const capabilities = { pasids: 0x100, hasRequests: true }
  /** With page requests on in dev0, and requests in the queue. */
  const world = (...requests: (readonly bigint[])[]) => {
    const made = driverWorld({ ...SCALABLE, capabilities })
    made.iommu('attach', { device: 'dev0', domain: 5n })
    const { unit } = made
    const queue = Number(unit.reg('PQA') & ~0xfffn)
    const view = new DataView(unit.memory.bytes.buffer)
    requests.forEach((words, i) => {
      words.forEach((word, j) => {
        view.setBigUint64(queue + i * 32 + j * 8, word, true)
      })
    })
    unit.setReg('PQT', BigInt(requests.length * 32))
    unit.take()
    unit.done.splice(0)
    return made
  }
  const full = (...requests: (readonly bigint[])[]) => {
    const made = world(...requests)
    made.unit.setReg('PRS', 2n)
    return made
  }
  const ofDev0 = (qw0: bigint, qw1: bigint = REQUEST[1]) => [(qw0 & ~0xffff_0000n) | 0x18_0000n, qw1]
  const GOOD = ofDev0(REQUEST[0])

  testRules(IOMMU_PAGE_REQUESTS, {
    'no-queue': () => [
      driverWorld().iommu('page_requests'),
      driverWorld({ ...SCALABLE, ecap: ECAP.modern & ~BIT.PRS }).iommu('page_requests'),
    ],
    overflow: () => [full().iommu('page_requests'), full(GOOD).iommu('page_requests')],
    none: () => [world().iommu('page_requests')],
    done: () => [world(GOOD).iommu('page_requests'), world(REQUEST).iommu('page_requests')],
  } satisfies Record<RuleOf<typeof IOMMU_PAGE_REQUESTS>, () => Answer[]>)

  it('PPR is cleared before the tail is read; the head is written with that tail', () => {
    const made = world(GOOD, GOOD)
    expect(made.iommu('page_requests').outputs).toEqual({ requests: 2n, responses: 2n })
    expect(made.unit.take().filter((b) => b.startsWith('P'))).toEqual([
      ...['PRS=1', 'PQT', 'PQH', 'PQH=40', 'PRS'],
    ])
    expect(made.iommu('page_requests').rule).toBe('none')
  })

  it.each([
    ['success', 0x18_0019n],
    ['invalid', 0x18_1019n],
  ])('%s: V22, the response to the last of a group', (answer, lo) => {
    const made = world(GOOD)
    made.iommu('page_requests', { answer })
    expect(made.unit.done).toEqual([[(5n << 32n) | lo, 0x3cn, 0n, 0n]])
  })

  const A = 0x7f12_3456_7000n
  it.each<[string, readonly bigint[], readonly bigint[] | undefined, string | undefined]>([
    ['not the last of its group', ofDev0(REQUEST[0], A | RDR), undefined, undefined],
    ['a stop marker', ofDev0(REQUEST[0], A | LPIG), undefined, undefined],
    ['without PASID', ofDev0(1n), [0x18_1009n, 0x3cn], 'Page request without PASID'],
    ['not canonical', ofDev0(REQUEST[0], (1n << 47n) | 7n), [0x5_0018_1019n, 4n], 'Address is not canonical'],
    ['canonical above', ofDev0(REQUEST[0], (0xffff_8n << 44n) | 7n), [0x5_0018_0019n, 4n], undefined],
    [
      'privileged',
      ofDev0(REQUEST[0] | (1n << 53n)),
      [0x5_0018_1019n, 0x3cn],
      'Page request in Privilege Mode',
    ],
    [
      'to execute',
      ofDev0(REQUEST[0] | (1n << 52n)),
      [0x5_0018_1019n, 0x3cn],
      'Execution request not supported',
    ],
    [
      'two at once: privilege comes first',
      ofDev0(REQUEST[0] | (3n << 52n)),
      [0x5_0018_1019n, 0x3cn],
      'Page request in Privilege Mode',
    ],
    ['of a device that is not there', REQUEST, [0x5_0310_1019n, 0x3cn], undefined],
    ['bad, and not the last', ofDev0(1n, A | RDR), undefined, 'Page request without PASID'],
  ])('%s', (_what, request, response, printed) => {
    const made = world(request)
    const { warnings } = made.iommu('page_requests')
    expect(made.unit.done.map((words) => words.slice(0, 2))).toEqual(response === undefined ? [] : [response])
    expect(warnings.some((w) => w === `IOMMU: vtd0: ${printed}`)).toBe(printed !== undefined)
  })

  it('private data goes back, and counts as the last of the group; not so in a bad request', () => {
    const good = [...ofDev0(REQUEST[0] | PDP, A | RDR), 0x11n, 0x22n]
    const bad = [...ofDev0(1n | PDP, A | RDR), 0x33n, 0x44n]
    const made = world(good, bad)
    made.iommu('page_requests')
    expect(made.unit.done).toEqual([
      [0x5_0018_0039n, 4n, 0x11n, 0x22n],
      [0x18_1029n, 0n, 0x33n, 0x44n],
    ])
  })

  it('an overflow is told, and cleared once the queue is empty', () => {
    const made = full(GOOD)
    expect(made.iommu('page_requests').warnings).toEqual([
      'IOMMU: vtd0: PRQ overflow detected',
      'IOMMU: vtd0: PRQ overflow cleared',
    ])
    expect(made.unit.take().slice(-4)).toEqual(['PRS', 'PQH', 'PQT', 'PRS=2'])
  })

  it('a PASID does not go while requests of it wait', () => {
    const made = world(GOOD)
    made.iommu('attach_pasid', { device: 'dev0', pasid: 5n, domain: 5n })
    expect(made.iommu('detach_pasid', { device: 'dev0', pasid: 5n }).state).toBe('unmodelled')
    made.iommu('page_requests')
    expect(made.iommu('detach_pasid', { device: 'dev0', pasid: 5n }).rule).toBe('done')
  })
})
