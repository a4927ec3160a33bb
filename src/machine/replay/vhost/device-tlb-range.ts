const PAGE_SHIFT = 12n

/** Bytes of a device-TLB invalidation whose address and size one word says; 0 bytes are all there are. */
export function deviceTlbRange(word: bigint): { iova: bigint; bytes: bigint } {
  const address = word & ~0xfffn
  if ((word & 1n) === 0n) return { iova: address, bytes: 0x1000n }
  let ones = 0n
  while (((address >> (PAGE_SHIFT + ones)) & 1n) === 1n) ones++
  const bytes = 0x2000n << ones
  return { iova: address & ~(bytes - 1n), bytes: BigInt.asUintN(64, bytes) }
}
