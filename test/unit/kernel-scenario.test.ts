import { describe, expect, it } from 'vitest'
import { formatAgentScript, processesOf } from '../../src/machine/lockstep/agent-script.ts'
import { ModelPeer } from '../../src/machine/lockstep/model-peer.ts'
import { compareKernelScenarios } from '../../src/machine/lockstep/scenario/kernel-comparison.ts'
import { planKernel } from '../../src/machine/lockstep/scenario/kernel-plan.ts'
import { expectationCounts, isAsModelled } from '../../src/machine/lockstep/scenario/result.ts'
import { changedPeer, GROUPS, PEER_HEAD } from '../support/lockstep.ts'
import { scenarioOf, scenariosOf } from '../support/scenarios.ts'

const HOST =
  '  { kind: powernv, phbs: [{ pes: [{ devices: [{ name: nic0, kind: edu, dmaMask: 0xffffffffffffffff }] }] }] }'
const OPEN = [
  '{ proc: open, args: { path: /dev/vfio/vfio } }',
  '{ proc: open, args: { path: /dev/vfio/0 } }',
  '{ ioctl: VFIO_GROUP_SET_CONTAINER, args: { fd: 4, container: 3 } }',
  '{ ioctl: VFIO_SET_IOMMU, args: { fd: 3, type: 7 } }',
]
const MAPPED = [
  ...OPEN,
  '{ proc: mmap, args: { address: 0x100000000, bytes: 1 MiB, fixed: true } }',
  '{ ioctl: VFIO_IOMMU_SPAPR_REGISTER_MEMORY, args: { fd: 3, vaddr: 0x100000000, bytes: 1 MiB } }',
  '{ ioctl: VFIO_IOMMU_MAP_DMA, args: { fd: 3, flags: 3, vaddr: 0x100000000, iova: 0x20000, bytes: 64 KiB } }',
]
const GUEST = [
  '{ proc: open, args: { path: /dev/kvm } }',
  '{ ioctl: KVM_CREATE_VM, args: { fd: 3, type: 0 } }',
  '{ ioctl: KVM_CREATE_VCPU, args: { fd: 4, id: 0 } }',
]

const plan = (machine: string, ...steps: readonly string[]) =>
  planKernel(scenarioOf(machine, ...steps), 'test', PEER_HEAD, GROUPS)
const linesOf = (...steps: readonly string[]): string[] =>
  formatAgentScript(plan(HOST, ...steps).script)
    .trim()
    .split('\n')
const whyNot = (machine: string, ...steps: readonly string[]): string[] =>
  plan(machine, ...steps).leftOut.map(({ step = 'machine', why }) => `${step}: ${why}`)

