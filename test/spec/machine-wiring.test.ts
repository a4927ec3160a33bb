import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { Machine } from '../../src/machine/machine.ts'
import type { PseriesInput } from '../../src/machine/pseries/description.ts'
import type { EventFields, EventKind } from '../../src/trace/event.ts'

const BUID = 0x0800_0000_2000_0000n
const LIOBN = 0x8000_0000n
const WORD = 0xffff_ffff_ffff_ffffn

type Phb = NonNullable<PseriesInput['phbs']>[number]

const machineOf = (phb: Phb, profile = 'intended') =>
  createMachine(
    describeMachine({
      profile,
      ram: 64n << 20n,
      phbs: [{ ...phb, devices: [{ name: 'nic0', kind: 'edu', dmaMask: WORD }] }],
    }),
  )

const call = (machine: Machine, verb: Verb, name: string, args: Record<string, Value> = {}) =>
  machine.perform({ verb, call: name, args })

function eventsOf<K extends EventKind>(machine: Machine, kind: K): EventFields<K>[] {
  return [...machine.log.records()]
    .map((r) => r.event)
    .filter((e) => e.kind === kind) as unknown as EventFields<K>[]
}

describe('the largest window that firmware gives', () => {
  const query = (machine: Machine, nret = 6n) =>
    call(machine, 'rtas', 'ibm,query-pe-dma-window', { buid: BUID, nret }).outputs['largest']
  const create = (machine: Machine, window_shift: bigint) =>
    call(machine, 'rtas', 'ibm,create-pe-dma-window', { buid: BUID, page_shift: 16n, window_shift }).rule

  it('is what both forms of the query say, and 0 where no window is left', () => {
    const machine = machineOf({ maxWindowEntries: 1024 })
    expect([query(machine), query(machine, 5n)]).toEqual([1024n, 1024n])
    expect(create(machine, 26n)).toBe('done')
    expect([query(machine), query(machine, 5n)]).toEqual([0n, 0n])
  })

  it('is refused beyond, by a power of two or by one entry', () => {
    expect(create(machineOf({ maxWindowEntries: 1024 }), 27n)).toBe('too-large')
    expect(create(machineOf({ maxWindowEntries: 1023 }), 26n)).toBe('too-large')
    expect(create(machineOf({ maxWindowEntries: 1023 }), 25n)).toBe('done')
  })

  it('is 2^31 where nothing is said', () => expect(query(machineOf({}))).toBe(1n << 31n))

  it('makes the guest allocate from a window that is smaller than its memory', () => {
    const machine = machineOf({ pageShifts: [16], maxWindowEntries: 512 })
    call(machine, 'driver', 'boot')
    expect(call(machine, 'driver', 'probe', { device: 'nic0' }).rule).toBe('done-table')
    expect(eventsOf(machine, 'window.open')[1]).toMatchObject({ pageShift: 16, entries: 512 })
  })
})

describe('a listener behind the windows of a PHB', () => {
  const heard = (listener: Phb['listener'], profile = 'intended') => {
    const machine = machineOf({ listener }, profile)
    const put = (tce: bigint) => call(machine, 'hcall', 'H_PUT_TCE', { liobn: LIOBN, ioba: 0x1000n, tce })
    for (const tce of [0x20_0003n, 0x30_0003n, 0n]) put(tce)
    return eventsOf(machine, 'iommu.notify').map((e) => (e.map === 1 ? 'map' : 'unmap'))
  }

  it('hears what it asks for', () => {
    expect(heard('both')).toEqual(['map', 'unmap', 'map', 'unmap'])
    expect(heard('unmap')).toEqual(['unmap', 'unmap'])
    expect(heard('map')).toEqual(['map', 'map'])
    expect(heard('none')).toEqual([])
  })

  it('B12: misses the end of what is overwritten', () => {
    expect(heard('both', 'B12')).toEqual(['map', 'map', 'unmap'])
    expect(heard('unmap', 'B12')).toEqual(['unmap'])
  })
})

