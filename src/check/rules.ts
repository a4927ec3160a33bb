import { HOST_RULES } from './host-rules.ts'
import { IOTLB_RULES } from './iotlb-rules.ts'
import { declareRules } from './rule.ts'
import { SVM_RULES } from './svm-rules.ts'
import { VTD_RULES } from './vtd-rules.ts'

/** Every promise that records are judged by. */
export const RULES = declareRules([
  {
    id: 'use-after-unmap',
    title: 'A device used a translation that was taken back',
    promise: 'Once a grant is taken back, no device uses its bus addresses, or tries to.',
    advice:
      'Stop the device or its queue before the unmap. If memory was reached, what the device wrote there ' +
      'belongs to the new owner of the page: look at what the unmap left in the table or in a cache.',
    needs: [['tce.set', 'hw.set'], 'dma.translate'],
    broken: 'scenarios/rules/use-after-unmap-broken.yaml',
    kept: 'scenarios/rules/use-after-unmap-kept.yaml',
  },
  {
    id: 'dma-not-granted',
    title: 'A device used a translation that nobody granted',
    promise: 'A device uses only bus addresses that were granted to it, in the direction granted.',
    advice:
      'Compare the address with those that were handed out (by the DMA API, or mapped with VFIO_IOMMU_MAP_DMA): a wrong ' +
      'offset, a length past the end of the mapping, a physical address given to the device, or a wrong direction.',
    needs: [['tce.set', 'hw.set'], 'dma.translate'],
    broken: 'scenarios/rules/dma-not-granted-broken.yaml',
    kept: 'scenarios/rules/dma-not-granted-kept.yaml',
  },
  {
    id: 'foreign-memory',
    title: 'An IOMMU page exposes memory of another owner',
    promise: 'The IOMMU page behind a grant holds memory of the owner it was granted for, and no other.',
    advice:
      'Use an IOMMU page no larger than the alignment of the memory that is granted, or grant memory in whole ' +
      'IOMMU pages; unmap before memory is freed or leaves the partition.',
    needs: [['tce.set', 'hw.set'], 'page.own'],
    broken: 'scenarios/rules/foreign-memory-broken.yaml',
    kept: 'scenarios/rules/foreign-memory-kept.yaml',
  },
  {
    id: 'double-map',
    title: 'A live entry was overwritten',
    promise: 'A live entry gets another live value only after it was cleared.',
    advice:
      'Two users think that they own the entry, or an unmap was forgotten. Listeners (vhost, VFIO) hear only ' +
      'of the new mapping and may keep the old one.',
    needs: ['tce.set'],
    broken: 'scenarios/rules/double-map-broken.yaml',
    kept: 'scenarios/rules/double-map-kept.yaml',
  },
  {
    id: 'unmap-miss',
    title: 'An unmap of nothing',
    promise: 'An unmap takes back only what is mapped; the clearing of a whole table at its start is none.',
    advice:
      'Look for a second unmap of the same handle, or one with a wrong address or length; what it should have ' +
      'unmapped may still be mapped.',
    needs: ['tce.set'],
    broken: 'scenarios/rules/unmap-miss-broken.yaml',
    kept: 'scenarios/rules/unmap-miss-kept.yaml',
  },
  {
    id: 'leak-mapping',
    title: 'A mapping outlived its driver',
    promise: 'When a driver has ended, nothing that it mapped is still mapped or granted.',
    advice: 'Unmap on every way out of the driver; until then the device can reach the memory.',
    needs: ['tce.set'],
    broken: 'scenarios/rules/leak-mapping-broken.yaml',
    kept: 'scenarios/rules/leak-mapping-kept.yaml',
  },
  {
    id: 'allocator-drift',
    title: 'The allocator and the table disagree',
    promise: 'An entry is live exactly while its allocator has marked it as used.',
    advice:
      'A live entry that is marked free will be handed out again while a device can still use it; a used entry ' +
      'that maps nothing fails every DMA or is lost for good. Look for an error answer that nobody passed on.',
    needs: ['tce.set', 'alloc.take'],
    broken: 'scenarios/rules/allocator-drift-broken.yaml',
    kept: 'scenarios/rules/allocator-drift-kept.yaml',
  },
  {
    id: 'out-of-table',
    title: 'An entry was written outside its table',
    promise: 'Every entry that is written lies inside its table.',
    advice: 'What lies behind the table is overwritten: from here on its contents are undefined.',
    needs: ['window.open', 'tce.set'],
    broken: 'scenarios/rules/out-of-table-broken.yaml',
    kept: 'scenarios/rules/out-of-table-kept.yaml',
  },
  ...HOST_RULES,
  ...IOTLB_RULES,
  ...VTD_RULES,
  ...SVM_RULES,
  {
    id: 'stopped',
    title: 'A part of the machine stopped for good',
    promise: 'No call makes the kernel or QEMU stop.',
    advice:
      'Whoever can make this call can take the machine down. Look at what the answer of an allocation or an ' +
      'assertion is taken for.',
    needs: ['dead'],
    broken: 'scenarios/rules/stopped-broken.yaml',
    kept: 'scenarios/rules/stopped-kept.yaml',
  },
  {
    id: 'unmodelled',
    title: 'The model does not know',
    promise: 'The run meets nothing that the model does not know.',
    advice:
      'What follows is not to be trusted where it depends on this; docs/limits.md lists what is not modelled.',
    needs: [],
    broken: 'scenarios/rules/unmodelled-broken.yaml',
    kept: 'scenarios/rules/unmodelled-kept.yaml',
  },
])

/** A misspelt rule does not compile. */
export type RuleId = (typeof RULES)[number]['id']
