import { compareVersions } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { didYouMean } from '../../bits/suggest.ts'

/** Which tables a unit offers. */
export const VTD_UNIT_MODES = ['legacy', 'scalable', 'first-level'] as const
export type VtdUnitMode = (typeof VTD_UNIT_MODES)[number]

/** The unit that a script runs on. */
export interface VtdUnitOptions {
  readonly mode: VtdUnitMode
  /** Bits of a bus address. */
  readonly addressBits: 39 | 48
  readonly hasCachingMode: boolean
  readonly hasDeviceTlb: boolean
  readonly hasPassThrough: boolean
  readonly hasInterruptRemapping: boolean
  readonly hasSnoopControl: boolean
  /** First-level pages of 1 GiB. */
  readonly hasFirstLevel1G: boolean
  /** Shared virtual memory: PASIDs of 20 bits, and page requests. */
  readonly hasPageRequests: boolean
}

export const PLAIN_VTD_UNIT: VtdUnitOptions = Object.freeze({
  mode: 'legacy',
  addressBits: 39,
  hasCachingMode: false,
  hasDeviceTlb: false,
  hasPassThrough: true,
  hasInterruptRemapping: false,
  hasSnoopControl: false,
  hasFirstLevel1G: true,
  hasPageRequests: false,
})

/** First-level tables are in QEMU from here on, and from there on without the `x-`. */
const FIRST_LEVEL_SINCE = '10.0'
const STABLE_NAMES_SINCE = '11.0'
/** The first that is known to have them. */
const PAGE_REQUESTS_SINCE = '11.0'

/** What differs from a plain unit, by the word that says so. */
const WORDS: readonly (readonly [word: string, change: Partial<VtdUnitOptions>])[] = [
  ['aw39', { addressBits: 39 }],
  ['aw48', { addressBits: 48 }],
  ['cm', { hasCachingMode: true }],
  ['dt', { hasDeviceTlb: true }],
  ['no-pt', { hasPassThrough: false }],
  ['ir', { hasInterruptRemapping: true }],
  ['sc', { hasSnoopControl: true }],
  ['no-1g', { hasFirstLevel1G: false }],
  ['svm', { hasPageRequests: true }],
]

const ALL_WORDS = [...VTD_UNIT_MODES, ...WORDS.map(([word]) => word)]

/** A unit as a script names it: the mode, then what is not as in a plain one, such as `legacy,aw48,cm`. */
export function formatVtdUnit(unit: VtdUnitOptions): string {
  const isSo = ([, change]: (typeof WORDS)[number]): boolean =>
    Object.entries(change).every(([key, value]) => unit[key as keyof VtdUnitOptions] === value)
  return [unit.mode, ...WORDS.filter(isSo).map(([word]) => word)].join(',')
}

/**
 * Reads what `formatVtdUnit` writes.
 *
 * @throws IommulatorError ERR_OPERATION for a word that says nothing
 */
export function readVtdUnit(text: string): VtdUnitOptions {
  let unit: VtdUnitOptions = PLAIN_VTD_UNIT
  for (const word of text.split(',')) {
    const change = WORDS.find(([known]) => known === word)?.[1]
    const mode = VTD_UNIT_MODES.find((known) => known === word)
    if (change === undefined && mode === undefined) {
      const known = `known: ${ALL_WORDS.join(', ')}`
      throw new IommulatorError(
        'ERR_OPERATION',
        `"${word}" is nothing of a unit${didYouMean(word, ALL_WORDS)}; ${known}`,
      )
    }
    unit = { ...unit, ...change, ...(mode !== undefined && { mode }) }
  }
  return unit
}

/** Why that QEMU has no such unit; undefined where it has. */
export function vtdUnitRefusal(unit: VtdUnitOptions, version: string): string | undefined {
  if (!unit.hasPassThrough && compareVersions(version, STABLE_NAMES_SINCE) >= 0) {
    return `QEMU ${version} cannot leave pass-through out`
  }
  if (unit.hasPageRequests) {
    if (compareVersions(version, PAGE_REQUESTS_SINCE) < 0) return `QEMU ${version} has no page requests`
    if (unit.mode !== 'first-level') return 'QEMU has page requests with first-level tables only'
    if (!unit.hasDeviceTlb) return 'QEMU has page requests with a device-TLB (dt) only'
  }
  if (unit.mode !== 'first-level') return undefined
  if (compareVersions(version, FIRST_LEVEL_SINCE) < 0) {
    return `QEMU ${version} has no first-level tables: they came with ${FIRST_LEVEL_SINCE}`
  }
  return unit.addressBits === 48 ? undefined : 'QEMU has first-level tables with 48 bits of address only'
}

