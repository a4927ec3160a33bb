import { describe, expect, it } from 'vitest'
import { DMA_SET_COHERENT_MASK, DMA_SET_MASK, PROBE } from '../../src/kernel/guest/calls.ts'
import { PROP } from '../../src/kernel/guest/device-tree.ts'
import {
  bootedGuest,
  GuestMachine,
  type GuestMachineOptions,
  MASK_32,
  MASK_64,
  QEMU_PHB,
} from '../support/guest-machine.ts'
import { testRules } from '../support/rule-table.ts'

const GIB = 1n << 30n
/** A PHB without any window. */
const NO_WINDOW = { properties: {}, defaultBytes: 0n }
/** A default window that begins at 4 GiB. */
const HIGH_WINDOW = {
  properties: { [PROP.DMA_WINDOW]: [0x8000_0000, 1, 0, 0, 0x4000_0000] },
  defaultBytes: 0n,
}
/** Persistent memory, and a window that is as large as memory only. */
const WITH_PMEMORY = { hasPmemory: true }

const probe = (given: GuestMachineOptions, args = {}) =>
  bootedGuest(given).call('probe', { device: 'nic', mask: MASK_64, ...args })

/** A guest with persistent memory on firmware whose windows are as large as memory. */
function limited() {
  const guest = bootedGuest(WITH_PMEMORY)
  guest.hypervisor.firmware.largest = GIB >> 24n
  return guest
}

describe('probe', () => {
  const odd = { boundary: 0x1234n }
  testRules(PROBE, {
    'kernel-not-booted': () => [new GuestMachine().call('probe', { device: 'none' })],
    'device-unknown': () => [probe({}, { device: 'none' }), probe({}, { device: 'none', ...odd })],
    'driver-bound': () => {
      const guest = bootedGuest()
      guest.call('probe', { device: 'nic' })
      return [guest.call('probe', { device: 'nic' }), guest.call('probe', { device: 'nic', ...odd })]
    },
    'boundary-odd': () => [probe({}, odd), probe(NO_WINDOW, odd)],
    'no-table': () => [probe(NO_WINDOW), probe(NO_WINDOW, { mask: 0n })],
    'window-above-mask': () => [
      probe(HIGH_WINDOW, { mask: MASK_32 }),
      probe(HIGH_WINDOW, { coherent_mask: MASK_32 }),
    ],
    'done-limited': () => [limited().call('probe', { device: 'nic', mask: MASK_64 })],
    'done-direct': () => [probe({}), probe({ journalOn: true })],
    'done-table': () => [
      probe({}, { mask: MASK_32 }),
      probe({}, { coherent_mask: MASK_32 }),
      probe({}, { mask: MASK_64 - 1n }),
      probe({ bootOptions: ['disable_ddw'] }),
      probe({ properties: { [PROP.DMA_WINDOW]: [0x8000_0000, 0, 0, 0, 0x4000_0000] } }),
    ],
  })

  it('binds the driver: its buffers are for the owner that it names', () => {
    const guest = bootedGuest({ bootOptions: ['disable_ddw'] })
    guest.call('probe', { device: 'nic', owner: 'tcp' })
    guest.call('dma_map_page', { device: 'nic', gpa: 0x400_0000n, bytes: 16n })
    const grants = [...guest.log.records()].map((r) => r.event).filter((e) => e.kind === 'dma.grant')
    expect(grants).toMatchObject([
      { owner: 'tcp', device: 'nic', gpa: 0x400_0000n, bytes: 16, dir: 3, first: 1, count: 1 },
    ])
  })

  it('a device with a 32-bit coherent mask maps directly and allocates through its table', () => {
    const guest = bootedGuest()
    guest.call('probe', { device: 'nic', mask: MASK_64, coherent_mask: MASK_32 })
    // The second mask decides anew: without all 64 bits there is no bypass.
    expect(guest.call('dma_map_page', { device: 'nic', gpa: 0x400_0000n, bytes: 16n }).rule).toBe('done')
    guest.call('dma_set_mask', { device: 'nic', mask: MASK_64 })
    expect(guest.call('dma_map_page', { device: 'nic', gpa: 0x400_0000n, bytes: 16n }).rule).toBe(
      'done-direct',
    )
    expect(guest.call('dma_alloc_coherent', { device: 'nic', bytes: 16n }).rule).toBe('done')
  })

  it.each([
    ['max_segment', 0n, { max_segment: 65_536n }],
    ['boundary', 0n, { boundary: MASK_64 }],
  ])('%s 0 stands for what the DMA API assumes where a driver says nothing', (name, value, same) => {
    const mapped = (args: Record<string, bigint>) => {
      const guest = bootedGuest({ bootOptions: ['disable_ddw'] })
      guest.call('probe', { device: 'nic', mask: MASK_64, ...args })
      const page = (address: bigint) => ({ address, bytes: 0x8000n })
      const segments = [page(0x400_0000n), page(0x500_0000n), page(0x600_0000n)]
      return guest.call('dma_map_sg', { device: 'nic', segments })
    }
    expect(mapped({ [name]: value })).toEqual(mapped(same))
    expect(mapped({ [name]: value })).toMatchObject({ rule: 'done', outputs: { count: 2n } })
  })

  it('says once in the records that a device reaches memory directly', () => {
    const guest = bootedGuest()
    guest.call('probe', { device: 'nic', mask: MASK_64 })
    const told = [...guest.log.records()].map((r) => r.event).filter((e) => e.kind === 'dma.direct')
    expect(told).toEqual([{ kind: 'dma.direct', device: 'nic', offset: 1n << 59n, limit: 0n }])
  })
})