describe('a scenario as commands of the agent', () => {
  it('descriptors become the variables that the agent has', () => {
    expect(
      linesOf(
        ...OPEN,
        '{ proc: open, args: { path: /dev/vfio/vfio } }',
        '{ ioctl: VFIO_CHECK_EXTENSION, args: { fd: 5, extension: 7 } }',
        '{ ioctl: VFIO_CHECK_EXTENSION, args: { fd: 3, extension: 7 } }',
        '{ ioctl: VFIO_GROUP_GET_STATUS, args: { fd: 4 } }',
        '{ proc: close, args: { fd: 5 } }',
        '{ ioctl: VFIO_GET_API_VERSION, args: { fd: 5 } }',
        '{ ioctl: VFIO_GROUP_GET_STATUS, args: { fd: 99 } }',
      ).filter((line) => line !== 'vmlck'),
    ).toEqual([
      ...['open 0', 'group 0', 'attach 0', 'iommu 7', 'open 1', 'ext 7', 'use 0', 'ext 7', 'groupstatus 0'],
      ...['close 1', 'use 7', 'version', 'groupstatus 15'],
    ])
  })

  it('a guest, its tables, and KVM get what the steps give them', () => {
    expect(
      linesOf(
        ...GUEST,
        '{ ioctl: KVM_SET_USER_MEMORY_REGION, args: { fd: 4, slot: 2, gpa: 0x10000, bytes: 64 KiB, vaddr: 0x100000000 } }',
        '{ ioctl: KVM_CREATE_SPAPR_TCE_64, args: { fd: 4, liobn: 5, page_shift: 16, offset: 1, entries: 4 } }',
        '{ ioctl: KVM_CREATE_SPAPR_TCE, args: { fd: 4, liobn: 6, window_bytes: 1 MiB } }',
        '{ proc: mmap_tce, args: { fd: 7, map: second } }',
        '{ proc: read_tce, args: { map: second, first: 1, count: 2 } }',
        '{ hcall: H_PUT_TCE, args: { liobn: 5, ioba: 0x10000, tce: 3 } }',
        '{ proc: close, args: { fd: 6 } }',
      ).filter((line) => line !== 'vmlck'),
    ).toEqual([
      ...['kvm', 'vm 0', 'vcpu', 'slot 2 0x10000 0x10000 0x100000000 0'],
      ...['tce64 0x5 16 0x1 0x4 0', 'tce32 0x6 0x100000', 'tcedump 1 0x1 2', 'hcall 0x20 0x5 0x10000 0x3'],
      ...['tceclose 0', 'tcedump 0 0x0 8', 'tcedump 1 0x0 8'],
    ])
  })

  it('ioctls by number are made on every file of KVM', () => {
    const raw = (fd: number) => `{ ioctl: ioctl, args: { fd: ${fd}, cmd: 0x2000ae77, arg: 5 } }`
    const steps = [
      ...GUEST,
      '{ ioctl: KVM_CREATE_DEVICE, args: { fd: 4, type: 4 } }',
      '{ ioctl: KVM_CREATE_SPAPR_TCE, args: { fd: 4, liobn: 6, window_bytes: 1 MiB } }',
    ]
    const lines = linesOf(...steps, ...[3, 4, 5, 6, 7].map(raw))
    const files = ['kvm', 'vm', 'vcpu', 'vfio', 'tce']
    expect(lines.filter((line) => line.startsWith('rawioctl'))).toEqual(
      files.map((file) => `rawioctl ${file} 0x2000ae77 0x5`),
    )
  })

  it('memory is written run by run, and what devices move lies in their buffers', () => {
    const { script, asked } = plan(
      HOST,
      ...MAPPED,
      '{ mem: write, args: { space: ua, address: 0x100000000, data: aab } }',
      '{ dma: write, args: { device: nic0, iova: 0x20010, data: hello } }',
      '{ dma: read, args: { device: nic0, iova: 0x20000, bytes: 3 } }',
    )
    const [load, main, show] = processesOf(script).map((one) => formatAgentScript(one).trim().split('\n'))
    expect(main?.filter((line) => line !== 'vmlck').slice(7)).toEqual([
      ...['poke 0x100000000 0x61 2', 'poke 0x100000002 0x62 1'],
      ...['device 0 0001:01:00.0', 'dma w 0x20010 5 0', 'dma r 0x20000 3 5', 'peek 0x100000010 5'],
    ])
    expect(load?.slice(-2)).toEqual(['device 0 0001:01:00.0', 'dma r 0x0 5'])
    expect(load).toContain('poke 0x200000002 0x6c 2')
    expect(show?.slice(-2)).toEqual(['dma w 0x0 8', 'peek 0x200000000 8'])
    expect(asked.at(-1)?.read).toEqual({ process: 'show-0001.01.00.0', at: 5, bytes: 3 })
  })

  it('what the process may lock is set first, where the scenario limits it', () => {
    const limited = '  { kind: powernv, processes: [{ name: qemu, memlock: 4 MiB }] }'
    const { script } = plan(limited, OPEN[0] as string)
    expect(formatAgentScript(script)).toMatch(/^rlimit 0x400000\ndropcap\nopen 0\n/)
    expect(linesOf('{ proc: capset, args: { ipc_lock: false } }').slice(0, 2)).toEqual([
      'rlimit 0xffffffffffffffff',
      'dropcap',
    ])
  })
})

