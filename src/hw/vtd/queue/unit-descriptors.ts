import { DESCRIPTOR_TYPE } from '../descriptor-format.ts'
import { type Descriptor, type DescriptorFault, type DescriptorRules, readDescriptor } from './descriptors.ts'

/** A descriptor that is taken, and does nothing; or one that ends QEMU's process. */
export type UnitDescriptor = Descriptor | DescriptorFault | { readonly kind: 'nothing' | 'dies' }

const NOTHING = { kind: 'nothing' } as const
/** SW, IF and FN of a wait descriptor. */
const SW = 0x20n
const IF = 0x10n
const FN = 0x40n
/** PP and PDP of a response. */
const PP = 0x10n
const PDP = 0x20n
/** Types that QEMU has looked at without caring for the capability they need. */
const ALWAYS_THERE: readonly number[] = [
  DESCRIPTOR_TYPE.DEVICE_TLB,
  DESCRIPTOR_TYPE.INTERRUPT_ENTRY,
  DESCRIPTOR_TYPE.PASID_DEVICE_TLB,
]

/** Errata of the descriptors, read once. */
interface Quirks {
  readonly isOld: boolean
  readonly ignoresCapabilities: boolean
  readonly takesAnyPasidCache: boolean
  readonly refusesFence: boolean
  readonly refusesNothing: boolean
  readonly diesOfBoth: boolean
  readonly limitsPasidOrder: boolean
  readonly needsResponsePasid: boolean
  readonly refusesPrivateData: boolean
  readonly takesNarrowResponses: boolean
}

/** Descriptors as a unit takes them, with its errata. (QEMU hw/i386/intel_iommu.c, vtd_process_inv_desc) */
export class UnitDescriptors {
  readonly #rules: DescriptorRules
  readonly #quirks: Quirks

  constructor(rules: DescriptorRules, has: (id: string) => boolean) {
    this.#quirks = {
      isOld: has('D13'),
      ignoresCapabilities: has('D88'),
      takesAnyPasidCache: has('D40'),
      refusesFence: has('D87'),
      refusesNothing: has('D101'),
      diesOfBoth: has('D89'),
      limitsPasidOrder: has('D38'),
      needsResponsePasid: has('D90'),
      refusesPrivateData: has('D112'),
      takesNarrowResponses: has('D115'),
    }
    this.#rules = rules
  }

  read(words: readonly bigint[]): UnitDescriptor {
    const { isOld, ignoresCapabilities } = this.#quirks
    const first = words[0] ?? 0n
    if (isOld) return this.#readOld(words)
    const type = Number(first & 0xfn) | (Number((first >> 9n) & 7n) << 4)
    const isThere = ignoresCapabilities && ALWAYS_THERE.includes(type)
    const rules = isThere ? { ...this.#rules, hasDeviceTlb: true, hasInterruptRemapping: true } : this.#rules
    if (type === DESCRIPTOR_TYPE.PASID_CACHE && this.#quirks.takesAnyPasidCache) {
      if (rules.layout !== 'scalable') return 'type'
      const found = readDescriptor(words, rules)
      return typeof found === 'string' ? NOTHING : found
    }
    if (type === DESCRIPTOR_TYPE.GROUP_RESPONSE && this.#quirks.needsResponsePasid) {
      return this.#response(words, { ...rules, hasPageRequests: true })
    }
    const found = readDescriptor(words, rules)
    return type === DESCRIPTOR_TYPE.PASID_IOTLB ? this.#bounded(found) : this.#waited(found, first)
  }

  #response(words: readonly bigint[], rules: DescriptorRules): UnitDescriptor {
    const { refusesPrivateData, takesNarrowResponses } = this.#quirks
    const first = words[0] ?? 0n
    if ((first & PP) === 0n || (refusesPrivateData && (first & PDP) !== 0n)) return 'reserved'
    const taken = refusesPrivateData ? words.map((word, i) => (i < 2 ? word : 0n)) : words
    return readDescriptor(taken, takesNarrowResponses ? { ...rules, width: 4 } : rules)
  }

  /** Until 10.0: the type has four bits, words 2 and 3 are not looked at, and what is about PASIDs does nothing. */
  #readOld(words: readonly bigint[]): UnitDescriptor {
    const first = words[0] ?? 0n
    const type = Number(first & 0xfn)
    const rules = { ...this.#rules, width: 2, hasDeviceTlb: true, hasInterruptRemapping: true } as const
    switch (type) {
      case DESCRIPTOR_TYPE.PASID_IOTLB:
      case DESCRIPTOR_TYPE.PASID_CACHE:
        return NOTHING
      case DESCRIPTOR_TYPE.INTERRUPT_ENTRY:
        // Its reserved bits are not looked at.
        return readDescriptor([first & 0x0000_ffff_f800_001fn, 0n], rules)
      case DESCRIPTOR_TYPE.CONTEXT:
      case DESCRIPTOR_TYPE.IOTLB:
      case DESCRIPTOR_TYPE.DEVICE_TLB:
      case DESCRIPTOR_TYPE.WAIT: {
        const found = readDescriptor(words.slice(0, 2), rules)
        return this.#waited(found === 'type' ? 'reserved' : found, first)
      }
      default:
        return 'type'
    }
  }

  #waited(found: Descriptor | DescriptorFault, first: bigint): UnitDescriptor {
    if (typeof found === 'string' || found.kind !== 'wait') return found
    if (this.#quirks.diesOfBoth && (first & SW) !== 0n && (first & IF) !== 0n) return { kind: 'dies' }
    const isFence = !found.writesStatus && !found.interrupts
    const isNothing = isFence && (first & FN) === 0n && this.#quirks.refusesNothing
    return isNothing || (isFence && this.#quirks.refusesFence) ? 'reserved' : found
  }

  #bounded(found: Descriptor | DescriptorFault): UnitDescriptor {
    if (typeof found === 'string' || found.kind !== 'invalidate') return found
    const isTooLarge = found.what.scope === 'fine' && found.what.order > this.#rules.maxOrder
    return isTooLarge && this.#quirks.limitsPasidOrder ? 'address-mask' : found
  }
}
