import { describe, expect, it } from 'vitest'
import { AllocRequest } from '../../src/kernel/guest/alloc-request.ts'
import { PROP } from '../../src/kernel/guest/device-tree.ts'
import { FAIL, LARGE_POOL } from '../../src/kernel/guest/iommu-table.ts'
import { bootedGuest, DEFAULT_LIOBN, MASK_64, QEMU_PHB } from '../support/guest-machine.ts'
import { testTable } from '../support/test-table.ts'

const GIB = 1n << 30n

/** A request of one CPU for a PCI device with the given mask. */
function request(cpu: number, mask = MASK_64, boundary = 2 ** 20): AllocRequest {
  const out = new AllocRequest().reach(
    Number(BigInt.asIntN(32, mask >> 32n)),
    Number(BigInt.asIntN(32, mask)),
    12,
  )
  out.cpu = cpu
  out.boundary = boundary
  return out
}

describe('T20 enable_ddw on QEMU, guest of 4 GiB', () => {
  const memory = [{ gpa: 0n, bytes: 4n * GIB }]
  const guest = bootedGuest({ memory, maxRamBytes: 4n * GIB })
  guest.hypervisor.calls.length = 0
  const answer = guest.call('probe', { device: 'nic', mask: MASK_64 })

  it('takes the largest page size and maps all memory with one call', () => {
    const { calls } = guest.hypervisor
    expect(calls[0]).toEqual({ call: 'rtas 0x2026', args: [0n, 0x0800_0000n, 0x2000_0000n] })
    expect(calls[1]).toEqual({ call: 'rtas 0x2027', args: [0n, 0x0800_0000n, 0x2000_0000n, 24n, 32n] })
    expect(calls[2]?.call).toBe('H_PUT_TCE_INDIRECT')
    const [liobn, ioba, list, count] = calls[2]?.args ?? []
    expect([liobn, ioba, count]).toEqual([0x8000_0001n, 1n << 59n, 256n])
    for (let i = 0; i < 256; i++) {
      expect(guest.hypervisor.memory.get(Number(list) + i * 8)).toBe((BigInt(i) << 24n) | 3n)
    }
    expect(calls).toHaveLength(3)
  })

  it('says that the device is direct, at 1 << 59', () => {
    expect(answer).toMatchObject({ rule: 'done-direct', outputs: { offset: 1n << 59n, limit: 0n } })
    const mapped = guest.call('dma_map_page', { device: 'nic', gpa: 0x1234_5000n, bytes: 64n })
    expect(mapped).toMatchObject({ rule: 'done-direct', outputs: { handle: 0x0800_0000_1234_5000n } })
  })

  it('writes the property as 24 bytes', () => {
    expect(guest.kernel.node('pci0')?.cells(PROP.DIRECT64)).toEqual([0x8000_0001, 0, 0x0800_0000, 0, 24, 32])
  })

  it('a second function of the endpoint uses the same window without asking', () => {
    const before = guest.hypervisor.calls.length
    expect(guest.call('probe', { device: 'disk', mask: MASK_64 }).rule).toBe('done-direct')
    expect(guest.hypervisor.calls).toHaveLength(before)
  })
})

