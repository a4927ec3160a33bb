import { describe, expect, it } from 'vitest'
import { DMA_ALLOC_COHERENT, DMA_FREE_COHERENT } from '../../src/kernel/guest/calls.ts'
import { bootedGuest, GuestMachine, type GuestMachineOptions, MASK_64 } from '../support/guest-machine.ts'
import { testRules } from '../support/rule-table.ts'

const NO_WINDOW = { properties: {}, defaultBytes: 0n }
const TABLE = { bootOptions: ['disable_ddw'] }
const HUGE = { device: 'nic', bytes: 1n << 29n }
const REFUSED = () => -4

/** A guest whose device uses its table, or memory directly where DDW is not disabled. */
function guest(given: GuestMachineOptions = TABLE) {
  const machine = bootedGuest(given)
  machine.call('probe', { device: 'nic', mask: MASK_64 })
  return machine
}

/** All memory taken. */
function full() {
  const machine = guest()
  while (machine.kernel.pages.alloc(0, 1) !== -1);
  return machine
}

/** All table entries of single pages taken, and the large pool. */
function crowded(given: GuestMachineOptions = TABLE) {
  const machine = guest(given)
  machine.device('nic').table?.markUsed(1, 262_144)
  return machine
}

describe('dma_alloc_coherent', () => {
  const alloc = (machine: GuestMachine, bytes = 0x1_0000n) =>
    machine.call('dma_alloc_coherent', { device: 'nic', bytes })
  const unbooted = () => new GuestMachine().call('dma_alloc_coherent', { device: 'none', bytes: 0n })

  testRules(DMA_ALLOC_COHERENT, {
    'kernel-not-booted': () => [unbooted()],
    'device-unknown': () => [guest().call('dma_alloc_coherent', { ...HUGE, device: 'none' })],
    'order-too-large': () => [
      guest().call('dma_alloc_coherent', HUGE),
      guest(NO_WINDOW).call('dma_alloc_coherent', HUGE),
      full().call('dma_alloc_coherent', HUGE),
      alloc(guest(), 0n),
    ],
    'no-table': () => [alloc(guest(NO_WINDOW)), alloc(guest(NO_WINDOW), 1n << 25n)],
    'no-memory': () => {
      const machine = full()
      machine.device('nic').table?.markUsed(1, 262_144)
      return [
        alloc(full()),
        alloc(machine),
        alloc(guest(), (1n << 24n) + 1n),
        alloc(guest({}), 1n << 25n),
        alloc(guest({}), 0n),
      ]
    },
    'no-entries': () => {
      const machine = crowded()
      machine.hypervisor.refuse = REFUSED
      return [alloc(crowded()), alloc(machine)]
    },
    'set-failed': () => {
      const machine = guest()
      machine.hypervisor.refuse = REFUSED
      return [alloc(machine)]
    },
    'done-direct': () => [alloc(guest({})), alloc(guest({}), 1n << 24n)],
    done: () => [alloc(guest()), alloc(guest(), 1n << 24n), alloc(guest(), 1n)],
  })

  it('gives whole pages, mapped both ways and aligned to their own length', () => {
    const machine = guest()
    machine.call('dma_map_page', { device: 'nic', gpa: 0x400_0000n, bytes: 17n * 4096n })
    const { outputs } = alloc(machine, 0x1_0001n)
    expect(outputs['handle']).toBe(0x3002_0000n)
    const live = machine.hypervisor.live()
    for (let i = 0n; i < 32n; i++) {
      expect(live.get(0x3002_0000n + i * 4096n)).toBe((outputs['gpa'] as bigint) + i * 4096n + 3n)
    }
  })

  it('leaves no page and no entry behind where it fails', () => {
    const machine = guest()
    const [free, used] = [machine.kernel.pages.freeCount, machine.device('nic').table?.usedCount]
    machine.hypervisor.refuse = (call) => (call === 'H_PUT_TCE_INDIRECT' ? -44 : undefined)
    alloc(machine)
    // The list page of the CPU stays.
    expect(machine.kernel.pages.freeCount).toBe(free - 1)
    expect(machine.device('nic').table?.usedCount).toBe(used)
  })

  it('pages belong to the driver while it has them', () => {
    const machine = guest()
    machine.call('dma_alloc_coherent', { device: 'nic', bytes: 0x2_0000n, as: 'ring' })
    machine.call('dma_free_coherent', { device: 'nic', buffer: 'ring' })
    const owned = [...machine.log.records()].map((r) => r.event).filter((e) => e.kind === 'page.own')
    expect(owned.slice(2).map((e) => [e.owner, e.count, e.generation])).toEqual([
      ['nic', 2, 1],
      ['kernel', 1, 1],
      ['guest', 2, 1],
    ])
  })
})

