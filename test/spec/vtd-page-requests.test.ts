import { describe, expect, it } from 'vitest'
import { oldPageRequestWords, pageRequestWords } from '../../src/hw/vtd/page-requests.ts'
import { NO_PASID, type PageRequest } from '../../src/hw/vtd/ports.ts'
import { pageRequest, type UnitWorld, type UnitWorldOptions, unitWorld } from '../support/vtd-unit.ts'

const RING = 0x4_0000
const PPR = 1n
const PRO = 2n

/** A unit that is ready for page requests: scalable tables, a queue of one page, the event let go. */
function ready(options: UnitWorldOptions = {}) {
  const world = unitWorld({ preset: 'every-feature', ...options })
  world.write('RTADDR', 0x400n)
  world.write('GCMD', 0xc000_0000n)
  world.write('PQA', BigInt(RING))
  world.write('PECTL', 0n)
  world.write('PEDATA', 0x31n)
  world.write('PEADDR', 0xfee0_0000n)
  return world
}
const word = ({ view }: UnitWorld, offset: number) => view.getBigUint64(RING + offset, true)
const ask = ({ unit }: UnitWorld, more: Partial<PageRequest> = {}) => unit.pageRequest(pageRequest(more))
const record = ({ unit }: UnitWorld) => {
  const at = unit.offsetOf('FRCD_LO')
  return [unit.mmioRead(at, 8), unit.mmioRead(at + 8, 8)]
}

describe('page requests as software finds them', () => {
  it('V22: today', () => {
    expect(pageRequestWords(pageRequest())).toEqual([0x5_0310_0101n, 0x7f12_3456_703fn, 0n, 0n])
    expect(
      pageRequestWords(
        pageRequest({
          pasid: NO_PASID,
          isExecute: true,
          isPrivileged: true,
          isWrite: false,
          isLast: false,
          group: 0x3ff,
          privateData: (2n << 64n) | 1n,
        }),
      ),
    ).toEqual([0x30_0000_0310_0201n, 0x7f12_3456_7ff9n, 1n, 2n])
  })

  it('V20: of revisions 2.x', () => {
    // SRR and BOF are never set.
    expect(oldPageRequestWords(pageRequest({ privateData: 0x12n }))).toEqual([
      0x0380_0012_0300_005cn,
      0x7f12_3456_7103n,
    ])
    expect(
      oldPageRequestWords(
        pageRequest({ pasid: NO_PASID, isExecute: true, isPrivileged: true, isLast: false }),
      ),
    ).toEqual([0x0380_0000_0300_0000n, 0x7f12_3456_710fn])
  })
})

