import { describe, expect, it } from 'vitest'
import { NONE } from '../../../src/trace/event-codes.ts'
import { CONTEXT_AT, VtdWorld } from './vtd-world.ts'

/** FRCD at 0x220, one of them; caching mode is bit 7. */
const CAP = 0x00d2_008c_2226_0206n
const TWO_RECORDS = CAP | (1n << 40n)
const F = 1n << 31n
const UNIT = 'vtd'

class RegisterWorld extends VtdWorld {
  fault(record: number) {
    const request = { source: 0x18, pasid: NONE, reason: 6, iova: 0n, access: 2, why: '', line: 0 }
    return this.log.emit('vtd.fault', null, { unit: UNIT, ...request, record })
  }

  event(event: string, sent: number) {
    return this.log.emit('vtd.event', null, { unit: UNIT, event, address: 0xfee0_0000n, data: 0, sent })
  }

  refuse(reason: number, lo = 0x5_00e2n, hi = 0x80n) {
    return this.log.emit('vtd.refuse', null, { unit: UNIT, reason, offset: 0, lo, hi, line: 0 })
  }

  read(offset: number, value: bigint, bytes = 4) {
    return this.register(offset, value, { write: 0, bytes })
  }
}

describe('heads and tails', () => {
  it.each([
    ['a tail inside', 0x90, 0x10_0000n, 0x88, 1, 0xff0n, false],
    ['a tail at the end', 0x90, 0x10_0000n, 0x88, 1, 0x1000n, true],
    ['a tail of a queue of two pages', 0x90, 0x10_0001n, 0x88, 1, 0x1000n, false],
    ['a tail between two descriptors', 0x90, 0x10_0000n, 0x88, 1, 0x18n, true],
    ['a narrow tail', 0x90, 0x10_0801n, 0x88, 1, 0x30n, true],
    ['a wide tail', 0x90, 0x10_0801n, 0x88, 1, 0x40n, false],
    ['a head outside', 0x90, 0x10_0000n, 0x80, 0, 0x1000n, true],
    ['a head inside', 0x90, 0x10_0000n, 0x80, 0, 0x40n, false],
    ['a request head outside', 0xd0, 0x20_0000n, 0xc0, 1, 0x1000n, true],
    ['a request tail outside', 0xd0, 0x20_0000n, 0xc8, 0, 0x1000n, true],
    ['a request tail of 16 pages', 0xd0, 0x20_0004n, 0xc8, 0, 0xffe0n, false],
    ['what no queue address was written for', 0x98, 0n, 0x88, 1, 0x7_fff0n, false],
  ])('%s', (_what, at, address, offset, write, value, isWrong) => {
    const w = new RegisterWorld()
    w.register(at, address)
    w.register(offset, value, { write })
    expect(w.rules()).toEqual(isWrong ? ['unit-registers'] : [])
  })

  it('are told with the size of their queue', () => {
    const w = new RegisterWorld()
    w.register(0x90, 0n)
    const by = w.register(0x88, 0x1000n)
    expect(w.found()[0]?.message).toBe('IQT is 0x1000, outside the queue of 0x1000 bytes')
    expect(w.found()[0]?.because.map((e) => e.seq)).toEqual([by])
  })
})

