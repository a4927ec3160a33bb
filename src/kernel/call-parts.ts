import type { ArgDecl } from '../bits/call.ts'
import { NO_PROCESS } from '../memory/proc-calls.ts'

export { NO_PROCESS, process } from '../memory/proc-calls.ts'

export const fd: ArgDecl = { type: 'u32', doc: 'File descriptor of the process.' }
export const arg: ArgDecl = {
  type: 'u64',
  optional: true,
  doc: 'User address of the structure; its members are then read from memory. Left out, they are the arguments named here.',
}
/** Members of a structure, 0 where they are left out. */
export const u32 = (doc: string): ArgDecl => ({ type: 'u32', optional: true, initial: 0n, doc })
export const u64 = (doc: string): ArgDecl => ({ type: 'u64', optional: true, initial: 0n, doc })

const BAD_FD = { rule: 'bad-fd', code: 'EBADF', when: 'The process has no such descriptor.' } as const
/** Calls with a descriptor. */
export const FDS = [NO_PROCESS, BAD_FD] as const
export const BAD_POINTER = {
  rule: 'bad-pointer',
  code: 'EFAULT',
  when: 'The structure cannot be read at the address.',
} as const
export const FLAGS = {
  rule: 'flags-unknown',
  code: 'EINVAL',
  when: 'A flag is set that the call does not know.',
} as const
export const TOO_MANY_FILES = {
  rule: 'too-many-files',
  code: 'EMFILE',
  when: 'No descriptor is free.',
} as const
