import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import { DMA_READ, DMA_WRITE } from '../../src/hw/edu-calls.ts'
import { NO_PASID } from '../../src/hw/vtd/ports.ts'
import type { EndpointOptions } from '../../src/hw/vtd-devices/endpoint.ts'
import {
  ATS_BEHAVE,
  ATS_COMPLETE,
  ATS_DISABLE,
  ATS_DISABLE_PASID,
  ATS_ENABLE,
  ATS_ENABLE_PASID,
  ATS_FORGET,
  ATS_RELEASE_PASID,
  ATS_TRANSLATE,
} from '../../src/hw/vtd-devices/endpoint-calls.ts'
import { eventsOfLog } from '../support/events.ts'
import { testRules } from '../support/rule-table.ts'
import { deviceWorld, SOURCE } from '../support/vtd-devices.ts'

const IOVA = 0x10_0000n
/** Devices without the capability, of either sort. */
const others = [{ device: 'plain0' }, { device: 'edu0' }]

/** ATS is on, and a page is there that the device may read and write, and one that it may read only. */
function atsWorld(options: Partial<EndpointOptions> = {}) {
  const world = deviceWorld(options)
  world.unit.map(IOVA, 0x3000n, 3)
  world.unit.map(IOVA + 0x1000n, 0x5000n, 1)
  world.memory.write(0x3000, 'first')
  world.run(ATS_ENABLE)
  const read = (iova = IOVA, more: Record<string, Value> = {}) =>
    world.run(DMA_READ, { iova, bytes: 5n, ...more })
  const write = (data: string, iova = IOVA, more: Record<string, Value> = {}) =>
    world.run(DMA_WRITE, { iova, data, ...more })
  return { ...world, read, write }
}

describe('ats enable and disable', () => {
  testRules(ATS_ENABLE, {
    'no-ats': () => [...others, {}].map((who) => deviceWorld({ ats: undefined }).run(ATS_ENABLE, who)),
    done: () => [deviceWorld().run(ATS_ENABLE), atsWorld().run(ATS_ENABLE)],
  })
  testRules(ATS_DISABLE, {
    'no-ats': () => others.map((who) => deviceWorld().run(ATS_DISABLE, who)),
    done: () => [deviceWorld().run(ATS_DISABLE), atsWorld().run(ATS_DISABLE)],
  })

  it('on: the unit is asked for a translation, and it is used then', () => {
    const { read, unit } = atsWorld()
    expect([read().outputs['data'], read(IOVA + 3n).outputs['data']]).toEqual(['first', 'hex:7374000000'])
    expect(unit.asked.map((r) => [r.addressType, r.lo, r.need])).toEqual([
      [1, Number(IOVA), 3],
      [2, 0x3000, 1],
      [2, 0x3003, 1],
    ])
  })

  it('off: what it kept is forgotten, and the unit translates', () => {
    const { read, run, unit, endpoint } = atsWorld()
    read()
    expect(endpoint.tlb.entries).toBe(1)
    run(ATS_DISABLE)
    expect(endpoint.tlb.entries).toBe(0)
    read()
    expect(unit.asked.at(-1)).toMatchObject({ addressType: 0, lo: Number(IOVA) })
  })

  it('a translation that it keeps is used, whatever the tables say by now', () => {
    const { read, write, unit, memory } = atsWorld()
    read()
    unit.unmap(IOVA)
    expect(write('stale').rule).toBe('done')
    expect(memory.text(0x3000, 5)).toBe('stale')
  })

  it('records what it keeps and what it uses, by one number', () => {
    const { read, log } = atsWorld()
    read()
    read()
    expect(eventsOfLog(log, 'vtd.')).toEqual([
      {
        ...{ kind: 'vtd.fill', unit: 'vtd0', cache: 2, entry: 1, source: SOURCE, domain: 5 },
        ...{ pasid: NO_PASID, iova: IOVA, shift: 12, target: 0x3000n, perm: 3 },
      },
      ...[0, 0].map((line) => ({
        ...{ kind: 'vtd.translate', unit: 'vtd0', source: SOURCE, pasid: NO_PASID, iova: IOVA },
        ...{ target: 0x3000n, perm: 3, need: 1, fault: 0, entry: 1, line },
      })),
    ])
  })
})

