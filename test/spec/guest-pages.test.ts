import { describe, expect, it } from 'vitest'
import {
  ALLOC_PAGES,
  DETACH_NODE,
  FREE_PAGES,
  MEMORY_OFFLINE,
  MEMORY_ONLINE,
  REMOVE,
} from '../../src/kernel/guest/calls.ts'
import { PROP } from '../../src/kernel/guest/device-tree.ts'
import {
  bootedGuest,
  DEFAULT_LIOBN,
  GuestMachine,
  type GuestMachineOptions,
  MASK_64,
  QEMU_PHB,
} from '../support/guest-machine.ts'
import { testRules } from '../support/rule-table.ts'

const GIB = 1n << 30n
const PAGE = 0x1_0000n

describe('alloc_pages', () => {
  const alloc = (machine: GuestMachine, order = 0n) =>
    machine.call('alloc_pages', { order, owner: 'nic', as: 'p' })
  const full = () => {
    const machine = bootedGuest()
    while (machine.kernel.pages.alloc(0, 1) !== -1);
    return machine
  }
  testRules(ALLOC_PAGES, {
    'kernel-not-booted': () => [alloc(new GuestMachine(), 9n)],
    'order-too-large': () => [
      alloc(bootedGuest(), 9n),
      alloc(full(), 9n),
      alloc(bootedGuest({ pageShift: 12 }), 13n),
    ],
    'no-memory': () => [alloc(full()), alloc(full(), 8n)],
    done: () => [alloc(bootedGuest()), alloc(bootedGuest(), 8n), alloc(bootedGuest({ pageShift: 12 }), 12n)],
  })

  it('the same calls give the same addresses: the lowest block that fits', () => {
    const machine = bootedGuest()
    const take = (order: bigint) => alloc(machine, order).outputs['gpa']
    expect([take(0n), take(1n), take(0n), take(8n)]).toEqual([
      0x200_0000n,
      0x202_0000n,
      0x201_0000n,
      0x300_0000n,
    ])
    expect(alloc(machine).free).toEqual(['gpa'])
  })
})

describe('free_pages', () => {
  const withPage = () => {
    const machine = bootedGuest()
    machine.call('alloc_pages', { order: 1n, owner: 'nic', as: 'p' })
    return machine
  }
  const free = (machine: GuestMachine, args = {}) => machine.call('free_pages', args)
  const twice = withPage()
  free(twice, { buffer: 'p' })
  testRules(FREE_PAGES, {
    'kernel-not-booted': () => [free(new GuestMachine(), { buffer: 'none' })],
    'buffer-unknown': () => [free(withPage()), free(withPage(), { buffer: 'none' })],
    'not-allocated': () => [
      free(twice, { buffer: 'p' }),
      free(withPage(), { gpa: 0x201_0000n }),
      free(withPage(), { gpa: 0x200_0001n }),
      free(withPage(), { gpa: 0n }),
      free(withPage(), { gpa: 1n << 60n }),
    ],
    done: () => [free(withPage(), { buffer: 'p' }), free(withPage(), { gpa: 0x200_0000n })],
  })

  it('a page that is not allocated is warned of', () => {
    expect(free(twice, { buffer: 'p' }).warnings).toEqual(['pages that are not allocated are freed'])
  })
})

/** A guest of 1 GiB that can grow to 2 GiB, its device direct or not. */
const growing = (given: GuestMachineOptions = {}) => {
  const machine = bootedGuest({ maxRamBytes: 2n * GIB, ...given })
  machine.call('probe', { device: 'nic', mask: MASK_64 })
  machine.hypervisor.calls.length = 0
  return machine
}

