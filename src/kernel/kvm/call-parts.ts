import { BAD_POINTER, FDS } from '../call-parts.ts'

export {
  arg,
  BAD_POINTER,
  FDS,
  FLAGS,
  fd,
  NO_PROCESS,
  process,
  TOO_MANY_FILES,
  u32,
  u64,
} from '../call-parts.ts'

export const MAIN = 'Linux v6.1 virt/kvm/kvm_main.c'
export const POWERPC = 'Linux v6.1 arch/powerpc/kvm/powerpc.c'
export const TCE_TABLES = 'Linux v6.1 and v6.12 arch/powerpc/kvm/book3s_64_vio.c'
export const VFIO_DEVICE = 'Linux v6.1 and v6.12 virt/kvm/vfio.c'

/** Numbers of ioctls of KVM on powerpc: direction in three bits (1 none, 2 read, 4 write), bytes of the structure, 0xae. */
const KVM = 0xae
export const io = (nr: number): number => 0x2000_0000 + (KVM << 8) + nr
export const iow = (nr: number, bytes: number): number => 0x8000_0000 + (bytes << 16) + (KVM << 8) + nr
export const iowr = (nr: number, bytes: number): number => 0xc000_0000 + (bytes << 16) + (KVM << 8) + nr

export const newFd = (what: string) => ({ fd: { type: 'u32', doc: `Descriptor of the ${what}.` } }) as const

const OTHER_PROCESS = {
  rule: 'other-process',
  code: 'EIO',
  when: 'The VM was made by a process with another address space.',
} as const
/** Files that do not know the call. */
const WRONG_FILE = [
  {
    rule: 'wrong-file',
    code: 'ENOTTY',
    when: 'The file is one that does not know the call.',
  },
  {
    rule: 'wrong-file-invalid',
    code: 'EINVAL',
    when: 'The same, of /dev/kvm, a VCPU, and a container without a driver.',
  },
] as const
/** Files of a VM. */
export const OF_VM = [...FDS, OTHER_PROCESS, ...WRONG_FILE] as const
/** The same, with a structure. */
export const WITH_STRUCT = [...OF_VM, BAD_POINTER] as const
export const NO_MEMORY = {
  rule: 'no-memory',
  code: 'ENOMEM',
  when: 'There is no memory for a record of it.',
} as const
