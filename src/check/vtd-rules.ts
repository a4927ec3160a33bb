import { declareRules } from './rule.ts'

/** Promises of the software and the hardware around a VT-d unit: what is forgotten when, and what is written how. */
export const VTD_RULES = declareRules([
  {
    id: 'stale-translation',
    title: 'A VT-d unit uses a translation that the page tables no longer have',
    promise:
      'A translation that changed in the page tables is used no more once it changed: an invalidation that covers it takes it from the caches first.',
    advice:
      'Have the unit forget what changed before anybody may rely on it, with an invalidation that names all of it: the finding names the smallest. A hint that only leaves changed (IH) leaves what leads to tables; a flush that is put off leaves the device this window.',
    needs: [
      ['vtd.word', 'domain.map'],
      ['vtd.translate', 'domain.flush'],
    ],
    broken: 'scenarios/rules/stale-translation-broken.yaml',
    kept: 'scenarios/rules/stale-translation-kept.yaml',
  },
  {
    id: 'stale-context',
    title: 'A VT-d unit uses a context or PASID entry that has changed',
    promise:
      'A context entry or a PASID entry that changed is used no more: the context-cache or the PASID-cache was invalidated for it.',
    advice:
      'Name the domain that the entry had before: of an entry that was not present it is domain 0 where the unit is in caching mode. The IOTLB of that domain has to follow.',
    needs: ['vtd.word', 'vtd.context', 'vtd.translate'],
    broken: 'scenarios/rules/stale-context-broken.yaml',
    kept: 'scenarios/rules/stale-context-kept.yaml',
  },
  {
    id: 'stale-device-tlb',
    title: 'A device uses a translation of its own TLB that the page tables no longer have',
    promise:
      'A translation that changed is used no more by a device with ATS: its TLB was invalidated after the IOTLB.',
    advice:
      'The IOTLB is not enough for a device that has ATS enabled: send it a device-TLB invalidation, with its PASID where it has one, and wait for its completion.',
    needs: ['vtd.word', 'vtd.fill', 'vtd.translate'],
    broken: 'scenarios/rules/stale-device-tlb-broken.yaml',
    kept: 'scenarios/rules/stale-device-tlb-kept.yaml',
  },
  {
    id: 'freed-table-walked',
    title: 'A VT-d unit walks a page table that was given back',
    promise: 'No page that a driver, or a process, gave back is read as a table.',
    advice:
      'Something still leads there: an entry that was not cleared, or one that a cache holds. Whoever has the page by now decides what devices reach.',
    needs: [['vtd.table', 'mm.table'], 'vtd.walk'],
    broken: 'scenarios/rules/freed-table-walked-broken.yaml',
    kept: 'scenarios/rules/freed-table-walked-kept.yaml',
  },
  {
    id: 'early-reuse',
    title: 'A page goes to another owner while a VT-d unit may still reach it',
    promise:
      'A page that was mapped, or held a page table, goes to another owner only when an invalidation of what led there is complete.',
    advice:
      'Free the page behind the invalidation wait, not behind the write to the table: until then the unit, or a device with ATS, may use what it remembers.',
    needs: ['vtd.word', ['page.own', 'vtd.table', 'mm.table']],
    broken: 'scenarios/rules/early-reuse-broken.yaml',
    kept: 'scenarios/rules/early-reuse-kept.yaml',
  },
  {
    id: 'flush-order',
    title: 'The TLB of a device was flushed before the IOTLB',
    promise:
      'Of a translation that changed the IOTLB is invalidated first, and the TLB of the device behind it.',
    advice:
      'Between the two the device may ask again, and is answered from the IOTLB with what was taken back: send the device-TLB invalidation behind that of the IOTLB.',
    needs: ['vtd.word', 'vtd.fill', 'domain.flush'],
    broken: 'scenarios/rules/flush-order-broken.yaml',
    kept: 'scenarios/rules/flush-order-kept.yaml',
  },
  {
    id: 'entry-order',
    title: 'A context or PASID entry is changed while it is present',
    promise: 'Context and PASID entries of several words are written with P last, and P is cleared first.',
    advice:
      'The unit may read the entry at any moment, and finds half of the old and half of the new one. Clear P, invalidate, write the rest, set P.',
    needs: ['vtd.word', 'vtd.context'],
    broken: 'scenarios/rules/entry-order-broken.yaml',
    kept: 'scenarios/rules/entry-order-kept.yaml',
  },
  {
    id: 'reserved-domain',
    title: 'An entry has a domain-id that is reserved',
    promise:
      'No present entry of a unit in caching mode has domain 0, and no second-level PASID entry has domain 1, which is kept for first-level and pass-through entries.',
    advice:
      'A unit in caching mode keeps what is not present as domain 0, so that an invalidation of one takes or misses the other. Linux gives domains numbers from 2 on.',
    needs: [['vtd.context', 'vtd.pasid']],
    broken: 'scenarios/rules/reserved-domain-broken.yaml',
    kept: 'scenarios/rules/reserved-domain-kept.yaml',
  },
  {
    id: 'reserved-descriptor',
    title: 'Software submits a descriptor that a VT-d unit refuses',
    promise: 'No descriptor with a reserved field or of an unknown type is submitted.',
    advice:
      'The queue stops there, and nothing behind it is invalidated until software clears the error: caches keep what should be gone. Mask every field to its width.',
    needs: ['vtd.refuse'],
    broken: 'scenarios/rules/reserved-descriptor-broken.yaml',
    kept: 'scenarios/rules/reserved-descriptor-kept.yaml',
  },
  {
    id: 'cache-survives',
    title: 'A cached translation survived an invalidation that covers it',
    promise:
      'When an invalidation is complete, no cache of the unit or of a device holds anything from before that it covers.',
    advice:
      'Software did its part: the unit, or the device, kept what it was told to forget. Compare with the errata of the QEMU version.',
    needs: ['vtd.fill', 'vtd.translate', 'domain.flush'],
    broken: 'scenarios/rules/cache-survives-broken.yaml',
    kept: 'scenarios/rules/cache-survives-kept.yaml',
  },
  {
    id: 'unit-registers',
    title: 'Registers of a VT-d unit contradict each other',
    promise:
      'Heads and tails of queues lie inside their queue and are aligned, PPF says whether a fault is recorded, and an event that software has not cleared raises no second interrupt.',
    advice:
      'Where software wrote the value look at its computation (offsets are bytes, and the size of a queue does not depend on the width of its descriptors); else the unit is wrong.',
    needs: ['vtd.register'],
    broken: 'scenarios/rules/unit-registers-broken.yaml',
    kept: 'scenarios/rules/unit-registers-kept.yaml',
  },
])
