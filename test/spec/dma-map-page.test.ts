import { describe, expect, it } from 'vitest'
import { DMA_MAP_PAGE, DMA_UNMAP_PAGE } from '../../src/kernel/guest/calls.ts'
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

const NO_WINDOW = { properties: {}, defaultBytes: 0n }
const TABLE = { bootOptions: ['disable_ddw'] }
const GPA = 0x400_0000n

function guest(given: GuestMachineOptions = TABLE) {
  const machine = bootedGuest(given)
  machine.call('probe', { device: 'nic', mask: MASK_64 })
  machine.call('alloc_pages', { owner: 'nic', as: 'buf' })
  return machine
}

const refusing = (given: GuestMachineOptions = TABLE) => {
  const machine = guest(given)
  machine.hypervisor.refuse = () => -4
  return machine
}

const crowded = () => {
  const machine = refusing()
  machine.device('nic').table?.markUsed(1, 262_144)
  return machine
}

/** A device that went direct up to a limit, and whose driver has lowered its mask since. */
const narrowed = () => {
  const machine = bootedGuest({ hasPmemory: true })
  machine.hypervisor.firmware.largest = 64n
  machine.call('probe', { device: 'nic', mask: MASK_64 })
  machine.call('alloc_pages', { owner: 'nic', as: 'buf' })
  machine.call('dma_set_mask', { device: 'nic', mask: MASK_32 })
  return machine
}

