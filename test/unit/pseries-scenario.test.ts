import { describe, expect, it } from 'vitest'
import { PseriesModel } from '../../src/machine/lockstep/pseries-model.ts'
import type { PseriesScriptPeer } from '../../src/machine/lockstep/pseries-peer-port.ts'
import { formatPseriesStep, type PseriesStep } from '../../src/machine/lockstep/pseries-step.ts'
import { comparePseriesScenarios } from '../../src/machine/lockstep/scenario/pseries-comparison.ts'
import { planPseries } from '../../src/machine/lockstep/scenario/pseries-plan.ts'
import { expectationCounts, isAsModelled } from '../../src/machine/lockstep/scenario/result.ts'
import { scenarioOf, scenariosOf } from '../support/scenarios.ts'

const DEVICE = '{ name: nic0, kind: edu, slot: 1, dmaMask: 0xffffffffffffffff }'
const MACHINE = `  { profile: qemu-7.2+linux-6.1, ram: 64 MiB, phbs: [{ devices: [${DEVICE}] }] }`
const PUT = '{ hcall: H_PUT_TCE, args: { liobn: 0x80000000, ioba: 0x1000, tce: 0x4000003 } }'
const DRIVER = [
  '{ driver: boot }',
  '{ driver: alloc_pages, args: { owner: nic0, as: page } }',
  '{ driver: probe, args: { device: nic0, mask: 0xffffffff } }',
  '{ driver: dma_map_page, args: { device: nic0, buffer: page, bytes: 64 KiB } }',
]
const QEMU = new PseriesModel()

const plan = (machine: string, ...steps: readonly string[]) =>
  planPseries(scenarioOf(machine, ...steps), 'test')
const linesOf = (...steps: readonly string[]): string[] =>
  plan(MACHINE, ...steps).script.steps.map(formatPseriesStep)
const whyNot = (machine: string, ...steps: readonly string[]): string[] =>
  plan(machine, ...steps).leftOut.map(({ step = 'machine', why }) => `${step}: ${why}`)

describe('a scenario as steps of the pseries peer', () => {
  it('calls become registers and cells', () => {
    expect(
      linesOf(
        PUT,
        '{ hcall: H_STUFF_TCE, args: { liobn: 0x80000000, ioba: 0x1000, value: 0, npages: 2 } }',
        '{ rtas: "ibm,create-pe-dma-window", args: { buid: 0x800000020000000, page_shift: 16, window_shift: 30 } }',
        '{ rtas: "ibm,query-pe-dma-window", args: { buid: 0x800000020000000, nret: 5 } }',
        '{ rtas: "ibm,remove-pe-dma-window", args: { liobn: 0x80000001 } }',
        '{ mem: write, args: { address: 0x3000000, words: [1, 2] } }',
        '{ mem: read, args: { address: 0x3000000, bytes: 4 } }',
      ),
    ).toEqual([
      'hcall 0x20 0x80000000 0x1000 0x4000003',
      'hcall 0x138 0x80000000 0x1000 0x0 0x2',
      'rtas 0x2027 4 0x0 0x8000000 0x20000000 0x10 0x1e',
      'rtas 0x2026 5 0x0 0x8000000 0x20000000',
      'rtas 0x2028 1 0x80000001',
      'poke 0x3000000 00000000000000010000000000000002',
      'peek 0x3000000 4',
      'hcall 0x1c 0x80000000 0x1000',
    ])
  })

  it("a driver's step is what its kernel asks of the hypervisor, with the list that it wrote", () => {
    const [stuff, list, indirect, ...rest] = linesOf(...DRIVER)
    expect(stuff).toBe('hcall 0x138 0x80000000 0x0 0x0 0x40000')
    expect(list).toMatch(/^poke 0x2010000 0000000002000003000000000200100300000000020020030000/)
    expect(indirect).toBe('hcall 0x13c 0x80000000 0x30000000 0x2010000 0x10')
    expect(rest).toEqual(['hcall 0x1c 0x80000000 0x0', 'hcall 0x1c 0x80000000 0x30000000'])
  })

  it('lists that one step overwrites show in the entries that they set', () => {
    const lists = plan(
      '  { profile: intended, ram: 64 MiB, phbs: [{ devices: [{ name: nic0, kind: edu, slot: 1 }] }] }',
      ...DRIVER.slice(0, 1),
      '{ driver: alloc_pages, args: { owner: nic0, order: 6, as: page } }',
      DRIVER[2] as string,
      '{ driver: dma_map_page, args: { device: nic0, buffer: page, bytes: 4 MiB } }',
    ).script.steps.filter(({ kind }) => kind === 'list' || kind === 'poke')
    const firsts = lists.map((step) =>
      step.kind === 'list'
        ? [step.count, step.first & ~3n, step.by]
        : step.kind === 'poke' && step.data.slice(0, 16),
    )
    expect(firsts).toEqual([[512, 0x2000000n, 0x1000n], '0000000002200003'])
  })

  it('bytes that devices write are loaded first, and those that they read are shown last', () => {
    expect(
      linesOf(
        PUT,
        '{ dma: write, args: { device: nic0, iova: 0x1004, data: hey } }',
        '{ dma: read, args: { device: nic0, iova: 0x1000, bytes: 4 } }',
      ),
    ).toEqual([
      'poke 0xfff0000 686579',
      'hcall 0x20 0x80000000 0x0 0xfff0003',
      'dma read 0x0 3',
      'rtas 0x2029 1 0x0 0x8000000 0x20000000',
      'poke 0xfff0000 000000',
      'hcall 0x20 0x80000000 0x1000 0x4000003',
      'dma write 0x1004 3 0',
      'dma read 0x1000 4 3',
      'hcall 0x1c 0x80000000 0x0',
      'hcall 0x1c 0x80000000 0x1000',
      'rtas 0x2029 1 0x0 0x8000000 0x20000000',
      'hcall 0x20 0x80000000 0x0 0xfff0003',
      'dma write 0x0 7',
      'peek 0xfff0000 7',
    ])
  })

  it('a machine with page sizes of its own has them on the peer', () => {
    const machine = '  { profile: qemu-7.2, ram: 64 MiB, phbs: [{ pageSizes: [4 KiB] }] }'
    expect(plan(machine, PUT).script.pageShifts).toEqual([12])
    expect(plan(MACHINE, PUT).script.pageShifts).toBeUndefined()
  })
})

