import { describe, expect, it } from 'vitest'
import type { MachineEvent } from '../../src/trace/event.ts'
import { EVERY_FEATURE, svaWorld, UNIT_BIT, USER } from '../support/sva.ts'

const of = <K extends MachineEvent['kind']>(events: readonly MachineEvent[], kind: K) =>
  events.filter((e): e is Extract<MachineEvent, { kind: K }> => e.kind === kind)

/** Flushes as numbers: scope, PASID, address, bytes, and the source-id where a device is told. */
const flushes = (events: readonly MachineEvent[]) =>
  of(events, 'domain.flush').map((f) =>
    f.scope === 9 ? [9, f.source, f.iova, f.bytes] : [f.scope, f.pasid, f.iova, f.bytes],
  )

describe('a bind follows what the process does', () => {
  const bound = () => {
    const world = svaWorld()
    world.map()
    world.bind()
    world.bind('acc1')
    world.run('dma', 'write', { device: 'acc0', iova: USER, pasid: 1n, data: 'x' })
    world.thread()
    world.worker()
    const before = world.events('').length
    return { ...world, since: () => world.events('').slice(before) }
  }

  it('an unmapping is flushed in aligned blocks, the unit first, device by device', () => {
    const { run, since } = bound()
    run('sys', 'munmap', { address: USER, bytes: 0x2000n }, 'P')
    const first = flushes(since()).slice(0, 4)
    expect(first).toEqual([
      [7, 1, USER, 0x2000n],
      [9, 0x100, USER, 0x2000n],
      [7, 1, USER, 0x2000n],
      [9, 0x108, USER, 0x2000n],
    ])
  })

  it('S18: a range across its alignment takes two blocks', () => {
    const { run, since, unbind } = bound()
    unbind(1n, 'acc1')
    run('sys', 'mprotect', { address: USER + 0x1000n, bytes: 0x2000n, read: true }, 'P')
    const found = flushes(since()).filter(([scope]) => scope === 7)
    // The notifier of mprotect names what has tables, not what was asked for: each block is aligned to its length.
    for (const [, , iova, bytes] of found) expect((iova as bigint) % (bytes as bigint)).toBe(0n)
    expect(found.length).toBeGreaterThan(0)
  })

  it('with its end the entries go first, silently, then all is flushed, before a table is freed', () => {
    const { run, since } = bound()
    run('sys', 'exit_group', {}, 'P')
    const events = since()
    const at = (test: (e: MachineEvent) => boolean) => events.findIndex(test)
    const cleared = at((e) => e.kind === 'svm.entry' && e.present === 0)
    const flushed = at((e) => e.kind === 'domain.flush' && e.scope === 9)
    const freed = at((e) => e.kind === 'mm.table' && e.state === 0)
    expect([cleared < flushed, flushed < freed]).toEqual([true, true])
    expect(
      flushes(events)
        .slice(0, 6)
        .map(([scope]) => scope),
    ).toEqual([6, 8, 9, 6, 8, 9])
    expect(of(events, 'svm.pasid')).toEqual([])
    run('dma', 'read', { device: 'acc0', iova: USER, pasid: 1n, bytes: 1n })
    expect(of(since(), 'vtd.fault')).toMatchObject([
      { reason: 0x59, why: 'fpd' },
      { reason: 0x59, why: 'fpd' },
    ])
  })

  it('after its end an unbind clears nothing more, and gives the PASID back', () => {
    const { run, since, unbind, sva } = bound()
    run('sys', 'exit_group', {}, 'P')
    const cleared = of(since(), 'svm.entry').length
    expect([unbind().rule, unbind(1n, 'acc1').rule]).toEqual(['done', 'done'])
    expect(of(since(), 'svm.entry')).toHaveLength(cleared)
    expect(of(since(), 'svm.pasid')).toMatchObject([{ pasid: 1, mm: 'P', state: 0 }])
    expect(sva('bind', { device: 'acc0', process: 'Q' }).outputs?.['pasid']).toBe(1n)
  })
})

