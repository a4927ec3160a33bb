import { describe, expect, it } from 'vitest'
import {
  SVA_BIND,
  SVA_DISABLE,
  SVA_ENABLE,
  SVA_IOPF_WORK,
  SVA_PAGE_RESPONSE,
  SVA_PRQ_EVENT_THREAD,
  SVA_UNBIND,
} from '../../src/kernel/intel-iommu/sva/calls.ts'
import { testRules } from '../support/rule-table.ts'
import { EVERY_FEATURE, type SvaWorldOptions, svaWorld, UNIT_BIT, USER } from '../support/sva.ts'

const { cap: CAP, ecap: ECAP } = EVERY_FEATURE
const without = (...bits: readonly bigint[]): SvaWorldOptions => ({
  ecap: bits.reduce((ecap, bit) => ecap & ~bit, ECAP),
})

/** acc0 has a domain; nobody has switched the feature on. */
const attached = (options: SvaWorldOptions = {}, args: Record<string, unknown> = {}) => {
  const world = svaWorld({ ...options, isEnabled: false })
  world.run('iommu', 'attach', { device: 'acc0', domain: 5n, ...(args as object) })
  return world
}
const enable = (options: SvaWorldOptions = {}, args: Record<string, unknown> = {}) =>
  attached(options, args).sva('enable', { device: 'acc0' })

/** P is bound to acc0 by PASID 1, and a group of one request waits for a worker. */
const waiting = (options: SvaWorldOptions = {}) => {
  const world = svaWorld(options)
  world.bind()
  world.request()
  world.thread()
  return world
}

describe('sva enable, disable', () => {
  testRules(SVA_ENABLE, {
    'device-unknown': () => [svaWorld().sva('enable', { device: 'none' })],
    'not-capable': () => [
      enable(without(UNIT_BIT.SMTS)),
      enable(without(UNIT_BIT.PASID)),
      enable(without(UNIT_BIT.SMPWCS), { ats: false }),
      enable({ cap: CAP & ~UNIT_BIT.FL1GP }),
    ],
    'features-off': () => [
      enable({}, { ats: false }),
      enable({ pasidBits: 0 }),
      enable(without(UNIT_BIT.PRS)),
      enable(without(UNIT_BIT.PDS)),
    ],
    enabled: () => [svaWorld().sva('enable', { device: 'acc0' })],
    done: () => [enable()],
  })
  testRules(SVA_DISABLE, {
    'device-unknown': () => [svaWorld().sva('disable', { device: 'none' })],
    pending: () => [waiting().sva('disable', { device: 'acc0' })],
    'not-enabled': () => [attached().sva('disable', { device: 'acc0' })],
    done: () => [svaWorld().sva('disable', { device: 'acc0' })],
  })

  it('a device without a domain, and a unit that is off, are not modelled', () => {
    expect(svaWorld({ isEnabled: false }).sva('enable', { device: 'acc0' }).state).toBe('unmodelled')
    const world = svaWorld()
    world.run('iommu', 'stop')
    expect(world.thread().state).toBe('unmodelled')
  })

  it('without page-request drain Linux up to 6.17 enables the feature, and an unbind never ends', () => {
    const world = svaWorld({ ...without(UNIT_BIT.PDS), profile: 'K6-no-page-drain' })
    expect(world.sva('enable', { device: 'acc0' }).rule).toBe('enabled')
    world.bind()
    expect(world.unbind().state).toBe('dead')
    const right = svaWorld(without(UNIT_BIT.PDS))
    right.bind()
    expect(right.unbind().rule).toBe('done')
  })

  it('requests of a device without the feature are refused by the thread', () => {
    const world = svaWorld()
    world.bind()
    world.sva('disable', { device: 'acc0' })
    world.request()
    expect(world.thread().outputs).toEqual({ requests: 1n, responses: 1n, groups: 0n })
    expect(world.events('vtd.response')).toMatchObject([{ code: 1, group: 7 }])
  })
})