const maskCases = (name: string) => {
  const set = (given: GuestMachineOptions, mask = MASK_64, device = 'nic') =>
    bootedGuest(given).call(name, { device, mask })
  return {
    'kernel-not-booted': () => [new GuestMachine().call(name, { device: 'none', mask: 0n })],
    'device-unknown': () => [set({}, 0n, 'none')],
    'no-table': () => [set(NO_WINDOW), set(NO_WINDOW, 0n)],
    'window-above-mask': () => [set(HIGH_WINDOW, MASK_32)],
    'done-limited': () => [limited().call(name, { device: 'nic', mask: MASK_64 })],
    'done-direct': () => [set({})],
    'done-table': () => [
      set({}, MASK_32),
      set({ bootOptions: ['disable_ddw'] }),
      set(HIGH_WINDOW, (MASK_32 << 1n) | 1n),
    ],
  }
}

describe('dma_set_mask', () => testRules(DMA_SET_MASK, maskCases('dma_set_mask')))
describe('dma_set_coherent_mask', () => testRules(DMA_SET_COHERENT_MASK, maskCases('dma_set_coherent_mask')))

describe('a mask of 64 bits and persistent memory', () => {
  const size = (windows: number, largest: bigint, given: GuestMachineOptions = {}) => {
    const guest = bootedGuest({ hasPmemory: true, ...given })
    Object.assign(guest.hypervisor.firmware, { windows, largest })
    const answer = guest.call('probe', { device: 'nic', mask: MASK_64 })
    return { guest, answer, created: guest.hypervisor.seen('rtas 0x2027').map((a) => a.slice(3)) }
  }

  it('a window of 2^51 bytes covers all memory that there can be: no limit', () => {
    const { answer, created } = size(1, 1n << 37n)
    expect(created).toEqual([[24n, 51n]])
    expect(answer).toMatchObject({ rule: 'done-direct', outputs: { limit: 0n } })
  })

  it('a kernel with 4 KiB pages has 46 bits of physical memory', () => {
    expect(size(1, 1n << 37n, { pageShift: 12 }).created).toEqual([[24n, 46n]])
  })

  it('a window as large as memory is direct below its end, and the table has the rest', () => {
    const { guest, answer, created } = size(1, GIB >> 24n)
    expect(created).toEqual([[24n, 30n]])
    expect(answer.outputs['limit']).toBe((1n << 59n) + GIB)
    expect(answer.warnings).toEqual([
      'ibm,pmemory is left out: no DMA window is large enough',
      'direct DMA of nic is limited',
      'direct DMA of nic is limited',
    ])
    const map = (gpa: bigint) => guest.call('dma_map_page', { device: 'nic', gpa, bytes: 4096n, as: 'x' })
    expect(map(GIB - 4096n)).toMatchObject({
      rule: 'done-direct',
      outputs: { handle: (1n << 59n) + GIB - 4096n },
    })
    expect(guest.call('dma_unmap_page', { device: 'nic', buffer: 'x' }).rule).toBe('done-direct')
    expect(map(GIB)).toMatchObject({ rule: 'done', outputs: { handle: 0x1000n } })
    expect(guest.call('dma_unmap_page', { device: 'nic', buffer: 'x' }).rule).toBe('done')
    expect(guest.call('dma_alloc_coherent', { device: 'nic', bytes: 1n }).rule).toBe('done')
  })

  it('one window as large as memory cannot serve both: it is dynamic, and the default one is gone', () => {
    const { guest, answer } = size(0, GIB >> 24n)
    expect(answer.rule).toBe('done-table')
    expect(guest.kernel.node('pci0')?.cells(PROP.DMA64)).toBeDefined()
    expect(guest.device('nic').table?.liobn).toBe(0x8000_0001)
  })
})