describe('T21 enable_ddw where firmware has one window only', () => {
  const properties = { ...QEMU_PHB, [PROP.DDW_EXTENSIONS]: [1, 0x2029] }
  const poor = (profile: string, extensions = properties) => {
    const guest = bootedGuest({
      profile,
      properties: extensions,
      memory: [{ gpa: 0n, bytes: GIB }],
      maxRamBytes: 1n << 36n,
    })
    Object.assign(guest.hypervisor.firmware, { windows: 0, largest: 0x4000n, pageSizes: 3 })
    guest.hypervisor.calls.length = 0
    return guest
  }

  it('makes a dynamic window as large as firmware gives, with 4 pools', () => {
    const guest = poor('intended')
    const answer = guest.call('probe', { device: 'nic', mask: MASK_64 })
    expect(answer).toMatchObject({ rule: 'done-table', outputs: { offset: 0n } })
    expect(guest.hypervisor.seen('rtas 0x2027')).toEqual([[0n, 0x0800_0000n, 0x2000_0000n, 16n, 30n]])
    const table = guest.device('nic').table
    expect(table).toMatchObject({ entries: 16_384, poolCount: 4, poolEntries: 3072, pageShift: 16 })
    expect(table?.hintOf(LARGE_POOL)).toBe(12_288)
    const node = guest.kernel.node('pci0')
    expect(node?.cells(PROP.DMA64)).toEqual([0x8000_0001, 0, 0x0800_0000, 0, 16, 30])
    expect(node?.cells(PROP.DMA_WINDOW)).toBeUndefined()
  })

  it('clears the default window in steps of 512 before it goes', () => {
    const guest = poor('intended')
    guest.call('probe', { device: 'nic', mask: MASK_64 })
    const stuffed = guest.hypervisor.seen('H_STUFF_TCE').filter(([liobn]) => liobn === BigInt(DEFAULT_LIOBN))
    expect(stuffed).toHaveLength(512)
    expect(stuffed[1]).toEqual([BigInt(DEFAULT_LIOBN), 512n << 12n, 0n, 512n])
  })

  it('X15: asks to clear 0 pages at base 0 instead', () => {
    const guest = poor('X15')
    guest.call('probe', { device: 'nic', mask: MASK_64 })
    const names = guest.hypervisor.calls.map((c) => c.call)
    expect(names.slice(0, 4)).toEqual(['rtas 0x2026', 'H_STUFF_TCE', 'rtas 0x2028', 'rtas 0x2026'])
    expect(guest.hypervisor.calls[1]?.args).toEqual([BigInt(DEFAULT_LIOBN), 0n, 0n, 0n])
  })

  it('brings the default window back where making one fails, and does not try again', () => {
    const guest = poor('intended')
    guest.hypervisor.firmware.createStatus.push(-1)
    expect(guest.call('probe', { device: 'nic', mask: MASK_64 }).rule).toBe('done-table')
    expect(guest.hypervisor.seen('rtas 0x2029')).toEqual([[0n, 0x0800_0000n, 0x2000_0000n]])
    const before = guest.hypervisor.calls.length
    expect(guest.call('probe', { device: 'disk', mask: MASK_64 }).rule).toBe('done-table')
    expect(guest.hypervisor.calls).toHaveLength(before)
  })

  it('removes nothing where firmware could not bring the default window back', () => {
    const guest = poor('intended', { ...QEMU_PHB, [PROP.DDW_EXTENSIONS]: [0] })
    expect(guest.call('probe', { device: 'nic', mask: MASK_64 }).rule).toBe('done-table')
    expect(guest.hypervisor.calls.map((c) => c.call)).toEqual(['rtas 0x2026'])
  })

  it('removes nothing while the default window is in use', () => {
    const guest = poor('intended')
    guest.call('dma_map_page', { device: 'disk', gpa: 0x400_0000n, bytes: 4096n })
    guest.hypervisor.calls.length = 0
    const answer = guest.call('probe', { device: 'nic', mask: MASK_64 })
    expect(answer.warnings).toEqual(['the default DMA window is in use and cannot be replaced'])
    expect(guest.hypervisor.calls.map((c) => c.call)).toEqual(['rtas 0x2026'])
  })
})

describe('T22 iommu_init_table and range_alloc', () => {
  const table = () => testTable({ entries: 262_144, busOffset: 0n, pageShift: 12 })

  it('a window of 1 GiB has 4 pools of 49152 entries and the large pool from 196608 on', () => {
    const t = table()
    expect([t.poolCount, t.poolEntries, t.hintOf(LARGE_POOL)]).toEqual([4, 49_152, 196_608])
    expect(t.isUsed(0)).toBe(true)
  })

  it('CPU 0: single pages at slots 1 and 16, hints 16 and 32; 16 pages from the large pool', () => {
    const t = table()
    expect(t.rangeAlloc(1, request(0))).toBe(1)
    expect(t.hintOf(0)).toBe(16)
    expect(t.rangeAlloc(1, request(0))).toBe(16)
    expect(t.hintOf(0)).toBe(32)
    const aligned = request(0)
    aligned.alignOrder = 4
    expect(t.rangeAlloc(16, aligned)).toBe(196_608)
    expect(t.busOf(196_608).lo).toBe(0x3000_0000)
  })

  it('CPU 1 begins in pool 1; CPUs 0 to 7 have pools 0 1 3 0 2 3 1 2', () => {
    expect(table().rangeAlloc(1, request(1))).toBe(49_152)
    const pools = [0, 1, 2, 3, 4, 5, 6, 7].map((cpu) =>
      Math.floor(table().rangeAlloc(1, request(cpu)) / 49_152),
    )
    expect(pools).toEqual([0, 1, 3, 0, 2, 3, 1, 2])
  })

  it('a window of 512 MiB at 1 << 59 has one pool of 98304, and slot 0 is usable', () => {
    const t = testTable({ entries: 131_072, busOffset: 1n << 59n, pageShift: 12 })
    expect([t.poolCount, t.poolEntries]).toEqual([1, 98_304])
    expect(t.rangeAlloc(1, request(0))).toBe(0)
  })

  it('a mask of 16 MiB keeps all allocations in the first 4095 slots', () => {
    const t = table()
    expect(t.rangeAlloc(15, request(0, 0xff_ffffn))).toBe(1)
    expect(t.rangeAlloc(16, request(0, 0xff_ffffn))).toBe(16)
    let last = 0
    for (let slot = 0; slot !== FAIL; slot = t.rangeAlloc(1, request(0, 0xff_ffffn)))
      last = Math.max(last, slot)
    expect(last).toBe(4094)
  })
})

