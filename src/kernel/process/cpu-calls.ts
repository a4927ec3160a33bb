import { declareCall } from '../../bits/call.ts'

const process = {
  type: 'name',
  optional: true,
  doc: 'The process that acts; left out, the one that the operation says.',
} as const
const address = { type: 'u64', doc: 'First byte, an address of the user.' } as const
const moved = { type: 'count', doc: 'Bytes that were moved.' } as const
const NO_PROCESS = {
  rule: 'no-such-process',
  code: 'NO_PROCESS',
  when: 'There is no such process, or it has ended.',
} as const
const TOO_LONG = {
  rule: 'too-long',
  code: 'NO_INSTRUCTION',
  when: 'More than 64 KiB are asked for at once.',
} as const
const NOT_MAPPED = {
  rule: 'not-mapped',
  code: 'SIGSEGV',
  when: 'A byte of the range is in no area; those before it were moved.',
} as const
const NOT_PERMITTED = {
  rule: 'not-permitted',
  code: 'SIGSEGV',
  when: 'The area of a byte of the range does not permit it; those before it were moved.',
} as const
const NO_BACKING = {
  rule: 'no-backing',
  code: 'SIGBUS',
  when: 'A byte of the range is in the file of a driver, which shows nothing there; those before it were moved.',
} as const
const source =
  'Linux v4.9 and v6.1 arch/x86/mm/fault.c (do_user_addr_fault, access_error), mm/memory.c (handle_mm_fault, do_wp_page)'

export const CPU_LOAD = declareCall({
  name: 'load',
  verb: 'cpu',
  family: 'signal',
  layer: 'host',
  args: { process, address, bytes: { type: 'count', doc: 'How many bytes.' } },
  outputs: { data: { type: 'bytes', doc: 'What was read.' }, moved },
  answers: [
    NO_PROCESS,
    TOO_LONG,
    NOT_MAPPED,
    NOT_PERMITTED,
    NO_BACKING,
    { rule: 'done', code: 'OK', when: 'All bytes were read; a page that was never written is 0.' },
  ],
  source,
  doc: 'A process reads its memory: pages that are missing come by page faults.',
})

export const CPU_STORE = declareCall({
  name: 'store',
  verb: 'cpu',
  family: 'signal',
  layer: 'host',
  args: { process, address, data: { type: 'bytes', doc: 'The bytes.' } },
  outputs: { moved },
  answers: [
    NO_PROCESS,
    TOO_LONG,
    NOT_MAPPED,
    NOT_PERMITTED,
    NO_BACKING,
    {
      rule: 'done',
      code: 'OK',
      when: 'All bytes are written; a page that others show as well was copied before.',
    },
  ],
  source,
  doc: 'A process writes its memory: pages that are missing come by page faults, shared private ones are copied.',
})

export const CPU_CALLS = [CPU_LOAD, CPU_STORE] as const
