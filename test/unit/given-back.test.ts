import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { GivenBack } from '../../src/peer/vhost-user/given-back.ts'

const U64_LAST = (1n << 64n) - 1n
const reach = (device: GivenBack, iova: bigint, bytes: number): boolean =>
  device.reach(hiOf(iova), loOf(iova), bytes)
/** A request with one buffer, which is answered: whether the buffer was known to be given back. */
function request(device: GivenBack, iova: bigint, bytes: number): boolean {
  device.begin()
  const isGivenBack = reach(device, iova, bytes)
  device.answered()
  return isGivenBack
}
/** A device whose maps lead to memory in no order. */
function scattered(): GivenBack {
  const device = new GivenBack()
  device.filled(0xffff_f000n, 0xffff_f000n + 0xfffn, 0x3000n)
  device.filled(0xffff_e000n, 0xffff_e000n + 0xfffn, 0x9000n)
  return device
}

describe('buffers that were given back', () => {
  it('are those of answered requests, until they are invalidated', () => {
    const device = scattered()
    expect(request(device, 0xffff_f200n, 512)).toBe(false)
    // Another place of the page is the page.
    expect(request(device, 0xffff_fffen, 1)).toBe(true)
    device.invalidated(0xffff_f000n, 0xffff_ffffn)
    expect(request(device, 0xffff_f200n, 512)).toBe(false)
  })

  it('are said once', () => {
    const device = scattered()
    const said = Array.from({ length: 4 }, () => request(device, 0xffff_f000n, 16))
    expect(said).toEqual([false, true, false, false])
    device.invalidated(0xffff_f000n, 0xffff_ffffn)
    expect([request(device, 0xffff_f000n, 16), request(device, 0xffff_f000n, 16)]).toEqual([false, true])
  })

  it('a buffer over pages has each of them; the pages beside it are others', () => {
    const device = scattered()
    request(device, 0xffff_0ffen, 0x1004)
    // A look at one page says nothing of the others.
    for (const [page, isGivenBack] of [
      [0xfffe_f000n, false],
      [0xffff_0000n, true],
      [0xffff_1000n, true],
      [0xffff_2000n, true],
      [0xffff_3000n, false],
    ] as const) {
      expect([page, request(device, page, 4096)]).toEqual([page, isGivenBack])
    }
  })

  it('are no more than 32 bits of bus addresses have: behind that all are forgotten', () => {
    const device = scattered()
    const bytes = 1 << 28
    for (let iova = 0n; iova < 1n << 32n; iova += BigInt(bytes)) request(device, iova, bytes)
    expect(request(device, 1n << 32n, 1)).toBe(false)
    expect(request(device, 0x1000n, 1)).toBe(false)
    expect(request(device, 0x1000n, 1)).toBe(true)
  })

  it('a request that waits for a translation, and begins again, is one request', () => {
    const device = scattered()
    device.begin()
    expect(reach(device, 0xffff_f000n, 16)).toBe(false)
    expect(request(device, 0xffff_f000n, 16)).toBe(false)
  })

  it('two buffers of one request may have a page together', () => {
    const device = scattered()
    device.begin()
    expect([reach(device, 0xffff_f000n, 16), reach(device, 0xffff_f010n, 1)]).toEqual([false, false])
  })

  it('a request that was not answered gives nothing back', () => {
    const device = scattered()
    device.begin()
    reach(device, 0xffff_f000n, 16)
    device.begin()
    device.answered()
    expect(request(device, 0xffff_f000n, 16)).toBe(false)
  })

  it('all is forgotten with the whole space, and with the IOTLB', () => {
    const device = scattered()
    for (const forget of [() => device.invalidated(0n, U64_LAST), () => device.renew()]) {
      request(device, 0x8000_0000_0000_0000n, 0x3000)
      forget()
      device.filled(0xffff_f000n, 0xffff_f000n + 0xfffn, 0x3000n)
      device.filled(0xffff_e000n, 0xffff_e000n + 0xfffn, 0x9000n)
      expect(request(device, 0x8000_0000_0000_2000n, 1)).toBe(false)
    }
  })

  it('nothing is said of a driver whose maps are one direct map', () => {
    const device = new GivenBack()
    device.filled(0x8000_0000_0100_0000n, 0x8000_0000_0100_0000n + 0xfffn, 0x100_0000n)
    device.filled(0x8000_0000_0000_0000n, 0x8000_0000_0000_0000n + 0xfffn, 0n)
    request(device, 0x8000_0000_0000_5000n, 512)
    expect(request(device, 0x8000_0000_0000_5000n, 512)).toBe(false)
    device.filled(0x1000n, 0x1000n + 0xfffn, 0n)
    expect(request(device, 0x8000_0000_0000_5000n, 512)).toBe(true)
  })

  it('what was evicted, and is asked for again, is what the IOMMU has now', () => {
    const device = scattered()
    request(device, 0xffff_d000n, 0x2000)
    device.filled(0xffff_d000n, 0xffff_dfffn, 0x7000n)
    expect(request(device, 0xffff_d000n, 16)).toBe(false)
    expect(request(device, 0xffff_e000n, 16)).toBe(true)
  })

  it('a map to memory that no slot has is none of a direct map', () => {
    const device = new GivenBack()
    device.filled(0x1000n, 0x1000n + 0xfffn, undefined)
    request(device, 0x1000n, 1)
    expect(request(device, 0x1000n, 1)).toBe(true)
  })

  it('is what a plain list of pages says', () => {
    const step = fc.record({
      what: fc.constantFrom('request', 'request', 'invalidate', 'wait'),
      page: fc.integer({ min: 0, max: 12 }),
      pages: fc.integer({ min: 1, max: 9 }),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const device = scattered()
        // Of a page: whether it was given back, and was said to be.
        const plain: ('given back' | 'said' | undefined)[] = []
        for (const { what, page, pages } of steps) {
          const iova = BigInt(page) << 12n
          const last = iova + (BigInt(pages) << 12n) - 1n
          const own = Array.from({ length: pages }, (_, i) => page + i)
          if (what === 'invalidate') {
            device.invalidated(iova, last)
            for (const one of own) plain[one] = undefined
            continue
          }
          device.begin()
          const isNews = own.some((one) => plain[one] === 'given back')
          expect(reach(device, iova, pages << 12)).toBe(isNews)
          for (const one of own) if (plain[one] === 'given back') plain[one] = 'said'
          if (what === 'wait') continue
          device.answered()
          for (const one of own) plain[one] ??= 'given back'
        }
      }),
    )
  })
})