describe('the page request queue', () => {
  it('takes requests in turn; software hears of the first', () => {
    const world = ready()
    expect(ask(world)).toBe('queued')
    expect([word(world, 0), word(world, 8)]).toEqual([0x5_0310_0101n, 0x7f12_3456_703fn])
    expect([world.read('PQT'), world.read('PRS')]).toEqual([0x20n, PPR])
    expect(world.messages).toEqual([[0xfee0_0000n, 0x31]])
    expect(ask(world, { group: 8 })).toBe('queued')
    expect([world.read('PQT'), world.messages.length]).toEqual([0x40n, 1])
    world.write('PRS', PPR)
    ask(world)
    expect(world.messages).toHaveLength(2)
    expect(world.events('vtd.page-request')).toMatchObject([
      { source: 0x310, pasid: 5, iova: 0x7f12_3456_7000n, flags: 8 + 4 + 16, group: 7, result: 'queued' },
      { group: 8 },
      { group: 7 },
    ])
  })

  it('drops what is cached of the page, and of no other', () => {
    const world = ready()
    ask(world, { address: 0x1_2345n })
    expect(world.translator.invalidated).toMatchObject([
      { what: 'pasid-iotlb', scope: 'fine', domain: 9, pasid: 5, address: 0x1_2000n, order: 0 },
    ])
    expect(world.events('domain.flush')).toEqual([])
    world.translator.context.ridPasid = 3
    ask(world, { pasid: NO_PASID })
    expect(world.translator.invalidated.at(-1)).toMatchObject({ pasid: 3 })
    world.translator.pasidFault = 0x59
    expect(ask(world)).toBe('queued')
    expect(world.translator.invalidated).toHaveLength(2)
  })

  it('keeps one place free; then requests are lost until PRO is cleared', () => {
    const world = ready()
    for (let i = 0; i < 127; i++) expect(ask(world)).toBe('queued')
    expect(world.read('PQT')).toBe(0xfe0n)
    world.write('PRS', PPR)
    expect(ask(world)).toBe('dropped')
    expect([world.read('PRS'), world.messages.length]).toEqual([PRO, 2])
    world.write('PQH', 0x20n)
    expect(ask(world)).toBe('dropped')
    world.write('PRS', PRO)
    expect(ask(world)).toBe('queued')
    expect([world.read('PQT'), world.messages.length]).toEqual([0n, 3])
  })

  it('overflow is no second event while PPR is set', () => {
    const world = ready()
    for (let i = 0; i < 128; i++) ask(world)
    expect([world.read('PRS'), world.messages.length]).toEqual([PPR | PRO, 1])
  })

  it('has as many pages as PQS says', () => {
    const world = ready()
    world.write('PQA', BigInt(RING) | 1n)
    for (let i = 0; i < 255; i++) expect(ask(world)).toBe('queued')
    expect(ask(world)).toBe('dropped')
  })

  it('the event is pending while it is masked, and gone with PPR and PRO', () => {
    const world = ready()
    world.write('PECTL', 0x8000_0000n)
    ask(world)
    expect(world.read('PECTL')).toBe(0xc000_0000n)
    world.write('PRS', PPR)
    expect(world.read('PECTL')).toBe(0x8000_0000n)
    ask(world)
    world.write('PECTL', 0n)
    expect([world.read('PECTL'), world.messages.length]).toEqual([0n, 1])
  })

  it('of revisions 2.x has 16 bytes for each', () => {
    const world = ready({ preset: 'skylake-graphics' })
    world.write('RTADDR', 0x800n)
    world.write('GCMD', 0xc000_0000n)
    for (let i = 0; i < 255; i++) expect(ask(world)).toBe('queued')
    expect([word(world, 0), word(world, 8)]).toEqual([0x0380_0000_0300_005cn, 0x7f12_3456_7103n])
    expect(ask(world)).toBe('dropped')
  })

  it('of revisions 2.x has its overflow in FSTS, which is a fault event', () => {
    const world = ready({ preset: 'skylake-graphics' })
    world.write('RTADDR', 0x800n)
    world.write('GCMD', 0xc000_0000n)
    world.write('FEDATA', 0x21n)
    world.write('FECTL', 0n)
    for (let i = 0; i < 256; i++) ask(world)
    expect([world.read('FSTS'), world.read('PRS')]).toEqual([0x80n, PPR])
    expect(world.messages.map(([, data]) => data)).toEqual([0x31, 0x21])
    world.write('PQH', 0x10n)
    expect(ask(world)).toBe('dropped')
    world.write('PRS', PPR | PRO)
    expect(ask(world)).toBe('dropped')
    world.write('FSTS', 0x80n)
    expect([ask(world), world.read('FSTS')]).toEqual(['queued', 0n])
    // In today's units bit 7 is reserved.
    const today = ready()
    for (let i = 0; i < 128; i++) ask(today)
    expect(today.read('FSTS')).toBe(0n)
  })

  it('that is not in memory is not modelled; QEMU refuses', () => {
    const world = ready()
    world.write('PQA', 0x7fff_0000n)
    expect(ask(world)).toBe('refused')
    expect(world.events('unmodelled')).toHaveLength(1)
  })
})