describe('memory_online', () => {
  const online = (machine: GuestMachine, gpa: bigint, bytes: bigint) =>
    machine.call('memory_online', { gpa, bytes })
  const refused = () => {
    const machine = growing()
    machine.hypervisor.refuse = (call) => (call === 'H_PUT_TCE_INDIRECT' ? -4 : undefined)
    return machine
  }
  testRules(MEMORY_ONLINE, {
    'kernel-not-booted': () => [online(new GuestMachine(), 1n, 0n)],
    unaligned: () => [
      online(growing(), GIB, 0n),
      online(growing(), GIB, 1n),
      online(growing(), 2n * GIB + 1n, PAGE),
    ],
    'too-high': () => [
      online(growing(), 2n * GIB, PAGE),
      online(growing(), 0n, 3n * GIB),
      online(growing(), MASK_64 - 0xffffn, PAGE),
    ],
    'already-there': () => [online(growing(), GIB - PAGE, PAGE), online(refused(), 0n, 2n * GIB)],
    'window-refused': () => [online(refused(), GIB, GIB)],
    done: () => [online(growing(), GIB, GIB), online(growing({ bootOptions: ['disable_ddw'] }), GIB, PAGE)],
  })

  it('a direct window takes the new memory before the kernel uses it', () => {
    const machine = growing()
    online(machine, GIB, GIB)
    const [call] = machine.hypervisor.calls
    expect(call).toMatchObject({
      call: 'H_PUT_TCE_INDIRECT',
      args: [0x8000_0001n, (1n << 59n) + GIB, expect.anything(), 64n],
    })
    expect(call?.list?.[0]).toBe(GIB | 3n)
    expect(machine.kernel.pages.isFree(0x4000, 0x8000)).toBe(true)
    expect(machine.kernel.memory.ranges).toEqual([
      { first: 0, end: 0x4000 },
      { first: 0x4000, end: 0x8000 },
    ])
  })

  it('what came in pieces fills a window piece by piece, what was there at boot in one go', () => {
    const memory = [
      { gpa: 0n, bytes: GIB / 2n },
      { gpa: GIB / 2n, bytes: GIB / 2n },
    ]
    const machine = bootedGuest({ memory, maxRamBytes: 2n * GIB })
    online(machine, GIB, GIB / 4n)
    online(machine, (GIB * 5n) / 4n, GIB / 4n)
    expect(machine.call('memory_offline', { gpa: GIB, bytes: GIB / 2n }).rule).toBe('done')
    online(machine, GIB, GIB / 2n)
    machine.call('probe', { device: 'nic', mask: MASK_64 })
    expect(machine.hypervisor.seen('H_PUT_TCE_INDIRECT').map((c) => [c[1], c[3]])).toEqual([
      [1n << 59n, 64n],
      [(1n << 59n) + GIB, 32n],
    ])
    expect(machine.call('memory_offline', { gpa: GIB - PAGE, bytes: 2n * PAGE }).rule).toBe('done')
  })

  it('where a window refuses, what was set is cleared and the memory stays out', () => {
    const machine = refused()
    online(machine, GIB, GIB)
    expect(machine.hypervisor.calls.map((c) => c.call)).toEqual(['H_PUT_TCE_INDIRECT', 'H_STUFF_TCE'])
    expect(machine.kernel.memory.endPage).toBe(0x4000)
  })
})

describe('memory_offline', () => {
  const offline = (machine: GuestMachine, gpa: bigint, bytes: bigint) =>
    machine.call('memory_offline', { gpa, bytes })
  testRules(MEMORY_OFFLINE, {
    'kernel-not-booted': () => [offline(new GuestMachine(), 1n, 0n)],
    unaligned: () => [offline(growing(), 0n, 0n), offline(growing(), 2n * GIB, 1n)],
    'not-there': () => [offline(growing(), GIB, PAGE), offline(growing(), 0n, 2n * GIB)],
    'in-use': () => [offline(growing(), 0n, GIB), offline(growing(), 0n, PAGE)],
    done: () => [offline(growing(), GIB / 2n, GIB / 2n)],
  })

  it('direct windows do not reach it any more', () => {
    const machine = growing()
    offline(machine, GIB / 2n, GIB / 2n)
    expect(machine.hypervisor.seen('H_STUFF_TCE')).toEqual([[0x8000_0001n, (1n << 59n) + GIB / 2n, 0n, 32n]])
    expect(machine.hypervisor.live(0x8000_0001).size).toBe(32)
    expect(machine.call('memory_online', { gpa: GIB / 2n, bytes: GIB / 2n }).rule).toBe('done')
    expect(machine.hypervisor.live(0x8000_0001).size).toBe(64)
  })
})