describe('a dynamic window and what lies around it', () => {
  const dynamic = (base: bigint, pageShift = 16) => {
    const guest = bootedGuest({
      maxRamBytes: 1n << 40n,
      phb: { mmio32: { start: 0x8000_0000n, last: 0xffff_ffffn } },
    })
    Object.assign(guest.hypervisor.firmware, {
      windows: 0,
      largest: 1n << 20n,
      pageSizes: pageShift === 16 ? 3 : 1,
      nextBase: base,
    })
    guest.call('probe', { device: 'nic', mask: MASK_64 })
    return guest
  }

  it('at bus address 0 it leaves out slot 0 and the 32-bit MMIO, whose last page it gives out', () => {
    const table = dynamic(0n).device('nic').table
    expect(table).toMatchObject({ offset: 0, reservedStart: 0x8000, reservedEnd: 0xffff })
    expect([0, 0x7fff, 0x8000, 0xfffe, 0xffff].map((s) => table?.isUsed(s))).toEqual([
      true,
      false,
      true,
      true,
      false,
    ])
    expect(table?.isInUse).toBe(false)
  })

  it('at 1 << 59 there is nothing to leave out', () => {
    const table = dynamic(1n << 59n).device('nic').table
    expect([table?.usedCount, table?.isInUse]).toEqual([0, false])
  })

  it('another function, whose default table is gone, uses it too', () => {
    const guest = dynamic(1n << 59n)
    expect(guest.call('probe', { device: 'disk', mask: MASK_64 }).rule).toBe('done-table')
    expect(guest.device('disk').table).toBe(guest.device('nic').table)
  })

  it('one that is too large for a bitmap is not modelled', () => {
    const guest = bootedGuest({ maxRamBytes: 1n << 44n })
    Object.assign(guest.hypervisor.firmware, { largest: 1n << 31n, pageSizes: 1 })
    const answer = guest.call('probe', { device: 'nic', mask: MASK_64 })
    expect(answer).toMatchObject({
      state: 'unmodelled',
      rule: 'a dynamic DMA window of 2^43 bytes is too large for this model',
    })
  })
})

describe('which page size a query leads to', () => {
  it.each([
    [0x107, 24],
    [0x104, 24],
    [0x180, 34],
    [0x103, 21],
    [0x1, 12],
    [0x7f, 28],
    [0xe00, 0],
  ])('mask 0x%s', (mask, shift) => {
    const guest = bootedGuest()
    guest.hypervisor.firmware.pageSizes = mask
    guest.call('probe', { device: 'nic', mask: MASK_64 })
    expect(guest.hypervisor.seen('rtas 0x2027').map((a) => Number(a[3]))).toEqual(shift === 0 ? [] : [shift])
  })

  it('firmware without the extension answers the size in one cell', () => {
    const guest = bootedGuest({ properties: { ...QEMU_PHB, [PROP.DDW_EXTENSIONS]: [1, 0x2029] } })
    guest.hypervisor.firmware.largest = 64n
    expect(guest.call('probe', { device: 'nic', mask: MASK_64 }).rule).toBe('done-direct')
  })

  it('create is asked again while firmware is busy', () => {
    const guest = bootedGuest()
    guest.hypervisor.firmware.createStatus.push(-2, 9905, 9900)
    expect(guest.call('probe', { device: 'nic', mask: MASK_64 }).rule).toBe('done-direct')
    expect(guest.hypervisor.seen('rtas 0x2027')).toHaveLength(4)
  })

  it('firmware that stays busy keeps the kernel for ever: not modelled', () => {
    const guest = bootedGuest()
    guest.hypervisor.firmware.createStatus = new Array(2000).fill(-2)
    expect(guest.call('probe', { device: 'nic', mask: MASK_64 })).toMatchObject({ state: 'unmodelled' })
  })
})
