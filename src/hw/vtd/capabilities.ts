import { get } from '../../bits/word.ts'
import { CAP, ECAP } from './register-format.ts'
import type { TableFeatures } from './tables/features.ts'

/** What a unit can do, as CAP and ECAP say it. */
export interface VtdFeatures extends TableFeatures {
  readonly cap: bigint
  readonly ecap: bigint
  /** CAP.ND: domain-ids. */
  readonly domains: number
  /** CAP.RWBF. */
  readonly needsWriteBufferFlush: boolean
  /** CAP.PLMR or PHMR. */
  readonly hasProtectedRegions: boolean
  /** CAP.CM. */
  readonly isCachingMode: boolean
  /** CAP.AFL. */
  readonly hasFaultLog: boolean
  /** CAP.ESRTPS, ESIRTPS. */
  readonly dropsCachesAtRoot: boolean
  readonly dropsInterruptCache: boolean
  /** CAP.PSI, MAMV. */
  readonly hasPageSelective: boolean
  readonly maxOrder: number
  /** CAP.DWD, DRD. */
  readonly drainsWrites: boolean
  readonly drainsReads: boolean
  /** CAP.NFR: fault recording registers. */
  readonly faultRecords: number
  /** Byte offsets of the fault recording registers (CAP.FRO) and of IVA (ECAP.IRO). */
  readonly faultOffset: number
  readonly iotlbOffset: number
  /** ECAP.C: walks snoop the caches of the processor. */
  readonly isCoherent: boolean
  /** ECAP.QI. */
  readonly hasQueue: boolean
  /** ECAP.IR, EIM, MHMV. */
  readonly hasInterruptRemapping: boolean
  readonly hasExtendedInterrupts: boolean
  readonly maxHandleMask: number
  /** ECAP.DIS: deferred invalidation of revisions 2.x. */
  readonly hasDeferred: boolean
  /** ECAP.NWFS. */
  readonly hasNoWrite: boolean
  /** ECAP.PSS + 1. */
  readonly pasidBits: number
  /** ECAP.DIT. */
  readonly hasThrottling: boolean
  /** ECAP.PDS. */
  readonly hasPageDrain: boolean
  /** ECAP.VCS. */
  readonly hasVirtualCommands: boolean
}

const OFFSET_SHIFT = 4

/**
 * What the capability registers of a unit say.
 *
 * @param hostAddressBits width of the addresses in its tables (HAW), which no register tells
 *
 * @example featuresOf(0x00d2_008c_2226_0206n, 0xf0_0f4an, 39).maxAddressBits // 39
 */
export function featuresOf(cap: bigint, ecap: bigint, hostAddressBits: number): VtdFeatures {
  const c = (field: keyof typeof CAP.fields) => Number(get(CAP, cap, field))
  const e = (field: keyof typeof ECAP.fields) => Number(get(ECAP, ecap, field))
  const has = (field: keyof typeof ECAP.fields) => e(field) === 1
  return Object.freeze({
    cap,
    ecap,
    hostAddressBits,
    domains: 2 ** (4 + 2 * c('ND')),
    needsWriteBufferFlush: c('RWBF') === 1,
    hasProtectedRegions: c('PLMR') === 1 || c('PHMR') === 1,
    isCachingMode: c('CM') === 1,
    hasZeroLengthReads: c('ZLR') === 1,
    hasFaultLog: c('AFL') === 1,
    dropsCachesAtRoot: c('ESRTPS') === 1,
    dropsInterruptCache: c('ESIRTPS') === 1,
    sagaw: c('SAGAW'),
    maxAddressBits: c('MGAW') + 1,
    hasSecond2M: (c('SLLPS') & 1) !== 0,
    hasSecond1G: (c('SLLPS') & 2) !== 0,
    hasPageSelective: c('PSI') === 1,
    maxOrder: c('MAMV'),
    drainsWrites: c('DWD') === 1,
    drainsReads: c('DRD') === 1,
    hasFirst1G: c('FL1GP') === 1,
    hasFirst5: c('FL5LP') === 1,
    faultRecords: c('NFR') + 1,
    faultOffset: c('FRO') << OFFSET_SHIFT,
    iotlbOffset: e('IRO') << OFFSET_SHIFT,
    isCoherent: has('C'),
    hasWalkSnoop: has('SMPWCS'),
    hasQueue: has('QI'),
    hasDeviceTlb: has('DT'),
    hasInterruptRemapping: has('IR'),
    hasExtendedInterrupts: has('EIM'),
    hasPassThrough: has('PT'),
    hasSnoopControl: has('SC'),
    maxHandleMask: e('MHMV'),
    hasExtendedContext: has('ECS'),
    hasMemoryTypes: has('MTS'),
    hasNesting: has('NEST'),
    hasDeferred: has('DIS'),
    hasPageRequests: has('PRS'),
    hasExecute: has('ERS'),
    hasSupervisor: has('SRS'),
    hasNoWrite: has('NWFS'),
    hasExtendedAccessed: has('EAFS'),
    hasPasid: has('PASID'),
    pasidBits: e('PSS') + 1,
    hasThrottling: has('DIT'),
    hasPageDrain: has('PDS'),
    hasScalableMode: has('SMTS'),
    hasVirtualCommands: has('VCS'),
    hasSecondAccessedDirty: has('SLADS'),
    hasSecondLevel: has('SLTS'),
    hasFirstLevel: has('FLTS'),
    hasRidPasid: has('RPS'),
    hasRidPrivilege: has('RPRIVS'),
    hasAbortMode: has('ADMS'),
  })
}