describe('sva bind', () => {
  /** PASIDs 1 to 3 of acc0, which has two bits, belong to others. */
  const full = () => {
    const world = svaWorld({ pasidBits: 2 })
    for (const [i, child] of ['A', 'B', 'C'].entries()) {
      world.run('sys', 'fork', { child }, i === 0 ? 'P' : 'A')
      world.bind('acc1', child)
    }
    return world
  }
  testRules(SVA_BIND, {
    'device-unknown': () => [svaWorld().bind('none', 'nobody')],
    'no-address-space': () => {
      const world = svaWorld()
      world.run('sys', 'exit_group', {}, 'P')
      return [world.bind(), world.bind('acc0', 'nobody'), world.sva('bind', { device: 'acc0' }, 'P')]
    },
    'group-shared': () => [
      svaWorld({ sharesGroup: true }).bind(),
      // The group is looked at before what the unit has, and what is asked for.
      svaWorld({ ...without(UNIT_BIT.SRS), sharesGroup: true }).sva('bind', {
        device: 'acc0',
        supervisor: true,
        process: 'P',
      }),
    ],
    'supervisor-unsupported': () => [
      svaWorld(without(UNIT_BIT.SRS)).sva('bind', { device: 'acc0', supervisor: true, process: 'P' }),
    ],
    'supervisor-of-process': () => [
      svaWorld().sva('bind', { device: 'acc0', supervisor: true, process: 'P' }),
    ],
    'pasid-out-of-range': () => {
      const world = full()
      world.bind('acc1', 'P')
      return [world.bind('acc0', 'P')]
    },
    'no-pasid-left': () => [full().bind('acc0', 'P')],
    'bound-again': () => {
      const world = svaWorld()
      world.bind()
      return [world.bind()]
    },
    'no-first-level': () => [
      attached(without(UNIT_BIT.FLTS)).bind(),
      attached(without(UNIT_BIT.FLTS, UNIT_BIT.SMTS)).bind(),
    ],
    'no-entry': () => [attached(without(UNIT_BIT.SMTS)).bind()],
    'entry-present': () => {
      const world = svaWorld()
      world.run('iommu', 'attach_pasid', { device: 'acc0', pasid: 1n, domain: 5n })
      return [world.bind()]
    },
    done: () => {
      const world = svaWorld()
      return [
        world.sva('bind', { device: 'acc0' }, 'P'),
        world.bind('acc1', 'P'),
        world.sva('bind', { device: 'acc0', supervisor: true }),
      ]
    },
  })

  it('one PASID for an address space, on all devices, and each address space its own', () => {
    const { bind, sva } = svaWorld()
    expect(bind().outputs).toEqual({ pasid: 1n, users: 1n })
    expect(bind('acc1').outputs).toEqual({ pasid: 1n, users: 1n })
    expect(bind('acc0', 'Q').outputs).toEqual({ pasid: 2n, users: 1n })
    expect(bind().outputs).toEqual({ pasid: 1n, users: 2n })
    expect(sva('bind', { device: 'acc0', supervisor: true }).outputs).toEqual({ pasid: 3n, users: 1n })
  })

  it('the number of the PASID is looked at before the device`s entry, and a second bind before both', () => {
    const world = attached({ ...without(UNIT_BIT.FLTS), pasidBits: 1 })
    world.bind('acc0', 'Q')
    // Q has PASID 1, the last one: none is left, and there is no first level either.
    expect(world.bind('acc0', 'P').rule).toBe('no-pasid-left')
    const again = svaWorld({ profile: 'K6-last-pasid', pasidBits: 1 })
    again.bind()
    expect(again.bind().rule).toBe('pasid-out-of-range')
  })

  it('a device without PASIDs is taken for one with more than there are', () => {
    const { run, bind } = svaWorld({ pasidBits: 0, isEnabled: false })
    run('iommu', 'attach', { device: 'acc0', domain: 5n })
    expect(bind()).toMatchObject({ rule: 'done', outputs: { pasid: 1n } })
  })

  it('leaves the users of the address space as they were, and one count more for its notifier', () => {
    const { bind, unbind, events } = svaWorld()
    const last = () => events('mm.users').at(-1)
    bind()
    expect(last()).toMatchObject({ mm: 'P', users: 1, count: 2 })
    bind()
    bind('acc1')
    expect(last()).toMatchObject({ users: 1, count: 2 })
    unbind()
    unbind()
    unbind(1n, 'acc1')
    expect(last()).toMatchObject({ users: 1, count: 1 })
  })

  it('a bind that fails leaves no notifier, and keeps the PASID for the next one', () => {
    const world = svaWorld()
    world.run('iommu', 'attach_pasid', { device: 'acc0', pasid: 1n, domain: 5n })
    world.bind()
    expect(world.events('mm.notify').map((e) => 'call' in e && e.call)).toEqual([
      'register',
      'unregister',
      'release',
    ])
    world.run('iommu', 'detach_pasid', { device: 'acc0', pasid: 1n })
    expect(world.bind()).toMatchObject({ rule: 'done', outputs: { pasid: 1n } })
  })

  it('a driver has no address space to bind before the group of the device is looked at; others are as before', () => {
    const world = svaWorld({ sharesGroup: true })
    world.run('sys', 'exit_group', {}, 'P')
    expect(world.bind().rule).toBe('no-address-space')
    expect(world.bind('acc0', 'Q')).toMatchObject({ code: 'EINVAL', rule: 'group-shared' })
    expect(world.bind('acc1', 'Q').rule).toBe('done')
    expect(world.events('svm.pasid')).toHaveLength(1)
  })

  it('somebody has to be named where nobody calls', () => {
    expect(() => svaWorld().sva('bind', { device: 'acc0' })).toThrowError(/no process is named/)
  })

  it('the entry of the kernel`s tables has its rights, and protects what is read-only', () => {
    const { sva, events } = svaWorld()
    sva('bind', { device: 'acc0', supervisor: true })
    expect(events('svm.entry')).toMatchObject([{ pasid: 1, mm: '', present: 1, supervisor: 1 }])
    expect(events('mm.notify')).toEqual([])
  })

  it('a caching unit is made to look again', () => {
    const { bind, events } = svaWorld({ cap: CAP | UNIT_BIT.CM })
    const before = events('domain.flush').length
    bind()
    expect(events('domain.flush').slice(before)).toMatchObject([
      { scope: 6, domain: 1, pasid: 1 },
      { scope: 8, domain: 1, pasid: 1 },
    ])
  })
})

