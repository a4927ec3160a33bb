import { IommulatorError } from '../bits/errors.ts'
import { knownText } from '../bits/suggest.ts'
import { AllocatorDrift } from './allocator-drift.ts'
import { DeviceUse } from './device-use.ts'
import { DoubleMap } from './double-map.ts'
import { ForeignMemory } from './foreign-memory.ts'
import { LeakMapping } from './leak-mapping.ts'
import { LeakPin } from './leak-pin.ts'
import type { CheckerOptions } from './listed-checker.ts'
import { LockedVmBalance } from './locked-vm-balance.ts'
import { MappedBalance } from './mapped-balance.ts'
import { NotModelled } from './not-modelled.ts'
import { OrphanedRegion } from './orphaned-region.ts'
import { OutOfTable } from './out-of-table.ts'
import { RangeMismatch } from './range-mismatch.ts'
import type { Checker } from './rule.ts'
import { RULES, type RuleId } from './rules.ts'
import { StaleIotlb } from './stale-iotlb.ts'
import { StaleTce } from './stale-tce.ts'
import { Stopped } from './stopped.ts'
import { SvmBindings } from './svm-bindings.ts'
import { SvmMemory } from './svm-memory.ts'
import { SvmRequests } from './svm-requests.ts'
import { TableReferenceLeak } from './table-reference-leak.ts'
import { UnmapMiss } from './unmap-miss.ts'
import { VtdCaches } from './vtd-caches.ts'
import { VtdRegisters } from './vtd-registers.ts'
import { VtdStructures } from './vtd-structures.ts'

/** Who judges each rule. A rule without a checker does not compile. */
const CHECKERS: Readonly<Record<RuleId, new (options: CheckerOptions) => Checker>> = {
  'use-after-unmap': DeviceUse,
  'dma-not-granted': DeviceUse,
  'foreign-memory': ForeignMemory,
  'double-map': DoubleMap,
  'unmap-miss': UnmapMiss,
  'leak-mapping': LeakMapping,
  'allocator-drift': AllocatorDrift,
  'out-of-table': OutOfTable,
  'leak-pin': LeakPin,
  'mapped-balance': MappedBalance,
  'locked-vm-balance': LockedVmBalance,
  'orphaned-region': OrphanedRegion,
  'range-mismatch': RangeMismatch,
  'stale-tce': StaleTce,
  'table-reference-leak': TableReferenceLeak,
  'host-memory-corruption': OutOfTable,
  'stale-iotlb': StaleIotlb,
  'iotlb-mismatch': StaleIotlb,
  'stale-metadata': StaleIotlb,
  'stale-translation': VtdCaches,
  'stale-context': VtdCaches,
  'stale-device-tlb': VtdCaches,
  'freed-table-walked': VtdCaches,
  'early-reuse': VtdCaches,
  'flush-order': VtdCaches,
  'entry-order': VtdStructures,
  'reserved-domain': VtdStructures,
  'reserved-descriptor': VtdRegisters,
  'cache-survives': VtdCaches,
  'unit-registers': VtdRegisters,
  'page-request-answer': SvmRequests,
  'lost-interrupt': SvmRequests,
  'dead-page-table': SvmMemory,
  'mm-kept-alive': SvmMemory,
  'pasid-crosstalk': SvmBindings,
  'mm-lifetime': SvmMemory,
  'svm-bookkeeping': SvmBindings,
  'use-after-unbind': SvmBindings,
  'kernel-pasid-non-linear': SvmBindings,
  stopped: Stopped,
  unmodelled: NotModelled,
}

export const RULE_IDS: readonly RuleId[] = RULES.map((rule) => rule.id)

/** The rules of a list of names, each once and in the order of the declarations. @throws IommulatorError ERR_RULE */
export function ruleIds(names: readonly string[]): readonly RuleId[] {
  for (const name of names) {
    if (RULE_IDS.some((id) => id === name)) continue
    const hint = knownText(name, RULE_IDS, 'iommulator rules')
    throw new IommulatorError('ERR_RULE', `no rule is called "${name}"${hint}`, { field: 'rules' })
  }
  return RULE_IDS.filter((id) => names.includes(id))
}

/**
 * The checkers that judge some rules, or all. One checker may judge two rules: its findings say which.
 *
 * @throws IommulatorError ERR_RULE
 */
export function checkersFor(
  options: CheckerOptions,
  rules: readonly string[] = RULE_IDS,
): readonly Checker[] {
  const makers = new Set(ruleIds(rules).map((id) => CHECKERS[id]))
  return [...makers].map((make) => new make(options))
}
