import { describe, expect, it } from 'vitest'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { DMA_FAULT } from '../../src/hw/dma-space.ts'
import { DMA_READ, DMA_WRITE } from '../../src/hw/edu-calls.ts'
import { NO_PASID } from '../../src/hw/vtd/ports.ts'
import { eventsOfLog } from '../support/events.ts'
import { deviceWorld } from '../support/vtd-devices.ts'

/** One request of the device behind a unit: what came of it, and the buffer. */
function request(
  { space }: ReturnType<typeof deviceWorld>,
  iova: bigint,
  data: string | number,
  tags?: Parameters<typeof space.request>[0]['tags'],
) {
  const isWrite = typeof data === 'string'
  const bytes = isWrite ? data.length : data
  const buffer = new Uint8Array(bytes).fill(0xee)
  if (isWrite) buffer.set(new TextEncoder().encode(data))
  const place = { device: 0, hi: hiOf(iova), lo: loOf(iova), buffer, at: 0, bytes, isWrite, tags }
  const code = space.request(place)
  return {
    code,
    moved: space.moved,
    fault: space.fault,
    reason: space.reason,
    text: String.fromCharCode(...buffer),
  }
}

const WORLD = () => {
  const world = deviceWorld()
  world.unit.map(0x10_0000n, 0x3000n, 3)
  world.unit.map(0x10_1000n, 0x5000n, 1)
  world.memory.write(0x3ffe, 'ab')
  world.memory.write(0x5000, 'cd')
  return world
}

describe('a request behind a VT-d unit', () => {
  it('goes in pieces, none across a page', () => {
    const world = WORLD()
    expect(request(world, 0x10_0ffen, 4)).toMatchObject({
      code: 0,
      moved: 4,
      fault: DMA_FAULT.NONE,
      text: 'abcd',
    })
    expect(world.unit.asked.map((r) => [r.source, r.lo, r.need, r.pasid])).toEqual([
      [0x18, 0x10_0ffe, 1, NO_PASID],
      [0x18, 0x10_1000, 1, NO_PASID],
    ])
  })

  it.each<[errata: string[], large: number, ...asked: number[]]>([
    [[], 12, 0x4020_0ffe, 0x4020_1000],
    [['D102'], 12, 0x4020_0ffe, 0x4020_1000],
    [[], 21, 0x4020_0ffe, 0x4020_1000],
    [['D102'], 21, 0x4020_0ffe],
  ])('with %j and pages of 2^%i bytes it is translated at %i, %s', (errata, shift, ...asked) => {
    const world = deviceWorld({}, errata)
    world.unit.map(0x4020_0000n, 0n, 3, { shift })
    if (shift === 12) world.unit.map(0x4020_1000n, 0x1000n, 3)
    world.memory.write(0xffe, 'abcd')
    expect(request(world, 0x4020_0ffen, 4)).toMatchObject({ code: 0, moved: 4, text: 'abcd' })
    expect(world.unit.asked.map((r) => r.lo)).toEqual(asked)
  })

  it('a large page ends a piece of D102 too', () => {
    const world = deviceWorld({}, ['D102'])
    world.unit.map(0x4020_0000n, 0n, 3, { shift: 21 })
    expect(request(world, 0x403f_fffen, 4)).toMatchObject({ moved: 0, fault: DMA_FAULT.NO_MEMORY })
    expect(world.unit.asked.map((r) => r.lo)).toEqual([0x403f_fffe, 0x4040_0000])
  })

  it('a piece that is blocked stays behind, and the first reason counts', () => {
    const world = WORLD()
    expect(request(world, 0x10_0ffen, 'WXYZ')).toEqual({
      code: 2,
      moved: 2,
      fault: DMA_FAULT.BLOCKED,
      reason: 5,
      text: 'WXYZ',
    })
    expect([world.memory.text(0x3ffe, 2), world.memory.text(0x5000, 2)]).toEqual(['WX', 'cd'])
    expect(request(world, 0x10_1ffen, 4)).toMatchObject({ moved: 2, reason: 6, text: '\0\0\0\0' })
    expect(request(world, 0xf_fffen, 4)).toMatchObject({ moved: 2, reason: 6 })
    expect(request(world, 0x10_0000n, 1)).toMatchObject({ code: 0, reason: 0 })
  })

  it('what is cached without the permission is refused, with no reason', () => {
    const world = WORLD()
    const { unit } = world
    const translate = unit.translate.bind(unit)
    unit.translate = (r) => {
      translate(r)
      return 0
    }
    expect(request(world, 0x10_1000n, 'X')).toMatchObject({
      code: 2,
      moved: 0,
      fault: DMA_FAULT.REFUSED,
      reason: 0,
    })
    expect(world.memory.text(0x5000, 1)).toBe('c')
  })

  it('finds no memory where there is none', () => {
    const world = WORLD()
    world.unit.map(0x20_0000n, 0x10_0000n, 3)
    world.unit.map(0x20_1000n, 2n ** 52n, 3)
    expect(request(world, 0x20_0000n, 2)).toMatchObject({
      code: 2,
      moved: 0,
      fault: DMA_FAULT.NO_MEMORY,
      text: '\0\0',
    })
    expect(request(world, 0x20_1000n, 'x')).toMatchObject({ moved: 0, fault: DMA_FAULT.NO_MEMORY })
  })

  it('wraps at the end of bus addresses, and carries into the upper half', () => {
    const world = WORLD()
    request(world, 0xffff_ffff_ffff_fffen, 4)
    request(world, 0x1_ffff_fffen, 4)
    expect(world.unit.asked.map((r) => [r.hi >>> 0, r.lo >>> 0])).toEqual([
      [0xffff_ffff, 0xffff_fffe],
      [0, 0],
      [1, 0xffff_fffe],
      [2, 0],
    ])
  })

  it('carries its tags, and forgets them', () => {
    const world = WORLD()
    request(world, 0n, 1, { pasid: 7, isPrivileged: true, isExecute: true })
    request(world, 0n, 'x', { pasid: 7, isPrivileged: false, isExecute: false })
    request(world, 0n, 1)
    expect(world.unit.asked.map((r) => [r.pasid, r.isPrivileged, r.need])).toEqual([
      [7, true, 5],
      [7, false, 2],
      [NO_PASID, false, 1],
    ])
  })

  it('records what it asks for and what came of it, the one the cause of the other', () => {
    const world = WORLD()
    request(world, 0x10_0000n, 'x')
    const records = [...world.log.records()].filter((r) => r.event.kind.startsWith('dma.'))
    expect(records.map((r) => [r.event.kind, r.cause === null])).toEqual([
      ['dma.request', true],
      ['dma.done', false],
    ])
    expect(eventsOfLog(world.log, 'dma.')).toMatchObject([
      { iova: 0x10_0000n, bytes: 1, write: 1 },
      { moved: 1, code: 0 },
    ])
  })
})