describe('dma_map_page', () => {
  const map = (machine: GuestMachine, args = {}) =>
    machine.call('dma_map_page', { device: 'nic', gpa: GPA, bytes: 64n, ...args })
  const mapBuffer = (machine: GuestMachine, args = {}) =>
    machine.call('dma_map_page', { device: 'nic', buffer: 'buf', ...args })

  testRules(DMA_MAP_PAGE, {
    'kernel-not-booted': () => [map(new GuestMachine(), { device: 'none' })],
    'device-unknown': () => [
      map(guest(), { device: 'none' }),
      mapBuffer(guest(), { device: 'none', buffer: 'none' }),
    ],
    'buffer-unknown': () => [
      mapBuffer(guest(), { buffer: 'none' }),
      mapBuffer(guest(NO_WINDOW), { buffer: 'none', offset: 1n << 20n }),
      guest().call('dma_map_page', { device: 'nic', gpa: GPA }),
      map(guest(), { gpa: 1n << 52n }),
    ],
    'outside-buffer': () => [
      mapBuffer(guest(), { bytes: 0x1_0001n }),
      mapBuffer(guest(), { offset: 0x1_0001n }),
      mapBuffer(guest(NO_WINDOW), { offset: 1n, bytes: 0x1_0000n }),
      mapBuffer(narrowed(), { bytes: 0x1_0001n }),
    ],
    'direct-beyond-mask': () => [map(narrowed()), mapBuffer(narrowed())],
    'no-table': () => [map(guest(NO_WINDOW)), map(guest(NO_WINDOW), { bytes: 0n })],
    'no-entries': () => [map(crowded()), map(guest(), { bytes: 0n }), map(guest(), { bytes: 0x4000_0000n })],
    'set-failed': () => [map(refusing()), map(refusing(), { bytes: 0x2_0000n })],
    'done-direct': () => [map(guest({})), mapBuffer(guest({})), map(guest({}), { gpa: 1n << 40n })],
    done: () => [
      map(guest()),
      mapBuffer(guest()),
      mapBuffer(guest(), { offset: 0x1_0000n - 1n }),
      map(guest(), { gpa: 1n << 40n }),
    ],
  })

  it('a mask that was lowered loses the memory below the limit of direct access, not that above', () => {
    const machine = narrowed()
    expect(map(machine).warnings).toEqual(['a directly mapped address is out of reach of nic'])
    expect(map(machine, { gpa: 1n << 30n }).rule).toBe('done')
    machine.call('dma_set_mask', { device: 'nic', mask: MASK_64 })
    expect(map(machine).rule).toBe('done-direct')
  })

  it.each([
    ['to-device', 1n],
    ['from-device', 3n],
    ['bidirectional', 3n],
  ])('%s: the device may read always, and write unless memory only goes to it', (dir, perm) => {
    const machine = guest()
    map(machine, { dir })
    expect([...machine.hypervisor.live().values()]).toEqual([GPA | perm])
  })

  it('covers the IOMMU pages that the bytes touch, and carries the offset', () => {
    const machine = guest()
    const { outputs } = map(machine, { gpa: GPA + 0xff0n, bytes: 0x20n })
    expect(outputs['handle']).toBe(0x1ff0n)
    expect([...machine.hypervisor.live()]).toEqual([
      [0x1000n, GPA | 3n],
      [0x2000n, (GPA + 0x1000n) | 3n],
    ])
  })

  it('aligns whole system pages, not parts of them', () => {
    const machine = guest()
    machine.call('dma_map_page', { device: 'nic', gpa: GPA + 0x1000n, bytes: 0x1_0000n })
    expect(map(machine, { bytes: 0x1_0000n }).outputs['handle']).toBe(0x3001_0000n)
    expect(map(machine, { gpa: GPA + 0x1000n, bytes: 0x1_1000n }).outputs['handle']).toBe(0x3002_0000n)
    expect(map(machine, { gpa: GPA + 0x1000n, bytes: 0x1_1000n }).outputs['handle']).toBe(0x3003_1000n)
  })

  it('writes up to 512 entries with one call', () => {
    const machine = guest()
    machine.hypervisor.calls.length = 0
    map(machine, { bytes: 1025n * 4096n })
    expect(machine.hypervisor.calls.map((c) => [c.call, c.args.at(-1)])).toEqual([
      ['H_PUT_TCE_INDIRECT', 512n],
      ['H_PUT_TCE_INDIRECT', 512n],
      ['H_PUT_TCE_INDIRECT', 1n],
    ])
  })

  it.each([
    [{ putIndirect: false, stuff: false }, 'H_PUT_TCE'],
    [{ putIndirect: false, stuff: true }, 'H_STUFF_TCE'],
  ])('without H_PUT_TCE_INDIRECT every entry is one call: %o', (multiTce, clearing) => {
    const machine = guest({ ...TABLE, multiTce })
    machine.hypervisor.calls.length = 0
    const { outputs } = map(machine, { bytes: 3n * 4096n })
    machine.call('dma_unmap_page', { device: 'nic', handle: outputs['handle'] as bigint, bytes: 3n * 4096n })
    const puts = new Array(3).fill('H_PUT_TCE')
    expect(machine.hypervisor.calls.map((c) => c.call)).toEqual([
      ...puts,
      ...(clearing === 'H_PUT_TCE' ? puts : [clearing]),
    ])
    expect(machine.hypervisor.live().size).toBe(0)
  })

  it('the list page is that of the CPU; without memory for it every entry is one call', () => {
    const machine = guest()
    const listOf = (cpu: number) => {
      machine.hypervisor.calls.length = 0
      machine.call('dma_map_page', { device: 'nic', gpa: GPA, bytes: 0x2000n }, cpu)
      return machine.hypervisor.calls[0]
    }
    const [first, second] = [listOf(0)?.args[2], listOf(1)?.args[2]]
    expect(first).not.toBe(second)
    expect(listOf(0)?.args[2]).toBe(first)
    while (machine.kernel.pages.alloc(0, 1) !== -1);
    expect(listOf(2)?.call).toBe('H_PUT_TCE')
  })

  it('names a mapping of its own, or keeps it with the buffer', () => {
    const machine = guest()
    const whole = mapBuffer(machine).outputs['handle']
    mapBuffer(machine, { offset: 16n, bytes: 16n, as: 'part' })
    expect(machine.kernel.buffers.get('buf')).toMatchObject({ handle: whole, mappedBytes: 0x1_0000 })
    expect(machine.kernel.buffers.get('part')).toMatchObject({ handle: 0x1010n, bytes: 16, mappedBytes: 16 })
    expect(machine.call('dma_unmap_page', { device: 'nic', buffer: 'part' }).rule).toBe('done')
    expect(machine.call('dma_unmap_page', { device: 'nic', buffer: 'buf' }).rule).toBe('done')
    expect(machine.hypervisor.live().size).toBe(0)
  })
})