describe('dma of a device with ATS', () => {
  it('asks again where what it keeps is not enough, and is refused where that does not help', () => {
    const { read, write, unit } = atsWorld({ pri: undefined })
    read(IOVA + 0x1000n)
    expect(write('x', IOVA + 0x1000n)).toMatchObject({ rule: 'translation-refused', outputs: { moved: 0n } })
    expect(read(0x50_0000n)).toMatchObject({
      rule: 'translation-refused',
      outputs: { data: 'hex:0000000000' },
    })
    unit.map(IOVA + 0x1000n, 0x5000n, 3)
    expect(write('x', IOVA + 0x1000n).rule).toBe('done')
    expect(unit.asked.filter((r) => r.addressType === 1).length).toBe(4)
  })

  it('says why the unit blocks the question, or the request behind it', () => {
    const { read, unit } = atsWorld()
    unit.blocks = 0xd
    expect(read()).toMatchObject({ rule: 'translation-fault', outputs: { reason: 0xdn, moved: 0n } })
    unit.blocks = 0
    read()
    unit.blocks = 0x44
    expect(read()).toMatchObject({ rule: 'translation-fault', outputs: { reason: 0x44n } })
    expect(unit.requested).toEqual([])
  })

  it('goes page by page, and keeps large pages whole', () => {
    const { run, unit, memory, endpoint } = atsWorld()
    unit.map(0x4020_0000n, 0n, 3, { shift: 21 })
    memory.write(0x6ffe, 'abcd')
    expect(run(DMA_READ, { iova: 0x4020_6ffen, bytes: 4n }).outputs).toEqual({ data: 'abcd', moved: 4n })
    expect([endpoint.tlb.entries, unit.asked.filter((r) => r.addressType === 1).length]).toEqual([1, 1])
    unit.map(0x4060_0000n, 0x20_0000n, 3, { shift: 21 })
    expect(run(DMA_READ, { iova: 0x4060_0000n, bytes: 4n }).rule).toBe('no-memory')
  })

  it('does what comes first of two things that are wrong', () => {
    const world = deviceWorld()
    const rules = (args: Record<string, Value>) =>
      [world.run(DMA_READ, { bytes: 9999n, ...args }), world.run(DMA_WRITE, { bytes: 9999n, ...args })].map(
        (a) => a.rule,
      )
    expect(rules({ buffer: 'nobody', pasid: 5n })).toEqual(['handle-unknown', 'handle-unknown'])
    expect(rules({ iova: 0n, pasid: 5n })).toEqual(['tags-off', 'tags-off'])
    expect(rules({ iova: 0n })).toEqual(['buffer-overrun', 'buffer-overrun'])
    world.run(ATS_ENABLE)
    world.unit.blocks = 1
    expect(rules({ iova: 0n, at: 4096n, bytes: 1n })).toEqual(['buffer-overrun', 'buffer-overrun'])
    expect(rules({ iova: 0n, bytes: 1n })).toEqual(['translation-fault', 'translation-fault'])
  })

  it('without ATS goes through the unit, with its tags', () => {
    const { run, unit } = deviceWorld()
    run(ATS_ENABLE_PASID, { execute: true, privileged: true })
    unit.map(IOVA, 0x3000n, 7, { pasid: 9 })
    const args = { iova: IOVA, bytes: 1n, pasid: 9n, privileged: true, execute: true }
    expect(run(DMA_READ, args).rule).toBe('done')
    expect(unit.asked).toMatchObject([{ addressType: 0, pasid: 9, isPrivileged: true, need: 5 }])
    expect(run(DMA_READ, { ...args, pasid: 8n })).toMatchObject({ rule: 'translation-fault' })
  })
})

describe('ats enable_pasid and disable_pasid', () => {
  const noExecute = { pasid: { bits: 8, execute: false, privileged: false } }
  testRules(ATS_ENABLE_PASID, {
    'no-pasid': () => others.map((who) => deviceWorld().run(ATS_ENABLE_PASID, { ...who, execute: true })),
    'tags-unsupported': () =>
      [{ execute: true }, { privileged: true }].map((tag) => atsWorld(noExecute).run(ATS_ENABLE_PASID, tag)),
    done: () => [
      deviceWorld(noExecute).run(ATS_ENABLE_PASID),
      deviceWorld().run(ATS_ENABLE_PASID, { execute: true }),
    ],
  })
  testRules(ATS_DISABLE_PASID, {
    'no-pasid': () => others.map((who) => deviceWorld().run(ATS_DISABLE_PASID, who)),
    done: () => [deviceWorld().run(ATS_DISABLE_PASID)],
  })

  it('what comes of it while ATS is on is not known', () => {
    const { run } = atsWorld()
    expect(run(ATS_ENABLE_PASID)).toMatchObject({ state: 'unmodelled' })
    expect(run(ATS_DISABLE_PASID)).toMatchObject({ state: 'unmodelled' })
  })

  it.each<[Record<string, Value>, boolean]>([
    [{ pasid: 0xffn }, true],
    [{ pasid: 0x100n }, false],
    [{ pasid: 1n, privileged: true }, false],
    [{ pasid: 1n, execute: true }, true],
    [{ execute: true }, false],
    [{ privileged: true }, false],
    [{}, true],
  ])('of 8 bits, with execution on: %o is taken: %s', (tags, isTaken) => {
    const { run } = deviceWorld({ pasid: { bits: 8, execute: true, privileged: true } })
    const before = run(DMA_READ, { iova: 0n, bytes: 1n, ...tags }).rule
    expect(before === 'tags-off').toBe(Object.keys(tags).length > 0)
    run(ATS_ENABLE_PASID, { execute: true })
    expect(run(DMA_READ, { iova: 0n, bytes: 1n, ...tags }).rule).toBe(
      isTaken ? 'translation-fault' : 'tags-off',
    )
    run(ATS_DISABLE_PASID)
    expect(run(DMA_READ, { iova: 0n, bytes: 1n, ...tags }).rule).toBe(before)
  })
})