describe('page requests of processes', () => {
  const read = { read: true, write: false }
  const ready = (profile = 'intended') => {
    const world = svaWorld({ profile })
    world.map()
    world.run('sys', 'mmap', { address: USER + 0x10000n, bytes: 0x1000n, fixed: true, write: false }, 'P')
    world.run('sys', 'mmap', { address: USER + 0x40000n, bytes: 0x1000n, fixed: true, growsdown: true }, 'P')
    world.bind()
    const answer = (more: Parameters<typeof world.request>[0]) => {
      world.request(more)
      world.thread()
      return world.worker()
    }
    return { ...world, answer }
  }

  it.each([
    ['to read', USER, read, 'success'],
    ['to write', USER, { read: true, write: true }, 'success'],
    ['to read what is read-only', USER + 0x10000n, read, 'success'],
    ['S6: to write what is read-only', USER + 0x10000n, { read: false, write: true }, 'invalid'],
    ['where nothing is mapped', USER + 0x20000n, read, 'invalid'],
    ['below a stack, which does not grow by it', USER + 0x3f000n, read, 'invalid'],
    ['of the stack', USER + 0x40000n, read, 'success'],
  ])('%s', (_what, iova, wants, result) => {
    const { answer, events } = ready()
    expect(answer({ iova, ...wants }).outputs).toMatchObject({ result, response: true })
    const faults = events('mm.fault')
    expect(faults).toHaveLength(result === 'success' ? 1 : 0)
    expect(events('vtd.response')).toMatchObject([{ code: result === 'success' ? 0 : 1 }])
  })

  it('a group has one response, with its last request; the first that fails ends it', () => {
    const { request, thread, worker, events } = ready()
    request({ last: false })
    request({ last: false, iova: USER + 0x20000n })
    request({ last: false, iova: USER + 0x1000n })
    request({ iova: USER + 0x2000n })
    expect(thread().outputs).toEqual({ requests: 4n, responses: 0n, groups: 1n })
    expect(worker().outputs).toEqual({ faults: 4n, result: 'invalid', response: true })
    expect(of(events('mm.fault'), 'mm.fault').map((f) => f.address)).toEqual([USER])
    expect(events('vtd.response')).toHaveLength(1)
  })

  it('one with private data is the last of its group, and gets a response with the data', () => {
    const { answer, events } = ready()
    expect(answer({ last: false, private: 0x1234n }).outputs).toMatchObject({ response: true })
    expect(events('vtd.response')).toHaveLength(1)
  })

  it('after the process has ended: invalid, and no page for it', () => {
    const { run, answer, events } = ready()
    run('sys', 'exit_group', {}, 'P')
    const before = events('mm.').length
    expect(answer({}).outputs).toMatchObject({ result: 'invalid', response: true })
    expect(events('mm.').slice(before)).toEqual([])
  })

  it('of a PASID that the device is not bound by: invalid, or handled by Linux up to 6.1', () => {
    const foreign = (profile: string) => {
      const world = ready(profile)
      const answer = () => {
        world.request({ device: 'acc1' })
        world.thread()
        return world.worker().outputs?.['result']
      }
      return { answer, faults: () => world.events('mm.fault').length }
    }
    const right = foreign('intended')
    expect([right.answer(), right.faults()]).toEqual(['invalid', 0])
    const wrong = foreign('K6-foreign-pasid')
    expect([wrong.answer(), wrong.faults()]).toEqual(['success', 1])
  })

  it('an overflow forgets groups that are not whole', () => {
    const { request, thread, worker } = ready()
    request({ last: false, iova: USER + 0x20000n })
    for (let i = 0; i < 2047; i++) request({ last: false, group: 8n })
    expect(thread().rule).toBe('overflow')
    request({})
    thread()
    // The first request of the group would have failed.
    expect(worker().outputs).toEqual({ faults: 1n, result: 'success', response: true })
  })

  it.each([
    ['intended', 0xf],
    ['K6-response-code', 2],
  ])('a failure that a driver answers, as %s has it', (profile, code) => {
    const { request, thread, sva, events } = ready(profile)
    request({})
    thread()
    sva('page_response', { device: 'acc0', pasid: 1n, group: 7n, code: 'failure' })
    expect(events('vtd.response')).toMatchObject([{ code }])
  })

  it.each([
    ['intended', 1],
    ['K6-zero-pasid', 0],
  ])('one with PASID 0, as %s has it', (profile, responses) => {
    const { answer, events } = ready(profile)
    expect(answer({ pasid: 0n }).outputs).toMatchObject({ result: 'invalid', response: responses === 1 })
    expect(events('vtd.response')).toHaveLength(responses)
  })
})