describe('what the pseries peer cannot do is said, with the reason', () => {
  it.each<[string, string]>([
    ['{ ram: 1 GiB }', 'the peer has 256 MiB of memory'],
    ['{ ram: 64 MiB, vio: [{ name: net, reg: 0x71000001 }] }', 'the peer has no VIO devices'],
    ['{ ram: 64 MiB, phbs: [{}, {}] }', 'the peer has one host bridge, not 2'],
    ['{ ram: 64 MiB, phbs: [{ ddw: false }] }', 'the host bridge of the peer has dynamic windows'],
    ['{ ram: 64 MiB, phbs: [{ bare: { gpa: 0x3000000, bytes: 64 KiB } }] }', 'the peer has a hypervisor'],
    [
      '{ ram: 64 MiB, phbs: [{ index: 2, buid: 0x800000020000000 }] }',
      'the host bridge of the peer has index 0',
    ],
    [
      '{ ram: 64 MiB, phbs: [{ virtio: [{ name: net0, kind: net }] }] }',
      'the host bridge of the peer has no virtio device',
    ],
    ['{ ram: 64 MiB, phbs: [{ buid: 0x123 }] }', 'the host bridge of the peer is 0x800000020000000'],
    ['{ ram: 64 MiB, phbs: [{ maxWindowEntries: 16 }] }', 'the windows of the peer have up to 2^31 entries'],
  ])('machine %s', (machine, why) => {
    expect(
      whyNot(`  ${machine}`, '{ mem: read, args: { address: 0x200000, bytes: 1 } }').join('\n'),
    ).toContain(`machine: ${why}`)
  })

  it('a request of a virtio device is not made by the device that the peer has', () => {
    const steps = '{ dma: read, args: { device: net0, iova: 0, bytes: 1 } }'
    expect(whyNot('  { ram: 64 MiB, phbs: [{ virtio: [{ name: net0, kind: net }] }] }', steps)).toContain(
      '1: the peer has no such device',
    )
  })

  it.each<[string, readonly string[], string]>([
    [
      'a call without a step',
      ['{ tick: advance, args: { ticks: 1 } }'],
      '1: the peer has no step for tick advance',
    ],
    ['a process', ['{ proc: status }'], '1: the peer has no step for proc status'],
    [
      'addresses of a process',
      ['{ mem: read, args: { space: ua, address: 0, bytes: 1 } }'],
      '1: the peer has guest addresses only',
    ],
    [
      'memory of the firmware',
      ['{ mem: read, args: { address: 0x1000, bytes: 1 } }'],
      '1: not all memory between 0x200000 and 0x10000000',
    ],
    [
      'a list in it',
      ['{ hcall: H_PUT_TCE_INDIRECT, args: { liobn: 0x80000000, ioba: 0, list: 0x1000, npages: 1 } }'],
      '1: its list lies where the peer has a program of its own',
    ],
    [
      'a hypercall that the mailbox does not take',
      ['{ hcall: unknown, args: { opcode: 8 } }'],
      '1: hypercall 0x8 is none of 0x20, 0x1c, 0x138, 0x13c, 0x3f4',
    ],
    [
      'other counts of cells',
      ['{ rtas: "ibm,reset-pe-dma-window", args: { buid: 0x800000020000000, nargs: 2 } }'],
      '1: the peer passes the cells that a call has',
    ],
    [
      'what ends QEMU',
      [
        '{ rtas: "ibm,create-pe-dma-window", args: { buid: 0x800000020000000, page_shift: 12, window_shift: 44 } }',
      ],
      '1: a window of 2^32 pages or more ends QEMU (Q9)',
    ],
    [
      'a request to the end of the buffer',
      ['{ dma: read, args: { device: nic0, iova: 0x1000, bytes: 4096 } }'],
      '1: it reaches the end of the buffer of the device, which ends QEMU (Q11, Q12)',
    ],
    [
      'more than the buffer holds beside it',
      ['{ dma: read, args: { device: nic0, iova: 0x1000, bytes: 4001 } }'],
      '1: the buffer of the device is used up',
    ],
    [
      'DMA of what nobody names',
      ['{ dma: write, args: { device: nic0, iova: 0x1000, bytes: 4 } }'],
      '1: what the buffer of the device holds is chosen here: name `data`',
    ],
    [
      'a buffer without an address',
      [...DRIVER.slice(0, 2), '{ dma: read, args: { device: nic0, buffer: page, bytes: 4 } }'],
      '3: the driver does not start the device',
    ],
    [
      'words and data',
      ['{ mem: write, args: { address: 0x3000000 } }'],
      '1: the peer writes `data`, or `words`',
    ],
    [
      'a device that reaches the firmware',
      [
        '{ hcall: H_PUT_TCE, args: { liobn: 0x80000000, ioba: 0x1000, tce: 0x101003 } }',
        '{ dma: write, args: { device: nic0, iova: 0x1000, data: a } }',
      ],
      "2: the device would reach the peer's own program",
    ],
  ])('%s', (_what, steps, why) => {
    expect(whyNot(MACHINE, ...steps)).toContain(why)
  })
})

