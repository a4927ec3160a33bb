/** First address of x86 that is an interrupt and not memory. (VT-d 4.1, Interrupt-Remapping) */
export const INTERRUPT_START = 0xfee0_0000n
/** The first address behind them. */
export const INTERRUPT_END = 0xfef0_0000n

/** The same in 4 KiB pages: the first and the last one. */
export const INTERRUPT_PAGES = {
  first: Number(INTERRUPT_START >> 12n),
  last: Number(INTERRUPT_END >> 12n) - 1,
} as const

/** Whether a 4 KiB page is for interrupts. */
export const isInterruptPage = (page: number): boolean =>
  page >= INTERRUPT_PAGES.first && page <= INTERRUPT_PAGES.last

/** Whether an address is one of an interrupt. */
export const isInterruptAddress = (address: bigint): boolean =>
  address >= INTERRUPT_START && address < INTERRUPT_END