describe('sva unbind', () => {
  testRules(SVA_UNBIND, {
    'device-unknown': () => [svaWorld().unbind(1n, 'none')],
    'not-bound': () => {
      const world = svaWorld()
      world.bind()
      return [world.unbind(2n), world.unbind(2n, 'acc1'), world.unbind(0n)]
    },
    'bound-by-others': () => {
      const world = svaWorld()
      world.bind()
      return [world.unbind(1n, 'acc1')]
    },
    'still-bound': () => {
      const world = svaWorld()
      world.bind()
      world.bind()
      return [world.unbind()]
    },
    done: () => {
      const world = svaWorld()
      world.bind()
      return [world.unbind()]
    },
  })

  it('what nobody is bound by is not known of Linux up to 6.1, which reads NULL; what others are bound by is', () => {
    const world = svaWorld({ profile: 'K6-null-svm' })
    world.bind()
    expect(world.unbind(2n).state).toBe('unmodelled')
    expect(world.unbind(1n, 'acc1').rule).toBe('bound-by-others')
    expect(world.unbind().rule).toBe('done')
    // The lock is given back.
    expect(world.bind().rule).toBe('done')
  })

  it('K5-pasid-freed: the PASID goes with the last unbind of the last device, and with a bind that fails', () => {
    const world = svaWorld({ profile: 'K5-pasid-freed' })
    const pasidOf = (process: string) => world.bind('acc0', process).outputs?.['pasid']
    world.bind()
    world.bind()
    world.bind('acc1')
    world.unbind()
    world.unbind()
    expect(pasidOf('Q')).toBe(2n)
    world.unbind(2n)
    world.unbind(1n, 'acc1')
    expect(pasidOf('Q')).toBe(1n)
    world.run('iommu', 'attach_pasid', { device: 'acc0', pasid: 2n, domain: 5n })
    expect(world.bind().rule).toBe('entry-present')
    expect(world.events('svm.pasid').slice(-2)).toMatchObject([
      { pasid: 2, mm: 'P', state: 1 },
      { pasid: 2, mm: 'P', state: 0 },
    ])
  })

  it('the PASID stays with the address space, until that is gone', () => {
    const { bind, unbind, run } = svaWorld()
    bind()
    unbind()
    expect(bind('acc0', 'Q').outputs?.['pasid']).toBe(2n)
    expect(bind().outputs?.['pasid']).toBe(1n)
    unbind()
    run('sys', 'exit_group', {}, 'P')
    run('sys', 'fork', { child: 'R' }, 'Q')
    expect(bind('acc0', 'R').outputs?.['pasid']).toBe(1n)
  })

  it('a child shares nothing that its parent has bound', () => {
    const { bind, run } = svaWorld()
    bind()
    run('sys', 'fork', { child: 'R' }, 'P')
    expect(bind('acc0', 'R').outputs).toEqual({ pasid: 2n, users: 1n })
  })
})

