import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { VTD_REGISTERS, type VtdRegisterName } from '../../src/hw/vtd/register-format.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { Q35Input } from '../../src/machine/q35/description.ts'
import { eventsOfLog } from '../support/events.ts'

type Args = Record<string, Value>
const IOVA = 0x4020_1000n
const ROOT = 0x1_0000n
const QUEUE = 0x2_0000n
const STATUS = 0x2_1000n
const DEVICES = [
  { name: 'edu0', kind: 'edu', slot: 3 },
  { name: 'ep0', kind: 'endpoint', bus: 0, slot: 4 },
] as const

function vtdMachine(more: Omit<Q35Input, 'kind'> = {}) {
  const machine = createMachine(
    describeMachine({
      kind: 'q35',
      profile: 'intended',
      ramBytes: 1n << 28n,
      iommu: { deviceIotlb: true, driver: 'none' },
      devices: DEVICES,
      ...more,
    }),
    { journal: true },
  )
  const run = (verb: Verb, call: string, args: Args = {}) => machine.perform({ verb, call, args })
  const read = (name: VtdRegisterName, at = VTD_REGISTERS[name].offset) => {
    const bytes = BigInt(VTD_REGISTERS[name].word.widthBits / 8)
    return run('mmio', 'read', { device: 'vtd0', offset: BigInt(at), bytes }).outputs['value']
  }
  const write = (name: VtdRegisterName, value: bigint) => {
    const { offset, word } = VTD_REGISTERS[name]
    const bytes = BigInt(word.widthBits / 8)
    return run('mmio', 'write', { device: 'vtd0', offset: BigInt(offset), bytes, value })
  }
  const words = (address: bigint, ...values: bigint[]) =>
    run('mem', 'write', { address, words: values, order: 'little' })
  const memory = (address: bigint, bytes: bigint) => run('mem', 'read', { address, bytes }).outputs['data']
  return { machine, run, read, write, words, memory }
}

/** Tables for both devices, domain 5, that map IOVA; the queue is on. T of the endpoint's entry allows its TLB. */
function running(more: Omit<Q35Input, 'kind'> = {}) {
  const made = vtdMachine(more)
  const { words, write, read } = made
  words(ROOT, 0x1_1001n)
  words(0x1_1180n, 0x1_2001n, 0x501n)
  words(0x1_1200n, 0x1_2005n, 0x501n)
  words(0x1_2008n, 0x1_3003n)
  words(0x1_3008n, 0x1_4003n)
  words(0x1_4008n, 0xabc_d003n)
  write('RTADDR', ROOT)
  write('GCMD', 0x4000_0000n)
  write('IQA', QUEUE)
  write('GCMD', 0x8400_0000n)
  const submit = (...descriptors: [lo: bigint, hi: bigint][]) => {
    let tail = read('IQT') as bigint
    for (const [lo, hi] of descriptors) {
      words(QUEUE + tail, lo, hi)
      tail += 16n
    }
    write('IQT', tail)
  }
  return { ...made, submit }
}

const WAIT: [bigint, bigint] = [0x2_0000_0025n, STATUS]
/** The whole TLB of ep0, 00:04.0. */
const DEVICE_TLB: [bigint, bigint] = [0x20_0000_0003n, 0x7fff_ffff_ffff_f001n]
const done = { rule: 'done' }

describe('the registers of a unit in a machine', () => {
  it.each<[Args, string, bigint]>([
    [{ offset: 0n, bytes: 2n }, 'access-refused', 0n],
    [{ offset: 4n, bytes: 8n }, 'access-refused', 0n],
    [{ offset: 0x230n, bytes: 4n }, 'no-register', 0n],
    [{ offset: 0x22cn, bytes: 8n }, 'access-refused', 0n],
    [{ offset: 0x1000n, bytes: 16n }, 'access-refused', 0n],
    [{ offset: 0n }, 'done', 0x10n],
    [{ offset: 8n, bytes: 8n }, 'done', 0x00d2_008c_2226_0206n],
  ])('%o is read: %s', (args, rule, value) => {
    const { run } = vtdMachine()
    expect(run('mmio', 'read', { device: 'vtd0', ...args })).toMatchObject({ rule, outputs: { value } })
    if (rule === 'done') return
    expect(run('mmio', 'write', { device: 'vtd0', value: 0n, ...args })).toMatchObject({ rule })
  })

  it('a name that is neither is refused, with those that are known', () => {
    expect(() => vtdMachine().run('mmio', 'read', { device: 'vtd', offset: 0n })).toThrow(
      'no device is called "vtd" (did you mean "vtd0"?)',
    )
    expect(() => vtdMachine().run('mmio', 'read', { device: 'ep0', offset: 0n })).toThrow(
      'the registers of ep0 are not modelled',
    )
  })

  it.each<[Q35Input['iommu'], bigint, bigint]>([
    [{ preset: 'sapphire-rapids', driver: 'none' }, 0x19ed_008c_4078_0c66n, 0x3_ee9e_86f0_50dfn],
    [{ cap: 0x00d2_008c_2226_0286n, ecap: 0xf42n, driver: 'none' }, 0x00d2_008c_2226_0286n, 0xf42n],
  ])('a unit with %o says so', (iommu, cap, ecap) => {
    const { read } = vtdMachine({ iommu })
    expect([read('CAP'), read('ECAP'), read('GSTS')]).toEqual([cap, ecap, 0n])
  })

  it.each([
    ['fault records', { cap: 0x0200_0000n, ecap: 0xf42n }, 'RTADDR and FRCD_LO at 0x20'],
    ['the IOTLB register', { cap: 0x00d2_008c_2226_0286n, ecap: 0x042n }, 'VER and IVA at 0x0'],
  ])('%s where other registers are: no such unit', (_what, said, both) => {
    expect(() => vtdMachine({ iommu: { ...said, driver: 'none' } })).toThrow(`put ${both}: see FRO`)
  })
})

