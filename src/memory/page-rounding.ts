/** The next multiple of 2^shift, which may not fit 64 bits any more. */
export const roundUp = (bytes: bigint, shift: number): bigint => {
  const mask = (1n << BigInt(shift)) - 1n
  return (bytes + mask) & ~mask
}

/** Whether an address is a multiple of 2^shift. */
export const isAligned = (address: bigint, shift: number): boolean => BigInt.asUintN(shift, address) === 0n