describe('ats translate', () => {
  const fresh = (args: Record<string, Value>, blocks = 0): Answer => {
    const { run, unit } = atsWorld()
    unit.blocks = blocks
    return run(ATS_TRANSLATE, { iova: IOVA, ...args })
  }
  testRules(ATS_TRANSLATE, {
    'ats-off': () => [
      deviceWorld().run(ATS_TRANSLATE, { iova: IOVA, pasid: 3n }),
      ...others.map((who) => deviceWorld().run(ATS_TRANSLATE, { iova: IOVA, ...who })),
    ],
    'tags-off': () => [fresh({ pasid: 3n }, 0xd), fresh({ privileged: true }), fresh({ execute: true })],
    refused: () => [fresh({}, 0xd), fresh({ iova: 0x50_0000n }, 0x44)],
    'no-permission': () => [fresh({ iova: 0x50_0000n })],
    done: () => [fresh({}), fresh({ noWrite: true }), fresh({ iova: IOVA + 0x1000n })],
  })

  it('hands out what the completion says', () => {
    const { run, unit, endpoint } = atsWorld()
    unit.map(0x4020_0000n, 0x8000_0000n, 7, { shift: 21 })
    expect(run(ATS_TRANSLATE, { iova: 0x4020_6123n }).outputs).toEqual({
      ...{ address: 0x8000_6123n, bytes: 0x20_0000n, read: true, write: true, execute: true },
    })
    expect(run(ATS_TRANSLATE, { iova: IOVA + 0x1abcn }).outputs).toMatchObject({
      address: 0x5abcn,
      write: false,
    })
    expect(endpoint.tlb.entries).toBe(2)
    unit.blocks = 0x59
    expect(run(ATS_TRANSLATE, { iova: IOVA }).outputs).toEqual({ reason: 0x59n })
  })

  it('asks to write unless it says that it does not want to', () => {
    const { run, unit } = atsWorld()
    run(ATS_TRANSLATE, { iova: IOVA })
    run(ATS_TRANSLATE, { iova: IOVA, noWrite: true })
    expect(unit.asked).toMatchObject([
      { need: 3, isNoWrite: false },
      { need: 1, isNoWrite: true },
    ])
  })
})

