import { describe, expect, it } from 'vitest'
import { FaultStories, type LoggedFault } from '../../../src/machine/replay/vtd/fault-stories.ts'
import { bytesOf, recording } from '../../log-rows.ts'
import { VTD_LINE as L, STARTED } from '../../support/vtd-trace.ts'

const READ: LoggedFault = { source: 0x20, reason: 6, isWrite: false, iova: 0x1_0000n }
const WRITE: LoggedFault = { ...READ, reason: 5, isWrite: true }
const CONTEXT = L.contextRead(0x501)
/** High half of a record: without a PASID QEMU leaves all ones there. */
const frcd = (reason: number, isRead: boolean, sid = 0x20): bigint =>
  (isRead ? 1n << 62n : 0n) | (0xffffn << 40n) | (BigInt(reason) << 32n) | BigInt(sid)

/** A walk, and the translation that comes of it. */
const walk = (iova: number, slpte: number): string[] => [
  L.update(iova, slpte),
  L.translate(iova, slpte & ~0xfff),
]

function storiesOf(...lines: string[]): FaultStories {
  const stories = new FaultStories()
  stories.push(bytesOf(`${[...STARTED, ...lines].join('\n')}\n`))
  stories.end()
  return stories
}

/** Why, and the steps with their lines, which count from the first line behind the start. */
function told(stories: FaultStories, fault: LoggedFault): readonly unknown[] {
  const { first } = stories.find(fault) ?? {}
  const steps = first?.steps.map(({ line, text }) => [line - STARTED.length, text]) ?? []
  return [first?.why, ...steps]
}

describe('what a trace shows of a fault', () => {
  it('of a domain that has nothing mapped', () => {
    expect(told(storiesOf(CONTEXT, L.fault(6, 0x1_0004)), READ)).toEqual([
      'nothing was ever seen mapped there',
      [1, 'the context entry of the device was read: domain 5, in which no page was ever seen mapped'],
    ])
  })

  it.each<[string, number, string]>([
    ['before', 0xf000, 'the page before it was seen mapped'],
    ['behind', 0x1_1000, 'the page behind it was seen mapped'],
  ])('beside a buffer: the page %s', (_where, iova, text) => {
    expect(told(storiesOf(CONTEXT, ...walk(iova, 0x20_0003), L.fault(6, 0x1_0004)), READ)).toEqual([
      'nothing was ever seen mapped there',
      [1, 'the context entry of the device was read: domain 5'],
      [3, text],
    ])
  })

  it('of a page that was mapped, and flushed since', () => {
    const lines = [CONTEXT, ...walk(0x1_0000, 0x20_0003), L.flushPages(0x1_0000), L.fault(5, 0x1_0008, 1)]
    expect(told(storiesOf(...lines), WRITE)).toEqual([
      'the page was flushed since it was seen mapped',
      [1, 'the context entry of the device was read: domain 5'],
      [3, 'a walk found the page mapped for reads and writes'],
      [4, 'an invalidation names the page'],
    ])
  })

  it('of a page that is mapped for reads', () => {
    const lines = [CONTEXT, ...walk(0x1_0000, 0x20_0001), L.fault(5, 0x1_0008, 1)]
    expect(told(storiesOf(...lines), WRITE)).toEqual([
      'the page is mapped without this right',
      [1, 'the context entry of the device was read: domain 5'],
      [3, 'a walk found the page mapped for reads only'],
    ])
  })

  it('of a page of which no flush says that it is gone', () => {
    const stories = storiesOf(CONTEXT, ...walk(0x1_0000, 0x20_0003), L.fault(6, 0x1_0008))
    expect(stories.find(READ)?.first).toMatchObject({
      isShown: false,
      why: 'the page was seen mapped, and no flush says that it is gone',
    })
  })

  it('of a device without a context entry, and of a bus without a root entry', () => {
    const noContext = { ...READ, reason: 2 }
    expect(told(storiesOf(L.noContext, L.fault(2, 0x1_0000)), noContext)).toEqual([
      'the device has no context entry',
      [1, 'the context entry is not present'],
    ])
    const noRoot = { ...READ, reason: 1 }
    expect(told(storiesOf(L.noRoot, L.fault(1, 0x1_0000)), noRoot)).toEqual([
      'the bus of the device has no root entry',
      [1, 'the root entry is not present'],
    ])
  })

  it('finds none where the device, the reason, the direction or the page differs', () => {
    const stories = storiesOf(CONTEXT, L.fault(6, 0x1_0fff))
    expect(stories.find(READ)?.count).toBe(1)
    for (const other of [
      { ...READ, source: 0x21 },
      { ...READ, reason: 5 },
      { ...READ, isWrite: true },
      { ...READ, iova: 0x1_1000n },
    ])
      expect(stories.find(other)).toBeUndefined()
  })

  it('counts those that a kernel can have seen apart', () => {
    const lines = [CONTEXT, L.fault(6, 0x1_0000), L.record(frcd(6, true), 0x1_0000), L.fault(6, 0x1_0004)]
    const stories = storiesOf(...lines)
    expect(stories.find(READ)).toMatchObject({ count: 2, recorded: 1 })
    expect(stories.total).toBe(2)
  })
})

describe('what recorded traces show', () => {
  /** Faults as the console of the same boot has them, and those that its rate limit ate. */
  const EDU: LoggedFault[] = [0x1000n, 0x1234_5000n, 0x7fff_f000n].flatMap((iova) => [
    { source: 0x20, reason: 6, isWrite: false, iova },
    { source: 0x20, reason: 5, isWrite: true, iova },
  ])
  const RING: LoggedFault = { source: 0x08, reason: 6, isWrite: false, iova: 0x1ffd_e000n }

  it.each<[string, number, LoggedFault[]]>([
    ['x86-lazy', 24, EDU],
    ['x86-strict', 24, EDU],
    ['x86-cm-strict', 24, EDU],
    ['x86-sm', 24, EDU],
    ['vh-x86-strict', 1, [RING]],
    ['vh-x86-cm', 1, [RING]],
    ['vh-x86-ats-lazy', 1, [{ ...RING, source: 0x100 }]],
  ])('%s', async (name, total, faults) => {
    const stories = new FaultStories()
    stories.push(await recording(`vtd/${name}`))
    stories.end()
    expect(stories.total).toBe(total)
    expect(stories.all()).toHaveLength(faults.length)
    for (const fault of faults) {
      const seen = stories.find(fault)
      expect(seen?.recorded).toBe(1)
      expect(seen?.first.why).toBe('nothing was ever seen mapped there')
      expect(seen?.first.steps[0]?.text).toMatch(/^the context entry of the device was read/)
    }
  })
})
