import { declareRules } from './rule.ts'

/** Promises of the host kernel about the memory of its processes, its hardware tables and what devices reach. */
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
    id: 'mapped-balance',
    title: 'A region counts mappings that are not there, or does not count some',
    promise:
      'When a call returns, regions count exactly the mappings that hardware tables have gained or lost.',
    advice:
      'A count too many keeps the memory pinned and registered for good; one too few lets it be given back while ' +
      'a device reaches it. Look for an error path that clears an entry or leaves one without the count.',
    needs: ['region.map', 'hw.set', 'call.return'],
    broken: 'scenarios/rules/mapped-balance-broken.yaml',
    kept: 'scenarios/rules/mapped-balance-kept.yaml',
  },
  {
    id: 'locked-vm-balance',
    title: 'locked_vm is not what was charged',
    promise:
      'The locked_vm of a process is the sum of what was charged and not given back, covers every registered region, and is 0 when nobody holds the address space any more.',
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
  {
    id: 'range-mismatch',
    title: 'A call did something else than its answer says',
    promise:
      'A call that answers no error has mapped, registered or given back exactly the range that it was asked for; a hypercall that is refused has changed no hardware entry.',
    advice:
      'Callers take every answer that is not below 0 for success: check it for 0. Devices fault at what was not mapped, and what was given back by mistake must be registered anew. A guest that was refused takes its pages for its own, and a device may reach them.',
    needs: ['call.return', 'hw.set'],
    broken: 'scenarios/rules/range-mismatch-broken.yaml',
    kept: 'scenarios/rules/range-mismatch-kept.yaml',
  },
  {
    id: 'stale-tce',
    title: 'A PHB remembers what the table no longer has',
    promise:
      'When the call that changes or clears hardware TCEs returns, or a window changes, no PHB still holds an entry from before.',
    advice:
      'A device reaches the old memory until the entry is dropped, whoever has it by then. Look for a kill that is missing, that names other pages, or that does not go to every PE with this table.',
    needs: ['hw.set', 'hw.fill', 'hw.kill', 'call.return'],
    broken: 'scenarios/rules/stale-tce-broken.yaml',
    kept: 'scenarios/rules/stale-tce-kept.yaml',
  },
  {
    id: 'table-reference-leak',
    title: 'A hardware table is never freed',
    promise:
      'A hardware table that no PE uses and whose maker is gone has no references: it is freed, with its memory.',
    advice: 'Look for a reference that is taken and not given back, or an owner that forgot its table.',
    needs: ['hw.table', 'hw.ref'],
    broken: 'scenarios/rules/table-reference-leak-broken.yaml',
    kept: 'scenarios/rules/table-reference-leak-kept.yaml',
  },
  {
    id: 'host-memory-corruption',
    title: 'An index leaves its hardware table, and memory of the host is overwritten',
    promise: 'Whatever is computed from an index lies inside the levels of its table.',
    advice:
      'Check the whole range against the window before the first entry is written. The model writes nothing there: on a real host anything can follow.',
    needs: ['hw.table', 'hw.set'],
    broken: 'scenarios/rules/host-memory-corruption-broken.yaml',
    kept: 'scenarios/rules/host-memory-corruption-kept.yaml',
  },
])

/** A misspelt rule does not compile. */
export type HostRuleId = (typeof HOST_RULES)[number]['id']