/** A unit that is known: what its capability registers say. */
export interface VtdPreset {
  readonly doc: string
  /** VER: major version << 4 | minor version. */
  readonly version: number
  readonly cap: bigint
  readonly ecap: bigint
  /** Width of the addresses in its tables (HAW). */
  readonly hostAddressBits: number
  readonly source: string
}

const QEMU_72 = 'QEMU 7.2 hw/i386/intel_iommu.c, vtd_init; run on 7.2.22'
const QEMU_10 = 'QEMU 10.0 hw/i386/intel_iommu.c, vtd_cap_init; run on 10.0.2'
const QEMU_11 = 'run on QEMU 11.1.3'

const qemu = (doc: string, cap: bigint, ecap: bigint, source = QEMU_72): VtdPreset => ({
  doc,
  version: 0x10,
  cap,
  ecap,
  hostAddressBits: Number(get(CAP, cap, 'MGAW')) + 1,
  source,
})

/** Units by name: QEMU's with its options, and some of hardware. */
export const PRESETS = Object.freeze({
  qemu: qemu('QEMU 7.2, as it is without options.', 0x00d2_008c_2226_0206n, 0xf0_0f4an),
  'qemu-caching-mode': qemu('QEMU 7.2, caching-mode=on.', 0x00d2_008c_2226_0286n, 0xf0_0f4an),
  'qemu-48': qemu('QEMU 7.2, aw-bits=48.', 0x00d2_008c_222f_0606n, 0xf0_0f4an),
  'qemu-48-caching-mode': qemu('QEMU 7.2, aw-bits=48,caching-mode=on.', 0x00d2_008c_222f_0686n, 0xf0_0f4an),
  'qemu-device-iotlb': qemu('QEMU 7.2, device-iotlb=on.', 0x00d2_008c_2226_0206n, 0xf0_0f4en),
  'qemu-eim-device-iotlb': qemu(
    'QEMU 7.2, eim=on,device-iotlb=on (with x-buggy-eim=on under TCG).',
    0x00d2_008c_2226_0206n,
    0xf0_0f5en,
  ),
  'qemu-no-intremap': qemu('QEMU 7.2, intremap=off.', 0x00d2_008c_2226_0206n, 0xf42n),
  'qemu-scalable': qemu('QEMU 7.2, x-scalable-mode=on.', 0x00d2_008c_2226_0206n, 0x4800_80f0_0f4an),
  'qemu-scalable-pasid': qemu(
    'QEMU 7.2, x-scalable-mode=on,x-pasid-mode=on.',
    0x00d2_008c_2226_0206n,
    0x4900_80f0_0f4an,
  ),
  'qemu-first-level': qemu(
    'QEMU 10.0.2, aw-bits=48,x-scalable-mode=on,x-flts=on,fs1gp=on,intremap=off.',
    0x01d2_008c_222f_0606n,
    0x8800_0000_0f42n,
    QEMU_10,
  ),
  'qemu-11-first-level': qemu(
    'QEMU 11.1.3, aw-bits=48,scalable-mode=on,fsts=on,intremap=off.',
    0x81d2_008c_222f_0606n,
    0x8800_0000_0f42n,
    QEMU_11,
  ),
  'qemu-11-pasid': qemu(
    'QEMU 11.1.3, the same with pasid-bits=20.',
    0x81d2_008c_222f_0606n,
    0x8998_0000_0f42n,
    QEMU_11,
  ),
  'qemu-11-svm': qemu(
    'QEMU 11.1.3, the same with pasid-bits=20,svm=on,device-iotlb=on.',
    0x81d2_008c_222f_0606n,
    0x8d9a_2000_0f46n,
    QEMU_11,
  ),
  'intel-4-series': {
    doc: 'Intel 4 Series chipset (2008): no invalidation queue, no pass-through, no snoop control.',
    version: 0x10,
    cap: 0xc9_0080_20e3_0260n,
    ecap: 0x1000n,
    hostAddressBits: 36,
    source: 'Linux boot log: "ver 1:0 cap c9008020e30260 ecap 1000"',
  },
  skylake: {
    doc: 'Skylake and later client processors, the unit of most devices.',
    version: 0x10,
    cap: 0xd2_008c_4066_0462n,
    ecap: 0xf0_50dan,
    hostAddressBits: 39,
    source: 'Linux boot log: "ver 1:0 cap d2008c40660462 ecap f050da"',
  },
  'skylake-graphics': {
    doc: 'Skylake graphics: extended root and context entries, PASIDs and page requests of revisions 2.x.',
    version: 0x10,
    cap: 0x1c0_000c_4066_0462n,
    ecap: 0x19e_2ff0_505en,
    hostAddressBits: 39,
    source: 'Linux boot log: "ver 1:0 cap 1c0000c40660462 ecap 19e2ff0505e"',
  },
  'sapphire-rapids': {
    doc: 'Sapphire Rapids servers: scalable mode with both levels of 4 and 5 levels, nested.',
    version: 0x60,
    cap: 0x19ed_008c_4078_0c66n,
    ecap: 0x3_ee9e_86f0_50dfn,
    hostAddressBits: 52,
    source: 'Linux boot log: "Host address width 52", "ver 6:0 cap 19ed008c40780c66 ecap 3ee9e86f050df"',
  },
  'every-feature': {
    doc: 'No real unit: Sapphire Rapids with PASIDs, page requests, execute requests and eight fault recording registers.',
    version: 0x60,
    cap: 0x19ed_078c_4078_0c66n,
    ecap: 0x33_ff9e_e6f0_50dfn,
    hostAddressBits: 52,
    source: 'the fields of the manual',
  },
} satisfies Record<string, VtdPreset>)
export type VtdPresetName = keyof typeof PRESETS