describe('sva prq_event_thread, iopf_work', () => {
  const overflown = () => {
    const world = svaWorld()
    world.bind()
    for (let i = 0; i < 2048; i++) world.request({ last: false })
    return world
  }
  testRules(SVA_PRQ_EVENT_THREAD, {
    'no-queue': () => [svaWorld(without(UNIT_BIT.PRS)).thread()],
    'not-woken': () => [svaWorld().thread(), waiting().thread()],
    overflow: () => [overflown().thread()],
    none: () => {
      const world = svaWorld()
      world.bind()
      world.request()
      // Emptied by hand, before the thread runs.
      world.run('iommu', 'page_requests', { answer: 'success' })
      return [world.thread()]
    },
    done: () => {
      const world = svaWorld()
      world.request()
      return [world.thread()]
    },
  })
  testRules(SVA_IOPF_WORK, {
    none: () => [
      svaWorld().worker(),
      waiting().worker({ device: 'acc1' }),
      waiting().worker({ device: 'acc0', group: 8n }),
    ],
    done: () => [waiting().worker(), waiting().worker({ device: 'acc0', group: 7n })],
  })
  testRules(SVA_PAGE_RESPONSE, {
    'device-unknown': () => [
      svaWorld().sva('page_response', { device: 'none', pasid: 1n, group: 7n, code: 'success' }),
    ],
    'no-handler': () => [
      attached().sva('page_response', { device: 'acc0', pasid: 1n, group: 7n, code: 'success' }),
    ],
    'none-pending': () => [
      svaWorld().sva('page_response', { device: 'acc0', pasid: 1n, group: 7n, code: 'success' }),
    ],
    'no-match': () => [
      waiting().sva('page_response', { device: 'acc0', pasid: 1n, group: 8n, code: 'success' }),
      waiting().sva('page_response', { device: 'acc0', pasid: 2n, group: 7n, code: 'success' }),
    ],
    'pasid-reserved': () => {
      const world = svaWorld({ profile: 'K6-zero-pasid' })
      world.request({ pasid: 0n })
      world.thread()
      return [world.sva('page_response', { device: 'acc0', pasid: 0n, group: 7n, code: 'success' })]
    },
    'not-bound': () => {
      const world = svaWorld({ profile: 'K5-lost-response' })
      world.request()
      world.thread()
      return [world.sva('page_response', { device: 'acc0', pasid: 1n, group: 7n, code: 'success' })]
    },
    done: () => [waiting().sva('page_response', { device: 'acc0', pasid: 1n, group: 7n, code: 'failure' })],
  })

  it('a response with PASID 0 is refused for that, before the bind is looked for', () => {
    const world = svaWorld({ profile: 'K5-lost-response' })
    world.request({ pasid: 0n })
    world.thread()
    const answer = world.sva('page_response', { device: 'acc0', pasid: 0n, group: 7n, code: 'success' })
    expect(answer.rule).toBe('pasid-reserved')
    expect(world.events('vtd.response')).toEqual([])
  })

  it('who answers first is heard, and the other one is told', () => {
    const world = waiting()
    world.map()
    world.sva('page_response', { device: 'acc0', pasid: 1n, group: 7n, code: 'success' })
    const late = world.worker()
    expect(late.warnings).toEqual(['acc0: no pending PRQ, drop response'])
    expect(late.outputs).toMatchObject({ response: false })
    expect(world.events('vtd.response')).toHaveLength(1)
  })
  it('what the thread finds is in the log', () => {
    const world = svaWorld()
    world.bind()
    world.request({ iova: USER })
    world.thread()
    expect(world.events('svm.thread')).toMatchObject([
      { state: 1, head: 0, tail: 32 },
      { state: 0, head: 32, tail: 32 },
    ])
    expect(world.events('svm.request')).toMatchObject([
      { source: 0x100, pasid: 1, iova: USER, group: 7, result: 'queued', response: 'none', offset: 0 },
    ])
  })
})
