import { describe, expect, it } from 'vitest'
import { PAGE_REQUEST } from '../../../src/trace/event-codes.ts'
import { A, B, NONE, PASID, SvmWorld } from './svm-world.ts'

const RULES = ['pasid-crosstalk', 'svm-bookkeeping', 'use-after-unbind', 'kernel-pasid-non-linear']
const world = () => new SvmWorld({ rules: RULES })

/** Unbinds in the order of the driver. */
function unbind(w: SvmWorld) {
  w.binds(0)
  w.pasid(0)
  w.entry(0)
}

describe('the PASID table', () => {
  it.each([
    [8, 0x2_0000, []],
    [14, 0x2_0000, ['svm-bookkeeping']],
    [7, 0x2_0000, ['svm-bookkeeping']],
    [1, 0x400, []],
    [4, 0x400, ['svm-bookkeeping']],
    [0, 0x20, []],
  ])('of order %i for %i entries', (order, entries, rules) => {
    const w = world()
    w.tables(order, entries)
    expect(w.rules()).toEqual(rules)
  })

  it('that is not to be had, because it is asked for too large', () => {
    const w = world()
    w.tables(14, 0x2_0000, 0)
    expect(w.messages('svm-bookkeeping')).toEqual([
      'the PASID table of vtd of 131072 entries needs 1 MiB, order 8, and order 14 is asked for in vain',
    ])
  })

  it('that is freed says nothing', () => {
    const w = world()
    w.tables(8, 0)
    expect(w.found()).toEqual([])
  })

  it('has a place for each PASID', () => {
    const w = world()
    w.tables(0, 0x20)
    w.pasid(1, { pasid: 0x1f })
    w.entry(1, { pasid: 0x1f })
    w.binds(1, { pasid: 0x1f })
    expect(w.found()).toEqual([])
    const other = world()
    other.tables(0, 0x20)
    other.pasid(1, { pasid: 0x20 })
    other.entry(1, { pasid: 0x20 })
    other.binds(1, { pasid: 0x20 })
    expect(other.messages('svm-bookkeeping')).toEqual([
      'PASID 0x20 is handed out, and its table has no place for it',
      'the entry of PASID 0x20 is written behind the end of its table',
    ])
  })
})

describe('a PASID', () => {
  it('that is bound, bound again, and unbound', () => {
    const w = world()
    w.bound()
    w.binds(2)
    w.binds(1)
    unbind(w)
    expect(w.found()).toEqual([])
  })

  it.each([
    ['handed out twice', (w: SvmWorld) => w.pasid(1), 'PASID 0x5 is handed out, though somebody has it'],
    [
      'given back while it is bound',
      (w: SvmWorld) => w.pasid(0),
      'PASID 0x5 is given back while a is bound by it',
    ],
    ['bound twice at once', (w: SvmWorld) => w.binds(3), 'a is bound by PASID 0x5 3 times, after 1'],
    [
      'bound for another process',
      (w: SvmWorld) => w.binds(1, { device: 'b', mm: 'Q' }),
      'b is bound by PASID 0x5, which somebody else was given',
    ],
    [
      'bound without being handed out',
      (w: SvmWorld) => w.binds(1, { pasid: 9 }),
      'a is bound by PASID 0x9, which nobody was given',
    ],
    [
      'given back by nobody',
      (w: SvmWorld) => w.pasid(0, { pasid: 9 }),
      'PASID 0x9 is given back, though nobody has it',
    ],
  ])('%s', (_, then, message) => {
    const w = world()
    w.bound()
    then(w)
    expect(w.messages('svm-bookkeeping')).toEqual([message])
  })

  it('that nobody is bound by any more, and that is not given back', () => {
    const w = world()
    w.bound()
    w.entry(0)
    const last = w.binds(0)
    const [finding] = w.found()
    expect(finding?.message).toBe('PASID 0x5 is handed out, for P, and no device is bound by it: it is lost')
    expect(finding?.because.at(-1)?.seq).toBe(last)
  })

  it('of all units lives as long as the address space, bound or not', () => {
    const ends = (count: number) => {
      const w = world()
      w.pasid(1, { unit: '' })
      w.entry(1, { device: 'a' })
      w.binds(1)
      w.entry(0, { device: 'a' })
      w.binds(0)
      w.users(0, count, 'drop')
      return w.rules()
    }
    expect(ends(1)).toEqual([])
    expect(ends(0)).toEqual(['svm-bookkeeping'])
  })

  it('of another unit is another one', () => {
    const w = world()
    w.bound()
    w.pasid(1, { unit: 'other' })
    expect(w.messages('svm-bookkeeping')).toEqual([
      'PASID 0x5 is handed out, for P, and no device is bound by it: it is lost',
    ])
  })
})