describe('PPF', () => {
  it('is set exactly while a register holds a fault', () => {
    const w = new RegisterWorld()
    w.capabilities(TWO_RECORDS)
    w.read(0x34, 0n)
    w.fault(0)
    w.fault(1)
    w.read(0x34, 2n)
    w.register(0x22c, F, { bytes: 4 })
    w.read(0x34, 2n)
    w.register(0x238, 1n << 63n, { bytes: 8 })
    w.read(0x34, 0n)
    expect(w.rules()).toEqual([])
  })

  it.each([
    ['clear while one does', 0, 0n, 'FSTS (0x0) says that no fault is recorded, and register 0 holds one'],
    ['set while none does', NONE, 2n, 'FSTS (0x2) says that a fault is recorded, and no register holds one'],
  ])('is wrong where it is %s', (_what, record, value, text) => {
    const w = new RegisterWorld()
    w.capabilities(CAP)
    w.fault(record)
    w.read(0x34, value)
    expect(w.found().map((f) => [f.rule, f.message])).toEqual([['unit-registers', text]])
  })

  it('says nothing where the capabilities are not known', () => {
    const w = new RegisterWorld()
    w.fault(0)
    w.read(0x34, 0n)
    expect(w.rules()).toEqual([])
  })

  it.each([
    [0, 0n, true],
    [0, F, false],
    [NONE, F, true],
    [NONE, 0n, false],
  ])('F of a register goes with it: recorded in %i, read as %i', (record, value, isWrong) => {
    const w = new RegisterWorld()
    w.capabilities(CAP)
    w.fault(record)
    w.read(0x22c, value)
    w.read(0x228, value === 0n ? 0n : 0x18n)
    expect(w.rules()).toEqual(isWrong ? ['unit-registers'] : [])
  })

  it('a clear without the bit clears nothing', () => {
    const w = new RegisterWorld()
    w.capabilities(CAP)
    w.fault(0)
    w.register(0x22c, 0n, { bytes: 4 })
    w.read(0x34, 2n)
    expect(w.rules()).toEqual([])
  })
})

describe('events', () => {
  it.each([
    ['fault', 0x34, 4],
    ['invalidation', 0x9c, 4],
    ['page-request', 0xdc, 4],
  ])('of %s come again only when software has cleared what they told of', (event, offset, bytes) => {
    const run = (isCleared: boolean) => {
      const w = new RegisterWorld()
      w.event(event, 1)
      if (isCleared) w.register(offset, 1n, { bytes })
      w.event(event, 1)
      return w.rules()
    }
    expect(run(true)).toEqual([])
    expect(run(false)).toEqual(['unit-registers'])
  })

  it('that are pending are sent when they are unmasked, and another is no matter', () => {
    const w = new RegisterWorld()
    w.event('fault', 0)
    w.event('invalidation', 1)
    w.event('fault', 1)
    expect(w.rules()).toEqual([])
    w.event('fault', 0)
    expect(w.rules()).toEqual(['unit-registers'])
  })

  it.each([true, false])(
    'of a fault come again when its record is cleared (capabilities known: %s)',
    (isKnown) => {
      const w = new RegisterWorld()
      if (isKnown) w.capabilities(CAP)
      w.fault(0)
      w.event('fault', 1)
      w.register(0x22c, F, { bytes: 4 })
      w.event('fault', 1)
      expect(w.rules()).toEqual([])
    },
  )
})

describe('a descriptor that is refused', () => {
  it.each([
    [1, false],
    [2, false],
    [3, true],
    [4, true],
    [5, true],
    [6, false],
    [7, false],
  ])('for reason %i: %s', (reason, isFound) => {
    const w = new RegisterWorld()
    w.refuse(reason)
    w.refuse(reason)
    expect(w.found().map((f) => [f.rule, f.times])).toEqual(isFound ? [['reserved-descriptor', 2]] : [])
  })

  it('is named with its words', () => {
    const w = new RegisterWorld()
    w.refuse(4)
    expect(w.found()[0]?.message).toBe('software submits the descriptor 0x500e2 0x80, which vtd refuses')
  })
})

