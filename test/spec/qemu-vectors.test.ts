import { describe, expect, it } from 'vitest'
import type { IommuChange, IommuListener } from '../../src/hw/iommu-listener.ts'
import { calls, LIOBN, LIOBN_64, type Pseries, pseries, WINDOW_64 } from '../support/pseries.ts'

const END = 1n << 30n

/** A listener that writes down what it hears: `MAP entry+count tce` or `UNMAP ...`. */
function listener(wants: IommuListener['wants'], heard: string[]): IommuListener {
  return {
    name: `test-${wants}`,
    wants,
    notify: ({ isMap, first, count, tceHi, tceLo }: IommuChange) => {
      const tce = ((BigInt(tceHi >>> 0) << 32n) | BigInt(tceLo >>> 0)).toString(16)
      heard.push(`${isMap ? 'MAP' : 'UNMAP'} ${first}+${count} ${tce}`)
    },
  }
}

describe('named vectors, as QEMU answers them', () => {
  it('T3: values without permissions are stored and read back', () => {
    const m = pseries()
    expect(calls(m).get(0n).outputs['r4']).toBe(0n)
    expect(calls(m).put(0x1000n, 0n).code).toBe('H_SUCCESS')
    expect(calls(m).put(0x1000n, 0xdead000n).code).toBe('H_SUCCESS')
    expect(calls(m).get(0x1000n).outputs['r4']).toBe(0xdead000n)
    calls(m).put(0x2000n, 0x5003n)
    expect(calls(m).get(0x2000n).outputs['r4']).toBe(0x5003n)
  })

  it('T4: IOBA rounded down; zero pages refused; the last slot cleared though the call fails', () => {
    const m = pseries()
    const heard: string[] = []
    m.phb.space.listen(listener('both', heard))
    expect(calls(m).put(0x1800n, 0x5003n).code).toBe('H_SUCCESS')
    expect(m.tce(LIOBN, 1)).toBe(0x5003n)
    expect(calls(m).put(END, 3n).code).toBe('H_PARAMETER')
    expect(calls(m).stuff(END, 0n, 0n).code).toBe('H_PARAMETER')
    calls(m).put(END - 0x1000n, 0x5003n)
    heard.length = 0
    expect(calls(m).stuff(END - 0x1000n, 0n, 2n).code).toBe('H_PARAMETER')
    expect(m.tce(LIOBN, 262143)).toBe(0n)
    expect(heard).toEqual(['UNMAP 262143+1 0'])
  })

  it('T5: counts, list alignment, unknown LIOBN; STUFF takes permission bits and tells of MAP', () => {
    const m = pseries()
    const heard: string[] = []
    m.phb.space.listen(listener('both', heard))
    expect(calls(m).indirect(0n, 0x1000n, 513n).code).toBe('H_PARAMETER')
    expect(calls(m).indirect(0n, 0x1800n, 1n).code).toBe('H_PARAMETER')
    expect(calls(m).indirect(0n, 0x1000n, 513n, 7n)).toMatchObject({
      code: 'H_PARAMETER',
      rule: 'liobn-unknown',
    })
    expect(calls(m).stuff(0n, 1n, 4n).code).toBe('H_SUCCESS')
    expect(heard).toEqual(['MAP 0+4 1'])
  })

  it('T19: a life of windows by RTAS', () => {
    const m = pseries()
    const status = (token: number, args: number[], nret: number) => m.rtas.call(token, args, nret)
    const device = [0, 0x800_0000, 0x2000_0000]
    expect(status(0x2026, device, 6)).toEqual([0, 1, 0x20, 0, 0x107, 0])
    expect(status(0x2026, device, 5)).toEqual([0, 1, 0x8000_0000, 0x107, 0])
    expect(status(0x2026, device, 4)).toEqual([-3])
    expect(status(0x2027, [...device, 24, 32], 4)).toEqual([0, 0x8000_0001, 0x0800_0000, 0])
    expect(status(0x2027, [...device, 24, 32], 4)).toEqual([-1])
    expect(status(0x2027, [...device, 25, 32], 4)).toEqual([-3])
    expect(status(0x2027, [...device, 24, 23], 4)).toEqual([-3])
    expect(status(0x2028, [0x8000_0001], 1)).toEqual([0])
    expect(m.phb.openWindows).toBe(1)
    expect(status(0x2028, [0x8000_0000], 1)).toEqual([0])
    expect(status(0x2026, device, 6)[1]).toBe(2)
    expect(status(0x2027, [...device, 16, 31], 4)).toEqual([0, 0x8000_0000, 0, 0])
    expect(status(0x2028, [0x8000_0000], 1)).toEqual([0])
    expect(m.phb.openWindows).toBe(0)
  })

  it('T25: a STUFF tells an UNMAP for each page; an overwrite tells MAP only (B12)', () => {
    const m = pseries()
    const vhost: string[] = []
    const all: string[] = []
    calls(m).put(0x1_0000n, 0x700_0003n)
    m.phb.space.listen(listener('unmap', vhost))
    m.phb.space.listen(listener('both', all))
    expect(all).toEqual(['MAP 16+1 7000003'])
    calls(m).stuff(0x1_0000n, 0n, 3n)
    expect(vhost).toEqual(['UNMAP 16+3 0'])
    calls(m).put(0x1_0000n, 0x700_0003n)
    vhost.length = 0
    all.length = 0
    calls(m).put(0x1_0000n, 0x800_0003n)
    expect([vhost, all]).toEqual([[], ['MAP 16+1 8000003']])
  })
})