describe('K5-bound-only: the thread looks for the bind', () => {
  const two = (profile: string) => {
    const world = svaWorld({ profile })
    world.bind()
    world.bind('acc1', 'Q')
    return world
  }

  it.each([
    ['intended', 0n, 1n],
    ['K5-bound-only', 1n, 0n],
  ])('a PASID of others, as %s has it', (profile, responses, groups) => {
    const { request, thread } = two(profile)
    request({ device: 'acc1' })
    expect(thread().outputs).toEqual({ requests: 1n, responses, groups })
  })

  it('refuses the kernel`s tables and unknown PASIDs, and takes what is bound', () => {
    const { request, thread, sva } = two('K5-bound-only')
    sva('bind', { device: 'acc0', supervisor: true })
    request({ pasid: 3n })
    request({ pasid: 4n })
    expect(thread().outputs).toEqual({ requests: 2n, responses: 2n, groups: 0n })
    request({})
    expect(thread().outputs).toEqual({ requests: 1n, responses: 0n, groups: 1n })
  })

  it('the bind of the request before is not looked up again, until one is refused or another device asks', () => {
    const { request, thread } = two('K5-bound-only')
    request({ group: 1n })
    request({ group: 2n, pasid: 2n })
    expect(thread().outputs).toMatchObject({ responses: 0n, groups: 2n })
    request({ group: 3n })
    request({ device: 'acc1', pasid: 2n })
    request({ group: 4n, pasid: 2n })
    request({ group: 5n, pasid: 2n })
    expect(thread().outputs).toMatchObject({ responses: 2n, groups: 2n })
  })

  it('a PASID of others that was not looked up is handled by it alone', () => {
    const { map, request, thread, worker } = two('K5-bound-only')
    map('Q')
    request({ group: 1n })
    request({ group: 2n, pasid: 2n })
    thread()
    expect(worker({ device: 'acc0', group: 2n }).outputs).toMatchObject({ result: 'success' })
  })

  it('an unbind that waits has taken the bind away: its requests are refused', () => {
    const { request, unbind, events } = two('K5-bound-only')
    request({})
    unbind()
    expect(events('svm.request')).toMatchObject([{ result: 'invalid', response: 'group' }])
  })
})

describe('the drain of an unbind', () => {
  it.each([
    ['intended', 1],
    ['K5-lost-response', 0],
  ])('a group that waits for a worker is handled first, and answered as %s has it', (profile, responses) => {
    const { bind, request, thread, unbind, events, worker } = svaWorld({ profile })
    bind()
    request()
    thread()
    expect(unbind().rule).toBe('done')
    expect(worker().rule).toBe('none')
    expect(events('vtd.response')).toHaveLength(responses)
  })

  it('does not wait for workers where the device has no queue', () => {
    const { bind, request, thread, sva, unbind, worker } = svaWorld()
    bind('acc1')
    bind()
    request({ last: true })
    thread()
    sva('disable', { device: 'acc1' })
    expect(unbind(1n, 'acc1').rule).toBe('done')
    expect(worker().rule).toBe('done')
  })

  it('waits for the thread and for workers, and then pushes what is under way', () => {
    const { map, bind, request, unbind, events, worker } = svaWorld()
    map()
    bind()
    request()
    const before = events('').length
    expect(unbind().rule).toBe('done')
    const since = events('').slice(before)
    expect(of(since, 'svm.thread').map((e) => e.state)).toEqual([1, 0])
    expect(of(since, 'svm.request').map((e) => e.result)).toEqual(['queued', 'invalid'])
    expect(worker().rule).toBe('none')
    // CV6: a PASID of the default domain, and the page at 0 of the device.
    expect(of(since, 'domain.flush').slice(-2)).toMatchObject([
      { scope: 8, domain: 5, pasid: 1 },
      { scope: 9, source: 0x100, pasid: 1, iova: 0n, bytes: 0x1000n },
    ])
  })

  it('does not wait for requests of others', () => {
    const { bind, request, unbind, events } = svaWorld()
    bind()
    bind('acc0', 'Q')
    request({ pasid: 2n })
    unbind()
    expect(events('svm.thread')).toEqual([])
  })

  it('does nothing where page requests are off', () => {
    const { run, bind, unbind, events } = svaWorld({
      ecap: EVERY_FEATURE.ecap & ~UNIT_BIT.PRS,
      isEnabled: false,
    })
    run('iommu', 'attach', { device: 'acc0', domain: 5n })
    bind()
    const before = events('domain.flush').length
    unbind()
    expect(flushes(events('domain.flush').slice(before)).map(([scope]) => scope)).toEqual([6, 8, 9])
  })
})