describe('what a driver allocates for a bind', () => {
  it('belongs to the binding and its PASID, and is freed behind them', () => {
    const w = world()
    w.object('intel_svm_dev', 1)
    w.object('intel_svm', 1)
    w.bound()
    w.binds(0)
    w.entry(0)
    w.pasid(0)
    w.object('intel_svm_dev', 0, { pasid: PASID })
    w.object('intel_svm', 0)
    expect(w.found()).toEqual([])
  })

  it('is freed where the bind fails', () => {
    const w = world()
    w.object('intel_svm_dev', 1)
    w.object('intel_svm_dev', 0)
    expect(w.found()).toEqual([])
  })

  it.each(['intel_svm', 'intel_svm_dev'] as const)('%s is lost where nothing has it', (what) => {
    const w = world()
    w.bound()
    const lost = w.object(what, 1, { pasid: 9 })
    expect(w.messages('svm-bookkeeping')).toEqual([
      `${what} is allocated, belongs to no binding, and is not freed: it is lost`,
    ])
    expect(w.found()[0]?.because.map((e) => e.seq)).toEqual([lost])
  })
})

describe('after the unbinding', () => {
  it('a DMA that reaches memory is found, one that is blocked is not', () => {
    const w = world()
    w.bound()
    unbind(w)
    w.dma({ fault: 0x5b })
    const use = w.dma()
    const [finding, ...more] = w.found()
    expect(more).toEqual([])
    expect(finding?.message).toBe(
      '03:02.0 reaches memory at 0x1000 with PASID 0x5, from which it was unbound',
    )
    expect(finding?.because.at(-1)?.seq).toBe(use)
  })

  describe('a page request of the device', () => {
    /** Two devices are bound by a PASID, and a is unbound again. */
    const both = () => {
      const w = world()
      w.bound()
      w.binds(1, { device: 'b' })
      return w
    }

    it.each([
      ['success', ['use-after-unbind']],
      ['invalid', []],
      ['queued', []],
    ])('of result %s', (result, rules) => {
      const w = both()
      w.binds(0)
      w.asks()
      w.decodes({ result })
      expect(w.rules()).toEqual(rules)
    })

    it('is told with the unbinding and the request', () => {
      const w = both()
      const unbound = w.binds(0)
      const asked = w.asks()
      w.decodes({ result: 'queued', response: 'none' })
      const handled = w.decodes()
      const [finding, ...more] = w.found()
      expect(more).toEqual([])
      expect(finding?.message).toBe(
        '03:02.0 has 0x1000 brought in with PASID 0x5, from which it was unbound before it asked',
      )
      expect(finding?.because.map((e) => e.seq)).toEqual([unbound, asked, handled])
    })

    it('that came while it was bound may be handled behind the unbinding', () => {
      const w = both()
      w.asks()
      w.decodes({ result: 'queued', response: 'none' })
      w.binds(0)
      w.decodes()
      expect(w.found()).toEqual([])
    })

    it('that came while it was bound is told apart from one that comes later', () => {
      const w = both()
      w.asks()
      w.binds(0)
      w.asks({ iova: 0x2000n })
      w.asks()
      w.decodes()
      expect(w.found()).toEqual([])
      w.decodes()
      expect(w.rules()).toEqual(['use-after-unbind'])
    })

    it('that is not the last of its group has no other record to come', () => {
      const w = both()
      const first = { flags: PAGE_REQUEST.READ }
      w.asks(first)
      w.decodes({ ...first, result: 'queued', response: 'none' })
      w.binds(0)
      w.asks()
      w.decodes()
      expect(w.rules()).toEqual(['use-after-unbind'])
    })

    it('that the unit has not taken is not what was handled: when that one came nobody knows', () => {
      const w = both()
      w.binds(0)
      w.asks({ result: 'dropped' })
      w.decodes()
      expect(w.found()).toEqual([])
    })

    it('that comes once it is bound again is right', () => {
      const w = both()
      w.binds(0)
      w.binds(1)
      w.asks()
      w.decodes()
      expect(w.found()).toEqual([])
    })
  })

  it('the device may be bound again', () => {
    const w = world()
    w.bound()
    unbind(w)
    w.pasid(1)
    w.entry(1)
    w.binds(1)
    w.dma()
    expect(w.found()).toEqual([])
  })

  it('no entry may be left, and the PASID not handed out with it', () => {
    const left = world()
    left.bound()
    left.binds(0)
    const given = left.pasid(0)
    expect(left.rules()).toEqual(['use-after-unbind'])
    expect(left.found()[0]?.because.at(-1)?.seq).toBe(given)
    const again = world()
    again.bound()
    again.binds(0)
    again.pasid(0)
    again.pasid(1, { mm: 'Q' })
    again.entry(1, { mm: 'Q', pgd: 0x300 })
    again.binds(1, { mm: 'Q' })
    expect(again.messages('use-after-unbind')).toEqual([
      'PASID 0x5 is handed out again while its entry leads to the page tables of who had it before',
    ])
  })

  it('an entry of one device is left though another one is bound', () => {
    const w = world()
    w.pasid(1, { unit: '' })
    w.entry(1, { device: 'a' })
    w.binds(1)
    w.entry(1, { device: 'b' })
    w.binds(1, { device: 'b' })
    w.binds(0)
    expect(w.messages('use-after-unbind')).toEqual([
      'the entry of PASID 0x5 is still present, though nothing is bound by it any more',
    ])
  })

  it('the kernel does not use what it has freed', () => {
    const w = world()
    w.freed()
    w.freed()
    w.freed('sdev')
    expect(w.messages('use-after-unbind')).toEqual([
      'prq_event_thread uses svm, which is freed',
      'prq_event_thread uses sdev, which is freed',
    ])
  })
})