describe('who listens to a bus', () => {
  const intended = () => pseries({ profile: 'intended' })

  it('hears the old page go before the new one comes, without B12', () => {
    const m = intended()
    const vhost: string[] = []
    const all: string[] = []
    m.phb.space.listen(listener('unmap', vhost))
    m.phb.space.listen(listener('both', all))
    m.memory.list(0x9000, [0x4003n, 0x5003n, 0x6003n])
    calls(m).put(0x1000n, 0x3003n)
    calls(m).indirect(0n, 0x9000n, 3n)
    expect(vhost).toEqual(['UNMAP 1+1 0'])
    expect(all).toEqual(['MAP 1+1 3003', 'MAP 0+1 4003', 'UNMAP 1+1 0', 'MAP 1+1 5003', 'MAP 2+1 6003'])
    all.length = 0
    // Entries 0 to 2 are live, 3 is not: what was not mapped needs no UNMAP, but hears one.
    calls(m).stuff(0n, 0n, 4n)
    expect(all).toEqual(['UNMAP 0+3 0', 'UNMAP 3+1 0'])
  })

  it('moves the table with its contents when the first one comes', () => {
    const m = pseries()
    calls(m).put(0x1000n, 0x5003n)
    const from = m.log.length
    const [one, two] = [listener('unmap', []), listener('map', [])]
    expect(m.table(LIOBN).needsVfio).toBe(false)
    m.phb.space.listen(one)
    m.phb.space.listen(two)
    expect(m.effects(from)).toMatchObject([
      { kind: 'window.move', liobn: 0x8000_0000, how: 0 },
      { kind: 'iommu.notify', first: 1, count: 1, tce: 0x5003n, map: 1 },
    ])
    expect([m.table(LIOBN).needsVfio, m.tce(LIOBN, 1)]).toEqual([true, 0x5003n])
    m.phb.space.unlisten(one)
    expect(m.table(LIOBN).needsVfio).toBe(true)
    m.phb.space.unlisten(two)
    m.phb.space.unlisten(two)
    expect(m.table(LIOBN).needsVfio).toBe(false)
  })

  it('hears of a window that opens later, which has nothing to tell yet', () => {
    const m = pseries()
    const heard: string[] = []
    m.phb.space.listen(listener('both', heard))
    const from = m.log.length
    calls(m).create(16n, 24n)
    expect(m.effects(from).map((e) => e.kind)).toEqual(['window.open', 'window.move'])
    calls(m).put(WINDOW_64, 0x1_0003n, LIOBN_64)
    expect(heard).toEqual(['MAP 0+1 10003'])
    calls(m).remove(LIOBN_64)
    expect(m.table(LIOBN_64).needsVfio).toBe(false)
  })

  it('hears rows of live entries in runs when it comes late', () => {
    const m = pseries()
    m.memory.list(0x9000, [0x4003n, 0x5003n, 0x6001n, 0n, 0x7003n])
    calls(m).indirect(0n, 0x9000n, 5n)
    const heard: string[] = []
    m.phb.space.listen(listener('map', heard))
    expect(heard).toEqual(['MAP 0+2 4003', 'MAP 2+1 6001', 'MAP 4+1 7003'])
  })

  it('is refused where it asks for device-IOTLB events', () => {
    const m = pseries()
    const from = m.log.length
    expect(m.phb.space.listen(listener('device-iotlb', []))).toBe(false)
    calls(m).put(0x1000n, 3n)
    expect(m.effects(from).map((e) => e.kind)).toEqual(['tce.set'])
  })

  it('hears only what it asked for, and records tell only what somebody hears', () => {
    const m = pseries()
    const heard: string[] = []
    m.phb.space.listen(listener('map', heard))
    const from = m.log.length
    calls(m).put(0n, 3n)
    calls(m).put(0n, 0n)
    expect(heard).toEqual(['MAP 0+1 3'])
    expect(m.effects(from).map((e) => e.kind)).toEqual(['tce.set', 'iommu.notify', 'tce.set'])
  })
})

describe('two windows at one bus address (CP16)', () => {
  /** 64-bit windows of both tables at 2^59: the second of 16 MiB, the first of 64 MiB. */
  function overlap(): Pseries {
    const m = pseries()
    calls(m).create(12n, 24n)
    calls(m).remove(LIOBN)
    calls(m).create(12n, 26n)
    calls(m).put(WINDOW_64, 0x1003n, LIOBN)
    calls(m).put(WINDOW_64, 0x2003n, LIOBN_64)
    calls(m).put(WINDOW_64 + (1n << 24n), 0x3003n, LIOBN)
    return m
  }

  it('the second table wins wherever both reach, the other shows beyond its end', () => {
    const m = overlap()
    const { space } = m.phb
    expect(space.translate(0x800_0000, 0)).toBe(true)
    expect([space.window?.liobn, space.gpaLo]).toEqual([0x8000_0001, 0x2000])
    expect(space.translate(0x800_0000, 1 << 24)).toBe(true)
    expect([space.window?.liobn, space.gpaLo]).toEqual([0x8000_0000, 0x3000])
    expect(space.translate(0x800_0000, 1 << 26)).toBe(false)
    expect([space.window, space.entry]).toEqual([null, -1])
  })

  it('an entry of the hidden window maps nothing', () => {
    const m = overlap()
    calls(m).put(WINDOW_64, 0n, LIOBN_64)
    expect(calls(m).dmaRead(WINDOW_64, 4n).rule).toBe('refused')
  })
})
