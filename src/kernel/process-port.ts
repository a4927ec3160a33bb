import type { Task, Work } from './steps.ts'

/** Rights of a VMA, and what an access needs. (Linux include/linux/mm.h, VM_READ, VM_WRITE, VM_EXEC) */
export const VM = { READ: 1, WRITE: 2, EXEC: 4 } as const

/** A range of user addresses with the same rights. Pages count 4 KiB. */
export interface Vma {
  readonly first: number
  /** The page after its last one. */
  readonly end: number
  /** Bits of `VM`. */
  readonly flags: number
  readonly isShared: boolean
  /** VM_GROWSDOWN: a stack, which becomes longer with the first access below it. */
  readonly growsDown: boolean
  /** The open file that it maps, which it keeps open; undefined for anonymous memory. */
  readonly file: string | undefined
}

/** How a fault that the kernel takes for somebody else ended; `error` is any of VM_FAULT_ERROR. */
export type FaultEnd = 'done' | 'error'

/**
 * Called while an address space changes. What is answered is work of the task that changes it: the notifier's own steps,
 * done before the task goes on. (Linux include/linux/mmu_notifier.h)
 */
export interface MmuNotifier {
  /** As records name it. */
  readonly name: string
  /** One entry points elsewhere, with the page table lock held. Gone since 6.1's SVA, and from Linux since 6.10. */
  changePte(address: bigint): readonly Work[]
  /** Entries of [start, end) have changed; the pages are freed after it. */
  invalidateRange(start: bigint, end: bigint): readonly Work[]
  /** The address space ends: its page tables are freed after it. */
  release(): readonly Work[]
}

/**
 * An address space, as whoever uses that of a process meets it: mm_struct. `users` keep it alive (pages and tables),
 * `count` keeps the structure; all users together are one of the count.
 * (Linux include/linux/sched/mm.h, mmget_not_zero, mmput, mmgrab, mmdrop)
 */
export interface Mm {
  /** As records name it: no other one of the run has it. */
  readonly name: string
  /** The 4 KiB page of its first table (pgd); 4 levels. It is freed with the last `drop`. */
  readonly pgd: number
  readonly users: number
  readonly count: number
  /** mmget_not_zero: one user more, unless there is none any more. */
  get(): boolean
  /** mmput: one user less. Work where it was the last one: exit_mmap and all that it brings with it. */
  put(): readonly Work[]
  /** mmgrab. */
  grab(): void
  /** mmdrop. */
  drop(): void
  /** mmu_notifier_register: an errno; it grabs the mm. */
  register(notifier: MmuNotifier): number
  /** mmu_notifier_unregister: calls `release` where it was not called yet, and drops the mm. */
  unregister(notifier: MmuNotifier): readonly Work[]
  /** find_vma with the check of its first address, or (`canGrow`) find_extend_vma. Undefined for none. */
  findVma(address: bigint, canGrow: boolean): Vma | undefined
  /**
   * handle_mm_fault: a page is there afterwards, and may be written where it was to be. Work, since a copy on write calls
   * notifiers: behind it `task.value` is a `FaultEnd`. Who calls it holds the lock `mmap_sem NAME` and has looked at rights.
   */
  handleFault(address: bigint, isWrite: boolean): readonly Work[]
}

/** The address spaces of a kernel, as a driver asks for them. */
export interface ProcessPort {
  /** Address space of a process; undefined where there is no such process, or it has given it back. */
  mmOf(process: string): Mm | undefined
  /** By its name in records, also when it has ended, as long as its structure is there. */
  mm(name: string): Mm | undefined
  /** init_mm: the kernel's own page tables. */
  readonly kernel: { readonly pgd: number }
  /** Told of every address space whose last count goes (__mmdrop), by its name: what was kept for as long as it lives. */
  onDropped(listener: (mm: string) => void): void
}

/**
 * Pages of the kernel's buddy allocator: blocks of 2^order pages, aligned to as many. What is freed is handed out
 * again, the last one first. (Linux mm/page_alloc.c)
 */
export interface PagePort {
  /** The largest order that it has: MAX_ORDER - 1, which is 10. */
  readonly maxOrder: number
  /** Zeroed memory for `owner`, as records name it; -1 where no block is left, or the order is too large. */
  allocate(order: number, owner: string): number
  free(page: number, order: number): void
}

/** What a driver's file does: a character device that binds processes to a device. */
export interface BindPort {
  /** Work that binds the address space of the task's process to a device. `task.value` is then the PASID, or a negative errno. */
  bind(task: Task, device: string, flags: number): readonly Work[]
  /** Work that unbinds; `task.value` is an errno. */
  unbind(task: Task, device: string, pasid: number): readonly Work[]
}
