import { describe, expect, it } from 'vitest'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { ACCESS, RING_PART } from '../../src/hw/virtio/ring-memory.ts'
import { Segments } from '../../src/hw/virtio/segments.ts'
import { DeviceMemory } from '../../src/peer/vhost-user/device-memory.ts'
import { GuestRegions, Region } from '../../src/peer/vhost-user/guest-regions.ts'
import { VhostIotlb } from '../../src/table/vhost-iotlb.ts'

const BYTES = 0x3000

/** Memory at a user address, behind one map of bus addresses. */
function behind(map: { readonly iova: bigint; readonly last: bigint; readonly ua: bigint }, ua: bigint) {
  const regions = new GuestRegions()
  const bytes = new Uint8Array(BYTES)
  const shared = { bytes: BYTES, window: () => bytes, close: () => undefined }
  regions.add(new Region({ gpa: 0n, bytes: BigInt(BYTES), ua, fileOffset: 0n }, shared))
  const uses: [hi: number, lo: number][] = []
  const memory = new DeviceMemory(regions, {
    onMiss: () => false,
    onRefusal: () => undefined,
    onUse: (_map, _hi, _lo, uaHi, uaLo) => uses.push([uaHi, uaLo]),
    onReach: () => undefined,
  })
  memory.iotlb = new VhostIotlb({ limit: 4, retire: true })
  expect(memory.iotlb.add(map.iova, map.last, map.ua, 3)).toBe(0)
  return { memory, uses, into: new Segments(memory) }
}

describe('memory of a device behind an IOTLB', () => {
  it.each([
    // Far inside of a map, where a number does not hold every byte of an offset.
    [{ iova: 0n, last: (1n << 61n) - 1n, ua: 0n }, 1n << 60n, (1n << 60n) + 0x1234n],
    // The lower words carry, and borrow.
    [{ iova: 0xffff_f000n, last: 0x1_0000_1fffn, ua: 0x7fff_ffff_f000n }, 0x7fff_ffff_f000n, 0x1_0000_0234n],
    [
      { iova: 0x1_0000_0000n, last: 0x1_0000_2fffn, ua: 0x7ffe_ffff_f000n },
      0x7ffe_ffff_f000n,
      0x1_0000_1234n,
    ],
    [{ iova: 1n << 63n, last: (1n << 63n) + 0x2fffn, ua: 0x1000n }, 0x1000n, (1n << 63n) + 0x1234n],
  ])('map %#: memory is where it says', (map, ua, iova) => {
    const { memory, uses, into } = behind(map, ua)
    expect(memory.reach(0, hiOf(iova), loOf(iova), 16, ACCESS.READ, RING_PART.BUFFER, into)).toBe('ok')
    const at = map.ua + (iova - map.iova)
    expect(uses).toEqual([[hiOf(at), loOf(at)]])
    expect(into.starts[0]).toBe(Number(at - ua))
  })
})
