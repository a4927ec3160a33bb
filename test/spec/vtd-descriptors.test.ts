import { describe, expect, it } from 'vitest'
import { encode, type Word } from '../../src/bits/word.ts'
import {
  CC_INV_DSC_QW0,
  DEV_TLB_INV_DSC_QW0,
  DEV_TLB_INV_DSC_QW1,
  EXT_IOTLB_INV_DSC_QW1,
  IEC_INV_DSC_QW0,
  INV_WAIT_DSC_QW0,
  INV_WAIT_DSC_QW1,
  IOTLB_INV_DSC_QW0,
  IOTLB_INV_DSC_QW1,
  P_DEV_TLB_INV_DSC_QW0,
  P_DEV_TLB_INV_DSC_QW1,
  P_IOTLB_INV_DSC_QW0,
  P_IOTLB_INV_DSC_QW1,
  PAGE_GRP_RESP_DSC_QW0,
  PAGE_GRP_RESP_DSC_QW1,
  PC_INV_DSC_QW0,
  PGRP_RESP_DSC_QW0,
  PGRP_RESP_DSC_QW1,
} from '../../src/hw/vtd/descriptor-format.ts'
import { NO_PASID, type VtdInvalidation } from '../../src/hw/vtd/ports.ts'
import {
  DESCRIPTOR_FAULTS,
  type DescriptorFault,
  type DescriptorRules,
  readDescriptor,
  sizedRange,
} from '../../src/hw/vtd/queue/descriptors.ts'

const LEGACY: DescriptorRules = {
  width: 2,
  layout: 'legacy',
  hasDeviceTlb: true,
  hasInterruptRemapping: true,
  hasPageRequests: false,
  hasPageDrain: false,
  hasThrottling: false,
  hasPageSelective: true,
  maxOrder: 18,
}
const EXTENDED: DescriptorRules = { ...LEGACY, layout: 'extended', hasPageRequests: true }
const SCALABLE: DescriptorRules = {
  ...LEGACY,
  width: 4,
  layout: 'scalable',
  hasPageRequests: true,
  hasPageDrain: true,
}

/** Words as a unit reads them: as many as its descriptors have. */
const read = (rules: DescriptorRules, qw0: bigint, qw1 = 0n, qw2 = 0n, qw3 = 0n) =>
  readDescriptor([qw0, qw1, qw2, qw3].slice(0, rules.width), rules)
const asked = (what: Partial<VtdInvalidation>, drains = false) => ({
  kind: 'invalidate',
  drains,
  what: {
    domain: 0,
    source: 0,
    functionMask: 0,
    pasid: NO_PASID,
    address: 0n,
    order: 0,
    isLeafOnly: false,
    isGlobalToo: false,
    ...what,
  },
})

