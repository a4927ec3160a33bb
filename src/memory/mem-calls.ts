import { declareCall } from '../bits/call.ts'

const space = {
  type: 'choice',
  choices: ['gpa', 'ua'],
  optional: true,
  initial: 'gpa',
  doc: 'Whose addresses: the guest`s physical ones, or those of a process.',
} as const
const process = {
  type: 'name',
  optional: true,
  doc: 'The process, for `ua`; left out, the one that the operation says.',
} as const
const NO_PROCESS = {
  rule: 'no-such-process',
  code: 'ESRCH',
  when: 'For `ua`: there is no such process, or it has ended.',
} as const
const TOO_LONG = { rule: 'too-long', code: 'EINVAL', when: 'More than 1 MiB is asked for at once.' } as const
const NO_MEMORY = {
  rule: 'no-memory',
  code: 'EFAULT',
  when: 'A byte of the range has no memory, or may not be used so; those before it were moved.',
} as const
const moved = { type: 'count', doc: 'Bytes that were moved.' } as const

/** Software reads memory. */
export const MEM_READ = declareCall({
  name: 'read',
  verb: 'mem',
  family: 'errno',
  layer: 'host',
  args: {
    space,
    process,
    address: { type: 'u64', doc: 'First byte.' },
    bytes: { type: 'count', doc: 'How many bytes.' },
  },
  outputs: { data: { type: 'bytes', doc: 'What was read.' }, moved },
  answers: [
    NO_PROCESS,
    TOO_LONG,
    NO_MEMORY,
    { rule: 'done', code: 'OK', when: 'All bytes were read; what was never written is 0.' },
  ],
  source: 'Linux v6.1 mm/memory.c (handle_mm_fault); QEMU 7.2 softmmu/physmem.c for guest memory',
  doc: 'Software of the guest or of a process reads memory.',
})

/** Software writes memory: bytes, or 64-bit words as TCE lists and tables of VT-d hold them. */
export const MEM_WRITE = declareCall({
  name: 'write',
  verb: 'mem',
  family: 'errno',
  layer: 'host',
  args: {
    space,
    process,
    address: { type: 'u64', doc: 'First byte.' },
    data: { type: 'bytes', optional: true, doc: 'What to write.' },
    words: {
      type: 'words',
      optional: true,
      doc: '64-bit words to write, in place of `data`.',
    },
    order: {
      type: 'choice',
      choices: ['big', 'little'],
      optional: true,
      initial: 'big',
      doc: 'Which byte of a word comes first: the most significant (TCE lists), or the least (tables of VT-d).',
    },
  },
  outputs: { moved },
  answers: [
    NO_PROCESS,
    { rule: 'data-and-words', code: 'EINVAL', when: 'Neither or both of `data` and `words` are given.' },
    TOO_LONG,
    NO_MEMORY,
    {
      rule: 'no-frames',
      code: 'ENOMEM',
      when: 'For `ua`: the host has no free frame; the bytes before were written.',
    },
    { rule: 'done', code: 'OK', when: 'All bytes were written.' },
  ],
  source: 'Linux v6.1 mm/memory.c (handle_mm_fault); QEMU 7.2 softmmu/physmem.c for guest memory',
  doc: 'Software of the guest or of a process writes memory.',
})

export const MEM_CALLS = [MEM_READ, MEM_WRITE] as const