describe('T23 ppc_iommu_map_sg, 64 KiB pages, 4 KiB IOMMU pages', () => {
  const guest = (segment: bigint) => {
    const g = bootedGuest({ bootOptions: ['disable_ddw'] })
    g.call('probe', { device: 'nic', mask: MASK_64, max_segment: segment })
    return g
  }
  const pages = [
    { address: 0x400_0000n, bytes: 0x1_0000n },
    { address: 0x500_0000n, bytes: 0x1_0000n },
  ]

  it('two whole pages stay two segments of 64 KiB, or become one where the device takes it', () => {
    const two = guest(65_536n).call('dma_map_sg', { device: 'nic', segments: pages })
    expect(two.outputs).toEqual({
      count: 2n,
      segments: [
        { address: 0x3000_0000n, bytes: 0x1_0000n },
        { address: 0x3001_0000n, bytes: 0x1_0000n },
      ],
    })
    const one = guest(0xffff_ffffn).call('dma_map_sg', { device: 'nic', segments: pages })
    expect(one.outputs).toEqual({
      count: 1n,
      segments: [
        { address: 0x3000_0000n, bytes: 0x2_0000n },
        { address: 0n, bytes: 0n },
      ],
    })
  })

  it('halves of different pages lie in slots 1 and 2 and do not meet', () => {
    const segments = [
      { address: 0x400_0000n, bytes: 0x800n },
      { address: 0x500_0800n, bytes: 0x800n },
    ]
    expect(guest(0xffff_ffffn).call('dma_map_sg', { device: 'nic', segments }).outputs).toEqual({
      count: 2n,
      segments: [
        { address: 0x1000n, bytes: 0x800n },
        { address: 0x2800n, bytes: 0x800n },
      ],
    })
  })
})

describe('T24 iommu_alloc_coherent of 5000 bytes, 64 KiB pages', () => {
  /** A guest whose device allocates from a dynamic window of 16 MiB pages. */
  const large = (profile: string) => {
    const guest = bootedGuest({ profile, maxRamBytes: 1n << 40n })
    Object.assign(guest.hypervisor.firmware, { largest: 0x100n, pageSizes: 4 })
    guest.call('probe', { device: 'nic', mask: MASK_64 })
    return guest
  }

  it('IOMMU pages of 16 MiB: one entry, and the handle carries the offset in it', () => {
    const guest = large('intended')
    guest.call('alloc_pages', { order: 0n, owner: 'other' })
    guest.hypervisor.calls.length = 0
    const { rule, outputs } = guest.call('dma_alloc_coherent', { device: 'nic', bytes: 5000n })
    expect(rule).toBe('done')
    const gpa = outputs['gpa'] as bigint
    expect(gpa % (1n << 24n)).not.toBe(0n)
    expect(outputs['handle']).toBe((1n << 59n) | (gpa % (1n << 24n)))
    const put = guest.hypervisor.seen('H_PUT_TCE')
    expect(put).toEqual([[0x8000_0001n, 1n << 59n, ((gpa >> 24n) << 24n) | 3n]])
  })

  it('B11: no entries are asked for, the kernel warns, and the call fails', () => {
    const guest = large('B11')
    const answer = guest.call('dma_alloc_coherent', { device: 'nic', bytes: 5000n })
    expect(answer).toMatchObject({ code: 'NULL', rule: 'no-entries' })
    expect(answer.warnings).toEqual(['iommu_range_alloc: no pages are asked for'])
  })

  it('IOMMU pages of 4 KiB: 16 entries, aligned to 16', () => {
    const guest = bootedGuest({ bootOptions: ['disable_ddw'] })
    guest.call('probe', { device: 'nic', mask: MASK_64 })
    guest.hypervisor.calls.length = 0
    const { outputs } = guest.call('dma_alloc_coherent', { device: 'nic', bytes: 5000n })
    expect(outputs['handle']).toBe(0x3000_0000n)
    expect(guest.hypervisor.seen('H_PUT_TCE_INDIRECT').map((c) => c[3])).toEqual([16n])
  })
})
