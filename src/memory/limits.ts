/**
 * Bounds of this floor. Each keeps a broken or hostile input from taking all memory of the machine that runs
 * the model, or is a bound of the real thing.
 */

/** Bits of a host physical address: what POWER9 and VT-d units with 52-bit host addresses can name. */
export const HOST_ADDRESS_BITS = 52

/** Host page frames: frame number and permission bits share a small integer, a 4 KiB page number too. */
export const FRAMES_MAX = 2 ** 27

/** Ranges in one address space (Linux v6.1 include/linux/mm.h, DEFAULT_MAX_MAP_COUNT; sysctl vm.max_map_count). */
export const MAP_COUNT_MAX = 65_530

/** Processes of one host, ended ones included (Linux v6.1 include/linux/threads.h, PID_MAX_DEFAULT). */
export const PROCESSES_MAX = 32_768

/** Memory slots of one guest (Linux v6.1 include/linux/kvm_host.h, KVM_MEM_SLOTS_NUM). */
export const SLOTS_MAX = 32_767

/** 4 KiB pages of one memory slot: an index into it stays a small integer. */
export const SLOT_PAGES_MAX = 2 ** 31 - 2 ** 16

/** Bytes that one `mem` operation moves: its data stands in files and reports. */
export const MEM_BYTES_MAX = 1024 * 1024

/**
 * log2 of the huge pages that a host has: 2 MiB and 1 GiB (POWER with a radix MMU, x86-64), 16 MiB and 16 GiB (POWER
 * with a hash MMU). (Linux v6.1 arch/powerpc/mm/hugetlbpage.c, arch_hugetlb_valid_size)
 */
export const HUGE_SHIFTS: readonly number[] = [21, 24, 30, 34]