describe('crosstalk', () => {
  it('a device that was never bound reaches a process of another one', () => {
    const w = world()
    w.bound()
    w.dma({ source: A })
    w.dma({ source: B, fault: 0x5b })
    expect(w.found()).toEqual([])
    const other = world()
    other.bound()
    other.dma({ source: B })
    expect(other.messages('pasid-crosstalk')).toEqual([
      '03:03.0 reaches memory of P at 0x1000 with PASID 0x5, by which it was never bound',
    ])
  })

  it('a device without rights reaches nothing', () => {
    const w = world()
    w.bound()
    w.translate(0, 0x1000n, { source: B, pasid: PASID, need: 2, perm: 1 })
    expect(w.found()).toEqual([])
  })

  it('PASIDs that nobody hands out, and requests without one, are nothing of it', () => {
    const w = world()
    w.bound()
    w.dma({ source: B, pasid: 7 })
    w.dma({ source: B, pasid: NONE })
    expect(w.found()).toEqual([])
  })

  it.each([
    ['its own', 0x200, []],
    ['those of another process', 0x300, ['pasid-crosstalk']],
    ['those of nobody', 0x400, []],
  ])('with a PASID a device walks %s', (_, t4, rules) => {
    const w = world()
    w.bound()
    w.mmTable(0x300, 4, 1, 'Q')
    w.mmTable(0x400, 3, 1, 'Q')
    w.walk(0x1000n, { stage: 1, source: A, pasid: PASID, tables: { t1: 0x500, t2: 0x501, t3: 0x502, t4 } })
    expect(w.rules()).toEqual(rules)
  })

  it('the second level, and requests without a PASID, are walked for nobody', () => {
    const w = world()
    w.bound()
    w.mmTable(0x300, 4, 1, 'Q')
    w.walk(0x1000n, { stage: 2, source: A, pasid: PASID, tables: { t4: 0x300 } })
    w.walk(0x1000n, { stage: 1, source: A, pasid: NONE, tables: { t4: 0x300 } })
    expect(w.found()).toEqual([])
  })

  it('the callback of another device is called', () => {
    const w = world()
    w.bound()
    w.calls()
    expect(w.found()).toEqual([])
    const other = world()
    other.bound()
    const told = other.calls({ device: 'b', wanted: A })
    const [finding] = other.found()
    expect(finding?.message).toBe('the driver of b (03:03.0) is told of a request of 03:02.0')
    expect(finding?.because.at(-1)?.seq).toBe(told)
  })
})

describe('a PASID of the kernel', () => {
  const kernel = () => {
    const w = world()
    w.pasid(1, { mm: '' })
    w.entry(1, { mm: '' })
    w.binds(1, { mm: '' })
    return w
  }

  it.each([
    ['the direct map', 0xffff_8800_0000_1000n, 0, []],
    ['the direct map of later kernels', 0xffff_c880_0000_0000n - 0x1000n, 0, []],
    ['vmalloc', 0xffff_c900_0000_0000n, 0, ['kernel-pasid-non-linear']],
    ['modules, though it is refused', 0xffff_ffff_a000_0000n, 0x71, ['kernel-pasid-non-linear']],
    ['user space', 0x1000n, 0, ['kernel-pasid-non-linear']],
  ])('is used for %s', (_, iova, fault, rules) => {
    const w = kernel()
    w.dma({ iova, fault })
    expect(w.rules()).toEqual(rules)
  })

  it('is used for memory that the device has translated itself', () => {
    const w = kernel()
    w.translate(0, 0x5000n, { source: A, pasid: PASID, need: 1, perm: 1, target: 0x5000n })
    expect(w.found()).toEqual([])
  })

  it('addresses of a process are its own affair', () => {
    const w = world()
    w.bound()
    w.dma({ iova: 0xffff_c900_0000_0000n })
    expect(w.found()).toEqual([])
  })
})
