import { resolveProfile } from '../bits/errata.ts'
import type { Finding } from '../check/rule.ts'
import { UNIT_ERRATA } from '../hw/vtd/unit-errata.ts'
import { INTEL_IOMMU_ERRATA } from '../kernel/intel-iommu/errata.ts'
import { SVA_ERRATA } from '../kernel/intel-iommu/sva/sva-errata.ts'
import { SVM_ERRATA } from '../kernel/intel-iommu/svm-errata.ts'
import { VTD_ERRATA } from '../kernel/qemu/vtd-errata.ts'
import { VHOST_ERRATA } from '../kernel/vhost/errata.ts'
import { ERRATA } from './registry.ts'

/** A finding as far as it says whose errata can be behind it. */
type Found = Pick<Finding, 'rule' | 'layer'>

/** Whose guests a machine has. */
type Platform = 'power' | 'x86'

/** Errata of x86 machines, and of any; all others are of POWER. */
export const X86_ERRATA: ReadonlySet<string> = new Set(
  [...VTD_ERRATA, ...UNIT_ERRATA, ...INTEL_IOMMU_ERRATA, ...SVM_ERRATA, ...SVA_ERRATA].map((e) => e.id),
)
const EVERYWHERE: ReadonlySet<string> = new Set([...VHOST_ERRATA.map((e) => e.id), 'iotlb-perm-widening'])

/**
 * The errata of a profile, and of the QEMU of a guest, that a rule is known to find: a finding of the rule may be one of
 * them, and then it is the kernel's or QEMU's fault. Where the finding says that QEMU is at fault no kernel is named,
 * and the other way round no guest's QEMU.
 *
 * @throws IommulatorError ERR_PROFILE
 * @example knownErrata('linux-6.12.95')({ rule: 'orphaned-region' }) // ['X1', ...]
 */
export function knownErrata(
  profile: string,
  guestProfile?: string,
  platform: Platform = 'power',
): (finding: Found) => readonly string[] {
  const machine = resolveProfile(ERRATA, profile)
  const guest = guestProfile === undefined ? undefined : resolveProfile(ERRATA, guestProfile)
  return ({ rule, layer }) =>
    ERRATA.filter(({ id, finding, family }) => {
      if (!EVERYWHERE.has(id) && X86_ERRATA.has(id) !== (platform === 'x86')) return false
      if (finding !== rule || (layer === 'qemu' && family !== 'qemu')) return false
      return machine.has(id) || (layer !== 'kernel' && family === 'qemu' && guest?.has(id) === true)
    }).map(({ id }) => id)
}
