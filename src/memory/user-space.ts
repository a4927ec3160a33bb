/** What mmap hands out of a process's address space, unless it is asked for more. */
export const TASK_BYTES = 2 ** 47
/** With pages of 64 KiB, calls of powerpc may name addresses up to 4 PiB. */
const WIDE_PAGE_SHIFT = 16
const WIDE_BYTES = 1n << 52n

/**
 * End of the addresses that a call may name, mapped or not (access_ok).
 * (Linux v6.12 arch/powerpc/include/asm/task_size_64.h, TASK_SIZE_USER64; answers of 6.12.95 in recordings/kernel-vhost)
 */
export const accessBytes = (pageShift: number): bigint =>
  pageShift === WIDE_PAGE_SHIFT ? WIDE_BYTES : BigInt(TASK_BYTES)