describe('who drives the unit', () => {
  it('nobody: its calls are not there', () => {
    expect(vtdMachine().run('iommu', 'attach', { device: 'edu0', domain: 5n }).state).toBe('unmodelled')
  })

  it.each([
    ['legacy', 'qemu-scalable', 0n],
    ['scalable', 'qemu-scalable', 0x400n],
    ['scalable', 'qemu', 0n],
  ] as const)('%s on %s: the unit runs before the first step', (driver, preset, ttm) => {
    const { read } = vtdMachine({ iommu: { preset, driver } })
    expect([(read('RTADDR') as bigint) & 0xc00n, (read('GSTS') as bigint) >> 31n]).toEqual([ttm, 1n])
  })

  it('Linux switches PASIDs, page requests and ATS on in an endpoint', () => {
    const { run } = vtdMachine({ iommu: { preset: 'every-feature', driver: 'scalable' } })
    expect(run('iommu', 'attach', { device: 'ep0', domain: 5n }).outputs).toEqual({ ats: true })
    expect(run('pri', 'status', { device: 'ep0' }).outputs).toMatchObject({ enabled: true })
    expect(run('ats', 'enable_pasid', { device: 'ep0' }).state).toBe('unmodelled')
    expect(run('iommu', 'detach', { device: 'ep0' }).code).toBe('OK')
    expect(run('pri', 'status', { device: 'ep0' }).outputs).toMatchObject({ enabled: false })
  })
})

describe('devices of a machine', () => {
  it('edu and an endpoint move bytes through the same tables', () => {
    const { run, memory } = running()
    expect(run('dma', 'write', { device: 'edu0', iova: IOVA, data: 'from edu' })).toMatchObject(done)
    expect(run('dma', 'read', { device: 'ep0', iova: IOVA, bytes: 8n }).outputs['data']).toBe('from edu')
    run('ats', 'enable', { device: 'ep0' })
    expect(run('dma', 'write', { device: 'ep0', iova: IOVA, data: 'from ep0' })).toMatchObject(done)
    expect(memory(0xabc_d000n, 8n)).toBe('from ep0')
  })

  it('an endpoint whose entry forbids its TLB is refused, and the fault is recorded', () => {
    const { run, words, read } = running()
    words(0x1_1200n, 0x1_2001n)
    run('ats', 'enable', { device: 'ep0' })
    const refused = { rule: 'refused', outputs: { reason: 0xdn } }
    expect(run('ats', 'translate', { device: 'ep0', iova: IOVA })).toMatchObject(refused)
    expect(run('dma', 'read', { device: 'ep0', iova: IOVA, bytes: 1n }).rule).toBe('translation-fault')
    expect(((read('FRCD_HI', 0x228) as bigint) >> 32n) & 0xffn).toBe(0xdn)
  })

  it('a fault is told by a message: to memory, unless its address is one of interrupts', () => {
    for (const [address, data] of [
      [0x3_0000n, 'hex:31000000'],
      [0xfee0_0000n, 'hex:00000000'],
    ] as const) {
      const { machine, run, write, memory } = running()
      write('FEDATA', 0x31n)
      write('FEADDR', address)
      write('FECTL', 0n)
      run('dma', 'read', { device: 'edu0', iova: 0n, bytes: 1n })
      expect(memory(0x3_0000n, 4n)).toBe(data)
      expect(eventsOfLog(machine.log, 'vtd.event')).toMatchObject([{ event: 'fault', address, sent: 1 }])
    }
  })

  it('a write to the interrupt addresses is an interrupt', () => {
    const { run } = running()
    expect(run('dma', 'write', { device: 'edu0', iova: 0xfee0_0000n, data: 'hex:31000000' }).rule).toBe(
      'done',
    )
    expect(run('dma', 'write', { device: 'edu0', iova: 0xfee0_0000n, data: 'x' }).rule).toBe('refused')
  })

  it('a message to where no memory is goes nowhere', () => {
    const { run, write } = running({ iommu: { preset: 'skylake', driver: 'none' } })
    write('FEADDR', 0xff00_0000n)
    write('FECTL', 0n)
    expect(run('dma', 'read', { device: 'edu0', iova: 0n, bytes: 1n }).rule).toBe('translation-fault')
  })
})