describe('an entry', () => {
  const LEGACY = 0
  const [SCALABLE, EXTENDED] = [1, 2]
  const P = 0x1_2001n

  it.each([
    [
      'of legacy tables, cleared first',
      LEGACY,
      P,
      [
        [0, P, 0n],
        [1, 0x501n, 0n],
      ],
      false,
    ],
    [
      'of legacy tables, cleared last',
      LEGACY,
      P,
      [
        [1, 0x501n, 0n],
        [0, P, 0n],
      ],
      true,
    ],
    [
      'of legacy tables, set last',
      LEGACY,
      0n,
      [
        [1, 0n, 0x501n],
        [0, 0n, P],
      ],
      false,
    ],
    [
      'of legacy tables, set first',
      LEGACY,
      0n,
      [
        [0, 0n, P],
        [1, 0n, 0x501n],
      ],
      true,
    ],
    ['with bits that hardware ignores', LEGACY, P, [[1, 0x501n, 0x579n]], false],
    ['whose first word changes alone', LEGACY, P, [[0, P, 0x9_2005n]], false],
    ['of scalable tables', SCALABLE, P, [[1, 0n, 3n]], true],
    [
      'of extended tables without PASIDs',
      EXTENDED,
      P,
      [
        [2, 0n, 0x3_0000n],
        [0, P, P | 0x800n],
      ],
      false,
    ],
    ['of extended tables with PASIDs', EXTENDED, P | 0x800n, [[2, 0n, 0x3_0000n]], true],
    ['of extended tables, its domain', EXTENDED, P, [[1, 0x501n, 0x601n]], true],
  ] as const)('%s', (_what, mode, lo, writes, isWrong) => {
    const w = new RegisterWorld()
    w.root({ mode })
    w.context({ lo, domain: mode === SCALABLE ? 0 : 5, fault: lo === 0n ? 2 : 0 })
    for (const [word, before, after] of writes) w.word(CONTEXT_AT + BigInt(word * 8), before, after)
    expect(w.rules()).toEqual(isWrong ? ['entry-order'] : [])
    if (isWrong)
      expect(w.found()[0]?.message).toContain('changes while the entry is present: vtd may read half of it')
  })

  it.each([
    ['its domain', 1, 5n, 6n, true],
    ['how it is snooped', 1, 5n, 0x100_0005n, false],
    ['its first-level table', 2, 0x4_0000n, 0x5_0000n, true],
    ['a later word', 3, 0n, 1n, false],
  ])('of a PASID: %s', (_what, word, before, after, isWrong) => {
    const w = new RegisterWorld()
    w.root({ mode: 1 })
    w.pasidEntry(1, 0x45n)
    w.word(0x2_1040n + BigInt(word * 8), before, after)
    expect(w.rules()).toEqual(isWrong ? ['entry-order'] : [])
  })

  it('beside one that was read is judged when its own first word is known', () => {
    const w = new RegisterWorld()
    w.root()
    w.context()
    w.word(CONTEXT_AT + 0x18n, 0n, 0x501n)
    expect(w.rules()).toEqual([])
    w.word(CONTEXT_AT + 0x10n, 0n, P)
    w.word(CONTEXT_AT + 0x18n, 0x501n, 0x601n)
    expect(w.rules()).toEqual(['entry-order'])
  })

  it.each([
    ['in a unit in caching mode', CAP | 0x80n, true],
    ['in another', CAP, false],
  ])('of domain 0 %s', (_what, cap, isWrong) => {
    const w = new RegisterWorld()
    w.capabilities(cap)
    w.root()
    w.context({ domain: 0 })
    w.context({ domain: 0, fault: 2 })
    expect(w.rules()).toEqual(isWrong ? ['reserved-domain'] : [])
  })

  it.each([
    ['second-level', 0x3_0085n, 1, true],
    ['second-level', 0x3_0085n, 2, false],
    ['first-level', 0x45n, 1, false],
    ['pass-through', 0x105n, 1, false],
  ])('of a PASID, %s (%i), in domain %i', (_what, lo, domain, isWrong) => {
    const w = new RegisterWorld()
    w.root({ mode: 1 })
    w.pasidEntry(1, lo, { domain })
    expect(w.rules()).toEqual(isWrong ? ['reserved-domain'] : [])
    if (isWrong)
      expect(w.found()[0]?.message).toBe(
        'the entry of PASID 0x1 of 00:03.0 is present with domain 1, which is kept for first-level and pass-through entries',
      )
  })
})