describe('invalidations of a device', () => {
  testRules(ATS_BEHAVE, {
    'no-ats': () => others.map((who) => deviceWorld().run(ATS_BEHAVE, { ...who, invalidations: 'late' })),
    done: () =>
      ['at-once', 'late', 'lost', 'ignored', 'kept'].map((invalidations) =>
        atsWorld().run(ATS_BEHAVE, { invalidations }),
      ),
  })
  testRules(ATS_COMPLETE, {
    'no-ats': () => others.map((who) => deviceWorld().run(ATS_COMPLETE, who)),
    unexpected: () => [atsWorld().run(ATS_COMPLETE)],
    done: () => {
      const { run, invalidate } = atsWorld()
      run(ATS_BEHAVE, { invalidations: 'late' })
      invalidate()
      return [run(ATS_COMPLETE)]
    },
  })
  testRules(ATS_RELEASE_PASID, {
    'no-pasid': () => others.map((who) => deviceWorld().run(ATS_RELEASE_PASID, { ...who, pasid: 5n })),
    'not-counted': () => [atsWorld().run(ATS_RELEASE_PASID, { pasid: 5n })],
    done: () => {
      const { run, unit } = atsWorld()
      unit.counted = 5
      return [run(ATS_RELEASE_PASID, { pasid: 5n })]
    },
  })
  testRules(ATS_FORGET, {
    'no-ats': () => others.map((who) => deviceWorld().run(ATS_FORGET, who)),
    done: () => [atsWorld().run(ATS_FORGET)],
  })

  it.each([
    ['at-once', 'done', 0],
    ['late', 'late', 1],
    ['lost', 'lost', 0],
    ['ignored', 'lost', 1],
    ['kept', 'done', 1],
  ])('%s: ends %s, and %i translations stay', (invalidations, end, left) => {
    const { run, read, invalidate, endpoint, unit } = atsWorld()
    run(ATS_BEHAVE, { invalidations })
    read()
    expect([invalidate(), endpoint.tlb.entries, unit.completed]).toEqual([end, left, []])
  })

  it('late: each is completed when its time has come, in order', () => {
    const { run, read, invalidate, endpoint, unit, tick } = atsWorld()
    run(ATS_BEHAVE, { invalidations: 'late', ticks: 2n })
    read()
    invalidate({ address: 0x50_0000n, order: 0 })
    tick()
    invalidate()
    expect([endpoint.tlb.entries, unit.completed]).toEqual([1, []])
    tick()
    expect([endpoint.tlb.entries, unit.completed]).toEqual([1, [SOURCE]])
    tick()
    expect([endpoint.tlb.entries, unit.completed]).toEqual([0, [SOURCE, SOURCE]])
  })

  it('complete: the oldest first; then the unit hears of what it did not ask for', () => {
    const { run, invalidate, unit } = atsWorld()
    run(ATS_BEHAVE, { invalidations: 'late', ticks: 100n })
    invalidate()
    expect([1, 2].map(() => run(ATS_COMPLETE).rule)).toEqual(['done', 'unexpected'])
    expect(unit.completed).toEqual([SOURCE, SOURCE])
  })

  it('find no device where ATS is off', () => {
    expect(deviceWorld().invalidate()).toBe('no-device')
  })

  it.each([
    ['the page', IOVA, 0, 1],
    ['another page', IOVA + 0x1000n, 0, 2],
    ['a block with the page', IOVA + 0xf000n, 4, 1],
    ['everything', 0n, 52, 1],
  ])('%s: only what was asked for without a PASID goes', (_what, address, order, left) => {
    const { run, read, invalidate, endpoint, unit } = atsWorld()
    run(ATS_DISABLE)
    run(ATS_ENABLE_PASID)
    run(ATS_ENABLE)
    unit.map(IOVA, 0x3000n, 3, { pasid: 4 })
    read()
    read(IOVA, { pasid: 4n })
    invalidate({ address, order })
    expect(endpoint.tlb.entries).toBe(left)
    invalidate({ what: 'pasid-device-tlb', pasid: 5 })
    expect(endpoint.tlb.entries).toBe(left)
    invalidate({ what: 'pasid-device-tlb', pasid: 5, isGlobalToo: true })
    expect(endpoint.tlb.entries).toBe(left - 1)
  })

  it('forget says how many there were', () => {
    const { run, read } = atsWorld()
    read()
    expect([1, 2].map(() => run(ATS_FORGET).outputs)).toEqual([{ entries: 1n }, { entries: 0n }])
  })

  it('a device keeps no more than it has room for', () => {
    const { run, endpoint } = atsWorld({ ats: { entries: 1 } })
    run(ATS_TRANSLATE, { iova: IOVA })
    run(ATS_TRANSLATE, { iova: IOVA + 0x1000n })
    expect([endpoint.tlb.entries, endpoint.tlb.find(NO_PASID, false, 0x101)?.target]).toEqual([1, 5])
  })
})

describe('names and life', () => {
  it('a device that is not there is no answer', () => {
    expect(() => deviceWorld().run(ATS_ENABLE, { device: 'ep' })).toThrow('did you mean "ep0"?')
  })

  it('nothing answers any more once the machine has ended', () => {
    const { run, life } = deviceWorld()
    life.die('x')
    expect(run(ATS_ENABLE)).toMatchObject({ state: 'dead', rule: 'x' })
  })

  it('a machine that goes back knows the translations that it kept', () => {
    const { read, journal, endpoint, run, invalidate, tick } = atsWorld()
    read()
    const mark = journal.mark()
    const { hash } = journal
    run(ATS_BEHAVE, { invalidations: 'late' })
    invalidate()
    tick()
    run(ATS_DISABLE)
    journal.rollback(mark)
    expect([endpoint.hasAts, endpoint.tlb.entries, journal.hash, invalidate()]).toEqual([
      true,
      1,
      hash,
      'done',
    ])
  })
})