const onOff = (isOn: boolean): string => (isOn ? 'on' : 'off')

/** The `-device` argument of QEMU. */
export function vtdDeviceArgument(unit: VtdUnitOptions, version: string): string {
  const isStable = compareVersions(version, STABLE_NAMES_SINCE) >= 0
  const [scalable, firstLevel] = isStable ? ['scalable-mode', 'fsts'] : ['x-scalable-mode', 'x-flts']
  return [
    'intel-iommu',
    `aw-bits=${unit.addressBits}`,
    `caching-mode=${onOff(unit.hasCachingMode)}`,
    `device-iotlb=${onOff(unit.hasDeviceTlb)}`,
    ...(unit.hasPassThrough ? [] : ['pt=off']),
    `intremap=${onOff(unit.hasInterruptRemapping)}`,
    `snoop-control=${onOff(unit.hasSnoopControl)}`,
    ...(unit.mode === 'legacy' ? [] : [`${scalable}=on`]),
    ...(unit.mode === 'first-level' ? [`${firstLevel}=on`] : []),
    ...(unit.mode === 'first-level' && !unit.hasFirstLevel1G ? ['fs1gp=off'] : []),
    ...(unit.hasPageRequests ? ['svm=on', 'pasid-bits=20'] : []),
  ].join(',')
}

/** Parts of the capability registers. (QEMU 7.2 to 11.1 hw/i386/intel_iommu.c, seen in their registers) */
const CAP_BASE = 0x00d2_008c_2200_0006n
const CAP_CM = 1n << 7n
const CAP_39 = (0x2n << 8n) | (38n << 16n)
const CAP_48 = (0x6n << 8n) | (47n << 16n)
const CAP_FS1GP = 1n << 56n
const CAP_ESRTPS = 1n << 63n
const ECAP_BASE = 0xf02n
const ECAP_DT = 1n << 2n
const ECAP_IR = (1n << 3n) | (0xfn << 20n)
const ECAP_PT = 1n << 6n
const ECAP_SC = 1n << 7n
const ECAP_SRS = 1n << 31n
const ECAP_SMTS = 1n << 43n
const ECAP_SLTS = 1n << 46n
const ECAP_FLTS = 1n << 47n
/** PRS, NWFS, PSS of 20 bits, PASID, PDS. */
const ECAP_SVM = (1n << 29n) | (1n << 33n) | (19n << 35n) | (1n << 40n) | (1n << 42n)

/** CAP and ECAP as that QEMU has them. */
export function vtdCapabilities(
  unit: VtdUnitOptions,
  version: string,
): { readonly cap: bigint; readonly ecap: bigint } {
  const when = (isSo: boolean, bits: bigint): bigint => (isSo ? bits : 0n)
  const isFirst = unit.mode === 'first-level'
  const isStable = compareVersions(version, STABLE_NAMES_SINCE) >= 0
  return {
    cap:
      CAP_BASE |
      (unit.addressBits === 39 ? CAP_39 : CAP_48) |
      when(unit.hasCachingMode, CAP_CM) |
      when(isFirst && unit.hasFirstLevel1G, CAP_FS1GP) |
      when(isStable, CAP_ESRTPS),
    ecap:
      ECAP_BASE |
      when(unit.hasDeviceTlb, ECAP_DT) |
      when(unit.hasInterruptRemapping, ECAP_IR) |
      when(unit.hasPassThrough, ECAP_PT) |
      when(unit.hasSnoopControl, ECAP_SC) |
      when(unit.mode === 'scalable', ECAP_SMTS | ECAP_SRS | ECAP_SLTS) |
      when(isFirst, ECAP_SMTS | ECAP_FLTS) |
      when(unit.hasPageRequests, ECAP_SVM),
  }
}
