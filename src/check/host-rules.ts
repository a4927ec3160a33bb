import { declareRules } from './rule.ts'

/** Promises of the host kernel about the memory of its processes. */
export const HOST_RULES = declareRules([
  {
    id: 'leak-pin',
    title: 'Memory stays pinned, or a count of mappings is off',
    promise:
      'What is pinned is unpinned: with the last registration of a region, and at the latest when nobody holds the address space any more; a mapping that goes was counted when it came.',
    advice:
      'Pages that stay pinned are lost to the host, and a device that still maps them can reach them. Look for an error path that forgets an unpin or a count, and for registrations that nobody gave back.',
    needs: ['mm.pin'],
    broken: 'scenarios/rules/leak-pin-broken.yaml',
    kept: 'scenarios/rules/leak-pin-kept.yaml',
  },
  {
    id: 'locked-vm-balance',
    title: 'locked_vm is not what was charged',
    promise:
      'locked_vm of a process is the sum of what was charged and not given back, covers every registered region, and is 0 when nobody holds the address space any more.',
    advice:
      'Too much charged makes later calls fail with ENOMEM, too little lets a process pin more than its limit. Look for an error path after the charge.',
    needs: ['mm.locked'],
    broken: 'scenarios/rules/locked-vm-balance-broken.yaml',
    kept: 'scenarios/rules/locked-vm-balance-kept.yaml',
  },
  {
    id: 'orphaned-region',
    title: 'A region is registered, and nobody owns it',
    promise: 'A registration that could not be given back is reported to its owner, who still has it.',
    advice:
      'Unmap before you unregister. The region stays pinned, charged and usable for devices until the process ends, and nobody can give it back.',
    needs: ['region.put', 'call.return'],
    broken: 'scenarios/rules/orphaned-region-broken.yaml',
    kept: 'scenarios/rules/orphaned-region-kept.yaml',
  },
])

/** A misspelt rule does not compile. */
export type HostRuleId = (typeof HOST_RULES)[number]['id']