describe('writes to the interrupt addresses', () => {
  it('are interrupts, word by word', () => {
    const world = WORLD()
    expect(request(world, 0xfee0_0ffcn, '\x31\x40\0\0')).toMatchObject({ code: 0, moved: 4 })
    expect(request(world, 0xfee0_1000n, '\x01\0\0\0\x02\0\0\x7f')).toMatchObject({ code: 0, moved: 8 })
    expect(world.unit.interrupts).toEqual([
      [0x18, 0xfee0_0ffc, 0x4031],
      [0x18, 0xfee0_1000, 1],
      [0x18, 0xfee0_1004, 0x7f00_0002],
    ])
  })

  it.each([
    ['two bytes', 0xfee0_0000n, 'ab', 0],
    ['a word across words', 0xfee0_0002n, 'abcd', 0],
    ['a word and a half', 0xfee0_0000n, 'abcdef', 4],
    ['a read', 0xfee0_0000n, 4, 0],
  ])('%s: what is no word does not get through', (_what, iova, data, moved) => {
    const world = WORLD()
    expect(request(world, iova, data)).toMatchObject({ code: 2, moved, fault: DMA_FAULT.REFUSED })
    expect(world.unit.interrupts.length).toBe(moved / 4)
  })

  it('are lost where the unit blocks them', () => {
    const world = WORLD()
    world.unit.blocksInterrupts = true
    expect(request(world, 0xfee0_0000n, 'abcd')).toMatchObject({
      code: 2,
      moved: 0,
      fault: DMA_FAULT.REFUSED,
    })
  })
})

describe('edu behind a VT-d unit', () => {
  it('says why it was blocked', () => {
    const { run, unit } = WORLD()
    unit.unmap(0x10_0000n)
    const read = run(DMA_READ, { device: 'edu0', iova: 0x10_0000n, bytes: 4n })
    expect(read).toMatchObject({ rule: 'translation-fault', code: 'MEMTX_DECODE_ERROR' })
    expect(read.outputs).toMatchObject({ reason: 6n, moved: 0n })
    expect(run(DMA_WRITE, { device: 'edu0', iova: 0x10_1000n, data: 'x' }).outputs).toEqual({
      reason: 5n,
      moved: 0n,
    })
  })

  it('has no PASID', () => {
    const { run, unit } = WORLD()
    for (const tags of [{ pasid: 0n }, { privileged: true }, { execute: true }]) {
      const read = run(DMA_READ, { device: 'edu0', iova: 0x10_0000n, bytes: 9999n, ...tags })
      expect(read).toMatchObject({ rule: 'tags-off', outputs: { moved: 0n } })
    }
    expect(unit.asked).toEqual([])
  })
})