describe('descriptors as Linux writes them', () => {
  it('V16: IOTLB', () => {
    expect(read(LEGACY, 0xd2n)).toEqual(asked({ what: 'iotlb', scope: 'all' }, true))
    expect(read(LEGACY, 0x5_00e2n)).toEqual(asked({ what: 'iotlb', scope: 'domain', domain: 5 }, true))
    expect(read(LEGACY, 0x5_00f2n, 0x4020_1000n)).toEqual(
      asked({ what: 'iotlb', scope: 'fine', domain: 5, address: 0x4020_1000n }, true),
    )
    expect(read(LEGACY, 0x5_0032n, 0x4020_1049n)).toEqual(
      asked({ what: 'iotlb', scope: 'fine', domain: 5, address: 0x4020_1000n, order: 9, isLeafOnly: true }),
    )
  })

  it('V16: what is wrong with IOTLB descriptors', () => {
    expect(read(LEGACY, 0x5_01f2n)).toBe('reserved')
    expect(read(LEGACY, 0x5_00f2n, 0x80n)).toBe('reserved')
    expect(read(LEGACY, 0x5_00c2n)).toBe('granularity')
    expect(read(LEGACY, 0x5_00f2n, 19n)).toBe('address-mask')
  })

  it('V17: context cache', () => {
    const device = { what: 'context', scope: 'fine', source: 0x18 } as const
    expect(read(LEGACY, 0x0000_0018_0005_0031n)).toEqual(asked({ ...device, domain: 5 }))
    expect(read(LEGACY, 0x0000_0018_0000_0031n)).toEqual(asked({ ...device, domain: 0 }))
    expect(read(LEGACY, 0x11n)).toEqual(asked({ what: 'context', scope: 'all' }))
    expect(read(LEGACY, 0x7_0021n)).toEqual(asked({ what: 'context', scope: 'domain', domain: 7 }))
    expect(read(LEGACY, 0x0003_001d_0005_0031n)).toEqual(
      asked({ ...device, domain: 5, source: 0x1d, functionMask: 3 }),
    )
  })

  it('V18: wait', () => {
    const wait = { kind: 'wait', isFence: false, interrupts: false, drainsPages: false, address: 0n, data: 2 }
    expect(read(SCALABLE, 0x2_0000_0025n, 0x2_0000n)).toEqual({
      ...wait,
      writesStatus: true,
      address: 0x2_0000n,
    })
    expect(read(SCALABLE, 0x2_0000_00a5n)).toEqual({ ...wait, writesStatus: true, drainsPages: true })
    expect(read(SCALABLE, 0x2_0000_0045n)).toEqual({ ...wait, writesStatus: false, isFence: true })
    expect(read(SCALABLE, 0x15n)).toEqual({ ...wait, writesStatus: false, interrupts: true, data: 0 })
  })

  it('V19: PASID cache and PASID-based IOTLB', () => {
    const pasid = { domain: 1, pasid: 5 }
    expect(read(SCALABLE, 0x0000_0005_0001_0017n)).toEqual(
      asked({ what: 'pasid-cache', scope: 'fine', ...pasid }),
    )
    expect(read(SCALABLE, 0x5_0007n)).toEqual(asked({ what: 'pasid-cache', scope: 'domain', domain: 5 }))
    expect(read(SCALABLE, 0x37n)).toEqual(asked({ what: 'pasid-cache', scope: 'all' }))
    expect(read(EXTENDED, 0x5_0017n)).toEqual(
      asked({ what: 'pasid-cache', scope: 'fine', domain: 5, pasid: 0 }),
    )
    expect(read(SCALABLE, 0x0000_0005_0001_0026n)).toEqual(
      asked({ what: 'pasid-iotlb', scope: 'pasid', ...pasid, isGlobalToo: true }),
    )
    expect(read(SCALABLE, 0x0000_0005_0001_0036n, 0x7f00_0020_0009n)).toEqual(
      asked({
        what: 'pasid-iotlb',
        scope: 'fine',
        ...pasid,
        address: 0x7f00_0020_0000n,
        order: 9,
        isGlobalToo: true,
      }),
    )
  })

  it('of revisions 2.x: all PASIDs of a domain, with and without global pages, and GL', () => {
    const all = { what: 'pasid-iotlb', scope: 'domain', domain: 5 } as const
    expect(read(EXTENDED, 0x5_0006n)).toEqual(asked({ ...all, isGlobalToo: true }))
    expect(read(EXTENDED, 0x5_0016n)).toEqual(asked(all))
    const page = { what: 'pasid-iotlb', scope: 'fine', domain: 5, pasid: 3, address: 0x1000n } as const
    expect(read(EXTENDED, 0x3_0005_0036n, 0x1000n)).toEqual(asked(page))
    expect(read(EXTENDED, 0x3_0005_0036n, 0x1080n)).toEqual(asked({ ...page, isGlobalToo: true }))
    expect(read(SCALABLE, 0x3_0005_0036n, 0x1080n)).toBe('reserved')
  })

  it('V13 and V14: device-TLB', () => {
    expect(read(LEGACY, 0x0000_0310_0004_0003n, 0x402f_f001n)).toEqual(
      asked({ what: 'device-tlb', scope: 'fine', source: 0x310, address: 0x4020_0000n, order: 9 }),
    )
    expect(read(SCALABLE, 0x0000_0005_0310_0048n, 0x7f00_002f_f800n)).toEqual(
      asked({
        what: 'pasid-device-tlb',
        scope: 'fine',
        source: 0x310,
        pasid: 5,
        address: 0x7f00_0020_0000n,
        order: 9,
      }),
    )
    expect(read(SCALABLE, 0x0000_0005_0310_0048n, 1n)).toEqual(
      asked({ what: 'pasid-device-tlb', scope: 'all', source: 0x310, isGlobalToo: true }),
    )
  })

  it.each([
    [0x1_2345_f800n, 0x1_2344_0000n, 0x1_2347_ffffn],
    [0x7f00_0000_3800n, 0x7f00_0000_0000n, 0x7f00_0000_7fffn],
    [0x7f00_000f_f800n, 0x7f00_0000_0000n, 0x7f00_001f_ffffn],
    [0x1800n, 0n, 0x3fffn],
    [0x800n, 0n, 0x1fffn],
    [0x1_2345_f000n, 0x1_2345_f000n, 0x1_2345_ffffn],
    [0x7fff_ffff_ffff_f800n, 0n, 0xffff_ffff_ffff_ffffn],
    [0xffff_ffff_ffff_f800n, 0n, 0xffff_ffff_ffff_ffffn],
  ])('V12, V13: the range of %x begins at %x', (qw1, first, last) => {
    const { address, order } = sizedRange(qw1 >> 12n, (qw1 & 0x800n) !== 0n)
    expect([address, address + (4096n << BigInt(order)) - 1n]).toEqual([first, last])
  })

  it('interrupt entry cache', () => {
    expect(read(LEGACY, 0x4n)).toEqual(asked({ what: 'interrupt-entry', scope: 'all' }))
    expect(read(LEGACY, 0x0000_0123_1000_0014n)).toEqual(
      asked({ what: 'interrupt-entry', scope: 'fine', address: 0x123n, order: 2 }),
    )
  })

  it('V20, V21 and V22: responses', () => {
    const response = { source: 0x310, pasid: 5, group: 7, code: 0, privateData: 0x12n }
    const group = { kind: 'respond', isStream: false }
    expect(read(EXTENDED, 0x0000_0005_0310_0019n, 0x0380_0012_0000_0000n)).toEqual({ ...group, response })
    expect(read(EXTENDED, 0x0000_0005_0310_0019n, 0x0380_0012_0000_000fn)).toEqual({
      ...group,
      response: { ...response, code: 15 },
    })
    expect(read(EXTENDED, 0x0380_0012_0300_005an, 0x7f12_3456_7100n)).toEqual({
      kind: 'respond',
      isStream: true,
      response,
    })
    const today = { ...response, privateData: 0n }
    expect(read(SCALABLE, 0x0000_0005_0310_0019n, 0x3cn)).toEqual({ ...group, response: today })
    expect(read(SCALABLE, 0x0000_0005_0310_1019n, 0x3cn)).toEqual({
      ...group,
      response: { ...today, code: 1 },
    })
    expect(read(SCALABLE, 0x0000_0005_0310_0039n, 0x3cn, 0x12n, 1n)).toEqual({
      ...group,
      response: { ...today, privateData: (1n << 64n) | 0x12n },
    })
    expect(read(SCALABLE, 0x0000_0005_0310_0009n, 0x38n)).toMatchObject({ response: { pasid: NO_PASID } })
  })
})

