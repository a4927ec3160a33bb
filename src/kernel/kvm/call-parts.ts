import type { ArgDecl } from '../../bits/call.ts'

export const MAIN = 'Linux v6.1 virt/kvm/kvm_main.c'
export const POWERPC = 'Linux v6.1 arch/powerpc/kvm/powerpc.c'
export const TCE_TABLES = 'Linux v6.1 and v6.12 arch/powerpc/kvm/book3s_64_vio.c'
export const VFIO_DEVICE = 'Linux v6.1 and v6.12 virt/kvm/vfio.c'

/** Numbers of ioctls of KVM on powerpc: direction in three bits (1 none, 2 read, 4 write), bytes of the structure, 0xae. */
const KVM = 0xae
export const io = (nr: number): number => 0x2000_0000 + (KVM << 8) + nr
export const iow = (nr: number, bytes: number): number => 0x8000_0000 + (bytes << 16) + (KVM << 8) + nr
export const iowr = (nr: number, bytes: number): number => 0xc000_0000 + (bytes << 16) + (KVM << 8) + nr

export const process: ArgDecl = {
  type: 'name',
  optional: true,
  doc: 'The process that acts; left out, the one that the operation says.',
}
export const fd: ArgDecl = { type: 'u32', doc: 'File descriptor of the process.' }
export const arg: ArgDecl = {
  type: 'u64',
  optional: true,
  doc: 'User address of the structure; its members are then read from memory. Left out, they are the arguments named here.',
}
export const u32 = (doc: string): ArgDecl => ({ type: 'u32', optional: true, initial: 0n, doc })
export const u64 = (doc: string): ArgDecl => ({ type: 'u64', optional: true, initial: 0n, doc })
export const newFd = (what: string) => ({ fd: { type: 'u32', doc: `Descriptor of the ${what}.` } }) as const

export const NO_PROCESS = {
  rule: 'no-such-process',
  code: 'ESRCH',
  when: 'There is no such process, or it has ended.',
} as const
const BAD_FD = { rule: 'bad-fd', code: 'EBADF', when: 'The process has no such descriptor.' } as const
export const FDS = [NO_PROCESS, BAD_FD] as const
const OTHER_PROCESS = {
  rule: 'other-process',
  code: 'EIO',
  when: 'The VM was made by a process with another address space.',
} as const
/** Files of a VM. */
export const OF_VM = [...FDS, OTHER_PROCESS] as const
const BAD_POINTER = {
  rule: 'bad-pointer',
  code: 'EFAULT',
  when: 'The structure cannot be read at the address.',
} as const
/** The same, with a structure. */
export const WITH_STRUCT = [...OF_VM, BAD_POINTER] as const
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
export const NO_MEMORY = {
  rule: 'no-memory',
  code: 'ENOMEM',
  when: 'There is no memory for a record of it.',
} as const