describe('the scenarios of the project on a peer that is the model', () => {
  const plans = scenariosOf('pseries').map(({ file, name, scenario }) => ({
    file,
    plan: planPseries(scenario, name),
  }))

  it('do not differ, and what they expect is kept, or is so on their own machine', async () => {
    const results = await comparePseriesScenarios(QEMU, new PseriesModel(), plans, { differencesMax: 3 })
    expect(isAsModelled(results)).toBe(true)
    expect(results.length).toBe(plans.length)
    expect(results.filter((r) => r.leftOut.length === 0).length).toBeGreaterThan(40)
    const total = (of: (r: (typeof results)[number]) => number) => results.reduce((n, r) => n + of(r), 0)
    expect(total((r) => expectationCounts(r).kept)).toBeGreaterThan(90)
    expect(total((r) => r.equal)).toBeGreaterThan(1500)
  }, 60_000)

  const windows = plans.filter(({ file }) => file.endsWith('window-removal-and-reuse.yaml'))
  const changed = (change: (step: PseriesStep, answer: string) => string): PseriesScriptPeer => ({
    title: 'a peer with a fault',
    run: async (script) =>
      QEMU.answers(script).map((answer, i) =>
        answer === undefined ? undefined : change(script.steps[i] as PseriesStep, answer),
      ),
  })
  it.each<[string, (step: PseriesStep, answer: string) => string, string, number]>([
    [
      'a status',
      (s, a) => (s.kind === 'rtas' && s.token === 0x2028 ? '-3' : a),
      'rtas 0x2028: -3 against 0',
      1,
    ],
    [
      'a cell',
      (s, a) => (s.kind === 'rtas' && s.token === 0x2026 ? a.replace('0x107', '0x7') : a),
      'rtas 0x2026: other values',
      1,
    ],
    [
      'a byte that DMA moved',
      (s, a) => (s.kind === 'peek' ? a.replaceAll('6669727374', '6669727375') : a),
      'peek: other bytes',
      1,
    ],
  ])('%s that is another one is found', async (_what, change, kind, otherwise) => {
    const model = new PseriesModel()
    const [result] = await comparePseriesScenarios(changed(change), model, windows, { differencesMax: 1 })
    expect(result?.difference).toMatchObject({ kind })
    const { elsewhere, broken } = expectationCounts(result!)
    expect([elsewhere, broken]).toEqual([otherwise, 0])
  })
})
