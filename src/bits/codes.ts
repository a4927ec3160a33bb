import { IommulatorError } from './errors.ts'

/** Return codes of PAPR hypercalls (LoPAR, Hypervisor Call Return Codes; Linux v6.1 asm/hvcall.h). */
export const H_CODES = {
  H_SUCCESS: 0,
  H_BUSY: 1,
  H_CLOSED: 2,
  H_CONSTRAINED: 4,
  H_TOO_HARD: 9999,
  H_HARDWARE: -1,
  H_FUNCTION: -2,
  H_PRIVILEGE: -3,
  H_PARAMETER: -4,
  H_NOT_FOUND: -7,
  H_NO_MEM: -9,
  H_AUTHORITY: -10,
  H_PERMISSION: -11,
  H_RESOURCE: -16,
  H_NOT_ENOUGH_RESOURCES: -44,
} as const

/** Status words of RTAS calls (LoPAR, RTAS Call Return Status). */
export const RTAS_CODES = {
  RTAS_OUT_SUCCESS: 0,
  RTAS_OUT_NO_ERRORS_FOUND: 1,
  RTAS_OUT_HW_ERROR: -1,
  RTAS_OUT_BUSY: -2,
  RTAS_OUT_PARAM_ERROR: -3,
} as const

/** Error numbers of Linux on every architecture (include/uapi/asm-generic/errno-base.h and errno.h). */
export const ERRNO_CODES = {
  OK: 0,
  EPERM: -1,
  ENOENT: -2,
  ESRCH: -3,
  EIO: -5,
  ENXIO: -6,
  E2BIG: -7,
  EBADF: -9,
  EAGAIN: -11,
  ENOMEM: -12,
  EFAULT: -14,
  EBUSY: -16,
  EEXIST: -17,
  ENODEV: -19,
  EINVAL: -22,
  EMFILE: -24,
  ENOSPC: -28,
  ENOTTY: -25,
  ERANGE: -34,
  EOVERFLOW: -75,
  EBADFD: -77,
  ENOTSOCK: -88,
  EOPNOTSUPP: -95,
  ENOBUFS: -105,
} as const

/**
 * What an ioctl returns beside 0 and errnos: a truth value, wanted (VFIO_CHECK_EXTENSION) or not (VFIO_IOMMU_MAP_DMA),
 * or the state of a PE (VFIO_EEH_PE_OP).
 */
export const RETURN_CODES = { RETURN_1: 1, RETURN_2: 2, RETURN_4: 4, RETURN_5: 5 } as const

/** What a bus master learns of its access. */
export const DMA_CODES = {
  /** Every byte was moved. */
  MEMTX_OK: 0,
  /** The device did not carry the request out. */
  MEMTX_ERROR: 1,
  /** Some bytes met no window, no permission or no memory: reads delivered zeros there, writes vanished. */
  MEMTX_DECODE_ERROR: 2,
  /** The bus forbids the requester this access. */
  MEMTX_ACCESS_ERROR: 4,
} as const

/**
 * What a function of the Linux DMA API hands to a driver beside errnos (include/linux/dma-mapping.h). A handle of
 * all ones and a null pointer have no number in common with them: these are of records only.
 */
export const DRIVER_CODES = {
  DONE: 0,
  /** A handle of all ones. */
  DMA_MAPPING_ERROR: -4097,
  /** A null pointer. */
  NULL: -4098,
} as const

/** How a program that runs a guest ends a command, or itself. */
export const VMM_CODES = {
  OK: 0,
  /** The command is refused, and the program goes on (QMP class GenericError). */
  GENERIC_ERROR: -1,
  /** The program says why, and ends. */
  EXIT_1: 1,
} as const

/** How a transaction of ATS or PRI ends for a PCI Express function. (PCI Express Base Specification, Address Translation Services) */
export const ATS_CODES = {
  SUCCESS: 0,
  /** Unsupported Request or Completer Abort, or a response that says failure. */
  UNSUCCESSFUL: -1,
  /** Nothing comes of it: the unit has lost it. */
  DROPPED: -2,
  /** The function sends nothing. */
  NOT_SENT: -3,
  /** The function does not have the capability. */
  NO_CAPABILITY: -4,
} as const

/** How an access of a processor ends for the process: it is done, or a signal comes. (Linux arch/x86/include/uapi/asm/signal.h) */
export const SIGNAL_CODES = {
  OK: 0,
  SIGBUS: 7,
  SIGSEGV: 11,
  /** Nobody acts. */
  NO_PROCESS: -1,
  /** No access of this kind is made. */
  NO_INSTRUCTION: -2,
} as const

/** Answers that no interface gives: the model says them of itself. */
export const MODEL_CODES = {
  /** The model does not know what the real machine would answer. */
  UNMODELLED: 0,
  /** The part that would answer has stopped (kernel BUG, QEMU assertion). */
  DEAD: -1,
  /** The call has not ended: it was started as a task, or it waits for somebody else. */
  PENDING: 1,
} as const

/** The code families, and for each interface the family that its answers are in. */
export const CODE_FAMILIES = {
  hcall: H_CODES,
  rtas: RTAS_CODES,
  errno: { ...ERRNO_CODES, ...RETURN_CODES },
  dma: DMA_CODES,
  driver: { ...DRIVER_CODES, ...ERRNO_CODES },
  vmm: VMM_CODES,
  ats: ATS_CODES,
  signal: SIGNAL_CODES,
  model: MODEL_CODES,
} as const

export type CodeFamily = keyof typeof CODE_FAMILIES
export type CodeOf<F extends CodeFamily> = keyof (typeof CODE_FAMILIES)[F] & string

/** The number of a code. @throws IommulatorError ERR_DECLARATION when the family has no such code */
export function codeNumber(family: CodeFamily, code: string): number {
  const number = (CODE_FAMILIES[family] as Readonly<Record<string, number>>)[code]
  if (number === undefined)
    throw new IommulatorError('ERR_DECLARATION', `no code ${code} in family ${family}`)
  return number
}

/** The first name of a number in a family, as the manuals write it, or undefined. */
export function codeName(family: CodeFamily, number: number): string | undefined {
  return Object.entries<number>(CODE_FAMILIES[family]).find(([, n]) => n === number)?.[0]
}
