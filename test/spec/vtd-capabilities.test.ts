import { describe, expect, it } from 'vitest'
import { maskOf } from '../../src/bits/word.ts'
import { featuresOf, PRESETS, type VtdPresetName } from '../../src/hw/vtd/capabilities.ts'
import { VTD_REGISTERS } from '../../src/hw/vtd/register-format.ts'

const of = (name: VtdPresetName) =>
  featuresOf(PRESETS[name].cap, PRESETS[name].ecap, PRESETS[name].hostAddressBits)

describe('what CAP and ECAP say', () => {
  it('V1: of QEMU in caching mode', () => {
    expect(featuresOf(0x00d2_008c_2226_0286n, 0n, 39)).toMatchObject({
      domains: 65536,
      isCachingMode: true,
      sagaw: 2,
      maxAddressBits: 39,
      faultOffset: 0x220,
      faultRecords: 1,
      hasSecond2M: true,
      hasSecond1G: true,
      hasPageSelective: true,
      maxOrder: 18,
      drainsWrites: true,
      drainsReads: true,
    })
  })

  it('V2: of QEMU with all of legacy mode', () => {
    expect(featuresOf(0n, 0xf0_0f5en, 39)).toMatchObject({
      hasQueue: true,
      hasDeviceTlb: true,
      hasInterruptRemapping: true,
      hasExtendedInterrupts: true,
      hasPassThrough: true,
      isCoherent: false,
      iotlbOffset: 0xf0,
      maxHandleMask: 15,
      hasPasid: false,
    })
  })

  /** What stands out of each unit: a bit of its words that is wrong shows here. */
  const LOOKS: Record<VtdPresetName, Partial<ReturnType<typeof featuresOf>>> = {
    qemu: { maxAddressBits: 39, isCachingMode: false, hasInterruptRemapping: true, hasScalableMode: false },
    'qemu-caching-mode': { maxAddressBits: 39, isCachingMode: true },
    'qemu-48': { maxAddressBits: 48, sagaw: 6, isCachingMode: false },
    'qemu-48-caching-mode': { maxAddressBits: 48, sagaw: 6, isCachingMode: true },
    'qemu-device-iotlb': { hasDeviceTlb: true, hasExtendedInterrupts: false },
    'qemu-eim-device-iotlb': { hasDeviceTlb: true, hasExtendedInterrupts: true },
    'qemu-no-intremap': { hasInterruptRemapping: false, hasQueue: true, maxHandleMask: 0 },
    'qemu-scalable': { hasScalableMode: true, hasSecondLevel: true, hasFirstLevel: false, hasPasid: false },
    'qemu-scalable-pasid': { hasScalableMode: true, hasPasid: true, pasidBits: 1 },
    'qemu-first-level': { hasFirstLevel: true, hasSecondLevel: false, hasFirst1G: true },
    'qemu-11-first-level': { hasFirstLevel: true, dropsCachesAtRoot: true, hasPasid: false },
    'qemu-11-pasid': { hasPasid: true, pasidBits: 20, hasPageRequests: false },
    'qemu-11-svm': { hasPasid: true, pasidBits: 20, hasPageRequests: true, hasDeviceTlb: true },
    'intel-4-series': { hasQueue: false, domains: 16, maxAddressBits: 36, iotlbOffset: 0x100, maxOrder: 9 },
    skylake: {
      hasQueue: true,
      maxAddressBits: 39,
      faultOffset: 0x400,
      iotlbOffset: 0x500,
      hasExtendedContext: false,
    },
    'skylake-graphics': {
      hasExtendedContext: true,
      hasPasid: true,
      pasidBits: 20,
      hasPageRequests: true,
      hasDeferred: true,
      hasScalableMode: false,
      hasPageSelective: false,
    },
    'sapphire-rapids': {
      hasScalableMode: true,
      hasNesting: true,
      hasFirstLevel: true,
      hasFirst5: true,
      sagaw: 12,
      maxAddressBits: 57,
      maxOrder: 45,
      hasPasid: false,
    },
    'every-feature': {
      hasPasid: true,
      pasidBits: 20,
      hasPageRequests: true,
      hasExecute: true,
      hasAbortMode: true,
      hasRidPrivilege: true,
      hasVirtualCommands: true,
      faultRecords: 8,
    },
  }
  it.each(Object.entries(LOOKS))('the unit %s', (name, looks) => {
    expect(of(name as VtdPresetName)).toMatchObject(looks)
  })
})

describe('registers', () => {
  it('lie on multiples of their width, and none on another', () => {
    const used = new Map<string, string>()
    for (const [name, { offset, word, ...rest }] of Object.entries(VTD_REGISTERS)) {
      const bytes = word.widthBits / 8
      expect(offset % bytes, name).toBe(0)
      for (let at = offset; at < offset + bytes; at++) {
        const place = `${'from' in rest ? rest.from : ''}${at}`
        expect(used.get(place), `${name} at ${place}`).toBeUndefined()
        used.set(place, name)
      }
    }
  })

  it.each([
    ['GCMD', 'wo', 0xff80_0000n],
    ['RTADDR', 'rw', 0xffff_ffff_ffff_fc00n],
    ['CCMD', 'rw', 0xe000_0000_0000_ffffn],
    ['CCMD', 'wo', 0x3_ffff_0000n],
    ['FSTS', 'rw1c', 0x71n],
    ['FECTL', 'rw', 0x8000_0000n],
    ['FEDATA', 'rw', 0xffffn],
    ['FEADDR', 'rw', 0xffff_fffcn],
    ['IQT', 'rw', 0x7_fff0n],
    ['IQA', 'rw', 0xffff_ffff_ffff_f807n],
    ['ICS', 'rw1c', 1n],
    ['IRTA', 'rw', 0xffff_ffff_ffff_f80fn],
    ['PQH', 'rw', 0x7_ffe0n],
    ['PQA', 'rw', 0xffff_ffff_ffff_f007n],
    ['PRS', 'rw1c', 3n],
    ['IVA', 'wo', 0xffff_ffff_ffff_f07fn],
    ['IOTLB', 'rw', 0xb003_ffff_0000_0000n],
    ['FRCD_HI', 'rw1c', 0x8000_0000_0000_0000n],
  ] as const)('%s: bits that software touches by %s', (name, access, mask) => {
    expect(maskOf(VTD_REGISTERS[name].word, access)).toBe(mask)
  })
})