describe('what the kernel peer cannot do is said, with the reason', () => {
  it.each<[string, string]>([
    ['{ kind: powernv, inject: { alloc: 3 } }', 'an allocation of a real kernel does not fail'],
    ['{ kind: powernv, inject: { regionGoing: 1 } }', 'a race of a real kernel'],
    ['{ kind: powernv, hostPageShift: 12 }', 'the kernel of the peer has pages of 64 KiB'],
    ['{ kind: powernv, guest: {} }', 'the agent is no QEMU'],
    ['{ kind: powernv, eeh: false }', 'the kernel of the peer has EEH'],
    ['{ kind: powernv, phbs: [{ pes: [{}, {}, {}] }] }', 'the peer has 2 groups, not 3'],
    [
      '{ kind: powernv, phbs: [{ platform: PHB3 }] }',
      'the host bridges of the peer are of kind PHB4, not PHB3',
    ],
    ['{ kind: powernv, phbs: [{ pageSizes: [64 KiB] }] }', 'the page sizes of the peer'],
    [
      '{ kind: powernv, phbs: [{ m32Base: 0x40000000 }] }',
      'the 32-bit MMIO of the peer begins at 0x80000000',
    ],
    ['{ kind: powernv, phbs: [{ pes: [{ kernelDriver: true }] }] }', 'no driver of the host'],
    [
      '{ kind: powernv, phbs: [{ pes: [{ devices: [{ name: a, kind: edu }, { name: b, kind: edu }] }] }] }',
      'the peer has one device in a group',
    ],
    [
      '{ kind: powernv, phbs: [{ pes: [{ devices: [{ name: a, kind: edu, pciId: 0x10de1234 }] }] }] }',
      "QEMU's edu",
    ],
  ])('machine %s', (machine, why) => {
    const said = whyNot(`  ${machine}`, OPEN[0] as string)
    expect(said).toEqual([expect.stringMatching(/^machine: /)])
    expect(said[0]).toContain(why)
  })

  it.each<[string, readonly string[], string]>([
    [
      'a call without a command',
      ['{ tick: advance, args: { ticks: 1 } }'],
      '1: the agent has no command for tick advance',
    ],
    [
      'another process',
      ['{ proc: fork, args: { child: b } }', '{ proc: status, by: { process: b } }'],
      '2: the agent is one process, qemu',
    ],
    ['behind the end', ['{ proc: exit }', '{ proc: status }'], '2: the agent has ended'],
    [
      'an argument that it does not pass',
      [...OPEN, '{ ioctl: VFIO_EEH_PE_OP, args: { fd: 3, op: 4, type: 1 } }'],
      '5: the agent does not pass `type`',
    ],
    [
      'a structure in memory',
      [...OPEN, '{ ioctl: VFIO_IOMMU_SPAPR_TCE_GET_INFO, args: { fd: 3, arg: 0x1000 } }'],
      '5: the agent does not pass `arg`',
    ],
    ['a path', ['{ proc: open, args: { path: /dev/null } }'], '1: the agent does not open /dev/null'],
    [
      'a group once more',
      [OPEN[1] as string, OPEN[1] as string],
      '2: the agent forgets the file of a group that it opens once more',
    ],
    [
      'a second VM',
      [...GUEST, '{ ioctl: KVM_CREATE_VM, args: { fd: 3, type: 0 } }'],
      '4: the agent has one file of this kind (vm)',
    ],
    [
      'a second VCPU',
      [...GUEST, '{ ioctl: KVM_CREATE_VCPU, args: { fd: 4, id: 1 } }'],
      '4: the agent has one file of this kind (vcpu)',
    ],
    [
      'another VCPU',
      [
        '{ proc: open, args: { path: /dev/kvm } }',
        '{ ioctl: KVM_CREATE_VM, args: { fd: 3, type: 0 } }',
        '{ ioctl: KVM_CREATE_VCPU, args: { fd: 4, id: 1 } }',
      ],
      '3: the agent makes VCPU 0',
    ],
    [
      'a hash guest',
      [...GUEST, '{ ioctl: KVM_PPC_CONFIGURE_V3_MMU, args: { fd: 4 } }'],
      '4: the guest of the agent has a radix MMU (flags 3, process table 1 << 63)',
    ],
    [
      'another capability',
      [...GUEST, '{ ioctl: KVM_ENABLE_CAP, args: { fd: 4, cap: 99 } }'],
      '4: the agent enables capability 104',
    ],
    [
      'another device of KVM',
      [...GUEST, '{ ioctl: KVM_CREATE_DEVICE, args: { fd: 4, type: 1 } }'],
      "4: the agent makes KVM's VFIO device (type 4)",
    ],
    [
      'a hypercall without a guest',
      ['{ hcall: H_GET_TCE, args: { liobn: 1, ioba: 0 } }'],
      '1: the agent has no guest: it needs a VCPU',
    ],
    [
      '/dev/kvm closed',
      [...GUEST, '{ proc: close, args: { fd: 3 } }'],
      '4: the agent does not close /dev/kvm',
    ],
    [
      'a file of another kind',
      [...OPEN, '{ ioctl: VFIO_SET_IOMMU, args: { fd: 4, type: 7 } }'],
      '5: descriptor 4 is a group, and the agent passes only a container here',
    ],
    [
      'a file of a step that is left out',
      [
        '{ proc: open, args: { path: /dev/kvm } }',
        '{ ioctl: KVM_CREATE_VM, args: { fd: 3, type: 0 } }',
        '{ ioctl: KVM_CREATE_VCPU, args: { fd: 4, id: 3 } }',
        '{ hcall: H_GET_TCE, args: { vcpu: 5, liobn: 1, ioba: 0 } }',
      ],
      '4: descriptor 5 comes from step 3, which is left out',
    ],
    [
      'memory anywhere',
      ['{ proc: mmap, args: { bytes: 64 KiB } }'],
      '1: the agent maps memory at an address that it is told (`fixed`)',
    ],
    [
      'memory that is read only',
      ['{ proc: mmap, args: { address: 0x100000000, bytes: 64 KiB, fixed: true, write: false } }'],
      '1: the agent maps memory for reading and writing',
    ],
    [
      'huge pages',
      ['{ proc: mmap, args: { address: 0x100000000, bytes: 2 MiB, fixed: true, huge_shift: 21 } }'],
      '1: the agent has no huge pages',
    ],
    [
      'memory over memory',
      [MAPPED[4] as string, MAPPED[4] as string],
      '2: the agent does not map memory over what is there',
    ],
    [
      'more memory than there is',
      ['{ proc: mmap, args: { address: 0x100000000, bytes: 2 GiB, fixed: true } }'],
      '1: more than 1024 MiB of memory: the host of the peer has 2 GiB',
    ],
    [
      'a table larger than that',
      [
        ...OPEN,
        '{ ioctl: VFIO_IOMMU_SPAPR_TCE_CREATE, args: { fd: 3, page_shift: 12, window_bytes: 1024 GiB, levels: 4 } }',
      ],
      '5: a table of more than 128 MiB: the host of the peer has 2 GiB',
    ],
    [
      'memory that is not there',
      ['{ mem: read, args: { space: ua, address: 0x100000000, bytes: 1 } }'],
      '1: it would end the agent: the memory is not there (SIGSEGV)',
    ],
    [
      'guest addresses',
      ['{ mem: read, args: { address: 0, bytes: 1 } }'],
      '1: the agent knows addresses of its own only (`space: ua`)',
    ],
    [
      'a capability taken',
      ['{ proc: capset, args: { ipc_lock: true } }'],
      '1: the agent gives the capability up only',
    ],
    [
      'another ioctl',
      [...OPEN, '{ ioctl: ioctl, args: { fd: 3, cmd: 0x1234 } }'],
      '5: the agent makes ioctls from 0x20003b00 to 0x20003bff',
    ],
    [
      'an ioctl of KVM by number that is declared by name',
      [...GUEST, '{ ioctl: ioctl, args: { fd: 3, cmd: 0x2000ae01 } }'],
      '4: the agent makes KVM_CREATE_VM by its name only',
    ],
    [
      'an ioctl by number on a second table',
      [
        ...GUEST,
        '{ ioctl: KVM_CREATE_SPAPR_TCE, args: { fd: 4, liobn: 6, window_bytes: 1 MiB } }',
        '{ ioctl: KVM_CREATE_SPAPR_TCE, args: { fd: 4, liobn: 7, window_bytes: 1 MiB } }',
        '{ ioctl: ioctl, args: { fd: 7, cmd: 0x2000ae77 } }',
      ],
      '6: the agent makes ioctls by number on its first table only',
    ],
    [
      'DMA before the device can be opened',
      ['{ dma: write, args: { device: nic0, iova: 0, data: a } }'],
      '1: the agent does not take `dma` here',
    ],
    [
      'DMA of what nobody names',
      [...MAPPED, '{ dma: write, args: { device: nic0, iova: 0x20000, bytes: 4 } }'],
      '8: what the buffer of the device holds is chosen here: name `data`',
    ],
    [
      'DMA of more than the buffer',
      [...MAPPED, '{ dma: read, args: { device: nic0, iova: 0x20000, bytes: 4001 } }'],
      '8: the buffer of the device is used up',
    ],
    [
      'DMA from a place in the buffer',
      [...MAPPED, '{ dma: read, args: { device: nic0, iova: 0x20000, bytes: 4, at: 8 } }'],
      '8: the agent does not pass `at`',
    ],
    [
      'a mapping of what is no table',
      ['{ proc: munmap_device, args: { map: bar } }'],
      '1: the agent unmaps tables of KVM only',
    ],
    [
      'a table that is not mapped',
      ['{ proc: read_tce, args: { map: t } }'],
      '1: the agent has no such mapping',
    ],
  ])('%s', (_what, steps, why) => {
    expect(whyNot(HOST, ...steps)).toContain(why)
  })

  it('a DMA past what the device of the scenario can address', () => {
    const narrow = '  { kind: powernv, phbs: [{ pes: [{ devices: [{ name: nic0, kind: edu }] }] }] }'
    const dma = '{ dma: read, args: { device: nic0, iova: 0x10000000, bytes: 1 } }'
    expect(whyNot(narrow, ...OPEN, dma)).toEqual([
      '5: the device of the peer forms addresses of 64 bits, that of the scenario of 0xfffffff',
    ])
  })

  it('what writes behind a table of a host, or reaches memory of others: neither is done to a running one', () => {
    const past =
      '{ ioctl: VFIO_IOMMU_MAP_DMA, args: { fd: 3, flags: 3, vaddr: 0x100000000, iova: 0x7fff0000, bytes: 128 KiB } }'
    expect(whyNot(HOST, ...MAPPED, past, '{ proc: status }')).toEqual([
      '8: a real host may not live on: host-memory-corruption',
    ])
  })
})