describe('a PHB without a hypervisor', () => {
  const AREA = 0x100_0000n
  const bare = (bytes: bigint, profile = 'linux-6.1') => {
    const machine = machineOf({ bare: { gpa: AREA, bytes } }, profile)
    call(machine, 'driver', 'boot')
    call(machine, 'driver', 'probe', { device: 'nic0', mask: 0xffff_ffffn })
    call(machine, 'driver', 'alloc_pages', { owner: 'nic0', as: 'rx' })
    const mapped = call(machine, 'driver', 'dma_map_page', { device: 'nic0', buffer: 'rx', bytes: 4096n })
    return { machine, mapped }
  }

  it('has a window as large as its TCEs, and no LIOBN', () => {
    const { machine } = bare(4n << 20n)
    expect(eventsOf(machine, 'window.open')).toHaveLength(1)
    expect(eventsOf(machine, 'window.open')[0]).toMatchObject({ entries: 524_288, pageShift: 12 })
    const get = call(machine, 'hcall', 'H_GET_TCE', { liobn: LIOBN, ioba: 0n })
    expect([get.code, get.rule]).toEqual(['H_PARAMETER', 'liobn-unknown'])
    const create = { buid: BUID, page_shift: 12n, window_shift: 30n }
    expect(call(machine, 'rtas', 'ibm,create-pe-dma-window', create).rule).toBe('ddw-off')
  })

  it('the kernel writes the TCEs into memory, and devices go through them', () => {
    const { machine, mapped } = bare(4n << 20n)
    expect(mapped).toMatchObject({ rule: 'done', outputs: { handle: 0x1000n } })
    const word = call(machine, 'mem', 'read', { address: AREA + 8n, bytes: 8n })
    expect(word.outputs['data']).toBe('hex:0000000002000003')
    const write = call(machine, 'dma', 'write', { device: 'nic0', buffer: 'rx', data: 'hello' })
    expect(write.outputs['moved']).toBe(5n)
    expect(call(machine, 'mem', 'read', { address: 0x200_0000n, bytes: 5n }).outputs['data']).toBe('hello')
    call(machine, 'driver', 'dma_unmap_page', { device: 'nic0', buffer: 'rx' })
    expect(call(machine, 'dma', 'read', { device: 'nic0', buffer: 'rx', bytes: 5n }).rule).toBe('refused')
    expect(eventsOf(machine, 'call.enter').some((e) => e.call.startsWith('H_'))).toBe(false)
  })

  it('records what is written behind an area that is too small, and touches nothing there', () => {
    const { machine } = bare(4096n)
    const sets = eventsOf(machine, 'tce.set')
    expect(sets.some((e) => e.first === 0 && e.count === 524_288)).toBe(true)
    const behind = call(machine, 'mem', 'read', { address: AREA + 4096n, bytes: 8n })
    expect(behind.outputs['data']).toBe('hex:0000000000000000')
  })
})

describe('what a machine does not know', () => {
  it('is recorded once, by the unit that met it', () => {
    const machine = machineOf({}, 'qemu-7.2')
    const create = { buid: BUID, page_shift: 64n, window_shift: 64n }
    expect(call(machine, 'rtas', 'ibm,create-pe-dma-window', create).state).toBe('unmodelled')
    expect(eventsOf(machine, 'unmodelled')).toHaveLength(1)
    expect(call(machine, 'ioctl', 'VFIO_IOMMU_MAP_DMA').state).toBe('unmodelled')
    expect(eventsOf(machine, 'unmodelled')).toHaveLength(2)
  })
})

describe('warnings of the guest kernel', () => {
  it('belong to the call that printed them, and to no other', () => {
    const machine = machineOf({}, 'linux-6.1')
    const boot = call(machine, 'driver', 'boot')
    call(machine, 'driver', 'probe', { device: 'nic0', mask: 0xffff_ffffn })
    const map = { device: 'nic0', gpa: 0x2000_0000n, bytes: 4096n }
    expect(call(machine, 'driver', 'dma_map_page', map).warnings).toEqual(['H_PUT_TCE answered H_PARAMETER'])
    expect(boot.warnings).toEqual([])
  })

  it('probe answers how the device reaches memory once both masks are set', () => {
    const machine = machineOf({})
    call(machine, 'driver', 'boot')
    const probe = { device: 'nic0', mask: WORD, coherent_mask: 0xffff_ffffn }
    expect(call(machine, 'driver', 'probe', probe).rule).toBe('done-table')
    const map = { device: 'nic0', gpa: 0x300_0000n, bytes: 4096n }
    expect(call(machine, 'driver', 'dma_map_page', map).rule).toBe('done')
  })
})

describe('32-bit MMIO of a PHB', () => {
  it('lies in no DMA window: the kernel compares addresses of the CPU, which are above 32 TiB', () => {
    const machine = createMachine(
      describeMachine({
        profile: 'intended',
        ram: 8n << 30n,
        hasPmemory: true,
        phbs: [{ pageShifts: [12], devices: [{ name: 'nic0', kind: 'edu', dmaMask: WORD }] }],
      }),
    )
    // Both windows are taken, so that the guest's own comes to bus address 0, and is dynamic.
    const second = { buid: BUID, page_shift: 12n, window_shift: 20n }
    expect(call(machine, 'rtas', 'ibm,create-pe-dma-window', second).rule).toBe('done')
    call(machine, 'driver', 'boot')
    const before = eventsOf(machine, 'alloc.take').length
    expect(call(machine, 'driver', 'probe', { device: 'nic0' }).rule).toBe('done-table')
    expect(eventsOf(machine, 'window.open').at(-1)).toMatchObject({ busOffset: 0n, entries: 1 << 21 })
    expect(eventsOf(machine, 'alloc.take').slice(before)).toMatchObject([{ first: 0, count: 1 }])
  })
})
