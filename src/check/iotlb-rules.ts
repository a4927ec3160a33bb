import { declareRules } from './rule.ts'

/** Promises of whoever fills, empties and uses the IOTLB of a vhost device. */
export const IOTLB_RULES = declareRules([
  {
    id: 'stale-iotlb',
    title: 'A vhost device keeps a translation that was taken back',
    promise:
      'When the call that clears or changes a translation has returned, or the flush behind it is done, no vhost IOTLB has the old one.',
    advice:
      'Whoever changes the table must have the vhost IOTLB invalidated before the guest goes on: a table that KVM updates tells nobody, QEMU tells listeners of UNMAP only of what is cleared, and of a flush only what it can find. What the device wrote through the old translation went to memory that may belong to somebody else.',
    needs: ['iotlb.fill'],
    broken: 'scenarios/rules/stale-iotlb-broken.yaml',
    kept: 'scenarios/rules/stale-iotlb-kept.yaml',
  },
  {
    id: 'iotlb-mismatch',
    title: 'A vhost IOTLB is given what the IOMMU does not translate',
    promise:
      'A map that enters a vhost IOTLB leads where the IOMMU leads at that moment, and lets the device do no more.',
    advice:
      'Who answers a miss must pass on the permissions of the entry, not those that make the access succeed, and must not answer from a copy that is older than the table.',
    needs: ['iotlb.fill', ['tce.set', 'domain.map']],
    broken: 'scenarios/rules/iotlb-mismatch-broken.yaml',
    kept: 'scenarios/rules/iotlb-mismatch-kept.yaml',
  },
  {
    id: 'stale-metadata',
    title: 'A vhost device reaches a ring through a pointer that is out of date',
    promise: 'A vhost device reaches memory only through a map that it has, inside the range of that map.',
    advice:
      'Pointers to rings that are remembered must be forgotten whenever an address or the number of entries of a ring changes, and with every invalidation.',
    needs: ['iotlb.use'],
    broken: 'scenarios/rules/stale-metadata-broken.yaml',
    kept: 'scenarios/rules/stale-metadata-kept.yaml',
  },
])