describe('page requests that are refused', () => {
  /** In the order of the checks. */
  const CASES: Record<string, readonly [set: (world: UnitWorld) => Partial<PageRequest>, reason: number]> = {
    'translation is off': [
      (w) => {
        w.write('GCMD', 0n)
        return {}
      },
      0,
    ],
    'execute without read': [() => ({ isExecute: true, isRead: false }), 0],
    'legacy tables': [
      (w) => {
        w.write('RTADDR', 0n)
        w.write('GCMD', 0xc000_0000n)
        return {}
      },
      0x32,
    ],
    'a bad context entry': [
      (w) => {
        w.translator.contextFault = 0x41
        return {}
      },
      0x41,
    ],
    'PASIDs are not enabled': [
      (w) => {
        w.translator.context.hasPasid = false
        return {}
      },
      0x45,
    ],
    'a PASID beyond the directory': [
      (w) => {
        w.translator.context.pasids = 4
        return {}
      },
      0x46,
    ],
    'page requests are not enabled': [
      (w) => {
        w.translator.context.hasPageRequests = false
        return {}
      },
      0x47,
    ],
  }
  it.each(Object.entries(CASES))('%s', (_what, [set, reason]) => {
    const world = ready()
    expect(ask(world, set(world))).toBe('refused')
    expect(world.read('PQT')).toBe(0n)
    expect(world.events('vtd.fault').map((e) => ('reason' in e ? e.reason : 0))).toEqual(
      reason === 0 ? [] : [reason],
    )
    expect(world.events('vtd.page-request')).toMatchObject([{ result: 'refused' }])
  })

  it('the first in the order counts', () => {
    const entries = Object.values(CASES)
    for (let first = 0; first < entries.length - 1; first++) {
      const world = ready()
      let more: Partial<PageRequest> = {}
      // All that come after it are wrong, too; legacy tables are switched on first, translation off last.
      for (const [set] of entries.slice(first).reverse()) more = { ...more, ...set(world) }
      ask(world, more)
      const reasons = world.events('vtd.fault').map((e) => ('reason' in e ? e.reason : 0))
      expect(reasons).toEqual(entries[first]?.[1] === 0 ? [] : [entries[first]?.[1]])
    }
  })

  it('a unit without ECAP.PRS', () => {
    expect(ask(unitWorld())).toBe('refused')
  })

  it('the record: T2, the PASID; of QEMU T1 alone, and it says what the page was for', () => {
    const world = ready()
    world.translator.context.hasPageRequests = false
    ask(world)
    expect(record(world)).toEqual([0x7f12_3456_7000n, 0x8000_0547_9000_0310n])
    const qemu = ready({ preset: 'qemu-11-svm', errata: ['D17', 'D44', 'D45'] })
    qemu.translator.context.hasPageRequests = false
    ask(qemu, { isWrite: false, source: 0x20 })
    expect(record(qemu)[1]).toBe(0xc000_0547_8000_0020n)
  })

  it('FPD of the context entry keeps it from being recorded; of a bad one not with QEMU', () => {
    for (const [errata, why] of [
      [[], 'fpd'],
      [['D44'], ''],
    ] as const) {
      const world = ready({ errata })
      world.translator.contextFault = 2
      world.translator.context.isSilent = true
      ask(world)
      expect(world.events('vtd.fault')).toMatchObject([{ reason: 2, why }])
    }
  })

  it('QEMU: none without PASID or with a bad entry; PASIDE, PDTS and TE do not count', () => {
    const qemu = (set: (world: UnitWorld) => void) => {
      const world = ready({ preset: 'qemu-11-svm', errata: ['D44', 'D43'] })
      set(world)
      return world
    }
    expect(
      ask(
        qemu(() => {}),
        { pasid: NO_PASID },
      ),
    ).toBe('refused')
    for (const type of [2, 3, 4]) {
      expect(
        ask(
          qemu((w) => {
            w.translator.pasid.type = type
          }),
        ),
      ).toBe('refused')
    }
    const bad = qemu((w) => {
      w.translator.pasidFault = 0x59
    })
    expect(ask(bad)).toBe('refused')
    expect(bad.events('vtd.fault')).toEqual([])
    const lenient = qemu((w) => {
      w.translator.context.hasPasid = false
      w.translator.context.pasids = 0
      w.write('GCMD', 0n)
    })
    expect(ask(lenient, { isExecute: true })).toBe('queued')
    expect(word(lenient, 0)).toBe(0x5_0310_0101n)
  })

  it('PECTL of QEMU is not masked after reset', () => {
    const world = unitWorld({ preset: 'qemu-11-svm', errata: ['D42'] })
    expect(world.read('PECTL')).toBe(0n)
    world.write('PEUADDR', 0xffff_ffffn)
    expect(world.read('PEUADDR')).toBe(0xffff_ffffn)
  })
})