describe('invalidations of the TLB of a device', () => {
  const used = () => {
    const world = running()
    world.run('ats', 'enable', { device: 'ep0' })
    expect(world.run('dma', 'read', { device: 'ep0', iova: IOVA, bytes: 1n }).rule).toBe('done')
    world.words(0x1_4008n, 0n)
    world.submit([0xd2n, 0n])
    return world
  }

  it('at once: the wait behind it is done', () => {
    const { run, submit, memory } = used()
    expect(run('dma', 'read', { device: 'ep0', iova: IOVA, bytes: 1n }).rule).toBe('done')
    submit(DEVICE_TLB, WAIT)
    expect(memory(STATUS, 1n)).toBe('hex:02')
    expect(run('dma', 'read', { device: 'ep0', iova: IOVA, bytes: 1n }).rule).toBe('translation-refused')
  })

  it('late: the wait is done when its time has come', () => {
    const { run, submit, memory } = used()
    run('ats', 'behave', { device: 'ep0', invalidations: 'late', ticks: 2n })
    submit(DEVICE_TLB, WAIT)
    run('tick', 'advance', { ticks: 1n })
    expect(memory(STATUS, 1n)).toBe('hex:00')
    run('tick', 'advance', { ticks: 1n })
    expect(memory(STATUS, 1n)).toBe('hex:02')
    expect(run('ats', 'forget', { device: 'ep0' }).outputs).toEqual({ entries: 0n })
  })

  it.each([
    ['lost', 0n],
    ['ignored', 1n],
  ])('%s: the unit runs into its time-out, and no wait is done', (invalidations, entries) => {
    const { run, submit, memory, read } = used()
    run('ats', 'behave', { device: 'ep0', invalidations })
    submit(DEVICE_TLB, WAIT)
    run('tick', 'advance', { ticks: 1n })
    expect([memory(STATUS, 1n), read('FSTS'), read('IQERCD')]).toEqual(['hex:00', 0x40n, 0x20_0000_0000n])
    expect(run('ats', 'forget', { device: 'ep0' }).outputs).toEqual({ entries })
  })

  it('a completion that nobody waits for is an error of the unit', () => {
    const { run, read } = used()
    expect(run('ats', 'complete', { device: 'ep0' }).rule).toBe('unexpected')
    expect([read('FSTS'), read('IQERCD')]).toEqual([0x20n, 0x20_0000_0000_0000n])
  })

  it('of a device that has no TLB: nothing completes it', () => {
    const { run, submit, read } = used()
    submit([0x18_0000_0003n, 0x7fff_ffff_ffff_f001n], WAIT)
    run('tick', 'advance', { ticks: 1n })
    expect(read('FSTS')).toBe(0x40n)
  })

  it('the driver waits for a device that is late, and for ever for one that never completes', () => {
    const { run } = vtdMachine({ iommu: { deviceIotlb: true } })
    run('iommu', 'attach', { device: 'ep0', domain: 5n })
    run('ats', 'behave', { device: 'ep0', invalidations: 'late', ticks: 9n })
    expect(run('iommu', 'flush_device_tlb', { device: 'ep0' }).code).toBe('OK')
    run('ats', 'behave', { device: 'ep0', invalidations: 'ignored' })
    expect(run('iommu', 'flush_device_tlb', { device: 'ep0' }).code).toBe('DEAD')
  })
})

describe('records and time', () => {
  it('words of tables that the unit has read are recorded as they change', () => {
    const { machine, run, words } = running()
    words(0x1_4008n, 0xabc_d001n)
    expect(eventsOfLog(machine.log, 'vtd.word')).toEqual([])
    run('dma', 'read', { device: 'edu0', iova: IOVA, bytes: 1n })
    words(0x1_4008n, 0n)
    expect(eventsOfLog(machine.log, 'vtd.word')).toMatchObject([
      { unit: 'vtd0', address: 0x1_4008n, before: 0xabc_d001n, after: 0n },
    ])
  })

  it('the machine goes back: registers, caches, devices', () => {
    const { machine, run, submit, words, read } = running()
    run('ats', 'enable', { device: 'ep0' })
    const { journal } = machine
    const [mark, hash] = [journal.mark(), journal.hash]
    const act = () => {
      run('ats', 'behave', { device: 'ep0', invalidations: 'late', ticks: 5n })
      const moved = ['edu0', 'ep0'].map(
        (device) => run('dma', 'write', { device, iova: IOVA, data: 'x' }).rule,
      )
      words(0x1_4008n, 0n)
      run('dma', 'write', { device: 'edu0', iova: 0n, data: 'x' })
      submit(DEVICE_TLB, WAIT)
      run('tick', 'advance', { ticks: 2n })
      return [...moved, read('FSTS'), read('IQH'), journal.hash]
    }
    const first = act()
    expect(first.slice(0, 4)).toEqual(['done', 'done', 2n, 0x20n])
    journal.rollback(mark)
    expect([journal.hash, read('FSTS'), read('IQH')]).toEqual([hash, 0n, 0n])
    journal.rollback(mark)
    expect(act()).toEqual(first)
  })
})