describe('dma_free_coherent', () => {
  /** A guest with a buffer `ring` of 64 KiB. */
  const withRing = (given: GuestMachineOptions = TABLE) => {
    const machine = guest(given)
    machine.call('dma_alloc_coherent', { device: 'nic', bytes: 0x1_0000n, as: 'ring' })
    return machine
  }
  const free = (machine: GuestMachine, args = {}) =>
    machine.call('dma_free_coherent', { device: 'nic', buffer: 'ring', ...args })

  testRules(DMA_FREE_COHERENT, {
    'kernel-not-booted': () => [new GuestMachine().call('dma_free_coherent', { device: 'none' })],
    'device-unknown': () => [free(withRing(), { device: 'none' }), free(guest(), { device: 'none' })],
    'buffer-unknown': () => [
      free(guest()),
      free(guest(NO_WINDOW)),
      free(guest(), { gpa: 0x400_0000n, bytes: 1n }),
      free(withRing(), { gpa: 1n << 52n }),
    ],
    'no-table': () => [free(guest(NO_WINDOW), { gpa: 0n, handle: 0n, bytes: 1n })],
    'not-allocated': () => {
      const twice = withRing()
      free(twice)
      const outside = withRing()
      free(outside)
      return [
        free(twice),
        free(withRing(), { bytes: 0x2_0000n }),
        free(outside, { handle: 1n << 40n }),
        free(withRing(), { bytes: 0n }),
      ]
    },
    'outside-table': () => [
      free(withRing(), { handle: 0x4000_0000n }),
      free(withRing(), { handle: 0x3fff_f000n }),
    ],
    'done-direct': () => [free(withRing({}))],
    done: () => [free(withRing())],
  })

  it('takes the entries away first, then the pages', () => {
    const machine = withRing()
    const at = machine.log.length
    free(machine)
    const kinds = [...machine.log.records(at)].map((r) => r.event.kind)
    expect(kinds).toEqual(['call.enter', 'dma.revoke', 'tce.set', 'alloc.free', 'page.own', 'call.return'])
    expect(machine.hypervisor.live().size).toBe(0)
    expect(machine.device('nic').table?.usedCount).toBe(1)
  })

  it('an address outside the table leaves the entries, warns, and frees the pages all the same', () => {
    const machine = withRing()
    const answer = free(machine, { handle: 0x4000_0000n })
    expect(answer.warnings).toEqual(['iommu_free: the address lies outside the table'])
    expect(machine.hypervisor.live().size).toBe(16)
    expect(free(machine, { handle: 0x3000_0000n }).rule).toBe('not-allocated')
  })

  it('a shorter length frees the first part of the block only', () => {
    const machine = guest()
    const { outputs } = machine.call('dma_alloc_coherent', { device: 'nic', bytes: 0x4_0000n, as: 'ring' })
    const free0 = machine.kernel.pages.freeCount
    expect(free(machine, { bytes: 0x1_0000n }).rule).toBe('done')
    expect(machine.kernel.pages.freeCount).toBe(free0 + 1)
    expect(machine.hypervisor.live().size).toBe(48)
    expect(machine.call('free_pages', { gpa: (outputs['gpa'] as bigint) + 0x2_0000n }).rule).toBe('done')
    expect(machine.kernel.pages.freeCount).toBe(free0 + 3)
  })
})
