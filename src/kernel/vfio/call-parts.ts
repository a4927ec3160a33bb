import type { ArgDecl } from '../../bits/call.ts'

export const CORE = 'Linux v6.12 drivers/vfio/container.c, group.c (v6.1 drivers/vfio/vfio_main.c)'
export const SPAPR = 'Linux v6.1 and v6.12 drivers/vfio/vfio_iommu_spapr_tce.c'

/** _IO(';', 100 + k) on architectures whose direction field has no bit for "no data". */
const GENERIC_BASE = 0x3b64
/** The same on powerpc, where "no data" is 1 in a field at bit 29. */
const POWERPC_BASE = 0x2000_3b64
/** Numbers that VFIO uses from its base on. */
const NUMBERS = 64

/** The number of a VFIO ioctl on powerpc. */
export const nr = (k: number): number => POWERPC_BASE + k

/**
 * The powerpc number of a VFIO ioctl given in either encoding, or undefined where it is none of VFIO's.
 *
 * @example vfioIoctlNumber(0x3b71) // 0x20003b71
 */
export function vfioIoctlNumber(cmd: number): number | undefined {
  for (const base of [GENERIC_BASE, POWERPC_BASE]) {
    if (cmd >= base && cmd < base + NUMBERS) return POWERPC_BASE + (cmd - base)
  }
  return undefined
}

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
export const argsz = (bytes: bigint): ArgDecl => ({
  type: 'u32',
  optional: true,
  initial: bytes,
  doc: 'Bytes of the structure, as the caller says.',
})
export const flags: ArgDecl = { type: 'u32', optional: true, initial: 0n, doc: 'Flags.' }
export const u32 = (doc: string): ArgDecl => ({ type: 'u32', optional: true, initial: 0n, doc })
export const u64 = (doc: string): ArgDecl => ({ type: 'u64', optional: true, initial: 0n, doc })

export const NO_PROCESS = {
  rule: 'no-such-process',
  code: 'ESRCH',
  when: 'There is no such process, or it has ended.',
} as const
const BAD_FD = { rule: 'bad-fd', code: 'EBADF', when: 'The process has no such descriptor.' } as const
export const FDS = [NO_PROCESS, BAD_FD] as const
export const BAD_POINTER = {
  rule: 'bad-pointer',
  code: 'EFAULT',
  when: 'The structure cannot be read at the address.',
} as const
export const NOT_WRITABLE = {
  rule: 'pointer-not-writable',
  code: 'EFAULT',
  when: 'The answer cannot be written to the structure; all else has happened.',
} as const
export const SHORT = {
  rule: 'argsz-short',
  code: 'EINVAL',
  when: 'argsz is below the bytes that are needed.',
} as const
export const FLAGS = {
  rule: 'flags-unknown',
  code: 'EINVAL',
  when: 'A flag is set that the call does not know.',
} as const
export const NOT_V1 = { rule: 'not-v1', code: 'ENOTTY', when: 'The container is not SPAPR TCE v1.' } as const
export const NOT_V2 = { rule: 'not-v2', code: 'ENOTTY', when: 'The container is not SPAPR TCE v2.' } as const
export const TOO_MANY_FILES = {
  rule: 'too-many-files',
  code: 'EMFILE',
  when: 'No descriptor is free.',
} as const
const WRONG_FILE = {
  rule: 'wrong-file',
  code: 'ENOTTY',
  when: 'The file is none that knows this call.',
} as const
export const NO_DRIVER = {
  rule: 'no-driver',
  code: 'EINVAL',
  when: 'The file is a container that has no driver yet (VFIO_SET_IOMMU).',
} as const
export const OTHER_PROCESS = {
  rule: 'other-process',
  code: 'EPERM',
  when: 'The container keeps books for the address space of another process.',
} as const

/** Calls of the container itself. */
export const CONTAINER = [...FDS, WRONG_FILE] as const
/** Calls that a container hands to its driver. */
export const DRIVER = [...FDS, WRONG_FILE, NO_DRIVER, OTHER_PROCESS] as const
/** Calls of a group: a container that gets one asks its driver, which does not know it. */
export const GROUP = [...FDS, NO_DRIVER, OTHER_PROCESS, WRONG_FILE] as const

export const NOT_ENABLED = {
  rule: 'not-enabled',
  code: 'EPERM',
  when: 'v1: VFIO_IOMMU_ENABLE is not in force. v2: the container has never registered memory.',
} as const
/** How making the 32-bit window can fail, where a call has to make it first. */
export const DEFAULT_WINDOW = [
  {
    rule: 'default-window-refused',
    code: 'EINVAL',
    when: 'The 32-bit window has to be made first, and the platform cannot make it.',
  },
  {
    rule: 'default-window-limit',
    code: 'ENOMEM',
    when: 'The 32-bit window has to be made first, and its table passes RLIMIT_MEMLOCK of the caller.',
  },
  {
    rule: 'default-window-memory',
    code: 'ENOMEM',
    when: 'The 32-bit window has to be made first, and there is no memory for its table.',
  },
  {
    rule: 'default-window-firmware',
    code: 'ENXIO',
    when: 'The 32-bit window has to be made first, and firmware refuses to program it (its code goes through).',
  },
] as const

/** How attaching a group is refused because of what the driver is and has already. */
const BESIDE = [
  {
    rule: 'no-dynamic-windows',
    code: 'EINVAL',
    when: 'v2, and the group has no dynamic windows (from Linux 6.4 on).',
  },
  {
    rule: 'one-group-only',
    code: 'EBUSY',
    when: 'The container has a group, and v1 (before Linux 6.4: a group with tables of the kernel) takes one only.',
  },
  { rule: 'groups-differ', code: 'EPERM', when: 'The groups are of platforms that make tables differently.' },
] as const
const NO_GROUP_RECORD = {
  rule: 'no-group-record',
  code: 'ENOMEM',
  when: 'There is no memory for the record that the driver keeps of the group.',
} as const
const NO_WINDOW_LINK = {
  rule: 'no-window-link',
  code: 'ENOMEM',
  when: 'There is no memory to link the group with a window that the container has.',
} as const
const FIRMWARE_REFUSED = {
  rule: 'firmware-refused',
  code: 'ENXIO',
  when: 'Firmware refuses to program a window that the container has into the group (its code goes through).',
} as const

/** How attaching groups to a new driver ends. */
export const ATTACH = [
  ...BESIDE,
  NO_GROUP_RECORD,
  {
    rule: 'v2-without-windows',
    code: 'EPERM',
    when: 'v2, and the group cannot give up its tables (before Linux 6.4).',
  },
  {
    rule: 'table-cannot-swap',
    code: 'EINVAL',
    when: 'v1, and entries of a table of the kernel cannot be swapped (before Linux 6.4).',
  },
  {
    rule: 'table-in-use',
    code: 'EBUSY',
    when: 'v1, and entries of a table of the kernel are in use (before Linux 6.4).',
  },
  {
    rule: 'v1-with-windows',
    code: 'EPERM',
    when: 'v1, and the group has dynamic windows (before Linux 6.4).',
  },
  ...DEFAULT_WINDOW,
  NO_WINDOW_LINK,
  FIRMWARE_REFUSED,
] as const

/** How attaching a further group to a driver ends. */
export const ATTACH_MORE = [...BESIDE, NO_GROUP_RECORD, NO_WINDOW_LINK, FIRMWARE_REFUSED] as const