describe('dma_unmap_page', () => {
  const withMap = (given: GuestMachineOptions = TABLE) => {
    const machine = guest(given)
    machine.call('dma_map_page', { device: 'nic', buffer: 'buf' })
    return machine
  }
  const unmap = (machine: GuestMachine, args = {}) =>
    machine.call('dma_unmap_page', { device: 'nic', buffer: 'buf', ...args })

  testRules(DMA_UNMAP_PAGE, {
    'kernel-not-booted': () => [unmap(new GuestMachine(), { device: 'none' })],
    'device-unknown': () => [
      unmap(withMap(), { device: 'none' }),
      unmap(guest(), { device: 'none', buffer: 'none' }),
    ],
    'buffer-unknown': () => [unmap(guest()), unmap(guest(NO_WINDOW)), unmap(guest(), { handle: 0x1000n })],
    'no-table': () => [unmap(guest(NO_WINDOW), { handle: 1n << 40n, bytes: 1n })],
    'outside-table': () => [
      unmap(withMap(), { handle: 0x4000_0000n }),
      unmap(withMap(), { handle: 0x3fff_f000n, bytes: 0x1001n }),
      unmap(
        guest({
          properties: { ...QEMU_PHB, [PROP.DMA_WINDOW]: [0x8000_0000, 1, 0, 0, 0x4000_0000] },
          ...TABLE,
        }),
        {
          handle: 0x1000n,
          bytes: 1n,
        },
      ),
    ],
    'done-direct': () => [unmap(withMap({})), unmap(withMap({}), { handle: 0n })],
    done: () => [
      unmap(withMap()),
      unmap(withMap(), { handle: 0x5000n, bytes: 1n }),
      unmap(withMap(), { bytes: 0n }),
    ],
  })

  it('an address outside changes nothing and is logged', () => {
    const machine = withMap()
    expect(unmap(machine, { handle: 0x4000_0000n }).warnings).toEqual([
      'iommu_free: the address lies outside the table',
    ])
    expect(machine.hypervisor.live().size).toBe(16)
  })

  it('a shorter length leaves the rest mapped', () => {
    const machine = withMap()
    unmap(machine, { bytes: 0x1000n })
    expect(machine.hypervisor.live().size).toBe(15)
    expect(machine.device('nic').table?.usedCount).toBe(16)
  })

  it('takes as many entries at once as H_STUFF_TCE takes', () => {
    const machine = guest()
    machine.call('dma_map_page', { device: 'nic', gpa: GPA, bytes: 513n * 4096n, as: 'big' })
    machine.hypervisor.calls.length = 0
    unmap(machine, { buffer: 'big' })
    expect(machine.hypervisor.seen('H_STUFF_TCE').map((c) => [c[1], c[3]])).toEqual([
      [0x3000_0000n, 512n],
      [0x3020_0000n, 1n],
    ])
  })

  it('what the hypervisor does not clear stays reachable: the kernel only logs it', () => {
    const machine = withMap()
    machine.hypervisor.refuse = () => -1
    expect(unmap(machine)).toMatchObject({ rule: 'done', warnings: ['H_STUFF_TCE answered H_HARDWARE'] })
    expect(machine.hypervisor.live().size).toBe(16)
    expect(machine.device('nic').table?.usedCount).toBe(1)
  })

  it('a mask that does not reach a window refuses the mapping', () => {
    const machine = guest()
    machine.device('nic').mask = 0xfffn
    expect(machine.call('dma_map_page', { device: 'nic', gpa: GPA, bytes: 1n }).rule).toBe('no-entries')
    machine.device('nic').mask = MASK_32
    expect(machine.call('dma_map_page', { device: 'nic', gpa: GPA, bytes: 1n }).rule).toBe('done')
  })
})
