/** What the driver owes a unit beside the entries themselves. One that it forgets shows what the duty is for. */
export const DUTIES = {
  'cache-lines':
    'Entries leave the cache of the processor, where the unit does not snoop it (ECAP.C, SMPWCS).',
  'write-buffer': 'The write buffer is flushed after an entry that was not present was written (CAP.RWBF).',
  'caching-mode':
    'What was not present is flushed after it was written, because a caching unit keeps that (CAP.CM).',
  'root-caches':
    'All caches are flushed after a root table was set, where the unit does not do that itself (CAP.ESRTPS).',
  iotlb: 'An unmapping that flushes, or a flush queue, flushes the IOTLB.',
  'device-tlb': 'What flushes the IOTLB flushes the TLBs of devices afterwards.',
} as const
export type Duty = keyof typeof DUTIES
