import { declareRules } from './rule.ts'

/** Promises of a kernel that gives devices the address spaces of processes, and of those who answer page requests. */
export const SVM_RULES = declareRules([
  {
    id: 'page-request-answer',
    title: 'A page request is not answered as it was asked',
    promise:
      'Each page request that asks for a response gets exactly one, for its device, PASID and group; it is taken for what it says, and succeeds only where the process itself may do the same.',
    advice:
      'A device that waits for a response waits for ever. Compare the fields of the descriptor with what the thread decodes, and the access with the rights of the VMA: the page fault handler does not.',
    needs: ['vtd.page-request', 'vtd.response'],
    broken: 'scenarios/rules/page-request-answer-broken.yaml',
    kept: 'scenarios/rules/page-request-answer-kept.yaml',
  },
  {
    id: 'lost-interrupt',
    title: 'A page request waits in the queue, and nobody will look',
    promise:
      'A request that comes behind what software has read of the queue interrupts again, and none is dropped while the queue is empty: PPR is cleared before the tail is read, and PRO when the queue is.',
    advice:
      'Clear PPR first, then read the tail: a request that comes in between interrupts once more for nothing, and none is lost. The interrupt is sent for the first request behind a clear PPR only.',
    needs: ['vtd.page-request', 'vtd.register', 'vtd.event'],
    broken: 'scenarios/rules/lost-interrupt-broken.yaml',
    kept: 'scenarios/rules/lost-interrupt-kept.yaml',
  },
  {
    id: 'dead-page-table',
    title: 'The entry of a PASID leads to page tables that are given back',
    promise:
      'A PASID entry that is present leads to the page tables of an address space that lives: it is cleared before the first of them is given back.',
    advice:
      'Clear the entry in the release notifier, then flush the PASID-cache, the IOTLB and the TLBs of devices, and wait: page tables are freed behind it, and the pages go to somebody else.',
    needs: ['svm.entry', 'mm.table', 'mm.users'],
    broken: 'scenarios/rules/dead-page-table-broken.yaml',
    kept: 'scenarios/rules/dead-page-table-kept.yaml',
  },
  {
    id: 'mm-kept-alive',
    title: 'A device keeps the address space of a process that has ended',
    promise: 'When a process has ended, no binding of a device keeps users of its address space.',
    advice:
      'Let a binding hold the structure (mm_count), not the address space (mm_users): an mmap of the device file holds the file open, so that nobody unbinds while the address space is not torn down. Whoever takes a user for a page fault gives it back on every way out.',
    needs: ['mm.users', 'svm.bind'],
    broken: 'scenarios/rules/mm-kept-alive-broken.yaml',
    kept: 'scenarios/rules/mm-kept-alive-kept.yaml',
  },
  {
    id: 'pasid-crosstalk',
    title: 'What one PASID, or one device, does meets another',
    promise:
      'With a PASID a device that is bound to it reaches the address space behind it, has pages of it brought in, and the driver of the device hears of its requests; nothing else.',
    advice:
      'All devices of a unit share one PASID table in revisions 2.x: a device that makes up a PASID reaches the process of another one. In the kernel compare source-ids before a device is taken for the one that asked.',
    needs: ['svm.bind', 'svm.pasid'],
    broken: 'scenarios/rules/pasid-crosstalk-broken.yaml',
    kept: 'scenarios/rules/pasid-crosstalk-kept.yaml',
  },
  {
    id: 'mm-lifetime',
    title: 'An address space lives, or ends, out of order',
    promise:
      'An address space without users gets none any more, its structure outlives its users, and each notifier is told of the end once, before the first page table is given back.',
    advice:
      'Take a user with mmget_not_zero and never by counting up; what only needs the structure takes mm_count. A notifier that is registered while users are there hears of the end.',
    needs: ['mm.users', 'mm.notify', 'mm.table'],
    broken: 'scenarios/rules/mm-lifetime-broken.yaml',
    kept: 'scenarios/rules/mm-lifetime-kept.yaml',
  },
  {
    id: 'svm-bookkeeping',
    title: 'What a driver notes of its PASIDs does not agree',
    promise:
      'A PASID is handed out while a device is bound by it, bindings are counted one by one, and PASID tables are as large as their entries need and hold every PASID in use.',
    advice:
      'Undo in the order in which it was done, on the ways of failure too. A table has 8 bytes an entry: two to the power of PSS plus four bytes, no more than its entries need.',
    needs: ['svm.pasid', 'svm.bind'],
    broken: 'scenarios/rules/svm-bookkeeping-broken.yaml',
    kept: 'scenarios/rules/svm-bookkeeping-kept.yaml',
  },
  {
    id: 'use-after-unbind',
    title: 'A binding is used after it was taken back',
    promise:
      'When a device is unbound from a PASID it reaches no memory with it and has no pages brought in that it asks for from then on, the kernel does not use what it has freed, and no entry of a PASID that is given back leads anywhere.',
    advice:
      'Stop the device and wait for its last request before the unbind. A PASID of the kernel has no notifier that clears its entry: the unbind has to.',
    needs: ['svm.bind', 'svm.entry'],
    broken: 'scenarios/rules/use-after-unbind-broken.yaml',
    kept: 'scenarios/rules/use-after-unbind-kept.yaml',
  },
  {
    id: 'kernel-pasid-non-linear',
    title: 'A device uses a kernel address whose translations are not flushed',
    promise: 'With a PASID of the kernel a device uses addresses of the direct map of memory only.',
    advice:
      'No notifier tells of changes to the page tables of the kernel: what vmalloc and modules had is kept in the IOTLB after it was freed. Give devices addresses of the direct map.',
    needs: ['svm.entry', 'vtd.translate'],
    broken: 'scenarios/rules/kernel-pasid-non-linear-broken.yaml',
    kept: 'scenarios/rules/kernel-pasid-non-linear-kept.yaml',
  },
])
