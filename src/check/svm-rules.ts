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
])
