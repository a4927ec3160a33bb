import type { ArgDecl } from '../../bits/call.ts'
import { arg, BAD_POINTER, FDS, FLAGS, fd, process } from '../call-parts.ts'
import type { StructDecl } from '../user-struct.ts'

export { arg, BAD_POINTER, FDS, fd, NO_PROCESS, process, TOO_MANY_FILES, u32, u64 } from '../call-parts.ts'

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

/** What every ioctl of VFIO is. */
export const IOCTL = { verb: 'ioctl', family: 'errno', layer: 'kernel' } as const

export const argsz = ({ bytes }: StructDecl): ArgDecl => ({
  type: 'u32',
  optional: true,
  initial: BigInt(bytes),
  doc: 'Bytes of the structure, as the caller says.',
})
export const flags: ArgDecl = { type: 'u32', optional: true, initial: 0n, doc: 'Flags.' }
/** How the arguments of an ioctl with a structure begin. */
export const structArgs = (struct: StructDecl) => ({ process, fd, arg, argsz: argsz(struct), flags }) as const

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
/** How copying a structure in can end, before the call looks at its members. */
export const COPIED = [BAD_POINTER, SHORT, FLAGS] as const
const NOT_V1 = { rule: 'not-v1', code: 'ENOTTY', when: 'The container is not SPAPR TCE v1.' } as const
const NOT_V2 = { rule: 'not-v2', code: 'ENOTTY', when: 'The container is not SPAPR TCE v2.' } as const
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
/** Calls of a driver that only v1 containers know, and only v2 containers. */
export const DRIVER_V1 = [...DRIVER, NOT_V1] as const
export const DRIVER_V2 = [...DRIVER, NOT_V2] as const
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