describe('remove', () => {
  const bound = () => {
    const machine = bootedGuest()
    machine.call('probe', { device: 'nic' })
    return machine
  }
  const remove = (machine: GuestMachine, device = 'nic') => machine.call('remove', { device })
  testRules(REMOVE, {
    'kernel-not-booted': () => [remove(new GuestMachine(), 'none')],
    'device-unknown': () => [remove(bound(), 'none')],
    'no-driver': () => [remove(bound(), 'disk')],
    done: () => [remove(bound())],
  })

  it('leaves the mappings, and says in the records that the driver is gone', () => {
    const machine = bootedGuest({ bootOptions: ['disable_ddw'] })
    machine.call('probe', { device: 'nic' })
    machine.call('dma_map_page', { device: 'nic', gpa: 0n, bytes: 1n })
    remove(machine)
    const last = [...machine.log.records()].map((r) => r.event).filter((e) => e.kind === 'device.remove')
    expect(last).toEqual([{ kind: 'device.remove', device: 'nic' }])
    expect(machine.hypervisor.live().size).toBe(1)
    expect(machine.call('probe', { device: 'nic' }).rule).toBe('done-table')
  })
})

describe('detach_node', () => {
  const detach = (machine: GuestMachine, node = 'pci0') => machine.call('detach_node', { node })
  testRules(DETACH_NODE, {
    'kernel-not-booted': () => [detach(new GuestMachine(), 'none')],
    'node-unknown': () => [detach(bootedGuest(), 'none')],
    done: () => [detach(bootedGuest()), detach(bootedGuest(), '/pci@0'), detach(bootedGuest(), '/pci@0/nic')],
  })

  it('empties and removes the 64-bit window, and forgets the tables', () => {
    const machine = growing()
    detach(machine)
    expect(machine.hypervisor.calls.map((c) => c.call)).toEqual(['H_STUFF_TCE', 'rtas 0x2028'])
    expect(machine.hypervisor.calls[0]?.args).toEqual([0x8000_0001n, 1n << 59n, 0n, 128n])
    expect(machine.kernel.ddw.windows).toEqual([])
    expect(machine.kernel.tables).toEqual([])
  })

  it('takes what lies below it first: a device with a window of its own', () => {
    const own = { [PROP.DMA_WINDOW]: [0x8000_0100, 0, 0x4000_0000, 0, 0x1000_0000] }
    const machine = bootedGuest({
      devices: [{ name: 'nic', devfn: 0, node: { name: 'nic', properties: { ...QEMU_PHB, ...own } } }],
    })
    machine.call('probe', { device: 'nic', mask: MASK_64 })
    machine.hypervisor.calls.length = 0
    expect(detach(machine).rule).toBe('done')
    expect(machine.hypervisor.seen('rtas 0x2028')).toEqual([[0x8000_0001n]])
    expect(machine.kernel.ddw.windows).toEqual([])
    expect(machine.kernel.tables).toEqual([])
  })

  it('a table that is in use is dropped with a warning', () => {
    const machine = bootedGuest({ bootOptions: ['disable_ddw'] })
    machine.call('dma_map_page', { device: 'nic', gpa: 0n, bytes: 1n })
    expect(detach(machine).warnings).toEqual(['a table with used entries is dropped'])
    expect(machine.hypervisor.live(DEFAULT_LIOBN).size).toBe(1)
    expect(machine.kernel.node('pci0')?.cells(PROP.DMA_WINDOW)).toBeDefined()
  })
})