describe('what is refused', () => {
  /** A descriptor of each type that is right, with what its words declare. */
  const RIGHT: readonly (readonly [
    name: string,
    rules: DescriptorRules,
    words: readonly Word[],
    raw: readonly bigint[],
  ])[] = [
    ['context', LEGACY, [CC_INV_DSC_QW0], [0x11n]],
    ['iotlb', LEGACY, [IOTLB_INV_DSC_QW0, IOTLB_INV_DSC_QW1], [0x5_00f2n, 0x1000n]],
    ['device-tlb', LEGACY, [DEV_TLB_INV_DSC_QW0, DEV_TLB_INV_DSC_QW1], [0x310_0004_0003n, 0n]],
    ['interrupt-entry', LEGACY, [IEC_INV_DSC_QW0], [0x4n]],
    ['wait', LEGACY, [INV_WAIT_DSC_QW0, INV_WAIT_DSC_QW1], [0x2_0000_0025n, 0x2_0000n]],
    ['context, wide', SCALABLE, [CC_INV_DSC_QW0], [0x11n, 0n, 0n, 0n]],
    ['wait, wide', SCALABLE, [INV_WAIT_DSC_QW0, INV_WAIT_DSC_QW1], [0x25n, 0x2_0000n, 0n, 0n]],
    ['pasid-iotlb', SCALABLE, [P_IOTLB_INV_DSC_QW0, P_IOTLB_INV_DSC_QW1], [0x26n, 0n, 0n, 0n]],
    ['pasid-iotlb of 2.x', EXTENDED, [P_IOTLB_INV_DSC_QW0, EXT_IOTLB_INV_DSC_QW1], [0x6n, 0n]],
    ['pasid-cache', SCALABLE, [PC_INV_DSC_QW0], [0x37n, 0n, 0n, 0n]],
    ['pasid-device-tlb', SCALABLE, [P_DEV_TLB_INV_DSC_QW0, P_DEV_TLB_INV_DSC_QW1], [0x8n, 0n, 0n, 0n]],
    ['response', SCALABLE, [PAGE_GRP_RESP_DSC_QW0, PAGE_GRP_RESP_DSC_QW1], [0x19n, 0n, 0n, 0n]],
    ['response of 2.x', EXTENDED, [PGRP_RESP_DSC_QW0, PGRP_RESP_DSC_QW1], [0x19n, 0n]],
  ]

  it.each(RIGHT)('a reserved bit of %s, wherever it is', (_name, rules, words, raw) => {
    expect(readDescriptor(raw, rules)).toBeTypeOf('object')
    const isType = (place: number, bit: number) => place === 0 && bit >= 9 && bit <= 11
    for (let place = 0; place < raw.length; place++) {
      for (let bit = 0; bit < 64; bit++) {
        const field = Object.values(words[place]?.fields ?? {}).find((f) => f.lo <= bit && bit <= f.hi)
        if (field !== undefined && field.access !== 'rsvd') continue
        const wrong = raw.map((word, i) => (i === place ? word | (1n << BigInt(bit)) : word))
        expect(readDescriptor(wrong, rules), `bit ${bit} of word ${place}`).toBe(
          isType(place, bit) ? 'type' : 'reserved',
        )
      }
    }
  })

  it.each(RIGHT)('a type of %s above 15', (_name, rules, _words, raw) => {
    expect(readDescriptor([(raw[0] as bigint) | (1n << 9n), ...raw.slice(1)], rules)).toBe('type')
  })

  it.each([
    ['no type', LEGACY, 0n],
    ['an unknown type', SCALABLE, 0xbn],
    ['a device-TLB without ECAP.DT', { ...LEGACY, hasDeviceTlb: false }, 0x3n],
    ['interrupt entries without ECAP.IR', { ...LEGACY, hasInterruptRemapping: false }, 0x4n],
    ['PASIDs in a legacy unit', LEGACY, 0x26n],
    ['PASIDs in 128 bits of today', { ...SCALABLE, width: 2 }, 0x26n],
    ['a PASID cache in a legacy unit', LEGACY, 0x37n],
    ['a device-TLB with PASID without ECAP.DT', { ...SCALABLE, hasDeviceTlb: false }, 0x8n],
    ['a response without ECAP.PRS', { ...SCALABLE, hasPageRequests: false }, 0x19n],
    ['a stream response today', SCALABLE, 0xan],
    ['a stream response without ECAP.PRS', { ...EXTENDED, hasPageRequests: false }, 0xan],
  ] as const)('%s: type', (_what, rules, qw0) => {
    expect(read(rules, qw0)).toBe('type')
  })

  it.each([
    ['context', LEGACY, 0x1n],
    ['IOTLB', LEGACY, 0x2n],
    ['PASID-based IOTLB, all', SCALABLE, 0x6n],
    ['PASID-based IOTLB, all but global', SCALABLE, 0x16n],
    ['PASID cache', SCALABLE, 0x27n],
    ['PASID cache of 2.x, global', EXTENDED, 0x37n],
  ] as const)('%s: granularity', (_what, rules, qw0) => {
    expect(read(rules, qw0)).toBe('granularity')
  })

  it('a bit that a capability lacks is reserved', () => {
    expect(read(LEGACY, 0xa5n)).toBe('reserved')
    expect(read({ ...LEGACY, hasPageDrain: true }, 0xa5n)).toMatchObject({ drainsPages: true })
    for (const [rules, qw0] of [
      [LEGACY, encode(DEV_TLB_INV_DSC_QW0, { TYPE: 3n, PFSID_LO: 1n })],
      [LEGACY, encode(DEV_TLB_INV_DSC_QW0, { TYPE: 3n, PFSID_HI: 1n })],
      [SCALABLE, encode(P_DEV_TLB_INV_DSC_QW0, { TYPE: 8n, PFSID_LO: 1n })],
    ] as const) {
      expect(read(rules, qw0)).toBe('reserved')
      expect(read({ ...rules, hasThrottling: true }, qw0)).toBeTypeOf('object')
    }
  })

  it('pages become their domain where the unit has no page-selective invalidation', () => {
    expect(read({ ...LEGACY, hasPageSelective: false }, 0x5_0032n, 63n)).toEqual(
      asked({ what: 'iotlb', scope: 'domain', domain: 5 }),
    )
  })

  /** Two things wrong at once: which one counts. */
  const ORDER: Record<DescriptorFault, readonly (readonly [DescriptorRules, bigint, bigint])[]> = {
    type: [
      [LEGACY, 0xffff_ffff_ffff_f00fn, 0n],
      [LEGACY, 0xffff_0000_0000_0006n, 0n],
    ],
    reserved: [
      [LEGACY, 0x101n & ~0x30n, 0n],
      [LEGACY, 0x102n, 0n],
      [LEGACY, 0x5_01f2n, 19n],
      [SCALABLE, 0x46n, 0n],
    ],
    granularity: [[LEGACY, 0x2n, 19n]],
    'address-mask': [[LEGACY, 0x5_00f2n, 19n]],
  }
  it.each(Object.entries(ORDER))('%s comes in its place', (fault, cases) => {
    for (const [rules, qw0, qw1] of cases) expect(read(rules, qw0, qw1)).toBe(fault)
  })

  it('each has an error of IQERCD', () => {
    const errors = Object.values(DESCRIPTOR_FAULTS).map(({ error }) => error)
    expect(errors).toEqual([3, 4, 4, 4])
  })
})