describe('the scenarios of the project on a peer that is the model', () => {
  const plans = scenariosOf('powernv').map(({ file, name, scenario }) => ({
    file,
    plan: planKernel(scenario, name, PEER_HEAD, GROUPS),
  }))
  const peer = new ModelPeer(PEER_HEAD)
  const options = { differencesMax: 3, renew: async () => peer }

  it('do not differ, and what they expect is kept, or is so on their own machine', async () => {
    const results = await compareKernelScenarios(peer, plans, options)
    expect(results.filter((r) => r.difference !== undefined)).toEqual([])
    expect(results.filter((r) => expectationCounts(r).broken > 0)).toEqual([])
    expect(isAsModelled(results)).toBe(true)
    const whole = results.filter((r) => r.leftOut.length === 0)
    expect(whole.length).toBeGreaterThan(40)
    expect(whole.length).toBe(plans.filter(({ plan: p }) => p.leftOut.length === 0).length)
    const kept = results.reduce((n, r) => n + expectationCounts(r).kept, 0)
    expect(kept).toBeGreaterThan(800)
  }, 60_000)

  const guest = plans.filter(({ file }) => file.endsWith('kvm-guest.yaml'))
  it.each<[string, (transcript: string) => string, string, number]>([
    [
      'an answer',
      (t) => t.replace(/^(vfiotce .*) => 0$/m, '$1 => -1 EIO'),
      'vfiotce: EIO against 0 (done)',
      1,
    ],
    ['locked_vm', (t) => t.replace('VmLck=0kB', 'VmLck=64kB'), 'vmlck: 0 with other VmLck (done)', 0],
    [
      'an entry of a table',
      (t) => t.replace(/^(tcedump .*) => 0 0x0/m, '$1 => 0 0x7'),
      'tcedump: 0 with other values (done)',
      0,
    ],
    [
      'a byte that DMA moved',
      (t) => t.replaceAll('68656c6c6f', '68656c6c6e'),
      'peek: 0 with other values (done)',
      1,
    ],
  ])('%s that is another one is found', async (_what, change, kind, broken) => {
    const [result] = await compareKernelScenarios(changedPeer(peer, change), guest, options)
    expect(result?.difference).toMatchObject({ kind })
    expect(expectationCounts(result!).elsewhere + expectationCounts(result!).broken).toBe(broken)
  })

  it('a host is renewed behind a scenario that leaves traces, and only there', async () => {
    const eeh = plans.filter(({ file }) => file.endsWith('eeh-passed-through.yaml'))
    let renewed = 0
    const renew = async () => {
      renewed++
      return peer
    }
    await compareKernelScenarios(peer, [...guest, ...eeh, ...guest, ...guest], { ...options, renew })
    expect(renewed).toBe(1)
  })
})
