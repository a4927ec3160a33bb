import { U64_MAX } from '../../bits/u64.ts'
import { sizedRange } from '../../hw/vtd/queue/descriptors.ts'

const PAGE_SHIFT = 12n

/**
 * What the upper word of a device-TLB invalidate descriptor names: one page, or with S (bit 0) as many as the lowest bits
 * of the address that are 1 say. All ones: the whole space. Both ends are inclusive.
 *
 * @example deviceTlbRange(0x402ff001n) // { iova: 0x40200000n, last: 0x403fffffn }
 */
export function deviceTlbRange(hi: bigint): { readonly iova: bigint; readonly last: bigint } {
  const { address, order } = sizedRange(hi >> PAGE_SHIFT, (hi & 1n) === 1n)
  const rest = (1n << (PAGE_SHIFT + BigInt(order))) - 1n
  const iova = address & ~rest & U64_MAX
  return { iova, last: (iova | rest) & U64_MAX }
}
